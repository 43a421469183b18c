"""What the models should hold, computed a second time and another way: in Python, straight from raw.session_events.

Nothing here is shared with the dbt project. The models keep for each version the interval in which it was known; here
the knowledge of an instant is replayed from the beginning, version by version.
"""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

from psycopg.rows import tuple_row

from features import warehouse

Features = tuple[int | float, ...]
FEATURES = (
    "session_count",
    "avg_session_duration_minutes",
    "days_since_last_session",
    "sessions_last_7_days",
    "sessions_last_30_days",
)

ANCHOR = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
MICROSECOND = dt.timedelta(microseconds=1)


class Event(NamedTuple):
    """A row of raw.session_events; what is left out is null, and now for loaded_at."""

    event_id: Any = None
    user_id: Any = None
    started_at: Any = None
    duration_seconds: Any = None
    ingested_at: Any = None
    is_deleted: bool = False
    source_row: int | None = None
    loaded_at: Any = None
    event_type: Any = None


def insert(database: str, events: Iterable[Event]) -> None:
    """Delivers events, in one transaction."""
    names = ", ".join(Event._fields)
    values = "%s, %s, %s, %s, %s, %s, %s, coalesce(%s, now()), %s"
    with warehouse.connect(database) as connection, connection.cursor() as cursor:
        cursor.executemany(f"insert into raw.session_events ({names}) values ({values})", list(events))


def read(database: str, query: str) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    with warehouse.connect(database) as connection:
        return connection.cursor(row_factory=tuple_row).execute(query).fetchall()


def write(database: str, statement: str, parameters: Sequence[Any] = ()) -> None:
    """Runs one statement."""
    with warehouse.connect(database, autocommit=True) as connection:
        connection.execute(statement, parameters)


def differences(found: Iterable[Any], expected: Iterable[Any]) -> list[tuple[str, Any]]:
    """What one holds and the other lacks, five of each: a failed comparison of many rows stays readable."""
    counted, wanted = Counter(iter(found)), Counter(iter(expected))
    surplus, missing = list(counted - wanted), list(wanted - counted)
    return [("surplus", row) for row in surplus[:5]] + [("missing", row) for row in missing[:5]]


def raw_events(database: str) -> list[Event]:
    """Everything that was delivered."""
    return list(map(Event._make, read(database, f"select {', '.join(Event._fields)} from raw.session_events")))


@cache
def sample_events(database: str) -> list[Event]:
    """The sample's events that may count; nobody changes them, so they are read once."""
    return valid(raw_events(database))


def copy_raw(source: str, target: str, where: str = "true") -> None:
    """Delivers one database's events to another, as they are."""
    columns = "event_id, user_id, event_type, started_at, duration_seconds, ingested_at, is_deleted, loaded_at"
    with warehouse.connect(source) as giving, warehouse.connect(target) as taking:
        query = f"copy (select {columns} from raw.session_events where {where}) to stdout"
        into = taking.cursor().copy(f"copy raw.session_events ({columns}) from stdin")
        with giving.cursor().copy(query) as copy, into as delivery:
            for block in copy:
                delivery.write(block)
    write(target, "analyze raw.session_events")


def is_good(event: Event) -> bool:
    """Whether a row can count, or withdraws a session."""
    if event.event_id is None or event.ingested_at is None:
        return False
    if event.is_deleted:
        return True
    if event.user_id is None or event.started_at is None or event.duration_seconds is None:
        return False
    lasted = (event.ingested_at - event.started_at) // MICROSECOND
    return 0 <= event.duration_seconds * 1_000_000 <= lasted


def valid(events: Iterable[Event]) -> list[Event]:
    """The good rows by ingested_at; of several for one version the first to arrive, sessions first."""
    first: dict[tuple[str, dt.datetime], Event] = {}
    for event in filter(is_good, events):
        key = (event.event_id, event.ingested_at)
        if key not in first or _precedence(event) < _precedence(first[key]):
            first[key] = event
    return sorted(first.values(), key=lambda event: event.ingested_at)


def _precedence(event: Event) -> tuple[bool, dt.datetime]:
    return event.is_deleted, event.loaded_at


def staged(events: Iterable[Event]) -> list[tuple[Any, ...]]:
    """The rows of stg_session_events, sorted."""
    versions = defaultdict(list)
    for event in valid(events):
        versions[event.event_id].append(event)
    return sorted(
        (*version[:5], following.ingested_at if following else None, version.loaded_at)
        for chain in versions.values()
        for version, following in zip(chain, [*chain[1:], None], strict=True)
        if not version.is_deleted
    )


def known_at(events: Sequence[Event], as_of: dt.datetime) -> list[Event]:
    """The sessions as an observer at as_of would have them.

    Args:
        events: valid ones by ingested_at.
    """
    sessions: dict[str, Event] = {}
    for event in events:
        if event.ingested_at > as_of:
            break
        if event.is_deleted:
            sessions.pop(event.event_id, None)
        else:
            sessions[event.event_id] = event
    return [session for session in sessions.values() if session.started_at <= as_of]


def by_entity(
    sessions: Iterable[Event], after: dt.datetime, until: dt.datetime, entity: str = "user_id"
) -> dict[str, list[Event]]:
    """The sessions that started in (after, until]."""
    entities = defaultdict(list)
    for session in sessions:
        if after < session.started_at <= until:
            entities[getattr(session, entity)].append(session)
    return entities


def known_entities(events: Iterable[Event], as_of: dt.datetime, entity: str = "user_id") -> set[str]:
    """Everybody of whom a session was heard by as_of, even if it was withdrawn later."""
    return {
        getattr(event, entity)
        for event in events
        if not event.is_deleted and event.started_at <= as_of and event.ingested_at <= as_of
    } - {None}


def _session_features(sessions: list[Event], as_of: dt.datetime) -> Features:
    if not sessions:
        return (0, 0.0, 999, 0, 0)
    starts = [session.started_at for session in sessions]
    return (
        len(sessions),
        sum(session.duration_seconds for session in sessions) / (60 * len(sessions)),
        (as_of - max(starts)) // DAY,
        sum(start > as_of - 7 * DAY for start in starts),
        sum(start > as_of - 30 * DAY for start in starts),
    )


def _variety_features(sessions: list[Event], as_of: dt.datetime) -> Features:
    recent = [session for session in sessions if session.started_at > as_of - 30 * DAY]
    return (
        len({session.event_type for session in sessions} - {None}),
        len({session.event_type for session in recent} - {None}),
        max((session.duration_seconds for session in sessions), default=0) / 60,
    )


def _event_type_features(sessions: list[Event], as_of: dt.datetime) -> Features:
    count, mean, days, _, _ = _session_features(sessions, as_of)
    recent = [session for session in sessions if session.started_at > as_of - 7 * DAY]
    users, recent_users = ({session.user_id for session in some} for some in (sessions, recent))
    return (count, len(users), len(recent_users), mean, days)


class View(NamedTuple):
    """A feature view computed a second time."""

    name: str
    entity: str
    columns: tuple[str, ...]
    compute: Callable[[list[Event], dt.datetime], Features]


USER_SESSIONS = View("user_session_features", "user_id", FEATURES, _session_features)
USER_VARIETY = View(
    "user_variety_features",
    "user_id",
    ("event_type_count", "event_types_last_30_days", "longest_session_minutes"),
    _variety_features,
)
EVENT_TYPES = View(
    "event_type_features",
    "event_type",
    ("session_count", "user_count", "users_last_7_days", "avg_session_duration_minutes", "days_since_last_session"),
    _event_type_features,
)
VIEWS = (USER_SESSIONS, USER_VARIETY, EVENT_TYPES)


def features_at(
    events: Sequence[Event], as_of: dt.datetime, entities: Iterable[str], view: View = USER_SESSIONS
) -> dict[str, Features]:
    """The view's features of each entity."""
    sessions = by_entity(known_at(events, as_of), as_of - 90 * DAY, as_of, view.entity)
    return {entity: view.compute(sessions.get(entity, []), as_of) for entity in entities}


def label_times(events: Iterable[Event], as_of: dt.datetime) -> list[dt.datetime]:
    """Each seventh day from the ninth week after the first session was heard of, once 15 days have passed."""
    first = min(event.ingested_at for event in events if not event.is_deleted)
    candidates = (ANCHOR + 7 * week * DAY for week in range(-60, 120))
    return [at for at in candidates if at > first - 7 * DAY + 63 * DAY and at + 15 * DAY <= as_of]


def labels(events: Sequence[Event], as_of: dt.datetime) -> dict[tuple[str, dt.datetime], bool]:
    """Whether each user active in the 60 days before a label time left in the 14 days after it."""
    found: dict[tuple[str, dt.datetime], bool] = {}
    for at in label_times(events, as_of):
        active = by_entity(known_at(events, at), at - 60 * DAY, at)
        stayed = by_entity(known_at(events, at + 15 * DAY), at, at + 14 * DAY)
        found |= {(user, at): user not in stayed for user in active}
    return found


def feature_rows(database: str, view: View = USER_SESSIONS) -> dict[tuple[str, dt.datetime], Features]:
    """What a feature view's table holds."""
    columns = ", ".join((view.entity, "as_of", *view.columns))
    rows = read(database, f"select {columns} from features.{view.name}")
    found = {(user, as_of): features for user, as_of, *features in rows}
    assert len(found) == len(rows), "more than one definition"
    return {key: tuple(features) for key, features in found.items()}


def expected_feature_rows(events: Sequence[Event], as_of: dt.datetime) -> dict[tuple[str, dt.datetime], Features]:
    """What user_session_features should hold after one run, before anything was published."""
    wanted = {as_of: known_entities(events, as_of)}
    for user, label_at in labels(events, as_of):
        wanted.setdefault(label_at, set()).add(user)
    return {
        (user, at): features
        for at, users in wanted.items()
        for user, features in features_at(events, at, users).items()
    }
