"""The rows of the benchmark, made inside PostgreSQL by set-based SQL.

Every value is a hash of its row number, so that the same sizes are the same rows on every (little-endian) machine.
Events fill one year in the order in which they start; a spine and labels lie in its last 275 days, when 90 days of
history are there. User k's share of the events falls with 1/sqrt(k): with 50,000 users the busiest has 0.4 % of all
events and the busiest hundredth has a tenth. Finished feature rows are what a scheduled materialisation leaves: all
users at regular instants.
"""

from pathlib import Path

from psycopg import sql

from features import warehouse
from tests.benchmarks.contest import Bench, Sizes

ANCHOR = "2025-01-01T00:00:00+00"
DAYS = 365
WARM_UP_DAYS = 90
LATE_SHARE = 0.05
LATE_DAYS = 3
SPARE = 1.2  # drawn per wanted pair, because some are drawn twice

SETUP = """
create schema if not exists bench;

-- A number in [0, 1) for row n; `stream` tells a row's draws apart.
create or replace function bench.uniform(n bigint, stream bigint) returns double precision
language sql immutable parallel safe
return (hashint8extended(n, stream) & 9007199254740991)::double precision / 9007199254740992;

create or replace function bench.user_id(number double precision) returns text
language sql immutable parallel safe
return 'u' || lpad(floor(number)::bigint::text, 6, '0');

create table if not exists raw.bench_labels (
    user_id text, label_at timestamptz, matured_at timestamptz, churned boolean, primary key (user_id, label_at)
);
create table if not exists bench.feature_rows (
    user_id text, event_timestamp timestamptz,
    session_count bigint, avg_session_duration_minutes double precision, days_since_last_session bigint,
    sessions_last_7_days bigint, sessions_last_30_days bigint,
    primary key (user_id, event_timestamp)
);
create table if not exists bench.labels (
    user_id text, event_timestamp timestamptz, primary key (user_id, event_timestamp)
);

-- What dbt runs as.
grant usage on schema bench to transformer;
grant select on all tables in schema bench to transformer;
"""

# A session lasts a minute to four hours, mostly short, and arrives within five minutes of its end, or late.
EVENTS = """
insert into raw.session_events
    (event_id, user_id, started_at, duration_seconds, ingested_at, is_deleted, loaded_at)
select event_id, user_id, started_at, duration_seconds, ingested_at, false, ingested_at
from (
    select
        'e' || lpad(n::text, 9, '0') as event_id,
        bench.user_id(%(entities)s * power(bench.uniform(n, 1), 2)) as user_id,
        started_at,
        duration_seconds,
        started_at + make_interval(secs => duration_seconds + delay_seconds) as ingested_at
    from (
        select
            n,
            date_trunc('second', %(anchor)s::timestamptz
                + %(days)s * (n - bench.uniform(n, 2)) / %(events)s * interval '1 day') as started_at,
            60 + floor(power(bench.uniform(n, 3), 3) * 14340)::bigint as duration_seconds,
            floor(case
                when bench.uniform(n, 4) < %(late_share)s then bench.uniform(n, 5) * (%(late_days)s * 86400 - 14400)
                else bench.uniform(n, 5) * 300
            end) as delay_seconds
        from generate_series(1, %(events)s::bigint) as n
    ) as timed
) as made
"""

# Distinct pairs of a random user and a random instant: the first so many that are drawn.
PAIRS = """
select user_id, at, min(n) as n
from (
    select
        n,
        bench.user_id(%(entities)s * bench.uniform(n, %(stream)s)) as user_id,
        %(anchor)s::timestamptz + make_interval(
            days => %(warm_up)s,
            secs => floor(bench.uniform(n, %(stream)s + 1) * %(days_left)s * 86400 / %(step)s) * %(step)s
        ) as at
    from generate_series(1, %(draws)s::bigint) as n
) as drawn
group by user_id, at
order by min(n)
limit %(rows)s
"""

SPINE = f"""
insert into raw.bench_labels
select user_id, at, at + interval '21 days', bench.uniform(n, 12) < 0.3 from ({PAIRS}) as pair
"""

# Snapshots of all users, one after the other. The first comes a step after the warm-up: earlier labels find nothing.
FEATURE_ROWS = """
insert into bench.feature_rows
select
    bench.user_id(user_number),
    %(anchor)s::timestamptz + make_interval(
        days => %(warm_up)s, secs => (snapshot + 1) * floor(%(days_left)s * 86400.0 / %(snapshots)s)
    ),
    floor(bench.uniform(n, 22) * 100)::bigint,
    bench.uniform(n, 23) * 240,
    floor(bench.uniform(n, 24) * 90)::bigint,
    floor(bench.uniform(n, 25) * 20)::bigint,
    floor(bench.uniform(n, 26) * 50)::bigint
from generate_series(0, %(snapshots)s - 1) as snapshot
cross join generate_series(0, %(entities)s - 1) as user_number
cross join lateral (select snapshot::bigint * %(entities)s + user_number as n) as numbered
"""

LABELS = f"insert into bench.labels select user_id, at from ({PAIRS}) as pair"

EVENTS_EXPORT = """
select event_id, user_id, (extract(epoch from started_at) * 1000000)::bigint as started_us,
    (extract(epoch from ingested_at) * 1000000)::bigint as ingested_us, duration_seconds
from raw.session_events
"""
SPINE_EXPORT = "select user_id, (extract(epoch from label_at) * 1000000)::bigint as as_of_us from raw.bench_labels"


def generate(connection: warehouse.Connection, sizes: Sizes) -> None:
    """Replaces all rows of raw.session_events, raw.bench_labels, bench.feature_rows and bench.labels."""
    generate_events(connection, sizes.events, sizes.entities)
    generate_spine(connection, sizes.spine, sizes.entities)
    generate_lookups(connection, sizes)


def generate_events(
    connection: warehouse.Connection, events: int, entities: int, *, anchor: str = ANCHOR, days: int = DAYS
) -> None:
    """Replaces all rows of raw.session_events by so many within so many days from the anchor."""
    connection.execute(SETUP)
    connection.execute("truncate raw.session_events")
    connection.execute(
        EVENTS,
        {
            "entities": entities,
            "events": events,
            "anchor": anchor,
            "days": days,
            "late_share": LATE_SHARE,
            "late_days": LATE_DAYS,
        },
    )
    connection.execute("analyze raw.session_events")


def generate_spine(connection: warehouse.Connection, rows: int, entities: int) -> None:
    """Replaces all rows of raw.bench_labels."""
    connection.execute(SETUP)
    connection.execute("truncate raw.bench_labels")
    _pairs(connection, SPINE, rows, entities, stream=10, step_seconds=3600)
    connection.execute("analyze raw.bench_labels")


def generate_lookups(connection: warehouse.Connection, sizes: Sizes) -> None:
    """Replaces all rows of bench.feature_rows and bench.labels."""
    if sizes.feature_rows % sizes.feature_entities:
        raise ValueError(
            f"{sizes.feature_rows} feature rows are no whole number of snapshots of {sizes.feature_entities} users."
        )
    connection.execute(SETUP)
    connection.execute("truncate bench.feature_rows, bench.labels")
    connection.execute(
        FEATURE_ROWS,
        {
            "entities": sizes.feature_entities,
            "snapshots": sizes.feature_rows // sizes.feature_entities,
            "anchor": ANCHOR,
            "warm_up": WARM_UP_DAYS,
            "days_left": DAYS - WARM_UP_DAYS,
        },
    )
    _pairs(connection, LABELS, sizes.labels, sizes.feature_entities, stream=30, step_seconds=60)
    connection.execute("analyze bench.feature_rows")
    connection.execute("analyze bench.labels")


def _pairs(
    connection: warehouse.Connection, insert: str, rows: int, entities: int, *, stream: int, step_seconds: int
) -> None:
    cursor = connection.execute(
        insert,
        {
            "rows": rows,
            "draws": int(rows * SPARE) + 100,
            "entities": entities,
            "stream": stream,
            "step": step_seconds,
            "anchor": ANCHOR,
            "warm_up": WARM_UP_DAYS,
            "days_left": DAYS - WARM_UP_DAYS,
        },
    )
    if cursor.rowcount != rows:
        raise ValueError(
            f"{entities} users have no {rows} distinct instants to draw: ask for more users or fewer rows."
        )


def export(connection: warehouse.Connection, bench: Bench) -> None:
    """Writes bench.events_csv and bench.spine_csv. Instants are microseconds since 1970 in UTC."""
    bench.events_csv.parent.mkdir(parents=True, exist_ok=True)
    for query, path in ((EVENTS_EXPORT, bench.events_csv), (SPINE_EXPORT, bench.spine_csv)):
        write_csv(connection, query, path)


def write_csv(connection: warehouse.Connection, query: str, path: Path) -> None:
    """Copies the query's rows into a CSV file with a header."""
    statement = sql.SQL("copy ({}) to stdout (format csv, header)").format(sql.SQL(query))
    with path.open("wb") as file, connection.cursor().copy(statement) as copy:
        for block in copy:
            file.write(block)
