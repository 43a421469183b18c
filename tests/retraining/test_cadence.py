"""How old a model may become: a paired curve with honest intervals, and an age that errs on the young side."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from features.contract import CostSettings
from features.retraining import cadence
from features.retraining.cadence import (
    DecayCurve,
    TooFewLabelTimes,
    closed_form,
    cost_rates,
    decay_curve,
    recommended_age,
    two_way_draws,
)
from features.retraining.losses import LossMatrix
from tests.retraining.loss_matrices import RECIPE, made, rotating, trained, world

COSTS = CostSettings(training=2, loss_per_day=1)
SLOW, FAST = 0.15, 0.45  # degrees a day


def linear(per_day: float) -> Callable[[npt.NDArray[Any], int, int], float]:
    return lambda entities, cutoff, week: 0.4 + per_day * 7 * (week - cutoff)


@pytest.fixture(scope="module")
def worlds() -> dict[float, LossMatrix]:
    return {speed: rotating(speed) for speed in (0.0, SLOW, FAST)}


@pytest.fixture(scope="module")
def curves(worlds: dict[float, LossMatrix]) -> dict[float, DecayCurve]:
    return {speed: decay_curve(matrix, replicates=200) for speed, matrix in worlds.items()}


# The curve.


def _pairs(matrix: LossMatrix, age_days: float) -> list[tuple[int, int]]:
    return [
        (old, fresh)
        for old, before in enumerate(matrix.cutoffs)
        for fresh, time in enumerate(matrix.cutoffs)
        if old != fresh and 7 * (time - before) == age_days
    ]


def test_the_curve_is_that_of_a_plain_loop(worlds: dict[float, LossMatrix], curves: dict[float, DecayCurve]) -> None:
    matrix, curve = worlds[FAST], curves[FAST]
    for point in curve.points:
        pairs = _pairs(matrix, point.age_days)
        truth, old_scores, fresh_scores = [], [], []
        for old, fresh in pairs:
            rows = matrix.times == matrix.cutoffs[fresh]
            truth.extend(matrix.truth[rows])
            old_scores.extend(matrix.scores[old, rows].astype(float))
            fresh_scores.extend(matrix.scores[fresh, rows].astype(float))
        assert point.excess == pytest.approx(log_loss(truth, old_scores) - log_loss(truth, fresh_scores), abs=1e-6)
        assert (point.pairs, point.rows) == (len(pairs), len(truth))


def test_the_replicates_are_those_of_repeating_rows() -> None:
    rng = np.random.default_rng(5)
    noise = rng.exponential(0.3, size=(8, 6, 6))
    matrix = made(lambda entities, cutoff, week: noise[entities, cutoff, week], instants=6, entities=8)
    curve = decay_curve(matrix, replicates=20, seed=3)
    for number, (entities, times) in enumerate(two_way_draws(8, 6, 20, seed=3)):
        for place, point in enumerate(curve.points):
            old_losses, fresh_losses = [], []
            for old, fresh in _pairs(matrix, point.age_days):
                for entity in range(8):
                    repeated = int(entities[entity] * times[fresh])
                    old_losses += [noise[entity, old, fresh]] * repeated
                    fresh_losses += [noise[entity, fresh, fresh]] * repeated
            expected = np.mean(old_losses) - np.mean(fresh_losses) if old_losses else np.nan
            assert curve.replicates[number, place] == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_a_draw_draws_as_many_as_there_are() -> None:
    for entities, times in two_way_draws(7, 5, 50, seed=0):
        assert (len(entities), entities.sum(), len(times), times.sum()) == (7, 7, 5, 5)


@pytest.mark.parametrize("varies", ["entities", "label times"])
def test_the_interval_is_as_wide_as_either_makes_it(varies: str) -> None:
    """What all rows of a label time, or of an entity, have in common does not average out over the others."""
    count = 60
    effect = np.random.default_rng(1).normal(0.2, 0.05, count)

    def loss(entities: npt.NDArray[Any], cutoff: int, week: int) -> npt.NDArray[Any]:
        stale = effect[week] if varies == "label times" else effect[entities]
        return np.broadcast_to(0.4 + (stale if week > cutoff else 0.0), len(entities))

    instants, entities = (count, 40) if varies == "label times" else (12, count)
    first = decay_curve(made(loss, instants=instants, entities=entities)).points[0]
    expected = 2 * 1.96 * effect.std() / math.sqrt(count)
    assert first.high - first.low == pytest.approx(expected, rel=0.25)
    assert first.low < effect.mean() < first.high


def test_a_flat_mean_can_hide_a_growing_spread() -> None:
    matrix = made(lambda _, cutoff, week: 0.5 + 0.01 * (week - cutoff) * (1 if week % 2 else -1), instants=24)
    young, old = decay_curve(matrix).points[0], decay_curve(matrix).points[15]
    assert abs(old.excess) < 0.03
    assert old.spread_high - old.spread_low > 10 * (young.spread_high - young.spread_low)


def test_an_age_met_twice_is_left_out() -> None:
    curve = decay_curve(made(linear(0.001), instants=10), replicates=10)
    assert curve.ages.tolist() == [7 * weeks for weeks in range(1, 8)]
    assert [point.pairs for point in curve.points] == [9, 8, 7, 6, 5, 4, 3]


def test_label_times_without_a_model_leave_gaps() -> None:
    curve = decay_curve(made(linear(0.001), instants=12, without=(3, 4, 8)), replicates=10)
    assert curve.excess == pytest.approx(0.001 * curve.ages, abs=1e-6)


def test_too_few_label_times_are_named_and_how_many_it_takes() -> None:
    with pytest.raises(TooFewLabelTimes, match="at least 4 evenly spaced label times; of 3 label times, 3 have one"):
        decay_curve(made(linear(0.001), instants=3))
    short = trained(world(weeks=5), RECIPE)
    with pytest.raises(TooFewLabelTimes, match="Wait for more labels; the last instant without one: The extract has 2"):
        decay_curve(short)


def test_the_same_seed_gives_the_same_curve_however_it_is_cut_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    noise = rng.exponential(0.3, size=(10, 8, 8))
    matrix = made(lambda entities, cutoff, week: noise[entities, cutoff, week], instants=8)
    whole = decay_curve(matrix, replicates=30)
    monkeypatch.setattr(cadence, "WEIGHTS_AT_ONCE", 70)
    np.testing.assert_allclose(decay_curve(matrix, replicates=30).replicates, whole.replicates, rtol=1e-12)
    assert not np.allclose(decay_curve(matrix, replicates=30, seed=1).replicates, whole.replicates, equal_nan=True)


# Worlds that change at a known speed.


def test_models_age_where_the_concept_rotates(curves: dict[float, DecayCurve]) -> None:
    assert curves[FAST].slope.low > curves[SLOW].slope.high
    assert curves[SLOW].slope.low > 0
    assert curves[0.0].slope.low < curves[SLOW].slope.low / 3
    assert curves[FAST].points[-1].excess > curves[FAST].points[0].excess > 0


def test_the_age_is_about_that_of_the_true_slope(
    worlds: dict[float, LossMatrix], curves: dict[float, DecayCurve]
) -> None:
    """The true excess is the expectation under the probabilities that made the labels: no label's luck is in it."""
    matrix, curve = worlds[FAST], curves[FAST]
    p = matrix.labels["probability"].to_numpy()
    score = matrix.scores.astype(float)
    expected = -p * np.log(score) - (1 - p) * np.log(1 - score)
    ages, excess = [], []
    for old, before in enumerate(matrix.cutoffs):
        for fresh, time in enumerate(matrix.cutoffs):
            if 0 < time - before <= 6:  # the ages at which a model of this world is still replaced
                rows = matrix.times == time
                ages.append(7.0 * (time - before))
                excess.append((expected[old, rows] - expected[fresh, rows]).mean())
    slope = float(np.dot(ages, excess) / np.dot(ages, ages))
    found = recommended_age(curve, CostSettings(training=2, loss_per_day=1), 0.02)
    assert found.low <= closed_form(slope, COSTS) <= found.high * 1.1
    assert found.max_age_days == pytest.approx(closed_form(slope, COSTS), rel=0.3)


def test_the_faster_the_world_the_younger_the_model(curves: dict[float, DecayCurve]) -> None:
    for costs in (COSTS, None):
        ages = [recommended_age(curves[speed], costs, 0.2).max_age_days for speed in (FAST, SLOW, 0.0)]
        assert ages[0] < ages[1] <= ages[2], (costs, ages)


def test_a_world_that_does_not_change_lets_models_live_as_long_as_the_data_vouch_for(
    curves: dict[float, DecayCurve],
) -> None:
    still = curves[0.0]
    assert recommended_age(still, None, 0.2).max_age_days == still.last_age
    assert "vouch for no more" in recommended_age(still, None, 0.2).reason
    exact = decay_curve(made(linear(0.0)), replicates=50)
    found = recommended_age(exact, COSTS, 0.02)
    assert (found.max_age_days, found.closed_form_days) == (exact.last_age, math.inf)
    assert "vouch for no more" in found.reason


# From the curve to an age.


@pytest.mark.parametrize("per_day", [0.0005, 0.002, 0.01])
def test_where_the_loss_rises_in_proportion_the_age_is_that_of_the_closed_form(per_day: float) -> None:
    curve = decay_curve(made(linear(per_day)), replicates=50)
    found = recommended_age(curve, COSTS, 0.02)
    assert curve.slope.estimate == pytest.approx(per_day, rel=1e-3)
    assert found.closed_form_days == pytest.approx(math.sqrt(2 * 2 / per_day), rel=1e-3)
    assert found.closed_form_days is not None
    assert abs(found.max_age_days - found.closed_form_days) <= 1
    # At the best age one more day costs as much as the average day: C / T + v beta T / 2 = v beta T.
    assert found.bound == pytest.approx(per_day * found.closed_form_days, rel=0.02)


def test_twice_the_cost_or_half_the_loss_lengthens_the_age_by_the_root_of_two() -> None:
    curve = decay_curve(made(linear(0.001), instants=30), replicates=50)
    age = recommended_age(curve, CostSettings(training=2, loss_per_day=1), 0.02).max_age_days
    for costs in (CostSettings(training=4, loss_per_day=1), CostSettings(training=2, loss_per_day=0.5)):
        assert recommended_age(curve, costs, 0.02).max_age_days == pytest.approx(age * math.sqrt(2), abs=1.5)


def test_it_takes_the_lower_end() -> None:
    rng = np.random.default_rng(0)
    steep = rng.uniform(0, 0.004, 40)
    matrix = made(lambda entities, cutoff, week: 0.4 + steep[entities] * 7 * (week - cutoff), entities=40)
    curve = decay_curve(matrix)
    found = recommended_age(curve, COSTS, 0.02)
    best = closed_form(float(steep.mean()), COSTS)
    assert found.max_age_days == found.low < best < found.high
    assert f"interval {found.low} to {found.high} days" in found.reason


def test_nothing_is_extrapolated() -> None:
    curve = decay_curve(made(linear(0.00001)), replicates=20)
    found = recommended_age(curve, COSTS, 0.02)
    assert found.max_age_days == curve.last_age
    assert found.closed_form_days is not None
    assert found.closed_form_days > curve.last_age


@given(
    st.lists(st.floats(-0.1, 1), min_size=1, max_size=8),
    st.floats(0.1, 100),
    st.floats(0.1, 100),
    st.sampled_from([0.5, 1.0, 3.5, 7.0]),
)
def test_cost_rates_are_those_of_adding_up_slices(
    excess: list[float], training: float, loss_per_day: float, step: float
) -> None:
    ages = step * np.arange(1, len(excess) + 1, dtype=np.float64)
    days, rates = cost_rates(ages, np.array(excess), CostSettings(training=training, loss_per_day=loss_per_day))
    assert days.tolist() == list(range(1, max(1, int(ages[-1])) + 1))
    for day, rate in zip(days, rates, strict=True):
        middles = (np.arange(1000 * day) + 0.5) / 1000
        loss = np.interp(middles, [0, *ages], [0, *excess]).mean() * day
        assert rate == pytest.approx((training + loss_per_day * loss) / day, rel=1e-3, abs=1e-3)


def test_without_costs_the_age_is_the_last_within_the_tolerance() -> None:
    curve = decay_curve(made(linear(0.001)), replicates=50)
    found = recommended_age(curve, None, 0.1)  # 0.04 of 0.4, reached at 40 days
    assert (found.max_age_days, found.method) == (35, "tolerance")
    assert found.bound == pytest.approx(0.04, rel=1e-3)
    assert "Up to 35 days" in found.reason
    assert "at 42 days it is 0.0420" in found.reason


def test_without_costs_it_is_the_upper_confidence_bound_that_counts() -> None:
    rng = np.random.default_rng(0)
    steep = rng.uniform(0, 0.002, 40)
    matrix = made(lambda entities, cutoff, week: 0.4 + steep[entities] * 7 * (week - cutoff), entities=40)
    curve = decay_curve(matrix)
    found = recommended_age(curve, None, 0.1)
    assert found.max_age_days == max(point.age_days for point in curve.points if point.high <= found.bound)
    assert found.max_age_days < max(point.age_days for point in curve.points if point.excess <= found.bound)
    assert found.high > found.max_age_days


def test_the_first_measured_age_is_the_least_and_the_reason_says_so() -> None:
    found = recommended_age(decay_curve(made(linear(0.01)), replicates=50), None, 0.02)
    assert found.max_age_days == 7
    assert found.reason.startswith("Already at 7 days, the youngest age that was measured")


def test_a_later_dip_does_not_excuse_an_earlier_excess() -> None:
    bumps = {3: 0.1}
    curve = decay_curve(made(lambda _, cutoff, week: 0.4 + bumps.get(week - cutoff, 0.0)), replicates=50)
    assert recommended_age(curve, None, 0.02).max_age_days == 14
