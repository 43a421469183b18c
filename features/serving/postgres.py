"""Reading and writing feature rows in PostgreSQL: the live snapshot, rows written since, rows computed on demand.

Each read is one statement, so one round trip and one state of the ledger. Connections come from a pool of the process
that uses them: after a fork the child makes its own.
"""

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import psycopg_pool
from psycopg import sql
from psycopg.rows import TupleRow

from features import settings, warehouse
from features.contract import FeatureView
from features.errors import SkewlessError, first_line
from features.serving.json_values import json_text
from features.serving.row import (
    Entity,
    Found,
    Live,
    StoredRow,
    StoreUnavailable,
    entity_id,
    key_values,
    newest,
    published,
)

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
WRITTEN = "written"
COMPUTED = "computed"
POSTGRES = "postgres"

# Columns: four of the row's own, five of the publication, then the snapshot's features, then those of the written row.
# By `limit 1` each entity is one walk down a primary key, whatever the planner believes of a table that just changed.
READ = """
with live as (
    select publication_id, as_of, feature_version, published_at, as_of + {expires_after} as expires_at
    from serving.publications
    where feature_view = {view} and retired_at is null
)

select
    wanted._place,
    snapshot.as_of,
    written.as_of,
    written.was_computed,
    live.*,
    {snapshot_features},
    {written_features}
from live
left join rows from ({keys}, unnest(%(ids)s::text[])) with ordinality as wanted ({key_names}, _id, _place) on true
left join lateral (
    select stored.*
    from {table} as stored
    where {same_key} and stored.as_of = live.as_of and stored.feature_version = live.feature_version
    limit 1
) as snapshot on true
left join lateral (
    select stored.as_of, stored.was_computed, stored.features
    from serving.written_features as stored
    where
        stored.feature_view = {view}
        and stored.feature_version = live.feature_version
        and stored.entity_id = wanted._id
    limit 1
) as written on true
left join lateral jsonb_populate_record(null::{table}, written.features) as written_row on true
order by wanted._place
"""

COMPUTE = "select {keys}, feature_version, {features} from {function}({arrays}, %(as_of)s)"

# A row never gives way to one that knows less. Equal instants are equal rows. It is read once while it is written:
# what the columns do not take is refused here, and not at every read.
WRITE = """
insert into serving.written_features as present (
    feature_view, feature_version, entity_id, as_of, features, was_computed
)
select %(view)s, %(version)s, %(id)s, %(as_of)s, %(features)s::jsonb, %(was_computed)s
from jsonb_populate_record(null::{table}, %(features)s::jsonb)
on conflict (feature_view, feature_version, entity_id) do update set
    as_of = excluded.as_of,
    features = excluded.features,
    was_computed = excluded.was_computed,
    written_at = now()
where present.as_of <= excluded.as_of
"""


class Statements:
    """The view's SQL, and how its answers read."""

    def __init__(self, view: FeatureView) -> None:
        self._view = view
        self._names = view.feature_names
        table = sql.Identifier(*view.relation)
        read = sql.SQL(READ).format(
            view=sql.Literal(view.name),
            expires_after=sql.SQL("{}::interval").format(sql.Literal(view.expires_after)),
            snapshot_features=_columns("snapshot", self._names),
            written_features=_columns("written_row", self._names),
            keys=self._arrays("unnest({})"),
            key_names=sql.SQL(", ").join(map(sql.Identifier, view.entity)),
            table=table,
            same_key=sql.SQL(" and ").join(
                sql.SQL("stored.{0} = wanted.{0}").format(sql.Identifier(name)) for name in view.entity
            ),
        )
        compute = sql.SQL(COMPUTE).format(
            keys=sql.SQL(", ").join(map(sql.Identifier, view.entity)),
            features=sql.SQL(", ").join(map(sql.Identifier, self._names)),
            function=sql.Identifier(view.schema_name, f"{view.name}_as_of"),
            arrays=self._arrays("{}"),
        )
        write = sql.SQL(WRITE).format(table=table)
        # As bytes, which psycopg parses once; a composed statement it would put together for each read.
        self.read, self.compute, self.write = (each.as_bytes(None) for each in (read, compute, write))

    def _arrays(self, pattern: str) -> sql.Composed:
        """The key columns' values, one array each."""
        arrays = (
            sql.SQL("%(key{})s::{}[]").format(sql.SQL(str(place)), sql.SQL(declared))
            for place, declared in enumerate(self._view.entity_types)
        )
        return sql.SQL(", ").join(sql.SQL(pattern).format(array) for array in arrays)

    def snapshot(self, where: str) -> bytes:
        """All rows of an instant by one definition (by any, when there is none) that meet a condition."""
        query = sql.SQL(
            "select {} from {} where as_of = %(as_of)s and (%(version)s::text is null or feature_version = %(version)s)"
            " and ({}) order by {}"
        ).format(
            sql.SQL(", ").join(map(sql.Identifier, (*self._view.entity, *self._names))),
            sql.Identifier(*self._view.relation),
            sql.SQL(where.replace("%", "%%")),  # the contract's own SQL, as trusted as a dbt model
            sql.SQL(", ").join(map(sql.Identifier, self._view.entity)),
        )
        return query.as_bytes(None)

    def refused(self, error: psycopg.DataError) -> SkewlessError:
        """What PostgreSQL says of a value that a column does not take."""
        view, reason = self._view, first_line(error)
        key = ", ".join(f"{name} {declared}" for name, declared in zip(view.entity, view.entity_types, strict=True))
        return SkewlessError(f"PostgreSQL does not take a value for {view.name}, whose key is ({key}): {reason}.")

    def keys(self, entities: Sequence[Entity]) -> dict[str, list[Any]]:
        """The parameters of `_arrays`."""
        values = [key_values(self._view, entity) for entity in entities]
        return {f"key{place}": [key[place] for key in values] for place in range(len(self._view.entity))}

    def wanted(self, entities: Sequence[Entity]) -> dict[str, list[Any]]:
        """The parameters of `read`."""
        return {"ids": [entity_id(self._view, entity) for entity in entities], **self.keys(entities)}

    def found(self, rows: Sequence[TupleRow]) -> Found:
        """What `read` answered."""
        live = Live(*rows[0][4:9]) if rows else None
        return Found(published(self._view, live), [self._newest(row) for row in rows if row[0] is not None])

    def _newest(self, row: TupleRow) -> StoredRow | None:
        _, as_of, written_as_of, was_computed = row[:4]
        middle = 9 + len(self._names)
        snapshot = written = None
        if as_of is not None:
            snapshot = StoredRow(as_of, dict(zip(self._names, row[9:middle], strict=True)), POSTGRES)
        if written_as_of is not None:
            values = dict(zip(self._names, row[middle:], strict=True))
            written = StoredRow(written_as_of, values, COMPUTED if was_computed else WRITTEN)
        return newest(snapshot, written)

    def computed(
        self, entities: Sequence[Entity], rows: Sequence[TupleRow], as_of: datetime
    ) -> tuple[str | None, list[StoredRow]]:
        """What `compute` answered, in the entities' order, and by which definition."""
        width = len(self._view.entity)
        by_id = {entity_id(self._view, row[:width]): row[width:] for row in rows}
        found = [by_id[entity_id(self._view, entity)] for entity in entities]
        return (found[0][0] if found else None), [
            StoredRow(as_of, dict(zip(self._names, row[1:], strict=True)), COMPUTED) for row in found
        ]

    def row_to_write(self, entity: Entity, version: str, row: StoredRow) -> Mapping[str, Any]:
        """The parameters of `write`."""
        return {
            "view": self._view.name,
            "version": version,
            "id": entity_id(self._view, entity),
            "as_of": row.as_of,
            "features": json_text(row.features),
            "was_computed": row.served_from == COMPUTED,
        }


def _columns(relation: str, names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(relation, name) for name in names)


# A plan for each number of entities would take longer to make than the read does. And a plan that was made when
# serving.written_features was empty would scan it for each entity once it is not.
ONE_PLAN = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off"


def _pool_settings(timeout_seconds: float, pool_size: int) -> dict[str, Any]:
    milliseconds = int(timeout_seconds * 1000)
    return {
        "kwargs": {
            "host": warehouse.host(),
            "user": warehouse.user(),
            "dbname": settings.WAREHOUSE_DATABASE,
            "application_name": "skewless store",
            "options": f"{warehouse.SESSION} -c statement_timeout={milliseconds} {ONE_PLAN}",
            "connect_timeout": 10,
            "autocommit": True,  # a read is one statement; a transaction around it would cost two more round trips
        },
        "min_size": 1,
        "max_size": pool_size,
        "timeout": timeout_seconds,
        # The pool tries again less and less often; giving up as soon, it starts afresh and finds a server that is back.
        "reconnect_timeout": timeout_seconds,
        "open": False,
        "name": "skewless-store",
    }


UNREACHABLE = (psycopg.OperationalError, psycopg_pool.PoolTimeout)


def _unavailable(error: Exception) -> StoreUnavailable:
    reason = first_line(error)
    return StoreUnavailable(
        f"PostgreSQL at {warehouse.host()} did not answer a read of features: {reason}. "
        "Check that it runs, and PGHOST, PGPORT, PGUSER and PGPASSWORD."
    )


class PostgresRows:
    """Feature rows of a view in PostgreSQL, for threads."""

    def __init__(self, view: FeatureView, timeout_seconds: float, pool_size: int) -> None:
        self.statements = Statements(view)
        self._make = partial(
            psycopg_pool.ConnectionPool[psycopg.Connection[TupleRow]], **_pool_settings(timeout_seconds, pool_size)
        )
        self._pools: dict[int, psycopg_pool.ConnectionPool[psycopg.Connection[TupleRow]]] = {}

    def read(self, entities: Sequence[Entity]) -> Found:
        """What is live, and the rows of these entities."""
        parameters = self.statements.wanted(entities)
        return self.statements.found(self._try(lambda connection: _all(connection, self.statements.read, parameters)))

    def compute(self, entities: Sequence[Entity], as_of: datetime) -> tuple[str | None, list[StoredRow]]:
        """Rows computed by the view's own definition, and which that is."""
        parameters = {**self.statements.keys(entities), "as_of": as_of}
        rows = self._try(lambda connection: _all(connection, self.statements.compute, parameters))
        return self.statements.computed(entities, rows, as_of)

    def write(self, rows: Sequence[tuple[Entity, str, StoredRow]]) -> int:
        """Keeps rows, each by a definition, unless a newer one is there. Returns how many were kept."""
        parameters = [self.statements.row_to_write(*row) for row in rows]

        def write(connection: psycopg.Connection[TupleRow]) -> int:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(self.statements.write, parameters)
                return cursor.rowcount

        return self._try(write)

    def stream(self, as_of: datetime, version: str | None, where: str, chunk_rows: int) -> Iterator["pd.DataFrame"]:
        """The rows of a snapshot in key order, in chunks of key columns and features."""
        import pandas as pd

        query = self.statements.snapshot(where)
        with self._opened().connection() as connection, connection.transaction():
            # It reads everything, and nobody waits for it.
            connection.execute("set local statement_timeout = 0; set local enable_seqscan = on")
            with connection.cursor(name="snapshot") as cursor:
                cursor.execute(query, {"as_of": as_of, "version": version})
                names = [column.name for column in cursor.description or []]
                while rows := cursor.fetchmany(chunk_rows):
                    # As PostgreSQL gave them: pandas would turn an integer column with a NULL into floats.
                    yield pd.DataFrame(rows, columns=names, dtype=object)

    def close(self) -> None:
        """Gives the connections back."""
        pool = self._pools.pop(os.getpid(), None)
        if pool is not None:
            pool.close()

    def _opened(self) -> psycopg_pool.ConnectionPool[psycopg.Connection[TupleRow]]:
        """The pool of this process: a fork's child must not talk on its parent's connections."""
        pool = self._pools.get(os.getpid())
        if pool is None:
            fresh = self._make()
            fresh.open()  # before another thread can find it
            pool = self._pools.setdefault(os.getpid(), fresh)
            if pool is not fresh:
                fresh.close()
        return pool

    def _try(self, use: Callable[[psycopg.Connection[TupleRow]], T]) -> T:
        """Uses a connection; once more with a fresh one when it turns out to be broken, as after a restart."""
        try:
            try:
                with self._opened().connection() as connection:
                    return use(connection)
            except psycopg.OperationalError as error:
                if not _is_worth_another_try(error):
                    raise
                self._opened().check()
                with self._opened().connection() as connection:
                    return use(connection)
        except UNREACHABLE as error:
            raise _unavailable(error) from error
        except psycopg.DataError as error:
            raise self.statements.refused(error) from error


class AsyncPostgresRows:
    """Feature rows of a view in PostgreSQL, for coroutines of one event loop."""

    def __init__(self, view: FeatureView, timeout_seconds: float, pool_size: int) -> None:
        self.statements = Statements(view)
        self._make = partial(
            psycopg_pool.AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]],
            **_pool_settings(timeout_seconds, pool_size),
        )
        self._pools: dict[int, psycopg_pool.AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]]] = {}

    async def read(self, entities: Sequence[Entity]) -> Found:
        """As `PostgresRows.read`."""
        parameters = self.statements.wanted(entities)
        return self.statements.found(
            await self._try(lambda connection: _async_all(connection, self.statements.read, parameters))
        )

    async def compute(self, entities: Sequence[Entity], as_of: datetime) -> tuple[str | None, list[StoredRow]]:
        """As `PostgresRows.compute`."""
        parameters = {**self.statements.keys(entities), "as_of": as_of}
        rows = await self._try(lambda connection: _async_all(connection, self.statements.compute, parameters))
        return self.statements.computed(entities, rows, as_of)

    async def write(self, rows: Sequence[tuple[Entity, str, StoredRow]]) -> int:
        """As `PostgresRows.write`."""
        parameters = [self.statements.row_to_write(*row) for row in rows]

        async def write(connection: psycopg.AsyncConnection[TupleRow]) -> int:
            async with connection.transaction(), connection.cursor() as cursor:
                await cursor.executemany(self.statements.write, parameters)
                return cursor.rowcount

        return await self._try(write)

    async def close(self) -> None:
        """As `PostgresRows.close`."""
        pool = self._pools.pop(os.getpid(), None)
        if pool is not None:
            await pool.close()

    async def _opened(self) -> psycopg_pool.AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]]:
        """The pool of this process: a fork's child must not talk on its parent's connections."""
        pool = self._pools.get(os.getpid())
        if pool is None:
            fresh = self._make()
            await fresh.open()
            pool = self._pools.setdefault(os.getpid(), fresh)
            if pool is not fresh:
                await fresh.close()
        return pool

    async def _try(self, use: Callable[[psycopg.AsyncConnection[TupleRow]], Awaitable[T]]) -> T:
        try:
            pool = await self._opened()
            try:
                async with pool.connection() as connection:
                    return await use(connection)
            except psycopg.OperationalError as error:
                if not _is_worth_another_try(error):
                    raise
                await pool.check()
                async with pool.connection() as connection:
                    return await use(connection)
        except UNREACHABLE as error:
            raise _unavailable(error) from error
        except psycopg.DataError as error:
            raise self.statements.refused(error) from error


def _is_worth_another_try(error: psycopg.OperationalError) -> bool:
    """A connection that broke is; a statement that took too long, or a pool that is exhausted, is not."""
    return not isinstance(error, psycopg_pool.PoolTimeout | psycopg.errors.QueryCanceled)


def _all(connection: psycopg.Connection[TupleRow], statement: bytes, parameters: Mapping[str, Any]) -> list[TupleRow]:
    return connection.execute(statement, parameters, prepare=True).fetchall()


async def _async_all(
    connection: psycopg.AsyncConnection[TupleRow], statement: bytes, parameters: Mapping[str, Any]
) -> list[TupleRow]:
    return await (await connection.execute(statement, parameters, prepare=True)).fetchall()
