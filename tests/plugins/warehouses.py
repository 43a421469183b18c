"""Migrated databases with what a test writes into them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from features import settings, warehouse
from features.migrations import migrate


@contextmanager
def filled(name: str, fill: Callable[[warehouse.Connection], object]) -> Iterator[str]:
    """A database with what a function writes, in one transaction; dropped afterwards. Gives its name."""
    drop(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "WAREHOUSE_DATABASE", name)
        patch.setenv("PGDATABASE", name)
        migrate()
    with warehouse.connect(name) as connection:
        fill(connection)
    with warehouse.connect(name, autocommit=True) as connection:
        connection.execute("vacuum analyze")
    yield name
    drop(name)


def drop(name: str) -> None:
    """Drops a database, whoever is connected."""
    with warehouse.connect("postgres", autocommit=True) as connection:
        connection.execute(f'drop database if exists "{name}" with (force)')
