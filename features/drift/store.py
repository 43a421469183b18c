"""The monitor's tables: grids, hourly sketches, reports. Everything in them is counts."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from features import warehouse
from features.contract import Model
from features.drift.counting import Population
from features.drift.hours import Hour
from features.drift.report import FeatureDriftReport
from features.drift.sketch import Grid, Kind, Sketch
from features.drift.sources import Source

SKETCH_COLUMNS = ("counts", "sums", "squares", "missing", "not_finite", "invalid")


@dataclass(frozen=True)
class StoredGrid:
    """A grid and its name in the warehouse."""

    grid_id: int
    grid: Grid


def newest_grid(connection: warehouse.Connection, model: Model, feature: str) -> StoredGrid | None:
    """The cells that a feature is counted in now."""
    row = connection.execute(
        "select grid_id, kind, edges, categories from monitoring.sketch_grids"
        " where model_name = %s and feature = %s order by grid_id desc limit 1",
        [model.name, feature],
    ).fetchone()
    return grid_of(row) if row else None


def grid_of(row: Mapping[str, Any]) -> StoredGrid:
    """A grid as it was stored."""
    return StoredGrid(row["grid_id"], Grid(Kind(row["kind"]), tuple(row["edges"]), tuple(row["categories"])))


def add_grid(connection: warehouse.Connection, model: Model, feature: str, grid: Grid) -> StoredGrid:
    """Stores new cells; from now on the feature is counted in them."""
    row = connection.execute(
        "insert into monitoring.sketch_grids (model_name, feature, kind, edges, categories)"
        " values (%s, %s, %s, %s, %s) returning grid_id",
        [model.name, feature, str(grid.kind), list(grid.edges), list(grid.categories)],
    ).fetchone()
    assert row is not None
    return StoredGrid(row["grid_id"], grid)


def values_of(sketch: Sketch) -> tuple[Any, ...]:
    """A sketch as a row's values, in the order of SKETCH_COLUMNS."""
    counts, sums = sketch.counts.tolist(), sketch.sums.tolist()
    return counts, sums, sketch.squares, sketch.missing, sketch.not_finite, sketch.invalid


def sketch_of(row: Mapping[str, Any]) -> Sketch:
    """A sketch as it was stored."""
    return Sketch(
        np.asarray(row["counts"], dtype=np.int64),
        np.asarray(row["sums"], dtype=np.float64),
        *(row[name] for name in SKETCH_COLUMNS[2:]),
    )


def missing_hours(
    connection: warehouse.Connection, stored: StoredGrid, source: Source, hours: Sequence[datetime]
) -> list[datetime]:
    """Which of the hours have not been counted in these cells."""
    done = connection.execute(
        "select distinct as_of from monitoring.sketches where grid_id = %s and source = %s and version = %s"
        " and as_of = any(%s)",
        [stored.grid_id, source.name, source.version, list(hours)],
    ).fetchall()
    return sorted(set(hours) - {row["as_of"] for row in done})


def write_sketches(
    connection: warehouse.Connection,
    stored: StoredGrid,
    source: Source,
    hours: Sequence[datetime],
    found: Mapping[tuple[str, datetime], Sketch],
) -> None:
    """Stores what was counted in some hours, in place of what was before. An hour without rows is stored empty, so that
    it counts as looked at."""
    connection.execute(
        "delete from monitoring.sketches where grid_id = %s and source = %s and version = %s and as_of = any(%s)",
        [stored.grid_id, source.name, source.version, list(hours)],
    )
    nothing = Sketch.empty(stored.grid)
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into monitoring.sketches (grid_id, source, version, segment, as_of, counts, sums, squares, missing,"
            " not_finite, invalid) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    stored.grid_id,
                    source.name,
                    source.version,
                    segment,
                    at,
                    *values_of(found.get((segment, at), nothing)),
                )
                for segment in source.parts
                for at in hours
            ],
        )


def read_sketches(
    connection: warehouse.Connection,
    grid_id: int,
    source: str,
    version: str,
    segment: str,
    after: datetime,
    until: datetime,
) -> dict[datetime, Sketch]:
    """The hours of (after, until] that were counted, in order."""
    rows = connection.execute(
        "select * from monitoring.sketches where (grid_id, source, version, segment) = (%s, %s, %s, %s)"
        " and as_of > %s and as_of <= %s order by as_of",
        [grid_id, source, version, segment, after, until],
    )
    return {row["as_of"]: sketch_of(row) for row in rows}


def hours_of_unknown_population(
    connection: warehouse.Connection, model: Model, source: Source, hours: Sequence[datetime]
) -> list[datetime]:
    """Of which of the hours it is not known whom their rows belong to."""
    known = connection.execute(
        "select distinct as_of from monitoring.sketched_hours where model_name = %s and source = %s and version = %s"
        " and as_of = any(%s)",
        [model.name, source.name, source.version, list(hours)],
    ).fetchall()
    return sorted(set(hours) - {row["as_of"] for row in known})


def write_populations(
    connection: warehouse.Connection,
    model: Model,
    source: Source,
    hours: Sequence[datetime],
    found: Mapping[tuple[str, datetime], Population],
) -> None:
    """Stores whom the rows of some hours belong to, in place of what was before."""
    connection.execute(
        "delete from monitoring.sketched_hours where model_name = %s and source = %s and version = %s"
        " and as_of = any(%s)",
        [model.name, source.name, source.version, list(hours)],
    )
    nobody = Population(0, 0, [])
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into monitoring.sketched_hours (model_name, source, version, segment, as_of, row_count,"
            " entity_count, smallest_hashes) values (%s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (model.name, source.name, source.version, segment, at, *_population(found.get((segment, at), nobody)))
                for segment in source.parts
                for at in hours
            ],
        )


def _population(found: Population) -> tuple[int, int, list[int]]:
    return found.rows, found.entities, found.smallest_hashes


def read_populations(
    connection: warehouse.Connection, model: Model, source: str, version: str, after: datetime, until: datetime
) -> dict[str, dict[datetime, Population]]:
    """The populations of the hours of (after, until], by segment and hour."""
    rows = connection.execute(
        "select * from monitoring.sketched_hours where (model_name, source, version) = (%s, %s, %s)"
        " and as_of > %s and as_of <= %s order by as_of",
        [model.name, source, version, after, until],
    )
    found: dict[str, dict[datetime, Population]] = defaultdict(dict)
    for row in rows:
        found[row["segment"]][row["as_of"]] = Population(row["row_count"], row["entity_count"], row["smallest_hashes"])
    return found


def as_hours(sketches: Mapping[datetime, Sketch], populations: Mapping[datetime, Population]) -> list[Hour]:
    """Sketches with the number of entities behind each."""
    return [
        Hour(at, sketch, float(populations[at].entities) if at in populations else float(sketch.rows))
        for at, sketch in sketches.items()
    ]


def write_reports(
    connection: warehouse.Connection,
    model: Model,
    version: str,
    reports: Sequence[tuple[FeatureDriftReport, int | None]],
) -> None:
    """Stores all reports of a feature at an instant, each with the baseline_id it was compared with, in place of those
    that were there."""
    subject = reports[0][0].subject
    connection.execute(
        "delete from monitoring.drift_reports where (model_name, as_of, feature, model_version) = (%s, %s, %s, %s)",
        [model.name, subject.as_of, subject.feature, version],
    )
    rows = [_report(model, version, report, baseline_id) for report, baseline_id in reports]
    names = list(rows[0])
    with connection.cursor() as cursor:
        cursor.executemany(
            f"insert into monitoring.drift_reports ({', '.join(names)})"
            f" values ({', '.join(f'%({name})s' for name in names)})",
            rows,
        )


# Fields that are columns. A subject's fields are columns themselves; of the families that alarm, decided_by is one.
REPORTED = {field.name for field in fields(FeatureDriftReport)} - {"subject", "alarms"}


def _report(model: Model, version: str, report: FeatureDriftReport, baseline_id: int | None) -> dict[str, Any]:
    row = {name: value for name, value in asdict(report).items() if name in REPORTED} | asdict(report.subject)
    row |= {
        "status": str(report.status),
        "drift_detected": report.drift_detected,
        "model_name": model.name,
        "model_version": version,
        "baseline_id": baseline_id,
    }
    return {name: _finite(value) for name, value in row.items()}


def _finite(value: Any) -> Any:
    """NULL for what is no number: a floor that nothing passes, an upper bound that is not known.

    Ten digits of the others: the last ones of a sum are those of the order of addition, and a report that is written
    again should be the same.
    """
    if not isinstance(value, float):
        return value
    return float(f"{value:.10g}") if np.isfinite(value) else None


def thin(connection: warehouse.Connection, model: Model, as_of: datetime) -> None:
    """Deletes old reports that found nothing and old hourly counts, as the exposure's YAML says. Baselines stay."""
    reports_until = as_of - timedelta(days=model.monitoring.keep_reports_days)
    sketches_until = as_of - timedelta(days=model.monitoring.keep_sketches_days)
    connection.execute(
        "delete from monitoring.drift_reports where model_name = %s and as_of < %s and not drift_detected",
        [model.name, reports_until],
    )
    connection.execute(
        "delete from monitoring.sketches as sketches using monitoring.sketch_grids as grids"
        " where sketches.grid_id = grids.grid_id and grids.model_name = %s and sketches.as_of < %s",
        [model.name, sketches_until],
    )
    connection.execute(
        "delete from monitoring.sketched_hours where model_name = %s and as_of < %s", [model.name, sketches_until]
    )
