"""Reports, incidents and self-tests as the monitor would have written them, with what a test is about set by hand."""

import json
from datetime import UTC, datetime
from typing import Any

from features import warehouse

AS_OF = datetime(2013, 7, 2, 12, tzinfo=UTC)
OK = {
    "model_name": "churn",
    "model_version": "1",
    "feature": "session_count",
    "as_of": AS_OF,
    "status": "ok",
    "n": 2000,
    "drift_detected": False,
    "detail": "distance 0.020 (0.000 to 0.050), floors 0.040 and 0.100.",
    "decided_by": "shape",
    "effect": 0.02,
    "effect_low": 0.0,
    "effect_high": 0.05,
    "effect_floor": 0.04,
    "critical_floor": 0.10,
    "missing_rate": 0.01,
    "baseline_missing_rate": 0.01,
    "window_hours": 24,
}
SICK = OK | {"status": "critical", "drift_detected": True, "effect": 0.3, "effect_low": 0.2, "effect_high": 0.4}
BLIND = {name: OK[name] for name in ("model_name", "model_version", "feature", "as_of", "window_hours")} | {
    "status": "insufficient_data",
    "n": 3,
    "drift_detected": False,
    "detail": "3 entities with a value; 700 are needed.",
}
INCIDENT = {
    "model_name": "churn",
    "upstream": "user_session_features",
    "cause": "unit_change",
    "is_data_incident": True,
    "severity": "critical",
    "features": ["session_count"],
    "owner": "somebody",
    "summary": "It is broken.",
    "findings": [{"feature": "session_count", "sentence": "distance 0.3.", "because": "all by 60"}],
    "opened_at": AS_OF,
    "last_alarm_at": AS_OF,
}
SELF_TEST = {
    "model_name": "churn",
    "feature": "session_count",
    "as_of": AS_OF,
    "injection": "0.25 sigma",
    "hours": 24,
    "alarms": 20,
    "found_after_hours": 5,
    "is_blind": False,
    "detail": "Found after 5 h.",
}


def insert(connection: warehouse.Connection, table: str, *rows: dict[str, Any]) -> None:
    """Adds rows to a table of monitoring; lists of documents become jsonb."""
    for row in rows:
        values = {name: _as_stored(value) for name, value in row.items()}
        names, places = ", ".join(values), ", ".join(f"%({name})s" for name in values)
        connection.execute(f"insert into monitoring.{table} ({names}) values ({places})", values)


def _as_stored(value: Any) -> Any:
    is_document = isinstance(value, list) and all(isinstance(part, dict) for part in value)
    return json.dumps(value) if is_document else value


def report(connection: warehouse.Connection, **values: Any) -> None:
    """Adds a report that found nothing, but for some values."""
    insert(connection, "drift_reports", OK | values)
