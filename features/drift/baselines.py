"""What features are compared with: the baselines' tables, and how a training baseline comes about."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
from psycopg import sql

from features import warehouse
from features.contract import Model
from features.drift import store
from features.drift.counting import count, make_grid
from features.drift.profile import Baseline, Wobble, slot_of
from features.drift.report import WHOLE
from features.drift.sketch import Grid, Kind, Sketch
from features.drift.sources import Column, Source
from features.drift.store import StoredGrid

# The whole baseline; the others are hours of the week.
WHOLE_SLOT = -1
# A cell of a newer baseline may hold this share before the grid counts as outgrown.
OUTGROWN = 8 / 64


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
    stored = store.newest_grid(connection, model, column.name)
    found = count(connection, source, column, stored.grid, []) if stored else {}
    if not stored or not _still_fits(stored.grid, column, found):
        grid = make_grid(connection, source, column)
        if grid is None:
            return None
        stored = store.add_grid(connection, model, column.name, grid)
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
    whole = Sketch.total([sketch for (segment, _), sketch in found.items() if segment == WHOLE], grid)
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
            [
                (row["baseline_id"], slot, entities, *store.values_of(sketch))
                for slot, (sketch, entities) in slots.items()
            ],
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


def document(connection: warehouse.Connection, model: Model, number: str) -> dict[str, Any]:
    """A version's training baselines as they are stored, for whoever reads the model without the warehouse."""
    rows = connection.execute(
        "select feature, source, segment, starts_at, ends_at, edges, categories, entities, counts, sums, squares,"
        " missing, not_finite, invalid from monitoring.feature_baselines as baselines"
        " inner join monitoring.sketch_grids as grids using (model_name, feature, grid_id)"
        " inner join monitoring.baseline_slots as slots using (baseline_id)"
        " where model_name = %s and version = %s and baselines.kind = 'training' and slot = %s"
        " order by feature, source, segment",
        [model.name, number, WHOLE_SLOT],
    )
    written = [
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
        for row in rows
    ]
    return {"model": model.name, "version": number, "baselines": written}


def baseline_by_id(connection: warehouse.Connection, baseline_id: int) -> tuple[BaselineKey, StoredBaseline]:
    """A baseline that a report names."""
    head = connection.execute(BASELINES + " where baseline_id = %s", [baseline_id]).fetchone()
    assert head is not None
    key = BaselineKey(head["of_kind"], head["source"], head["segment"], head["version"])
    return key, _baseline(connection, head)


def _baseline(connection: warehouse.Connection, head: Mapping[str, Any]) -> StoredBaseline:
    rows = connection.execute("select * from monitoring.baseline_slots where baseline_id = %s", [head["baseline_id"]])
    slots = {row["slot"]: (store.sketch_of(row), row["entities"]) for row in rows}
    whole, entities = slots.pop(WHOLE_SLOT)
    wobble = {
        row["window_hours"]: Wobble(row["distance"], row["cells"], row["days"], row["missing"])
        for row in head["wobble"]
    }
    return StoredBaseline(
        head["baseline_id"], head["grid_id"], Baseline(store.grid_of(head).grid, whole, entities, slots, wobble)
    )
