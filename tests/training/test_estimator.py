"""Estimators: what the contract declares is made with its parameters and the seed, and the simple models beside it."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectFromModel
from sklearn.preprocessing import StandardScaler

from features.contract import TrainingSettings
from features.errors import SkewlessError
from features.training.estimator import (
    LOGISTIC_REGRESSION,
    RECENCY_ONLY,
    fitted,
    make_estimator,
    scores,
    simple_models,
)
from tests.training.samples import FEATURES, Flipped, sample_split

TREES = TrainingSettings(
    estimator="sklearn.ensemble.HistGradientBoostingClassifier", parameters={"random_state": 0, "max_iter": 20}
)


# The declared estimator

ESTIMATORS = {
    "no such module": ("sklearn.forest.Forest", {}, "training.estimator: sklearn.forest.Forest cannot be imported"),
    "no such class": ("sklearn.ensemble.Forest", {}, "training.estimator: sklearn.ensemble.Forest cannot be imported"),
    "no path at all": ("LogisticRegression", {}, "training.estimator: LogisticRegression cannot be imported"),
    "an unknown parameter": (
        "sklearn.linear_model.LogisticRegression",
        {"penalties": 3},
        "training.parameters: sklearn.linear_model.LogisticRegression refuses them (",
    ),
    "no probabilities": (
        "sklearn.linear_model.LinearRegression",
        {},
        "training.estimator: sklearn.linear_model.LinearRegression has no predict_proba",
    ),
}


@pytest.mark.parametrize(("path", "parameters", "message"), ESTIMATORS.values(), ids=ESTIMATORS)
def test_an_estimator_that_cannot_be_made_is_refused_by_its_name(
    path: str, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(SkewlessError) as error:
        make_estimator(TrainingSettings(estimator=path, parameters=parameters))
    assert str(error.value).startswith(message)


def test_the_declared_estimator_is_made_with_its_parameters() -> None:
    estimator = make_estimator(TREES)
    assert isinstance(estimator, HistGradientBoostingClassifier)
    assert (estimator.random_state, estimator.max_iter) == (0, 20)


def test_chosen_parameters_replace_declared_ones_for_this_estimator_only() -> None:
    estimator = make_estimator(TREES, {"max_iter": 5, "max_depth": 2})
    assert (estimator.max_iter, estimator.max_depth, estimator.random_state) == (5, 2, 0)
    assert make_estimator(TREES).max_iter == 20


def test_a_chosen_parameter_that_there_is_not_is_refused() -> None:
    with pytest.raises(SkewlessError, match=r"refuses them .*max_iterations"):
        make_estimator(TREES, {"max_iterations": 5})


# The seed


@pytest.mark.parametrize("name", ["HistGradientBoostingClassifier", "RandomForestClassifier", "BaggingClassifier"])
def test_whatever_is_random_gets_the_seed(name: str) -> None:
    assert make_estimator(TrainingSettings(estimator=f"sklearn.ensemble.{name}", seed=41)).random_state == 41


def test_the_seed_reaches_every_step_of_a_pipeline() -> None:
    steps = [
        ("scale", StandardScaler()),
        ("select", SelectFromModel(RandomForestClassifier())),
        ("model", RandomForestClassifier()),
    ]
    settings = TrainingSettings(estimator="sklearn.pipeline.Pipeline", parameters={"steps": steps}, seed=41)
    assert _seeds(settings) == {"select__estimator__random_state": 41, "model__random_state": 41}


def test_a_declared_seed_stays_also_where_it_is_nested() -> None:
    assert _seeds(TREES.model_copy(update={"seed": 41})) == {"random_state": 0}
    steps = [("model", RandomForestClassifier(random_state=7))]
    settings = TrainingSettings(estimator="sklearn.pipeline.Pipeline", parameters={"steps": steps}, seed=41)
    assert _seeds(settings) == {"model__random_state": 7}


def test_what_is_not_random_needs_no_seed() -> None:
    assert _seeds(TrainingSettings(estimator="sklearn.naive_bayes.GaussianNB", seed=41)) == {}


def _seeds(settings: TrainingSettings) -> dict[str, Any]:
    parameters = make_estimator(settings).get_params()
    return {name: value for name, value in parameters.items() if name.endswith("random_state")}


# The simple models


def test_without_a_recency_feature_there_is_a_regression_only() -> None:
    assert list(simple_models(TrainingSettings())) == [LOGISTIC_REGRESSION]


def test_with_a_recency_feature_there_is_a_model_of_it_alone() -> None:
    assert list(simple_models(TrainingSettings(recency_feature="a"))) == [LOGISTIC_REGRESSION, RECENCY_ONLY]


@pytest.mark.parametrize("name", [LOGISTIC_REGRESSION, RECENCY_ONLY])
def test_simple_models_cope_with_missing_values_in_either_part(name: str) -> None:
    split = sample_split()
    for rows in (split.train, split.holdout):
        rows.loc[rows.index[::3], "a"] = np.nan
    split.holdout.loc[split.holdout.index[::2], "b"] = np.nan  # which never happened while it was fitted
    model = fitted(simple_models(TrainingSettings(recency_feature="a"))[name], split.train, FEATURES, "churned")
    found = scores(model, split.holdout, FEATURES)
    assert ((found > 0) & (found < 1)).all()
    assert len(np.unique(found)) > 100


def test_the_recency_model_uses_only_the_recency_feature() -> None:
    split = sample_split()
    model = fitted(simple_models(TrainingSettings(recency_feature="b"))[RECENCY_ONLY], split.train, FEATURES, "churned")
    expected = scores(model, split.holdout, FEATURES)
    np.testing.assert_array_equal(scores(model, split.holdout.assign(a=-5.0), FEATURES), expected)
    assert (scores(model, split.holdout.assign(b=100), FEATURES) != expected).all()


def test_the_regression_uses_every_feature() -> None:
    split = sample_split()
    model = fitted(simple_models(TrainingSettings())[LOGISTIC_REGRESSION], split.train, FEATURES, "churned")
    expected = scores(model, split.holdout, FEATURES)
    for feature in FEATURES:
        assert (scores(model, split.holdout.assign(**{feature: 100}), FEATURES) != expected).all()


# Scores


@pytest.mark.parametrize("classes", [[False, True], [True, False], [0, 1], [1, 0]], ids=str)
def test_a_score_is_the_probability_of_true_whatever_the_order_of_classes(classes: list[Any]) -> None:
    rows = pd.DataFrame({"a": [0.1, 0.9], "b": [0, 0]})
    assert scores(Flipped(classes), rows, FEATURES).tolist() == pytest.approx([0.1, 0.9])


def test_inputs_are_chosen_by_name_not_by_position() -> None:
    split = sample_split()
    settings = TrainingSettings(estimator="sklearn.linear_model.LogisticRegression")
    estimator = fitted(make_estimator(settings), split.train, FEATURES, "churned")
    expected = scores(estimator, split.holdout, FEATURES)
    reordered = split.holdout[["churned", "b", "label_at", "a"]].assign(later_feature=1)
    np.testing.assert_array_equal(scores(estimator, reordered, FEATURES), expected)
