"""How sure a metric is: the percentile interval of a bootstrap over entities.

An entity's rows resemble each other, so they are drawn together or not at all (Field and Welsh, Bootstrapping clustered
data, J. R. Statist. Soc. B 69, 2007; the percentile interval: Efron and Tibshirani, An Introduction to the Bootstrap,
1993, chapter 13). A draw of entities is a weight for each row, so a metric is prepared once and evaluated by weights,
of many draws at once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
# Weights of all rows, of one draw or of many (draws x rows), to the metric of each draw.
Weighted = Callable[[Floats], Floats]

REPLICATES = 1000
# How many weights are in memory at once, if there are not more rows than that.
BLOCK = 1 << 13
# With more replicates than this share undefined, as where a slice has hardly any positive, nothing is known.
MOST_UNDEFINED = 0.05


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval; NaN where it cannot be known."""

    estimate: float
    low: float
    high: float


class Entities:
    """Who each row belongs to, and the draws of them: the same for the same rows and seed, in whatever order they come.

    Args:
        keys: one column or several, row by row.
    """

    def __init__(self, keys: pd.DataFrame, *, replicates: int = REPLICATES, seed: int = 0) -> None:
        self._codes = keys.groupby(list(keys.columns), dropna=False).ngroup().to_numpy()
        self.count = int(self._codes.max()) + 1 if len(self._codes) else 0
        self._replicates = replicates
        self._seed = seed

    def weights(self) -> Iterator[Floats]:
        """How often each row is in each draw: some draws at a time, as an array of draws x rows."""
        rng = np.random.default_rng(self._seed)
        at_once = max(1, BLOCK // len(self._codes))
        for begin in range(0, self._replicates, at_once):
            draws = min(at_once, self._replicates - begin)
            drawn = rng.integers(0, self.count, (draws, self.count))
            yield sums_by_place(drawn, np.ones(drawn.shape), self.count)[:, self._codes]


def metric_interval(metric: str, truth: Booleans, score: Floats, entities: Entities, confidence: float) -> Interval:
    """A model's metric."""
    return _interval([(1.0, weighted(metric, truth, score))], len(truth), entities, confidence)


def difference_interval(
    metric: str, truth: Booleans, score: Floats, other: Floats, entities: Entities, confidence: float
) -> Interval:
    """A model's metric minus another's on the same rows: paired, since both meet the same easy and hard rows."""
    both = [(1.0, weighted(metric, truth, score)), (-1.0, weighted(metric, truth, other))]
    return _interval(both, len(truth), entities, confidence)


def _interval(terms: Sequence[tuple[float, Weighted]], rows: int, entities: Entities, confidence: float) -> Interval:
    def value(weights: Floats) -> Floats:
        return np.asarray(sum(sign * metric(weights) for sign, metric in terms))

    return intervals({"value": value}, entities, confidence, np.ones(rows))["value"]


def intervals(
    metrics: Mapping[str, Weighted], entities: Entities, confidence: float, sampling: Floats
) -> dict[str, Interval]:
    """Metrics with their intervals, all on the same draws.

    Args:
        sampling: how many a row stands for: one over the probability that it is among the rows.
    """
    if not len(sampling):
        return dict.fromkeys(metrics, Interval(np.nan, np.nan, np.nan))
    draws: dict[str, list[Floats]] = {name: [] for name in metrics}
    for times in entities.weights():
        weights = times * sampling
        for name, metric in metrics.items():
            draws[name].append(metric(weights))
    return {
        name: _percentiles(float(metric(sampling)), np.concatenate(draws[name]), confidence)
        for name, metric in metrics.items()
    }


def _percentiles(estimate: float, draws: Floats, confidence: float) -> Interval:
    known = draws[np.isfinite(draws)]
    if not np.isfinite(estimate) or len(known) < (1 - MOST_UNDEFINED) * len(draws):
        return Interval(estimate, np.nan, np.nan)
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, float(low), float(high))


def unweighted(metric: str, truth: Booleans, score: Floats) -> float:
    """The metric of rows that all weigh the same; NaN where it is undefined."""
    return float(weighted(metric, truth, score)(np.ones(len(truth))))


def weighted(metric: str, truth: Booleans, score: Floats) -> Weighted:
    """The metric as a function of row weights, equal to scikit-learn's with sample_weight.

    NaN where it is undefined: one class only, or a score that is no number.
    """
    if not np.isfinite(score).all():
        return lambda weights: np.full(weights.shape[:-1], np.nan)
    match metric:
        case "roc_auc":
            return _roc_auc(truth, score)
        case "average_precision":
            return _average_precision(truth, score)
        case "accuracy":
            return _mean((score >= 0.5) == truth)
        case "brier":
            return _mean((score - truth) ** 2)
        case "log_loss":
            smallest = np.finfo(np.float64).eps
            return _mean(-np.log(np.clip(np.where(truth, score, 1 - score), smallest, 1 - smallest)))
    raise ValueError(f"no metric {metric!r}")


def dot(left: Floats, right: Floats) -> Floats:
    """The sum of products along the last axis."""
    # Not `@`: BLAS shares a product of more than 10,000 numbers among threads, which on a busy machine wait for each
    # other ten times as long as they multiply.
    return np.asarray((left * right).sum(axis=-1))


def quotient(numerator: Floats, denominator: Floats) -> Floats:
    """NaN where the denominator is zero."""
    unknown = np.full(np.shape(denominator), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=unknown, where=denominator != 0))


def sums_by_place(places: npt.NDArray[np.int64], values: Floats, count: int) -> Floats:
    """The sum of the values at each of `count` places along the last axis, for one draw or for many."""
    draws = places.reshape(-1, places.shape[-1])
    apart = draws + count * np.arange(len(draws))[:, None]
    sums = np.bincount(apart.ravel(), values.ravel(), len(draws) * count).astype(np.float64)
    return sums.reshape(*places.shape[:-1], count)


def _mean(values: npt.NDArray[np.generic]) -> Weighted:
    numbers = values.astype(np.float64)
    return lambda weights: quotient(dot(weights, numbers), weights.sum(axis=-1))


def counts_by_score(truth: Booleans, score: Floats) -> Callable[[Floats], tuple[Floats, Floats]]:
    """Weights of true and false rows at each distinct score, lowest first; every score is finite."""
    order = np.argsort(score, kind="stable")
    is_true = truth[order].astype(np.float64)
    is_false = 1 - is_true
    begins = np.flatnonzero(np.diff(score[order], prepend=np.nan))

    def counts(weights: Floats) -> tuple[Floats, Floats]:
        ordered = np.take(weights, order, axis=-1)
        # Each by itself: a difference of sums would not be zero where there is no weight.
        return (
            np.add.reduceat(ordered * is_true, begins, axis=-1),
            np.add.reduceat(ordered * is_false, begins, axis=-1),
        )

    return counts


def _roc_auc(truth: Booleans, score: Floats) -> Weighted:
    """The share of (true, false) pairs that the score has in order; half of a tie."""
    counts = counts_by_score(truth, score)

    def roc_auc(weights: Floats) -> Floats:
        positive, negative = counts(weights)
        below = np.cumsum(negative, axis=-1) - negative / 2
        return quotient(dot(positive, below), positive.sum(axis=-1) * negative.sum(axis=-1))

    return roc_auc


def _average_precision(truth: Booleans, score: Floats) -> Weighted:
    counts = counts_by_score(truth, score)

    def average_precision(weights: Floats) -> Floats:
        positive, negative = (column[..., ::-1] for column in counts(weights))
        found, flagged = np.cumsum(positive, axis=-1), np.cumsum(positive + negative, axis=-1)
        precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
        known = quotient(dot(positive, precision), positive.sum(axis=-1))
        return np.where(negative.sum(axis=-1) > 0, known, np.nan)

    return average_precision
