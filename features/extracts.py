"""Training extracts: named by their content, and rebuilt byte for byte from that name.

An extract is the training set restricted to the labels that had matured by as_of. `training.extracts` keeps what it
asked for (its spine: entity, label_at, as_of and label of each row) and checksums of what it got, computed in the
warehouse. Feature rows never change, so asking again gives the same; rows that retention has thinned out meanwhile are
computed again by the very definition that made them.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from psycopg import sql

from features import warehouse
from features.contract import Model
from features.errors import SkewlessError

if TYPE_CHECKING:
    import pandas as pd

Role = Literal["entity", "time", "label", "feature"]
# What macros/feature_view.sql leaves where a spine would stand in the definition that it keeps.
BLANK_SPINE = "/* spine */ spine /* end of spine */"


@dataclass(frozen=True)
class Column:
    """A column of an extract: its type as PostgreSQL writes it, and what it is there for."""

    name: str
    type: str
    role: Role


@dataclass(frozen=True)
class TrainingExtract:
    """Every label that had matured by as_of, with the features that were live at its instant.

    Attributes:
        rows: the entity, label_at, as_of, the label and the features, in an order that depends on nothing else.
        extract_id: names the content: definition, spine, knowledge watermark and a checksum of the rows.
        checksum: of the rows.
    """

    rows: "pd.DataFrame"
    extract_id: str
    feature_version: str
    checksum: str


def training_extract(model: Model, as_of: datetime) -> TrainingExtract:
    """The extract at as_of, which from now on can be reproduced.

    Raises:
        SkewlessError: when no label has matured by then, or a label has no feature row.
    """
    roles = _roles(model)
    with warehouse.connect() as connection:
        connection.execute("set transaction isolation level repeatable read")
        _select(connection, model, [name for name, _ in roles], as_of)
        version = _only_version(connection, model, as_of)
        columns = _typed(connection, roles)
        content = {
            "training_set": ".".join(model.training_set),
            "feature_view": model.feature_view.name,
            "feature_version": version,
            "as_of": as_of.isoformat(),
            "knowledge_watermark": _watermark(connection, model, as_of),
            "columns": [vars(column) for column in columns],
            **_checksums(connection, columns),
        }
        extract_id = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
        _keep(connection, extract_id, content, columns)
        return TrainingExtract(_frame(connection, columns), extract_id, version, content["row_checksum"])


def reproduce(extract_id: str) -> TrainingExtract:
    """The extract of that name again, whatever has been loaded, corrected, backfilled or thinned out since.

    Raises:
        SkewlessError: when there is no such extract, or its rows are not what they were.
    """
    with warehouse.connect() as connection:
        kept, columns = _rebuild(connection, extract_id)
        return TrainingExtract(_frame(connection, columns), extract_id, kept["feature_version"], kept["row_checksum"])


def reproduce_csv(extract_id: str, path: Path) -> int:
    """Writes the extract as CSV: the same bytes each time. Returns the number of rows.

    Raises:
        SkewlessError: as `reproduce`, or when the file cannot be written.
    """
    try:
        with warehouse.connect() as connection:
            kept, columns = _rebuild(connection, extract_id)
            query = sql.SQL("copy ({}) to stdout (format csv, header)").format(_ordered(columns))
            with _whole_or_nothing(path) as file, connection.cursor().copy(query) as copy:
                for block in copy:
                    file.write(block)
    except OSError as error:
        raise SkewlessError(f"{path} cannot be written ({error.strerror}). Name another file.") from error
    return int(kept["row_count"])


@contextmanager
def _whole_or_nothing(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name once all of it is written, and is gone when that fails."""
    unfinished = path.parent / f"{path.name}.unfinished"
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.rename(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _roles(model: Model) -> list[tuple[str, Role]]:
    roles: list[tuple[str, Role]] = [(name, "entity") for name in model.entity]
    roles += [("label_at", "time"), ("as_of", "time"), (model.label, "label")]
    return roles + [(name, "feature") for name in model.feature_names]


def _names(columns: Iterable[Column], *roles: Role) -> list[str]:
    return [column.name for column in columns if not roles or column.role in roles]


def _listed(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _select(connection: warehouse.Connection, model: Model, names: Sequence[str], as_of: datetime) -> None:
    query = sql.SQL(
        "create temporary table extract on commit drop as"
        " select {}, feature_version from {} where matured_at <= {}"
    )  # fmt: skip
    instant = sql.Literal(as_of)  # a utility statement takes no parameters
    connection.execute(query.format(_listed(names), sql.Identifier(*model.training_set), instant))


def _only_version(connection: warehouse.Connection, model: Model, as_of: datetime) -> str:
    """The definition of all rows, once it is sure that there are rows and that none lacks its features."""
    facts = connection.execute(
        "select count(*) as n, count(feature_version) as complete, count(distinct feature_version) as versions,"
        " min(feature_version) as version from extract"
    ).fetchone()
    assert facts is not None
    if not facts["n"]:
        raise SkewlessError(f"No label of {model.name} had matured by {as_of:%Y-%m-%d}: there is nothing to train on.")
    relation = ".".join(model.training_set)
    if facts["complete"] < facts["n"]:
        raise SkewlessError(
            f"{facts['n'] - facts['complete']:,} of {facts['n']:,} labels in {relation} have no feature row yet. "
            "Run materialize_features, which computes them, then train."
        )
    if facts["versions"] != 1:
        raise SkewlessError(f"{relation} mixes {facts['versions']} feature versions.")
    return str(facts["version"])


def _typed(connection: warehouse.Connection, roles: Sequence[tuple[str, Role]]) -> list[Column]:
    rows = connection.execute(
        "select attname, format_type(atttypid, atttypmod) as type from pg_attribute"
        " where attrelid = 'pg_temp.extract'::regclass and attnum > 0"
    )
    types = {row["attname"]: row["type"] for row in rows}
    return [Column(name, types[name], role) for name, role in roles]


def _watermark(connection: warehouse.Connection, model: Model, as_of: datetime) -> str | None:
    """The newest record that was known at as_of."""
    view = model.feature_view
    known_until = sql.Identifier(view.schema_name, f"{view.name}_known_until")
    row = connection.execute(sql.SQL("select {}(%s) as newest").format(known_until), [as_of]).fetchone()
    return row["newest"].isoformat() if row and row["newest"] else None


def _checksums(connection: warehouse.Connection, columns: Sequence[Column]) -> dict[str, Any]:
    """Row count, and checksums that depend on every row but on no order: 128-bit sums of the rows' MD5."""
    checksum = sql.SQL("""
        select
            count(*) as n,
            coalesce(sum(('x' || left(digest, 16))::bit(64)::bigint), 0) as high,
            coalesce(sum(('x' || right(digest, 16))::bit(64)::bigint), 0) as low
        from (select md5(row({})::text) as digest from extract) as digests
    """)
    found: dict[str, Any] = {}
    for name, roles in (("spine_checksum", ("entity", "time", "label")), ("row_checksum", ())):
        row = connection.execute(checksum.format(_listed(_names(columns, *roles)))).fetchone()
        assert row is not None
        found |= {name: f"{row['high']}:{row['low']}", "row_count": row["n"]}
    return found


def _keep(
    connection: warehouse.Connection, extract_id: str, content: dict[str, Any], columns: Sequence[Column]
) -> None:
    known = connection.execute("select 1 from training.extracts where extract_id = %s", [extract_id]).fetchone()
    if known:
        return
    spine = sql.SQL("copy (select {} from extract) to stdout (format csv)")
    compressor = zlib.compressobj()
    with connection.cursor().copy(spine.format(_listed(_names(columns, "entity", "time", "label")))) as copy:
        compressed = b"".join(compressor.compress(bytes(block)) for block in copy) + compressor.flush()
    row = content | {"extract_id": extract_id, "columns": json.dumps(content["columns"]), "spine": compressed}
    values = sql.SQL(", ").join(map(sql.Placeholder, row))
    insert = sql.SQL("insert into training.extracts ({}) values ({}) on conflict do nothing")
    connection.execute(insert.format(_listed(list(row)), values), row)


def _ordered(columns: Sequence[Column]) -> sql.Composed:
    """All rows in an order that no locale and no plan changes."""
    names = _listed(_names(columns))
    return sql.SQL('select {} from extract order by row({})::text collate "C"').format(names, names)


def _frame(connection: warehouse.Connection, columns: Sequence[Column]) -> "pd.DataFrame":
    return warehouse.frame(connection, _ordered(columns))


def _rebuild(connection: warehouse.Connection, extract_id: str) -> tuple[dict[str, Any], list[Column]]:
    """Fills the temporary table `extract` again, and refuses when it is not what it was."""
    kept = connection.execute("select * from training.extracts where extract_id = %s", [extract_id]).fetchone()
    if kept is None:
        raise SkewlessError(f"There is no extract {extract_id}; training.extracts lists those there are.")
    columns = [Column(**column) for column in kept["columns"]]
    _fill_spine(connection, kept["spine"], [column for column in columns if column.role != "feature"])
    recomputed = _recompute_missing(connection, kept, columns)
    entity, features = _names(columns, "entity"), _names(columns, "feature")
    connection.execute(
        sql.SQL(
            "create temporary table extract on commit drop as select spine.*, {features} from spine"
            " left join (select {key}, {features} from {table} where feature_version = {version}"
            " union all select {key}, {features} from recomputed) as found using ({key})"
        ).format(
            features=_listed(features),
            key=_listed([*entity, "as_of"]),
            table=sql.Identifier("features", kept["feature_view"]),
            version=sql.Literal(kept["feature_version"]),
        )
    )
    found = _checksums(connection, columns)
    if any(found[name] != kept[name] for name in found):
        raise SkewlessError(
            f"Extract {extract_id} had {kept['row_count']:,} rows; rebuilding it gives {found['row_count']:,} that are "
            f"not the same, {recomputed:,} of them recomputed. Rows of features.{kept['feature_view']} at definition "
            f"{kept['feature_version']} or the events behind them were changed by hand."
        )
    return kept, columns


def _fill_spine(connection: warehouse.Connection, compressed: bytes, columns: Sequence[Column]) -> None:
    definitions = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.type)) for column in columns
    )
    connection.execute(sql.SQL("create temporary table spine ({}) on commit drop").format(definitions))
    with connection.cursor().copy("copy spine from stdin (format csv)") as copy:
        copy.write(zlib.decompress(compressed))
    connection.execute("analyze spine")


def _recompute_missing(connection: warehouse.Connection, kept: dict[str, Any], columns: Sequence[Column]) -> int:
    """Computes the rows that are no longer stored, by the definition that made them. Returns how many."""
    key = [*_names(columns, "entity"), "as_of"]
    missing = sql.SQL(
        "select distinct {key} from spine where not exists"
        " (select 1 from {table} as present where present.feature_version = {version} and {same})"
    ).format(
        key=_listed(key),
        table=sql.Identifier("features", kept["feature_view"]),
        version=sql.Literal(kept["feature_version"]),
        same=sql.SQL(" and ").join(sql.SQL("present.{n} = spine.{n}").format(n=sql.Identifier(name)) for name in key),
    )
    definition = connection.execute(
        "select definition from features.feature_versions where feature_view = %s and feature_version = %s",
        [kept["feature_view"], kept["feature_version"]],
    ).fetchone()
    if definition is None:
        raise SkewlessError(
            f"features.feature_versions no longer knows definition {kept['feature_version']} of {kept['feature_view']}."
        )
    before, after = definition["definition"].split(BLANK_SPINE)
    computed = sql.SQL(before) + missing + sql.SQL(after)
    return connection.execute(sql.SQL("create temporary table recomputed on commit drop as ") + computed).rowcount
