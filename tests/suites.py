"""Which tests belong together: `make test-fast`, `make test`, and the long suites that `make test-all` adds.

A test that nothing marks is part of `make test`, and so is one that is marked `short`. It is fast as well, unless it
asks for a fixture that starts something or is marked `starts`, because it starts processes of its own.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

FAST, SHORT, ALL_LONG = "fast", "short", "long"
# Each is a marker, and `make test-<name>` runs it.
LONG = {
    "chain": "a gate that closes, a sick pipeline, rollbacks, and more that only happens on some days",
    "drills": "services are killed and disks are full while Dags run",
    "deployment": "all services of docker-compose.yml, and the demo in them",
    "operations": "backups, backfills, metrics and lineage of a running Airflow",
    "upgrades": "a warehouse of each earlier version is brought up to date",
    "pages": "every page of Feature health in each theme and width",
    "features": "builds on the whole sample, at once, killed, in any order",
    "benchmarks": "the benchmarks measure what they say",
}
STARTS = "starts"
# Fixtures that start a server or a browser; without a server, dbt builds nothing.
STARTERS = frozenset({"server", "redis_server", "browser"})

# What Python calls it when a process is started.
PROCESSES = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"})


class StartedByFastTest(Exception):
    """A test that nothing marks has started a process."""


class _Running:
    """Whether the test that runs in this process now is a fast one."""

    is_fast = False


def register(config: pytest.Config) -> None:
    """Tells pytest of the markers, and begins to watch what fast tests start."""
    sys.addaudithook(refuse_processes)
    for name, what in LONG.items():
        config.addinivalue_line("markers", f"{name}: {what}")
    config.addinivalue_line("markers", f"{SHORT}: it is part of `make test`, though its file is one of a long suite")
    config.addinivalue_line("markers", f"{STARTS}: it starts processes of its own")


def long_suite(item: pytest.Item) -> str | None:
    """The long suite that a test belongs to, if any."""
    if item.get_closest_marker(SHORT):
        return None
    return next((name for name in LONG if item.get_closest_marker(name)), None)


def is_fast(item: pytest.Item) -> bool:
    """Whether a test starts no server and no browser, and builds nothing with dbt."""
    starts = STARTERS.intersection(getattr(item, "fixturenames", ())) or item.get_closest_marker(STARTS)
    return long_suite(item) is None and not item.get_closest_marker(SHORT) and not starts


def select(items: Iterable[pytest.Item], suite: str) -> tuple[list[pytest.Item], Counter[str]]:
    """Parts tests into those of a suite, and the number of the others by the suite that has them."""
    chosen: list[pytest.Item] = []
    others: Counter[str] = Counter()
    for item in items:
        own = long_suite(item) or (FAST if is_fast(item) else SHORT)
        if own == suite or (suite == SHORT and own == FAST) or (suite == ALL_LONG and own in LONG):
            chosen.append(item)
        else:
            others[own] += 1
    return chosen, others


@contextmanager
def held_to_its_mark(item: pytest.Item) -> Iterator[None]:
    """While the block runs, which is a part of a test, a fast one can start no process."""
    _Running.is_fast = is_fast(item)
    try:
        yield
    finally:
        _Running.is_fast = False


def refuse_processes(event: str, arguments: tuple[object, ...]) -> None:
    """Python calls it for everything that can be audited.

    Raises:
        StartedByFastTest: saying how the test is marked.
    """
    if _Running.is_fast and event in PROCESSES:
        raise StartedByFastTest(f"A fast test starts {arguments[:2]}. Mark it: @pytest.mark.{STARTS}.")


def what_was_left_out(others: Counter[str]) -> str:
    """One line that says what a run did not have in it, and which command runs that."""
    if set(others) <= set(LONG):
        counts = ", ".join(f"{count} {name}" for name, count in others.most_common())
        return f"Not in this run: {counts}. `make test-all` runs them too."
    return f"Not in this run: {others.total()} tests. `make test` runs a bit of everything, `make test-all` all of it."
