"""Skewless: the project's own dbt models, from staging to the append-only feature table.

Timed: dbt's `user_session_features` into an empty table, as dbt's run_results.json has it: finding the missing rows of
the spine, the batches, the as-of function, and the insert into a table with a primary key. dbt's start and parsing are
not in it; the note says how long they take. Not timed: staging and labels, built by dbt before. It computes the serving
snapshot of all users too, which the others do not. Memory is of all of PostgreSQL's processes.

The other formulation is the same compiled definition as one `create table as` around the bare spine, on one core.
"""

import statistics
from importlib.metadata import version
from pathlib import Path

from pyarrow import csv, parquet

from features import warehouse
from features.extracts import BLANK_SPINE
from tests.benchmarks import data, measure
from tests.benchmarks import project as dbt
from tests.benchmarks.answers import KEYS
from tests.benchmarks.contest import FEATURES, Bench, Outcome

NAME = "Skewless, dbt model"
PLAIN = "Skewless, its definition as one statement"
SPINE = "/* spine */ select user_id, label_at as as_of from raw.bench_labels order by user_id, label_at /* end */"
PLAIN_TABLE = "bench.one_statement"


def run(bench: Bench) -> list[Outcome]:
    """The dbt model on raw.session_events and raw.bench_labels, and its definition as one statement."""
    project = dbt.copy(bench.run_dir / "dbt" / "spine", bench.server_pid)
    before = project.run(dbt.STAGING, dbt.LABELS)
    dbt.vacuum("staging.stg_session_events", "features.churn_labels")
    runs = dbt.build_repeatedly(project, bench.repeats)
    around = statistics.median(run.wall_seconds - run.seconds[dbt.VIEW] for run in runs)
    model = Outcome(
        name=NAME,
        seconds=tuple(run.seconds[dbt.VIEW] for run in runs),
        rows=bench.sizes.spine,
        server_bytes=max(run.server_bytes for run in runs),
        answer=_export(bench, f"features.{dbt.VIEW}", "skewless_model"),
        versions={name: version(name) for name in ("dbt-core", "dbt-postgres")},
        note=f"the dbt process takes {around:.1f} s more; staging took {before.seconds[dbt.STAGING]:.1f} s",
    )
    return [model, _one_statement(bench)]


def _one_statement(bench: Bench) -> Outcome:
    query = dbt.definition().replace(BLANK_SPINE, SPINE)

    def build() -> None:
        connection.execute(f"drop table if exists {PLAIN_TABLE}")
        connection.execute(f"create table {PLAIN_TABLE} as {query}")

    with warehouse.connect(autocommit=True) as connection:
        runs = measure.repeat(build, bench.repeats, roots=[bench.server_pid])
    return Outcome(
        name=PLAIN,
        seconds=tuple(run.seconds for run in runs),
        rows=bench.sizes.spine,
        server_bytes=max(run.peak_bytes[0] for run in runs),
        answer=_export(bench, PLAIN_TABLE, "skewless_statement"),
        note="the planner leaves the second core idle; no primary key",
    )


def _export(bench: Bench, table: str, name: str) -> Path:
    """Writes the rows of the spine into a Parquet file; as text on the way, which keeps every bit of a double."""
    query = f"select {', '.join([*KEYS, *FEATURES])} from {table} where as_of < '{dbt.AS_OF.isoformat()}'"
    exported = bench.folder("exports") / f"{name}.csv"
    with warehouse.connect() as connection:
        data.write_csv(connection, query, exported)
    answer = bench.folder("answers") / f"{name}.parquet"
    parquet.write_table(csv.read_csv(exported), answer)
    return answer
