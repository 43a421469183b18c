"""Labels coming home: what each version said is estimated at once and measured when its labels have matured.

Registry and warehouse are real; what the champion said is written as scoring and the service write it.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, brier_score_loss, roc_auc_score

from features import tracking, warehouse
from features.contract import Model
from features.performance.estimated import calibration_of, estimated_performance
from features.performance.store import holdout_bins
from features.serving.inference_log import entity_text
from features.steps.measure import measure, performance_since_training
from features.steps.promote import promote
from features.steps.train import train
from features.training.data import outcomes
from features.training.estimator import scores
from features.training.resampling import Entities, metric_interval
from tests.databases import copy_of, execute, registry, use
from tests.steps.drift_warehouse import copy_in

TRAINED = datetime(2013, 6, 4, tzinfo=UTC)
LATER = datetime(2013, 7, 2, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Of this label time, which is the instant of its features, too, the labels matured 15 days later.
COHORT = TRAINED + 7 * DAY
MATURED = COHORT + 15 * DAY
METRICS = ("accuracy", "roc_auc", "average_precision", "brier", "calibration_error", "lift")


@pytest.fixture(scope="module")
def champion(
    sample_database: str, churn: Model, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tracking.Version]:
    """A copy of the sample to write to, with a champion that was trained four weeks before its end."""
    with copy_of(sample_database, "skewless_measured") as name, pytest.MonkeyPatch.context() as patch:
        use(name, patch)
        with registry(tmp_path_factory.mktemp("artifacts")):
            number = train(churn, TRAINED)
            assert promote(churn, number, TRAINED)["promoted"]
            found = tracking.champion(churn)
            assert found is not None
            yield found


@pytest.fixture(autouse=True)
def _nothing_said(champion: tracking.Version) -> None:
    execute("truncate monitoring.model_performance, monitoring.inference_log, serving.predictions")


def labels(where: str, *parameters: object) -> pd.DataFrame:
    """Rows of the training set, by user."""
    with warehouse.connect() as connection:
        query = f"select * from training.churn_training_set where {where} order by user_id, label_at"
        return warehouse.frame(connection, query, parameters)


def cohort_of(model: Model, champion: tracking.Version, at: datetime = COHORT) -> pd.DataFrame:
    """The labels of an instant, and what the champion says of each."""
    rows = labels("as_of = %s", at)
    return rows.assign(score=scores(tracking.load(model, champion.number), rows, model.feature_names))


def say(rows: pd.DataFrame, version: str, at: datetime = COHORT) -> None:
    """Writes scores, as scoring does."""
    said = pd.DataFrame({"model_name": "churn", "model_version": version, "entity_id": rows["user_id"], "as_of": at})
    copy_in("serving.predictions", said.assign(score=rows["score"].to_numpy()))


def answer(users: list[str], score: Any, at: datetime, version: str, **columns: Any) -> None:
    """Writes requests, as the service does: one of each user."""
    rows = pd.DataFrame({"entity_id": users, "prediction": score})
    rows["request_id"] = [f"{user} {at.isoformat()} {columns}" for user in users]
    logged: dict[str, Any] = {
        "model_name": "churn",
        "model_version": version,
        "features": "{}",
        "kind": "online",
        "logged_at": LATER,
    }
    copy_in("monitoring.inference_log", rows.assign(as_of=at, **(logged | columns)))


def performance(where: str = "true") -> list[dict[str, Any]]:
    """monitoring.model_performance."""
    with warehouse.connect() as connection:
        query = f"select * from monitoring.model_performance where {where} order by scope, cohort, model_version"
        return connection.execute(query).fetchall()


def one(where: str) -> dict[str, Any]:
    (row,) = performance(where)
    return row


def since_training(model: Model, champion: tracking.Version, as_of: datetime) -> tuple[float, float, float, int]:
    with warehouse.connect() as connection:
        found = performance_since_training(connection, model, champion, as_of)
    return found.metric, found.low, found.high, found.labels


def is_unmeasured(row: dict[str, Any]) -> bool:
    return row["labels"] is None and all(
        row[name] is row[f"{name}_low"] is row[f"{name}_high"] is None for name in METRICS
    )


# Before labels


def test_while_there_is_no_champion_nothing_is_measured(churn: Model) -> None:
    unborn = churn.model_copy(update={"name": "unborn"})
    assert measure(unborn, LATER) == {
        "model_version": None,
        "estimated": 0,
        "measured": 0,
        "labels_since_training": 0,
    }


def test_what_was_said_is_estimated_at_once(churn: Model, champion: tracking.Version) -> None:
    rows = cohort_of(churn, champion)
    say(rows, champion.number)
    facts = measure(churn, COHORT)
    assert (facts["model_version"], facts["estimated"], facts["measured"]) == (champion.number, 1, 0)
    row = one("scope = 'batch'")
    assert (row["cohort"], row["predictions"], row["confidence"]) == (COHORT, len(rows), 0.95)
    with warehouse.connect() as connection:
        bins = holdout_bins(connection, churn, champion.number)
    expected = estimated_performance(rows["score"].to_numpy(), calibration_of(bins), confidence=0.95)
    for name in ("accuracy", "roc_auc"):
        found = [row[f"estimated_{name}{end}"] for end in ("", "_low", "_high")]
        assert found == pytest.approx(list(vars(getattr(expected, name)).values()))
    assert row["estimated_brier"] == pytest.approx(expected.brier.estimate)
    assert is_unmeasured(row)


def test_only_the_last_days_are_estimated_and_nothing_after_as_of(churn: Model, champion: tracking.Version) -> None:
    rows = cohort_of(churn, champion).head(50)
    for at in (COHORT - 7 * DAY, COHORT - 7 * DAY + HOUR, COHORT, COHORT + HOUR):
        say(rows, champion.number, at)
    assert measure(churn, COHORT)["estimated"] == 2
    assert [row["cohort"] for row in performance("scope = 'batch'")] == [COHORT - 7 * DAY + HOUR, COHORT]


def test_of_a_version_that_was_never_evaluated_only_its_predictions_are_counted(
    churn: Model, champion: tracking.Version
) -> None:
    rows = cohort_of(churn, champion)
    say(rows, "99")
    say(rows, champion.number)
    assert measure(churn, COHORT)["estimated"] == 2
    row = one("model_version = '99'")
    assert row["predictions"] == len(rows)
    assert [row[name] for name in row if name.startswith("estimated")] == [None] * 7
    assert one(f"model_version = '{champion.number}' and scope = 'batch'")["estimated_accuracy"] is not None


# Labels


def test_a_cohort_is_measured_when_its_labels_have_matured_and_not_before(
    churn: Model, champion: tracking.Version
) -> None:
    rows = cohort_of(churn, champion)
    say(rows, champion.number)
    measure(churn, COHORT)
    estimated = one("scope = 'batch'")
    assert measure(churn, MATURED - HOUR)["measured"] == 0
    assert one("scope = 'batch'") == estimated
    assert measure(churn, MATURED)["measured"] == 1
    row = one("scope = 'batch'")
    assert {name: row[name] for name in row if name.startswith(("estimated", "pred"))} == {
        name: estimated[name] for name in row if name.startswith(("estimated", "pred"))
    }
    truth, score = outcomes(rows, churn.label), rows["score"].to_numpy()
    assert (row["labels"], row["matured_at"], row["share_true"]) == (len(rows), MATURED, pytest.approx(truth.mean()))
    assert row["accuracy"] == pytest.approx(accuracy_score(truth, score >= 0.5))
    assert row["roc_auc"] == pytest.approx(roc_auc_score(truth, score))
    assert row["brier"] == pytest.approx(brier_score_loss(truth, score))
    assert all(row[f"{name}_low"] < row[f"{name}_high"] for name in METRICS)
    # The sample's world did not change, so what was expected came true.
    assert row["estimated_roc_auc"] == pytest.approx(row["roc_auc"], abs=0.04)
    assert row["estimated_accuracy"] == pytest.approx(row["accuracy"], abs=0.04)


def test_measuring_again_changes_nothing(churn: Model, champion: tracking.Version) -> None:
    rows = cohort_of(churn, champion)
    say(rows, champion.number)
    say(rows, champion.number, LATER)
    answer(list(rows["user_id"]), 0.3, COHORT - HOUR / 2, champion.number)
    facts = measure(churn, LATER)
    assert (facts["estimated"], facts["measured"]) == (1, 2)
    assert facts["labels_since_training"] == len(labels("matured_at > %s and matured_at <= %s", TRAINED, LATER))
    before = performance()
    assert {row["scope"] for row in before} == {"batch", "online", "since_training"}
    assert measure(churn, LATER) == {
        "model_version": champion.number,
        "estimated": 0,
        "measured": 0,
        "labels_since_training": 0,
    }
    assert performance() == before


def test_only_those_who_were_scored_and_labelled_count(churn: Model, champion: tracking.Version) -> None:
    rows = cohort_of(churn, champion)
    strangers = pd.DataFrame({"user_id": [f"stranger {number}" for number in range(9)], "score": 0.5})
    say(pd.concat([rows.head(300), strangers]), champion.number)
    measure(churn, MATURED)
    row = one("scope = 'batch'")
    assert (row["predictions"], row["labels"]) == (309, 300)


def test_more_labels_are_measured_again_and_fewer_are_not(churn: Model, champion: tracking.Version) -> None:
    rows = cohort_of(churn, champion)
    users = list(rows["user_id"])
    answer(users[:200], rows["score"].head(200), COHORT, champion.number)
    measure(churn, MATURED)
    answer(users[200:300], rows["score"].iloc[200:300], COHORT, champion.number)
    assert measure(churn, MATURED + DAY)["measured"] == 1
    before = one("scope = 'online'")
    assert before["labels"] == 300
    execute("delete from monitoring.inference_log where entity_id > %s", users[100])
    assert measure(churn, MATURED + DAY)["measured"] == 0
    assert one("scope = 'online'") == before


def test_labels_of_one_class_are_counted_and_say_nothing(churn: Model, champion: tracking.Version) -> None:
    rows = cohort_of(churn, champion)
    say(rows[rows[churn.label].astype(bool)], champion.number)
    measure(churn, MATURED)
    row = one("scope = 'batch'")
    assert (row["labels"], row["share_true"]) == (rows[churn.label].sum(), 1)
    assert all(row[name] is row[f"{name}_low"] is None for name in METRICS)


@pytest.fixture
def one_by_one(churn: Model) -> Iterator[Model]:
    """The model, with labels of which one of user in ten matures a day after the others, and a key of two columns."""
    execute(
        "create table training.one_by_one as select *, (row_number() over (order by user_id))::bigint as part"
        " from training.churn_training_set"
    )
    execute(
        "update training.one_by_one set matured_at = matured_at + interval '1 day' where part %% 10 = 0 and as_of = %s",
        COHORT,
    )
    yield churn.model_copy(update={"training_set": ("training", "one_by_one"), "entity": ("user_id", "part")})
    execute("drop table training.one_by_one")


def test_a_cohort_waits_for_all_of_its_labels_and_a_key_may_have_several_columns(
    one_by_one: Model, champion: tracking.Version
) -> None:
    rows = cohort_of(one_by_one, champion)
    with warehouse.connect() as connection:
        keys = connection.execute("select user_id, part from training.one_by_one where as_of = %s", [COHORT]).fetchall()
    part = {key["user_id"]: key["part"] for key in keys}
    say(rows.assign(user_id=[entity_text((user, part[user])) for user in rows["user_id"]]), champion.number)
    assert measure(one_by_one, MATURED)["measured"] == 0
    assert measure(one_by_one, MATURED + DAY)["measured"] == 1
    row = one("scope = 'batch'")
    assert (row["labels"], row["matured_at"]) == (len(rows), MATURED + DAY)
    assert row["roc_auc"] == pytest.approx(roc_auc_score(outcomes(rows, one_by_one.label), rows["score"]))


# Services


def test_requests_belong_to_the_hour_that_they_lead_up_to(churn: Model, champion: tracking.Version) -> None:
    microsecond = timedelta(microseconds=1)
    for number, at in enumerate((COHORT - HOUR, COHORT - HOUR + microsecond, COHORT, COHORT + microsecond)):
        answer([f"user {number}"], [0.5], at, champion.number)
    answer(["nobody"], [0.5], COHORT, champion.number, kind="batch")
    measure(churn, COHORT + HOUR / 2)
    counted = {row["cohort"]: row["predictions"] for row in performance("scope = 'online'")}
    assert counted == {COHORT - HOUR: 1, COHORT: 2}
    measure(churn, COHORT + HOUR)
    assert one("scope = 'online' and cohort > '2013-06-11 00:00+00'")["predictions"] == 1


def test_the_first_request_of_an_entity_counts(churn: Model, champion: tracking.Version) -> None:
    answer(["a", "b"], [0.2, 0.4], COHORT, champion.number)
    answer(["a"], [0.9], COHORT, champion.number, logged_at=LATER + HOUR)
    answer(["b"], [0.6], COHORT - HOUR / 2, champion.number)
    measure(churn, COHORT)
    row = one("scope = 'online'")
    assert row["predictions"] == 2
    with warehouse.connect() as connection:
        bins = holdout_bins(connection, churn, champion.number)
    expected = estimated_performance(np.array([0.2, 0.6]), calibration_of(bins), confidence=0.95)
    assert row["estimated_brier"] == pytest.approx(expected.brier.estimate)


def test_requests_that_arrive_later_are_estimated_with_the_others(churn: Model, champion: tracking.Version) -> None:
    answer(["a", "b"], [0.2, 0.4], COHORT, champion.number)
    measure(churn, COHORT)
    answer(["c"], [0.9], COHORT, champion.number)
    assert measure(churn, COHORT + HOUR)["estimated"] == 1
    assert one("scope = 'online'")["predictions"] == 3


def test_a_request_of_which_every_second_was_logged_counts_twice(churn: Model, champion: tracking.Version) -> None:
    rows = cohort_of(churn, champion)
    half = np.arange(len(rows)) % 3 == 0
    for those, probability in ((half, 0.5), (~half, 1.0)):
        users, score = list(rows["user_id"][those]), rows["score"][those].to_numpy()
        answer(users, score, COHORT, champion.number, inclusion_probability=probability)
    measure(churn, COHORT)
    measure(churn, MATURED)
    row = one("scope = 'online'")
    truth, score, weights = outcomes(rows, churn.label), rows["score"].to_numpy(), np.where(half, 2.0, 1.0)
    assert (row["predictions"], row["labels"]) == (len(rows), len(rows))
    assert row["share_true"] == pytest.approx(np.average(truth, weights=weights))
    assert row["accuracy"] == pytest.approx(accuracy_score(truth, score >= 0.5, sample_weight=weights))
    assert row["roc_auc"] == pytest.approx(roc_auc_score(truth, score, sample_weight=weights))
    assert row["brier"] == pytest.approx(brier_score_loss(truth, score, sample_weight=weights))
    with warehouse.connect() as connection:
        bins = holdout_bins(connection, churn, champion.number)
    expected = estimated_performance(score, calibration_of(bins), weights, confidence=0.95)
    assert row["estimated_accuracy"] == pytest.approx(expected.accuracy.estimate)


# Since the training


def test_the_policy_is_told_the_champions_metric_on_all_labels_since_its_training(
    churn: Model, champion: tracking.Version
) -> None:
    rows = labels("matured_at > %s and matured_at <= %s", TRAINED, LATER)
    expected = metric_interval(
        churn.promotion.metric,
        outcomes(rows, churn.label),
        scores(tracking.load(churn, champion.number), rows, churn.feature_names),
        Entities(rows[list(churn.entity)], seed=churn.training.seed),
        churn.retraining.confidence,
    )
    # Of one label time it said so itself; the others were before it, or nobody was scored.
    said = cohort_of(churn, champion)
    say(said, champion.number)
    assert measure(churn, LATER)["labels_since_training"] == len(rows)
    assert since_training(churn, champion, LATER) == pytest.approx((*vars(expected).values(), len(rows)))
    row = one("scope = 'since_training'")
    assert (row["cohort"], row["matured_at"]) == (rows["as_of"].max(), rows["matured_at"].max())
    assert (row["predictions"], row["labels"]) == (len(said), len(rows))


def test_what_it_really_said_counts_not_what_it_would_say(churn: Model, champion: tracking.Version) -> None:
    measure(churn, LATER)
    before, *_ = since_training(churn, champion, LATER)
    execute("truncate monitoring.model_performance")
    said = cohort_of(churn, champion)
    say(said.assign(score=1 - said["score"]), champion.number)
    measure(churn, LATER)
    assert since_training(churn, champion, LATER)[0] < before - 0.05


def test_a_backfill_does_not_see_later_labels(churn: Model, champion: tracking.Version) -> None:
    earlier = TRAINED + 8 * DAY
    known = len(labels("matured_at > %s and matured_at <= %s", TRAINED, earlier))
    measure(churn, LATER)
    late = since_training(churn, champion, LATER)
    nothing = since_training(churn, champion, earlier)
    assert np.isnan(nothing[:3]).all()
    assert nothing[3] == 0, "nobody has measured at that time"
    assert measure(churn, earlier)["labels_since_training"] == known
    early = since_training(churn, champion, earlier)
    assert early[3] == known < late[3]
    assert early[0] != late[0]
    assert since_training(churn, champion, LATER) == late
    assert measure(churn, LATER)["labels_since_training"] == 0


def test_labels_that_mature_one_by_one_are_known_at_their_time(one_by_one: Model, champion: tracking.Version) -> None:
    model = one_by_one
    measure(model, MATURED + DAY)
    late = since_training(model, champion, MATURED + DAY)
    measure(model, MATURED)
    early = since_training(model, champion, MATURED)
    assert early[3] < late[3]
    measure(model, MATURED + DAY)
    assert since_training(model, champion, MATURED + DAY) == late


def test_few_labels_say_nothing_and_are_counted(churn: Model, champion: tracking.Version) -> None:
    measure(churn, LATER)
    *_, known = since_training(churn, champion, LATER)
    retraining = churn.retraining.model_copy(update={"min_recent_labels": known + 1})
    strict = churn.model_copy(update={"retraining": retraining})
    found = since_training(strict, champion, LATER)
    assert np.isnan(found[:3]).all()
    assert found[3] == known


def test_another_confidence_is_measured_anew(churn: Model, champion: tracking.Version) -> None:
    measure(churn, LATER)
    metric, low, high, _ = since_training(churn, champion, LATER)
    retraining = churn.retraining.model_copy(update={"confidence": 0.8})
    surer = churn.model_copy(update={"retraining": retraining})
    measure(surer, LATER)
    other = since_training(surer, champion, LATER)
    assert other[0] == metric
    assert low < other[1] < other[2] < high
