"""How old a model may become: the decay curve, and the age it leads to.

The curve is paired: the model of s - a and the model of s judge the same rows of label time s, so that easy and hard
weeks cancel out. It is not the median alone that matters: models may be as good as ever in most weeks while they fail
badly in some (Vela et al., Temporal quality degradation in AI models, Scientific Reports 12, 2022), hence the spread.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import numpy.typing as npt

from features.contract import CostSettings, RetrainingSettings
from features.errors import SkewlessError
from features.retraining.decision import Cadence
from features.retraining.losses import Floats, LossMatrix, Positions
from features.training.resampling import Interval

# Of an age that was met less often nothing is said; it takes one more label time with a model.
MIN_PAIRS = 3
SPREAD = (0.1, 0.9)
# How many entity weights are held at once: 8 bytes each.
WEIGHTS_AT_ONCE = 10_000_000


class TooFewLabelTimes(SkewlessError):
    """The history is too short to say how models age."""


@dataclass(frozen=True)
class AgePoint:
    """How much worse than a fresh model one of this age is.

    Attributes:
        excess: mean log loss above that of the fresh model on the same rows.
        low, high: its confidence interval.
        spread_low, spread_high: between which four of five label times lie.
        pairs: (old model, label time) that were compared.
        rows: how many rows they rest on; a row counts once for each pair.
    """

    age_days: float
    excess: float
    low: float
    high: float
    spread_low: float
    spread_high: float
    pairs: int
    rows: int


@dataclass(frozen=True, eq=False)
class DecayCurve:
    """The excess log loss by age, youngest first.

    Attributes:
        fresh_loss: the mean log loss of fresh models.
        confidence: of the points' intervals.
        replicates: (replicates, points) of the bootstrap; NaN where a draw has no label time with a model of that age.
    """

    points: tuple[AgePoint, ...]
    fresh_loss: float
    confidence: float
    replicates: Floats

    @property
    def ages(self) -> Floats:
        """In days, one per point."""
        return np.array([point.age_days for point in self.points])

    @property
    def excess(self) -> Floats:
        """One per point."""
        return np.array([point.excess for point in self.points])

    @property
    def last_age(self) -> int:
        """In whole days, of the oldest models that were met often enough; nothing is said of older ones."""
        return max(1, int(self.points[-1].age_days))

    @property
    def slope(self) -> Interval:
        """By how much the log loss rises a day, if in proportion to age: the line through the origin, by pairs."""
        pairs = np.array([point.pairs for point in self.points])
        draws = _slopes(self.ages, self.replicates, pairs)
        low, high = np.nanquantile(draws, [(1 - self.confidence) / 2, (1 + self.confidence) / 2])
        return Interval(float(_slopes(self.ages, self.excess, pairs)), float(low), float(high))


@dataclass(frozen=True)
class Recommendation:
    """How old a model may become.

    Attributes:
        max_age_days: the lower end of what the data allow.
        low, high: its confidence interval, in days.
        method: what it follows from.
        reason: a sentence or two, with the numbers.
        bound: the excess log loss that is just worth a retraining.
        slope: with costs, by how much the log loss rises a day.
        closed_form_days: with costs, the age if the rise were in proportion; infinite where there is none.
    """

    max_age_days: int
    low: int
    high: int
    method: Literal["costs", "tolerance"]
    reason: str
    bound: float
    slope: Interval | None = None
    closed_form_days: float | None = None


def decay_curve(matrix: LossMatrix, replicates: int = 500, seed: int = 0, confidence: float = 0.95) -> DecayCurve:
    """The mean excess log loss by age, over all label times s with a fresh model, and models of s - age.

    Its intervals are percentiles of a bootstrap that draws entities and label times, each by itself, because rows of
    an entity resemble each other, and so do rows of a label time (Owen, The pigeonhole bootstrap, Annals of Applied
    Statistics 1(2), 2007). A row's weight is the product of how often its entity and its label time are drawn.

    Raises:
        TooFewLabelTimes: when no age was met at three label times.
    """
    pairs = _pairs(matrix)
    if not pairs:
        raise TooFewLabelTimes(
            f"How models age is judged on models of at least {MIN_PAIRS + 1} evenly spaced label times; of "
            f"{len(matrix.label_times)} label times, {len(matrix.cutoffs)} have one. "
            f"{_advice(matrix)}"
        )
    entities, times = np.ones((1, matrix.entity_count)), np.ones((1, len(matrix.cutoffs)))
    excess, rows = _sums(matrix, entities)
    estimate = _curve(excess, rows, times, pairs)[0]
    drawn = _replicates(matrix, pairs, replicates, seed)
    points = [
        _point(
            age, estimate[number], drawn[:, number], excess[0][pair] / rows[0][pair[1]], rows[0][pair[1]], confidence
        )
        for number, (age, pair) in enumerate(pairs)
    ]
    return DecayCurve(tuple(points), _fresh_loss(matrix), confidence, drawn)


def _advice(matrix: LossMatrix) -> str:
    if matrix.skipped:
        return f"Wait for more labels; the last instant without one: {matrix.skipped[-1].reason}"
    return "Wait for more labels, or fill in earlier ones."


def two_way_draws(entities: int, label_times: int, replicates: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """Of each draw, how often each entity and how often each label time is in it."""
    rng = np.random.default_rng(seed)
    for _ in range(replicates):
        yield _draw(rng, entities), _draw(rng, label_times)


def _draw(rng: np.random.Generator, count: int) -> Floats:
    return np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float64)


# Of an age in days, the models of that age and the fresh ones beside them.
Pair = tuple[Positions, Positions]


def _pairs(matrix: LossMatrix) -> list[tuple[float, Pair]]:
    """The ages met often enough, youngest first."""
    trained = matrix.days[matrix.cutoffs] if len(matrix.cutoffs) else np.zeros(0)
    old, fresh = np.triu_indices(len(trained), k=1)
    judged = matrix.row_counts()[matrix.cutoffs][fresh] > 0
    old, fresh = old[judged], fresh[judged]
    ages = np.round(trained[fresh] - trained[old], 6)
    return [
        (float(age), (old[ages == age], fresh[ages == age]))
        for age in np.unique(ages)
        if (ages == age).sum() >= MIN_PAIRS
    ]


def _sums(matrix: LossMatrix, entity_weights: Floats) -> tuple[Floats, Floats]:
    """Over the rows of each fresh model's label time, weighted by (draws, entities).

    Returns:
        The excess log loss, (draws, old models, fresh models), and the rows, (draws, fresh models).
    """
    draws, models = len(entity_weights), len(matrix.cutoffs)
    excess, rows = np.zeros((draws, models, models)), np.zeros((draws, models))
    for fresh, time in enumerate(matrix.cutoffs):
        losses = matrix.losses_at(time)
        weights = entity_weights[:, matrix.entities[matrix.rows_at(time)]]
        excess[:, :fresh, fresh] = weights @ (losses[:fresh] - losses[fresh]).T
        rows[:, fresh] = weights.sum(axis=1)
    return excess, rows


def _curve(excess: Floats, rows: Floats, time_weights: Floats, pairs: list[tuple[float, Pair]]) -> Floats:
    """(draws, ages); NaN where no label time of an age was drawn."""
    curve = np.full((len(excess), len(pairs)), np.nan)
    for number, (_, (old, fresh)) in enumerate(pairs):
        weights = time_weights[:, fresh]
        total = (rows[:, fresh] * weights).sum(axis=1)
        summed = (excess[:, old, fresh] * weights).sum(axis=1)
        np.divide(summed, total, out=curve[:, number], where=total > 0)
    return curve


def _replicates(matrix: LossMatrix, pairs: list[tuple[float, Pair]], replicates: int, seed: int) -> Floats:
    """The curve of each draw. Summing by entity once serves all ages; a part of the draws at a time bounds memory."""
    draws = two_way_draws(matrix.entity_count, len(matrix.cutoffs), replicates, seed)
    size = max(1, WEIGHTS_AT_ONCE // matrix.entity_count)
    curves = [np.zeros((0, len(pairs)))]
    for first in range(0, replicates, size):
        part = [next(draws) for _ in range(min(size, replicates - first))]
        excess, rows = _sums(matrix, np.array([entities for entities, _ in part]))
        curves.append(_curve(excess, rows, np.array([times for _, times in part]), pairs))
    return np.concatenate(curves)


def _point(age: float, estimate: float, drawn: Floats, by_pair: Floats, rows: Floats, confidence: float) -> AgePoint:
    low, high = np.nanquantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    spread_low, spread_high = np.quantile(by_pair, SPREAD)
    return AgePoint(
        age_days=age,
        excess=float(estimate),
        low=float(low),
        high=float(high),
        spread_low=float(spread_low),
        spread_high=float(spread_high),
        pairs=len(by_pair),
        rows=int(rows.sum()),
    )


def _fresh_loss(matrix: LossMatrix) -> float:
    fresh = [matrix.losses_at(time)[-1] for time in matrix.cutoffs]
    return float(np.concatenate(fresh).mean())


def cadence_known_at(matrix: LossMatrix, as_of: datetime, settings: RetrainingSettings) -> Cadence | None:
    """What a decay backtest at as_of says; None where the history was too short for one."""
    try:
        curve = decay_curve(matrix.until(as_of), seed=matrix.recipe.settings.seed, confidence=settings.confidence)
    except TooFewLabelTimes:
        return None
    found = recommended_age(curve, settings.costs, settings.staleness_tolerance)
    return Cadence(found.max_age_days, as_of, curve.last_age)


def recommended_age(curve: DecayCurve, costs: CostSettings | None, tolerance: float) -> Recommendation:
    """How old a model may become: what costs least, or, where costs are not given, what stays within the tolerance.

    It is the lower end of its interval, and never beyond the last measured age.

    Args:
        tolerance: the excess log loss that is borne, as a share of a fresh model's log loss.
    """
    return _by_tolerance(curve, tolerance) if costs is None else _by_costs(curve, costs)


def cost_rates(ages: Floats, excess: Floats, costs: CostSettings) -> tuple[npt.NDArray[np.intp], Floats]:
    """The cost per day of retraining every T days, (C + v * integral of L from 0 to T) / T, for whole days T.

    L joins the points by straight lines, from no excess at age 0. T ends at the last age: nothing is extrapolated.

    Returns:
        T, and the cost of each.
    """
    days = np.arange(1, max(1, int(ages[-1])) + 1)
    knots = np.union1d(np.concatenate([[0.0], ages]), days)
    loss = np.interp(knots, [0.0, *ages], [0.0, *excess])
    integral = np.concatenate([[0.0], np.cumsum(np.diff(knots) * (loss[1:] + loss[:-1]) / 2)])
    return days, (costs.training + costs.loss_per_day * integral[np.searchsorted(knots, days)]) / days


def closed_form(slope: float, costs: CostSettings) -> float:
    """The age in days at which retraining costs least, sqrt(2 C / (v slope)), where the loss rises in proportion.

    The cost per day, C / T + v slope T / 2, is least there. Infinite where it does not rise.

    >>> closed_form(slope=0.001, costs=CostSettings(training=50, loss_per_day=1000))
    10.0
    """
    return math.sqrt(2 * costs.training / (costs.loss_per_day * slope)) if slope > 0 else math.inf


def _by_costs(curve: DecayCurve, costs: CostSettings) -> Recommendation:
    slope, pairs = curve.slope, np.array([point.pairs for point in curve.points])
    best = _cheapest_age(curve.ages, curve.excess, pairs, costs)
    drawn = [_cheapest_age(curve.ages, replicate, pairs, costs) for replicate in curve.replicates]
    low, high = np.quantile(drawn, [(1 - curve.confidence) / 2, (1 + curve.confidence) / 2])
    days, rates = cost_rates(curve.ages, curve.excess, costs)
    closed = closed_form(slope.estimate, costs)
    reason = (
        f"A training costs {costs.training:g}, a day at 1 more log loss {costs.loss_per_day:g}, and the log loss rises "
        f"by {slope.estimate:.2g} a day ({slope.low:.2g} to {slope.high:.2g}). Retraining every {best} days costs "
        f"least, {curve.confidence:.0%} interval {int(low)} to {int(high)} days; the lower end is taken. "
        f"In proportion to age it would be {_days(closed)}."
    )
    return Recommendation(
        max_age_days=max(1, int(low)),
        low=int(low),
        high=int(high),
        method="costs",
        reason=reason + (_no_more(curve) if best == curve.last_age else ""),
        # Past it, one more day costs more than the average day of the best cycle.
        bound=float(rates[days == best][0] / costs.loss_per_day),
        slope=slope,
        closed_form_days=closed,
    )


def _cheapest_age(ages: Floats, excess: Floats, pairs: Positions, costs: CostSettings) -> int:
    """In whole days; the last age where the loss does not rise."""
    known = np.isfinite(excess)
    if not known.any() or _slopes(ages, excess, pairs) <= 0:
        return max(1, int(ages[-1]))
    days, rates = cost_rates(ages[known], excess[known], costs)
    return int(days[np.argmin(rates)])


def _slopes(ages: Floats, excess: Floats, pairs: Positions) -> Floats:
    """Least squares through the origin along the last axis, each age weighing as many pairs as it has."""
    known = np.isfinite(excess)
    over = (known * pairs * ages**2).sum(axis=-1)
    slopes: Floats = (np.where(known, excess, 0.0) * pairs * ages).sum(axis=-1) / np.where(over > 0, over, np.nan)
    return slopes


def _by_tolerance(curve: DecayCurve, tolerance: float) -> Recommendation:
    bound = tolerance * curve.fresh_loss
    low, too_old = _oldest_within(curve, [point.high for point in curve.points], bound)
    high, _ = _oldest_within(curve, [point.low for point in curve.points], bound)
    allowed = f"{bound:.4f} ({tolerance:.1%} of a fresh model's {curve.fresh_loss:.4f})"
    if too_old is None:
        reason = f"At no age up to {low} days may the excess log loss be above {allowed}." + _no_more(curve)
    elif too_old is curve.points[0]:
        reason = (
            f"Already at {too_old.age_days:g} days, the youngest age that was measured, the excess log loss may be "
            f"{too_old.high:.4f}, above {allowed}; label times closer to each other would tell more."
        )
    else:
        reason = (
            f"Up to {low} days the excess log loss is within {allowed}; at {too_old.age_days:g} days it is "
            f"{too_old.excess:.4f} and may be {too_old.high:.4f} ({curve.confidence:.0%} confidence)."
        )
    return Recommendation(low, low, high, "tolerance", reason, bound)


def _oldest_within(curve: DecayCurve, values: list[float], bound: float) -> tuple[int, AgePoint | None]:
    """The last age, in whole days, before a value exceeds the bound; at least the first; and the point that does."""
    for number, (point, value) in enumerate(zip(curve.points, values, strict=True)):
        if value > bound:
            return max(1, int(curve.points[max(0, number - 1)].age_days)), point
    return curve.last_age, None


def _no_more(curve: DecayCurve) -> str:
    return f" No model older than {curve.last_age} days was met often enough, so the data vouch for no more."


def _days(age: float) -> str:
    return f"{age:.0f} days" if math.isfinite(age) else "never"
