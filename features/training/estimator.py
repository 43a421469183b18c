"""Estimators: the one that the contract declares, and the simple ones that it has to beat."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from features.contract import TrainingSettings
from features.errors import SkewlessError
from features.training.data import TrainingRefused, inputs, outcomes

LOGISTIC_REGRESSION = "logistic_regression"
RECENCY_ONLY = "recency_only"


def make_estimator(settings: TrainingSettings, chosen: Mapping[str, Any] | None = None) -> Any:
    """The estimator that the contract names by its import path, not fitted yet.

    Whatever of it is random gets the seed, unless its parameters say otherwise.

    Args:
        chosen: parameters that replace declared ones.

    Raises:
        SkewlessError: when it cannot be imported, refuses its parameters, or gives no probabilities.
    """
    module, _, name = settings.estimator.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SkewlessError(f"training.estimator: {settings.estimator} cannot be imported ({error}).") from error
    try:
        estimator = kind(**settings.parameters)
    except (TypeError, ValueError) as error:
        raise SkewlessError(f"training.parameters: {settings.estimator} refuses them ({error}).") from error
    try:
        estimator.set_params(**chosen or {})
    except ValueError as error:
        raise SkewlessError(f"training.search.parameters: {settings.estimator} refuses them ({error}).") from error
    if not hasattr(estimator, "predict_proba"):
        raise SkewlessError(f"training.estimator: {settings.estimator} has no predict_proba, so it gives no scores.")
    unset = {
        name: settings.seed
        for name, value in estimator.get_params().items()
        if name.split("__")[-1] == "random_state" and value is None
    }
    return estimator.set_params(**unset)


def simple_models(settings: TrainingSettings) -> dict[str, Any]:
    """What a model has to beat, not fitted yet: a regression on all features, and on the recency feature alone."""
    models = {LOGISTIC_REGRESSION: _regression()}
    if settings.recency_feature is not None:
        recency = ColumnTransformer([("recency", "passthrough", [settings.recency_feature])])
        models[RECENCY_ONLY] = make_pipeline(recency, _regression())
    return models


def _regression() -> Any:
    return make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True), StandardScaler(), LogisticRegression(max_iter=1000)
    )


def fitted(estimator: Any, rows: pd.DataFrame, features: Sequence[str], label: str) -> Any:
    """The estimator, fitted on these rows.

    Raises:
        TrainingRefused: with what the estimator does not like, of the rows or of its parameters' values.
    """
    try:
        return estimator.fit(inputs(rows, features), outcomes(rows, label))
    except ValueError as error:
        raise TrainingRefused(f"{type(estimator).__name__} cannot be fitted: {error}") from error


def scores(estimator: Any, rows: pd.DataFrame, features: Sequence[str]) -> npt.NDArray[np.float64]:
    """The probability of the label being true, one per row."""
    positive = list(estimator.classes_).index(True)
    probabilities: npt.NDArray[np.float64] = estimator.predict_proba(inputs(rows, features))[:, positive]
    return probabilities
