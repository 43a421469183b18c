"""The store's promises, each kept by PostgreSQL alone and by Redis before it, for threads and for coroutines."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from psycopg import sql

from features import warehouse
from features.contract import Feature, FeatureView
from features.errors import SkewlessError
from features.serving.push import push
from features.serving.row import FeatureVersionMismatch, NothingPublished, StaleFeatures
from features.serving.store import FeatureStore
from features.steps.publish import publish
from features.steps.roll_back import roll_back
from tests.databases import copy_of, execute, rows, use
from tests.dbt_project.oracle import FEATURES, HOUR, MICROSECOND
from tests.steps.small_warehouse import EARLIER, LATER, USERS, ledger, stored

pytest_plugins = ["tests.serving.stores"]

NOW = EARLIER + HOUR
EXPIRES_AFTER = 3 * HOUR
OpenStore = Callable[..., Any]
GoOnline = Callable[..., None]
VALUES: dict[str, Any] = {
    "session_count": 7,
    "avg_session_duration_minutes": 0.1 + 0.2,
    "days_since_last_session": 3,
    "sessions_last_7_days": 2,
    "sessions_last_30_days": 5,
}


def stored_features(as_of: datetime) -> dict[str, dict[str, Any]]:
    """What the feature table holds at an instant, by user."""
    return {user: dict(zip(FEATURES, values, strict=True)) for user, _, _, *values in stored(as_of)}


def recomputed(user: str, as_of: datetime) -> dict[str, Any]:
    """What the as-of function gives, asked by plain SQL."""
    (row,) = rows(f"select {', '.join(FEATURES)} from features.user_session_features_as_of(array['{user}'], '{as_of}')")
    return dict(zip(FEATURES, row, strict=True))


# ---- reading ----


def test_an_entity_is_read_as_the_feature_table_holds_it(store: Any, kind: Any) -> None:
    row = store.read_user_features("u03")
    assert row.features == stored_features(EARLIER)["u03"]
    assert list(row.features) == list(FEATURES)
    assert (row.entity, row.as_of, row.age) == ("u03", EARLIER, HOUR)
    assert (row.expires_at, row.is_stale) == (EARLIER + EXPIRES_AFTER, False)
    assert row.feature_version == ledger()[0]["feature_version"]
    assert row.served_from == ("redis" if kind.has_redis else "postgres")


def test_many_are_read_in_their_order_with_none_for_the_unknown_and_each_repeat_answered(store: Any) -> None:
    wanted = ["u09", "nobody", "u01", "u09", "nobody", "u12", *reversed(USERS)]
    found = store.read_user_features_batch(wanted)
    expected = stored_features(EARLIER)
    assert [row and row.features for row in found] == [expected.get(user) for user in wanted]
    assert [row.entity for row in found if row] == [user for user in wanted if user != "nobody"]


def test_nobody_is_asked_for_and_nobody_is_found(store: Any) -> None:
    assert store.read_user_features_batch([]) == []
    assert store.read_user_features_batch_or_compute([]) == []


def test_an_entity_that_is_unknown_is_none(store: Any) -> None:
    assert store.read_user_features("nobody") is None


def test_of_many_only_what_is_missing_is_computed(store: Any, kind: Any) -> None:
    found = store.read_user_features_batch_or_compute(["u02", "new", "u01", "new"])
    snapshot = "redis" if kind.has_redis else "postgres"
    assert [row.served_from for row in found] == [snapshot, "computed", snapshot, "computed"]
    assert [row.entity for row in found] == ["u02", "new", "u01", "new"]
    assert found[1].features == found[3].features == recomputed("new", NOW)


def test_a_read_before_anything_is_published_says_what_to_run(unpublished: str, open_store: OpenStore) -> None:
    store = open_store()
    read: Callable[[], object]
    for read in (
        lambda: store.read_user_features("u01"),
        lambda: store.read_user_features_batch([]),
        lambda: store.read_user_features_or_compute("u01"),
        lambda: store.write_user_features("u01", VALUES, as_of=EARLIER),
    ):
        with pytest.raises(
            NothingPublished, match="Nothing of user_session_features is published yet: run materialize"
        ):
            read()


def test_a_key_that_is_no_key_is_refused_by_the_view_s_name(store: Any) -> None:
    for entity, said in (
        (("u01", "u02"), r"whose key is \(user_id\)"),
        (None, r"whose key is \(user_id\)"),
        ((), r"whose key is \(user_id\)"),
        ("u\0", "NUL"),
        ("\ud800", "surrogates"),
    ):
        with pytest.raises(SkewlessError, match=f"is no entity of user_session_features.*{said}"):
            store.read_user_features(entity)


# ---- computing ----


@pytest.mark.parametrize("at", [NOW - MICROSECOND, EARLIER - 40 * HOUR])
def test_an_entity_without_a_row_is_computed_by_the_definition_itself(
    published: str, open_store: OpenStore, go_online: GoOnline, at: datetime
) -> None:
    """Of u03 there are events; only its row is gone."""
    execute("delete from features.user_session_features where user_id = 'u03' and as_of = %s", EARLIER)
    go_online()
    row = open_store().read_user_features_or_compute("u03", at=at, keep=False)
    assert row.features == recomputed("u03", at)
    assert row.features["session_count"] > 0
    assert (row.as_of, row.age, row.expires_at) == (at, timedelta(0), at + EXPIRES_AFTER)
    assert (row.served_from, row.is_stale) == ("computed", False)


def test_a_user_who_is_newer_than_the_snapshot_is_computed_with_what_is_known_by_now(
    published: str, open_store: OpenStore, go_online: GoOnline
) -> None:
    go_online()
    execute(
        "insert into staging.stg_session_events (event_id, user_id, event_type, started_at, duration_seconds,"
        " ingested_at, loaded_at) values ('n1', 'new', 'kind 1', %s, 600, %s, now())",
        EARLIER + HOUR / 4,
        EARLIER + HOUR / 2,
    )
    row = open_store().read_user_features_or_compute("new", at=NOW)
    assert row.features == recomputed("new", NOW)
    assert row.features["session_count"] == 1
    assert row.features["avg_session_duration_minutes"] == 10.0


def test_what_was_computed_is_kept_with_its_own_instant(store: Any) -> None:
    computed = store.read_user_features_or_compute("new", at=NOW)
    found = store.read_user_features("new", at=NOW + HOUR)
    assert (found.features, found.as_of, found.served_from) == (computed.features, NOW, "computed")
    assert (found.age, found.expires_at) == (HOUR, NOW + EXPIRES_AFTER)


def test_what_was_computed_is_kept_in_redis_itself(store: Any, kind: Any, fallbacks: Callable[[str], float]) -> None:
    store.read_user_features_or_compute("new", at=NOW)
    before = fallbacks("unknown or stale")
    assert store.read_user_features("new", at=NOW) is not None
    assert fallbacks("unknown or stale") == before


def test_unless_nobody_wants_it_kept(store: Any) -> None:
    assert store.read_user_features_or_compute("new", at=NOW, keep=False).served_from == "computed"
    assert store.read_user_features("new", at=NOW) is None
    assert rows("select count(*) from serving.written_features") == [(0,)]


def test_stale_rows_are_computed_anew(store: Any, open_store: OpenStore) -> None:
    at = EARLIER + EXPIRES_AFTER
    store = open_store(clock=lambda: at)
    row = store.read_user_features_or_compute("u05", at=at)
    assert (row.features, row.as_of, row.is_stale) == (recomputed("u05", at), at, False)
    assert store.read_user_features("u05", at=at).as_of == at


def test_nothing_is_computed_for_an_instant_that_has_not_come(store: Any) -> None:
    with pytest.raises(SkewlessError, match=r"at 2013-07-01T02:00:00\+00:00 has not come yet"):
        store.read_user_features_or_compute("new", at=NOW + HOUR)
    assert rows("select count(*) from serving.written_features") == [(0,)]


def test_a_number_for_a_key_that_is_text_is_that_text(store: Any) -> None:
    store.write_user_features("7", VALUES, as_of=NOW)
    assert store.read_user_features(7).features == VALUES
    assert store.read_user_features(np.int64(7)).features == VALUES
    assert store.read_user_features_or_compute(8, at=NOW).features == recomputed("8", NOW)


# ---- writing ----


def test_what_is_written_is_read(store: Any) -> None:
    assert store.write_user_features("new", VALUES, as_of=NOW) is True
    row = store.read_user_features("new", at=NOW + HOUR)
    assert (row.features, row.as_of, row.served_from) == (VALUES, NOW, "written")
    assert list(row.features) == list(FEATURES)
    assert (row.age, row.expires_at) == (HOUR, NOW + EXPIRES_AFTER)


def test_a_written_row_goes_before_a_snapshot_that_knows_less(store: Any) -> None:
    store.write_user_features("u01", VALUES, as_of=EARLIER + MICROSECOND)
    assert store.read_user_features("u01").features == VALUES


def test_a_written_row_gives_way_to_a_snapshot_that_knows_as_much(store: Any) -> None:
    for as_of in (EARLIER - 1000 * HOUR, EARLIER - MICROSECOND, EARLIER):
        assert store.write_user_features("u01", VALUES, as_of=as_of)
        assert store.read_user_features("u01").features == stored_features(EARLIER)["u01"]


def test_an_older_row_never_takes_the_place_of_a_newer_one(store: Any) -> None:
    older = VALUES | {"session_count": 1}
    assert store.write_user_features("new", VALUES, as_of=NOW)
    assert store.write_user_features("new", older, as_of=NOW - MICROSECOND) is False
    assert store.read_user_features("new").features == VALUES
    assert store.write_user_features("new", older, as_of=NOW) is True
    assert store.read_user_features("new").features == older


def test_neither_does_a_row_from_before_1970(store: Any) -> None:
    long_ago = datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert store.write_user_features("new", VALUES, as_of=long_ago) is True
    assert store.write_user_features("new", VALUES, as_of=long_ago - 1000 * HOUR) is False
    assert store.read_user_features_batch(["new"], at=long_ago)[0].as_of == long_ago


def test_an_instant_may_be_written_in_any_zone(store: Any) -> None:
    there = timezone(timedelta(hours=5, minutes=45))
    store.write_user_features("new", VALUES, as_of=NOW.astimezone(there))
    assert store.read_user_features("new", at=NOW.astimezone(there)).as_of == NOW


def test_instants_without_a_zone_are_refused(store: Any) -> None:
    naive = NOW.replace(tzinfo=None)
    use_it: Callable[[], object]
    for name, use_it in (
        ("as_of", lambda: store.write_user_features("new", VALUES, as_of=naive)),
        ("at", lambda: store.read_user_features("u01", at=naive)),
        ("at", lambda: store.read_user_features_or_compute("new", at=naive)),
    ):
        with pytest.raises(SkewlessError, match=rf"^{name} 2013-07-01T01:00:00 has no time zone"):
            use_it()


def test_an_instant_that_has_not_come_is_refused_but_for_what_clocks_differ(store: Any) -> None:
    ahead = timedelta(minutes=1)
    with pytest.raises(SkewlessError, match="has not come yet; such a row would count as fresh too long"):
        store.write_user_features("new", VALUES, as_of=NOW + ahead + MICROSECOND)
    assert store.read_user_features("new") is None
    assert store.write_user_features("new", VALUES, as_of=NOW + ahead)


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {name: 1 for name in FEATURES if name not in {"session_count", "sessions_last_7_days"}},
        "A row of user_session_features lacks session_count, sessions_last_7_days.",
    ),
    (
        VALUES | {"sesion_count": 1},
        "A row of user_session_features has sesion_count, which dbt does not declare.",
    ),
    (
        VALUES | {"session_count": "7"},
        "user_session_features.session_count is bigint, and '7' is not.",
    ),
    (
        VALUES | {"session_count": 7.0},
        "user_session_features.session_count is bigint, and 7.0 is not.",
    ),
    (
        VALUES | {"session_count": np.nan},
        "user_session_features.session_count is bigint, and nan is not.",
    ),
    (
        VALUES | {"avg_session_duration_minutes": True},
        "user_session_features.avg_session_duration_minutes is double precision, and True is not.",
    ),
    (
        VALUES | {"session_count": 2**63},
        f"user_session_features.session_count is bigint, and {2**63} is not.",
    ),
    (
        VALUES | {"session_count": np.array([7])},
        "user_session_features.session_count is bigint, and array([7]) is not.",
    ),
]


def test_a_row_that_the_contract_does_not_allow_is_refused_by_name(store: Any) -> None:
    for features, said in REFUSED:
        with pytest.raises(SkewlessError, match=f"^{re.escape(said)}$"):
            store.write_user_features("new", features, as_of=NOW)
    assert store.read_user_features("new") is None


def test_numpy_s_scalars_are_numbers(store: Any) -> None:
    store.write_user_features(
        "new",
        {name: np.int32(value) for name, value in VALUES.items()}
        | {"avg_session_duration_minutes": np.float64(0.1) + np.float64(0.2)},
        as_of=NOW,
    )
    row = store.read_user_features("new")
    assert row.features == VALUES
    assert {name: type(value) for name, value in row.features.items()} == {
        name: type(value) for name, value in VALUES.items()
    }


def test_nothing_known_is_a_value_too(store: Any) -> None:
    nothing = dict.fromkeys(FEATURES)
    store.write_user_features("new", nothing, as_of=NOW)
    assert store.read_user_features("new").features == nothing


# ---- staleness ----


def test_rows_are_fresh_until_just_before_they_expire(store: Any) -> None:
    row = store.read_user_features("u01", at=EARLIER + EXPIRES_AFTER - MICROSECOND)
    assert (row.is_stale, row.age) == (False, EXPIRES_AFTER - MICROSECOND)


def test_stale_rows_are_refused_with_what_to_look_at(store: Any) -> None:
    with pytest.raises(StaleFeatures) as error:
        store.read_user_features("u01", at=EARLIER + EXPIRES_AFTER)
    assert str(error.value) == (
        "user_session_features of 'u01' is stale: 3.0 h old, and it expires after 3 hours. "
        "See whether materialize_features runs, or read with on_stale='flag'."
    )
    with pytest.raises(StaleFeatures, match=r"of 'u01' and 11 others are stale: 4\.5 h old"):
        store.read_user_features_batch(USERS, at=EARLIER + 4.5 * HOUR)


def test_or_flagged(store: Any, open_store: OpenStore) -> None:
    lenient = open_store(on_stale="flag")
    at = EARLIER + EXPIRES_AFTER
    row = lenient.read_user_features("u01", at=at)
    assert row.features == stored_features(EARLIER)["u01"]
    assert (row.is_stale, row.age, row.expires_at) == (True, EXPIRES_AFTER, at)


def test_without_an_instant_the_clock_says_what_is_stale(store: Any, open_store: OpenStore) -> None:
    late = open_store(clock=lambda: EARLIER + EXPIRES_AFTER)
    with pytest.raises(StaleFeatures):
        late.read_user_features("u01")
    assert open_store().read_user_features("u01").age == HOUR


def test_a_written_row_expires_by_its_own_instant(store: Any) -> None:
    store.write_user_features("new", VALUES, as_of=NOW)
    assert not store.read_user_features("new", at=NOW + EXPIRES_AFTER - MICROSECOND).is_stale
    with pytest.raises(StaleFeatures):
        store.read_user_features("new", at=NOW + EXPIRES_AFTER)


def test_options_that_do_not_exist_are_refused(view: FeatureView) -> None:
    with pytest.raises(SkewlessError, match="on_stale is 'refuse' or 'flag', not 'ignore'"):
        FeatureStore(view, feature_version=None, on_stale="ignore")  # type: ignore[arg-type]
    with pytest.raises(SkewlessError, match="on_redis_down is 'fall back' or 'refuse', not 'wait'"):
        FeatureStore(view, feature_version=None, on_redis_down="wait")  # type: ignore[arg-type]


# ---- publications and definitions ----


def test_readers_follow_the_publication(
    published: str, open_store: OpenStore, view: FeatureView, go_online: GoOnline
) -> None:
    go_online()
    store = open_store()
    assert store.read_user_features("u01").as_of == EARLIER
    publish(view, LATER)
    go_online()
    found = store.read_user_features_batch(USERS, at=LATER)
    assert {row.entity: row.features for row in found} == stored_features(LATER)
    assert {(row.as_of, row.age) for row in found} == {(LATER, timedelta(0))}


def test_a_written_row_gives_way_when_a_newer_publication_goes_live(
    published: str, open_store: OpenStore, view: FeatureView, go_online: GoOnline
) -> None:
    go_online()
    store = open_store()
    store.write_user_features("u01", VALUES, as_of=NOW)
    publish(view, LATER)
    go_online()
    assert store.read_user_features("u01", at=LATER).features == stored_features(LATER)["u01"]


def test_after_a_rollback_the_earlier_rows_are_served_and_nothing_that_was_written_before_it(
    published: str, open_store: OpenStore, view: FeatureView, go_online: GoOnline
) -> None:
    go_online()
    store = open_store()
    publish(view, LATER)
    go_online()
    later = open_store(clock=lambda: LATER + HOUR)
    later.write_user_features("u01", VALUES, as_of=LATER + HOUR)
    later.write_user_features("new", VALUES, as_of=LATER + HOUR)
    later.write_user_features("old", VALUES, as_of=EARLIER)
    assert later.read_user_features("new").features == VALUES
    roll_back([view], EARLIER)
    go_online()
    known, new, old = store.read_user_features_batch(["u01", "new", "old"])
    assert (known.features, known.as_of) == (stored_features(EARLIER)["u01"], EARLIER)
    assert new is None
    assert old.features == VALUES  # what was known by EARLIER is no news to it
    assert store.write_user_features("new", VALUES, as_of=NOW)
    assert store.read_user_features("new").features == VALUES


def test_a_rollback_of_one_view_forgets_nothing_of_another(published: str, view: FeatureView) -> None:
    execute(
        "insert into serving.written_features (feature_view, feature_version, entity_id, as_of, features, was_computed)"
        " values ('another', 'v1', 'new', %s, '{}', false)",
        LATER,
    )
    publish(view, LATER)
    roll_back([view], EARLIER)
    assert rows("select feature_view from serving.written_features") == [("another",)]


def test_a_reader_gets_the_definition_that_it_was_made_for_or_nothing(
    redefined: str, open_store: OpenStore, view: FeatureView, go_online: GoOnline
) -> None:
    go_online()
    old = open_store(feature_version=ledger()[0]["feature_version"], clock=lambda: LATER)
    indifferent = open_store(clock=lambda: LATER)
    assert old.read_user_features("u01", at=NOW).as_of == EARLIER
    publish(view, LATER)
    go_online()
    old_version, new_version = (row["feature_version"] for row in ledger())
    assert old_version != new_version
    use_it: Callable[[], object]
    for use_it in (
        lambda: old.read_user_features("u01", at=LATER),
        lambda: old.read_user_features_batch([], at=LATER),
        lambda: old.read_user_features_or_compute("new", at=LATER),
        lambda: old.write_user_features("new", VALUES, as_of=LATER),
    ):
        with pytest.raises(FeatureVersionMismatch, match=f"user_session_features is live by definition {new_version}"):
            use_it()
    new = open_store(feature_version=new_version, clock=lambda: LATER)
    assert new.read_user_features("u01", at=LATER).as_of == LATER
    assert indifferent.read_user_features("u01", at=LATER).feature_version == new_version


def test_a_reader_of_the_new_definition_does_not_wait_for_redis(
    redefined: str,
    open_store: OpenStore,
    view: FeatureView,
    go_online: GoOnline,
    kind: Any,
    fallbacks: Callable[[str], float],
) -> None:
    go_online()
    publish(view, LATER)
    new_version = ledger()[-1]["feature_version"]
    new = open_store(feature_version=new_version, clock=lambda: LATER)
    found = new.read_user_features_batch(USERS)
    assert {(row.as_of, row.feature_version, row.served_from) for row in found} == {(LATER, new_version, "postgres")}
    assert fallbacks("another definition") == (1 if kind.has_redis else 0)
    # Who takes any definition gets one of them, also where Redis has only a part of the answer.
    either = open_store(feature_version=None, clock=lambda: LATER, on_stale="flag")
    versions = {row.feature_version for row in either.read_user_features_batch([*USERS, "nobody"]) if row}
    assert versions == {new_version}
    # What it writes meanwhile is of the new definition, and Redis still has the old one.
    new.write_user_features("new", VALUES, as_of=LATER)
    assert new.read_user_features("new").features == VALUES
    if kind.has_redis:
        old = open_store(feature_version=ledger()[0]["feature_version"])
        assert old.read_user_features("u01", at=NOW).as_of == EARLIER


def test_rows_written_by_one_definition_are_not_served_by_another(
    redefined: str, open_store: OpenStore, view: FeatureView, go_online: GoOnline
) -> None:
    go_online()
    open_store(clock=lambda: LATER + HOUR).write_user_features("new", VALUES, as_of=LATER + HOUR)
    publish(view, LATER)
    go_online()
    assert open_store(clock=lambda: LATER + HOUR).read_user_features("new") is None


def test_nothing_is_computed_by_a_definition_that_is_not_live_yet(
    redefined: str, open_store: OpenStore, go_online: GoOnline
) -> None:
    go_online()
    with pytest.raises(FeatureVersionMismatch):
        open_store().read_user_features_or_compute("new")


# ---- namespaces ----


def test_two_namespaces_do_not_see_each_other(
    published: str, unpublished_database: str, redis_server: str, namespace: str, open_any: OpenStore, view: FeatureView
) -> None:
    push(view, redis_server, namespace)
    here = open_any(view, redis_url=redis_server, namespace=namespace, on_redis_down="refuse")
    with copy_of(unpublished_database, "skewless_elsewhere") as name, pytest.MonkeyPatch.context() as patch:
        use(name, patch)
        publish(view, LATER)
        push(view, redis_server, f"{namespace}:elsewhere")
        there = open_any(view, redis_url=redis_server, namespace=f"{namespace}:elsewhere", clock=lambda: LATER)
        there.write_user_features("new", VALUES, as_of=LATER)
        assert there.read_user_features("u01").as_of == LATER
        there.close()
    assert {row.as_of for row in here.read_user_features_batch(USERS)} == {EARLIER}
    assert here.read_user_features("new") is None


# ---- keys ----

ODD = [
    "{a}", "}:{", "a:b", ":", "::live", " ", "", " a ", "naïve", "日本", "😀", "%s", "%", "%%", "%(id)s", "'", '"',
    "\\", "a\nb", "\r\n", "\t", "*", "?", "[a]", "null", "None", "NULL", "0", "-1", '["a", "b"]', "w", "A", "a",
    "e\u0301", "é", "x" * 2000,
]  # fmt: skip


def test_any_text_is_a_key(published: str, open_store: OpenStore, view: FeatureView, go_online: GoOnline) -> None:
    with warehouse.connect() as connection:
        for number, user in enumerate(ODD):
            connection.execute(
                "insert into features.user_session_features (user_id, as_of, feature_version, session_count)"
                " select %s, as_of, feature_version, %s from serving.publications",
                [user, number],
            )
    go_online()
    store = open_store()
    found = store.read_user_features_batch(ODD)
    assert [row.features["session_count"] for row in found] == list(range(len(ODD)))
    for number, user in enumerate(ODD):
        store.write_user_features(user, VALUES | {"session_count": -number}, as_of=NOW)
    found = store.read_user_features_batch(ODD)
    assert [row.features["session_count"] for row in found] == [-number for number in range(len(ODD))]


def test_any_text_is_computed_for(store: Any) -> None:
    found = store.read_user_features_batch_or_compute(ODD, at=NOW)
    assert {row.served_from for row in found} == {"computed"}
    again = store.read_user_features_batch(ODD, at=NOW)
    assert [(row.entity, row.features) for row in again] == [(row.entity, row.features) for row in found]


PAIRS = [("a", 1), ("a", 11), ("a,1", 1), ("a", -1), ('a", 1', 1), ("", 0), ("{x}:y", 2**63 - 1), ("日本 '%s'\n", 5)]


@pytest.fixture
def pairs(empty_warehouse: str, view: FeatureView, publish_by_hand: Callable[..., None]) -> FeatureView:
    """A view with two key columns, published at EARLIER: n is the pair's place in PAIRS."""
    execute(
        "create table features.pairs (b bigint, as_of timestamptz, a text, n bigint, feature_version text,"
        " primary key (as_of, a, b, feature_version))"
    )
    execute(
        "create function features.pairs_as_of(a_of text[], b_of bigint[], at timestamptz)"
        " returns table (a text, b bigint, as_of timestamptz, n bigint, feature_version text) language sql as"
        " $$ select k.a, k.b, at, 1000 + k.b % 7, 'v1' from rows from (unnest(a_of), unnest(b_of)) as k (a, b) $$"
    )
    with warehouse.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(
            "insert into features.pairs (a, b, as_of, n, feature_version) values (%s, %s, %s, %s, 'v1')",
            [(*pair, EARLIER, number) for number, pair in enumerate(PAIRS)],
        )
    feature = Feature(name="n", description="A number.", data_type="bigint")
    made = view.model_copy(
        update={"name": "pairs", "entity": ("a", "b"), "entity_types": ("text", "bigint"), "features": (feature,)}
    )
    publish_by_hand(made, EARLIER)
    return made


def test_keys_of_two_columns(pairs: FeatureView, open_store: OpenStore, go_online: GoOnline, kind: Any) -> None:
    go_online(pairs)
    store = open_store(pairs)
    wanted = [*PAIRS, ("a", 2), list(PAIRS[0])]
    found = store.read_user_features_batch(wanted)
    assert [row and row.features["n"] for row in found] == [*range(len(PAIRS)), None, 0]
    assert {row.served_from for row in found if row} == {"redis" if kind.has_redis else "postgres"}
    assert store.write_user_features(("a", 2), {"n": 7}, as_of=NOW)
    assert store.write_user_features(("a", np.int64(11)), {"n": 8}, as_of=NOW)
    found = store.read_user_features_batch([("a", 2), ("a", 11), ("a", 1)])
    assert [(row.features["n"], row.served_from) for row in found[:2]] == [(7, "written"), (8, "written")]
    assert found[2].features["n"] == 0
    computed = store.read_user_features_batch_or_compute([("a", 3), ("b", 4), ("a", 3)])
    assert [row.features["n"] for row in computed] == [1003, 1004, 1003]
    assert [row.served_from for row in store.read_user_features_batch([("a", 3), ("b", 4)])] == ["computed"] * 2


def test_keys_of_two_columns_are_refused_when_they_are_not(
    pairs: FeatureView, open_store: OpenStore, go_online: GoOnline
) -> None:
    go_online(pairs)
    store = open_store(pairs)
    for entity in ("a", ("a",), ("a", None), ("a", 1, 2)):
        with pytest.raises(SkewlessError, match=r"is no entity of pairs, whose key is \(a, b\)"):
            store.read_user_features(entity)
    with pytest.raises(SkewlessError, match=r"value for pairs, whose key is \(a text, b bigint\).*\"one\""):
        store.read_user_features(("a", "one"))


# ---- everybody ----


def test_redis_postgres_and_a_recomputation_agree_on_every_entity_of_the_sample(
    sample_database: str,
    view: FeatureView,
    redis_server: str,
    namespace: str,
    open_any: OpenStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with copy_of(sample_database, "skewless_store_sample") as name:
        use(name, monkeypatch)
        publish(view, LATER)
        assert push(view, redis_server, namespace)["rows"] == ledger()[-1]["row_count"]
        everybody = [
            user for (user,) in rows(f"select user_id from features.user_session_features_entities('{LATER}')")
        ]
        assert len(everybody) > 3_000
        columns = sql.SQL(", ").join(map(sql.Identifier, ("user_id", *FEATURES)))
        with warehouse.connect() as connection:
            again = connection.execute(
                sql.SQL("select {} from features.user_session_features_as_of(%s, %s)").format(columns),
                [everybody, LATER],
            ).fetchall()
        expected = {row.pop("user_id"): row for row in again}
        for url in (redis_server, None):
            for is_async in (False, True):
                store = open_any(
                    view, redis_url=url, namespace=namespace, is_async=is_async, clock=lambda: LATER + HOUR
                )
                found = store.read_user_features_batch(everybody)
                assert {row.served_from for row in found} == {"redis" if url else "postgres"}
                assert [row.features for row in found] == [expected[user] for user in everybody]
                store.close()
