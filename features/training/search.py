"""Hyper-parameters: tried within a budget, judged by log loss on the newest spans of time before the holdout."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics
from sklearn.model_selection import ParameterSampler

from features.contract import SearchSettings, TrainingSettings
from features.training.data import outcomes, time_folds
from features.training.estimator import fitted, make_estimator, scores

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tried:
    """A choice of hyper-parameters and its log loss, one per fold; the smaller, the better."""

    parameters: dict[str, Any]
    log_losses: tuple[float, ...]

    @property
    def log_loss(self) -> float:
        """The mean over the folds."""
        return float(np.mean(self.log_losses))


def search(
    train: pd.DataFrame, features: Sequence[str], label: str, horizon: timedelta, settings: TrainingSettings
) -> tuple[Tried, ...]:
    """The candidates, best first. The declared parameters are one of them, and win a tie.

    Empty when nothing is to be searched, or when there is too little history for even one fold, which is logged.
    """
    if settings.search is None:
        return ()
    folds = [
        (fit, test)
        for fit, test in time_folds(train, horizon, settings.search.folds)
        if train[label].iloc[fit].nunique() == 2
    ]
    if not folds:
        log.warning("No hyper-parameters are tried: before the holdout there is too little history to judge them on.")
        return ()
    tried: list[Tried] = []
    candidates = _candidates(settings, settings.search)
    for number, parameters in enumerate(candidates, start=1):
        losses = tuple(
            _log_loss(train.iloc[fit], train.iloc[test], features, label, settings, parameters) for fit, test in folds
        )
        tried.append(Tried(parameters, losses))
        best = min(tried, key=lambda candidate: candidate.log_loss)
        log.info(
            "Hyper-parameters %s of %s: log loss %.5f on %s folds with %s; best so far %.5f.",
            number,
            len(candidates),
            tried[-1].log_loss,
            len(folds),
            parameters or "what is declared",
            best.log_loss,
        )
    return tuple(sorted(tried, key=lambda candidate: candidate.log_loss))


def _candidates(settings: TrainingSettings, search: SearchSettings) -> list[dict[str, Any]]:
    """The declared parameters, then others at random, as many as the budget allows."""
    combinations = int(np.prod([len(values) for values in search.parameters.values()]))
    # As many as the budget: one of them may be what is declared, in other words.
    drawn = ParameterSampler(search.parameters, min(search.candidates, combinations), random_state=settings.seed)
    declared = make_estimator(settings).get_params()
    others = [chosen for chosen in drawn if make_estimator(settings, chosen).get_params() != declared]
    return [{}, *others[: search.candidates - 1]]


def _log_loss(
    fit: pd.DataFrame,
    test: pd.DataFrame,
    features: Sequence[str],
    label: str,
    settings: TrainingSettings,
    parameters: dict[str, Any],
) -> float:
    estimator = fitted(make_estimator(settings, parameters), fit, features, label)
    return float(metrics.log_loss(outcomes(test, label), scores(estimator, test, features), labels=[False, True]))
