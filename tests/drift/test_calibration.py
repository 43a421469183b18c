"""What a feature does when all is well is learnt from clean weeks, each against the others, and allowed it later."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from features.drift.calibration import (
    _longer_is_no_worse,
    _windows,
    baseline_of_hours,
    distinct,
    is_covered,
)
from features.drift.hours import HOUR, Hour
from features.drift.profile import Baseline, Wobble
from features.drift.sketch import Floats, Grid, Kind, Sketch
from tests.drift.samples import perfect_normal

MONDAY = datetime(2013, 7, 1, tzinfo=UTC)
WEEKS, ROWS = 4, 2000
HOURS = 168 * WEEKS
WINDOWS = (1, 6, 24, 168)
GRID = Grid.of(perfect_normal(20_000))
CENTRES = np.array([-3.0, *GRID.edges]) + 1e-3
COLOURS = Grid(Kind.CATEGORICAL, categories=("red", "green", "blue"))


def shares_around(mean: float) -> Floats:
    """Of a normal distribution, in the cells."""
    below = stats.norm.cdf(np.asarray(GRID.edges) - mean)
    return np.diff(below, prepend=0.0, append=1.0)


def sketch_of(counts: npt.NDArray[np.int64]) -> Sketch:
    return Sketch(counts, counts * CENTRES, float(counts @ (CENTRES - GRID.centre) ** 2))


def weeks_of(mean_at: Callable[[int], float], seed: int = 0, rows: int = ROWS, weeks: int = WEEKS) -> list[Hour]:
    """Hours of independent normal values, whose mean is given for each hour."""
    rng = np.random.default_rng(seed)
    return [
        Hour(MONDAY + k * HOUR, sketch_of(rng.multinomial(rows, shares_around(mean_at(k)))), float(rows))
        for k in range(168 * weeks)
    ]


def learnt(hours: list[Hour], windows: tuple[int, ...] = WINDOWS) -> Baseline:
    """The baseline of hours whose rows are all of other entities."""
    return baseline_of_hours(hours, GRID, float(sum(hour.sketch.rows for hour in hours)), windows)


@cache
def wobbling_means(sd: float, seed: int = 1) -> tuple[float, ...]:
    return tuple(np.random.default_rng(seed).normal(0, sd, HOURS).tolist())


@cache
def calm() -> Baseline:
    return learnt(weeks_of(lambda _: 0.0))


def test_hours_that_differ_by_chance_do_not_wobble() -> None:
    baseline = calm()
    assert set(baseline.wobble) == set(WINDOWS)
    for window, wobble in baseline.wobble.items():
        # Chance moves a window by 0.9 / sqrt(n); what is left of it is a small part of that.
        by_chance = math.sqrt(0.822 / (ROWS * window))
        assert wobble.distance < 0.5 * by_chance
        assert wobble.cells < 0.2 * 63 / (ROWS * window)
        assert wobble.days == 28


@pytest.mark.parametrize("sd", [0.06, 0.12])
def test_a_mean_that_strays_wobbles_as_the_distribution_function_moves(sd: float) -> None:
    means = wobbling_means(sd)
    wobble = learnt(weeks_of(lambda k: means[k]), (1,)).wobble[1]
    # A shift of d sigma is a distance of about 0.4 d, and a w squared of d squared. What is expected of an hour is the
    # mean of three that strayed as well.
    assert wobble.distance == pytest.approx(0.4 * sd * math.sqrt(4 / 3), rel=0.1)
    assert wobble.cells == pytest.approx(sd**2 * 4 / 3, rel=0.2)


def test_straying_hours_even_out_over_a_day_and_straying_days_do_not() -> None:
    means = wobbling_means(0.12)
    by_hour = learnt(weeks_of(lambda k: means[k]), (1, 24)).wobble
    by_day = learnt(weeks_of(lambda k: means[k // 24]), (1, 24)).wobble
    assert by_hour[24].distance < 0.4 * by_hour[1].distance
    assert by_day[24].distance > 0.7 * by_day[1].distance


def test_a_week_is_held_against_the_other_weeks_only() -> None:
    shifted = learnt(weeks_of(lambda k: 0.5 if k >= 3 * 168 else 0.0), (24,)).wobble[24]
    # The odd week is 0.5 off the others, each of which is 0.5 / 3 off the mean of the rest.
    squares = [0.5**2, *3 * [(0.5 / 3) ** 2]]
    assert shifted.distance == pytest.approx(0.4 * math.sqrt(sum(squares) / 4), rel=0.1)
    absorbed = 0.4 * math.sqrt((0.375**2 + 3 * 0.125**2) / 4)
    assert shifted.distance > 1.15 * absorbed


def test_a_season_that_is_the_same_every_week_is_expected() -> None:
    def season(k: int) -> float:
        return 0.4 * math.sin(2 * math.pi * k / 24) + (0.3 if k % 168 >= 120 else 0.0)

    baseline = learnt(weeks_of(season, rows=4000))
    for window, wobble in baseline.wobble.items():
        # An hour of the week was seen three times in the other weeks: it borrows little, and strays little.
        assert wobble.distance < 0.012, window
        assert wobble.cells < 0.002, window
    for hour in (6, 18, 144):
        expected = baseline.expected([(MONDAY + hour * HOUR, 1)])
        np.testing.assert_allclose(expected.shares, shares_around(season(hour)), atol=0.006)


def test_a_longer_window_than_a_day_wobbles_no_less_than_the_one_before() -> None:
    means = wobbling_means(0.2)
    wobble = learnt(weeks_of(lambda k: means[k]), (24, 72, 168)).wobble
    assert wobble[24].distance <= wobble[72].distance <= wobble[168].distance
    assert wobble[24].cells <= wobble[72].cells <= wobble[168].cells


LENGTHS = st.lists(st.sampled_from([1, 6, 12, 24, 25, 48, 168]), unique=True, min_size=1)


@given(LENGTHS, st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=7, max_size=7))
def test_of_a_long_window_the_wobble_of_shorter_ones_is_believed(
    windows: list[int], found: list[tuple[float, float]]
) -> None:
    before = {window: Wobble(*wobble, days=28) for window, wobble in zip(windows, found, strict=False)}
    after = _longer_is_no_worse(before)
    assert sorted(after) == sorted(windows)
    for window in windows:
        believed = [before[window]]
        if window > 24:
            believed += [before[other] for other in windows if 24 < other < window]
            believed += [before[max(other for other in windows if other <= 24)]] if min(windows) <= 24 else []
        assert after[window].distance == max(wobble.distance for wobble in believed)
        assert after[window].cells == max(wobble.cells for wobble in believed)
        assert after[window].days == 28


# Whom the rows belong to.


def test_the_same_entities_every_hour_do_not_make_a_window_surer() -> None:
    hours = [Hour(hour.as_of, hour.sketch, 500.0) for hour in weeks_of(lambda _: 0.0)]
    baseline = baseline_of_hours(hours, GRID, 500.0, (24,))
    assert baseline.entities == baseline.profile.size == 500
    assert all(entities == 500 for _, entities in baseline.slots.values())


def clustered() -> list[Hour]:
    """100 entities an hour, each with 20 rows of one value: as if every count came 20 times."""
    rng = np.random.default_rng(4)
    return [
        Hour(MONDAY + k * HOUR, sketch_of(20 * rng.multinomial(100, shares_around(0.0))), 100.0) for k in range(HOURS)
    ]


def test_rows_of_one_entity_that_agree_wobble_when_they_are_counted_as_many() -> None:
    as_many = [Hour(hour.as_of, hour.sketch, float(hour.sketch.rows)) for hour in clustered()]
    assert learnt(as_many, (1,)).wobble[1].distance == pytest.approx(math.sqrt(0.822 * (1 / 100 - 1 / 2000)), rel=0.1)


def test_and_do_not_when_they_are_counted_as_one() -> None:
    wobble = baseline_of_hours(clustered(), GRID, 100.0 * HOURS, (1,)).wobble[1]
    assert wobble.distance < 0.4 * math.sqrt(0.822 / 100)


def test_distinct_entities_are_no_more_than_those_of_all_hours() -> None:
    assert distinct([Hour(MONDAY, Sketch.empty(GRID), 100.0)] * 2, 10_000.0, 4000) == 200


@pytest.mark.parametrize(
    ("by_hour", "entities", "rows", "found"),
    [
        ([10, 30, 20], 1000, 60, 60),  # there are that many, so all may differ
        ([10, 30, 20], 40, 60, 40),
        ([10, 30, 20], 25, 60, 30),  # an hour has shown more
        ([], 1000, 0, 0),
    ],
)
def test_distinct_entities_of_hours_are_no_more_than_rows_and_no_fewer_than_an_hour_has(
    by_hour: list[int], entities: float, rows: int, found: float
) -> None:
    hours = [Hour(MONDAY, Sketch.empty(GRID), float(n)) for n in by_hour]
    assert distinct(hours, entities, rows) == found


# What the baseline holds.


def test_a_baseline_holds_everything_and_each_hour_of_the_week() -> None:
    hours = weeks_of(lambda _: 0.0, rows=50)
    baseline = learnt(hours, (1,))
    assert baseline.whole.rows == 50 * HOURS
    assert set(baseline.slots) == set(range(168))
    for slot in (0, 25, 167):
        own = Sketch.total([hour.sketch for hour in hours[slot::168]], GRID)
        sketch, entities = baseline.slots[slot]
        np.testing.assert_array_equal(sketch.counts, own.counts)
        assert entities == own.rows == 50 * WEEKS
    assert baseline.profile.size == 50 * HOURS


def test_one_week_has_no_other_to_be_held_against() -> None:
    baseline = learnt(weeks_of(lambda _: 0.0, weeks=1, rows=50))
    assert baseline.wobble == {}
    assert len(baseline.slots) == 168
    assert len(learnt(weeks_of(lambda _: 0.0, weeks=2, rows=50), (1,)).wobble) == 1


def test_of_nothing_there_is_an_empty_baseline() -> None:
    for hours in ([], [Hour(MONDAY + k * HOUR, Sketch.empty(GRID), 0.0) for k in range(HOURS)]):
        baseline = learnt(hours, (1, 24))
        assert baseline.whole.rows == 0
        assert all(wobble.distance == wobble.cells == 0 for wobble in baseline.wobble.values())


def test_of_categories_the_share_that_strays_most_wobbles() -> None:
    rng, strays = np.random.default_rng(8), np.random.default_rng(9).normal(0, 0.05, HOURS)
    hours = [
        Hour(
            MONDAY + k * HOUR,
            Sketch(rng.multinomial(5000, [0.5 + strays[k], 0.3 - strays[k], 0.2, 0, 0]), np.zeros(5)),
            5000.0,
        )
        for k in range(HOURS)
    ]
    wobble = baseline_of_hours(hours, COLOURS, 5000.0 * HOURS, (1,)).wobble[1]
    assert wobble.distance == pytest.approx(0.05, rel=0.2)


# Which windows are looked at.


def naive_windows(hours: list[Hour], window: int, stride: int) -> list[list[datetime]]:
    """Every stride-th hour ends a window; of those that reach back before the week, half has to be in it."""
    if window >= len(hours):
        return [[hour.as_of for hour in hours if hour.as_of > hours[-1].as_of - timedelta(hours=window)]]
    found = []
    for end in [hour.as_of for hour in hours[::stride]]:
        inside = [hour.as_of for hour in hours if timedelta(0) <= end - hour.as_of < timedelta(hours=window)]
        if len(inside) >= window / 2:
            found.append(inside)
    return found


@given(
    st.sets(st.integers(0, 167), min_size=1, max_size=60).map(sorted), st.sampled_from([1, 2, 6, 24]), st.integers(1, 6)
)
def test_windows_are_the_hours_before_their_ends(at: list[int], window: int, stride: int) -> None:
    hours = [Hour(MONDAY + k * HOUR, Sketch.empty(GRID), 0.0) for k in at]
    found = [[hour.as_of for hour in part] for part in _windows(hours, window, stride)]
    if window < len(hours):
        assert found == naive_windows(hours, window, stride)
    else:
        assert len(found) <= 1


def test_a_whole_week_is_one_window_and_an_hour_is_one_by_itself() -> None:
    week = weeks_of(lambda _: 0.0, weeks=1, rows=1)
    assert [len(part) for part in _windows(week, 168, 4)] == [168]
    assert [len(part) for part in _windows(week, 1, 1)] == [1] * 168
    assert [len(part) for part in _windows(week, 6, 1)] == [3, 4, 5] + [6] * 163
    assert [part[-1].as_of for part in _windows(week, 24, 4)] == [MONDAY + k * HOUR for k in range(12, 168, 4)]


# Whether a period is known.


def every(step: timedelta, days: float, start: datetime = MONDAY) -> list[datetime]:
    return [start + k * step for k in range(int(timedelta(days=days) / step))]


DAY = timedelta(days=1)
FOUR_WEEKS = every(HOUR, 28)


@pytest.mark.parametrize(
    ("hours", "covered"),
    [
        (FOUR_WEEKS, True),
        (every(DAY, 28), True),
        (every(6 * HOUR, 28), True),
        (every(DAY, 27), False),
        (every(HOUR, 21), False),
        (FOUR_WEEKS[:-168], False),  # three weeks of four
        (FOUR_WEEKS[: 168 * 2] + FOUR_WEEKS[168 * 2 + 120 :], True),  # five days are gone
        (FOUR_WEEKS[: 168 * 2] + FOUR_WEEKS[168 * 2 + 144 :], False),  # six are
        ([], False),
        ([MONDAY], False),
    ],
)
def test_a_period_is_covered_when_four_fifths_of_its_hours_came(hours: list[datetime], covered: bool) -> None:
    assert is_covered(hours, MONDAY, MONDAY + timedelta(days=28)) is covered


def test_the_bound_itself_is_enough_if_it_reaches_back_to_the_beginning() -> None:
    hours = every(HOUR, 50)
    thin = hours[: 24 * 20] + hours[24 * 30 :]
    assert is_covered(thin, MONDAY, MONDAY + timedelta(days=50))
    assert not is_covered(thin[:-1], MONDAY, MONDAY + timedelta(days=50))
    assert not is_covered(hours, MONDAY, MONDAY + timedelta(days=50, hours=1))
