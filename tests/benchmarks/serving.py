"""Serving: materialising a snapshot, publishing it through the parity gate, and reading it by key.

Readers are processes of their own with a connection each, over the server's Unix socket, on the machine that also runs
the server; a read is one prepared `select` by key from serving.user_features and its row in the client.
"""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from features import settings, warehouse
from features.contract import FeatureView
from features.steps.publish import publish
from tests.benchmarks import data, measure
from tests.benchmarks import project as dbt
from tests.benchmarks.contest import Bench, Table

DATABASE = "skewless_bench_serving"
EVENTS_PER_ENTITY = 5
READERS = 8
READS = 2_000
WARM_UP_READS = 100
READ = "select * from serving.user_features where user_id = %s"
HEADER = ("what", "rows", "time", "server's memory")

_together: Any = None


def measured(bench: Bench, entities: int) -> list[Table]:
    """A table of snapshots of so many users, and one of point reads."""
    project = dbt.copy(bench.run_dir / "dbt" / "serving", bench.server_pid)
    with dbt.another_database(DATABASE):
        with warehouse.connect() as connection:
            data.generate_events(connection, entities * EVENTS_PER_ENTITY, entities)
            data.generate_spine(connection, 0, entities)
        dbt.vacuum()
        project.run(dbt.STAGING, dbt.LABELS)
        dbt.vacuum()
        snapshots = _snapshots(bench, project)
        reads = point_reads()
    text = (
        f"Users with an event, of {entities:,} drawn; {EVENTS_PER_ENTITY * entities:,} events. The gate recomputes two "
        "snapshots, the live one and the new one, cell by cell; the first publication has no live one yet."
    )
    return [Table("Snapshots", text, HEADER, snapshots), reads]


def _snapshots(bench: Bench, project: dbt.Project) -> list[Sequence[str]]:
    rows = [_materialised(project, dbt.AS_OF, "Materialise a snapshot, first")]
    project.run("user_features")
    view = project.view()
    sampled = view.model_copy(update={"audited_share": 0.1})
    rows.append(_published(bench, view, dbt.AS_OF, "Publish, first: one snapshot audited"))
    for hour, gate, what in ((1, view, "all rows audited"), (2, sampled, "a tenth audited (audited_share: 0.1)")):
        as_of = dbt.AS_OF + timedelta(hours=hour)
        rows.append(_materialised(project, as_of, f"Materialise a snapshot, hour {hour}"))
        # Autovacuum's part, which on a server that runs comes by itself.
        dbt.vacuum(f"features.{dbt.VIEW}")
        rows.append(_published(bench, gate, as_of, f"Publish: two snapshots, {what}"))
    return rows


def _materialised(project: dbt.Project, as_of: datetime, what: str) -> Sequence[str]:
    run = project.run(dbt.VIEW, as_of=as_of)
    with warehouse.connect() as connection:
        counted = connection.execute(
            f"select count(*) as n from features.{dbt.VIEW} where as_of = %s", [as_of]
        ).fetchone()  # fmt: skip
    assert counted is not None
    return what, f"{counted['n']:,}", measure.duration(run.seconds[dbt.VIEW]), measure.size(run.server_bytes)


def _published(bench: Bench, view: FeatureView, as_of: datetime, what: str) -> Sequence[str]:
    facts: dict[str, Any] = {}
    work: Callable[[], object] = lambda: facts.update(publish(view, as_of))  # noqa: E731
    (run,) = measure.repeat(work, 1, roots=[bench.server_pid])
    assert facts["is_live"], facts
    return what, f"{facts['row_count']:,}", measure.duration(run.seconds), measure.size(run.peak_bytes[0])


def point_reads(readers: int = READERS, reads: int = READS) -> Table:
    """Random users of the live snapshot, by readers that begin together."""
    with warehouse.connect() as connection:
        users = [
            row["user_id"]
            for row in connection.execute(
                "select user_id from serving.user_features order by hashtextextended(user_id, 7) limit %s",
                [readers * reads],
            )
        ]
    chosen = np.random.default_rng(7).choice(users, (readers, reads + WARM_UP_READS))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(readers, spawn, initializer=_meet, initargs=(spawn.Barrier(readers),)) as pool:
        given = [(settings.WAREHOUSE_DATABASE, list(map(str, keys))) for keys in chosen]
        found = list(pool.map(_reader, given))
    latencies = np.concatenate([np.asarray(each) for each, _ in found]) * 1000
    longest = max(elapsed for _, elapsed in found)
    return Table(
        "Point reads",
        f"{readers} processes at once, {reads:,} reads each, of random users from serving.user_features, clients and "
        "server on the same cores.",
        ("p50", "p99", "slowest", "reads per second"),
        [
            (
                *(f"{value:.2f} ms" for value in (*np.percentile(latencies, (50, 99)), latencies.max())),
                f"{latencies.size / longest:,.0f}",
            )
        ],
    )


def _meet(barrier: Any) -> None:
    global _together
    _together = barrier


def _reader(given: tuple[str, list[str]]) -> tuple[list[float], float]:
    """The seconds of each read after those for warming up, and of all of them with what the client does between."""
    database, users = given
    seconds = []
    with warehouse.connect(database, autocommit=True) as connection:
        for place, user in enumerate(users):
            if place == WARM_UP_READS:
                _together.wait()
                began = time.perf_counter()
            start = time.perf_counter()
            row = connection.execute(READ, [user], prepare=True).fetchone()
            seconds.append(time.perf_counter() - start)
            assert row is not None
            assert row["user_id"] == user
        elapsed = time.perf_counter() - began
    return seconds[WARM_UP_READS:], elapsed
