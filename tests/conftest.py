"""Tests run against a PostgreSQL of their own under .run/test, started here and stopped at the end."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Before anything of ours is imported: settings read these once.
os.environ["SKEWLESS_RUN_DIR"] = str(ROOT / ".run" / "test")
os.environ.pop("DBT_TARGET_PATH", None)
for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"):
    os.environ.pop(name, None)

from features import settings, warehouse  # noqa: E402
from features.local import postgres  # noqa: E402
from features.migrations import migrate  # noqa: E402


@pytest.fixture(scope="session")
def server() -> Iterator[None]:
    """An embedded PostgreSQL without databases of ours."""
    settings.RUN_DIR.mkdir(parents=True, exist_ok=True)
    postgres.start()
    yield
    postgres.stop()


@pytest.fixture
def empty_warehouse(server: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A migrated warehouse without a row; dropped afterwards. Gives its database's name."""
    database = "skewless_empty"
    _drop(database)
    monkeypatch.setattr(settings, "WAREHOUSE_DATABASE", database)
    migrate()
    yield database
    _drop(database)


def _drop(database: str) -> None:
    with warehouse.connect("postgres", autocommit=True) as connection:
        connection.execute(f'drop database if exists "{database}" with (force)')
