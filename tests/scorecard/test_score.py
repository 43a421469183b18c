"""The score is what the paper says: a whole point for what runs by itself, half by hand, the least section decides."""

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.scorecard.rubric import TESTS, Section
from features.scorecard.score import POINTS, Evidence, How, State, TestResult, judge, score
from tests.scorecard.observed_warehouse import HOUR, NOON, seen

MICROSECOND = timedelta(microseconds=1)
TEST = TESTS["data_1"]


def judged(*evidence: Evidence, at: datetime = NOON + HOUR) -> TestResult:
    return judge(TEST, evidence, at)


def test_there_are_28_tests_seven_in_each_section() -> None:
    assert len(TESTS) == 28
    assert [sum(test.section is section for test in TESTS.values()) for section in Section] == [7, 7, 7, 7]
    assert all(name == test.test for name, test in TESTS.items())


@pytest.mark.parametrize("test", TESTS.values(), ids=TESTS)
def test_every_test_says_what_would_be_evidence_and_how_it_gets_there(test: object) -> None:
    said = TESTS[test.test].what_counts  # type: ignore[attr-defined]
    assert len(said) > 40
    assert test.seen or f"make record-evidence TEST={test.test}" in said  # type: ignore[attr-defined]


def test_without_evidence_there_is_no_point() -> None:
    assert judged() == TestResult(TEST, 0.0, State.MISSING, None)


def test_what_runs_by_itself_gives_a_point_and_what_is_done_by_hand_half() -> None:
    assert judged(seen()).points == 1.0
    assert judged(seen(how=How.BY_HAND)).points == 0.5


@pytest.mark.parametrize(("at", "points"), [(NOON - MICROSECOND, 1.0), (NOON, 0.0), (NOON + MICROSECOND, 0.0)])
def test_at_the_instant_at_which_it_expires_evidence_does_not_count(at: datetime, points: float) -> None:
    result = judged(seen(NOON - HOUR, until=NOON), at=at)
    assert result.points == points
    assert result.state is (State.PASSED if points else State.EXPIRED)


def test_a_failure_refutes_what_passed_before_it_whoever_saw_it() -> None:
    result = judged(seen(NOON), seen(NOON + MICROSECOND, passed=False, how=How.BY_HAND))
    assert (result.points, result.state) == (0.0, State.FAILED)


def test_a_failure_does_not_pass_by_growing_old() -> None:
    result = judged(seen(NOON - HOUR), seen(NOON, passed=False, until=NOON + MICROSECOND))
    assert (result.points, result.state) == (0.0, State.FAILED)


def test_what_passes_after_a_failure_counts() -> None:
    assert judged(seen(NOON - HOUR, passed=False), seen(NOON)).points == 1.0


def test_of_one_instant_what_was_recorded_later_decides() -> None:
    assert judged(seen(number=1, passed=False), seen(number=2)).points == 1.0
    assert judged(seen(number=1), seen(number=2, passed=False)).points == 0.0


def test_a_test_by_hand_takes_nothing_from_one_that_runs_by_itself() -> None:
    result = judged(seen(NOON), seen(NOON + MICROSECOND, how=How.BY_HAND))
    assert result.points == 1.0
    assert result.evidence is not None
    assert result.evidence.how is How.AUTOMATED


def test_once_the_automated_one_has_expired_the_one_by_hand_is_left() -> None:
    result = judged(seen(NOON, until=NOON + HOUR), seen(NOON - HOUR, how=How.BY_HAND))
    assert result.points == 0.5


def test_what_is_seen_later_is_not_known_yet() -> None:
    assert score([seen(NOON)], NOON - MICROSECOND).results[0].state is State.MISSING
    assert score([seen(NOON)], NOON).results[0].state is State.PASSED


def test_the_score_is_the_least_section() -> None:
    """Data 7, model 3.5 by hand, infrastructure 6, monitoring 5.5: the model decides."""
    evidence = [seen(test=f"data_{number}") for number in range(1, 8)]
    evidence += [seen(test=f"model_{number}", how=How.BY_HAND) for number in range(1, 8)]
    evidence += [seen(test=f"infra_{number}") for number in range(1, 7)]
    evidence += [seen(test=f"monitoring_{number}") for number in range(1, 6)]
    evidence += [seen(test="monitoring_6", how=How.BY_HAND), seen(test="monitoring_7", passed=False)]
    found = score(evidence, NOON + HOUR)
    assert found.sections == {
        Section.DATA: 7.0,
        Section.MODEL: 3.5,
        Section.INFRASTRUCTURE: 6.0,
        Section.MONITORING: 5.5,
    }
    assert found.score == 3.5


def test_a_section_without_a_point_is_the_score() -> None:
    assert score([seen(test=name) for name in TESTS if not name.startswith("infra")], NOON + HOUR).score == 0.0


def test_evidence_of_a_test_that_there_is_not_counts_nowhere() -> None:
    assert score([seen(test="data_8")], NOON + HOUR).sections[Section.DATA] == 0.0


INSTANTS = st.integers(0, 6).map(lambda hours: NOON + hours * HOUR)
EVIDENCE = st.lists(
    st.builds(
        lambda at, how, passed, until: seen(at, how=how, passed=passed, until=until),
        INSTANTS,
        st.sampled_from(How),
        st.booleans(),
        INSTANTS,
    ),
    max_size=8,
).map(lambda rows: [Evidence(**{**vars(row), "number": place}) for place, row in enumerate(rows)])


def points_as_told(evidence: list[Evidence], at: datetime) -> float:
    """The rules, each row asked by itself: does it pass, does it still count, and did nothing refute it?"""
    known = [row for row in evidence if row.seen_at <= at]
    found = [0.0]
    for row in known:
        later = [other for other in known if (other.seen_at, other.number) > (row.seen_at, row.number)]
        if row.passed and row.expires_at > at and all(other.passed for other in later):
            found.append(POINTS[row.how])
    return max(found)


@given(EVIDENCE, INSTANTS)
def test_points_are_those_of_the_rules_told_one_by_one(evidence: list[Evidence], at: datetime) -> None:
    assert score(evidence, at).results[0].points == points_as_told(evidence, at)


@given(EVIDENCE)
def test_without_new_evidence_points_only_fall(evidence: list[Evidence]) -> None:
    after = [NOON + hours * HOUR for hours in range(6, 12)]
    points = [score(evidence, at).results[0].points for at in after]
    assert all(later <= earlier for earlier, later in pairwise(points))


@given(st.permutations([seen(NOON + hour * HOUR, passed=hour != 2, number=hour) for hour in range(4)]))
def test_the_order_in_which_evidence_is_read_does_not_matter(evidence: list[Evidence]) -> None:
    assert score(evidence, NOON + 4 * HOUR) == score(sorted(evidence, key=lambda row: row.number), NOON + 4 * HOUR)
