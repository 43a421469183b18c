"""The SQL that counts values in one pass. Rows never leave the warehouse."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import sql

from features import warehouse
from features.contract import Valid
from features.drift.sketch import CELLS, LARGEST, Grid, Kind, Sketch
from features.drift.sources import Column, Source

# How many of the smallest hashes are kept: an estimate from k of them errs by about 1 / sqrt(k).
HASHES_KEPT = 256
CATEGORIES_KNOWN = 10_000


def count(
    connection: warehouse.Connection, source: Source, column: Column, grid: Grid, hours: Sequence[datetime]
) -> dict[tuple[str, datetime], Sketch]:
    """One pass over a source: the sketch of each segment and hour that has rows."""
    cell, total, squares = _ordered(grid, column) if grid.kind.is_ordered else _unordered(grid, column)
    # `offset 0` keeps the planner from guessing that there are as many cells as values, and sorting all of them.
    query = sql.SQL(
        "select _segment, _at, cell, count(*) as n, coalesce({total}, 0) as total, coalesce({squares}, 0) as squares"
        " from (select _segment, _at, value, {cell} as cell from (select _segment, _at, {value} as value from {rows})"
        " as read {join} offset 0) as counted group by 1, 2, 3"
    ).format(
        total=total,
        squares=squares,
        cell=cell,
        value=column.expression,
        rows=source.by_segment(hours),
        join=sql.SQL("")
        if grid.kind.is_ordered
        else sql.SQL(
            "left join unnest({}::text[]) with ordinality as known (category, place) on known.category = read.value"
        ).format(sql.Literal(list(grid.categories))),
    )
    return _fold(connection.execute(query).fetchall(), grid)


MISSING, NOT_FINITE, INVALID = -1, -2, -3


def _ordered(grid: Grid, column: Column) -> tuple[sql.Composable, ...]:
    cell = sql.SQL(
        # PostgreSQL holds NaN above all numbers, so this comparison is false for it.
        "case when value is null then {missing} when not abs(value) <= {largest} then {not_finite}"
        " when {invalid} then {out} else width_bucket(value, {edges}::double precision[]) end"
    ).format(
        missing=sql.Literal(MISSING),
        largest=sql.Literal(LARGEST),
        not_finite=sql.Literal(NOT_FINITE),
        invalid=_invalid(column.valid),
        out=sql.Literal(INVALID),
        edges=sql.Literal(list(grid.edges)),
    )
    inside = "filter (where cell >= 0)"
    # The square of a tiny number underflows, which PostgreSQL takes for an error.
    squares = sql.SQL(
        "sum(case when abs(value - {centre}) < {smallest} then 0 else power(value - {centre}, 2) end) " + inside
    ).format(centre=sql.Literal(grid.centre), smallest=sql.Literal(1 / LARGEST))
    return cell, sql.SQL("sum(value) " + inside), squares


def _unordered(grid: Grid, column: Column) -> tuple[sql.Composable, ...]:
    cell = sql.SQL(
        "case when value is null then {missing} when {invalid} then {out}"
        " when place is null then {new} else least(place - 1, {rare}) end"
    ).format(
        missing=sql.Literal(MISSING),
        invalid=_invalid(column.valid),
        out=sql.Literal(INVALID),
        new=sql.Literal(grid.named + 1),
        rare=sql.Literal(grid.named),
    )
    return cell, sql.SQL("0::double precision"), sql.SQL("0::double precision")


def _invalid(valid: Valid) -> sql.Composable:
    conditions = [
        sql.SQL(text).format(sql.Literal(bound))
        for text, bound in (
            ("value < {}", valid.minimum),
            ("value > {}", valid.maximum),
            ("value <> all({}::text[])", list(valid.values) if valid.values is not None else None),
        )
        if bound is not None
    ]
    return sql.SQL(" or ").join(conditions) if conditions else sql.SQL("false")


def _fold(rows: Sequence[dict[str, Any]], grid: Grid) -> dict[tuple[str, datetime], Sketch]:
    found: dict[tuple[str, datetime], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["_segment"], row["_at"]].append(row)
    return {key: _sketch(part, grid) for key, part in found.items()}


def _sketch(rows: Sequence[dict[str, Any]], grid: Grid) -> Sketch:
    counts, sums = np.zeros(grid.cells, dtype=np.int64), np.zeros(grid.cells)
    special = {MISSING: 0, NOT_FINITE: 0, INVALID: 0}
    for row in rows:
        if row["cell"] in special:
            special[row["cell"]] = row["n"]
        else:
            counts[row["cell"]], sums[row["cell"]] = row["n"], row["total"]
    squares = float(sum(row["squares"] for row in rows))
    return Sketch(counts, sums, squares, special[MISSING], special[NOT_FINITE], special[INVALID])


@dataclass(frozen=True)
class Population:
    """Whom the rows of an hour belong to."""

    rows: int
    entities: int
    smallest_hashes: list[int]


def count_entities(
    connection: warehouse.Connection, source: Source, hours: Sequence[datetime]
) -> dict[tuple[str, datetime], Population]:
    """How many rows and entities each segment and hour has, with the smallest hashes of their keys."""
    query = sql.SQL(
        "select _segment, _at, sum(n)::bigint as rows, count(*) as entities,"
        " array_agg(hash order by hash) filter (where place <= {kept}) as hashes"
        " from (select *, row_number() over (partition by _segment, _at order by hash) as place"
        " from (select _segment, _at, hashtextextended(_key, 0) as hash, count(*) as n from {rows}"
        " group by 1, 2, 3) as hashed) as placed group by 1, 2"
    ).format(kept=sql.Literal(HASHES_KEPT), rows=source.by_segment(hours))
    return {
        (row["_segment"], row["_at"]): Population(row["rows"], row["entities"], row["hashes"])
        for row in connection.execute(query)
    }


def distinct_entities(parts: Sequence[Population]) -> float:
    """About how many distinct entities are in a union: exact up to 256, then from the 256th smallest hash.

    Bar-Yossef et al. 2002, in the form of Beyer et al. 2007: (k - 1) / (the k-th smallest hash as a share of all).
    """
    if not parts:
        return 0.0
    hashes = np.unique(np.concatenate([np.asarray(part.smallest_hashes, dtype=np.int64) for part in parts]))
    most = float(max(part.entities for part in parts))
    if len(hashes) < HASHES_KEPT:
        return max(most, float(len(hashes)))
    share = (float(hashes[HASHES_KEPT - 1]) + 2.0**63) / 2.0**64
    return max(most, min((HASHES_KEPT - 1) / share, float(sum(part.entities for part in parts))))


def make_grid(
    connection: warehouse.Connection, source: Source, column: Column, hours: Sequence[datetime] = ()
) -> Grid | None:
    """Cells for a column, from some hours of a source that are its baseline; None when it has no value."""
    if column.kind is Kind.NUMERIC:
        return _numeric_grid(connection, source, column, hours)
    if column.kind is Kind.BOOLEAN:
        return Grid(Kind.BOOLEAN, categories=("false", "true"))
    query = sql.SQL(
        "select {value} as value from ({rows}) as rows where {value} is not null"
        ' group by 1 order by count(*) desc, {value} collate "C" limit {limit}'
    ).format(value=column.expression, rows=source.rows(hours), limit=sql.Literal(CATEGORIES_KNOWN))
    names = tuple(row["value"] for row in connection.execute(query))
    return Grid(Kind.CATEGORICAL, categories=names) if names else None


def _numeric_grid(
    connection: warehouse.Connection, source: Source, column: Column, hours: Sequence[datetime]
) -> Grid | None:
    usable = sql.SQL(
        "with read as (select {} as value from ({}) as rows), known as (select value from read where abs(value) <= {})"
    ).format(column.expression, source.rows(hours), sql.Literal(LARGEST))
    shape = connection.execute(
        usable
        + sql.SQL(
            " select (select count(*) from known) as n,"
            " (select count(*) from (select distinct value from known limit {}) as few) as few,"
            " (select percentile_disc({}::double precision[]) within group (order by value) from known) as quantiles"
        ).format(sql.Literal(CELLS + 1), sql.Literal([place / CELLS for place in range(1, CELLS)])),
    ).fetchone()
    assert shape is not None
    if not shape["n"]:
        return None
    is_all = shape["few"] <= CELLS
    atoms = connection.execute(
        usable
        + sql.SQL(" select value from known group by value having count(*) * {} >= {}").format(
            sql.Literal(CELLS), sql.Literal(0 if is_all else shape["n"])
        ),
    ).fetchall()
    return Grid.numeric(shape["quantiles"], [row["value"] for row in atoms], atoms_are_all=is_all)


QUANTILES = tuple(place / 200 for place in range(1, 200))


def quantiles(
    connection: warehouse.Connection, source: Source, column: Column, segment: str, hours: Sequence[datetime]
) -> npt.NDArray[np.float64]:
    """The values at 0.5 %, 1 %, ... 99.5 % of some hours; for the reading of an alarm, since it costs a sort."""
    query = sql.SQL(
        "select percentile_disc({}::double precision[]) within group (order by value) as found"
        " from (select {} as value from {} where _segment = {}) as read where abs(value) <= {}"
    ).format(
        sql.Literal(list(QUANTILES)),
        column.expression,
        source.by_segment(hours),
        sql.Literal(segment),
        sql.Literal(LARGEST),
    )
    row = connection.execute(query).fetchone()
    return np.asarray(row["found"] if row and row["found"] else [], dtype=np.float64)
