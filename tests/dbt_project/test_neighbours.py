"""A build stands in the way of nothing that PostgreSQL does by itself meanwhile."""

import time
from collections.abc import Iterator

import pytest

from features import warehouse
from tests.databases import execute, migrated, using
from tests.dbt_project.running import run_dbt, start_dbt
from tests.steps.small_warehouse import HISTORY, LATER

# One of the project's own materialization, one of dbt's.
TABLES = ("features.user_session_features", "training.churn_training_set")
WAITS = "select count(*) as n from pg_locks where not granted"
BUILD_SECONDS = 60


@pytest.fixture(scope="module")
def built(server: None) -> Iterator[str]:
    """A dozen users, and everything built."""
    with migrated("skewless_neighbours") as database, using(database):
        execute(HISTORY)
        run_dbt(LATER)
        yield database


@pytest.mark.parametrize("table", TABLES)
def test_autovacuum_analyses_a_table_while_it_is_built(built: str, table: str) -> None:
    """It keeps the table's statistics to itself, and writes them at the end: neither may wait for the other."""
    with warehouse.connect() as autovacuum:
        autovacuum.execute(f"lock table {table} in share update exclusive mode")
        build = start_dbt(["run", "--select", table.partition(".")[2]], built, LATER.isoformat())
        try:
            deadline = time.monotonic() + BUILD_SECONDS
            while not autovacuum.execute(WAITS).fetchall()[0]["n"]:
                assert build.poll() is None, "it is over, and waited for nothing"
                assert time.monotonic() < deadline
                time.sleep(0.1)
            autovacuum.execute(f"analyze {table}")
            autovacuum.commit()
            assert build.wait(BUILD_SECONDS) == 0
        finally:
            build.kill()
            build.wait()
