"""Users whose features are published: dbt's own table and functions, and rows that SQL makes.

dbt builds the feature view without an event, so table, keys, as-of function and manifest are those of the project. The
rows are not computed from events, because only their number and their types matter to a reader.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from features import ledger, warehouse
from features.contract import FeatureView, Model, read_contract
from tests.benchmarks import data
from tests.benchmarks import project as dbt
from tests.databases import copy_of

MODEL = "churn"
DATABASE = "skewless_bench_online"
MOST_USERS = 1_000_000  # bench.user_id has six digits

# User n of `users`; each value is a hash of n, so equal sizes are equal rows.
ROWS = """
insert into features.user_session_features (
    user_id, as_of, feature_version, session_count, avg_session_duration_minutes, days_since_last_session,
    sessions_last_7_days, sessions_last_30_days
)
select
    bench.user_id(n),
    %(as_of)s,
    %(version)s,
    floor(bench.uniform(n, 22) * 100)::bigint,
    bench.uniform(n, 23) * 240,
    floor(bench.uniform(n, 24) * 90)::bigint,
    floor(bench.uniform(n, 25) * 20)::bigint,
    floor(bench.uniform(n, 26) * 50)::bigint
from generate_series(0, %(users)s::bigint - 1) as n
"""

EXPORT = """
select
    user_id, session_count, avg_session_duration_minutes, days_since_last_session, sessions_last_7_days,
    sessions_last_30_days
from features.user_session_features
"""


@dataclass(frozen=True)
class Population:
    """What is published in one database.

    Attributes:
        manifest: of the dbt project that built it.
    """

    database: str
    users: int
    as_of: datetime
    feature_version: str
    manifest: Path

    @property
    def view(self) -> FeatureView:
        """The contract of what is published."""
        return read_contract(self.manifest).feature_view(dbt.VIEW)

    @property
    def model(self) -> Model:
        """The project's model on these features."""
        return read_contract(self.manifest).model(MODEL)


def user_id(number: int) -> str:
    """As bench.user_id."""
    return f"u{number:06d}"


def last_hour() -> datetime:
    """The last full hour, so that nothing is stale for two hours at least."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


@contextmanager
def published(run_dir: Path, sizes: Sequence[int]) -> Iterator[list[Population]]:
    """A database with so many users for each size, published at the last full hour; dropped in the end."""
    as_of = last_hour()
    # Nobody wants to know the server's memory, so any process stands for it.
    project = dbt.copy(run_dir / "dbt" / "online", server_pid=os.getpid())
    with dbt.another_database(DATABASE):
        with warehouse.connect() as connection:
            connection.execute(data.SETUP)
        project.run(dbt.STAGING, dbt.LABELS, dbt.VIEW, as_of=as_of)
        with warehouse.connect() as connection:
            version = dbt.current_version(connection)
        names = [DATABASE, *(f"{DATABASE}_{place}" for place in range(1, len(sizes)))]
        made = [
            Population(name, users, as_of, version, project.folder / "target" / "manifest.json")
            for name, users in zip(names, sizes, strict=True)
        ]
        with ExitStack() as copies:
            for name in names[1:]:
                copies.enter_context(copy_of(DATABASE, name))
            for population in made:
                publish(population)
            yield made


def publish(population: Population) -> None:
    """Writes the rows and makes them the live snapshot, without the gate: they are no function of events."""
    given = {"users": population.users, "as_of": population.as_of, "version": population.feature_version}
    with warehouse.connect(population.database) as connection:
        connection.execute(ROWS, given)
        view = population.view
        snapshot = ledger.snapshot(connection, view, population.as_of, population.feature_version)
        ledger.go_live(connection, None, ledger.replace_live(connection, view, snapshot))
    settle(population)


def settle(population: Population) -> None:
    """Has done what autovacuum will have done on a server that runs."""
    with warehouse.connect(population.database, autocommit=True) as connection:
        connection.execute("vacuum (analyze)")
        connection.execute("checkpoint")


def export(population: Population, path: Path) -> None:
    """Writes the features as CSV, from which every float comes back exactly."""
    with warehouse.connect(population.database) as connection:
        data.write_csv(connection, EXPORT, path)
