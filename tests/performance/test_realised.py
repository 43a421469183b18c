"""Performance by labels: each metric by weights equals scikit-learn's or a naive loop, each interval rows repeated."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sklearn import metrics

from features.performance.realised import METRICS, calibration_error, lift, realised_performance, share_true
from features.training import evaluation
from features.training.resampling import Booleans, Entities, Floats, metric_interval

SCIKIT_LEARN: dict[str, Callable[..., float]] = {
    "accuracy": lambda truth, score, **given: metrics.accuracy_score(truth, score >= 0.5, **given),
    "roc_auc": metrics.roc_auc_score,
    "average_precision": metrics.average_precision_score,
    "brier": metrics.brier_score_loss,
}
# Truth, score, weight.
ROWS = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.51, 0.9, 1.0]), st.sampled_from([1, 2, 3])),
    min_size=2,
    max_size=40,
)


def columns(rows: list[tuple[bool, float, int]]) -> tuple[Booleans, Floats, Floats]:
    truth, score, weights = (np.array(column) for column in zip(*rows, strict=True))
    return truth, score, weights.astype(float)


def keys(count: int) -> pd.DataFrame:
    return pd.DataFrame({"entity_id": [f"u{number:05}" for number in range(count)]})


def sample(rows: int = 400, seed: int = 0) -> tuple[Booleans, Floats, Floats]:
    rng = np.random.default_rng(seed)
    truth = rng.random(rows) < 0.3
    score = rng.normal(0.3 + 0.2 * truth, 0.2).clip(0.01, 0.99).round(2)
    return truth, score, rng.choice([1.0, 2.0, 10.0], rows)


@given(rows=ROWS)
@hypothesis_settings(deadline=None, max_examples=50)
def test_weighted_metrics_are_those_of_scikit_learn(rows: list[tuple[bool, float, int]]) -> None:
    truth, score, weights = columns(rows)
    assume(len(set(truth)) == 2)
    found = realised_performance(truth, score, weights, Entities(keys(len(rows)), replicates=3), 0.95)
    assert list(found) == list(METRICS)
    for name, metric in SCIKIT_LEARN.items():
        assert found[name].estimate == pytest.approx(metric(truth, score, sample_weight=weights))
    assert share_true(truth, weights) == pytest.approx(np.average(truth, weights=weights))


@given(rows=ROWS)
@hypothesis_settings(deadline=None)
def test_the_calibration_error_is_the_evaluations_on_rows_really_repeated(rows: list[tuple[bool, float, int]]) -> None:
    truth, score, weights = columns(rows)
    times = weights.astype(int)
    bins = evaluation.calibration_bins(truth.repeat(times), score.repeat(times))
    assert calibration_error(truth, score)(weights) == pytest.approx(evaluation.calibration_error(bins))


def naive_lift(truth: Booleans, score: Floats) -> float:
    """Row by row from the highest score; a tie is taken whole, or as much of it as the tenth has room for."""
    room, found = 0.1 * len(truth), 0.0
    for value in sorted(set(score), reverse=True):
        tied = truth[score == value]
        taken = min(room, len(tied))
        found += taken * tied.mean()
        room -= taken
    return found / (0.1 * len(truth)) / truth.mean()


@given(rows=ROWS)
@hypothesis_settings(deadline=None)
def test_the_lift_is_the_naive_one_on_rows_really_repeated(rows: list[tuple[bool, float, int]]) -> None:
    truth, score, weights = columns(rows)
    assume(truth.any())
    times = weights.astype(int)
    expected = naive_lift(truth.repeat(times), score.repeat(times))
    assert lift(truth, score)(weights) == pytest.approx(expected)
    backwards = lift(truth[::-1], score[::-1])(weights[::-1])
    assert backwards == pytest.approx(expected), "whatever the order of tied rows"


def test_the_lift_of_a_perfect_and_of_a_constant_score() -> None:
    truth = np.arange(100) >= 95
    ones = np.ones(100)
    assert lift(truth, truth.astype(float))(ones) == pytest.approx(10), "five of five among ten, where 0.5 are expected"
    assert lift(truth, np.full(100, 0.4))(ones) == pytest.approx(1)


@pytest.mark.parametrize("name", METRICS)
def test_an_interval_is_that_of_entities_really_repeated(name: str) -> None:
    truth, score, weights = sample()
    entity = pd.DataFrame({"entity_id": np.repeat(np.arange(100), 4)})
    found = realised_performance(truth, score, weights, Entities(entity, replicates=50, seed=3), 0.9)[name]
    metric = SCIKIT_LEARN.get(name) or (
        lambda truth, score, sample_weight: float(
            {"calibration_error": calibration_error, "lift": lift}[name](truth, score)(sample_weight)
        )
    )
    draws: list[float] = []
    rng = np.random.default_rng(3)
    for _ in range(50):
        rows = np.concatenate([np.flatnonzero(entity["entity_id"] == drawn) for drawn in rng.integers(0, 100, 100)])
        draws.append(metric(truth[rows], score[rows], sample_weight=weights[rows]))
    assert [found.low, found.high] == pytest.approx(np.quantile(draws, [0.05, 0.95]))


@pytest.mark.parametrize("name", SCIKIT_LEARN)
def test_without_sampling_it_is_the_interval_that_the_gate_uses(name: str) -> None:
    truth, score, _ = sample()
    entities = Entities(keys(len(truth)), seed=7)
    found = realised_performance(truth, score, np.ones(len(truth)), entities, 0.95)
    assert found[name] == metric_interval(name, truth, score, entities, 0.95)


@pytest.mark.parametrize(
    ("truth", "score"),
    [
        ([], []),
        ([True], [0.5]),
        ([True, True], [0.1, 0.9]),
        ([False] * 3, [0.1, 0.2, 0.3]),
        ([True, False], [np.nan, 1]),
    ],
)
def test_nothing_is_known_of_few_rows_of_one_class_and_of_what_is_no_number(
    truth: list[bool], score: list[float]
) -> None:
    rows = len(truth)
    found = realised_performance(
        np.array(truth, dtype=bool), np.array(score, dtype=float), np.ones(rows), Entities(keys(rows)), 0.95
    )
    assert all(np.isnan(list(vars(found[name]).values())).all() for name in METRICS)


def test_the_share_of_no_labels_is_unknown() -> None:
    assert np.isnan(share_true(np.array([], dtype=bool), np.array([])))
