"""Fits a model on a training extract, and the simple models that it has to beat."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from features.contract import TrainingSettings
from features.training.data import Split, TrainingRefused, inputs, outcomes, refuse_unusable, split_in_time
from features.training.estimator import fitted, make_estimator, simple_models
from features.training.search import Tried, search

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """A fitted estimator.

    Attributes:
        parameters: of the estimator, those declared and those chosen by the search.
        tried: the candidates of the search, best first; none without one.
        simple: fitted models to beat, by name.
    """

    estimator: Any
    parameters: dict[str, Any]
    tried: tuple[Tried, ...]
    simple: dict[str, Any]


def fit(split: Split, features: Sequence[str], label: str, horizon: timedelta, settings: TrainingSettings) -> Fitted:
    """Searches, fits and calibrates the declared estimator on the training rows, and the simple models beside it.

    The same rows and settings give the same estimator.

    Raises:
        TrainingRefused: when the rows cannot make a model.
    """
    refuse_unusable(split, features, label)
    tried = search(split.train, features, label, horizon, settings)
    chosen = tried[0].parameters if tried else {}
    log.info(
        "Fitting %s on %s rows with %s.", settings.estimator, f"{len(split.train):,}", chosen or "what is declared"
    )
    estimator = fit_calibrated(split.train, features, label, horizon, settings, chosen)
    simple = {}
    for name, model in simple_models(settings).items():
        log.info("Fitting %s, which it has to beat.", name)
        simple[name] = fitted(model, split.train, features, label)
    return Fitted(estimator, {**settings.parameters, **chosen}, tried, simple)


def fit_calibrated(
    train: pd.DataFrame,
    features: Sequence[str],
    label: str,
    horizon: timedelta,
    settings: TrainingSettings,
    chosen: Mapping[str, Any] | None = None,
) -> Any:
    """The declared estimator, fitted on rows and calibrated on the newest of them, if that is declared.

    Args:
        chosen: parameters that replace declared ones.

    Raises:
        TrainingRefused: when the rows leave nothing to calibrate on.
    """
    estimator = make_estimator(settings, chosen)
    if settings.calibration == "none":
        return fitted(estimator, train, features, label)
    # A model is too sure of rows it has learnt, so the newest label times are left to the calibration.
    try:
        inner = split_in_time(train, horizon, settings.calibration_label_times)
    except TrainingRefused as refusal:
        raise TrainingRefused(f"Nothing is left for the calibration. {refusal}") from refusal
    if inner.train[label].nunique() < 2 or inner.holdout[label].nunique() < 2:
        raise TrainingRefused("The label times for the calibration, or those before them, have one class only.")
    log.info("Calibrating (%s) on %s rows that were not fitted on.", settings.calibration, f"{len(inner.holdout):,}")
    frozen = FrozenEstimator(fitted(estimator, inner.train, features, label))
    calibrated = CalibratedClassifierCV(frozen, method=settings.calibration)
    return calibrated.fit(inputs(inner.holdout, features), outcomes(inner.holdout, label))
