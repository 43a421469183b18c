"""The table of incidents: monitoring.drift_incidents."""

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from features import warehouse
from features.contract import Model, Severity
from features.drift.cause import Cause
from features.drift.incident import Finding, Incident, Step, Verdict
from features.errors import SkewlessError

BEFORE_ALL = datetime(1, 1, 1, tzinfo=UTC)


def open_incidents(connection: warehouse.Connection, model: Model) -> list[Incident]:
    """Those that are not closed, oldest first."""
    rows = connection.execute(
        "select * from monitoring.drift_incidents where model_name = %s and closed_at is null order by incident_id",
        [model.name],
    )
    return [_incident(row) for row in rows]


def _incident(row: dict[str, Any]) -> Incident:
    return Incident(
        upstream=row["upstream"],
        owner=row["owner"],
        cause=Cause(row["cause"]),
        severity=Severity[row["severity"].upper()],
        findings=tuple(
            Finding(**finding | {"severity": Severity(finding["severity"]), "cause": Cause(finding["cause"])})
            for finding in row["findings"]
        ),
        opened_at=row["opened_at"],
        last_alarm_at=row["last_alarm_at"],
        told_at=row["told_at"],
        reminders=row["reminders"],
        incident_id=row["incident_id"],
        closed_at=row["closed_at"],
        closed_because=row["closed_because"],
        verdict=row["verdict"],
    )


def had_incident(connection: warehouse.Connection, model: Model, feature: str, since: datetime) -> bool:
    """Whether something was wrong with a feature after an instant, unless somebody called it benign."""
    row = connection.execute(
        "select exists (select from monitoring.drift_incidents where model_name = %s and %s = any(features)"
        " and (closed_at is null or closed_at > %s) and verdict is distinct from 'benign') as found",
        [model.name, feature, since],
    ).fetchone()
    return bool(row and row["found"])


def newest_as_of(connection: warehouse.Connection, model: Model) -> datetime:
    """The latest instant whose findings were concluded; incidents never go back in time."""
    row = connection.execute(
        "select max(as_of) as newest from monitoring.drift_reports where model_name = %s", [model.name]
    ).fetchone()
    return row["newest"] if row and row["newest"] else BEFORE_ALL


def write_incident(connection: warehouse.Connection, model: Model, step: Step) -> Step:
    """Stores an incident as it is now; a new one gets its id."""
    incident = step.incident
    row = {
        "model_name": model.name,
        "upstream": incident.upstream,
        "cause": str(incident.cause),
        "is_data_incident": incident.cause.is_data_incident,
        "severity": incident.severity.name.lower(),
        "features": list(incident.features),
        "owner": incident.owner,
        "summary": incident.summary,
        "findings": json.dumps([asdict(finding) for finding in incident.findings]),
        "opened_at": incident.opened_at,
        "last_alarm_at": incident.last_alarm_at,
        "told_at": incident.told_at,
        "reminders": incident.reminders,
        "closed_at": incident.closed_at,
        "closed_because": incident.closed_because,
        "verdict": incident.verdict,
    }
    if incident.incident_id is not None:
        updates = ", ".join(f"{name} = %({name})s" for name in row)
        connection.execute(
            f"update monitoring.drift_incidents set {updates} where incident_id = %(incident_id)s",
            row | {"incident_id": incident.incident_id},
        )
        return step
    stored = connection.execute(
        f"insert into monitoring.drift_incidents ({', '.join(row)})"
        f" values ({', '.join(f'%({name})s' for name in row)}) returning incident_id",
        row,
    ).fetchone()
    assert stored is not None
    return replace(step, incident=replace(incident, incident_id=stored["incident_id"]))


def resolve(connection: warehouse.Connection, incident_id: int, verdict: Verdict, note: str | None) -> Incident:
    """Keeps what a person concluded: it blocks no retraining any more, and a benign one's hours count as healthy.

    Raises:
        SkewlessError: when there is no such incident.
    """
    row = connection.execute(
        "update monitoring.drift_incidents set verdict = %s, verdict_note = %s where incident_id = %s returning *",
        [verdict, note, incident_id],
    ).fetchone()
    if row is None:
        raise SkewlessError(f"There is no incident {incident_id}; `skewless incidents` lists them.")
    return _incident(row)
