"""What a service notices when Redis or PostgreSQL stops, hangs, comes back, or when the service forks."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg_pool
import pytest

from features import settings, warehouse
from features.contract import FeatureView
from features.local import postgres
from features.serving.push import NotPushed, push
from features.serving.row import StoreUnavailable
from features.serving.store import FeatureStore
from tests.dbt_project.oracle import FEATURES, HOUR
from tests.steps.small_warehouse import EARLIER, USERS, stored

pytestmark = pytest.mark.drills

pytest_plugins = ["tests.serving.stores"]

NAMESPACE = "crashes"
NOW = EARLIER + HOUR
VALUES = dict(zip(FEATURES, (7, 0.5, 3, 2, 5), strict=True))
TIMEOUT = 0.2
both = pytest.mark.parametrize("is_async", [False, True], ids=["threads", "coroutines"])


@pytest.fixture(autouse=True)
def _earlier_is_live(standing: None) -> None:
    pass


@pytest.fixture
def open_online(open_any: Any, view: FeatureView, private_redis: Any) -> Callable[..., Any]:
    """Opens a store on the private Redis, to which EARLIER was pushed."""
    push(view, private_redis.url, NAMESPACE)

    def open_one(is_async: bool = False, **options: Any) -> Any:
        options = {"namespace": NAMESPACE, "redis_timeout_seconds": TIMEOUT} | options
        return open_any(view, is_async=is_async, redis_url=private_redis.url, **options)

    return open_one


def sources(store: Any) -> set[str]:
    """Where all users come from, who are all there, with the right features."""
    found = store.read_user_features_batch(USERS)
    assert [tuple(row.features.values()) for row in found] == [values for *_, values in stored_rows()]
    return {row.served_from for row in found}


def stored_rows() -> list[tuple[Any, ...]]:
    """What the feature table holds, the features as one tuple."""
    return [(user, as_of, version, tuple(values)) for user, as_of, version, *values in stored(EARLIER)]


def seconds(call: Callable[[], object]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


def rest() -> None:
    """Until a Redis that was down is asked again."""
    time.sleep(1.05)


# ---- Redis ----


@both
def test_without_redis_postgres_serves_and_a_metric_says_so(
    open_online: Any, private_redis: Any, fallbacks: Any, is_async: bool
) -> None:
    store = open_online(is_async)
    assert sources(store) == {"redis"}
    assert fallbacks("down") == 0
    private_redis.stop()
    assert sources(store) == {"postgres"}
    assert fallbacks("down") == 1


@both
def test_a_redis_that_is_back_is_empty_until_the_next_push(
    open_online: Any, private_redis: Any, fallbacks: Any, view: FeatureView, is_async: bool
) -> None:
    store = open_online(is_async)
    assert sources(store) == {"redis"}
    private_redis.stop()
    assert sources(store) == {"postgres"}
    private_redis.start()
    rest()
    assert fallbacks("empty") == 0
    assert sources(store) == {"postgres"}
    assert fallbacks("empty") == 1
    push(view, private_redis.url, NAMESPACE)
    assert sources(store) == {"redis"}
    assert (fallbacks("empty"), fallbacks("down")) == (1, 1)


@both
def test_a_restart_between_two_reads_is_not_noticed(
    open_online: Any, private_redis: Any, fallbacks: Any, view: FeatureView, is_async: bool
) -> None:
    store = open_online(is_async)
    assert sources(store) == {"redis"}
    private_redis.stop()
    private_redis.start()
    push(view, private_redis.url, NAMESPACE)
    assert sources(store) == {"redis"}
    assert fallbacks("down") == 0


@both
def test_a_reader_that_does_not_want_postgres_is_told(open_online: Any, private_redis: Any, is_async: bool) -> None:
    store = open_online(is_async, on_redis_down="refuse")
    assert sources(store) == {"redis"}
    private_redis.stop()
    said = "Redis did not answer: .* Check that it runs, and REDIS_URL. This reader was told not to fall back"
    for read in (store.read_user_features, store.read_user_features_or_compute):
        with pytest.raises(StoreUnavailable, match=said):
            read("u01")
    private_redis.start()
    with pytest.raises(StoreUnavailable, match=r"nothing was pushed\. This reader was told not to fall back"):
        store.read_user_features("u01")


@both
def test_what_is_written_while_redis_is_away_is_not_lost(
    open_online: Any, private_redis: Any, view: FeatureView, is_async: bool
) -> None:
    store = open_online(is_async)
    assert sources(store) == {"redis"}
    private_redis.stop()
    assert store.write_user_features("new", VALUES, as_of=NOW)
    assert store.read_user_features_or_compute("other", at=NOW).served_from == "computed"
    assert store.read_user_features("new").features == VALUES
    private_redis.start()
    push(view, private_redis.url, NAMESPACE)
    rest()
    for entity, source in (("new", "written"), ("other", "computed"), ("u01", "redis")):
        assert store.read_user_features(entity).served_from == source


@both
def test_a_redis_that_hangs_costs_its_timeout_once_a_second(
    open_online: Any, private_redis: Any, fallbacks: Any, is_async: bool
) -> None:
    store = open_online(is_async)
    assert sources(store) == {"redis"}
    private_redis.freeze()
    try:
        assert TIMEOUT * 0.9 < seconds(lambda: store.read_user_features("u01")) < TIMEOUT * 2
        assert seconds(lambda: [store.read_user_features("u01") for _ in range(10)]) < TIMEOUT
        assert fallbacks("down") == 11
        rest()
        assert seconds(lambda: store.read_user_features("u01")) > TIMEOUT * 0.9
    finally:
        private_redis.thaw()
    rest()
    # What the frozen Redis answers late is nobody's answer.
    for user in USERS:
        row = store.read_user_features(user)
        assert (row.served_from, row.features["session_count"]) == ("redis", expected_count(user))


def expected_count(user: str) -> int:
    return next(values[0] for name, _, _, values in stored_rows() if name == user)


def test_a_redis_that_hangs_costs_many_threads_no_more(open_online: Any, private_redis: Any) -> None:
    store = open_online()
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(store.read_user_features, USERS * 4))
        private_redis.freeze()
        try:
            assert seconds(lambda: list(pool.map(store.read_user_features, USERS * 20))) < 5 * TIMEOUT
        finally:
            private_redis.thaw()


def test_a_push_to_a_redis_that_is_away_says_what_to_do(private_redis: Any, view: FeatureView) -> None:
    private_redis.stop()
    with pytest.raises(NotPushed, match=r"does not answer .* Check that it runs, and REDIS_URL; then clear this task"):
        push(view, private_redis.url, NAMESPACE)


# ---- PostgreSQL ----


def terminate(connection: warehouse.Connection) -> int:
    """Breaks every connection that a store has. Returns how many there were."""
    statement = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'skewless store'"
    return len(connection.execute(statement).fetchall())


def cut_all() -> int:
    with warehouse.connect("postgres", autocommit=True) as connection:
        return terminate(connection)


@both
def test_connections_that_were_cut_are_replaced_within_the_read(
    open_any: Any, view: FeatureView, is_async: bool
) -> None:
    store = open_any(view, is_async=is_async)
    for _ in range(5):
        assert sources(store) == {"postgres"}
        assert cut_all() >= 1
    assert store.write_user_features("new", VALUES, as_of=NOW)
    cut_all()
    assert store.read_user_features("new").features == VALUES


def test_all_connections_of_a_pool_may_be_cut_at_once(open_any: Any, view: FeatureView) -> None:
    store = open_any(view, pool_size=4)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert all(pool.map(store.read_user_features, USERS * 8))
            assert cut_all() >= 1


@both
def test_a_server_that_is_not_there_is_named_with_what_to_check(
    open_any: Any, view: FeatureView, is_async: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGHOST", "/nowhere")
        store = open_any(view, is_async=is_async, postgres_timeout_seconds=0.3)
    use_it: Callable[[], object]
    for use_it in (
        lambda: store.read_user_features("u01"),
        lambda: store.read_user_features_or_compute("u01"),
        lambda: store.write_user_features("u01", VALUES, as_of=NOW),
    ):
        with pytest.raises(StoreUnavailable) as error:
            use_it()
        assert "did not answer a read of features" in str(error.value)
        assert "Check that it runs, and PGHOST, PGPORT, PGUSER and PGPASSWORD." in str(error.value)


def test_redis_serves_on_without_postgres(open_online: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGHOST", "/nowhere")
        store = open_online(postgres_timeout_seconds=0.3)
    assert sources(store) == {"redis"}
    with pytest.raises(StoreUnavailable):
        store.read_user_features("somebody new")


def start_postgres() -> None:
    """As a person does: the process that started it first takes it for running."""
    skewless = Path(sys.executable).with_name("skewless")
    done = subprocess.run([skewless, "start-warehouse"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_server_that_stops_and_comes_back_is_found_again(open_any: Any, view: FeatureView) -> None:
    store = open_any(view, postgres_timeout_seconds=0.5)
    assert sources(store) == {"postgres"}
    postgres.stop()
    try:
        with pytest.raises(StoreUnavailable):
            store.read_user_features("u01")
    finally:
        start_postgres()
    assert seconds_until_it_serves(store) < 3


@both
def test_a_server_that_was_away_for_long_is_found_as_soon(open_any: Any, view: FeatureView, is_async: bool) -> None:
    """A pool that tries less and less often would find it after 7 seconds: 1, 2 and 4 lie between its attempts."""
    store = open_any(view, is_async=is_async, postgres_timeout_seconds=0.5)
    assert sources(store) == {"postgres"}
    door = settings.EMBEDDED_POSTGRES / ".s.PGSQL.5432"
    away = door.with_suffix(".away")
    with warehouse.connect("postgres", autocommit=True) as connection:
        door.rename(away)
        try:
            terminate(connection)
            gone = time.monotonic()
            while time.monotonic() < gone + 3.3:
                with pytest.raises(StoreUnavailable):
                    store.read_user_features("u01")
        finally:
            away.rename(door)
    assert seconds_until_it_serves(store) < 1.5


def seconds_until_it_serves(store: Any) -> float:
    started = time.monotonic()
    while True:
        try:
            assert sources(store) == {"postgres"}
            return time.monotonic() - started
        except StoreUnavailable:
            assert time.monotonic() < started + 10


@pytest.fixture
def locked() -> Iterator[None]:
    """Somebody holds the feature table."""
    with warehouse.connect() as connection:
        connection.execute("lock table features.user_session_features in access exclusive mode")
        yield
        connection.rollback()


@both
def test_a_read_that_takes_too_long_is_given_up(open_any: Any, view: FeatureView, locked: None, is_async: bool) -> None:
    store = open_any(view, is_async=is_async, postgres_timeout_seconds=0.4)

    def read() -> None:
        with pytest.raises(StoreUnavailable, match="canceling statement due to statement timeout"):
            store.read_user_features("u01")

    assert 0.3 < seconds(read) < 1


def test_a_pool_that_is_exhausted_is_an_error_and_not_a_wait_for_ever(open_any: Any, view: FeatureView) -> None:
    store = open_any(view, pool_size=1, postgres_timeout_seconds=0.3)
    store.read_user_features("u01")

    def read() -> None:
        with pytest.raises(StoreUnavailable, match=r"couldn't get a connection after 0\.30 sec"):
            store.read_user_features("u01")

    with store._postgres._opened().connection():
        assert 0.2 < seconds(read) < 1
    assert store.read_user_features("u01") is not None


# ---- threads and processes ----


@pytest.mark.parametrize("has_redis", [False, True], ids=["postgres", "redis"])
def test_threads_share_a_store_from_its_first_moment(
    open_any: Any, open_online: Any, view: FeatureView, has_redis: bool
) -> None:
    expected = {user: values for user, _, _, values in stored_rows()}
    for _ in range(10):
        store = open_online() if has_redis else open_any(view, pool_size=4)
        start = threading.Barrier(16)

        def read(number: int, store: FeatureStore = store, start: threading.Barrier = start) -> list[bool]:
            mine = USERS[number % 12 :] + USERS[: number % 12]
            start.wait()
            answers = [store.read_user_features(user) for user in mine] + store.read_user_features_batch(mine)
            return [row is not None and tuple(row.features.values()) == expected[row.entity] for row in answers]

        with ThreadPoolExecutor(16) as pool:
            assert all(all(answers) for answers in pool.map(read, range(16)))
        store.close()


def test_a_thread_does_not_find_a_pool_that_another_is_opening(
    open_any: Any, view: FeatureView, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_pool = psycopg_pool.ConnectionPool.open

    def open_slowly(self: Any, *args: Any, **options: Any) -> None:
        time.sleep(0.1)
        open_pool(self, *args, **options)

    monkeypatch.setattr(psycopg_pool.ConnectionPool, "open", open_slowly)
    store = open_any(view, pool_size=4)

    def read(number: int) -> object:
        time.sleep(0.01 * number)
        return store.read_user_features("u01")

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(read, range(12)))


def test_a_closed_store_opens_again_when_it_is_used(open_online: Any) -> None:
    store = open_online()
    for _ in range(3):
        assert sources(store) == {"redis"}
        assert store.read_user_features("nobody") is None
        store.close()


FORKS = """
import os, signal, sys, threading
from datetime import UTC, datetime
from features.contract import read_contract
from features import settings
from features.serving.store import FeatureStore

signal.alarm(60)
users = [f"u{number:02}" for number in range(1, 13)]
view = read_contract(settings.MANIFEST).feature_view("user_session_features")
url = sys.argv[1] or None
store = FeatureStore(
    view, feature_version=None, redis_url=url, namespace=sys.argv[2], clock=lambda: datetime(2013, 7, 1, 1, tzinfo=UTC)
)
expected = [row.features for row in store.read_user_features_batch(users)]
assert store.read_user_features("nobody") is None  # so that PostgreSQL is open, too

def read(times):
    for number in range(times):
        found = store.read_user_features_batch(users)
        assert [row.features for row in found] == expected
        assert {row.served_from for row in found} == {"redis" if url else "postgres"}
        one = number % 12
        assert store.read_user_features(users[one]).features == expected[one]
        assert store.read_user_features("nobody") is None

for round in range(6):
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            read(10)
            if round % 2:
                store.close()
                os._exit(0)
            sys.exit(0)  # as a worker ends that cleans up behind itself
        children.append(child)
    read(10)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
read(10)
print("read everywhere")
"""


@pytest.mark.parametrize("has_redis", [False, True], ids=["postgres", "redis"])
def test_a_process_that_forks_reads_on_and_so_do_its_children(
    open_online: Any, private_redis: Any, manifest: Any, has_redis: bool
) -> None:
    url = private_redis.url if has_redis else ""
    done = subprocess.run(
        [sys.executable, "-c", FORKS, url, NAMESPACE],
        env={**os.environ, "PGDATABASE": settings.WAREHOUSE_DATABASE, "SKEWLESS_MANIFEST": str(manifest)},
        cwd=settings.HOME,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "read everywhere\n"
    assert done.stderr == ""
