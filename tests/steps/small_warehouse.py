"""A warehouse of a dozen users that dbt really builds: small enough for each test to have one of its own."""

from datetime import UTC, datetime
from typing import Any

from psycopg import sql

from features import settings, warehouse
from features.contract import FeatureView
from tests.databases import rows
from tests.dbt_project.oracle import FEATURES, HOUR, Event, insert

EARLIER = datetime(2013, 7, 1, tzinfo=UTC)
LATER = datetime(2013, 7, 2, tzinfo=UTC)
# The last one left in spring: still known in summer, but not active.
USERS = [f"u{number:02}" for number in range(1, 13)]

HISTORY = """
insert into raw.session_events (event_id, user_id, event_type, started_at, duration_seconds, ingested_at)
select
    'e' || u || '-' || n,
    'u' || lpad(u::text, 2, '0'),
    'kind ' || mod(u + n, 3),
    started_at,
    600 + 60 * u + 7 * n,
    started_at + interval '1 hour'
from generate_series(1, 12) as u
cross join generate_series(1, 60) as n
cross join lateral (
    select
        case when u = 12 then timestamptz '2013-03-01' else timestamptz '2013-07-02' end
        - n * make_interval(days => 1 + mod(u, 3)) - make_interval(hours => u) as started_at
) as times
"""


def load(*events: Event) -> None:
    """Delivers events now, whatever they claim about when they were known."""
    insert(settings.WAREHOUSE_DATABASE, events)


def session(user: str, started_at: datetime, known_at: datetime, event_id: str = "new") -> Event:
    """A session of half an hour."""
    return Event(event_id=event_id, user_id=user, started_at=started_at, duration_seconds=1800, ingested_at=known_at)


def fill(view: FeatureView, *instants: datetime) -> None:
    """Writes the view's rows of many instants at once, by the function that dbt installed from its definition."""
    (key,) = view.entity
    statement = sql.SQL(
        "insert into {table} select again.* from unnest(%s::timestamptz[]) as wanted (as_of)"
        " cross join lateral (select array_agg({key}) as keys from {entities}(wanted.as_of)) as known"
        " cross join lateral {as_of}(known.keys, wanted.as_of) as again on conflict do nothing"
    ).format(
        table=sql.Identifier(*view.relation),
        key=sql.Identifier(key),
        entities=sql.Identifier(view.schema_name, f"{view.name}_entities"),
        as_of=sql.Identifier(view.schema_name, f"{view.name}_as_of"),
    )
    with warehouse.connect() as connection:
        connection.execute(statement, [list(instants)])


def hours(first: datetime, count: int) -> list[datetime]:
    """Instants an hour apart."""
    return [first + number * HOUR for number in range(count)]


def served() -> list[tuple[Any, ...]]:
    """What readers of user_session_features get, less the moment at which it was published."""
    columns = ", ".join(("user_id", "as_of", "feature_version", *FEATURES))
    return rows(f"select {columns} from serving.user_features order by user_id")


def stored(as_of: datetime) -> list[tuple[Any, ...]]:
    """The rows of user_session_features at an instant, in the shape of `served`."""
    columns = ", ".join(("user_id", "as_of", "feature_version", *FEATURES))
    return rows(f"select {columns} from features.user_session_features where as_of = '{as_of}' order by user_id")


def ledger() -> list[dict[str, Any]]:
    """serving.publications, oldest first."""
    with warehouse.connect() as connection:
        return connection.execute("select * from serving.publications order by publication_id").fetchall()


def live() -> list[datetime]:
    """The instants that are live: one for each view that was published."""
    return [row["as_of"] for row in ledger() if row["retired_at"] is None]


def audits() -> list[dict[str, Any]]:
    """monitoring.parity_audits."""
    with warehouse.connect() as connection:
        return connection.execute(
            "select * from monitoring.parity_audits order by publication_id, feature"
        ).fetchall()  # fmt: skip


def skews(as_of: datetime) -> dict[str, tuple[int, str, list[list[Any]]]]:
    """What the last audit of an instant found to differ: of each feature how many cells, why, and example keys."""
    at_instant = [row for row in audits() if row["as_of"] == as_of]
    last = max(row["publication_id"] for row in at_instant)
    return {
        row["feature"]: (row["mismatches"], row["cause"], row["example_keys"])
        for row in at_instant
        if row["publication_id"] == last and row["mismatches"]
    }
