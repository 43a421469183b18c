"""The 28 tests, what each takes as evidence here, and how long that counts.

What a test asks is the paper's (sections II to V), in our words. `seen` says what the pipeline looks at by itself, and
`recorded` what CI or a person records, because the warehouse cannot know it; one of them may be missing.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class Section(StrEnum):
    """The four sections, whose smallest sum is the score."""

    DATA = "data"
    MODEL = "model"
    INFRASTRUCTURE = "infrastructure"
    MONITORING = "monitoring"


@dataclass(frozen=True)
class RubricTest:
    """A test of the paper.

    Attributes:
        test: its id, section and number.
        seen: what the pipeline looks at, as a sentence.
        recorded: what CI or a person has to record, as a sentence.
        lasts: from the fact that was seen until it says nothing any more.
    """

    test: str
    section: Section
    title: str
    seen: str | None
    recorded: str | None
    lasts: timedelta

    @property
    def what_counts(self) -> str:
        """What would be evidence, and the command that records what is not seen by itself."""
        command = f"Record it: `make record-evidence TEST={self.test} HOW=automated EVIDENCE='...'`, or HOW=by-hand."
        parts = [self.seen, *([self.recorded, command] if self.recorded else [])]
        return " ".join(part for part in parts if part)


HOURLY = timedelta(days=1)  # what every run of the chain sees again
WEEKLY = timedelta(days=14)
MONTHLY = timedelta(days=62)  # what each training or decay backtest sees again; one may be missed
RARELY = timedelta(days=180)

DATA = (
    RubricTest(
        "data_1",
        Section.DATA,
        "Feature expectations are in a schema",
        "Each feature has a `valid` range or a dbt test of its own, and every dbt test of the feature view passed when"
        " it was built last.",
        None,
        HOURLY,
    ),
    RubricTest(
        "data_2",
        Section.DATA,
        "All features are beneficial",
        "The champion's metric on its holdout drops when any of its features is permuted, by more than that varies.",
        "Or that leaving out each feature in turn made the model worse.",
        MONTHLY,
    ),
    RubricTest(
        "data_3",
        Section.DATA,
        "No feature costs too much",
        "A week's slowest build of the feature view takes a small part of the time that its snapshot stays fresh.",
        None,
        HOURLY,
    ),
    RubricTest(
        "data_4",
        Section.DATA,
        "Features meet meta-level requirements",
        "Each feature has a description, a type, an owner and settings by which it is watched, and the dbt run that"
        " built it last refused no shortcut to the events.",
        None,
        HOURLY,
    ),
    RubricTest(
        "data_5",
        Section.DATA,
        "The pipeline has privacy controls",
        "Logged requests hold nothing but declared features that are not `pii`, none is older than it may be, and"
        " nobody may read rows of persons by being anybody, or by being allowed to see the pages.",
        "Or a review of who may read what, and that a deletion at the source reaches every table.",
        HOURLY,
    ),
    RubricTest(
        "data_6",
        Section.DATA,
        "New features can be added quickly",
        "A new definition of the feature view was served within a day of its first build.",
        "Or that a feature was added to a copy of the project and went through the whole chain, and how long it took.",
        RARELY,
    ),
    RubricTest(
        "data_7",
        Section.DATA,
        "All code of features is tested",
        "dbt unit tests of the feature view ran and passed.",
        "Or that the tests of the feature code ran and passed, and how many they are.",
        WEEKLY,
    ),
)

MODEL = (
    RubricTest(
        "model_1",
        Section.MODEL,
        "The model's specification is reviewed and checked in",
        "The champion was trained from a commit without changes beside it, whose message names who reviewed it"
        " (`Reviewed-by:`).",
        "Or who reviewed the commit that the champion was trained from, and where.",
        MONTHLY,
    ),
    RubricTest(
        "model_2",
        Section.MODEL,
        "Offline and online metrics correlate",
        "Of at least five cohorts of served predictions whose labels have matured, four in five are as good as the"
        " holdout said, within both intervals.",
        "Or an experiment in which a better metric made a better product.",
        MONTHLY,
    ),
    RubricTest(
        "model_3",
        Section.MODEL,
        "Hyper-parameters are tuned",
        "The champion's were chosen from several candidates by their log loss before the holdout.",
        None,
        MONTHLY,
    ),
    RubricTest(
        "model_4",
        Section.MODEL,
        "The impact of staleness is known",
        "A decay backtest has measured the loss by the model's age.",
        None,
        MONTHLY,
    ),
    RubricTest(
        "model_5",
        Section.MODEL,
        "A simpler model is not better",
        "The champion is better than each simple model on the same holdout, as the gate found.",
        None,
        MONTHLY,
    ),
    RubricTest(
        "model_6",
        Section.MODEL,
        "Quality is sufficient on all important slices",
        "The gate has judged the champion on every declared segment, and it passed on each.",
        None,
        MONTHLY,
    ),
    RubricTest(
        "model_7",
        Section.MODEL,
        "Considerations of inclusion are tested",
        None,
        "How the model treats groups of people who must not be treated worse, on which data, and what was found. The"
        " warehouse does not know who belongs to them.",
        RARELY,
    ),
)

INFRASTRUCTURE = (
    RubricTest(
        "infra_1",
        Section.INFRASTRUCTURE,
        "Training is reproducible",
        "The champion's extract was rebuilt and the model trained on it again, with the same metrics on the holdout.",
        None,
        timedelta(days=31),
    ),
    RubricTest(
        "infra_2",
        Section.INFRASTRUCTURE,
        "The model's specification is unit tested",
        None,
        "That the tests of training, evaluation and the gate ran and passed, how many, at which commit.",
        WEEKLY,
    ),
    RubricTest(
        "infra_3",
        Section.INFRASTRUCTURE,
        "The whole pipeline is integration tested",
        None,
        "That raw events went through every Dag to served predictions in a test, at which commit.",
        WEEKLY,
    ),
    RubricTest(
        "infra_4",
        Section.INFRASTRUCTURE,
        "Quality is validated before serving",
        "Every promotion of the last months had passed every check of the gate.",
        None,
        MONTHLY,
    ),
    RubricTest(
        "infra_5",
        Section.INFRASTRUCTURE,
        "The model is debuggable on one example",
        "The warehouse explains one scored entity: which of its events counted, and that they give the features it was"
        " scored with.",
        None,
        HOURLY,
    ),
    RubricTest(
        "infra_6",
        Section.INFRASTRUCTURE,
        "Models are canaried before they serve",
        "The champion, loaded from the registry, had scored the live snapshot in the shadow of the one before it, and"
        " the gate found the scores alike.",
        None,
        MONTHLY,
    ),
    RubricTest(
        "infra_7",
        Section.INFRASTRUCTURE,
        "Serving can be rolled back",
        "Somebody rolled back a model or a publication, as the ledgers tell: a test by hand.",
        "Or that a rollback was rehearsed by a test, how long it took, and that the version before served again.",
        RARELY,
    ),
)

MONITORING = (
    RubricTest(
        "monitoring_1",
        Section.MONITORING,
        "Changes of dependencies notify",
        "The exposure's `notify` names a channel, the freshness of the source was tested, and shifts that the self-test"
        " put into every feature were found.",
        "Or that a change of the source reached a person, and how.",
        HOURLY,
    ),
    RubricTest(
        "monitoring_2",
        Section.MONITORING,
        "Data invariants hold in training and serving",
        "Every dbt test of the training set and of what is served passed, and no feature is missing, invalid or new in"
        " kind in the hour's reports.",
        None,
        HOURLY,
    ),
    RubricTest(
        "monitoring_3",
        Section.MONITORING,
        "Training and serving compute the same values",
        "What was published, and what requests were served with, was recomputed without a differing cell.",
        None,
        HOURLY,
    ),
    RubricTest(
        "monitoring_4",
        Section.MONITORING,
        "Models are not too stale",
        "The champion is younger than the retraining policy allows.",
        None,
        HOURLY,
    ),
    RubricTest(
        "monitoring_5",
        Section.MONITORING,
        "The model is numerically stable",
        "A week's features and scores hold no value that is not finite, and the champion gave only probabilities at the"
        " most extreme inputs.",
        None,
        HOURLY,
    ),
    RubricTest(
        "monitoring_6",
        Section.MONITORING,
        "Computing performance has not regressed",
        "Builds of the feature view and predictions of this week are not much slower than in the four weeks before."
        " Neither memory nor the time of training is watched.",
        None,
        HOURLY,
    ),
    RubricTest(
        "monitoring_7",
        Section.MONITORING,
        "Prediction quality has not regressed",
        "The retraining policy has judged the champion on labels that matured since its training, and found no fall.",
        None,
        HOURLY,
    ),
)

TESTS: dict[str, RubricTest] = {each.test: each for each in (*DATA, *MODEL, *INFRASTRUCTURE, *MONITORING)}
