"""Promotion: the gate between challenger and champion, and what a new champion brings with it."""

import logging
from dataclasses import asdict
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features import champions, tracking, warehouse
from features.champions import Reign
from features.contract import Model
from features.drift import baselines
from features.extracts import TrainingExtract, training_extract
from features.steps.baseline import write_baselines
from features.steps.read import latest_snapshot
from features.steps.train import slices_of, split_of
from features.training.data import Split, extremes, outcomes
from features.training.estimator import scores, simple_models
from features.training.gate import Checked, GateCheck, PromotionDecision, Trial, judge_challenger

log = logging.getLogger(__name__)

DRIFT_BASELINE = "drift_baseline.json"


def promote(model: Model, number: str, as_of: datetime) -> dict[str, Any]:
    """Makes the challenger champion if it passes the gate; otherwise it stays challenger, with the reason.

    Judging again by the same settings says the same; a version that is champion stays it.

    Returns:
        whether it was promoted, and why.
    """
    extract = training_extract(model, as_of)
    split = split_of(model, extract)
    challenger, champion = tracking.registered(model, number), tracking.champion(model)
    with warehouse.connect() as connection:
        decision = _decide(connection, model, challenger, champion, split)
        _write(connection, model, number, decision)
        if decision.promoted:
            _enthrone(connection, model, challenger, champion, split, extract, decision)
    if decision.promoted:
        # Last, so that a champion always has its baseline.
        tracking.promote(model, number)
    for each in decision.checks:
        log.info("%s %s: %s", "passed" if each.passed else "FAILED", each.check, each.evidence)
    log.info("%s v%s: %s.", model.name, number, "promoted" if decision.promoted else "not promoted")
    return {"version": number, "promoted": decision.promoted, "reason": decision.reason}


def _decide(
    connection: warehouse.Connection,
    model: Model,
    challenger: tracking.Version,
    champion: tracking.Version | None,
    split: Split,
) -> PromotionDecision:
    if champion and champion.number != challenger.number and champion.trained_as_of > challenger.trained_as_of:
        # It may have learnt from this holdout, so comparing them would say nothing.
        evidence = f"The champion v{champion.number} knows more: it was trained as of a later instant."
        return PromotionDecision(False, evidence, (Checked(GateCheck.CHAMPION, False, evidence),))
    trial = _trial(connection, model, challenger, champion, split)
    return judge_challenger(trial, model.promotion, seed=model.training.seed)


def _trial(
    connection: warehouse.Connection,
    model: Model,
    challenger: tracking.Version,
    champion: tracking.Version | None,
    split: Split,
) -> Trial:
    """Everybody's scores of the same rows."""
    names = list(model.feature_names)
    rival, why_not = _rival(model, challenger, champion)
    estimator = tracking.load(model, challenger.number)
    simple = tracking.load_simple(challenger, simple_models(model.training))
    snapshot = latest_snapshot(
        connection, model, challenger.trained_as_of, challenger.feature_version, [*model.entity, *names]
    )
    return Trial(
        truth=outcomes(split.holdout, model.label),
        entity=split.holdout[list(model.entity)],
        challenger=scores(estimator, split.holdout, names),
        champion=None if rival is None else scores(rival, split.holdout, names),
        champion_version=champion.number if champion else "",
        no_champion_because=why_not,
        simple={name: scores(each, split.holdout, names) for name, each in simple.items()},
        slices=slices_of(connection, model, split),
        extremes=scores(estimator, extremes(split.train, names), names),
        snapshot=_scores_or_none(estimator, snapshot, names),
        champion_snapshot=_scores_or_none(rival, snapshot, names),
    )


def _rival(model: Model, challenger: tracking.Version, champion: tracking.Version | None) -> tuple[Any | None, str]:
    """The champion's estimator, or None and why there is nothing to compare with."""
    if champion is None or champion.number == challenger.number:
        return None, "There is no other champion."
    if champion.feature_version != challenger.feature_version:
        return None, (
            f"The champion v{champion.number} was trained on another definition of the features, "
            f"{champion.feature_version}, and cannot score these."
        )
    return tracking.load(model, champion.number), ""


def _scores_or_none(estimator: Any | None, rows: pd.DataFrame, names: list[str]) -> npt.NDArray[np.float64] | None:
    return None if estimator is None or rows.empty else scores(estimator, rows, names)


def _write(connection: warehouse.Connection, model: Model, number: str, decision: PromotionDecision) -> None:
    connection.execute(
        "update monitoring.model_evaluations set promoted = %s, reason = %s, checks = %s, evaluated_at = now()"
        " where model_name = %s and model_version = %s",
        [
            decision.promoted,
            decision.reason,
            warehouse.json_text([asdict(each) for each in decision.checks]),
            model.name,
            number,
        ],
    )


def _enthrone(
    connection: warehouse.Connection,
    model: Model,
    challenger: tracking.Version,
    champion: tracking.Version | None,
    split: Split,
    extract: TrainingExtract,
    decision: PromotionDecision,
) -> None:
    """What drift will be measured against, in the warehouse and with the version; then its place in the ledger."""
    _write_training_rows(connection, model, challenger.number, split, extract)
    estimator = tracking.load(model, challenger.number)
    write_baselines(connection, model, challenger.number, split, extract.feature_version, estimator)
    tracking.attach(challenger, baselines.document(connection, model, challenger.number), DRIFT_BASELINE)
    reign = Reign(challenger.number, challenger.feature_version, "promotion")
    champions.record(connection, model, reign, champion.number if champion else None, decision.reason)


def _write_training_rows(
    connection: warehouse.Connection, model: Model, number: str, split: Split, extract: TrainingExtract
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
