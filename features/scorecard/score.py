"""The score: evidence and a clock go in, points come out. Pure.

A test gives a point when a system runs it again and again by itself, half a point when it was done by hand and written
down, and none without evidence that counts. A section is the sum of its tests, the score the smallest section: a
pipeline is as ready as it is where it is weakest (Breck et al. 2017, section VI).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from features.scorecard.rubric import TESTS, RubricTest, Section


class How(StrEnum):
    """Who runs a test."""

    AUTOMATED = "automated"
    BY_HAND = "by hand"


POINTS = {How.AUTOMATED: 1.0, How.BY_HAND: 0.5}


class State(StrEnum):
    """What there is of a test."""

    PASSED = "passed"
    FAILED = "failed"
    EXPIRED = "expired"
    MISSING = "missing"


@dataclass(frozen=True)
class Evidence:
    """A row of monitoring.scorecard_evidence.

    Attributes:
        text: what was seen, as a sentence.
        seen_at: the instant whose knowledge it is.
        expires_at: from when it says nothing any more; at that very instant it does not count.
        number: of rows of one instant, the larger was recorded later.
        recorded_by: None when the pipeline computed it.
    """

    test: str
    how: How
    passed: bool
    text: str
    seen_at: datetime
    expires_at: datetime
    number: int = 0
    recorded_by: str | None = None


@dataclass(frozen=True)
class TestResult:
    """What a test gives, and the evidence that decides it; None when there is none."""

    __test__ = False  # pytest would collect it

    test: RubricTest
    points: float
    state: State
    evidence: Evidence | None


@dataclass(frozen=True)
class Score:
    """Points of the 28 tests, their sums by section, and the smallest of those."""

    score: float
    sections: dict[Section, float]
    results: tuple[TestResult, ...]


def score(evidence: Iterable[Evidence], at: datetime) -> Score:
    """The score at an instant. Evidence that was seen later is not known yet."""
    of_test: dict[str, list[Evidence]] = defaultdict(list)
    for each in evidence:
        if each.seen_at <= at:
            of_test[each.test].append(each)
    results = tuple(judge(test, of_test[test.test], at) for test in TESTS.values())
    sections = {
        section: sum(result.points for result in results if result.test.section is section) for section in Section
    }
    return Score(min(sections.values()), sections, results)


def judge(test: RubricTest, evidence: Sequence[Evidence], at: datetime) -> TestResult:
    """What a test gives by what was seen of it.

    A failure refutes what was seen before it, and no age makes it a pass. Of what was seen since, the best that has not
    expired counts, so that a test by hand takes nothing from one that runs by itself.
    """
    in_order = sorted(evidence, key=_order)
    if not in_order:
        return TestResult(test, 0.0, State.MISSING, None)
    last_failure = max((place for place, each in enumerate(in_order) if not each.passed), default=-1)
    valid = [each for each in in_order[last_failure + 1 :] if at < each.expires_at]
    if valid:
        best = max(valid, key=lambda each: (POINTS[each.how], _order(each)))
        return TestResult(test, POINTS[best.how], State.PASSED, best)
    newest = in_order[-1]
    return TestResult(test, 0.0, State.EXPIRED if newest.passed else State.FAILED, newest)


def _order(evidence: Evidence) -> tuple[datetime, int]:
    return evidence.seen_at, evidence.number
