"""How good a model's scores are, before anybody knows what became true: confidence-based performance estimation.

CBPE is NannyML's (https://nannyml.readthedocs.io/en/stable/how_it_works/performance_estimation.html; Bialek, Kuberski,
Perrakis and Bifet, Estimating Model Performance Under Covariate Shift Without Labels, arXiv 2401.08348). A calibrated
score is the probability that the label is true, so each metric has an expectation. It follows the inputs wherever they
move. What it cannot see is concept drift: when rows with the same score come true more or less often than they did in
the holdout, the estimate stays what it was, and only labels tell.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from features.training.evaluation import CalibrationBin
from features.training.resampling import Floats, Interval

UNKNOWN = Interval(float("nan"), float("nan"), float("nan"))
Calibration = Callable[[Floats], Floats]
# Surer than this is no score.
SURE = 1e-9


@dataclass(frozen=True)
class Estimated:
    """What is expected of scores; accuracy is at 0.5 of the raw score, as the service decides."""

    accuracy: Interval
    roc_auc: Interval
    brier: Interval


def calibration_of(bins: Sequence[CalibrationBin]) -> Calibration:
    """The probability that is true at a score, by the reliability bins of a holdout.

    Bins out of order are pooled (isotonic regression, weighted by rows), so that more never means less. Between the
    bins' mean scores log-odds are interpolated, and beyond the outermost a score is off by as much as there, in
    log-odds. Held constant instead, as isotonic regression would, the estimate did not follow scores that moved
    outwards: a shift of half their deviation cost it one to two points of ROC AUC.

    Args:
        bins: at least one.
    """
    ordered = sorted(bins, key=lambda each: each.mean_score)
    rows = np.array([each.rows for each in ordered]) + 1
    # Half a row of each kind more: no bin is so sure that its log-odds are infinite.
    shares = (np.array([each.share_true * each.rows for each in ordered]) + 0.5) / rows
    at = _log_odds(np.array([each.mean_score for each in ordered]))
    odds = logit(IsotonicRegression().fit(at, shares, sample_weight=rows).predict(at))
    reach = 2 * _log_odds(np.ones(1))  # from one end of the scores to the other
    at, odds = (np.concatenate([line[:1] - reach, line, line[-1:] + reach]) for line in (at, odds))

    def probability(score: Floats) -> Floats:
        return np.asarray(expit(np.interp(_log_odds(score), at, odds)), dtype=np.float64)

    return probability


def _log_odds(score: Floats) -> Floats:
    """Finite, also where the model is certain."""
    return np.asarray(logit(np.clip(score, SURE, 1 - SURE)), dtype=np.float64)


def estimated_performance(
    score: Floats, calibration: Calibration, weights: Floats | None = None, *, confidence: float
) -> Estimated:
    """The metrics to expect of scores, one per entity.

    The intervals are as wide as those that the labels will have: both which entities came and what becomes of them is
    left to chance. They cover sampling, not concept drift, and they take the calibration as given: with a holdout no
    larger than the cohort they are too narrow. They are in closed form (the normal approximation to a weighted mean;
    for the order of pairs DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988). An entity is there once, so there is
    nothing to keep together, and a bootstrap of each hour's scores would say the same at a thousand times the cost.

    Args:
        weights: how many entities a row stands for: one over the probability that it was logged; by default 1.

    Returns:
        NaN where nothing is known: no rows, a score that is no number; for the order, no two rows that may differ.
    """
    weights = np.ones(len(score)) if weights is None else weights
    if not len(score) or not np.isfinite(score).all() or not weights.sum() > 0:
        return Estimated(UNKNOWN, UNKNOWN, UNKNOWN)
    probability = calibration(score)
    deviations = float(stats.norm.ppf((1 + confidence) / 2))
    said = score >= 0.5
    return Estimated(
        accuracy=_mean(said.astype(np.float64), (~said).astype(np.float64), probability, weights, deviations),
        roc_auc=_roc_auc(score, probability, weights, deviations),
        brier=_mean((1 - score) ** 2, score**2, probability, weights, deviations),
    )


def _mean(if_true: Floats, if_false: Floats, probability: Floats, weights: Floats, deviations: float) -> Interval:
    """The mean of what a row counts if its label is true, and if it is false."""
    total = weights.sum()
    mean = float(weights @ (probability * if_true + (1 - probability) * if_false) / total)
    spread = probability * (if_true - mean) ** 2 + (1 - probability) * (if_false - mean) ** 2
    return _within_reason(mean, float(weights**2 @ spread / total**2), deviations)


def _roc_auc(score: Floats, probability: Floats, weights: Floats, deviations: float) -> Interval:
    """The expected weight of (true, false) pairs in order, half of a tie, over that of all such pairs.

    A row is true with p and false with 1 - p, so a pair of rows i and j weighs p_i (1 - p_j). A row makes no pair with
    itself, since it has one label: p_i (1 - p_i) is left out of both. Sorting the scores replaces the double sum.
    """
    positive, negative = weights * probability, weights * (1 - probability)
    _, place = np.unique(score, return_inverse=True)
    positive_at, negative_at = np.bincount(place, positive), np.bincount(place, negative)
    # Of each row, the false ones below it and the true ones above it: half of a tie, and without half of itself.
    below = (np.cumsum(negative_at) - negative_at / 2)[place] - negative / 2
    above = (positive.sum() - np.cumsum(positive_at) + positive_at / 2)[place] - positive / 2
    pairs = positive.sum() * negative.sum() - positive @ negative
    if not pairs > 0:
        return UNKNOWN
    estimate = float(positive @ below / pairs)
    of_true = (below / negative.sum() - estimate) / positive.sum()
    of_false = (above / positive.sum() - estimate) / negative.sum()
    variance = weights**2 @ (probability * of_true**2 + (1 - probability) * of_false**2)
    return _within_reason(estimate, float(variance), deviations)


def _within_reason(estimate: float, variance: float, deviations: float) -> Interval:
    """All of these metrics are between 0 and 1."""
    reach = deviations * float(np.sqrt(variance))
    return Interval(estimate, max(0.0, estimate - reach), min(1.0, estimate + reach))
