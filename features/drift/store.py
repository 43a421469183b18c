"""The monitor's tables: grids, hourly sketches, baselines, reports. Everything in them is counts."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from features import warehouse
from features.contract import Model
from features.drift.calibration import Hour
from features.drift.profile import Baseline, Wobble, slot_of
from features.drift.report import FeatureDriftReport
from features.drift.rows import Column, Population, Source, count, make_grid
from features.drift.sketch import Grid, Kind, Sketch

WHOLE_SLOT = -1
# A cell of a newer baseline may hold this share before the grid counts as outgrown.
OUTGROWN = 8 / 64
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
    return _grid(row) if row else None


def _grid(row: Mapping[str, Any]) -> StoredGrid:
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


def fits(grid: Grid, column: Column, sketch: Sketch) -> bool:
    """Whether cells of an earlier baseline still resolve this one: no cell of many values holds too many."""
    wanted = Kind.NUMERIC if grid.kind.is_ordered else grid.kind
    if wanted is not column.kind:
        return False
    if not grid.kind.is_ordered:
        return int(sketch.counts[-1]) <= OUTGROWN * max(sketch.given, 1)
    return bool(np.all(sketch.counts[~grid.points] <= OUTGROWN * sketch.given))


def write_training_baseline(
    connection: warehouse.Connection, model: Model, number: str, source: Source, column: Column
) -> int | None:
    """Counts what a version was trained on, in the feature's cells or in new ones if it has outgrown them.

    Returns:
        grid_id; None when no training row has a value, so that there is nothing to compare with.
    """
    stored = newest_grid(connection, model, column.name)
    found = count(connection, source, column, stored.grid, []) if stored else {}
    if not stored or not _still_fits(stored.grid, column, found):
        grid = make_grid(connection, source, column)
        if grid is None:
            return None
        stored = add_grid(connection, model, column.name, grid)
        found = count(connection, source, column, grid, [])
    entities = _entities_of_slots(connection, source)
    by_segment: dict[str, dict[datetime, Sketch]] = defaultdict(dict)
    for (segment, at), sketch in found.items():
        by_segment[segment][at] = sketch
    for segment, parts in by_segment.items():
        slots = _slots(parts, stored.grid, entities[segment])
        write_baseline(
            connection,
            model,
            column.name,
            BaselineKey("training", source.name, segment, number),
            stored,
            slots,
            (min(parts), max(parts)),
        )
    return stored.grid_id


def _still_fits(grid: Grid, column: Column, found: Mapping[tuple[str, datetime], Sketch]) -> bool:
    whole = Sketch.total([sketch for (segment, _), sketch in found.items() if segment == "all"], grid)
    return whole.given > 0 and fits(grid, column, whole)


def _slots(
    parts: Mapping[datetime, Sketch], grid: Grid, entities: Mapping[int, int]
) -> dict[int, tuple[Sketch, float]]:
    slots: dict[int, list[Sketch]] = defaultdict(list)
    for at, sketch in parts.items():
        slots[slot_of(at)].append(sketch)
        slots[WHOLE_SLOT].append(sketch)
    return {slot: (Sketch.total(some, grid), float(entities[slot])) for slot, some in slots.items()}


def _entities_of_slots(connection: warehouse.Connection, source: Source) -> dict[str, dict[int, int]]:
    """Distinct entities of each segment, in each hour of the week and in all."""
    from psycopg import sql

    query = sql.SQL(
        "select _segment, coalesce(slot, {whole}) as slot, count(distinct _key) as n from (select _segment,"
        " _key, ((extract(isodow from _at at time zone 'UTC') - 1) * 24"
        " + extract(hour from _at at time zone 'UTC'))::int as slot from {rows}) as slotted"
        " group by grouping sets ((_segment, slot), (_segment))"
    ).format(whole=sql.Literal(WHOLE_SLOT), rows=source.by_segment([]))
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for row in connection.execute(query):
        found[row["_segment"]][row["slot"]] = row["n"]
    return found


@dataclass(frozen=True)
class BaselineKey:
    """Which baseline of a feature: kind is training or serving."""

    kind: str
    source: str
    segment: str
    version: str


def write_baseline(
    connection: warehouse.Connection,
    model: Model,
    feature: str,
    key: BaselineKey,
    stored: StoredGrid,
    slots: Mapping[int, tuple[Sketch, float]],
    period: tuple[datetime, datetime],
    wobble: Mapping[int, Wobble] | None = None,
) -> None:
    """Stores a baseline in place of the one of the same key."""
    fields = [model.name, feature, key.kind, key.source, key.segment, key.version]
    connection.execute(
        "delete from monitoring.feature_baselines where (model_name, feature, kind, source, segment, version)"
        " = (%s, %s, %s, %s, %s, %s)",
        fields,
    )
    strays = [{"window_hours": window} | asdict(found) for window, found in (wobble or {}).items()]
    row = connection.execute(
        "insert into monitoring.feature_baselines (model_name, feature, kind, source, segment, version, grid_id,"
        " starts_at, ends_at, wobble) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) returning baseline_id",
        [*fields, stored.grid_id, *period, json.dumps(strays)],
    ).fetchone()
    assert row is not None
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into monitoring.baseline_slots (baseline_id, slot, entities, counts, sums, squares, missing,"
            " not_finite, invalid) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [(row["baseline_id"], slot, entities, *_values(sketch)) for slot, (sketch, entities) in slots.items()],
        )


def _values(sketch: Sketch) -> tuple[Any, ...]:
    counts, sums = sketch.counts.tolist(), sketch.sums.tolist()
    return counts, sums, sketch.squares, sketch.missing, sketch.not_finite, sketch.invalid


def _sketch(row: Mapping[str, Any]) -> Sketch:
    return Sketch(
        np.asarray(row["counts"], dtype=np.int64),
        np.asarray(row["sums"], dtype=np.float64),
        *(row[name] for name in SKETCH_COLUMNS[2:]),
    )


@dataclass(frozen=True)
class StoredBaseline:
    """A baseline, its name in the warehouse, and of which cells it is made."""

    baseline_id: int
    grid_id: int
    baseline: Baseline


def read_baseline(
    connection: warehouse.Connection, model: Model, feature: str, key: BaselineKey
) -> StoredBaseline | None:
    """A feature's baseline, if there is one."""
    head = connection.execute(
        BASELINES + " where (model_name, feature, baselines.kind, source, segment, version) = (%s, %s, %s, %s, %s, %s)",
        [model.name, feature, key.kind, key.source, key.segment, key.version],
    ).fetchone()
    return _baseline(connection, head) if head else None


BASELINES = (
    "select baseline_id, baselines.kind as of_kind, source, segment, version, wobble, grid_id, grids.kind, edges,"
    " categories from monitoring.feature_baselines as baselines"
    " inner join monitoring.sketch_grids as grids using (model_name, feature, grid_id)"
)


def baseline_by_id(connection: warehouse.Connection, baseline_id: int) -> tuple[BaselineKey, StoredBaseline]:
    """A baseline that a report names."""
    head = connection.execute(BASELINES + " where baseline_id = %s", [baseline_id]).fetchone()
    assert head is not None
    key = BaselineKey(head["of_kind"], head["source"], head["segment"], head["version"])
    return key, _baseline(connection, head)


def _baseline(connection: warehouse.Connection, head: Mapping[str, Any]) -> StoredBaseline:
    rows = connection.execute("select * from monitoring.baseline_slots where baseline_id = %s", [head["baseline_id"]])
    slots = {row["slot"]: (_sketch(row), row["entities"]) for row in rows}
    whole, entities = slots.pop(WHOLE_SLOT)
    wobble = {
        row["window_hours"]: Wobble(row["distance"], row["cells"], row["days"], row["missing"])
        for row in head["wobble"]
    }
    return StoredBaseline(
        head["baseline_id"], head["grid_id"], Baseline(_grid(head).grid, whole, entities, slots, wobble)
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
    segments = ["all", *source.segments]
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
                (stored.grid_id, source.name, source.version, segment, at, *_values(found.get((segment, at), nothing)))
                for segment in segments
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
    return {row["as_of"]: _sketch(row) for row in rows}


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
                for segment in ["all", *source.segments]
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
    for report, _ in reports:
        connection.execute(
            "delete from monitoring.drift_reports where (model_name, as_of, feature, model_version) = (%s, %s, %s, %s)",
            [model.name, report.subject.as_of, report.feature, version],
        )
    rows = [_report(model, version, report, baseline_id) for report, baseline_id in reports]
    names = list(rows[0])
    with connection.cursor() as cursor:
        cursor.executemany(
            f"insert into monitoring.drift_reports ({', '.join(names)})"
            f" values ({', '.join(f'%({name})s' for name in names)})",
            rows,
        )


def _report(model: Model, version: str, report: FeatureDriftReport, baseline_id: int | None) -> dict[str, Any]:
    row = {name: value for name, value in asdict(report).items() if name != "subject"} | asdict(report.subject)
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


def had_incident(connection: warehouse.Connection, model: Model, feature: str, since: datetime) -> bool:
    """Whether something was wrong with a feature after an instant, unless somebody called it benign."""
    row = connection.execute(
        "select exists (select from monitoring.drift_incidents where model_name = %s and %s = any(features)"
        " and (closed_at is null or closed_at > %s) and verdict is distinct from 'benign') as found",
        [model.name, feature, since],
    ).fetchone()
    return bool(row and row["found"])


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
