"""A feature view is built beside what PostgreSQL does by itself meanwhile."""

import time
from collections.abc import Iterator

import pytest

from features import warehouse
from tests.databases import execute, migrated, using
from tests.dbt_project.running import run_dbt, start_dbt
from tests.steps.small_warehouse import HISTORY, LATER

TABLE = "features.user_session_features"
WAITS = f"select count(*) as n from pg_locks where relation = '{TABLE}'::regclass and not granted"
BUILD_SECONDS = 60


@pytest.fixture(scope="module")
def built(server: None) -> Iterator[str]:
    """A dozen users, and everything built."""
    with migrated("skewless_neighbours") as database, using(database):
        execute(HISTORY)
        run_dbt(LATER)
        yield database


def test_autovacuum_analyses_a_view_while_it_is_built(built: str) -> None:
    """The build waits for the analysis, which writes at its end and then must not wait for the build."""
    with warehouse.connect() as autovacuum:
        autovacuum.execute(f"lock table {TABLE} in share update exclusive mode")
        build = start_dbt(["run", "--select", TABLE.partition(".")[2]], built, LATER.isoformat())
        try:
            deadline = time.monotonic() + BUILD_SECONDS
            while not autovacuum.execute(WAITS).fetchall()[0]["n"]:
                assert build.poll() is None, "it is over, and waited for nothing"
                assert time.monotonic() < deadline
                time.sleep(0.1)
            autovacuum.execute(f"analyze {TABLE}")
            autovacuum.commit()
            assert build.wait(BUILD_SECONDS) == 0
        finally:
            build.kill()
            build.wait()
