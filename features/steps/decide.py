"""Deciding: gathers what the policy judges by, and writes its decision, whatever it is."""

import json
import logging
from dataclasses import asdict
from datetime import datetime
from typing import Any

from psycopg import sql

from features import tracking, training, warehouse
from features.contract import Model, Severity
from features.drift.decision import SEVERITIES, DriftStatus
from features.drift.incidents import open_incidents
from features.policy import Champion, DataIncident, DriftFinding, PolicyInputs, RetrainingDecision, RetrainingPolicy

log = logging.getLogger(__name__)

MIN_RECENT_LABELS = 500


def decide(model: Model, as_of: datetime, dag_run_id: str) -> dict[str, Any]:
    """Evaluates the policy at as_of and keeps the decision; deciding again replaces the row.

    Returns:
        should_retrain, trigger, priority and the reason as a sentence.
    """
    version = tracking.champion(model)
    with warehouse.connect() as connection:
        inputs = gather(connection, model, version, as_of)
        decision = RetrainingPolicy(model.retraining).evaluate(inputs, as_of)
        _write(connection, model, version, decision, dag_run_id)
    log.info("%s at %s: %s. %s", model.name, as_of, "retrain" if decision.should_retrain else "hold", decision.reason)
    return {
        "should_retrain": decision.should_retrain,
        "trigger": decision.trigger,
        "priority": decision.priority.name.lower(),
        "reason": decision.reason,
    }


def gather(
    connection: warehouse.Connection, model: Model, version: tracking.Version | None, as_of: datetime
) -> PolicyInputs:
    """What is known at as_of about the champion, its inputs and its labels."""
    incidents = _data_incidents(connection, model, as_of)
    if version is None:
        return PolicyInputs(
            champion=None, drift=None, new_labels=None, recent_metric=None, recent_labels=0, data_incidents=incidents
        )
    metric = model.promotion.metric
    recent_metric, recent_labels = _recent_performance(connection, model, version, as_of)
    return PolicyInputs(
        champion=Champion(version.number, version.trained_as_of, version.metrics[metric]),
        drift=_drift(connection, model, version, as_of),
        new_labels=_new_labels(connection, model, version, as_of),
        recent_metric=recent_metric,
        recent_labels=recent_labels,
        data_incidents=incidents,
    )


def _data_incidents(connection: warehouse.Connection, model: Model, as_of: datetime) -> list[DataIncident]:
    """Those that block retraining at as_of."""
    return [
        DataIncident(
            incident_id=incident.incident_id or 0,
            cause=str(incident.cause),
            features=incident.features,
            opened_at=incident.opened_at,
            owner=incident.owner,
        )
        for incident in open_incidents(connection, model)
        if incident.blocks_retraining and incident.opened_at <= as_of
    ]


def _drift(
    connection: warehouse.Connection, model: Model, version: tracking.Version, as_of: datetime
) -> list[DriftFinding]:
    rows = connection.execute(
        "select feature, status from monitoring.feature_drift"
        " where model_name = %s and model_version = %s and as_of = %s",
        [model.name, version.number, as_of],
    ).fetchall()
    if not rows:
        return []
    reported = {row["feature"]: DriftStatus(row["status"]) for row in rows}
    # Nobody looked at a feature without a report; the policy must not take that for "did not drift".
    return [
        DriftFinding(name, reported[name], SEVERITIES.get(reported[name], Severity.NONE))
        if name in reported
        else DriftFinding(name, "not_reported", Severity.NONE)
        for name in model.feature_names
    ]


def _new_labels(connection: warehouse.Connection, model: Model, version: tracking.Version, as_of: datetime) -> int:
    query = sql.SQL("select count(*) as n from {} where matured_at > %s and matured_at <= %s")
    row = connection.execute(
        query.format(sql.Identifier(*model.training_set)), [version.trained_as_of, as_of]
    ).fetchone()
    return int(row["n"]) if row else 0


def _recent_performance(
    connection: warehouse.Connection, model: Model, version: tracking.Version, as_of: datetime
) -> tuple[float | None, int]:
    """The champion's metric on labels that matured after it was trained, from the feature rows that were live."""
    names = [model.label, *model.feature_names]
    query = sql.SQL("select {} from {} where matured_at > %s and matured_at <= %s and feature_version = %s").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(*model.training_set)
    )
    rows = warehouse.frame(connection, query, [version.trained_as_of, as_of, version.feature_version])
    if len(rows) < MIN_RECENT_LABELS or rows[model.label].nunique() < 2:
        return None, len(rows)
    judged = training.judge(tracking.load(model, version.number), rows, list(model.feature_names), model.label)
    return judged[model.promotion.metric], len(rows)


def _write(
    connection: warehouse.Connection,
    model: Model,
    version: tracking.Version | None,
    decision: RetrainingDecision,
    dag_run_id: str,
) -> None:
    connection.execute(
        """
        insert into monitoring.retraining_decisions (
            model_name, as_of, should_retrain, trigger, priority, reason, triggers, blocked_by, champion_version,
            dag_run_id
        )
        values (
            %(model_name)s, %(as_of)s, %(should_retrain)s, %(trigger)s, %(priority)s, %(reason)s, %(triggers)s,
            %(blocked_by)s, %(champion_version)s, %(dag_run_id)s
        )
        on conflict (model_name, as_of) do update set
            should_retrain = excluded.should_retrain,
            trigger = excluded.trigger,
            priority = excluded.priority,
            reason = excluded.reason,
            triggers = excluded.triggers,
            blocked_by = excluded.blocked_by,
            champion_version = excluded.champion_version,
            dag_run_id = excluded.dag_run_id,
            decided_at = now()
        """,
        {
            "model_name": model.name,
            "as_of": decision.as_of,
            "should_retrain": decision.should_retrain,
            "trigger": decision.trigger,
            "priority": decision.priority.name.lower(),
            "reason": decision.reason,
            "triggers": json.dumps([asdict(finding) for finding in decision.triggers]),
            "blocked_by": json.dumps(decision.blocked_by),
            "champion_version": version.number if version else None,
            "dag_run_id": dag_run_id,
        },
    )
