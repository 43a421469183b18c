"""Features are what an independent computation over the known events gives, to the last bit, and then never change."""

import datetime as dt
from typing import Any

import pytest

from tests.databases import AS_OF, copy_of
from tests.dbt_project.oracle import (
    DAY,
    EVENT_TYPES,
    FEATURES,
    HOUR,
    MICROSECOND,
    USER_VARIETY,
    Event,
    View,
    differences,
    expected_feature_rows,
    feature_rows,
    features_at,
    insert,
    known_entities,
    raw_events,
    read,
    sample_events,
    valid,
    write,
)
from tests.dbt_project.running import dbt

SAMPLE_AS_OF = dt.datetime.fromisoformat(AS_OF).replace(tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
# Daylight saving began on 10 March in New York, between the starts of the longer windows and their end.
T = dt.datetime(2013, 4, 5, 10, tzinfo=dt.UTC)
BUILD_FEATURES = ["run", "--select", "+user_session_features"]


def session(user: str, started_at: dt.datetime, *, seconds: int = 600, late: dt.timedelta = MINUTE) -> Event:
    """A session whose record arrives `late` after its end, named after its user and start."""
    arrived_at = started_at + dt.timedelta(seconds=seconds) + late
    return Event(f"{user} {started_at.isoformat()}", user, started_at, seconds, arrived_at)


def arriving(event: Event, at: dt.datetime, **changes: Any) -> Event:
    """The event, or a correction of it, as arriving at `at`."""
    return event._replace(ingested_at=at, **changes)


def withdrawn(event: Event, at: dt.datetime) -> Event:
    """The tombstone of an event."""
    return Event(event.event_id, ingested_at=at, is_deleted=True)


def crafted_events() -> list[Event]:
    """Events whose instants lie exactly on the edges of what a feature counts, and corrections of all kinds."""
    now = session("now", T, seconds=0, late=dt.timedelta(0))
    edges = [session(f"{days}d", T - days * DAY) for days in (7, 30, 90)]
    inside = [session(f"{days}d", T - days * DAY + MICROSECOND) for days in (7, 30, 90)]
    unheard = session("unheard", T - DAY)
    half_heard = session("half heard", T - 2 * DAY)
    ties = [session("ties", T - 3 * DAY)._replace(event_id=f"tie {number}") for number in range(3)]
    thirds = [session("thirds", T - day * DAY, seconds=seconds) for day, seconds in ((1, 7), (2, 11), (40, 14))]
    corrected = session("corrected", T - DAY)
    moved = session("moved from", T - DAY)
    shifted = session("shifted", T - DAY)
    gone, going = session("gone", T - DAY), session("going", T - DAY)
    returned = session("returned", T - DAY)
    return [
        now,
        *edges,
        *inside,
        *ties,
        *thirds,
        arriving(unheard, T + MICROSECOND),
        half_heard,
        arriving(session("half heard", T - DAY), T + MICROSECOND),
        arriving(session("just heard", T - DAY), T),
        corrected,
        arriving(corrected, T, duration_seconds=1200),
        arriving(corrected, T + MICROSECOND, duration_seconds=1800),
        moved,
        arriving(moved, T - HOUR, user_id="moved to"),
        shifted,
        arriving(shifted, T - HOUR, started_at=T - 91 * DAY),
        gone,
        withdrawn(gone, T),
        going,
        withdrawn(going, T + MICROSECOND),
        returned,
        withdrawn(returned, T - 2 * HOUR),
        arriving(returned, T - HOUR, duration_seconds=30),
        session("long gone", T - 100 * DAY),
    ]


NOTHING = (0, 0.0, 999, 0, 0)
ONE_YESTERDAY = (1, 10.0, 1, 1, 1)
CRAFTED = {
    "now": (1, 0.0, 0, 1, 1),
    "7d": (2, 10.0, 6, 1, 2),
    "30d": (2, 10.0, 29, 0, 1),
    "90d": (1, 10.0, 89, 0, 0),
    "half heard": (1, 10.0, 2, 1, 1),
    "just heard": ONE_YESTERDAY,
    "ties": (3, 10.0, 3, 3, 3),
    "thirds": (3, 32 / 180, 1, 2, 2),
    "corrected": (1, 20.0, 1, 1, 1),
    "moved from": NOTHING,
    "moved to": ONE_YESTERDAY,
    "shifted": NOTHING,
    "gone": NOTHING,
    "going": ONE_YESTERDAY,
    "returned": (1, 0.5, 1, 1, 1),
    "long gone": NOTHING,
}


def late_news() -> list[Event]:
    """What arrives after T was computed, some of it dated before T, as a slow delivery brings it."""
    return [
        session("now", T - DAY),
        session("stranger", T - DAY),
        withdrawn(session("ties", T - 3 * DAY)._replace(event_id="tie 0"), T - HOUR),
        arriving(session("thirds", T - DAY, seconds=7), T, duration_seconds=8),
        session("half heard", T + MINUTE),
    ]


def test_every_cell_of_the_sample(sample_warehouse: str) -> None:
    """All users at the as_of that serves, and all labelled users at the instants that train."""
    expected = expected_feature_rows(sample_events(sample_warehouse), SAMPLE_AS_OF)
    assert sum(as_of == SAMPLE_AS_OF for _, as_of in expected) > 3_500
    assert len(expected) > 50_000
    assert not differences(feature_rows(sample_warehouse).items(), expected.items())


@pytest.mark.parametrize("view", [USER_VARIETY, EVENT_TYPES], ids=lambda view: view.name)
def test_every_cell_of_the_other_views(sample_warehouse: str, view: View) -> None:
    """A second view of users, and one of another entity: nothing is made for one of them only."""
    events = sample_events(sample_warehouse)
    expected = features_at(events, SAMPLE_AS_OF, known_entities(events, SAMPLE_AS_OF, view.entity), view)
    assert len(expected) > 200
    found = {key: features for (key, as_of), features in feature_rows(sample_warehouse, view).items()}
    assert not differences(found.items(), expected.items())


def test_edges_and_immutability(empty_warehouse: str) -> None:
    """On a server that keeps New York's time, which must not matter."""
    write(empty_warehouse, f"alter database {empty_warehouse} set timezone to 'America/New_York'")
    insert(empty_warehouse, crafted_events())
    dbt(BUILD_FEATURES, empty_warehouse, as_of=T.isoformat())
    first = feature_rows(empty_warehouse)
    assert {user: features for (user, as_of), features in first.items() if as_of == T} == CRAFTED
    expected = expected_feature_rows(valid(raw_events(empty_warehouse)), T)
    assert {as_of for _, as_of in expected} > {T}, "there are no labels"
    assert not differences(first.items(), expected.items())

    every_row = f"select user_id, as_of, {', '.join(FEATURES)}, feature_version, xmin::text, ctid::text"
    every_row += " from features.user_session_features"
    written = read(empty_warehouse, every_row)
    insert(empty_warehouse, late_news())
    dbt(BUILD_FEATURES, empty_warehouse, as_of=T.isoformat())
    again = read(empty_warehouse, every_row)
    assert set(written) <= set(again), "rows that were written have changed"
    assert [row[0] for row in set(again) - set(written)] == ["stranger"]

    later = T + HOUR
    dbt(BUILD_FEATURES, empty_warehouse, as_of="2013-04-05T13:00:00+02:00")
    events = valid(raw_events(empty_warehouse))
    expected_later = features_at(events, later, known_entities(events, later))
    found = {user: features for (user, as_of), features in feature_rows(empty_warehouse).items() if as_of == later}
    assert found == expected_later
    assert found["now"] == (2, 5.0, 0, 2, 2)
    assert found["ties"] == (2, 10.0, 3, 2, 2)
    assert found["thirds"] == (3, 33 / 180, 1, 2, 2)
    assert found["half heard"][0] == 3
    assert set(again) <= set(read(empty_warehouse, every_row))


def test_the_row_that_trains_is_the_row_that_serves(sample_warehouse: str) -> None:
    label_at = "2013-06-11 00:00+00"
    columns = ", ".join(("user_id", "as_of", *FEATURES, "feature_version"))
    trains = read(
        sample_warehouse,
        f"select {columns} from training.churn_training_set where label_at = '{label_at}' order by 1",
    )
    assert len(trains) > 3_000
    with copy_of(sample_warehouse, "skewless_serving") as database:
        write(
            database,
            """
            insert into serving.publications (feature_view, as_of, feature_version, row_count)
            select 'user_session_features', as_of, feature_version, count(*)
            from features.user_session_features where as_of = %s group by as_of, feature_version
            """,
            [label_at],
        )
        assert read(database, f"select {columns} from serving.user_features order by 1") == trains
        assert read(
            database, "select distinct expires_at - as_of, published_at > as_of from serving.user_features"
        ) == [(3 * HOUR, True)]
