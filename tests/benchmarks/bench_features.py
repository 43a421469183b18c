"""`make bench-features`: how long features and point-in-time joins take, beside others' ways, on the same rows.

It starts a PostgreSQL of its own under .run/bench (SKEWLESS_BENCH_RUN_DIR names another folder; its path has to be
short enough for a Unix socket), generates the rows, and checks every answer before its time counts.
It writes docs/benchmarks/.
"""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
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
from tests.benchmarks import (  # noqa: E402
    answers,
    data,
    duckdb_peer,
    feast_peer,
    growth,
    latest_row,
    ledger_join,
    project,
    python_loop,
    report,
    serving,
    skewless,
)
from tests.benchmarks.contest import Bench, Contestant, Curve, Outcome, Sizes, Table, Task  # noqa: E402
from tests.databases import drop_database  # noqa: E402
from tests.places import BENCHMARK_RESULTS  # noqa: E402

# In the order of the table; the first is what the ratios are against, and has to give a whole answer.
COMPUTING: dict[str, Contestant] = {"skewless": skewless.run, "duckdb": duckdb_peer.run, "python": python_loop.run}
FINDING: dict[str, Contestant] = {"ledger": ledger_join.run, "plain": latest_row.run, "feast": feast_peer.run}
PARTS = ("compute", "find", "growth", "hourly", "serving")

FINDING_DATABASE = "skewless_bench_find"


@dataclass(frozen=True)
class Found:
    """What has been measured so far."""

    tasks: Sequence[Task] = ()
    tables: Sequence[Table] = ()
    curves: Sequence[Curve] = ()

    def __add__(self, other: "Found") -> "Found":
        return Found(
            tasks=[*self.tasks, *other.tasks],
            tables=[*self.tables, *other.tables],
            curves=[*self.curves, *other.curves],
        )


Part = Callable[[], Found]

SERVER_SETTINGS = ("shared_buffers", "work_mem", "max_parallel_workers_per_gather", "jit")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--events", default=5_000_000, help="Session events over one year.")
@click.option("--entities", default=50_000, help="Users of the events.")
@click.option("--spine", default=1_200_000, help="(user, instant) pairs to compute features for.")
@click.option("--labels", default=20_000, help="Labels to find the latest feature row for.")
@click.option("--feast-rows", default=1_000_000, help="Feature rows to find it in.")
@click.option(
    "--feast-entities",
    default=(4_000, 50_000, 2_000),
    multiple=True,
    help="Users of those rows; Feast's cost grows with rows per user, so there is a table for each number given.",
)
@click.option("--growth-events", default=1_000_000, help="The smallest number of events for growth; doubled twice.")
@click.option("--serving-entities", default=1_000_000, help="Users of the snapshots that are published and read.")
@click.option("--repeats", default=3, help="Timed runs of each contestant.")
@click.option("--threads", default=2, help="What DuckDB may use.")
@click.option("--check-rows", default=2_000, help="Spine rows computed once more by naive SQL, as the judge.")
@click.option("--without", multiple=True, type=click.Choice([*COMPUTING, *FINDING]), help="Leave a contestant out.")
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="Run these parts. [default: all]")
@click.option("--date", default=None, help="The date to print on the report. [default: today, UTC]")
@click.option(
    "--results",
    default=BENCHMARK_RESULTS,
    type=click.Path(path_type=Path),
    show_default="docs/benchmarks",
    help="Folder.",
)
def main(
    repeats: int,
    threads: int,
    check_rows: int,
    without: tuple[str, ...],
    only: tuple[str, ...],
    date: str | None,
    results: Path,
    feast_entities: tuple[int, ...],
    **rows: int,
) -> None:
    """Run the benchmark and write its report."""
    sizes = Sizes(
        events=rows["events"],
        entities=rows["entities"],
        spine=rows["spine"],
        feature_rows=rows["feast_rows"],
        feature_entities=feast_entities[0],
        labels=rows["labels"],
    )
    parts = only or PARTS
    load = os.getloadavg()[0]
    was_started = start()
    try:
        bench = Bench(RUN_DIR, sizes, repeats, threads, server_pid())
        todo = [
            *contest(bench, parts, check_rows, without, feast_entities),
            *ours(bench, parts, rows["growth_events"], rows["serving_entities"]),
        ]
        page = measure_all(todo, lambda: facts(bench, date or datetime.now(UTC).date().isoformat(), load), results)
    finally:
        if was_started:
            postgres.stop()
    click.echo(page.read_text())


def measure_all(todo: Sequence[Part], known: Callable[[], dict[str, str]], results: Path) -> Path:
    """Measures part after part, and writes the report after each, so that a failure costs no more than its own part.

    Returns:
        the report's page.

    Raises:
        click.UsageError: when there is nothing to measure.
    """
    if not todo:
        raise click.UsageError("Nothing is left to measure.")
    found = Found()
    for part in todo:
        found = found + part()
        page = report.write(found.tasks, known(), results, found.tables, found.curves)
    return page


def start() -> bool:
    """Starts the benchmark's server. Returns whether this call did."""
    RUN_DIR.mkdir(parents=True, exist_ok=True)
    was_started = postgres.start()
    os.environ.update(environment.postgres() | environment.tools())
    return was_started


def server_pid() -> int:
    """The postmaster's process id."""
    return int((settings.EMBEDDED_POSTGRES / "postmaster.pid").read_text().splitlines()[0])


def contest(
    bench: Bench, parts: tuple[str, ...], check_rows: int, without: tuple[str, ...], feast_entities: tuple[int, ...]
) -> list[Part]:
    """Both tasks, with everybody who is not left out; the second for each number of users."""
    todo: list[Part] = [partial(computing, bench, check_rows, without)] if "compute" in parts else []
    if "find" in parts:
        sizes = [replace(bench.sizes, feature_entities=number) for number in feast_entities]
        texts = [_told_by(ledger_join, latest_row, feast_peer), *["As above, with other rows per user."] * len(sizes)]
        todo += [
            partial(finding, replace(bench, sizes=each), text, without)
            for each, text in zip(sizes, texts, strict=False)
        ]
    return todo


def computing(bench: Bench, check_rows: int, without: tuple[str, ...]) -> Found:
    """Features from events. Its rows stay in the benchmark's database."""
    size = bench.sizes
    drop_database(settings.WAREHOUSE_DATABASE)
    migrate()
    click.echo("Generating the rows", err=True)
    with warehouse.connect() as connection:
        data.generate_events(connection, size.events, size.entities)
        data.generate_spine(connection, size.spine, size.entities)
        data.export(connection, bench)
    project.vacuum()
    outcomes = _run(bench, COMPUTING, without)
    return _task(
        f"Compute five features for {size.spine:,} rows from {size.events:,} events",
        "Wall time until the answer is in a table. " + _told_by(skewless, duckdb_peer, python_loop),
        judged(outcomes, check_rows),
    )


def finding(bench: Bench, text: str, without: tuple[str, ...]) -> Found:
    """Feature rows for labels, in a database of its own."""
    size = bench.sizes
    with project.another_database(FINDING_DATABASE):
        with warehouse.connect() as connection:
            data.generate_lookups(connection, size)
        project.vacuum()
        outcomes = latest_row.judged(_run(bench, FINDING, without))
    return _task(
        f"Find the feature row for {size.labels:,} labels among {size.feature_rows:,}, "
        f"{size.feature_rows // size.feature_entities:,} per user",
        text,
        outcomes,
    )


def ours(bench: Bench, parts: tuple[str, ...], growth_events: int, serving_entities: int) -> list[Part]:
    """How our time grows, and serving."""
    known: dict[str, Part] = {
        "growth": partial(_growth, bench, growth_events),
        "hourly": lambda: Found(tables=[growth.hourly(bench, growth_events)]),
        "serving": lambda: Found(tables=serving.measured(bench, serving_entities)),
    }
    return [part for name, part in known.items() if name in parts]


def _growth(bench: Bench, events: int) -> Found:
    click.echo("Measuring growth", err=True)
    curves = growth.curves(bench, events)
    return Found(tables=[growth.table(curves)], curves=curves)


def _task(title: str, text: str, outcomes: list[Outcome]) -> Found:
    return Found(tasks=[Task(title, text, outcomes[0].name, outcomes)] if outcomes else [])


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


def facts(bench: Bench, date: str, load: float) -> dict[str, str]:
    """What a reader needs to judge the numbers."""
    with warehouse.connect("postgres") as connection:
        shown = [f"{name} = {_show(connection, name)}" for name in SERVER_SETTINGS]
        server = _show(connection, "server_version")
    memory = psutil.virtual_memory().total / 2**30
    size = bench.sizes
    return {
        "date": date,
        "machine": f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}",
        "load average": f"{load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end",
        "Python": platform.python_version(),
        "PostgreSQL": ", ".join([server, *shown]),
        "events": f"{size.events:,} of {size.entities:,} users over a year, 5 % of them up to 3 days late",
        "spine": f"{size.spine:,} (user, hour) pairs",
        "feature rows": f"{size.feature_rows:,}, in snapshots of all users",
        "labels": f"{size.labels:,}",
        "repeats": f"{bench.repeats}, medians are shown",
    }


def _show(connection: warehouse.Connection, setting: str) -> str:
    row = connection.execute(f"show {setting}").fetchone()
    return str(row[setting]) if row else "unknown"


if __name__ == "__main__":
    main()
