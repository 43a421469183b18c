"""The warehouse functions that dbt installs: features of anybody at any instant, who was known, and why."""

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import psycopg
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings

from features import warehouse
from tests.databases import AS_OF, copy_of, drop_database
from tests.dbt_project.event_histories import EDGES, KEYS, T, histories
from tests.dbt_project.oracle import (
    DAY,
    EVENT_TYPES,
    HOUR,
    MICROSECOND,
    USER_SESSIONS,
    VIEWS,
    Event,
    View,
    differences,
    features_at,
    insert,
    known_entities,
    read,
    sample_events,
    valid,
    write,
)
from tests.dbt_project.running import dbt

INSTANTS = [
    dt.datetime(2013, 1, 1, tzinfo=dt.UTC),  # before almost everything
    dt.datetime(2013, 3, 10, 7, tzinfo=dt.UTC),  # New York's clocks go forward
    dt.datetime(2013, 7, 1, 13, 37, 0, 1, tzinfo=dt.UTC),  # any instant, not only the hour
    dt.datetime(2013, 11, 3, 6, tzinfo=dt.UTC),  # and back
    dt.datetime(2014, 2, 1, tzinfo=dt.UTC),  # after everything
]


def as_of_function(view: View, where: str = "%s, %s") -> str:
    return f"select {view.entity}, {', '.join(view.columns)} from features.{view.name}_as_of({where})"


@pytest.mark.parametrize("as_of", INSTANTS, ids=lambda as_of: f"{as_of:%m-%d %H:%M}")
@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_every_cell_of_the_sample_at_any_instant(sample_warehouse: str, view: View, as_of: dt.datetime) -> None:
    events = sample_events(sample_warehouse)
    everybody = sorted(known_entities(events, INSTANTS[-1], view.entity))
    with warehouse.connect(sample_warehouse) as connection:
        rows = connection.execute(as_of_function(view), [everybody, as_of]).fetchall()
        entities = connection.execute(f"select * from features.{view.name}_entities(%s)", [as_of]).fetchall()
    expected = features_at(events, as_of, everybody, view)
    assert not differences(((row.pop(view.entity), tuple(row.values())) for row in rows), expected.items())
    assert {row[view.entity] for row in entities} == known_entities(events, as_of, view.entity)
    assert len(entities) == len({row[view.entity] for row in entities})


def test_unknown_entities_have_the_empty_values(sample_warehouse: str) -> None:
    query = "select * from features.user_session_features_as_of(array['N14228', 'nobody'], '2013-07-01+00')"
    known, nobody = read(sample_warehouse, query)
    assert known[0:3] == ("N14228", dt.datetime(2013, 7, 1, tzinfo=dt.UTC), 35)
    assert nobody[0:7] == ("nobody", dt.datetime(2013, 7, 1, tzinfo=dt.UTC), 0, 0.0, 999, 0, 0)
    assert known[7] == nobody[7], "both say which definition computed them"


def test_nobody_asked_for_is_nobody(sample_warehouse: str) -> None:
    assert read(sample_warehouse, "select * from features.user_session_features_as_of(array[]::text[], now())") == []
    assert read(sample_warehouse, "select * from features.user_session_features_as_of(null, now())") == []


def test_what_the_function_gives_is_what_is_stored(sample_warehouse: str) -> None:
    differing = """
        select user_id from (
            (table features.user_session_features except all {again})
            union all
            ({again} except all table features.user_session_features)
        ) as differing
    """
    again = """
        select again.* from (
            select as_of, array_agg(user_id) as user_ids from features.user_session_features group by as_of
        ) as snapshot, features.user_session_features_as_of(snapshot.user_ids, snapshot.as_of) as again
    """
    assert read(sample_warehouse, differing.format(again=again)) == []


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu", "Pacific/Apia"])
def test_the_callers_time_zone_does_not_matter(sample_warehouse: str, zone: str) -> None:
    """A week that holds a change of clocks has 168 hours all the same."""
    query = "select * from features.user_session_features_as_of(%s, '2013-03-14 12:00+00')"
    users = sorted(known_entities(sample_events(sample_warehouse), INSTANTS[1]))
    with warehouse.connect(sample_warehouse) as connection:
        expected = connection.execute(query, [users]).fetchall()
        connection.execute(f"set timezone to '{zone}'")
        assert connection.execute(query, [users]).fetchall() == expected


@pytest.fixture(scope="module")
def explained(sample_database: str) -> Iterator[str]:
    """A warehouse in which one user's events meet every fate."""
    name = "skewless_explained"
    with copy_of(sample_database, name) as database, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGDATABASE", database)
        write(database, "truncate raw.session_events")
        write(database, "truncate staging.stg_session_events")
        start = T - DAY
        arrived = start + HOUR
        insert(
            database,
            [
                Event("counts", "u", start, 60, arrived),
                Event("long ago", "u", T - 90 * DAY, 60, T - 89 * DAY),
                Event("not yet", "u", T + MICROSECOND, 0, T + HOUR),
                Event("unheard", "u", start, 60, T + MICROSECOND),
                Event("corrected", "u", start, 60, arrived),
                Event("corrected", "u", start, 61, T),
                Event("withdrawn", "u", start, 60, arrived),
                Event("withdrawn", ingested_at=T, is_deleted=True),
                Event("moved away", "u", start, 60, arrived),
                Event("moved away", "v", start, 60, T),
                Event("somebody else's", "w", start, 60, arrived),
            ],
        )
        dbt(["run", "--select", "stg_session_events"], database)
        yield database


def test_each_event_says_why_it_counts_or_not(explained: str) -> None:
    query = "select event_id, duration_seconds, counted, reason from features.explain_user_session_features('u', %s)"
    with warehouse.connect(explained) as connection:
        rows = [tuple(row.values()) for row in connection.execute(query, [T])]
    superseded = "superseded by a later version, or withdrawn, by as_of"
    assert Counter(rows) == Counter([
        ("counts", 60, True, None),
        ("long ago", 60, False, "outside the lookback of 90 days"),
        ("not yet", 0, False, "had not happened by as_of; too late: arrived after as_of"),
        ("unheard", 60, False, "too late: arrived after as_of"),
        ("corrected", 60, False, superseded),
        ("corrected", 61, True, None),
        ("withdrawn", 60, False, superseded),
        ("moved away", 60, False, superseded),
    ])


def test_an_explanation_counts_what_the_features_count(sample_warehouse: str) -> None:
    query = """
        select users.user_id, features.session_count, counted.n
        from (select distinct user_id from features.user_session_features limit 300) as users
        cross join lateral features.user_session_features_as_of(array[users.user_id], '2013-06-01+00') as features
        cross join lateral (
            select count(*) as n from features.explain_user_session_features(users.user_id, '2013-06-01+00')
            where counted
        ) as counted
    """
    rows = read(sample_warehouse, query)
    assert len(rows) == 300
    assert [row for row in rows if row[1] != row[2]] == []
    assert any(count for _, count, _ in rows)


@pytest.fixture(scope="module")
def world(server: None, sample_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The installed functions over a staging that is computed anew from whatever raw holds: the model's own SQL, as a
    view, so that a history can be tried without running dbt."""
    name = "skewless_world"
    with copy_of(sample_database, name) as database:
        write(database, "truncate raw.session_events")
        write(database, "drop table staging.stg_session_events")
        project = tmp_path_factory.mktemp("world")
        dbt(
            ["compile", "--select", "stg_session_events", "--target-path", str(project), "--no-partial-parse"],
            database,
            as_of=AS_OF,
        )
        (compiled,) = project.rglob("compiled/**/stg_session_events.sql")
        write(database, f"create view staging.stg_session_events as {compiled.read_text()}")
        write(database, "alter view staging.stg_session_events owner to transformer")
        yield database
    drop_database(name)


@hypothesis_settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=histories())
@example(history=[])
def test_any_history_at_any_instant(world: str, history: list[Event]) -> None:
    """Every view, at every edge, against the replay of what was known; nothing is kept."""
    instants = [edge + off * MICROSECOND for edge in EDGES for off in (-1, 0, 1)] + [T + 50 * DAY]
    with warehouse.connect(world) as connection:
        _deliver(connection, history)
        events = valid(history)
        for view in VIEWS:
            for as_of in instants:
                rows = connection.execute(as_of_function(view), [KEYS, as_of]).fetchall()
                found = {row.pop(view.entity): tuple(row.values()) for row in rows}
                assert found == features_at(events, as_of, KEYS, view), (view.name, as_of)
                known = connection.execute(f"select * from features.{view.name}_entities(%s)", [as_of]).fetchall()
                assert {row[view.entity] for row in known} == known_entities(events, as_of, view.entity)
        connection.rollback()


def _deliver(connection: warehouse.Connection, history: list[Event]) -> None:
    names = ", ".join(Event._fields)
    values = ", ".join(["%s"] * len(Event._fields))
    with connection.cursor() as cursor:
        cursor.executemany(f"insert into raw.session_events ({names}) values ({values})", history)


def test_ties_and_order_of_arrival_do_not_matter(world: str) -> None:
    """Rows at one instant, in any physical order and through any plan, give the same bits."""
    ties = [Event(f"e{n}", "u", T - DAY, 7 * n, T - DAY + n * HOUR, event_type=f"t{n % 3}") for n in range(40)]
    found = set()
    for history in (ties, list(reversed(ties)), ties[20:] + ties[:20]):
        for setting in ("enable_indexscan", "enable_hashagg", "enable_sort", "enable_nestloop"):
            with warehouse.connect(world) as connection:
                connection.execute(f"set local {setting} = off")
                _deliver(connection, [event._replace(loaded_at=T) for event in history])
                for view in VIEWS:
                    rows = connection.execute(as_of_function(view), [["u", "t1"], T]).fetchall()
                    found.add((view.name, repr(rows)))
                connection.rollback()
    assert len(found) == len(VIEWS)


def test_windows_are_as_long_as_their_names_say(world: str) -> None:
    """Not rounded to hours or days: one microsecond decides."""
    for days, column in ((7, "sessions_last_7_days"), (30, "sessions_last_30_days"), (90, "session_count")):
        for offset, expected in ((0, 0), (1, 1)):
            with warehouse.connect(world) as connection:
                started_at = T - days * DAY + offset * MICROSECOND
                _deliver(connection, [Event("e", "u", started_at, 0, started_at, loaded_at=T)])
                query = f"select {column} as n from features.user_session_features_as_of(array['u'], %s)"
                assert connection.execute(query, [T]).fetchone() == {"n": expected}, (days, offset)
                connection.rollback()


def test_a_function_computes_in_any_schema_search_path(sample_warehouse: str) -> None:
    with warehouse.connect(sample_warehouse) as connection:
        connection.execute("set search_path to pg_catalog")
        query = as_of_function(USER_SESSIONS, "array['N14228'], '2013-07-01+00'")
        assert connection.execute(query).fetchone() is not None
        query = as_of_function(EVENT_TYPES, "array['JFK-LAX'], '2013-07-01+00'")
        assert connection.execute(query).fetchone() is not None


def test_instants_are_never_guessed(sample_warehouse: str) -> None:
    with warehouse.connect(sample_warehouse) as connection, pytest.raises(psycopg.errors.DatetimeFieldOverflow):
        connection.execute(as_of_function(USER_SESSIONS, "array['N14228'], '2013-31-01+00'"))


def test_features_only_grow_older_between_events(sample_warehouse: str) -> None:
    """What was known at one instant is known at the next: nothing that counted is forgotten within the lookback."""
    query = "select session_count from features.user_session_features_as_of(array['N14228'], %s)"
    with warehouse.connect(sample_warehouse) as connection:
        start = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
        counts = [connection.execute(query, [start + day * DAY]).fetchone() for day in range(60)]
    assert all(before["session_count"] <= after["session_count"] for before, after in pairwise(counts))  # type: ignore[index]
