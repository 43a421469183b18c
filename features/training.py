"""Fits and judges a model on a training extract. Pure: a frame in, a model and its metrics out.

The split is in time: the newest label times are the holdout, and the rows in the label horizon before it are left out,
because their outcomes overlap it.
"""

import importlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn import metrics

from features.contract import TrainingSettings
from features.errors import SkewlessError

MIN_ROWS = 200


class TrainingRefused(SkewlessError):
    """The data cannot make a model; the champion stays."""


@dataclass(frozen=True)
class Split:
    """Rows to fit on and rows to judge on."""

    train: pd.DataFrame
    holdout: pd.DataFrame


@dataclass(frozen=True)
class Fitted:
    """A fitted estimator with its metrics on the holdout."""

    estimator: Any
    metrics: dict[str, float]


def split_in_time(extract: pd.DataFrame, horizon: timedelta, holdout_label_times: int) -> Split:
    """The newest `holdout_label_times` label times against all rows whose outcome was known before the first of them.

    Args:
        extract: one row per label, with label_at (timezone-aware).
        horizon: from label_at until the outcome.

    Raises:
        TrainingRefused: when one side would be too small.
    """
    times = sorted(extract["label_at"].unique())
    if len(times) <= holdout_label_times:
        raise TrainingRefused(
            f"The extract has {len(times)} label times; "
            f"{holdout_label_times} for the holdout and at least one to train on are needed."
        )
    first_holdout = times[-holdout_label_times]
    train = extract[extract["label_at"] <= first_holdout - horizon]
    holdout = extract[extract["label_at"] >= first_holdout]
    for name, rows in (("training", train), ("holdout", holdout)):
        if len(rows) < MIN_ROWS:
            raise TrainingRefused(f"The {name} part has {len(rows)} rows; at least {MIN_ROWS} are needed.")
    return Split(train, holdout)


def fit(split: Split, features: list[str], label: str, settings: TrainingSettings) -> Fitted:
    """Fits the declared estimator on the training rows and judges it on the holdout.

    Raises:
        TrainingRefused: when either part has one class only, or a feature has no value at all.
    """
    for name, rows in (("training", split.train), ("holdout", split.holdout)):
        if rows[label].nunique() < 2:
            raise TrainingRefused(f"All {len(rows):,} {name} labels are {rows[label].iloc[0]}; nothing can be learnt.")
    empty = [feature for feature in features if split.train[feature].isna().all()]
    if empty:
        raise TrainingRefused(f"{', '.join(empty)} has no value in any training row.")
    estimator = make_estimator(settings)
    estimator.fit(inputs(split.train, features), split.train[label].astype(bool))
    return Fitted(estimator, judge(estimator, split.holdout, features, label))


def make_estimator(settings: TrainingSettings) -> Any:
    """The estimator that the contract names by its import path."""
    module, _, name = settings.estimator.rpartition(".")
    try:
        estimator = getattr(importlib.import_module(module), name)(**settings.parameters)
    except (ImportError, AttributeError, ValueError) as error:
        raise SkewlessError(f"training.estimator: {settings.estimator} cannot be imported ({error}).") from error
    except TypeError as error:
        raise SkewlessError(f"training.parameters: {settings.estimator} refuses them ({error}).") from error
    if not hasattr(estimator, "predict_proba"):
        raise SkewlessError(f"training.estimator: {settings.estimator} has no predict_proba, so it gives no scores.")
    return estimator


def inputs(rows: pd.DataFrame, features: list[str]) -> pd.DataFrame:
    """The model's inputs by name, as float64: an integer may be missing one day, and the signature must not change."""
    return rows[features].astype("float64")


def scores(estimator: Any, rows: pd.DataFrame, features: list[str]) -> npt.NDArray[np.float64]:
    """The probability of the label being true, one per row."""
    positive = list(estimator.classes_).index(True)
    probabilities: npt.NDArray[np.float64] = estimator.predict_proba(inputs(rows, features))[:, positive]
    return probabilities


def judge(estimator: Any, rows: pd.DataFrame, features: list[str], label: str) -> dict[str, float]:
    """ROC AUC, average precision, Brier score, log loss and accuracy on rows with both classes."""
    truth = rows[label].astype(bool)
    score = scores(estimator, rows, features)
    return {
        "roc_auc": float(metrics.roc_auc_score(truth, score)),
        "average_precision": float(metrics.average_precision_score(truth, score)),
        "brier": float(metrics.brier_score_loss(truth, score)),
        "log_loss": float(metrics.log_loss(truth, score)),
        "accuracy": float(metrics.accuracy_score(truth, score >= 0.5)),
    }
