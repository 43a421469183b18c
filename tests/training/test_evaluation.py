"""Evaluation: metrics against scikit-learn, calibration against loops, importance and slices that say what is so."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

from features.training.data import inputs, outcomes
from features.training.estimator import fitted, scores
from features.training.evaluation import (
    METRICS,
    MIN_SLICE_ROWS,
    CalibrationBin,
    Evaluation,
    calibration_bins,
    calibration_error,
    evaluate,
    importances,
    score_histogram,
    slice_metric,
)
from tests.training.samples import FEATURES, Flipped, judge, sample_split


def regression() -> Any:
    """A regression, fitted on the older part of the sample."""
    return fitted(LogisticRegression(), sample_split().train, FEATURES, "churned")


# Metrics


def test_metrics_are_those_of_scikit_learn() -> None:
    rows = pd.DataFrame({"a": [0.1, 0.4, 0.35, 0.8], "b": 0, "churned": [False, False, True, True]})
    judged = judge(Flipped([False, True]), rows, FEATURES, "churned")
    assert judged == {
        "roc_auc": 0.75,
        "average_precision": pytest.approx(metrics.average_precision_score(rows["churned"], rows["a"])),
        "brier": pytest.approx(((rows["a"] - rows["churned"]) ** 2).mean()),
        "log_loss": pytest.approx(metrics.log_loss(rows["churned"], rows["a"])),
        "accuracy": 0.75,
    }


def test_every_metric_is_judged() -> None:
    assert set(judge(regression(), sample_split().holdout, FEATURES, "churned")) == set(METRICS)


# Calibration


@given(rows=st.integers(1, 137), seed=st.integers(0, 999))
@hypothesis_settings(deadline=None, max_examples=60)
def test_calibration_bins_and_their_error_are_those_of_a_loop(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    score = rng.choice(np.linspace(0.01, 0.99, 2 * rows), rows)  # some are the same
    truth = rng.random(rows) < score
    found = calibration_bins(truth, score)
    naive = _naive_bins(list(zip(score.tolist(), truth.tolist(), strict=True)))
    assert [each.rows for each in found] == [each.rows for each in naive]
    assert [each.mean_score for each in found] == pytest.approx([each.mean_score for each in naive])
    assert [each.share_true for each in found] == pytest.approx([each.share_true for each in naive])
    assert calibration_error(found) == pytest.approx(_naive_error(naive))


def _naive_bins(rows: list[tuple[float, bool]]) -> list[CalibrationBin]:
    """Each row in the tenth in which the first row of its score is."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for score, outcome in rows:
        less = sum(other < score for other, _ in rows)
        bins.setdefault(10 * less // len(rows), []).append((score, outcome))
    return [
        CalibrationBin(sum(score for score, _ in one) / len(one), sum(true for _, true in one) / len(one), len(one))
        for _, one in sorted(bins.items())
    ]


def _naive_error(bins: list[CalibrationBin]) -> float:
    apart = 0.0
    for each in bins:
        apart += abs(each.mean_score - each.share_true) * each.rows
    return apart / sum(each.rows for each in bins)


def test_who_always_says_a_half_too_much_is_half_off() -> None:
    assert calibration_error(calibration_bins(np.zeros(100, bool), np.full(100, 0.5))) == pytest.approx(0.5)


def test_honest_scores_are_nearly_calibrated_and_doubled_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    score = rng.uniform(0, 0.5, 20_000)
    truth = rng.random(20_000) < score
    assert calibration_error(calibration_bins(truth, score)) < 0.02
    assert calibration_error(calibration_bins(truth, 2 * score)) > 0.2


def test_rows_of_one_score_are_judged_together_in_whatever_order_they_come() -> None:
    truth = np.repeat([False, True], 500)  # what scores of 0.5 say, and so it came
    assert calibration_error(calibration_bins(truth, np.full(1000, 0.5))) == pytest.approx(0)


def test_the_histogram_counts_every_row_once_with_its_outcome() -> None:
    score = np.array([0.0, 0.04, 0.05, 0.5, 0.99, 1.0])
    truth = np.array([False, True, False, True, True, False])
    true, false, edges = score_histogram(truth, score)
    assert (len(true), len(false), len(edges)) == (20, 20, 21)
    for counts, chosen in ((true, score[truth]), (false, score[~truth])):
        naive = [sum(low <= one < high or (one == high == 1) for one in chosen) for low, high in pairwise(edges)]
        assert counts.tolist() == naive


# Importance


def test_the_deciding_feature_is_the_most_important_and_noise_is_not() -> None:
    deciding, noise = importances(regression(), sample_split().holdout, FEATURES, "churned", "roc_auc", 0)
    assert (deciding.feature, noise.feature) == ("a", "b")
    assert deciding.drop > 0.2
    assert abs(noise.drop) < 0.01


def test_importance_is_what_is_lost_when_the_values_change_places() -> None:
    holdout = sample_split().holdout
    model = regression()
    drops = []
    for repeat in range(20):
        shuffled = holdout.assign(a=np.random.default_rng(repeat).permutation(holdout["a"]))
        drops.append(_auc(model, holdout) - _auc(model, shuffled))
    found = importances(model, holdout, FEATURES, "churned", "roc_auc", 0)[0]
    assert found.drop == pytest.approx(np.mean(drops), abs=0.02)
    assert found.deviation < 0.05


def _auc(model: Any, rows: pd.DataFrame) -> float:
    return metrics.roc_auc_score(rows["churned"], model.predict_proba(inputs(rows, FEATURES))[:, 1])


# Slices


def test_a_slice_is_judged_by_its_own_rows() -> None:
    holdout = sample_split().holdout
    truth, score = outcomes(holdout, "churned"), scores(regression(), holdout, FEATURES)
    rows = (holdout["b"] > 4).to_numpy()
    found = slice_metric("roc_auc", truth, score, holdout[["user_id"]], rows, 0.95)
    assert found.estimate == pytest.approx(metrics.roc_auc_score(truth[rows], score[rows]))
    assert found.low < found.estimate < found.high


@pytest.mark.parametrize(("rows", "known"), [(MIN_SLICE_ROWS - 1, False), (MIN_SLICE_ROWS, True), (0, False)])
def test_a_slice_with_too_few_rows_says_nothing(rows: int, known: bool) -> None:
    rng = np.random.default_rng(0)
    truth, score, entity = rng.random(500) < 0.5, rng.random(500), pd.DataFrame({"user_id": np.arange(500)})
    found = slice_metric("roc_auc", truth, score, entity, np.arange(500) < rows, 0.95)
    assert [np.isfinite(value) for value in (found.estimate, found.low, found.high)] == [known] * 3


def test_a_slice_of_one_class_says_nothing() -> None:
    rng = np.random.default_rng(0)
    truth, entity = np.arange(500) >= 250, pd.DataFrame({"user_id": np.arange(500)})
    found = slice_metric("roc_auc", truth, rng.random(500), entity, ~truth, 0.95)
    assert np.isnan([found.estimate, found.low, found.high]).all()


# All of it


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """The regression, with one simple model beside it that knows less."""
    holdout = sample_split().holdout
    return evaluate(
        regression(),
        {"by_noise": fitted(LogisticRegression(), sample_split().train.assign(a=0.0), FEATURES, "churned")},
        holdout,
        FEATURES,
        "churned",
        ["user_id"],
        {"high": (holdout["b"] > 4).to_numpy(), "hardly any": (np.arange(len(holdout)) < 20)},
        metric="roc_auc",
        confidence=0.95,
        seed=0,
    )


def test_its_estimates_are_the_judged_metrics_within_their_intervals(evaluation: Evaluation) -> None:
    judged = judge(regression(), sample_split().holdout, FEATURES, "churned")
    assert list(evaluation.metrics) == list(METRICS)
    for name, found in evaluation.metrics.items():
        assert found.estimate == pytest.approx(judged[name])
        assert found.low < found.estimate < found.high


def test_it_says_what_it_was_judged_on_and_by(evaluation: Evaluation) -> None:
    assert (evaluation.metric, evaluation.rows) == ("roc_auc", 1000)
    assert sum(each.rows for each in evaluation.calibration) == 1000
    assert evaluation.calibration_error == calibration_error(evaluation.calibration)


def test_it_names_every_feature_and_slice(evaluation: Evaluation) -> None:
    assert [each.feature for each in evaluation.importance] == ["a", "b"]
    high, hardly_any = evaluation.slices
    assert high.name == "high"
    assert high.rows == (sample_split().holdout["b"] > 4).sum()
    assert np.isfinite(high.metric.low)
    assert (hardly_any.name, hardly_any.rows) == ("hardly any", 20)
    assert np.isnan(hardly_any.metric.estimate)


def test_the_simple_model_is_judged_on_the_same_rows(evaluation: Evaluation) -> None:
    assert list(evaluation.simple) == ["by_noise"]
    assert evaluation.simple["by_noise"].high < evaluation.metrics["roc_auc"].low
