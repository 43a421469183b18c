"""The ML Test Score of a model: its sections, its 28 tests, and what each rests on."""

from dataclasses import dataclass
from datetime import datetime

from features import warehouse
from features.contract import Model
from features.scorecard import store
from features.scorecard.rubric import Section
from features.scorecard.score import Score, TestResult, score

# What a section would be were each of its tests automated.
MOST_POINTS = 7.0


@dataclass(frozen=True)
class ScoredTest:
    """A test and what decides it.

    Attributes:
        state: passed, failed, expired or missing.
        how: automated or by hand; None without evidence, as everything that follows.
        seen_at: the instant whose knowledge the evidence is.
        expires_at: from when it counts no more.
        age_seconds: from seen_at to the clock.
        recorded_by: who recorded it by command; None also when the pipeline computed it.
        what_counts: what would be evidence, and the command that records what the pipeline cannot see.
    """

    test: str
    section: str
    title: str
    points: float
    state: str
    how: str | None
    evidence: str | None
    seen_at: datetime | None
    expires_at: datetime | None
    age_seconds: float | None
    recorded_by: str | None
    what_counts: str


@dataclass(frozen=True)
class SectionScore:
    """The sum of a section's tests.

    Attributes:
        is_weakest: whether it decides the score.
    """

    section: str
    points: float
    most_points: float
    is_weakest: bool
    tests: tuple[ScoredTest, ...]


@dataclass(frozen=True)
class ScorePage:
    """The score: the least of the sections' sums."""

    model: str
    at: datetime
    score: float
    most_points: float
    sections: tuple[SectionScore, ...]


def score_page(connection: warehouse.Connection, model: Model, at: datetime) -> ScorePage:
    """The score by the evidence that is known and valid at an instant.

    Args:
        at: the clock by which evidence expires; what was seen later is not known yet.
    """
    found = score(store.read_decisive(connection, model.name, at), at)
    return ScorePage(
        model=model.name,
        at=at,
        score=found.score,
        most_points=MOST_POINTS,
        sections=tuple(_section(found, section, at) for section in Section),
    )


def _section(found: Score, section: Section, at: datetime) -> SectionScore:
    points = found.sections[section]
    tests = tuple(_test(result, at) for result in found.results if result.test.section is section)
    return SectionScore(str(section), points, MOST_POINTS, points == found.score, tests)


def _test(result: TestResult, at: datetime) -> ScoredTest:
    seen = result.evidence
    return ScoredTest(
        test=result.test.test,
        section=str(result.test.section),
        title=result.test.title,
        points=result.points,
        state=str(result.state),
        how=str(seen.how) if seen else None,
        evidence=seen.text if seen else None,
        seen_at=seen.seen_at if seen else None,
        expires_at=seen.expires_at if seen else None,
        age_seconds=(at - seen.seen_at).total_seconds() if seen else None,
        recorded_by=seen.recorded_by if seen else None,
        what_counts=result.test.what_counts,
    )
