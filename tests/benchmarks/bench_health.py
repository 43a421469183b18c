"""`make bench-health`: what the pages of Feature health cost over a long history, and over one twice as long.

It starts a PostgreSQL of its own under .run/bench (SKEWLESS_BENCH_RUN_DIR names another folder; its path has to be
short enough for a Unix socket), fills two warehouses with synthetic histories that end at the same instant, and asks a
real Airflow api-server for each page in turn, logged in as a viewer. What a page asks the warehouse is counted in this
process. Results are printed and written as docs/benchmarks/bench_health.md and .json.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click
import psutil
import requests

ROOT = Path(__file__).resolve().parents[2]
# Before anything of ours is imported: settings read these once.
RUN_DIR = Path(os.environ.get("SKEWLESS_BENCH_RUN_DIR", ROOT / ".run" / "bench"))
for inherited in [name for name in os.environ if name.startswith(("PG", "DBT_", "AIRFLOW_", "REDIS_"))]:
    del os.environ[inherited]
os.environ |= {"SKEWLESS_RUN_DIR": str(RUN_DIR), "PGDATABASE": "skewless_bench"}

from features import settings, warehouse  # noqa: E402
from features.contract import Contract, read_contract  # noqa: E402
from features.local import environment, servers, stack  # noqa: E402
from tests.benchmarks.report import rows  # noqa: E402
from tests.databases import filled  # noqa: E402
from tests.places import BENCHMARK_RESULTS  # noqa: E402
from tests.plugins import airflow_server  # noqa: E402
from tests.plugins.addresses import address  # noqa: E402
from tests.plugins.airflow_server import ApiServer  # noqa: E402
from tests.plugins.manifests import manifest_with  # noqa: E402
from tests.plugins.queries import pages_by_name, pages_touched, queries_of  # noqa: E402
from tests.plugins.synthetic_history import fill  # noqa: E402

NAME = "bench_health"
WARM_UP = 2
MEBI = 2**20


@dataclass(frozen=True)
class Cost:
    """Of one page over one history.

    Attributes:
        days: how long the history is.
        median_ms: of the requests, from asking to the last byte, the server's login check included; worst_ms of all.
        size: of the answer in bytes, not compressed.
        queries: that the page asks the warehouse.
        database_pages: of 8 kB that these queries touch, in memory or not.
    """

    page: str
    days: int
    median_ms: float
    worst_ms: float
    size: int
    queries: int
    database_pages: int


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--features", default=100, type=click.IntRange(5), help="In the view of the model.")
@click.option("--days", default=45, type=click.IntRange(2), help="Of the shorter history; the other is twice as long.")
@click.option("--rounds", default=15, type=click.IntRange(1), help="Timed requests of each page and history.")
@click.option("--date", default=None, help="The date to print on the report. [default: today, UTC]")
@click.option(
    "--results",
    default=BENCHMARK_RESULTS,
    type=click.Path(path_type=Path),
    show_default="docs/benchmarks",
    help="Folder.",
)
def main(features: int, days: int, rounds: int, date: str | None, results: Path) -> None:
    """Run the benchmark and write its report."""
    sys.path.append(str(settings.PLUGINS_FOLDER))
    RUN_DIR.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    started = servers.start()
    try:
        os.environ.update(environment.postgres() | environment.tools() | environment.airflow())
        stack.run_side_by_side({"dbt parse": [str(Path(sys.executable).with_name("dbt")), "parse", "--quiet"]})
        manifest = manifest_with(features, settings.MANIFEST, RUN_DIR / "health" / "manifest.json")
        airflow_server.prepare()
        costs = list(_measured(manifest, days, rounds))
        told = _facts(features, rounds, date or datetime.now(UTC).date().isoformat(), load)
    finally:
        servers.stop(started)
    click.echo(write(costs, told, results).read_text())


def _measured(manifest: Path, days: int, rounds: int) -> Iterator[Cost]:
    contract = read_contract(manifest)
    with (
        _history(contract, days) as short,
        _history(contract, 2 * days) as long,
        airflow_server.api_server("bench-short", short, manifest) as of_short,
        airflow_server.api_server("bench-long", long, manifest) as of_long,
    ):
        for name in pages_by_name():
            # In turns, so that whatever else the machine does meets both.
            times = _timed((of_short, of_long), address(name), rounds)
            yield _cost(name, days, times[0], of_short, contract, short)
            yield _cost(name, 2 * days, times[1], of_long, contract, long)


@contextmanager
def _history(contract: Contract, days: int) -> Iterator[str]:
    began = time.monotonic()
    with filled(f"skewless_bench_{days}", lambda connection: fill(connection, contract, days=days)) as name:
        click.echo(f"Filled {days} days in {time.monotonic() - began:.0f} s.", err=True)
        yield name


def _timed(asked: Sequence[ApiServer], path: str, rounds: int) -> list[list[float]]:
    """Milliseconds of each request, by server."""
    sessions = [server.session("viewer") for server in asked]
    found: list[list[float]] = [[] for _ in asked]
    for number in range(WARM_UP + rounds):
        for server, session, times in zip(asked, sessions, found, strict=True):
            began = time.perf_counter()
            session.get(server.page(path), timeout=120).raise_for_status()
            if number >= WARM_UP:
                times.append(1000 * (time.perf_counter() - began))
    return found


def _cost(name: str, days: int, times: Sequence[float], server: ApiServer, contract: Contract, database: str) -> Cost:
    answer = requests.get(
        server.page(address(name)), headers={"Authorization": f"Bearer {server.token('viewer')}"}, timeout=120
    )
    queries = queries_of(name, contract, database)
    with warehouse.connect(database) as connection:
        plans = [asked.plan(connection, "analyze, buffers, timing off,") for asked in queries]
    return Cost(
        page=name,
        days=days,
        median_ms=statistics.median(times),
        worst_ms=max(times),
        size=len(answer.content),
        queries=len(queries),
        database_pages=sum(map(pages_touched, plans)),
    )


def _facts(features: int, rounds: int, date: str, load: float) -> dict[str, str]:
    with warehouse.connect("postgres") as connection:
        row = connection.execute("show server_version").fetchone()
    return {
        "date": date,
        "machine": f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, "
        f"{platform.system()} {platform.machine()}",
        "load average": f"{load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end",
        "Python": platform.python_version(),
        "PostgreSQL": row["server_version"] if row else "",
        "Airflow": version("apache-airflow"),
        "features": f"{features}, each with hourly reports of four windows against two baselines",
        "rounds": f"{rounds}, after {WARM_UP} that do not count",
    }


def write(costs: Sequence[Cost], told: Mapping[str, str], folder: Path) -> Path:
    """Writes the page and its numbers into the folder; gives the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = {"facts": dict(told), "costs": [asdict(cost) for cost in costs]}
    (folder / f"{NAME}.json").write_text(json.dumps(raw, indent=2) + "\n")
    page = folder / f"{NAME}.md"
    page.write_text("\n".join(markdown(costs, told)) + "\n")
    return page


def markdown(costs: Sequence[Cost], told: Mapping[str, str]) -> Iterator[str]:
    """The report, line by line."""
    yield "# What the pages of Feature health cost\n"
    yield "Written by `make bench-health`.\n"
    yield from (f"* {name}: {value}" for name, value in told.items())
    yield ""
    head = ("page", "days", "median ms", "worst ms", "kB", "queries", "MB of the warehouse touched")
    yield from rows([head, *map(_row, costs)])


def _row(cost: Cost) -> tuple[str, ...]:
    return (
        cost.page,
        str(cost.days),
        f"{cost.median_ms:.0f}",
        f"{cost.worst_ms:.0f}",
        f"{cost.size / 1000:.0f}",
        str(cost.queries),
        f"{cost.database_pages * 8192 / MEBI:.1f}",
    )


if __name__ == "__main__":
    main()
