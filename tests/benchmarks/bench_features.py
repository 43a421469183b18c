"""`make bench-features`: how long features and point-in-time joins take, beside others' ways, on the same rows.

It starts a PostgreSQL of its own under .run/bench (SKEWLESS_BENCH_RUN_DIR names another folder; its path has to be
short enough for a Unix socket), generates the rows, checks every answer before its time counts, and writes results/.
"""

import os
import platform
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click
import psutil

ROOT = Path(__file__).resolve().parents[2]
# Before anything of ours is imported: settings read these once.
RUN_DIR = Path(os.environ.get("SKEWLESS_BENCH_RUN_DIR", ROOT / ".run" / "bench"))
for inherited in [name for name in os.environ if name.startswith(("PG", "DBT_"))]:
    del os.environ[inherited]
os.environ |= {"SKEWLESS_RUN_DIR": str(RUN_DIR), "PGDATABASE": "skewless_bench"}

from features import settings, warehouse  # noqa: E402
from features.local import environment, postgres  # noqa: E402
from features.migrations import migrate  # noqa: E402
from tests.benchmarks import answers, data, duckdb_peer, feast_peer, latest_row, python_loop, report  # noqa: E402
from tests.benchmarks.contest import Bench, Contestant, Outcome, Sizes, Task  # noqa: E402

# In the order of the table; the first is what the ratios are against, and has to give a whole answer.
COMPUTING: dict[str, Contestant] = {"duckdb": duckdb_peer.run, "python": python_loop.run}
FINDING: dict[str, Contestant] = {"plain": latest_row.run, "feast": feast_peer.run}

RESULTS = Path(__file__).with_name("results")
SERVER_SETTINGS = ("shared_buffers", "work_mem", "max_parallel_workers_per_gather", "jit")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--events", default=5_000_000, help="Session events over one year.")
@click.option("--entities", default=50_000, help="Users of the events.")
@click.option("--spine", default=1_200_000, help="(user, instant) pairs to compute features for.")
@click.option("--labels", default=20_000, help="Labels to find the latest feature row for.")
@click.option("--feast-rows", default=1_000_000, help="Feature rows to find it in.")
@click.option("--feast-entities", default=4_000, help="Users of those rows; Feast's cost grows with rows per user.")
@click.option("--repeats", default=3, help="Timed runs of each contestant.")
@click.option("--threads", default=2, help="What DuckDB may use.")
@click.option("--check-rows", default=2_000, help="Spine rows computed once more by naive SQL, as the judge.")
@click.option("--without", multiple=True, type=click.Choice([*COMPUTING, *FINDING]), help="Leave a contestant out.")
@click.option("--date", default=None, help="The date to print on the report. [default: today, UTC]")
@click.option("--results", default=RESULTS, type=click.Path(path_type=Path), show_default="beside this", help="Folder.")
def main(
    repeats: int, threads: int, check_rows: int, without: tuple[str, ...], date: str | None, results: Path, **rows: int
) -> None:
    """Run the benchmark and write its report."""
    sizes = Sizes(
        events=rows["events"],
        entities=rows["entities"],
        spine=rows["spine"],
        feature_rows=rows["feast_rows"],
        feature_entities=rows["feast_entities"],
        labels=rows["labels"],
    )
    was_started = start()
    try:
        bench = Bench(RUN_DIR, sizes, repeats, threads, server_pid())
        prepare(bench)
        tasks = contest(bench, check_rows, without)
        if not tasks:
            raise click.UsageError("Nobody is left to run.")
        page = report.write(tasks, facts(bench, date or datetime.now(UTC).date().isoformat()), results)
    finally:
        if was_started:
            postgres.stop()
    click.echo(page.read_text())


def start() -> bool:
    """Starts the benchmark's server. Returns whether this call did."""
    RUN_DIR.mkdir(parents=True, exist_ok=True)
    was_started = postgres.start()
    os.environ.update(environment.postgres() | environment.tools())
    return was_started


def server_pid() -> int:
    """The postmaster's process id."""
    return int((settings.EMBEDDED_POSTGRES / "postmaster.pid").read_text().splitlines()[0])


def prepare(bench: Bench) -> None:
    """A new database with the project's tables, the generated rows in it, and their exports."""
    click.echo("Generating the rows", err=True)
    with warehouse.connect("postgres", autocommit=True) as connection:
        connection.execute(f"drop database if exists {settings.WAREHOUSE_DATABASE} with (force)")
    migrate()
    with warehouse.connect() as connection:
        data.generate(connection, bench.sizes)
        data.export(connection, bench)
    with warehouse.connect(autocommit=True) as connection:
        connection.execute("vacuum (analyze)")
        connection.execute("checkpoint")


def contest(bench: Bench, check_rows: int, without: tuple[str, ...]) -> list[Task]:
    """Both tasks, with everybody who is not left out."""
    size = bench.sizes
    tasks = [
        _task(
            f"Compute five features for {size.spine:,} rows from {size.events:,} events",
            "Wall time until the answer is in a table. " + _told_by(duckdb_peer, python_loop),
            _run(bench, COMPUTING, without),
            lambda outcomes: judged(outcomes, check_rows),
        ),
        _task(
            f"Find the latest of {size.feature_rows:,} feature rows for {size.labels:,} labels",
            f"{size.feature_rows // size.feature_entities:,} rows per user. " + _told_by(latest_row, feast_peer),
            _run(bench, FINDING, without),
            latest_row.judged,
        ),
    ]
    return [task for task in tasks if task.outcomes]


def _task(title: str, text: str, outcomes: list[Outcome], judge: Callable[[list[Outcome]], list[Outcome]]) -> Task:
    return Task(title, text, outcomes[0].name if outcomes else "", judge(outcomes))


def _run(bench: Bench, contestants: dict[str, Contestant], without: tuple[str, ...]) -> list[Outcome]:
    outcomes = []
    for name, contestant in contestants.items():
        if name not in without:
            click.echo(f"Running {name}", err=True)
            outcomes += contestant(bench)
    return outcomes


def judged(outcomes: list[Outcome], check_rows: int) -> list[Outcome]:
    """The first answer against naive SQL on a sample, and every other answer against the first on all its rows."""
    if not outcomes or outcomes[0].answer is None:
        return outcomes
    first = answers.read(outcomes[0].answer)
    with warehouse.connect() as connection:
        sampled = answers.require_equal(answers.naive(connection, check_rows), first, outcomes[0].name)
    checked = [outcomes[0].checked(f"equals naive SQL on {sampled:,} rows")]
    for outcome in outcomes[1:]:
        rows = answers.require_equal(answers.read(outcome.answer), first, outcome.name) if outcome.answer else 0
        checked.append(replace(outcome, check=f"equals the first on {rows:,} rows" if rows else outcome.check))
    return checked


def _told_by(*modules: object) -> str:
    """What the contestants' modules say about themselves, so that the report says it in the same words."""
    return "\n\n".join(" ".join((module.__doc__ or "").split()) for module in modules)


def facts(bench: Bench, date: str) -> dict[str, str]:
    """What a reader needs to judge the numbers."""
    with warehouse.connect() as connection:
        shown = [f"{name} = {_show(connection, name)}" for name in SERVER_SETTINGS]
        server = _show(connection, "server_version")
    memory = psutil.virtual_memory().total / 2**30
    size = bench.sizes
    return {
        "date": date,
        "machine": f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "PostgreSQL": ", ".join([server, *shown]),
        "events": f"{size.events:,} of {size.entities:,} users over a year, 5 % of them up to 3 days late",
        "spine": f"{size.spine:,} (user, hour) pairs",
        "feature rows": f"{size.feature_rows:,} of {size.feature_entities:,} users",
        "labels": f"{size.labels:,}",
        "repeats": f"{bench.repeats}, medians are shown",
    }


def _show(connection: warehouse.Connection, setting: str) -> str:
    row = connection.execute(f"show {setting}").fetchone()
    return str(row[setting]) if row else "unknown"


if __name__ == "__main__":
    main()
