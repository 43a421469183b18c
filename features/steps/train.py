"""Training: extract, fit, judge, register; then the gate between challenger and champion."""

import json
import logging
from datetime import datetime
from typing import Any

from features import tracking, training, warehouse
from features.contract import Model
from features.extracts import TrainingExtract, training_extract
from features.steps.baseline import write_baselines

log = logging.getLogger(__name__)


def train(model: Model, as_of: datetime) -> str:
    """Fits the model on the labels that had matured by as_of and registers it as challenger.

    Returns:
        the challenger's version.
    """
    extract = training_extract(model, as_of)
    split = _split(model, extract)
    log.info(
        "Extract %s: %s rows to train on, %s held out.",
        extract.extract_id,
        f"{len(split.train):,}",
        f"{len(split.holdout):,}",
    )
    fitted = training.fit(split, list(model.feature_names), model.label, model.training)
    log.info("Holdout: %s", ", ".join(f"{name} {value:.4f}" for name, value in fitted.metrics.items()))
    record = tracking.TrainingRecord(
        as_of=as_of,
        extract_id=extract.extract_id,
        feature_version=extract.feature_version,
        train_rows=len(split.train),
        holdout_rows=len(split.holdout),
        first_label_at=split.train["label_at"].min(),
        last_label_at=split.train["label_at"].max(),
    )
    version = tracking.register(model, fitted, split, record)
    log.info("Registered %s v%s.", model.name, version.number)
    return version.number


def promote(model: Model, number: str, as_of: datetime) -> dict[str, Any]:
    """Makes the challenger champion if it is good enough and not worse than the champion on the same holdout.

    Returns:
        whether it was promoted, and why.
    """
    extract = training_extract(model, as_of)
    split = _split(model, extract)
    metric = model.promotion.metric
    judged = _judge(model, number, split)
    champion = tracking.champion(model)
    if champion and champion.number != number and champion.trained_as_of > as_of:
        # It may have learnt from this holdout, so comparing them would say nothing.
        promoted, reason = False, f"The champion v{champion.number} knows more: it was trained as of a later instant."
    else:
        rival = _judge(model, champion.number, split)[metric] if champion and champion.number != number else None
        promoted, reason = gate(model, judged[metric], rival)
    with warehouse.connect() as connection:
        _write_evaluation(connection, model, number, as_of, judged, split, extract, promoted, reason)
        if promoted:
            _write_baseline(connection, model, number, split, extract)
            write_baselines(connection, model, number, split, extract.feature_version, tracking.load(model, number))
    if promoted:
        # Last, so that a champion always has its baseline.
        tracking.promote(model, number)
    log.info("%s v%s: %s. %s", model.name, number, "promoted" if promoted else "not promoted", reason)
    return {"version": number, "promoted": promoted, "reason": reason}


def gate(model: Model, challenger: float, champion: float | None) -> tuple[bool, str]:
    """Whether a challenger with this metric may replace a champion with that one, and why."""
    name, minimum, tolerance = model.promotion.metric, model.promotion.minimum, model.promotion.tolerance
    if not challenger >= minimum:  # so that NaN is not good enough either
        return False, f"Its {name} {challenger:.4f} is below the minimum {minimum:g}."
    if champion is None:
        return True, f"Its {name} {challenger:.4f} reaches the minimum {minimum:g}, and there is no other champion."
    if challenger < champion - tolerance:
        return False, f"Its {name} {challenger:.4f} is worse than the champion's {champion:.4f} on the same holdout."
    comparison = f"within {tolerance:g} of the champion's {champion:.4f} or better, on the same holdout"
    return True, f"Its {name} {challenger:.4f} is {comparison}."


def _split(model: Model, extract: TrainingExtract) -> training.Split:
    return training.split_in_time(extract.rows, model.label_horizon, model.training.holdout_label_times)


def _judge(model: Model, number: str, split: training.Split) -> dict[str, float]:
    return training.judge(tracking.load(model, number), split.holdout, list(model.feature_names), model.label)


def _write_evaluation(
    connection: warehouse.Connection,
    model: Model,
    number: str,
    as_of: datetime,
    judged: dict[str, float],
    split: training.Split,
    extract: TrainingExtract,
    promoted: bool,
    reason: str,
) -> None:
    connection.execute(
        """
        insert into monitoring.model_evaluations (
            model_name, model_version, as_of, metrics, train_rows, holdout_rows, extract_id, promoted, reason
        )
        values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
        on conflict (model_name, model_version) do update set
            as_of = excluded.as_of,
            metrics = excluded.metrics,
            train_rows = excluded.train_rows,
            holdout_rows = excluded.holdout_rows,
            extract_id = excluded.extract_id,
            promoted = excluded.promoted,
            reason = excluded.reason,
            evaluated_at = now()
        """,
        [
            model.name,
            number,
            as_of,
            json.dumps(judged),
            len(split.train),
            len(split.holdout),
            extract.extract_id,
            promoted,
            reason,
        ],
    )


def _write_baseline(
    connection: warehouse.Connection, model: Model, number: str, split: training.Split, extract: TrainingExtract
) -> None:
    connection.execute(
        """
        insert into monitoring.model_baselines (
            model_name, model_version, training_set, feature_version, first_label_at, last_label_at, row_count
        )
        values (%s, %s, %s, %s, %s, %s, %s)
        on conflict (model_name, model_version) do nothing
        """,
        [
            model.name,
            number,
            ".".join(model.training_set),
            extract.feature_version,
            split.train["label_at"].min(),
            split.train["label_at"].max(),
            len(split.train),
        ],
    )
