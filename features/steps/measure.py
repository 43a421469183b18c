"""Measuring: how good the model is on what it said, estimated at once, measured when the labels have come home."""

import logging
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from features import tracking, warehouse
from features.contract import Model
from features.performance import cohorts, store
from features.performance.cohorts import Cohort
from features.performance.estimated import UNKNOWN, Estimated, calibration_of, estimated_performance
from features.performance.realised import realised_performance, share_true
from features.retraining.decision import Performance
from features.training.data import outcomes
from features.training.estimator import scores
from features.training.resampling import Booleans, Entities, Floats

log = logging.getLogger(__name__)


def measure(model: Model, as_of: datetime) -> dict[str, Any]:
    """Writes what can be known by as_of of the model's performance; measuring again changes nothing.

    Every version's cohorts count, whoever is champion now; only of the champion it is also measured how it does on all
    labels since its training.

    Returns:
        model_version of the champion (None when there is none, then nothing is measured), how many cohorts were
        estimated and measured, and how many labels since the training were measured anew.
    """
    champion = tracking.champion(model)
    if champion is None:
        log.info("%s has no champion yet; there is nothing to measure.", model.name)
        return {"model_version": None, "estimated": 0, "measured": 0, "labels_since_training": 0}
    with warehouse.connect() as connection:
        fresh = cohorts.unestimated(connection, model, as_of)
        for cohort in fresh:
            _estimate(connection, model, cohort)
        mature = cohorts.unmeasured(connection, model, as_of)
        for cohort in mature:
            _measure(connection, model, cohort)
        labels = _measure_since_training(connection, model, champion, as_of)
    log.info("%s at %s: %s cohorts estimated, %s measured.", model.name, as_of, len(fresh), len(mature))
    return {
        "model_version": champion.number,
        "estimated": len(fresh),
        "measured": len(mature),
        "labels_since_training": labels,
    }


def performance_since_training(
    connection: warehouse.Connection, model: Model, version: tracking.Version, as_of: datetime
) -> Performance:
    """A version's metric on the labels that matured after it was trained, as it was last measured by as_of.

    Unknown (NaN) when they are fewer than `min_recent_labels`, and when nobody has measured: then there are 0.
    """
    row = store.newest_since_training(connection, model, version, as_of)
    labels = int(row["labels"]) if row else 0
    if row is None or labels < model.retraining.min_recent_labels:
        return Performance(float("nan"), float("nan"), float("nan"), labels)
    found = store.interval_of(row, model.promotion.metric)
    return Performance(found.estimate, found.low, found.high, labels)


def _estimate(connection: warehouse.Connection, model: Model, cohort: Cohort) -> int:
    """Writes what is to be expected of a cohort; of a version that was never evaluated, only how much it said.

    Returns:
        how many predictions that is.
    """
    said = cohorts.predictions(connection, model, cohort)
    bins = store.holdout_bins(connection, model, cohort.version)
    expected = Estimated(UNKNOWN, UNKNOWN, UNKNOWN)
    if bins:
        score, weights, calibration = _numbers(said["score"]), _numbers(said["weight"]), calibration_of(bins)
        expected = estimated_performance(score, calibration, weights, confidence=model.retraining.confidence)
    values = {
        "predictions": len(said),
        **store.columns_of("estimated_accuracy", expected.accuracy),
        **store.columns_of("estimated_roc_auc", expected.roc_auc),
        "estimated_brier": expected.brier.estimate,
        "confidence": model.retraining.confidence,
    }
    store.write(connection, model, cohort, values)
    return len(said)


def _measure(connection: warehouse.Connection, model: Model, cohort: Cohort) -> None:
    """Writes what has become true of a cohort all of whose labels have matured."""
    row = store.find(connection, model, cohort)
    # Without one it was said before the days that are estimated.
    said = row["predictions"] if row else _estimate(connection, model, cohort)
    rows = cohorts.labelled(connection, model, cohort)
    score, weights = _numbers(rows["score"]), _numbers(rows["weight"])
    values = _realised(model, outcomes(rows, "truth"), score, weights, rows[["entity_id"]])
    values |= {"predictions": said, "matured_at": rows["matured_at"].max() if len(rows) else None}
    store.write(connection, model, cohort, values)


def _measure_since_training(
    connection: warehouse.Connection, model: Model, champion: tracking.Version, as_of: datetime
) -> int:
    """Writes how the champion does on all labels since its training, if there are new ones; then returns how many."""
    now = cohorts.count_since(connection, model, champion, as_of)
    if now is None:
        return 0
    cohort = Cohort(champion.number, "since_training", now["cohort"])
    known = {"labels": now["labels"], "matured_at": now["matured_at"], "confidence": model.retraining.confidence}
    before = store.find(connection, model, cohort)
    if before and all(before[name] == value for name, value in known.items()):
        return 0
    rows = cohorts.labelled_since(connection, model, champion, as_of)
    said = _numbers(rows[cohorts.SCORE])
    values = _realised(
        model,
        outcomes(rows, model.label),
        _scored(model, champion, rows, said),
        np.ones(len(rows)),
        rows[list(model.entity)],
    )
    values |= {"predictions": int(np.isfinite(said).sum()), "matured_at": now["matured_at"]}
    store.write(connection, model, cohort, values)
    return len(rows)


def _scored(model: Model, champion: tracking.Version, rows: pd.DataFrame, said: Floats) -> Floats:
    """What the champion said, and where it said nothing, because it was not yet champion, what it says."""
    score = said.copy()
    silent = ~np.isfinite(said)
    if silent.any():
        score[silent] = scores(tracking.load(model, champion.number), rows[silent], model.feature_names)
    return score


def _realised(model: Model, truth: Booleans, score: Floats, weights: Floats, entity: pd.DataFrame) -> dict[str, Any]:
    entities = Entities(entity, seed=model.training.seed)
    confidence = model.retraining.confidence
    values: dict[str, Any] = {"labels": len(truth), "share_true": share_true(truth, weights), "confidence": confidence}
    for name, found in realised_performance(truth, score, weights, entities, confidence).items():
        values |= store.columns_of(name, found)
    return values


def _numbers(column: "pd.Series[Any]") -> Floats:
    """A column as plain numbers; null is NaN."""
    return column.to_numpy(dtype=np.float64, na_value=np.nan)
