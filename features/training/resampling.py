"""How sure a metric is: the percentile interval of a bootstrap over entities.

An entity's rows resemble each other, so they are drawn together or not at all (Field and Welsh, Bootstrapping clustered
data, J. R. Statist. Soc. B 69, 2007; the percentile interval: Efron and Tibshirani, An Introduction to the Bootstrap,
1993, chapter 13). A draw of entities is a weight for each row, so a metric is prepared once and evaluated by weights.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Weighted = Callable[[Floats], float]

REPLICATES = 1000
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
        """Of each draw, how often each row is in it."""
        rng = np.random.default_rng(self._seed)
        for _ in range(self._replicates):
            drawn = np.bincount(rng.integers(0, self.count, self.count), minlength=self.count)
            yield drawn[self._codes].astype(np.float64)


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
    def value(weights: Floats) -> float:
        return sum(sign * metric(weights) for sign, metric in terms)

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
    draws = np.array([[metric(times * sampling) for metric in metrics.values()] for times in entities.weights()])
    return {
        name: _percentiles(metric(sampling), draws[:, place], confidence)
        for place, (name, metric) in enumerate(metrics.items())
    }


def _percentiles(estimate: float, draws: Floats, confidence: float) -> Interval:
    known = draws[np.isfinite(draws)]
    if not np.isfinite(estimate) or len(known) < (1 - MOST_UNDEFINED) * len(draws):
        return Interval(estimate, np.nan, np.nan)
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, float(low), float(high))


def weighted(metric: str, truth: Booleans, score: Floats) -> Weighted:
    """The metric as a function of row weights, equal to scikit-learn's with sample_weight.

    NaN where it is undefined: one class only, or a score that is no number.
    """
    if not np.isfinite(score).all():
        return lambda weights: float("nan")
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


def _dot(left: Floats, right: Floats) -> float:
    # Not `@`: BLAS shares a product of more than 10,000 numbers among threads, which on a busy machine wait for each
    # other ten times as long as they multiply.
    return float((left * right).sum())


def _mean(values: npt.NDArray[np.generic]) -> Weighted:
    numbers = values.astype(np.float64)

    def mean(weights: Floats) -> float:
        total = weights.sum()
        return float(_dot(weights, numbers) / total) if total else float("nan")

    return mean


def counts_by_score(truth: Booleans, score: Floats) -> Callable[[Floats], tuple[Floats, Floats]]:
    """Weights of true and false rows at each distinct score, lowest first."""
    distinct, place = np.unique(score, return_inverse=True)
    positive, negative = place[truth], place[~truth]

    def counts(weights: Floats) -> tuple[Floats, Floats]:
        return (
            np.bincount(positive, weights[truth], len(distinct)).astype(np.float64),
            np.bincount(negative, weights[~truth], len(distinct)).astype(np.float64),
        )

    return counts


def _roc_auc(truth: Booleans, score: Floats) -> Weighted:
    """The share of (true, false) pairs that the score has in order; half of a tie."""
    counts = counts_by_score(truth, score)

    def roc_auc(weights: Floats) -> float:
        positive, negative = counts(weights)
        pairs = positive.sum() * negative.sum()
        below = np.cumsum(negative) - negative / 2
        return float(_dot(positive, below) / pairs) if pairs else float("nan")

    return roc_auc


def _average_precision(truth: Booleans, score: Floats) -> Weighted:
    counts = counts_by_score(truth, score)

    def average_precision(weights: Floats) -> float:
        positive, negative = (column[::-1] for column in counts(weights))
        total = positive.sum()
        if not total or not negative.sum():
            return float("nan")
        found, flagged = np.cumsum(positive), np.cumsum(positive + negative)
        precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
        return float(_dot(positive, precision) / total)

    return average_precision
