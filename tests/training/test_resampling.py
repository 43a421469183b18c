"""Intervals: metrics by weights equal scikit-learn's, draws of entities equal rows really repeated."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sklearn import metrics

from features.training import resampling
from features.training.evaluation import METRICS
from features.training.resampling import (
    Booleans,
    Entities,
    Floats,
    Interval,
    difference_interval,
    metric_interval,
    weighted,
)

SCIKIT_LEARN: dict[str, Callable[..., float]] = {
    "roc_auc": metrics.roc_auc_score,
    "average_precision": metrics.average_precision_score,
    "accuracy": lambda truth, score, **given: metrics.accuracy_score(truth, score >= 0.5, **given),
    "brier": metrics.brier_score_loss,
    "log_loss": lambda truth, score, **given: metrics.log_loss(truth, score, labels=[False, True], **given),
}


def sample(entities: int = 100, rows_each: int = 3, seed: int = 0) -> tuple[Booleans, Floats, pd.DataFrame]:
    """Outcomes, scores that say something of them with ties, and whose they are."""
    rng = np.random.default_rng(seed)
    truth = rng.random(entities * rows_each) < 0.4
    score = rng.normal(0.4 + 0.2 * truth, 0.2).clip(0.01, 0.99).round(2)
    return truth, score, keys(np.repeat(np.arange(entities), rows_each))


def keys(values: Floats | np.ndarray) -> pd.DataFrame:
    """One key column."""
    return pd.DataFrame({"user_id": values})


def width(interval: Interval) -> float:
    """From its lower to its upper bound."""
    return interval.high - interval.low


# Metrics by weights

ROWS = st.lists(
    st.tuples(
        st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5001, 0.9, 1.0]), st.sampled_from([0, 0, 1, 2, 5])
    ),
    min_size=2,
    max_size=40,
)


@pytest.mark.parametrize("metric", METRICS)
@given(rows=ROWS)
@hypothesis_settings(deadline=None, max_examples=50)
def test_a_weighted_metric_is_that_of_scikit_learn(metric: str, rows: list[tuple[bool, float, int]]) -> None:
    truth, score, weights = (np.array(column) for column in zip(*rows, strict=True))
    assume(len(set(truth[weights > 0])) == 2)
    expected = SCIKIT_LEARN[metric](truth, score, sample_weight=weights)
    assert weighted(metric, truth, score)(weights.astype(float)) == pytest.approx(expected)


@pytest.mark.parametrize("metric", METRICS)
def test_a_weight_is_how_often_a_row_is_there(metric: str) -> None:
    truth, score, _ = sample()
    times = np.random.default_rng(1).integers(0, 4, len(truth))
    repeated = weighted(metric, truth.repeat(times), score.repeat(times))(np.ones(times.sum()))
    assert weighted(metric, truth, score)(times.astype(float)) == pytest.approx(repeated)


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
@pytest.mark.parametrize("only", [True, False])
def test_an_order_of_one_class_is_undefined(metric: str, only: bool) -> None:
    truth, score, _ = sample()
    assert np.isnan(weighted(metric, truth, score)((truth == only).astype(float)))
    assert np.isnan(weighted(metric, np.full(len(truth), only), score)(np.ones(len(truth))))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("sick", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_makes_every_metric_undefined(metric: str, sick: float) -> None:
    truth, score, _ = sample()
    score[5] = sick
    assert np.isnan(weighted(metric, truth, score)(np.ones(len(truth))))


@pytest.mark.parametrize("metric", METRICS)
def test_no_weight_at_all_is_undefined(metric: str) -> None:
    truth, score, _ = sample()
    assert np.isnan(weighted(metric, truth, score)(np.zeros(len(truth))))


def test_a_metric_that_there_is_not_is_an_error() -> None:
    with pytest.raises(ValueError, match="no metric 'f1'"):
        weighted("f1", *sample()[:2])


# The bootstrap


@pytest.mark.parametrize("metric", METRICS)
def test_an_interval_is_that_of_rows_really_repeated(metric: str) -> None:
    truth, score, entity = sample(entities=30)
    entities = Entities(entity, replicates=60, seed=8)
    values = _naive_values(entity, 60, 8, lambda rows: SCIKIT_LEARN[metric](truth[rows], score[rows]))
    found = metric_interval(metric, truth, score, entities, 0.9)
    assert found.estimate == pytest.approx(SCIKIT_LEARN[metric](truth, score))
    assert [found.low, found.high] == pytest.approx(np.quantile(values, [0.05, 0.95]))


@pytest.mark.parametrize("metric", METRICS)
def test_a_difference_is_taken_on_the_same_repeated_rows(metric: str) -> None:
    truth, score, entity = sample(entities=30)
    other = np.roll(score, 7)
    by = SCIKIT_LEARN[metric]
    values = _naive_values(entity, 60, 8, lambda rows: by(truth[rows], score[rows]) - by(truth[rows], other[rows]))
    found = difference_interval(metric, truth, score, other, Entities(entity, replicates=60, seed=8), 0.9)
    assert found.estimate == pytest.approx(by(truth, score) - by(truth, other))
    assert [found.low, found.high] == pytest.approx(np.quantile(values, [0.05, 0.95]))


def _naive_values(
    entity: pd.DataFrame, replicates: int, seed: int, value: Callable[[np.ndarray], float]
) -> list[float]:
    """Of each draw: the rows of each entity drawn, one entity after the other, as often as it was drawn."""
    owners = entity["user_id"].to_numpy()
    known = list(dict.fromkeys(owners))
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(replicates):
        drawn = rng.integers(0, len(known), len(known))
        values.append(value(np.concatenate([np.flatnonzero(owners == known[one]) for one in drawn])))
    return values


def test_weights_are_the_same_for_all_rows_of_an_entity() -> None:
    _, _, entity = sample(entities=20, rows_each=4)
    for weights in np.concatenate([*Entities(entity, replicates=10).weights()]):
        assert (weights.reshape(20, 4) == weights.reshape(20, 4)[:, :1]).all()
        assert weights.sum() == 20 * 4


@pytest.mark.parametrize("at_once", [1, 3, 7])
def test_the_draws_are_the_same_however_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    _, _, entity = sample(entities=33)
    whole = np.concatenate([*Entities(entity, replicates=10).weights()])
    monkeypatch.setattr(resampling, "BLOCK", at_once * len(entity))
    blocks = list(Entities(entity, replicates=10).weights())
    assert [len(block) for block in blocks[:-1]] == [at_once] * (len(blocks) - 1)
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_an_entity_may_have_several_columns_and_missing_keys() -> None:
    several = pd.DataFrame({"shop": [1, 1, 2, 2, None, None], "user": ["a", "b", "a", "a", "a", None]})
    assert Entities(several).count == 5


def test_an_interval_is_the_same_every_time_and_another_with_another_seed() -> None:
    truth, score, entity = sample()
    first, again, other = (
        metric_interval("roc_auc", truth, score, Entities(entity, seed=seed), 0.95) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("metric", METRICS)
def test_the_order_of_the_rows_does_not_matter(metric: str) -> None:
    """As they come from a query without one."""
    truth, score, of = sample()
    named = of.assign(user_id=[f"u{key}" for key in of[of.columns[0]]])[["user_id"]]
    order = np.random.default_rng(1).permutation(len(truth))
    found = metric_interval(metric, truth, score, Entities(named), 0.95)
    again = metric_interval(metric, truth[order], score[order], Entities(named.iloc[order]), 0.95)
    assert (again.estimate, again.low, again.high) == pytest.approx((found.estimate, found.low, found.high), abs=1e-12)


def test_the_same_entities_may_be_drawn_from_twice() -> None:
    truth, score, entity = sample()
    entities = Entities(entity)
    assert len({metric_interval("brier", truth, score, entities, 0.95) for _ in range(2)}) == 1


@pytest.mark.parametrize("metric", METRICS)
def test_a_model_does_not_differ_from_itself_at_all(metric: str) -> None:
    truth, score, entity = sample()
    assert difference_interval(metric, truth, score, score.copy(), Entities(entity), 0.95) == Interval(0, 0, 0)


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    truth, score, entity = sample()
    entities = Entities(entity)
    other = np.clip(score + np.random.default_rng(5).normal(0, 0.01, len(score)), 0, 1)
    assert width(difference_interval("roc_auc", truth, score, other, entities, 0.95)) < 0.2 * width(
        metric_interval("roc_auc", truth, score, entities, 0.95)
    )


# How sure


def test_four_times_the_entities_halve_the_interval() -> None:
    few, many = (
        metric_interval("accuracy", truth, score, Entities(entity), 0.95)
        for truth, score, entity in (sample(100), sample(400))
    )
    assert width(many) == pytest.approx(width(few) / 2, rel=0.2)


def test_more_confidence_is_a_wider_interval() -> None:
    truth, score, entity = sample()
    widths = [width(metric_interval("roc_auc", truth, score, Entities(entity), level)) for level in (0.8, 0.9, 0.99)]
    assert widths == sorted(widths)


@pytest.mark.parametrize("metric", METRICS)
def test_rows_repeated_within_their_entities_make_nothing_surer(metric: str) -> None:
    truth, score, entity = sample(rows_each=1)
    once = metric_interval(metric, truth, score, Entities(entity), 0.95)
    again = metric_interval(metric, truth.repeat(9), score.repeat(9), Entities(keys(np.arange(100).repeat(9))), 0.95)
    assert [again.estimate, again.low, again.high] == pytest.approx([once.estimate, once.low, once.high])
    # As if each row were somebody else, the interval would be a third.
    careless = metric_interval(metric, truth.repeat(9), score.repeat(9), Entities(keys(np.arange(900))), 0.95)
    assert width(careless) < 0.5 * width(once)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    repetitions, entities, rows_each, accuracy = 200, 200, 3, 0.8
    covered = 0
    for repetition in range(repetitions):
        rng = np.random.default_rng(repetition)
        # Some entities are easy, others hard: their rows resemble each other.
        right = rng.random((entities, rows_each)) < rng.beta(4, 1, entities)[:, None]
        truth = np.ones(entities * rows_each, dtype=bool)
        score = np.where(right.ravel(), 0.9, 0.1)
        owners = Entities(keys(np.repeat(np.arange(entities), rows_each)), replicates=300, seed=repetition)
        found = metric_interval("accuracy", truth, score, owners, 0.95)
        covered += found.low <= accuracy <= found.high
    assert 0.90 <= covered / repetitions <= 0.99


# What cannot be known


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
def test_of_one_class_nothing_is_known(metric: str) -> None:
    truth, score, entity = sample()
    found = metric_interval(metric, np.zeros(len(truth), dtype=bool), score, Entities(entity), 0.95)
    assert np.isnan([found.estimate, found.low, found.high]).all()


@pytest.mark.parametrize("metric", METRICS)
def test_of_scores_that_are_no_numbers_nothing_is_known(metric: str) -> None:
    truth, score, entity = sample()
    sick = np.where(np.arange(len(score)) == 5, np.nan, score)
    entities = Entities(entity)
    for found in (
        metric_interval(metric, truth, sick, entities, 0.95),
        difference_interval(metric, truth, score, sick, entities, 0.95),
        difference_interval(metric, truth, sick, score, entities, 0.95),
    ):
        assert np.isnan([found.estimate, found.low, found.high]).all()


def test_of_no_rows_nothing_is_known() -> None:
    truth, score, entity = sample()
    found = metric_interval("roc_auc", truth[:0], score[:0], Entities(entity[:0]), 0.95)
    assert np.isnan([found.estimate, found.low, found.high]).all()


def test_where_many_draws_have_one_class_there_is_an_estimate_without_bounds() -> None:
    _, score, entity = sample(rows_each=1)
    truth = np.arange(len(score)) == 3  # every third draw has no positive
    found = metric_interval("roc_auc", truth, score, Entities(entity), 0.95)
    assert np.isfinite(found.estimate)
    assert np.isnan([found.low, found.high]).all()


def test_where_few_draws_have_one_class_they_are_left_out() -> None:
    _, score, entity = sample(rows_each=1)
    truth = np.arange(len(score)) < 4  # one draw in fifty has no positive
    found = metric_interval("roc_auc", truth, score, Entities(entity), 0.95)
    assert np.isfinite([found.estimate, found.low, found.high]).all()
