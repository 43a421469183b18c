"""Databases of the test server: how tests get one of their own, tell our code to use it, and read and change it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from psycopg import sql
from psycopg.rows import tuple_row

from features import settings, warehouse
from features.migrations import create_database, migrate
from tests.times import phase

# All flights of 2013, with every model built.
SAMPLE = "skewless_sample"
# The instant at which all models of the sample were built.
AS_OF = "2013-07-02T00:00:00"
REGISTRIES = count(1)
# Made once by each process that tests, and copied.
MIGRATED, REGISTRY = "skewless_migrated", "skewless_registry"


def forget_on_crash() -> None:
    """Lets the test server write to disk whenever it likes: what a crash of the machine loses is tests' data only."""
    with warehouse.connect("postgres", autocommit=True) as connection:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(f"alter system set {name} = off")
        connection.execute("select pg_reload_conf()")


def drop_database(name: str) -> None:
    """Drops a database, whoever is connected."""
    with warehouse.connect("postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def use(database: str, patch: pytest.MonkeyPatch) -> None:
    """Makes a database the warehouse that our code and dbt connect to."""
    patch.setattr(settings, "WAREHOUSE_DATABASE", database)
    patch.setenv("PGDATABASE", database)


@contextmanager
def using(database: str) -> Iterator[None]:
    """The same, until the block ends."""
    with pytest.MonkeyPatch.context() as patch:
        use(database, patch)
        yield


def rows(query: str) -> list[tuple[Any, ...]]:
    """All rows of a query on the warehouse in use."""
    with warehouse.connect() as connection:
        return connection.cursor(row_factory=tuple_row).execute(query).fetchall()


def execute(statement: warehouse.Query, *parameters: object) -> int:
    """Runs a statement on the warehouse in use, as a person with psql might. Returns how many rows it touched."""
    with warehouse.connect() as connection:
        return connection.execute(statement, parameters or None).rowcount


@contextmanager
def migrated(name: str) -> Iterator[str]:
    """A warehouse without a row, dropped in the end. Nobody uses it yet."""
    _make_migrated(warehouse.host())
    with copy_of(MIGRATED, name):
        yield name


@cache
@phase("migrations")
def _make_migrated(host: str) -> None:
    drop_database(MIGRATED)
    migrate(database=MIGRATED)


@contextmanager
def filled(name: str, fill: Callable[[warehouse.Connection], object]) -> Iterator[str]:
    """A warehouse with what a function writes in one transaction; dropped in the end. Gives its name."""
    with migrated(name):
        with warehouse.connect(name) as connection:
            fill(connection)
        with warehouse.connect(name, autocommit=True) as connection:
            connection.execute("vacuum analyze")
        yield name


@contextmanager
def copy_of(database: str, name: str) -> Iterator[str]:
    """A database like `database`, to change at will."""
    drop_database(name)
    # Block by block through the log, the sample would take several times as long as its files do.
    statement = sql.SQL("create database {} template {} strategy file_copy")
    with warehouse.connect("postgres", autocommit=True) as connection:
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(database)))
    try:
        yield name
    finally:
        drop_database(name)


@contextmanager
def registry(artifacts: Path) -> Iterator[str]:
    """An empty model registry of its own, dropped in the end. Gives its database's name."""
    # A name that this process never used: MLflow remembers where it has created its tables.
    database = f"skewless_registry_{next(REGISTRIES)}"
    _make_registry(warehouse.host())
    variables = {"SKEWLESS_ARTIFACTS": str(artifacts), "MLFLOW_TRACKING_URI": f"postgresql+psycopg2:///{database}"}
    # MLflow sets variables itself, as of its experiment, and those go as well.
    with mock.patch.dict(os.environ, variables), copy_of(REGISTRY, database):
        yield database


@cache
@phase("MLflow's tables")
def _make_registry(host: str) -> None:
    from features import tracking

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"postgresql+psycopg2:///{REGISTRY}")
        patch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")  # what is copied must not be in use
        drop_database(REGISTRY)
        create_database(REGISTRY)
        tracking.prepare()
