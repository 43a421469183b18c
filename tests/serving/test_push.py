"""Pushing: readers get all of a publication or nothing of it, and never an older one after a newer one."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from features import ledger as ledger_of
from features import warehouse
from features.contract import FeatureView
from features.serving import push as pushing
from features.serving.push import NotPushed, forget, push
from features.serving.redis import RedisRows
from features.serving.row import StoredRow
from features.serving.store import FeatureStore
from features.steps.publish import publish
from features.steps.roll_back import roll_back
from tests.databases import copy_of, execute, rows, use
from tests.dbt_project.oracle import FEATURES, HOUR
from tests.steps.small_warehouse import EARLIER, LATER, USERS, ledger, stored

pytest_plugins = ["tests.serving.stores"]

VALUES = dict(zip(FEATURES, (7, 0.5, 3, 2, 5), strict=True))
FRESH_MS = 3 * 3600 * 1000


@pytest.fixture(autouse=True)
def _earlier_is_live(published: str) -> None:
    pass


@pytest.fixture
def client(redis_server: str) -> Iterator[Redis]:
    with Redis.from_url(redis_server) as client:
        yield client


@pytest.fixture
def push_it(view: FeatureView, redis_server: str, namespace: str) -> Callable[..., dict[str, Any]]:
    """Pushes what is live."""
    return lambda **options: push(view, redis_server, namespace, **options)


@pytest.fixture
def online(view: FeatureView, redis_server: str, namespace: str) -> Callable[..., dict[str, StoredRow]]:
    """What Redis itself has, by user; PostgreSQL is not asked."""

    def online(*users: str) -> dict[str, StoredRow]:
        redis = RedisRows(view, redis_server, namespace, 5)
        found = redis.read(users or USERS)
        redis.close()
        return {user: row for user, row in zip(users or USERS, found.rows, strict=True) if row}

    return online


def keys(client: Redis, namespace: str) -> set[str]:
    return {key.decode() for key in client.scan_iter(match=f"{{{namespace}:*")}


def features_at(as_of: Any) -> dict[str, dict[str, Any]]:
    return {user: dict(zip(FEATURES, values, strict=True)) for user, _, _, *values in stored(as_of)}


def instants(found: dict[str, StoredRow]) -> set[Any]:
    return {row.as_of for row in found.values()}


# ---- what is pushed ----


def test_every_row_of_what_is_live_and_nothing_else(
    push_it: Any, online: Any, client: Redis, namespace: str, view: FeatureView
) -> None:
    assert push_it() == {
        "view": "user_session_features",
        "as_of": "2013-07-01T00:00:00+00:00",
        "rows": 12,
        "is_online": True,
    }
    assert {user: row.features for user, row in online().items()} == features_at(EARLIER)
    version = ledger()[0]["feature_version"]
    found = keys(client, namespace)
    assert len(found) == 13
    assert f"{{{namespace}:user_session_features}}:live" in found
    assert {key.count(version) for key in found} == {0, 1}


def test_nothing_when_nothing_is_live(
    push_it: Any, client: Redis, namespace: str, contract: Any, redis_server: str
) -> None:
    other = contract.feature_view("event_type_features")
    assert push(other, redis_server, namespace) == {
        "view": "event_type_features",
        "as_of": None,
        "rows": 0,
        "is_online": False,
    }
    assert keys(client, namespace) == set()


def test_pushing_again_changes_nothing(push_it: Any, client: Redis, namespace: str) -> None:
    push_it()
    before = {key: client.get(key) for key in keys(client, namespace)}
    left = {key: client.pttl(key) for key in before}
    assert push_it() == {"view": "user_session_features", "as_of": EARLIER.isoformat(), "rows": 0, "is_online": True}
    assert {key: client.get(key) for key in keys(client, namespace)} == before
    assert all(client.pttl(key) <= left[key] for key in before)  # no row was written again


def test_rows_outlive_their_freshness_and_do_not_vanish_together(push_it: Any, client: Redis, namespace: str) -> None:
    push_it()
    live = f"{{{namespace}:user_session_features}}:live"
    left = [client.pttl(key) for key in keys(client, namespace) - {live}]
    assert all(2 * FRESH_MS - 60_000 < each <= 2.2 * FRESH_MS for each in left)
    assert max(left) - min(left) > 0.02 * FRESH_MS
    assert client.pttl(live) == -1


def test_the_rows_of_the_publication_before_are_taken_away(
    push_it: Any, online: Any, client: Redis, namespace: str, view: FeatureView
) -> None:
    push_it()
    before = keys(client, namespace)
    publish(view, LATER)
    assert push_it()["rows"] == 12
    after = keys(client, namespace)
    assert len(after) == 13
    assert len(before & after) == 1  # live
    assert {user: row.features for user, row in online().items()} == features_at(LATER)


@pytest.mark.parametrize("size", [1, 2, 5, 12, 100])
def test_rows_are_held_a_chunk_at_a_time(push_it: Any, online: Any, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    sizes: list[int] = []
    original = pushing._Push._rows

    def counted(self: Any) -> Iterator[Any]:
        for chunk in original(self):
            sizes.append(len(chunk))
            yield chunk

    monkeypatch.setattr(pushing, "CHUNK", size)
    monkeypatch.setattr(pushing._Push, "_rows", counted)
    assert push_it()["rows"] == 12
    assert max(sizes) <= size
    assert sum(sizes) == 12
    assert len(online()) == 12


# ---- pushes that break off ----


def break_off(monkeypatch: pytest.MonkeyPatch, after: int, during: Callable[[], object] | None = None) -> None:
    """Makes the next push stop after some chunks of two rows, or something else happen then."""
    original = pushing._Push._rows
    monkeypatch.setattr(pushing, "CHUNK", 2)

    def broken(self: Any) -> Iterator[Any]:
        for number, chunk in enumerate(original(self)):
            if number == after:
                monkeypatch.setattr(pushing._Push, "_rows", original)
                if during is None:
                    raise InterruptedError("the power is gone")
                during()
            yield chunk

    monkeypatch.setattr(pushing._Push, "_rows", broken)


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_push_that_breaks_off_is_not_seen_and_does_not_stand_in_the_way(
    push_it: Any,
    online: Any,
    client: Redis,
    namespace: str,
    view: FeatureView,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    push_it()
    publish(view, LATER)
    break_off(monkeypatch, after)
    with pytest.raises(InterruptedError):
        push_it()
    assert {user: row.features for user, row in online().items()} == features_at(EARLIER)
    live = f"{{{namespace}:user_session_features}}:live"
    assert len(keys(client, namespace)) == 13 + 2 * after
    assert all(client.pttl(key) > 0 for key in keys(client, namespace) - {live})  # they go by themselves
    assert push_it()["rows"] == 12
    assert {user: row.features for user, row in online().items()} == features_at(LATER)
    assert len(keys(client, namespace)) == 13


def test_the_first_push_ever_may_break_off_too(
    push_it: Any, namespace: str, view: FeatureView, redis_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(monkeypatch, 3)
    with pytest.raises(InterruptedError):
        push_it()
    with FeatureStore(
        view, feature_version=None, redis_url=redis_server, namespace=namespace, clock=lambda: EARLIER + HOUR
    ) as store:
        assert {row and row.served_from for row in store.read_user_features_batch(USERS)} == {"postgres"}
        assert push_it()["rows"] == 12
        assert {row and row.served_from for row in store.read_user_features_batch(USERS)} == {"redis"}


def test_without_redis_it_says_what_to_check_and_no_password(view: FeatureView, namespace: str) -> None:
    with pytest.raises(NotPushed) as error:
        push(view, "redis://somebody:secret@127.0.0.1:1/0", namespace)
    assert "user_session_features could not be pushed: Redis at redis://***@127.0.0.1:1/0 does not answer" in str(
        error.value
    )
    assert "secret" not in str(error.value)


# ---- order ----


def test_an_older_publication_pushed_late_does_not_replace_a_newer_one(
    push_it: Any, online: Any, view: FeatureView, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warehouse.connect() as connection:
        earlier = ledger_of.live(connection, view)
    publish(view, LATER)
    push_it()
    with monkeypatch.context() as late:
        late.setattr(ledger_of, "live", lambda *_: earlier)
        assert push_it() == {
            "view": "user_session_features",
            "as_of": EARLIER.isoformat(),
            "rows": 0,
            "is_online": False,
        }
    assert instants(online()) == {LATER}


def test_neither_does_one_that_was_overtaken_on_its_way(
    push_it: Any, online: Any, client: Redis, namespace: str, view: FeatureView, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtake() -> None:
        publish(view, LATER)
        assert push_it()["is_online"]

    break_off(monkeypatch, 3, overtake)
    assert push_it() == {"view": "user_session_features", "as_of": EARLIER.isoformat(), "rows": 0, "is_online": False}
    assert {user: row.features for user, row in online().items()} == features_at(LATER)
    assert len(keys(client, namespace)) == 13  # what the late one had written is gone


def test_two_pushes_of_one_publication_at_a_time_are_as_good_as_one(
    push_it: Any, online: Any, client: Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a task is started again while its first attempt still runs."""
    break_off(monkeypatch, 3, push_it)
    assert push_it()["is_online"]
    assert len(online()) == 12
    assert len(keys(client, namespace)) == 13


def test_what_a_publication_replaced_on_its_way_is_taken_away_too(
    push_it: Any, online: Any, client: Redis, namespace: str, view: FeatureView, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_it()
    publish(view, LATER)
    with warehouse.connect() as connection:
        later = ledger_of.live(connection, view)
    roll_back([view], EARLIER)  # the newest publication, of which the push takes longer than that of LATER

    def push_later() -> None:
        with monkeypatch.context() as late:
            late.setattr(ledger_of, "live", lambda *_: later)
            assert push_it()["is_online"]

    break_off(monkeypatch, 3, push_later)
    assert push_it()["is_online"]
    assert instants(online()) == {EARLIER}
    assert len(keys(client, namespace)) == 13


def test_a_rollback_is_pushed_although_it_goes_back(push_it: Any, online: Any, view: FeatureView) -> None:
    publish(view, LATER)
    push_it()
    roll_back([view], EARLIER)
    assert push_it()["is_online"]
    assert {user: row.features for user, row in online().items()} == features_at(EARLIER)


def test_readers_get_one_publication_or_the_other_and_all_of_it(
    push_it: Any, view: FeatureView, redis_server: str, namespace: str
) -> None:
    push_it()
    publish(view, LATER)
    push_it()
    batches: list[set[Any]] = []
    problems: list[object] = []
    done = threading.Event()

    def read() -> None:
        try:
            # To an observer of this hour both are fresh: stale rows are asked of PostgreSQL, too.
            now: dict[str, Any] = {"clock": lambda: EARLIER + HOUR}
            with FeatureStore(view, feature_version=None, redis_url=redis_server, namespace=namespace, **now) as store:
                while not done.is_set():
                    found = store.read_user_features_batch(USERS)
                    batches.append({(row.as_of, row.served_from) if row else None for row in found})
        except Exception as error:
            problems.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in range(20):
            roll_back([view], (EARLIER, LATER)[number % 2])
            assert push_it()["is_online"]
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert problems == []
    assert {len(batch) for batch in batches} == {1}
    assert set().union(*batches) == {(EARLIER, "redis"), (LATER, "redis")}


# ---- rows that services wrote ----


def test_written_rows_that_redis_lost_come_back_with_the_next_publication(
    push_it: Any, online: Any, client: Redis, view: FeatureView, redis_server: str, namespace: str
) -> None:
    push_it()
    with FeatureStore(
        view, feature_version=None, redis_url=redis_server, namespace=namespace, clock=lambda: LATER + HOUR
    ) as store:
        store.write_user_features("new", VALUES, as_of=LATER + HOUR)
        store.write_user_features("u01", VALUES, as_of=LATER + HOUR)
        store.write_user_features("u02", VALUES, as_of=LATER)
        computed = store.read_user_features_or_compute("asked", at=LATER + HOUR)
    assert online("new")["new"].features == VALUES
    assert client.delete(*[key for key in keys(client, namespace) if ":w" in key]) == 4
    assert online("new") == {}
    publish(view, LATER)
    push_it()
    found = online("new", "u01", "u02", "asked")
    assert {user: (row.served_from, row.as_of) for user, row in found.items()} == {
        "new": ("written", LATER + HOUR),
        "u01": ("written", LATER + HOUR),
        "u02": ("redis", LATER),  # the publication knows as much
        "asked": ("computed", LATER + HOUR),
    }
    assert found["new"].features == VALUES
    assert found["asked"].features == computed.features
    assert all(client.pttl(key) > 2 * FRESH_MS - 60_000 for key in keys(client, namespace) if ":w" in key)


def test_a_redis_that_lost_everything_is_filled_again(
    push_it: Any, online: Any, redis_server: str, namespace: str
) -> None:
    push_it()
    assert forget(redis_server, namespace) == 13
    assert push_it()["rows"] == 12
    assert len(online()) == 12


# ---- warehouses ----


@pytest.fixture
def elsewhere(unpublished_database: str, monkeypatch: pytest.MonkeyPatch, view: FeatureView) -> Iterator[str]:
    """Another warehouse, used from here on: its first publication has the same number, and nobody called u12."""
    with copy_of(unpublished_database, "skewless_elsewhere") as name, monkeypatch.context() as patch:
        use(name, patch)
        execute("delete from features.user_session_features where user_id = 'u12'")
        yield name


def publish_elsewhere(publish_by_hand: Callable[..., None], view: FeatureView) -> None:
    ((version,),) = rows("select distinct feature_version from features.user_session_features")
    publish_by_hand(view, EARLIER, version)


def test_another_warehouse_is_refused_with_the_ways_out(
    push_it: Any,
    online: Any,
    request: pytest.FixtureRequest,
    publish_by_hand: Any,
    view: FeatureView,
    namespace: str,
) -> None:
    push_it()
    request.getfixturevalue("elsewhere")
    publish_elsewhere(publish_by_hand, view)
    with pytest.raises(NotPushed) as error:
        push_it()
    assert str(error.value) == (
        f"Redis holds user_session_features of another warehouse under {{{namespace}:user_session_features}}. Give "
        "this one a namespace of its own (SKEWLESS_ONLINE_NAMESPACE), or replace what is there, as after a restore: "
        "`skewless push-online --take-over`."
    )
    assert set(online()) == set(USERS)


def test_unless_it_takes_over_and_then_nothing_of_the_other_is_left(
    push_it: Any,
    online: Any,
    request: pytest.FixtureRequest,
    publish_by_hand: Any,
    view: FeatureView,
    redis_server: str,
    namespace: str,
) -> None:
    push_it()
    with FeatureStore(
        view, feature_version=None, redis_url=redis_server, namespace=namespace, clock=lambda: EARLIER + HOUR
    ) as store:
        store.write_user_features("new", VALUES, as_of=EARLIER + HOUR)
    request.getfixturevalue("elsewhere")
    publish_elsewhere(publish_by_hand, view)
    assert ledger()[0]["publication_id"] == 1  # as in the warehouse that was here before
    assert push_it(take_over=True)["rows"] == 11
    assert set(online()) == set(USERS) - {"u12"}
    assert online("new") == {}
    assert push_it() == {"view": "user_session_features", "as_of": EARLIER.isoformat(), "rows": 0, "is_online": True}


def test_a_restored_backup_has_to_take_over_what_it_does_not_know_of(
    push_it: Any, online: Any, view: FeatureView
) -> None:
    publish(view, LATER)
    push_it()
    execute("delete from serving.publications where publication_id = 2")
    execute("update serving.publications set retired_at = null")
    assert not push_it()["is_online"]
    assert instants(online()) == {LATER}
    assert push_it(take_over=True)["is_online"]
    assert instants(online()) == {EARLIER}


def test_a_number_that_was_given_again_after_a_restore_is_not_taken_for_the_publication_that_had_it(
    push_it: Any, online: Any, view: FeatureView
) -> None:
    publish(view, LATER)
    push_it()
    execute("delete from serving.publications where publication_id = 2")
    execute("update serving.publications set retired_at = null")
    execute("alter table serving.publications alter column publication_id restart with 2")
    execute("update features.user_session_features set session_count = session_count + 1000 where as_of = %s", LATER)
    publish(view, LATER, accept_skew="it is what this test is about")
    assert ledger()[-1]["publication_id"] == 2
    assert not push_it()["is_online"]
    assert push_it(take_over=True)["is_online"]
    assert all(row.features["session_count"] >= 1000 for row in online().values())


# ---- forgetting ----


def test_a_namespace_is_forgotten_and_no_other(
    view: FeatureView, redis_server: str, namespace: str, client: Redis
) -> None:
    others = [f"{namespace}:more", f"{namespace}2", "*", "[a-z]*"]
    for name in (namespace, *others):
        push(view, redis_server, name)
    assert forget(redis_server, "*") == 13
    assert forget(redis_server, "[a-z]*") == 13
    assert forget(redis_server, namespace) == 13
    assert forget(redis_server, namespace) == 0
    assert [forget(redis_server, name) for name in others] == [13, 13, 0, 0]
