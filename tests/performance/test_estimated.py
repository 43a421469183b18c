"""Performance before labels: the fast sums equal naive ones, and it is right where its assumption holds, only there."""

from collections.abc import Callable
from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from features.performance.estimated import Estimated, calibration_of, estimated_performance
from features.training.evaluation import CalibrationBin, calibration_bins
from features.training.resampling import Booleans, Floats, Interval

METRICS: dict[str, Callable[[Booleans, Floats], float]] = {
    "accuracy": lambda truth, score: float(np.mean((score >= 0.5) == truth)),
    "roc_auc": roc_auc_score,
    "brier": lambda truth, score: float(np.mean((score - truth) ** 2)),
}
# Score, probability, weight.
ROWS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.500001, 0.8, 1.0]),
        st.sampled_from([0.0, 0.05, 0.3, 0.5, 0.9, 1.0]),
        st.sampled_from([1.0, 2.0, 3.5]),
    ),
    min_size=1,
    max_size=8,
)


def columns(rows: list[tuple[float, float, float]]) -> tuple[Floats, Floats, Floats]:
    score, probability, weight = (np.array(column) for column in zip(*rows, strict=True))
    return score, probability, weight


def estimated(score: Floats, probability: Floats, weights: Floats | None = None) -> Estimated:
    """Of scores whose probabilities are given row by row."""
    return estimated_performance(score, lambda _: probability, weights, confidence=0.95)


def as_it_is(score: Floats) -> Floats:
    return score


def world(rows: int, seed: int, moved: float = 0.0, distorted: float = 1.0) -> tuple[Booleans, Floats]:
    """Outcomes and the scores of a model that knows their log-odds, moved and as seen through a distortion."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1 + moved, 1.5, rows)
    return rng.random(rows) < 1 / (1 + np.exp(-odds)), 1 / (1 + np.exp(-distorted * odds))


def holds(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high


# The sums


@given(rows=ROWS)
@hypothesis_settings(deadline=None)
def test_the_order_of_pairs_is_the_naive_double_sum(rows: list[tuple[float, float, float]]) -> None:
    score, probability, weight = columns(rows)
    in_order = pairs = 0.0
    for i, j in product(range(len(rows)), repeat=2):
        if i != j:
            pair = weight[i] * weight[j] * probability[i] * (1 - probability[j])
            pairs += pair
            in_order += pair * ((score[i] > score[j]) + (score[i] == score[j]) / 2)
    found = estimated(score, probability, weight).roc_auc.estimate
    if pairs > 1e-9:
        assert found == pytest.approx(in_order / pairs)
    else:
        assert np.isnan(found)


@given(rows=ROWS)
@hypothesis_settings(deadline=None, max_examples=30)
def test_it_is_what_all_possible_labels_give_on_average(rows: list[tuple[float, float, float]]) -> None:
    score, probability, weight = columns(rows)
    right = error = in_order = pairs = 0.0
    for labels in product([False, True], repeat=len(rows)):
        truth = np.array(labels)
        chance = np.prod(np.where(truth, probability, 1 - probability))
        right += chance * weight @ ((score >= 0.5) == truth)
        error += chance * weight @ (score - truth) ** 2
        true_and_false = np.outer(weight * truth, weight * ~truth)
        higher = np.sign(score[:, None] - score[None, :]) / 2 + 0.5
        pairs += chance * true_and_false.sum()
        in_order += chance * (true_and_false * higher).sum()
    found = estimated(score, probability, weight)
    assert found.accuracy.estimate == pytest.approx(right / weight.sum())
    assert found.brier.estimate == pytest.approx(error / weight.sum())
    if pairs > 1e-9:
        assert found.roc_auc.estimate == pytest.approx(in_order / pairs)


@pytest.mark.parametrize("metric", METRICS)
def test_where_the_labels_are_certain_it_is_the_metric_itself(metric: str) -> None:
    truth, score = world(500, 0)
    found = getattr(estimated(score, truth.astype(float)), metric)
    assert found.estimate == pytest.approx(METRICS[metric](truth, score))


def test_the_interval_of_the_order_is_that_of_delong_where_the_labels_are_certain() -> None:
    truth, score = world(300, 0)
    higher = np.sign(score[truth][:, None] - score[~truth][None, :]) / 2 + 0.5
    variance = higher.mean(axis=1).var() / truth.sum() + higher.mean(axis=0).var() / (~truth).sum()
    found = estimated(score, truth.astype(float)).roc_auc
    assert found.high - found.low == pytest.approx(2 * 1.959964 * np.sqrt(variance))


@given(rows=ROWS, order=st.randoms(use_true_random=False))
@hypothesis_settings(deadline=None, max_examples=30)
def test_rows_in_another_order_say_the_same(rows: list[tuple[float, float, float]], order: Random) -> None:
    shuffled = list(rows)
    order.shuffle(shuffled)
    one, other = estimated(*columns(rows)), estimated(*columns(shuffled))
    for metric in METRICS:
        assert vars(getattr(one, metric)) == pytest.approx(vars(getattr(other, metric)), nan_ok=True)


def test_a_row_of_weight_two_counts_as_two_entities_in_the_mean_and_is_less_sure() -> None:
    _, score = world(200, 0)
    weights = np.random.default_rng(1).integers(1, 3, 200).astype(float)
    weighted, repeated = (
        estimated_performance(*given, confidence=0.95)
        for given in ((score, as_it_is, weights), (score.repeat(weights.astype(int)), as_it_is))
    )
    for metric in ("accuracy", "brier"):
        one, other = getattr(weighted, metric), getattr(repeated, metric)
        assert one.estimate == pytest.approx(other.estimate)
        assert one.high - one.low > other.high - other.low


@pytest.mark.parametrize("score", [[], [np.nan, 0.5], [np.inf, 0.5]])
def test_nothing_is_known_of_no_rows_and_of_what_is_no_number(score: list[float]) -> None:
    found = estimated_performance(np.array(score), as_it_is, confidence=0.95)
    assert all(np.isnan(list(vars(getattr(found, metric)).values())).all() for metric in METRICS)


def test_one_row_has_no_order() -> None:
    found = estimated(np.array([0.7]), np.array([0.7]))
    assert np.isnan(found.roc_auc.estimate)
    assert found.accuracy.estimate == pytest.approx(0.7)


# The calibration


def test_bins_that_are_out_of_order_are_pooled() -> None:
    bins = [CalibrationBin(0.2, 0.3, 1000), CalibrationBin(0.4, 0.1, 3000), CalibrationBin(0.8, 0.7, 1000)]
    probability = calibration_of(bins)(np.linspace(0, 1, 201))
    assert (np.diff(probability) >= 0).all()
    assert probability[[40, 60, 80]] == pytest.approx(0.15, abs=1e-3)
    assert probability[160] == pytest.approx(0.7, abs=1e-3)
    assert ((probability >= 0) & (probability <= 1)).all()


def test_a_calibrated_model_is_left_as_it_is() -> None:
    truth, score = world(200_000, 0)
    at = np.array([0.003, 0.1, 0.3, 0.5, 0.7, 0.9, 0.997])
    assert calibration_of(calibration_bins(truth, score))(at) == pytest.approx(at, abs=0.02)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_one_bin_of_one_kind_is_enough(share: float) -> None:
    probability = calibration_of([CalibrationBin(0.4, share, 100)])(np.array([0.0, 0.4, 1.0]))
    assert np.isfinite(probability).all()
    assert (np.diff(probability) >= 0).all()
    assert probability[1] == pytest.approx(share, abs=0.01)


# How good it is


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("distorted", [1.0, 0.6, 1.5])
@pytest.mark.parametrize("moved", [0.0, 0.7, -0.7])
def test_it_is_close_to_what_comes_true_also_where_the_inputs_moved(
    metric: str, distorted: float, moved: float
) -> None:
    calibration = calibration_of(calibration_bins(*world(100_000, 0, distorted=distorted)))
    worlds = [world(4000, seed, moved, distorted) for seed in range(1, 101)]
    found = [getattr(estimated_performance(score, calibration, confidence=0.95), metric) for _, score in worlds]
    realised = [METRICS[metric](*each) for each in worlds]
    assert np.mean([each.estimate for each in found]) == pytest.approx(np.mean(realised), abs=0.01)
    if distorted == 1:
        # What a distortion costs is less than a point, but that is as much as the interval of this many rows.
        assert np.mean([holds(each, value) for each, value in zip(found, realised, strict=True)]) > 0.88


def test_concept_drift_is_what_it_cannot_see() -> None:
    calibration = calibration_of(calibration_bins(*world(100_000, 0)))
    truth, score = world(4000, 1)
    # From here on every third label is decided by a coin: the same scores mean less, and no score tells.
    coin = np.random.default_rng(2)
    drifted = np.where(coin.random(4000) < 1 / 3, coin.random(4000) < 0.5, truth)
    found = estimated_performance(score, calibration, confidence=0.95)
    for metric, of in METRICS.items():
        estimate = getattr(found, metric)
        assert holds(estimate, of(truth, score))
        assert not holds(estimate, of(drifted, score))
    assert found.roc_auc.estimate - roc_auc_score(drifted, score) > 0.05
