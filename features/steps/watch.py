"""Watching: compares a feature at as_of with what the champion was trained on, and writes the report."""

import logging
from dataclasses import asdict
from datetime import datetime
from typing import Any

from features import ledger, warehouse
from features.contract import Model
from features.drift import DriftStatus, FeatureDriftMonitor, FeatureDriftReport, settings_of
from features.steps.read import Baseline, baseline_of, baseline_values, snapshot

log = logging.getLogger(__name__)

NO_CHAMPION = "none"


def champion_version(model: Model) -> str | None:
    """The champion's version, looked up once for all features."""
    from features import tracking  # takes seconds to import, which the mapped tasks are spared

    champion = tracking.champion(model)
    return champion.number if champion else None


def watch_feature(model: Model, feature: str, champion: str | None, as_of: datetime) -> dict[str, Any]:
    """Writes one feature's report at as_of, whatever is found; doing so again replaces it.

    Args:
        champion: the version to compare with, or None while there is none.

    Returns:
        the feature, its status and the finding as a sentence.
    """
    with warehouse.connect() as connection:
        version = ledger.current_version(connection, model.feature_view)
        serving = snapshot(connection, model, as_of, version, [feature])[feature]
        baseline = baseline_of(connection, model, champion) if champion else None
        if baseline is None:
            detail = "There is no champion to compare with." if champion is None else "The champion has no baseline."
            report = FeatureDriftReport(feature, as_of, DriftStatus.BASELINE_MISSING, len(serving), detail)
        else:
            training_values = baseline_values(connection, model, baseline, feature).to_numpy(dtype=float)
            monitor = FeatureDriftMonitor({feature: training_values}, settings_of(model.feature_view.features))
            report = monitor.check(feature, serving.to_numpy(dtype=float), as_of)
        _write(connection, model, champion or NO_CHAMPION, report, baseline)
    log.info("%s: %s. %s", feature, report.status, report.detail)
    return {"feature": feature, "status": str(report.status), "detail": report.detail}


def _write(
    connection: warehouse.Connection, model: Model, version: str, report: FeatureDriftReport, baseline: Baseline | None
) -> None:
    row = asdict(report) | {
        "status": str(report.status),
        "drift_detected": report.drift_detected,
        "model_name": model.name,
        "model_version": version,
        "baseline_id": baseline.baseline_id if baseline else None,
    }
    names = list(row)
    updates = ", ".join(f"{name} = excluded.{name}" for name in names)
    connection.execute(
        f"insert into monitoring.drift_reports ({', '.join(names)})"
        f" values ({', '.join(f'%({name})s' for name in names)})"
        f" on conflict (model_name, as_of, feature, model_version) do update set {updates}, reported_at = now()",
        row,
    )
