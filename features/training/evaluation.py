"""How good a model is on rows it never saw, how sure that is, on which slices, and by which features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from sklearn.inspection import permutation_importance

from features.training.data import inputs, outcomes
from features.training.estimator import scores
from features.training.resampling import Booleans, Entities, Floats, Interval, metric_interval

METRICS = ("roc_auc", "average_precision", "accuracy", "brier", "log_loss")
CALIBRATION_BINS = 10
IMPORTANCE_REPEATS = 5
# Fewer rows say nothing of a slice.
MIN_SLICE_ROWS = 200


@dataclass(frozen=True)
class CalibrationBin:
    """About a tenth of the rows, by score: what the model said on average, and how many it was true of."""

    mean_score: float
    share_true: float
    rows: int


@dataclass(frozen=True)
class Importance:
    """By how much the metric drops when a feature's values change places; the mean and deviation over repeats."""

    feature: str
    drop: float
    deviation: float


@dataclass(frozen=True)
class Slice:
    """The metric on a part of the rows; NaN where the part is too small or has one class."""

    name: str
    rows: int
    metric: Interval


@dataclass(frozen=True)
class Evaluation:
    """A model on its holdout.

    Attributes:
        metrics: each of METRICS with its interval.
        calibration_error: the mean distance of the bins' shares from their scores, weighted by rows.
        simple: the metric of the simple models on the same rows.
    """

    metric: str
    rows: int
    metrics: dict[str, Interval]
    calibration: tuple[CalibrationBin, ...]
    calibration_error: float
    importance: tuple[Importance, ...]
    slices: tuple[Slice, ...]
    simple: dict[str, Interval]


def evaluate(
    estimator: Any,
    simple: Mapping[str, Any],
    holdout: pd.DataFrame,
    features: Sequence[str],
    label: str,
    entity: Sequence[str],
    slices: Mapping[str, Booleans],
    *,
    metric: str,
    confidence: float,
    seed: int,
) -> Evaluation:
    """Judges a fitted estimator, and the simple ones beside it, on the holdout.

    Args:
        slices: which rows belong to each.
        metric: what slices and features are judged by.
    """
    truth, score = outcomes(holdout, label), scores(estimator, holdout, features)
    entities = Entities(holdout[list(entity)], seed=seed)
    calibration = calibration_bins(truth, score)
    return Evaluation(
        metric=metric,
        rows=len(holdout),
        metrics={name: metric_interval(name, truth, score, entities, confidence) for name in METRICS},
        calibration=calibration,
        calibration_error=calibration_error(calibration),
        importance=importances(estimator, holdout, features, label, metric, seed),
        slices=tuple(
            Slice(
                name, int(rows.sum()), slice_metric(metric, truth, score, holdout[list(entity)], rows, confidence, seed)
            )
            for name, rows in slices.items()
        ),
        simple={
            name: metric_interval(metric, truth, scores(model, holdout, features), entities, confidence)
            for name, model in simple.items()
        },
    )


def slice_metric(
    metric: str, truth: Booleans, score: Floats, entity: pd.DataFrame, rows: Booleans, confidence: float, seed: int = 0
) -> Interval:
    """The metric on some of the rows, with its interval."""
    if rows.sum() < MIN_SLICE_ROWS:
        return Interval(float("nan"), float("nan"), float("nan"))
    return metric_interval(metric, truth[rows], score[rows], Entities(entity[rows], seed=seed), confidence)


def calibration_bins(truth: Booleans, score: Floats) -> tuple[CalibrationBin, ...]:
    """Ten bins of about equally many rows, from the lowest scores to the highest; fewer where many score the same."""
    lower = stats.rankdata(score, method="min") - 1  # how many score less: the same for all of one score
    place = (lower * CALIBRATION_BINS // len(score)).astype(int)
    bins = (place == number for number in range(CALIBRATION_BINS))
    return tuple(
        CalibrationBin(float(score[rows].mean()), float(truth[rows].mean()), int(rows.sum()))
        for rows in bins
        if rows.any()
    )


def calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """Expected calibration error, as Naeini, Cooper and Hauskrecht, AAAI 2015, on bins of about equally many rows."""
    rows = sum(each.rows for each in bins)
    return sum(each.rows * abs(each.mean_score - each.share_true) for each in bins) / rows


def importances(
    estimator: Any, rows: pd.DataFrame, features: Sequence[str], label: str, metric: str, seed: int
) -> tuple[Importance, ...]:
    """Permutation importance of each feature (Breiman, Random Forests, 2001), the largest first."""
    found = permutation_importance(
        estimator,
        inputs(rows, features),
        outcomes(rows, label),
        scoring=metric,
        n_repeats=IMPORTANCE_REPEATS,
        random_state=seed,
    )
    each = map(Importance, features, found.importances_mean.tolist(), found.importances_std.tolist())
    return tuple(sorted(each, key=lambda one: -one.drop))


def score_histogram(
    truth: Booleans, score: Floats, bins: int = 20
) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.int_], Floats]:
    """Counts of true and of false rows by score, and the edges between 0 and 1."""
    edges = np.linspace(0, 1, bins + 1)
    return np.histogram(score[truth], edges)[0], np.histogram(score[~truth], edges)[0], edges
