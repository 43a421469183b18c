"""How good a model's scores were, now that it is known what became true.

Rows that were logged with some probability stand for as many as one over it (Horvitz and Thompson, J. Am. Stat. Assoc.
47, 1952): every metric is weighted, and its interval is the bootstrap over entities of `features.training.resampling`.
"""

import numpy as np

from features.training.evaluation import CALIBRATION_BINS
from features.training.resampling import (
    Booleans,
    Entities,
    Floats,
    Interval,
    Weighted,
    counts_by_score,
    dot,
    intervals,
    quotient,
    sums_by_place,
    weighted,
)

METRICS = ("accuracy", "roc_auc", "average_precision", "brier", "calibration_error", "lift")
# Of whom lift is told: the tenth that scores highest.
TOP = 0.1


def realised_performance(
    truth: Booleans, score: Floats, weights: Floats, entities: Entities, confidence: float
) -> dict[str, Interval]:
    """Each of METRICS with its interval.

    The calibration error is a sum of distances, which chance only adds to: of a well calibrated model its interval lies
    above the estimate, which itself lies above the truth.

    Args:
        weights: how many a row stands for.

    Returns:
        NaN where nothing is known: fewer than two rows, one class only, a score that is no number.
    """
    unknown = Interval(float("nan"), float("nan"), float("nan"))
    if len(truth) < 2 or truth.all() or not truth.any() or not np.isfinite(score).all():
        return dict.fromkeys(METRICS, unknown)
    metrics = {name: weighted(name, truth, score) for name in ("accuracy", "roc_auc", "average_precision", "brier")}
    metrics |= {"calibration_error": calibration_error(truth, score), "lift": lift(truth, score)}
    return intervals(metrics, entities, confidence, weights)


def share_true(truth: Booleans, weights: Floats) -> float:
    """The weighted share of true labels; NaN without any."""
    return float(weights @ truth / weights.sum()) if len(truth) else float("nan")


def calibration_error(truth: Booleans, score: Floats) -> Weighted:
    """`features.training.evaluation.calibration_error` as a function of row weights; NaN without any weight.

    Every score is finite. The bins are those of the weights, about a tenth in each, as if every row were there as often
    as it weighs.
    """
    distinct, counts = np.unique(score), counts_by_score(truth, score)

    def error(weights: Floats) -> Floats:
        positive, negative = counts(weights)
        rows = positive + negative
        total = rows.sum(axis=-1, keepdims=True)
        lower = np.cumsum(rows, axis=-1) - rows
        # Above the highest score that has any weight there is no weight, either: where it goes does not matter.
        place = np.floor_divide(lower * CALIBRATION_BINS, total, out=np.zeros_like(lower), where=total > 0)
        bins = np.minimum(place, CALIBRATION_BINS - 1).astype(np.int64)
        gaps = sums_by_place(bins, rows * distinct - positive, CALIBRATION_BINS)
        return quotient(np.abs(gaps).sum(axis=-1), total[..., 0])

    return error


def lift(truth: Booleans, score: Floats) -> Weighted:
    """The share of true rows among the top tenth by score over that among all, as a function of row weights.

    Where the tenth ends within a tie, all of the tied rows count in part, so the order of rows does not matter. NaN
    where no row is true.
    """
    counts = counts_by_score(truth, score)

    def lifted(weights: Floats) -> Floats:
        positive, negative = (column[..., ::-1] for column in counts(weights))
        rows, every = positive + negative, weights.sum(axis=-1)
        top = TOP * every[..., None]
        higher = np.cumsum(rows, axis=-1) - rows
        part = np.divide(np.clip(top - higher, 0, rows), rows, out=np.zeros_like(rows), where=rows > 0)
        return quotient(dot(part, positive), top[..., 0] * quotient(positive.sum(axis=-1), every))

    return lifted
