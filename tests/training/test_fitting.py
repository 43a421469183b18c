"""Fitting: the same rows make the same model, calibration is learnt from rows that were not fitted on."""

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.contract import SearchSettings, TrainingSettings
from features.training.data import MIN_ROWS, Split, TrainingRefused, split_in_time
from features.training.estimator import LOGISTIC_REGRESSION, RECENCY_ONLY, fitted, make_estimator, scores
from features.training.fitting import Fitted, fit
from tests.training.samples import FEATURES, HORIZON, judge, sample_split

TREES = TrainingSettings(
    estimator="sklearn.ensemble.HistGradientBoostingClassifier", parameters={"random_state": 0, "max_iter": 8}
)
LOGISTIC = TrainingSettings(estimator="sklearn.linear_model.LogisticRegression")
FOREST = TrainingSettings(estimator="sklearn.ensemble.RandomForestClassifier", parameters={"n_estimators": 10}, seed=5)
SEARCHED = FOREST.model_copy(
    update={
        "search": SearchSettings(parameters={"max_depth": [2, 4, 8]}, candidates=3, folds=2),
        "calibration": "sigmoid",
        "recency_feature": "b",
    }
)
# Each copy of a feature counts as evidence of its own, so naive Bayes is far too sure.
COPIES = [*FEATURES, "a_again", "a_once_more", "a_ever_again"]
NAIVE_BAYES = TrainingSettings(estimator="sklearn.naive_bayes.GaussianNB")


def fit_sample(settings: TrainingSettings, split: Split | None = None, features: list[str] = FEATURES) -> Fitted:
    """A model of the sample."""
    return fit(split or sample_split(), features, "churned", HORIZON, settings)


def metrics_of(settings: TrainingSettings, split: Split | None = None) -> dict[str, float]:
    """That model, judged on the holdout."""
    split = split or sample_split()
    return judge(fit_sample(settings, split).estimator, split.holdout, FEATURES, "churned")


def with_copies() -> Split:
    """The sample with one feature four times."""
    split = sample_split()
    copied = (rows.assign(**dict.fromkeys(COPIES[2:], rows["a"])) for rows in (split.train, split.holdout))
    return Split(*copied)


# What is learnt


@pytest.mark.parametrize("settings", [TREES, LOGISTIC], ids=lambda settings: settings.estimator.rpartition(".")[2])
def test_any_classifier_learns_what_there_is_to_learn(settings: TrainingSettings) -> None:
    assert 0.75 < metrics_of(settings)["roc_auc"] < 0.9


def test_labels_that_have_nothing_to_do_with_the_features_cannot_be_predicted() -> None:
    rng = np.random.default_rng(1)
    split = sample_split()
    shuffled = Split(*(rows.assign(churned=rng.permutation(rows["churned"])) for rows in (split.train, split.holdout)))
    assert 0.42 < metrics_of(TREES, shuffled)["roc_auc"] < 0.58


def test_a_few_missing_values_are_no_obstacle() -> None:
    split = sample_split()
    split.train.loc[split.train.index[:100], "b"] = np.nan
    assert metrics_of(TREES, split)["roc_auc"] > 0.7


def test_what_the_warehouse_gives_as_objects_is_fitted_too() -> None:
    split = sample_split()
    as_objects = Split(split.train.astype({"b": object, "churned": object}), split.holdout.astype({"churned": object}))
    assert metrics_of(TREES, as_objects) == metrics_of(TREES, split)


def test_unusable_rows_are_refused_before_anything_is_fitted() -> None:
    split = sample_split()
    with pytest.raises(TrainingRefused, match=r"^b has the same value in all"):
        fit_sample(TREES, Split(split.train.assign(b=1), split.holdout))


def test_the_holdout_has_no_part_in_the_model() -> None:
    split = sample_split()
    elsewhere = Split(split.train, split.holdout.assign(a=-split.holdout["a"], churned=~split.holdout["churned"]))
    models = [fit_sample(SEARCHED, each) for each in (split, elsewhere)]
    first, second = (scores(model.estimator, split.holdout, FEATURES) for model in models)
    np.testing.assert_array_equal(first, second)
    assert models[0].tried == models[1].tried


# The same again


@pytest.mark.parametrize("settings", [TREES, FOREST, SEARCHED], ids=["boosting", "forest", "searched and calibrated"])
def test_training_twice_gives_the_same_model_to_the_bit(settings: TrainingSettings) -> None:
    split = sample_split()
    first, second = (fit_sample(settings, split) for _ in range(2))
    np.testing.assert_array_equal(
        scores(first.estimator, split.holdout, FEATURES), scores(second.estimator, split.holdout, FEATURES)
    )
    assert judge(first.estimator, split.holdout, FEATURES, "churned") == judge(
        second.estimator, split.holdout, FEATURES, "churned"
    )
    assert (first.parameters, first.tried) == (second.parameters, second.tried)
    for name, model in first.simple.items():
        np.testing.assert_array_equal(
            scores(model, split.holdout, FEATURES), scores(second.simple[name], split.holdout, FEATURES)
        )


def test_another_seed_makes_another_forest() -> None:
    assert metrics_of(FOREST) != metrics_of(FOREST.model_copy(update={"seed": 6}))


# Hyper-parameters


def test_without_a_search_the_parameters_are_those_declared() -> None:
    made = fit_sample(LOGISTIC.model_copy(update={"parameters": {"C": 0.5}}))
    assert made.parameters == {"C": 0.5}
    assert made.tried == ()


def test_the_best_candidate_is_fitted() -> None:
    made = fit_sample(SEARCHED.model_copy(update={"calibration": "none"}))
    chosen = made.tried[0].parameters
    assert chosen, "none is better than declared, so this shows nothing"
    assert made.parameters == {"n_estimators": 10, **chosen}
    assert made.estimator.get_params()["max_depth"] == chosen["max_depth"]


def test_too_little_history_for_a_search_still_makes_a_model() -> None:
    split = sample_split()
    recent = split.train[split.train["label_at"] >= sorted(split.train["label_at"].unique())[-2]]
    made = fit_sample(SEARCHED.model_copy(update={"calibration": "none"}), Split(recent, split.holdout))
    assert (made.tried, made.parameters) == ((), {"n_estimators": 10})


# Calibration


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration_makes_an_overconfident_model_humbler(method: str) -> None:
    split = with_copies()
    losses = {
        calibration: _log_loss(split, NAIVE_BAYES.model_copy(update={"calibration": calibration}))
        for calibration in ("none", method)
    }
    assert losses[method] < 0.8 * losses["none"]


def _log_loss(split: Split, settings: TrainingSettings) -> float:
    return judge(fit_sample(settings, split, COPIES).estimator, split.holdout, COPIES, "churned")["log_loss"]


def test_a_sigmoid_leaves_the_order_of_scores_alone() -> None:
    split = with_copies()
    plain, calibrated = (
        judge(_of_older_rows(split, calibration), split.holdout, COPIES, "churned")["roc_auc"]
        for calibration in ("none", "sigmoid")
    )
    assert calibrated == pytest.approx(plain)


def _of_older_rows(split: Split, calibration: str) -> Any:
    """Naive Bayes of the rows that are left when the calibration has taken its own."""
    if calibration == "none":
        inner = split_in_time(split.train, HORIZON, NAIVE_BAYES.calibration_label_times)
        return fitted(make_estimator(NAIVE_BAYES), inner.train, COPIES, "churned")
    return fit_sample(NAIVE_BAYES.model_copy(update={"calibration": calibration}), split, COPIES).estimator


def test_calibration_is_learnt_from_the_newest_label_times_that_were_not_fitted_on() -> None:
    settings = LOGISTIC.model_copy(update={"calibration": "sigmoid"})
    split = sample_split()
    newest = split.train["label_at"] >= sorted(split.train["label_at"].unique())[-2]
    reversed_lately = split.train.assign(churned=split.train["churned"] ^ newest)
    before, after = (fit_sample(settings, Split(rows, split.holdout)) for rows in (split.train, reversed_lately))

    # The model inside has seen none of the newest rows, and what is around it nothing else.
    one, other = (scores(made.estimator.estimator.estimator, split.holdout, FEATURES) for made in (before, after))
    np.testing.assert_array_equal(one, other)
    one, other = (scores(made.estimator, split.holdout, FEATURES) for made in (before, after))
    assert np.corrcoef(one, other)[0, 1] < -0.9


def test_the_horizon_before_the_calibration_is_fitted_on_by_neither() -> None:
    settings = LOGISTIC.model_copy(update={"calibration": "sigmoid"})
    split = sample_split()
    gap = split.train["label_at"] == sorted(split.train["label_at"].unique())[-3]  # its outcomes overlap the newest two
    changed = Split(split.train.assign(churned=split.train["churned"] ^ gap), split.holdout)
    one, other = (scores(fit_sample(settings, each).estimator, split.holdout, FEATURES) for each in (split, changed))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("which", ["the newest", "the others"])
def test_one_class_on_either_side_of_the_calibration_is_refused(which: str) -> None:
    split = sample_split()
    newest = split.train["label_at"] >= sorted(split.train["label_at"].unique())[-2]
    spoilt = split.train["churned"] & (~newest if which == "the newest" else newest)
    with pytest.raises(TrainingRefused, match="label times for the calibration, or those before them, have one class"):
        fit_sample(
            LOGISTIC.model_copy(update={"calibration": "sigmoid"}),
            Split(split.train.assign(churned=spoilt), split.holdout),
        )


@pytest.mark.filterwarnings("ignore:The least populated class")  # there is nothing to cross-validate: it is frozen
def test_a_handful_of_positives_is_enough_to_calibrate_by() -> None:
    split = sample_split()
    newest = split.train["label_at"] >= sorted(split.train["label_at"].unique())[-2]
    few = newest & split.train["churned"] & (split.train["churned"].where(newest, False).cumsum() > 3)
    rows = split.train.assign(churned=split.train["churned"] & ~few)
    assert rows["churned"][newest].sum() == 3
    made = fit_sample(LOGISTIC.model_copy(update={"calibration": "sigmoid"}), Split(rows, split.holdout))
    assert scores(made.estimator, split.holdout, FEATURES).mean() < 0.05


def test_too_few_label_times_for_the_calibration_are_refused() -> None:
    settings = LOGISTIC.model_copy(update={"calibration": "sigmoid", "calibration_label_times": 6})
    with pytest.raises(TrainingRefused, match="has 6 label times; 6 for the holdout"):
        fit_sample(settings)


# The simple models


def test_simple_models_are_fitted_beside_it_on_the_same_rows() -> None:
    split = sample_split()
    made = fit_sample(SEARCHED.model_copy(update={"recency_feature": "a"}), split)
    assert set(made.simple) == {LOGISTIC_REGRESSION, RECENCY_ONLY}
    for model in made.simple.values():
        assert judge(model, split.holdout, FEATURES, "churned")["roc_auc"] > 0.75


def test_a_recency_feature_that_says_nothing_makes_a_model_that_says_nothing() -> None:
    split = sample_split()
    made = fit_sample(LOGISTIC.model_copy(update={"recency_feature": "b"}), split)
    assert judge(made.simple[RECENCY_ONLY], split.holdout, FEATURES, "churned")["roc_auc"] == pytest.approx(
        0.5, abs=0.05
    )


def test_the_smallest_split_there_is_can_be_fitted() -> None:
    rows = pd.concat([sample_split().train.head(MIN_ROWS), sample_split().holdout.head(MIN_ROWS)])
    split = split_in_time(rows, timedelta(days=14), 1)
    assert (len(split.train), len(split.holdout)) == (MIN_ROWS, MIN_ROWS)
    assert fit_sample(LOGISTIC, split).estimator.n_features_in_ == 2


@pytest.mark.parametrize("parameters", [{"max_iter": -1}, {"max_bins": 1_000_000}])
def test_a_value_that_the_estimator_does_not_take_is_refused_with_what_it_says(parameters: dict[str, int]) -> None:
    settings = TrainingSettings(parameters=parameters)
    with pytest.raises(TrainingRefused, match=r"HistGradientBoostingClassifier cannot be fitted: The '?.*parameter"):
        fit(sample_split(), FEATURES, "churned", HORIZON, settings)
