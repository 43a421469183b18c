"""The processes that read, from the outside: how each is started, asked and ended."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from features import warehouse
from tests.benchmarks import peer_venv
from tests.benchmarks.contest import Bench
from tests.benchmarks.serving_bench.population import Population, export

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = "tests.benchmarks.serving_bench"
SKEWLESS, FEAST = "Skewless", "Feast"
REDIS, POSTGRES = "redis", "postgres"
STORES = (REDIS, POSTGRES)

FEAST_REQUIREMENTS = ["feast[postgres,redis]==0.67.0"]
FEAST_DISTRIBUTIONS = ("feast", "psycopg", "redis", "hiredis", "protobuf", "pandas", "pyarrow")
FEAST_SETTINGS = (
    "registry in a file, its cache's time to live the default 10 minutes; keys serialised by version 3; no ttl; of "
    "PostgreSQL's conn_type the faster one: singleton, the default, for one read at a time, pool for several"
)
# A chunk is converted and sent as a whole.
FEAST_CHUNK_ROWS = 10_000


class ReaderFailed(Exception):
    """A process that reads did not answer; the message has the end of its log."""


@dataclass
class Contestant:
    """A running process of one contestant on one store.

    Attributes:
        name: who it is.
        store: what it reads from: redis or postgres.
        users: of whom there are features.
    """

    name: str
    store: str
    users: int
    process: "subprocess.Popen[str]"
    log: Path

    def ask(self, command: str, **arguments: Any) -> Any:
        """Has it do something, by the names of `child.Child`.

        Raises:
            ReaderFailed: when it ends instead.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # then there is no answer, either
            self.process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            self.process.wait()
            raise ReaderFailed(f"{self.name} on {self.store} ended at `{command}`:\n{self.log.read_text()[-4000:]}")
        return json.loads(answer)


class Start(Protocol):
    """Starts a contestant on a store for as long as a block runs."""

    def __call__(self, bench: Bench, store: str, population: Population, redis_url: str) -> Any:
        """A context manager that gives the Contestant."""


@contextmanager
def skewless(
    bench: Bench, store: str, population: Population, redis_url: str, name: str = SKEWLESS
) -> Iterator[Contestant]:
    """FeatureStore on this project's own environment."""
    given = {"store": store, "feature_version": population.feature_version}
    given["redis_url"] = redis_url if store == REDIS else ""
    command = [sys.executable, "-m", f"{PACKAGE}.skewless_process", json.dumps(given)]
    with _running(bench, name, store, population, command, os.environ | environment(population)) as contestant:
        yield contestant


@contextmanager
def feast(bench: Bench, store: str, population: Population, redis_url: str) -> Iterator[Contestant]:
    """Feast in an environment of its own."""
    folder = bench.folder(f"feast/online_{store}")
    rows_csv = bench.folder("exports") / "online.csv"
    export(population, rows_csv)
    (folder / "registry.db").unlink(missing_ok=True)
    given = {
        "online": _feast_store(store, population, redis_url, "singleton"),
        "online_for_several": _feast_store(store, population, redis_url, "pool"),
        "folder": str(folder),
        "rows_csv": str(rows_csv),
        "as_of": population.as_of.isoformat(),
        "chunk_rows": FEAST_CHUNK_ROWS,
    }
    python = str(peer_venv.ensure(bench, "feast_online", FEAST_REQUIREMENTS))
    command = [python, "-W", "ignore", "-m", f"{PACKAGE}.feast_process", json.dumps(given)]
    with _running(bench, FEAST, store, population, command, peer_venv.environment()) as contestant:
        yield contestant


def run_ours(module: str, given: dict[str, Any], population: Population) -> Any:
    """Runs a module of this package that prints JSON, in this project's own environment. Returns what it printed.

    Raises:
        ReaderFailed: with the end of what it wrote to standard error.
    """
    command = [sys.executable, "-m", f"{PACKAGE}.{module}", json.dumps(given)]
    env = os.environ | environment(population)
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReaderFailed(f"{module} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def environment(population: Population) -> dict[str, str]:
    """What a process of ours has to know of a population."""
    return {"PGDATABASE": population.database, "SKEWLESS_MANIFEST": str(population.manifest)}


def _feast_store(store: str, population: Population, redis_url: str, conn_type: str) -> dict[str, Any]:
    """Feast's own names for the settings of its online stores, both on Unix sockets."""
    if store == REDIS:
        # The host is ignored: what follows it goes to redis-py as it is.
        socket = redis_url.removeprefix("unix://")
        return {"type": "redis", "connection_string": f"localhost:6379,unix_socket_path={socket}"}
    return {
        "type": "postgres",
        "host": warehouse.host(),
        "port": int(os.environ.get("PGPORT", "5432")),
        "database": population.database,
        "db_schema": "public",
        "user": warehouse.user(),
        "password": os.environ.get("PGPASSWORD", ""),
        "sslmode": "disable",
        "conn_type": conn_type,
    }


@contextmanager
def _running(
    bench: Bench, name: str, store: str, population: Population, command: Sequence[str], env: dict[str, str]
) -> Iterator[Contestant]:
    """The process, in a session of its own: a Ctrl-C reaches it through the end of its input."""
    log = bench.folder("logs") / f"{name.lower()}_{store}_{population.users}.log"
    with (
        log.open("w") as complaints,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            env=env,
            cwd=ROOT,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield Contestant(name, store, population.users, process, log)
        except BaseException:  # a Ctrl-C above all: nobody wants to wait for what it was about to answer
            process.kill()
            raise
        finally:
            _end(process)


def _end(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
