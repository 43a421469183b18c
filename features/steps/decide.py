"""Deciding: gathers what the policy judges by, and writes its decision, whatever it is."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from psycopg import sql

from features import ledger, metrics, tracking, warehouse
from features.contract import Model, Severity
from features.drift.decision import SEVERITIES, DriftStatus
from features.drift.incident import Incident
from features.drift.incidents import newest_as_of, open_incidents
from features.errors import SkewlessError
from features.retraining.decision import (
    Cadence,
    Champion,
    DataIncident,
    DriftFinding,
    DriftFindings,
    PolicyInputs,
    Retraining,
    RetrainingDecision,
)
from features.retraining.policy import BUDGET_PERIOD, RetrainingPolicy
from features.steps.measure import performance_since_training

log = logging.getLogger(__name__)


def decide(
    model: Model, as_of: datetime, dag_run_id: str, *, requested: str | None = None, in_flight: int = 0
) -> dict[str, Any]:
    """Evaluates the policy at as_of and keeps the decision; deciding again replaces the row.

    Only a decision to retrain stays, as the record of why there was a training: another run of its partition repeats
    it and starts nothing, unless a person asks.

    Args:
        requested: why a person asks for a retraining.
        in_flight: trainings that are queued, running or waiting for approval.

    Returns:
        outcome, should_retrain, trigger, priority and the reason as a sentence.
    """
    started = None if requested else _retraining_started(model, as_of)
    if started:
        log.info(
            "It was decided to retrain %s as of %s in %s: %s", model.name, as_of, started["run"], started["reason"]
        )
        repeated = started.pop("run") == dag_run_id
        return {**started, "should_retrain": repeated}
    decision = _evaluate(model, as_of, dag_run_id, requested, in_flight)
    log.info("%s at %s: %s. %s", model.name, as_of, decision.outcome, decision.reason)
    return {
        "outcome": decision.outcome,
        "should_retrain": decision.should_retrain,
        "trigger": decision.trigger,
        "priority": decision.priority.name.lower(),
        "reason": decision.reason,
    }


def _retraining_started(model: Model, as_of: datetime) -> dict[str, Any] | None:
    """The decision at as_of, if it was to retrain, and the Dag run that made it."""
    with warehouse.connect() as connection:
        row = connection.execute(
            "select outcome, trigger, priority, reason, dag_run_id as run from monitoring.retraining_decisions"
            " where model_name = %s and as_of = %s and should_retrain",
            [model.name, as_of],
        ).fetchone()
    return dict(row) if row else None


def _evaluate(
    model: Model, as_of: datetime, dag_run_id: str, requested: str | None, in_flight: int
) -> RetrainingDecision:
    version = tracking.champion(model)
    with warehouse.connect() as connection:
        inputs = gather(connection, model, version, as_of, requested=requested, in_flight=in_flight)
        decision = RetrainingPolicy(model.retraining).evaluate(inputs, as_of)
        _write(connection, model, version, inputs, decision, dag_run_id)
    metrics.decided(model, decision.outcome, version.trained_as_of if version else None, as_of)
    return decision


def reason_of(model: Model, as_of: datetime) -> str:
    """What a person who has to approve is told of the decision at as_of."""
    with warehouse.connect() as connection:
        row = connection.execute(
            "select priority, trigger, reason from monitoring.retraining_decisions"
            " where model_name = %s and as_of = %s",
            [model.name, as_of],
        ).fetchone()
    if row is None:
        raise SkewlessError(
            f"Nothing was decided on {model.name} at {as_of:%Y-%m-%d %H:%M}Z: run {model.name}_retraining."
        )
    return f"{row['reason']}\n\nTrigger: {row['trigger']}; priority: {row['priority']}."


def is_still_allowed(model: Model, as_of: datetime) -> bool:
    """Whether no data incident and no missing feature forbids by now what was decided on at as_of.

    By now: an answer may take hours, and what was watched meanwhile counts.
    """
    version = tracking.champion(model)
    with warehouse.connect() as connection:
        now = max(as_of, newest_as_of(connection, model))
        # The guards against too many retrainings have been asked; a yes of a person is a request.
        inputs = gather(connection, model, version, now, requested="it was approved")
    decision = RetrainingPolicy(model.retraining).evaluate(inputs, now)
    log.info("%s at %s: %s. %s", model.name, now, decision.outcome, decision.reason)
    return decision.should_retrain


def gather(
    connection: warehouse.Connection,
    model: Model,
    version: tracking.Version | None,
    as_of: datetime,
    *,
    requested: str | None = None,
    in_flight: int = 0,
) -> PolicyInputs:
    """What is known at as_of about the champion, its inputs and its labels."""
    incidents = [incident for incident in open_incidents(connection, model) if incident.opened_at <= as_of]
    common = PolicyInputs(
        champion=None,
        feature_version=ledger.current_version(connection, model.feature_view),
        data_incidents=_data_incidents(incidents),
        retrainings=_retrainings(connection, model, as_of),
        in_flight=in_flight,
        requested=requested,
        cadence=_cadence(connection, model, as_of),
    )
    return common if version is None else _of_champion(connection, model, version, common, incidents, as_of)


def _of_champion(
    connection: warehouse.Connection,
    model: Model,
    version: tracking.Version,
    common: PolicyInputs,
    incidents: Sequence[Incident],
    as_of: datetime,
) -> PolicyInputs:
    metric = version.metrics.get(model.promotion.metric, float("nan"))  # which the policy does not take for a pass
    return PolicyInputs(
        **vars(common)
        | {
            "champion": Champion(version.number, version.trained_as_of, metric, version.feature_version),
            "drift": _drift(connection, model, version, as_of),
            "performance": performance_since_training(connection, model, version, as_of),
            "labels_since_shift": _labels_since_shift(connection, model, incidents, as_of),
            **_new_labels(connection, model, version, as_of),
        }
    )


def _data_incidents(incidents: Iterable[Incident]) -> list[DataIncident]:
    """Those that block retraining."""
    return [
        DataIncident(
            incident_id=incident.incident_id or 0,
            cause=str(incident.cause),
            features=incident.features,
            opened_at=incident.opened_at,
            owner=incident.owner,
        )
        for incident in incidents
        if incident.blocks_retraining
    ]


def _retrainings(connection: warehouse.Connection, model: Model, as_of: datetime) -> list[Retraining]:
    """Asked for before as_of, as far back as a cooldown or the budget looks."""
    since = as_of - max(BUDGET_PERIOD, timedelta(hours=model.retraining.cooldown_hours))
    rows = connection.execute(
        "select as_of, feature_version from monitoring.retraining_decisions"
        " where model_name = %s and should_retrain and as_of > %s and as_of < %s",
        [model.name, since, as_of],
    )
    return [Retraining(row["as_of"], row["feature_version"] or "") for row in rows]


def _cadence(connection: warehouse.Connection, model: Model, as_of: datetime) -> Cadence | None:
    row = connection.execute(
        "select max_age_days, as_of, measured_days from monitoring.decay_backtests"
        " where model_name = %s and as_of <= %s order by as_of desc limit 1",
        [model.name, as_of],
    ).fetchone()
    return Cadence(**row) if row else None


def _drift(
    connection: warehouse.Connection, model: Model, version: tracking.Version, as_of: datetime
) -> DriftFindings | None:
    """The last reports at or before as_of; whether they are too old is the policy's to say."""
    rows = connection.execute(
        "select feature, status, as_of from monitoring.feature_drift where model_name = %(model)s"
        " and model_version = %(version)s and as_of = (select max(as_of) from monitoring.drift_reports"
        " where model_name = %(model)s and model_version = %(version)s and as_of <= %(as_of)s)",
        {"model": model.name, "version": version.number, "as_of": as_of},
    ).fetchall()
    if not rows:
        return None
    reported = {row["feature"]: DriftStatus(row["status"]) for row in rows}
    # Nobody looked at a feature without a report; the policy must not take that for "did not drift".
    findings = [
        DriftFinding(name, reported[name], SEVERITIES.get(reported[name], Severity.NONE))
        if name in reported
        else DriftFinding(name, "not_reported", Severity.NONE)
        for name in model.feature_names
    ]
    return DriftFindings(rows[0]["as_of"], findings)


def _labels_since_shift(
    connection: warehouse.Connection, model: Model, incidents: Iterable[Incident], as_of: datetime
) -> int | None:
    """Matured labels of instants after the first of the incidents began that stand for a changed world."""
    began = [
        incident.opened_at for incident in incidents if not incident.blocks_retraining and incident.verdict != "benign"
    ]
    if not began:
        return None
    query = sql.SQL("select count(*) as n from {} where label_at >= %s and matured_at <= %s")
    row = connection.execute(query.format(sql.Identifier(*model.training_set)), [min(began), as_of]).fetchone()
    return int(row["n"]) if row else None


def _new_labels(
    connection: warehouse.Connection, model: Model, version: tracking.Version, as_of: datetime
) -> dict[str, Any]:
    query = sql.SQL(
        "select count(*) filter (where matured_at > %s) as new_labels, max(matured_at) as newest_label"
        " from {} where matured_at <= %s"
    )
    row = connection.execute(
        query.format(sql.Identifier(*model.training_set)), [version.trained_as_of, as_of]
    ).fetchone()
    assert row is not None
    return dict(row)


def _write(
    connection: warehouse.Connection,
    model: Model,
    version: tracking.Version | None,
    inputs: PolicyInputs,
    decision: RetrainingDecision,
    dag_run_id: str,
) -> None:
    row = {
        "model_name": model.name,
        "as_of": decision.as_of,
        "outcome": decision.outcome,
        "should_retrain": decision.should_retrain,
        "trigger": decision.trigger,
        "priority": decision.priority.name.lower(),
        "reason": decision.reason,
        "triggers": warehouse.json_text([asdict(finding) for finding in decision.triggers]),
        "blocked_by": warehouse.json_text([asdict(block) for block in decision.blocked_by]),
        "champion_version": version.number if version else None,
        "feature_version": inputs.feature_version,
        "dag_run_id": dag_run_id,
    }
    columns, replacing = ", ".join(row), ", ".join(f"excluded.{name}" for name in row)
    warehouse.insert(
        connection,
        "monitoring.retraining_decisions",
        row,
        f"on conflict (model_name, as_of) do update set ({columns}) = ({replacing}), decided_at = now()",
    )
