"""Drift is a change that is surely larger than what matters; what cannot be seen is never `ok`."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import optimize, stats

from features.contract import DriftSettings, Severity
from features.drift import DriftStatus, distance
from features.drift.decision import (
    NEVER,
    Budget,
    Effect,
    Judgement,
    clopper_pearson,
    judge,
    needed_entities,
    w_squared_bounds,
    w_squared_of,
)
from features.drift.distance import CellDifference
from features.drift.profile import Profile, Wobble
from features.drift.sketch import Floats, Grid, Kind
from tests.drift.samples import cells_between_integers, perfect_normal, profile_of, with_shares

ALPHA = 1e-3
CELLS = 8
ORDERED = cells_between_integers(CELLS)
TWO = cells_between_integers(2)
CATEGORICAL = Grid(Kind.CATEGORICAL, categories=tuple("abcdef"))
BOOLEAN = Grid(Kind.BOOLEAN, categories=("false", "true"))
GRIDS = st.sampled_from([ORDERED, CATEGORICAL])
SHARES = st.lists(st.integers(0, 50), min_size=CELLS, max_size=CELLS).filter(any).map(lambda n: np.array(n) / sum(n))
SIZES = st.floats(1, 1e6)
RATES = st.floats(0, 1)
DIRECTIONS = st.sampled_from([DriftSettings(), DriftSettings(direction="up"), DriftSettings(direction="down")])
EVEN = with_shares([0.5, 0.5], 10_000)
ALARMS = {DriftStatus.WARNING, DriftStatus.CRITICAL}


def boolean(true: float, size: float, **rates: float) -> Profile:
    return with_shares([1 - true, true, 0, 0], size, **rates)


def judged_shift(by: float, n: int, m: int = 10**6, alpha: float = ALPHA, **floors: Any) -> Judgement:
    """n perfectly normal values, moved by standard deviations, against m that are not."""
    reference = perfect_normal(20_000)
    grid = Grid.of(reference)
    current = profile_of(perfect_normal(20_000, by), grid)
    return judge(
        replace(current, size=n, seen=n),
        replace(profile_of(reference, grid), size=m, seen=m),
        grid,
        DriftSettings(**floors),
        alpha,
    )


# What a week may cost.


@pytest.mark.parametrize(
    ("budget", "alpha"),
    [
        (Budget(0.5, 1), 0.5 / 504),
        (Budget(0.5, 100), 0.5 / 50_400),
        (Budget(1.0, 20 * 4 * 2), 1 / (168 * 160 * 3)),
    ],
)
def test_a_test_may_spend_its_part_of_the_weeks_budget(budget: Budget, alpha: float) -> None:
    assert budget.alpha == pytest.approx(alpha, rel=1e-12)


# Bounds of rates.


@given(st.integers(1, 2000), st.floats(0, 1), st.sampled_from([0.2, 0.01, 1e-4, 1e-6]))
def test_bounds_of_a_rate_are_the_exact_binomial_ones(n: int, share: float, alpha: float) -> None:
    hits = round(share * n)
    low, high = clopper_pearson(np.array([hits / n]), n, alpha)
    above = stats.binomtest(hits, n, alternative="greater").proportion_ci(1 - alpha, method="exact")
    below = stats.binomtest(hits, n, alternative="less").proportion_ci(1 - alpha, method="exact")
    assert low[0] == pytest.approx(above.low, rel=1e-6, abs=1e-9)
    assert high[0] == pytest.approx(below.high, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("rate", [0.001, 0.03, 0.5, 0.98])
@pytest.mark.parametrize("n", [20, 300])
def test_each_bound_is_wrong_no_more_often_than_it_says(rate: float, n: int) -> None:
    """No simulation: over all that can happen, what goes wrong adds up to alpha at most."""
    hits = np.arange(n + 1)
    probability = stats.binom.pmf(hits, n, rate)
    low, high = clopper_pearson(hits / n, n, 0.01)
    assert probability[low > rate].sum() <= 0.01
    assert probability[high < rate].sum() <= 0.01


def test_of_nobody_every_rate_is_possible() -> None:
    low, high = clopper_pearson(np.array([0.0, 0.0]), 0, 0.01)
    assert (low.tolist(), high.tolist()) == ([0, 0], [1, 1])


# Bounds of the cells' effect.


@given(st.floats(0, 1e5), st.integers(1, 63), st.floats(1, 1e6), st.sampled_from([0.01, 1e-3, 1e-6]))
def test_the_cells_bounds_make_the_statistic_just_not_surprising(
    statistic: float, degrees: int, effective: float, alpha: float
) -> None:
    low, high = w_squared_bounds(CellDifference(statistic, degrees, effective), alpha)
    assert 0 <= low <= high
    if low:
        assert CellDifference(statistic, degrees, effective).exceeds(low) == pytest.approx(alpha, rel=1e-4)
    else:
        assert stats.chi2.sf(statistic, degrees) >= alpha * (1 - 1e-6)
    if high:
        assert stats.ncx2.cdf(statistic, degrees, high * effective) == pytest.approx(alpha, rel=1e-4)
    else:
        assert stats.chi2.cdf(statistic, degrees) <= alpha * (1 + 1e-6)


@given(st.floats(1, 1000), st.integers(1, 63), st.floats(0.001, 3))
def test_the_lower_bound_passes_a_floor_exactly_when_the_floor_is_refuted(
    statistic: float, degrees: int, effect: float
) -> None:
    found = CellDifference(statistic, degrees, 100.0)
    p = found.exceeds(effect)
    assume(not math.isclose(p, 0.01, rel_tol=1e-3))
    assert (w_squared_bounds(found, 0.01)[0] > effect) == (p < 0.01)


@pytest.mark.parametrize("statistic", [1e6, 3e7, 1e9])
def test_they_can_be_found_however_large_the_statistic(statistic: float) -> None:
    low, high = w_squared_bounds(CellDifference(statistic, 63, 1.0), 1e-6)
    assert 0.7 * statistic < low < statistic < high


def test_of_a_single_cell_every_effect_is_possible() -> None:
    assert w_squared_bounds(CellDifference(0.0, 0, 10.0), ALPHA) == (0, np.inf)
    assert w_squared_bounds(CellDifference(0.0, 0, 0.0), ALPHA) == (0, np.inf)


# What holds of every judgement.


def rated(shares: Floats, size: float, missing: float) -> Profile:
    """A profile some of whose entities have no value."""
    return replace(with_shares(shares, size * (1 - missing), missing=missing), seen=size)


@given(GRIDS, SHARES, SHARES, SIZES, SIZES, RATES, DIRECTIONS)
@hypothesis_settings(max_examples=60)
def test_bounds_are_around_the_value(
    grid: Grid, was: Floats, now: Floats, n: float, m: float, missing: float, settings: DriftSettings
) -> None:
    judgement = judge(rated(now, n, missing), rated(was, m, missing / 2), grid, settings, ALPHA)
    for name, effect in judgement.effects.items():
        assert effect.low <= effect.value + 1e-9, name
        assert name == "cells" or effect.value <= effect.high + 1e-9
        assert effect.low >= 0
        assert effect.low <= effect.high


@given(GRIDS, SHARES, SHARES, SIZES, SIZES, DIRECTIONS, st.floats(1, 100))
@hypothesis_settings(max_examples=60)
def test_the_more_evidence_the_higher_the_lower_bound(
    grid: Grid, was: Floats, now: Floats, n: float, m: float, settings: DriftSettings, times: float
) -> None:
    few = judge(with_shares(now, n, missing=0.1), with_shares(was, m), grid, settings, ALPHA).effects
    for more in (
        judge(with_shares(now, n * times, missing=0.1), with_shares(was, m), grid, settings, ALPHA).effects,
        judge(with_shares(now, n, missing=0.1), with_shares(was, m * times), grid, settings, ALPHA).effects,
    ):
        for name in ("shape", "missing", "new"):
            if name in few:
                assert more[name].low >= few[name].low - 1e-9, name


@given(GRIDS, SHARES, SHARES, SIZES, SIZES)
@hypothesis_settings(max_examples=60)
def test_a_smaller_alpha_is_never_surer(grid: Grid, was: Floats, now: Floats, n: float, m: float) -> None:
    current, expected = with_shares(now, n, missing=0.2), with_shares(was, m)
    loose = judge(current, expected, grid, DriftSettings(), 1e-2)
    strict = judge(current, expected, grid, DriftSettings(), 1e-5)
    for name, effect in strict.effects.items():
        assert effect.low <= loose.effects[name].low + 1e-9, name
    assert strict.severity <= loose.severity
    assert strict.needed >= loose.needed


@given(SHARES, SIZES, SIZES)
def test_the_same_shares_never_alarm(shares: Floats, n: float, m: float) -> None:
    for grid in (ORDERED, CATEGORICAL):
        current, expected = with_shares(shares, n), with_shares(shares, m)
        effects = judge(current, expected, grid, DriftSettings(), ALPHA).effects
        assert (effects["shape"].severity, effects["cells"].severity) == (Severity.NONE, Severity.NONE)
        assert effects["shape"].low == effects["cells"].low == 0


@given(GRIDS, SHARES, SHARES, SIZES, SIZES)
@hypothesis_settings(max_examples=60)
def test_a_status_is_of_the_worst_effect_and_few_entities_are_never_ok(
    grid: Grid, was: Floats, now: Floats, n: float, m: float
) -> None:
    judgement = judge(with_shares(now, n), with_shares(was, m), grid, DriftSettings(), ALPHA)
    worst = max(effect.severity for effect in judgement.effects.values())
    assert judgement.severity is worst
    assert bool(judgement.alarms) == (worst > Severity.NONE) == (judgement.status in ALARMS)
    if judgement.status is DriftStatus.OK:
        assert n >= judgement.needed
    if worst is Severity.NONE and n < judgement.needed:
        assert judgement.status is DriftStatus.INSUFFICIENT_DATA
    severities = [judgement.effects[name].severity for name in judgement.alarms]
    assert severities == sorted(severities, reverse=True)
    assert judgement.detail


# How bad.


@pytest.mark.parametrize(
    ("low", "severity"),
    [
        (0.04, Severity.NONE),
        (np.nextafter(0.04, 1), Severity.WARNING),
        (0.10, Severity.WARNING),
        (np.nextafter(0.10, 1), Severity.CRITICAL),
    ],
)
def test_severity_is_the_largest_floor_that_the_lower_bound_passes(low: float, severity: Severity) -> None:
    assert Effect("distance", 0.5, low, 0.9, 0.04, 0.10).severity is severity


@pytest.mark.parametrize("n", [300, 3000, 10**6])
def test_a_larger_shift_is_never_less_severe(n: int) -> None:
    shifts = [0.0, 0.02, 0.05, 0.1, 0.12, 0.2, 0.25, 0.3, 0.5, 1, 3, 10]
    for sign in (1, -1):
        found = [judged_shift(sign * shift, n) for shift in shifts]
        severities = [judgement.severity for judgement in found]
        assert severities == sorted(severities)
        assert severities[-1] is Severity.CRITICAL
        lows = [judgement.effects["shape"].low for judgement in found]
        assert lows == sorted(lows)


@given(st.floats(0, 1), st.floats(0, 1), SIZES)
@hypothesis_settings(max_examples=60)
def test_a_larger_change_of_a_boolean_is_never_less_severe(one: float, other: float, n: float) -> None:
    small, large = sorted([one, other])
    expected = boolean(0.0, 1e6)
    found = [judge(boolean(true, n), expected, BOOLEAN, DriftSettings(), ALPHA).severity for true in (small, large)]
    assert found[0] <= found[1]


@pytest.mark.parametrize(
    ("shift", "status"),
    [
        (0.05, DriftStatus.OK),
        (0.12, DriftStatus.WARNING),
        (0.20, DriftStatus.WARNING),
        (0.30, DriftStatus.CRITICAL),
        (-0.05, DriftStatus.OK),
        (-0.30, DriftStatus.CRITICAL),
    ],
)
def test_with_a_million_entities_the_floors_decide(shift: float, status: DriftStatus) -> None:
    assert judged_shift(shift, 10**6).status is status


def test_the_floors_of_the_contract_are_the_ones_that_count() -> None:
    assert judged_shift(0.05, 10**6, warning_floor=0.01, critical_floor=0.05).status is DriftStatus.WARNING
    assert judged_shift(0.30, 10**6, warning_floor=0.2, critical_floor=0.3).status is DriftStatus.OK


def test_the_lower_bound_is_that_of_dvoretzky_kiefer_wolfowitz() -> None:
    for n, m in [(500, 500), (1000, 10**6), (10**6, 1000)]:
        shape = judged_shift(0.5, n, m).effects["shape"]
        slack = math.sqrt(math.log(2 / ALPHA) / 2 * (1 / n + 1 / m))
        assert shape.value - shape.low == pytest.approx(slack)
        assert shape.high - shape.value == pytest.approx(slack)
        assert shape.value == pytest.approx(2 * stats.norm.cdf(0.25) - 1, abs=0.005)


def test_cells_see_a_spike_that_leaves_the_shape_alone() -> None:
    was = np.full(64, 1 / 64)
    now = 0.96 * was
    now[30] += 0.04
    grid = cells_between_integers(64)
    judgement = judge(with_shares(now, 20_000), with_shares(was, 10**6), grid, DriftSettings(), ALPHA)
    assert judgement.alarms == ("cells",)
    assert judgement.status is DriftStatus.WARNING
    assert judgement.effects["cells"].value == pytest.approx(0.04**2 * 63, rel=0.05)


def test_floors_of_the_cells_go_with_those_of_the_shape() -> None:
    assert (w_squared_of(0.04), w_squared_of(0.10)) == pytest.approx((0.02, 0.125))
    effects = judged_shift(0.1, 1000, warning_floor=0.02, critical_floor=0.2).effects
    assert (effects["shape"].warning, effects["shape"].critical) == (0.02, 0.2)
    assert (effects["cells"].warning, effects["cells"].critical) == pytest.approx((0.005, 0.5))


def test_wobble_raises_the_floors() -> None:
    current, expected = with_shares([0.4, 0.6], 10**6), with_shares([0.6, 0.4], 10**6)
    calm = judge(current, expected, TWO, DriftSettings(), ALPHA)
    assert calm.status is DriftStatus.CRITICAL
    wobbling = judge(current, expected, TWO, DriftSettings(), ALPHA, Wobble(0.1, 0.05, days=28))
    factor = stats.t.isf(ALPHA / 2, 27)
    assert wobbling.status is DriftStatus.OK
    shape, cells = wobbling.effects["shape"], wobbling.effects["cells"]
    assert shape.warning == shape.critical == pytest.approx(0.1 * factor)
    assert cells.warning == cells.critical == pytest.approx(0.05 * factor**2)
    assert shape.value == calm.effects["shape"].value
    assert wobbling.needed == needed_entities(0.1 * factor, 10**6, ALPHA)


def test_a_small_wobble_lowers_no_floor_and_a_short_history_is_no_history() -> None:
    for wobble in (Wobble(0.001, 1e-5, days=28), Wobble(0.5, 0.5, days=1), None):
        effects = judge(EVEN, EVEN, TWO, DriftSettings(), ALPHA, wobble).effects
        assert (effects["shape"].warning, effects["shape"].critical) == (0.04, 0.10)
        assert (effects["cells"].warning, effects["cells"].critical) == pytest.approx((0.02, 0.125))


def test_wobble_between_the_floors_raises_the_lower_one_only() -> None:
    factor = float(stats.t.isf(ALPHA / 2, 27))
    wobble = Wobble(0.07 / factor, 0.0, days=28)
    shape = judge(EVEN, EVEN, TWO, DriftSettings(), ALPHA, wobble).effects["shape"]
    assert (shape.warning, shape.critical) == pytest.approx((0.07, 0.10))


# How many are enough.


@given(st.floats(0.01, 0.9), st.floats(100, 1e7), st.sampled_from([1e-2, 1e-4, 1e-6]))
def test_needed_entities_are_just_enough_for_a_change_of_twice_the_floor(floor: float, m: float, alpha: float) -> None:
    needed = needed_entities(floor, m, alpha)
    target = min(2 * floor, 1.0)

    def low(n: float) -> float:
        return target - math.sqrt(math.log(2 / alpha) / 2 * ((1 / n if n else math.inf) + 1 / m))

    if needed == NEVER:
        assert low(math.inf) <= floor + 1e-9
    else:
        assert low(needed) >= floor - 1e-9
        assert low(needed - 1) < floor + 1e-9


def test_no_number_is_enough_for_a_floor_of_1_or_a_baseline_of_nobody() -> None:
    assert needed_entities(1.0, 1e6, ALPHA) == NEVER
    assert needed_entities(0.1, 0.0, ALPHA) == NEVER
    assert needed_entities(0.1, 10.0, ALPHA) == NEVER
    judgement = judge(EVEN, replace(EVEN, size=10, seen=10), TWO, DriftSettings(), ALPHA)
    assert judgement.status is DriftStatus.INSUFFICIENT_DATA
    assert judgement.detail == (
        "The baseline holds too few entities, or its floor is too high, for any change to be seen."
    )


@pytest.mark.parametrize(("m", "floor"), [(1000, 0.1), (1000, 0.3), (10**6, 0.05), (10**6, 0.1), (10**6, 0.3)])
def test_with_needed_entities_twice_the_floor_is_critical_and_with_one_less_nothing_is_ok(m: int, floor: float) -> None:
    settings = DriftSettings(critical_floor=floor)
    needed = needed_entities(floor, m, ALPHA)
    was = with_shares([0.8, 0.2], m)
    twice = with_shares([0.8 - 2 * floor, 0.2 + 2 * floor], needed)
    assert judge(twice, was, TWO, settings, ALPHA).status is DriftStatus.CRITICAL
    same = replace(was, size=needed)
    assert judge(same, was, TWO, settings, ALPHA).status is DriftStatus.OK
    few = judge(replace(was, size=needed - 1, seen=needed - 1), was, TWO, settings, ALPHA)
    assert few.status is DriftStatus.INSUFFICIENT_DATA
    assert few.detail == f"{needed - 1:,} entities with a value; {needed:,} are needed."


def test_also_of_categories() -> None:
    was = with_shares([0.4, 0.3, 0.3, 0, 0, 0, 0, 0], 10**6)
    needed = judge(was, was, CATEGORICAL, DriftSettings(), ALPHA).needed
    twice = with_shares([0.6, 0.2, 0.2, 0, 0, 0, 0, 0], needed)
    assert judge(twice, was, CATEGORICAL, DriftSettings(), ALPHA).status is DriftStatus.CRITICAL


def test_who_has_no_value_does_not_count_towards_the_needed() -> None:
    judgement = judge(
        rated(np.array([0.5, 0.5]), 1000, 0.9), rated(np.array([0.5, 0.5]), 10**6, 0.9), TWO, DriftSettings(), ALPHA
    )
    assert 100 < judgement.needed < 1000
    assert judgement.status is DriftStatus.INSUFFICIENT_DATA


# Which way.


@pytest.mark.parametrize(
    ("direction", "shift", "status"),
    [
        ("up", 0.5, DriftStatus.CRITICAL),
        ("up", -0.5, DriftStatus.OK),
        ("down", -0.5, DriftStatus.CRITICAL),
        ("down", 0.5, DriftStatus.OK),
        ("both", 0.5, DriftStatus.CRITICAL),
        ("both", -0.5, DriftStatus.CRITICAL),
        ("up", 0.0, DriftStatus.OK),
    ],
)
def test_a_direction_alarms_one_way_only(direction: str, shift: float, status: DriftStatus) -> None:
    judgement = judged_shift(shift, 10_000, direction=direction)
    assert judgement.status is status
    if direction != "both":
        assert "cells" not in judgement.alarms


@pytest.mark.parametrize(
    ("direction", "true", "status"),
    [
        ("up", 0.8, DriftStatus.CRITICAL),
        ("up", 0.2, DriftStatus.OK),
        ("down", 0.2, DriftStatus.CRITICAL),
        ("down", 0.8, DriftStatus.OK),
        ("both", 0.2, DriftStatus.CRITICAL),
        ("both", 0.8, DriftStatus.CRITICAL),
    ],
)
def test_also_of_a_boolean(direction: Any, true: float, status: DriftStatus) -> None:
    settings = DriftSettings(direction=direction)
    assert judge(boolean(true, 2000), boolean(0.5, 10_000), BOOLEAN, settings, ALPHA).status is status


def test_new_values_on_the_harmless_side_are_harmless_too() -> None:
    was, now = [0, 0.25, 0.25, 0.25, 0.25, 0, 0, 0], [0.25, 0.25, 0.25, 0.25, 0, 0, 0, 0]
    settings = DriftSettings(direction="up")
    judgement = judge(with_shares(now, 10_000), with_shares(was, 10_000), ORDERED, settings, ALPHA)
    assert judgement.status is DriftStatus.OK


# Where values have no order.


@given(st.integers(0, 500), st.integers(0, 700))
def test_of_a_boolean_the_bounds_are_the_exact_ones(hits: int, usual: int) -> None:
    shape = judge(boolean(hits / 500, 500), boolean(usual / 700, 700), BOOLEAN, DriftSettings(), ALPHA).effects["shape"]

    def bounds(k: int, n: int) -> tuple[float, float]:
        above = stats.binomtest(k, n, alternative="greater").proportion_ci(1 - ALPHA, method="exact")
        below = stats.binomtest(k, n, alternative="less").proportion_ci(1 - ALPHA, method="exact")
        return above.low, below.high

    (low, high), (base_low, base_high) = bounds(hits, 500), bounds(usual, 700)
    assert shape.value == pytest.approx(abs(hits / 500 - usual / 700))
    now, was = hits / 500, usual / 700
    grown = now - was - math.hypot(now - low, base_high - was)
    shrunk = was - now - math.hypot(high - now, was - base_low)
    assert shape.low == pytest.approx(max(0, grown, shrunk), abs=1e-9)
    most = max(now - was + math.hypot(high - now, was - base_low), was - now + math.hypot(now - low, base_high - was))
    assert shape.high == pytest.approx(most, abs=1e-9)
    assert shape.unit == "share"


def test_the_category_that_changed_most_is_the_one_that_counts() -> None:
    was, now = [0.5, 0.3, 0.1, 0.1, 0, 0, 0, 0], [0.45, 0.1, 0.35, 0.1, 0, 0, 0, 0]
    judgement = judge(with_shares(now, 10_000), with_shares(was, 10_000), CATEGORICAL, DriftSettings(), ALPHA)
    assert judgement.effects["shape"].value == pytest.approx(0.25)
    assert judgement.status is DriftStatus.CRITICAL


def test_also_one_that_lost_to_many() -> None:
    was, now = [0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0, 0], [0.2, 0.16, 0.16, 0.16, 0.16, 0.16, 0, 0]
    shape = judge(with_shares(now, 10_000), with_shares(was, 10_000), CATEGORICAL, DriftSettings(), ALPHA).effects[
        "shape"
    ]
    assert shape.value == pytest.approx(0.3)
    assert shape.low > 0.25


def test_bounds_allow_for_looking_at_every_category() -> None:
    was, now = [0.5, 0.5, 0, 0, 0, 0, 0, 0], [0.7, 0.3, 0, 0, 0, 0, 0, 0]
    shape = judge(with_shares(now, 1000), with_shares(was, 1000), CATEGORICAL, DriftSettings(), ALPHA).effects["shape"]
    low, _ = clopper_pearson(np.array([0.7]), 1000, ALPHA / CELLS)
    _, base_high = clopper_pearson(np.array([0.5]), 1000, ALPHA / CELLS)
    assert shape.low == pytest.approx(0.2 - math.hypot(0.7 - low[0], base_high[0] - 0.5))


# Rates.


@pytest.mark.parametrize(
    ("usual", "now", "status"),
    [
        (0.0, 0.0, DriftStatus.OK),
        (0.0, 0.004, DriftStatus.OK),
        (0.0, 0.02, DriftStatus.WARNING),
        (0.0, 0.07, DriftStatus.CRITICAL),
        (0.3, 0.3, DriftStatus.OK),
        (0.3, 0.01, DriftStatus.OK),
        (0.3, 0.43, DriftStatus.OK),  # half as many again is the least that counts
        (0.3, 0.48, DriftStatus.WARNING),
        (0.3, 0.93, DriftStatus.CRITICAL),
        (0.001, 0.02, DriftStatus.WARNING),
    ],
)
def test_missing_values_alarm_when_there_are_many_more_than_usual(
    usual: float, now: float, status: DriftStatus
) -> None:
    same = [0.5, 0.5, 0, 0, 0, 0, 0, 0]
    current, expected = rated(np.array(same), 100_000, now), rated(np.array(same), 100_000, usual)
    judgement = judge(current, expected, ORDERED, DriftSettings(), ALPHA)
    assert judgement.status is status
    assert judgement.alarms == (() if status is DriftStatus.OK else ("missing",))


def test_missing_values_are_shares_of_all_entities_also_of_those_without_a_value() -> None:
    # 95 of 100 miss: with the 5 that have a value, this would be no evidence.
    current = rated(np.array([1.0, 0]), 100, 0.95)
    judgement = judge(current, with_shares([1.0, 0], 10_000), TWO, DriftSettings(), ALPHA)
    assert judgement.status is DriftStatus.CRITICAL
    assert judgement.n == 100
    low, high = clopper_pearson(np.array([0.95]), 100, ALPHA / 2)  # new values are looked for, too
    missing = judgement.effects["missing"]
    assert (missing.low, missing.high) == pytest.approx((low[0], high[0]))


def test_floors_of_missing_values_are_the_contracts() -> None:
    settings = DriftSettings(missing_warning=0.1, missing_critical=0.2)
    expected = with_shares([0.5, 0.5], 10_000, missing=0.01)
    effect = judge(expected, expected, TWO, settings, ALPHA).effects["missing"]
    assert (effect.warning, effect.critical) == pytest.approx((0.11, 0.21))
    half = with_shares([0.5, 0.5], 10_000, missing=0.5)
    effect = judge(half, half, TWO, settings, ALPHA).effects["missing"]
    assert (effect.warning, effect.critical) == pytest.approx((0.75, 1.5))


def test_new_categories_alarm_as_missing_values_do() -> None:
    was, now = [0.5, 0.5, 0, 0, 0, 0, 0, 0], [0.49, 0.49, 0, 0, 0, 0, 0, 0.02]
    judgement = judge(with_shares(now, 10_000), with_shares(was, 10_000), CATEGORICAL, DriftSettings(), ALPHA)
    assert judgement.status is DriftStatus.WARNING
    assert judgement.alarms == ("new",)
    low, _ = clopper_pearson(np.array([0.02]), 10_000, ALPHA / 2)
    assert judgement.effects["new"].low == pytest.approx(low[0])


def test_so_do_numbers_where_the_baseline_has_hardly_any() -> None:
    was = np.array([0.5, 0.4971, 0.002, 0.0009, 0, 0, 0, 0])
    now = np.array([0.5, 0.4671, 0.002, 0.0009, 0, 0.02, 0, 0.01])
    judgement = judge(with_shares(now, 10_000), with_shares(was, 10_000), ORDERED, DriftSettings(), ALPHA)
    new = judgement.effects["new"]
    assert "new" in judgement.alarms
    # A cell of two in a thousand is known, one of less than one is not.
    assert new.value == pytest.approx(0.0309)
    # Nothing was seen once only; that is itself not sure, by three in ten thousand.
    assert (new.warning, new.critical) == pytest.approx((0.0062, 0.0512))
    assert judge(with_shares(was, 10_000), with_shares(was, 10_000), ORDERED, DriftSettings(), ALPHA).alarms == ()


def test_a_boolean_has_nothing_new() -> None:
    effects = judge(boolean(0.3, 1000, missing=0.2), boolean(0.0, 1000), BOOLEAN, DriftSettings(), ALPHA).effects
    assert set(effects) == {"missing", "shape", "cells"}
    low, _ = clopper_pearson(np.array([0.2]), 1000, ALPHA)
    assert effects["missing"].low == pytest.approx(low[0])


@pytest.mark.parametrize("name", ["not_finite", "invalid"])
def test_one_row_that_breaks_the_contract_is_critical(name: str) -> None:
    same = np.full(CELLS, 1 / CELLS)
    current = with_shares(same, 1e6, **{name: 1e-6})
    judgement = judge(current, with_shares(same, 1e6), ORDERED, DriftSettings(), ALPHA)
    assert judgement.status is DriftStatus.CRITICAL
    assert judgement.alarms == (name,)
    # Whatever the baseline held.
    assert judge(current, current, ORDERED, DriftSettings(), ALPHA).status is DriftStatus.CRITICAL


def test_the_detail_has_the_numbers_of_what_alarms() -> None:
    judgement = judge(boolean(0.8, 10_000, missing=0.5), boolean(0.5, 10**6), BOOLEAN, DriftSettings(), ALPHA)
    assert judgement.alarms == ("missing", "shape", "cells")
    assert judgement.detail.startswith("missing rate 0.500 (0.485 to 0.515), floors 0.005 and 0.050; share 0.300 (")
    assert judgement.detail.endswith(", floors 0.020 and 0.125.")


def test_a_calm_detail_says_how_far_the_shape_is_off() -> None:
    judgement = judge(EVEN, EVEN, TWO, DriftSettings(), ALPHA)
    assert judgement.detail == "distance 0.000 (0.000 to 0.028), floors 0.040 and 0.100."


# How often the bounds are wrong, by simulation with fixed seeds: of `draws`, no more than chance makes of alpha.

DRAWS = 3000
LEVEL = 0.01
TOLERATED = int(stats.binom.isf(1e-4, DRAWS, 1.5 * LEVEL))
CELLS_DRAWN = 32
FINE = cells_between_integers(CELLS_DRAWN)
EQUAL = np.full(CELLS_DRAWN, 1 / CELLS_DRAWN)
SLOPE = np.linspace(-1, 1, CELLS_DRAWN) / CELLS_DRAWN
SIZES_DRAWN = [(400, 4000), (2000, 2000), (1000, 10**6)]


def at_the_floor(change: Floats, measure: Any, floor: float) -> Floats:
    """Equal shares changed so much that the effect is the floor."""
    scale = optimize.brentq(lambda times: measure(EQUAL + times * change) - floor, 0, 1)
    return np.asarray(EQUAL + scale * change)


def true_distance(now: Floats) -> float:
    return float(np.abs(np.cumsum(now - EQUAL)).max())


def true_w_squared(now: Floats) -> float:
    return float(np.sum((now - EQUAL) ** 2 / EQUAL))


def spike(cell: int = 7) -> Floats:
    """From every cell into one."""
    return np.asarray((np.arange(CELLS_DRAWN) == cell) - EQUAL)


def draws_of(now: Floats, n: int, m: int, seed: int) -> list[tuple[Profile, Profile]]:
    rng = np.random.default_rng(seed)
    pairs = zip(rng.multinomial(n, now, DRAWS), rng.multinomial(m, EQUAL, DRAWS), strict=True)
    return [(with_shares(current / n, n), with_shares(expected / m, m)) for current, expected in pairs]


SHAPES = {
    "nothing changed": EQUAL,
    "at the warning floor": at_the_floor(SLOPE, true_distance, 0.04),
    "at the critical floor": at_the_floor(SLOPE, true_distance, 0.10),
    "a spike": at_the_floor(spike(), true_distance, 0.04),
}


@pytest.mark.parametrize(("n", "m"), SIZES_DRAWN)
@pytest.mark.parametrize("now", SHAPES.values(), ids=SHAPES)
def test_the_shapes_lower_bound_is_rarely_above_the_truth(now: Floats, n: int, m: int) -> None:
    slack = math.sqrt(math.log(2 / LEVEL) / 2 * (1 / n + 1 / m))
    found = draws_of(now, n, m, seed=n)
    lows = [distance.ks(expected, current, FINE).low - slack for current, expected in found]
    assert sum(low > true_distance(now) for low in lows) <= TOLERATED
    current, expected = found[0]
    shape = judge(current, expected, FINE, DriftSettings(), LEVEL).effects["shape"]
    assert shape.low == pytest.approx(max(0, lows[0]))


def times_surprised(now: Floats, n: int, m: int) -> int:
    found = [distance.cells(expected, current) for current, expected in draws_of(now, n, m, seed=n + 1)]
    return sum(difference.exceeds(true_w_squared(now)) < LEVEL for difference in found)


SLOPES = {
    "nothing changed": EQUAL,
    "at the warning floor": at_the_floor(SLOPE, true_w_squared, 0.02),
    "at the critical floor": at_the_floor(SLOPE, true_w_squared, 0.125),
}


@pytest.mark.parametrize(("n", "m"), SIZES_DRAWN)
@pytest.mark.parametrize("now", SLOPES.values(), ids=SLOPES)
def test_so_is_that_of_the_cells(now: Floats, n: int, m: int) -> None:
    assert times_surprised(now, n, m) <= TOLERATED


@pytest.mark.parametrize("floor", [0.02, 0.125])
def test_also_when_all_went_into_one_cell(floor: float) -> None:
    assert times_surprised(at_the_floor(spike(), true_w_squared, floor), 20_000, 10**6) <= TOLERATED


@pytest.mark.parametrize(("was", "now"), [(0.3, 0.3), (0.3, 0.4), (0.02, 0.02), (0.5, 0.46)])
def test_so_is_that_of_a_share(was: float, now: float) -> None:
    rng = np.random.default_rng(11)
    pairs = zip(rng.binomial(400, now, 500), rng.binomial(900, was, 500), strict=True)
    lows = [
        judge(boolean(hits / 400, 400), boolean(usual / 900, 900), BOOLEAN, DriftSettings(), LEVEL).effects["shape"].low
        for hits, usual in pairs
    ]
    assert sum(low > abs(now - was) for low in lows) <= stats.binom.isf(1e-4, 500, LEVEL)
