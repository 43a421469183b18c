"""Connections to the warehouse. Settings are libpq's: PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from features import settings
from features.errors import SkewlessError, first_line
from features.roles import ROLES

if TYPE_CHECKING:
    import pandas as pd

Connection = psycopg.Connection[DictRow]
Query = str | sql.SQL | sql.Composed


# How values look as text, which checksums depend on; a server or role may have other defaults.
SESSION = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=1 -c bytea_output=hex"


class WarehouseUnavailable(SkewlessError):
    """The server could not be reached or did not let us in."""


class NotAllowed(SkewlessError):
    """The login lacks a right that this work needs."""


def host() -> str:
    """PGHOST, or the socket directory of the embedded server."""
    return os.environ.get("PGHOST") or str(settings.EMBEDDED_POSTGRES)


def user() -> str:
    """PGUSER, or the embedded server's superuser."""
    return os.environ.get("PGUSER") or "postgres"


@contextmanager
def connect(database: str | None = None, *, autocommit: bool = False, options: str = "") -> Iterator[Connection]:
    """A connection in UTC whose transaction commits when the block ends and rolls back when it raises.

    Args:
        options: settings of the session beside the usual ones, as libpq takes them.

    Raises:
        WarehouseUnavailable: with the host, the database and what to do about it.
        NotAllowed: when the block asks for what the login may not do.
    """
    database = database or settings.WAREHOUSE_DATABASE
    try:
        connection = psycopg.connect(
            host=host(),
            user=user(),
            dbname=database,
            application_name="skewless",
            options=f"{SESSION} {options}",
            connect_timeout=10,
            autocommit=autocommit,
            row_factory=dict_row,
        )
    except psycopg.OperationalError as error:
        raise WarehouseUnavailable(_unavailable(database, error)) from error
    with connection:
        try:
            yield connection
        except psycopg.errors.InsufficientPrivilege as error:
            raise NotAllowed(_not_allowed(error)) from error


def _not_allowed(error: psycopg.Error) -> str:
    said = first_line(error)
    return (
        f"{user()} may not do this: {said}. Each kind of work has a role ({', '.join(ROLES)}); ask your administrator "
        f"to run `grant ROLE to {user()}`, or log in as another PGUSER."
    )


def _unavailable(database: str, error: psycopg.OperationalError) -> str:
    reason = first_line(error)
    if host() != str(settings.EMBEDDED_POSTGRES):
        return (
            f"No connection to database {database} on PGHOST={host()}: {reason}. "
            "Check PGHOST, PGPORT, PGUSER and PGPASSWORD."
        )
    return (
        f"The embedded PostgreSQL does not answer: {reason}. "
        "Start it with `make warehouse`, or set PGHOST to your server."
    )


def has_relation(connection: Connection, name: str) -> bool:
    """Whether there is a table or a view of this name, with its schema where the search path does not lead to it."""
    row = connection.execute("select to_regclass(%s) is not null as found", [name]).fetchone()
    return bool(row and row["found"])


def frame(connection: Connection, query: Query, parameters: Mapping[str, Any] | Sequence[Any] = ()) -> "pd.DataFrame":
    """The query's rows as a DataFrame whose column names are the query's, also when there are no rows."""
    import pandas as pd

    cursor = connection.execute(query, parameters)
    names = [column.name for column in cursor.description or []]
    return pd.DataFrame([list(row.values()) for row in cursor], columns=names)


def insert(connection: Connection, table: str, row: Mapping[str, Any], on_conflict: str = "") -> None:
    """Inserts a row, given by column.

    Args:
        table: with its schema.
        on_conflict: an `on conflict` clause.
    """
    names = ", ".join(row)
    values = ", ".join(f"%({name})s" for name in row)
    connection.execute(f"insert into {table} ({names}) values ({values}) {on_conflict}", row)


def json_text(document: Any) -> str:
    """A value as PostgreSQL's jsonb takes it, which knows no NaN and no infinity: they become null."""
    return json.dumps(_without_nan(document), default=str)


def _without_nan(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {name: _without_nan(each) for name, each in value.items()}
        case list() | tuple():
            return [_without_nan(each) for each in value]
    return value
