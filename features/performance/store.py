"""monitoring.model_performance: one row for each version, scope and cohort, first estimated, then measured."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from features import warehouse
from features.contract import Model
from features.performance.cohorts import Cohort
from features.training.evaluation import CalibrationBin
from features.training.resampling import Interval

if TYPE_CHECKING:
    from features.tracking import Version


def holdout_bins(connection: warehouse.Connection, model: Model, version: str) -> tuple[CalibrationBin, ...]:
    """How a version's scores compared with what became true when it was evaluated; none if that is not known."""
    row = connection.execute(
        "select evaluation -> 'calibration' as bins from monitoring.model_evaluations"
        " where model_name = %s and model_version = %s",
        [model.name, version],
    ).fetchone()
    return tuple(CalibrationBin(**each) for each in (row["bins"] if row else None) or ())


def find(connection: warehouse.Connection, model: Model, cohort: Cohort) -> dict[str, Any] | None:
    """The row of a cohort, if there is one."""
    return connection.execute(
        "select * from monitoring.model_performance"
        " where model_name = %s and model_version = %s and scope = %s and cohort = %s",
        [model.name, cohort.version, cohort.scope, cohort.at],
    ).fetchone()


def newest_since_training(
    connection: warehouse.Connection, model: Model, version: "Version", as_of: datetime
) -> dict[str, Any] | None:
    """The last row of scope since_training that knows of no label that matured after as_of.

    One whose labels are all older than the version is of another that had its number, in a registry of before.
    """
    return connection.execute(
        "select * from monitoring.model_performance where model_name = %s and model_version = %s"
        " and scope = 'since_training' and matured_at > %s and matured_at <= %s"
        " order by matured_at desc, cohort desc limit 1",
        [model.name, version.number, version.trained_as_of, as_of],
    ).fetchone()


def write(connection: warehouse.Connection, model: Model, cohort: Cohort, values: Mapping[str, Any]) -> None:
    """Writes columns of a cohort's row, and leaves the others of one that is there. NaN becomes null.

    Args:
        values: by column; predictions and confidence, which a row has from the beginning, are among them.
    """
    key = {
        "model_name": model.name,
        "model_version": cohort.version,
        "scope": cohort.scope,
        "cohort": cohort.at,
    }
    changed = {name: _known(value) for name, value in values.items()}
    replacing = ", ".join(f"{name} = excluded.{name}" for name in changed)
    warehouse.insert(
        connection,
        "monitoring.model_performance",
        key | changed,
        f"on conflict (model_name, model_version, scope, cohort) do update set {replacing}, measured_at = now()",
    )


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def columns_of(name: str, interval: Interval) -> dict[str, float]:
    """An interval as the columns of its metric."""
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


def interval_of(row: Mapping[str, Any], name: str) -> Interval:
    """A metric's columns as an interval."""
    low, high = f"{name}_low", f"{name}_high"
    return Interval(*(float("nan") if row[column] is None else row[column] for column in (name, low, high)))
