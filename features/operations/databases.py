"""The databases of a deployment, wherever their servers are, and PostgreSQL's own tools that read and write them."""

import os
import re
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, LiteralString

import psycopg
from psycopg import errors, sql
from psycopg.pq import Conninfo
from psycopg.rows import dict_row
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from features import settings, warehouse
from features.errors import SkewlessError, first_line
from features.local import postgres

Kind = Literal["warehouse", "mlflow", "airflow"]

# Which variable says where a database is. Without it, it is beside the warehouse.
VARIABLES: dict[Kind, str] = {
    "warehouse": "PGHOST",
    "mlflow": "MLFLOW_BACKEND_STORE_URI",
    "airflow": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
}
# Where PostgreSQL is connected to when the database itself may be missing, or is to be renamed.
MAINTENANCE = "postgres"


@dataclass(frozen=True)
class Database:
    """A database and how it is reached.

    Attributes:
        parameters: libpq's, by keyword, beside those in its environment variables.
    """

    kind: Kind
    name: str
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)

    def __str__(self) -> str:
        return f"{self.name} on {self.parameters['host']}"

    def named(self, name: str) -> "Database":
        """Another database of the same server."""
        return replace(self, name=name)

    def environment(self) -> dict[str, str]:
        """libpq's variables for a process that reads or writes it; where a password goes, which no command line has."""
        variables = {
            option.keyword.decode(): option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar
        }
        found = {variables[keyword]: value for keyword, value in self.parameters.items() if keyword in variables}
        return {**os.environ, **found, "PGDATABASE": self.name}

    @contextmanager
    def connect(self, *, autocommit: bool = False) -> Iterator[warehouse.Connection]:
        """A connection whose transaction commits when the block ends and rolls back when it raises.

        Raises:
            WarehouseUnavailable: naming the database and the variable that says where it is.
        """
        try:
            connection = psycopg.connect(
                **{"application_name": "skewless", "connect_timeout": "10", **self.parameters},  # type: ignore[arg-type]
                dbname=self.name,
                autocommit=autocommit,
                row_factory=dict_row,
            )
        except psycopg.OperationalError as error:
            reason = first_line(error)
            raise warehouse.WarehouseUnavailable(
                f"No connection to database {self}: {reason}. Check {VARIABLES[self.kind]} and what belongs to it."
            ) from error
        with connection:
            yield connection

    def exists(self) -> bool:
        """Whether the server has it."""
        with self.named(MAINTENANCE).connect() as connection:
            found = connection.execute("select 1 from pg_database where datname = %s", [self.name]).fetchone()
        return found is not None

    def create(self) -> None:
        """Creates it, without what an administrator may have added to every new database: a dump has that already."""
        self._administer("create database {} template template0 encoding 'UTF8'", self.name)

    def drop(self) -> None:
        """Drops it, if it is there and nobody uses it."""
        self._administer("drop database if exists {}", self.name)

    def rename(self, name: str) -> None:
        """Gives it another name."""
        self._administer("alter database {} rename to {}", self.name, name)

    def _administer(self, statement: LiteralString, *names: str) -> None:
        try:
            with self.named(MAINTENANCE).connect(autocommit=True) as connection:
                connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
        except errors.InsufficientPrivilege as error:
            raise SkewlessError(
                f"{error}: {self.parameters['user']} may not create or rename databases on {self.parameters['host']}. "
                "Restore as a login that may (`alter role ... createdb`)."
            ) from error


def all_databases(skip: Collection[str] = ()) -> list[Database]:
    """The warehouse, MLflow's database and Airflow's, in the order in which what one says of another was written.

    Args:
        skip: kinds that are not wanted.

    Raises:
        SkewlessError: when one is no PostgreSQL database, or nobody says where MLflow's is.
    """
    beside = {"host": warehouse.host(), "user": warehouse.user()}
    urls: dict[Kind, str] = {
        "mlflow": os.environ.get(VARIABLES["mlflow"])
        or os.environ.get("MLFLOW_TRACKING_URI")
        or f"postgresql:///{settings.MLFLOW_DATABASE}",
        "airflow": os.environ.get(VARIABLES["airflow"]) or f"postgresql:///{settings.AIRFLOW_DATABASE}",
    }
    return [
        Database("warehouse", settings.WAREHOUSE_DATABASE, beside),
        *(_by_url(kind, url, beside) for kind, url in urls.items() if kind not in skip),
    ]


def _by_url(kind: Kind, text: str, beside: Mapping[str, str]) -> Database:
    """A database by its URL as SQLAlchemy writes it; what the URL leaves open is as of the warehouse."""
    try:
        url = make_url(text)
    except ArgumentError:
        url = None
    if url is None or not url.drivername.startswith("postgresql") or not url.database:
        raise SkewlessError(
            f"The {kind} database is not in PostgreSQL, or nobody says where: set {VARIABLES[kind]} to its URL "
            f"(postgresql://user@host/database), or leave it out with --skip {kind}."
        )
    named = {"host": url.host, "port": url.port and str(url.port), "user": url.username, "password": url.password}
    query = {name: value if isinstance(value, str) else value[-1] for name, value in url.query.items()}
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    parameters = {name: value for name, value in {**query, **named}.items() if value and name in known}
    return Database(kind, url.database, {**beside, **parameters})


def run(tool: str, database: Database, *arguments: str) -> None:
    """Runs one of PostgreSQL's tools on a database. What it writes only its owner may read.

    Raises:
        SkewlessError: with the end of what it said, when it fails.
    """
    done = subprocess.run(  # noqa: S603 - our own command
        [_program(tool), "--no-password", *arguments],
        env=database.environment(),
        stderr=subprocess.PIPE,
        text=True,
        umask=0o077,
        check=False,
    )
    if done.returncode:
        said = " ".join(done.stderr.split("\n")[-6:]).strip() or f"it ended with {done.returncode}"
        raise SkewlessError(f"{tool} of {database} failed: {said}")


def _program(tool: str) -> str:
    return str(postgres.psql().with_name(tool))


def tools_version() -> int:
    """The major version of the tools, which read servers of it and of those before."""
    said = subprocess.run([_program("pg_dump"), "--version"], capture_output=True, text=True, check=True)  # noqa: S603
    found = re.search(r"\d+", said.stdout)
    assert found is not None
    return int(found[0])


def server_version(connection: warehouse.Connection) -> int:
    """The major version of a server."""
    return connection.info.server_version // 10000


def refuse_a_newer_server(database: Database, connection: warehouse.Connection) -> None:
    """Raises when the tools that come with Skewless are too old for a server."""
    server, tools = server_version(connection), tools_version()
    if server > tools:
        raise SkewlessError(
            f"{database} is PostgreSQL {server}, and the pg_dump and pg_restore that come with Skewless are {tools}, "
            f"which cannot read it. Use those of PostgreSQL {server} by hand."
        )
