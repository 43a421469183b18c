"""The part of the DuckDB contestant that runs in its own virtual environment; it knows DuckDB and the standard library.

The feature view's rule, as the peer has to keep it: an event counts at as_of when it had started and its record had
arrived (started_at <= as_of and ingested_at <= as_of), within (as_of - 90 days, as_of]. There are no corrections in the
benchmark's data, so a peer may leave out `superseded_at`.

Instants are TIMESTAMP in UTC: DuckDB's TIMESTAMP WITH TIME ZONE counts days in a calendar, which is slower.
"""

import json
import sys
import time
from pathlib import Path

import duckdb

# Sorted as our covering index is, since loading is not timed.
LOAD = """
create table events as
select user_id, make_timestamp(started_us) as started_at, make_timestamp(ingested_us) as ingested_at, duration_seconds
from read_csv($events, header = true, columns = {
    'event_id': 'VARCHAR', 'user_id': 'VARCHAR', 'started_us': 'BIGINT', 'ingested_us': 'BIGINT',
    'duration_seconds': 'BIGINT'})
order by user_id, started_at;
"""
LOAD_SPINE = """
create table spine as
select user_id, make_timestamp(as_of_us) as as_of
from read_csv($spine, header = true, columns = {'user_id': 'VARCHAR', 'as_of_us': 'BIGINT'})
order by user_id, as_of;
"""

WANTED = """
wanted as (
    select
        row_number() over () as n, user_id, as_of,
        as_of - interval 90 day as after_90, as_of - interval 30 day as after_30, as_of - interval 7 day as after_7
    from spine
)
"""

FROM_AGGREGATES = """
select
    user_id, as_of,
    coalesce(sessions, 0) as session_count,
    coalesce(seconds::double / nullif(60 * sessions, 0), 0) as avg_session_duration_minutes,
    case when sessions > 0 then (epoch_us(as_of) - epoch_us(last_started_at)) // 86400000000 else 999 end
        as days_since_last_session,
    coalesce(sessions_7, 0) as sessions_last_7_days,
    coalesce(sessions_30, 0) as sessions_last_30_days
"""

# Every pair of a spine row and an event of its user within the window: a hash join on the user with the ranges as a
# residual, and one aggregation by the spine row's number, which is cheaper than by user and instant.
RANGE_JOIN = f"""
with {WANTED},
counted as (
    select
        n, count(*) as sessions, sum(duration_seconds) as seconds, max(started_at) as last_started_at,
        count(*) filter (where started_at > after_7) as sessions_7,
        count(*) filter (where started_at > after_30) as sessions_30
    from wanted
    inner join events
        on events.user_id = wanted.user_id
        and started_at > after_90 and started_at <= as_of and ingested_at <= as_of
    group by n
)
{FROM_AGGREGATES} from wanted left join counted using (n)
"""

# Running totals and ASOF joins. One ASOF join has one clock, and an event has two, so inclusion and exclusion it is:
#
#   known in (b, a]  =  arrived by a  -  started by b  +  started by b but not arrived by a
#
# The first two are running totals in the order of arrival and of start. It needs ingested_at >= started_at, which
# staging guarantees. The third holds only records that came more than a window late: few, joined by range.
CUMULATIVE = f"""
with {WANTED},
arrived as (
    select distinct user_id, ingested_at, count(*) over by_arrival as sessions,
        sum(duration_seconds) over by_arrival as seconds, max(started_at) over by_arrival as last_started_at
    from events window by_arrival as (partition by user_id order by ingested_at)
),
started as (
    select distinct
        user_id, started_at, count(*) over by_start as sessions, sum(duration_seconds) over by_start as seconds
    from events window by_start as (partition by user_id order by started_at)
),
missed as (
    select
        n, count(*) as sessions_7, count(*) filter (where started_at <= after_30) as sessions_30,
        count(*) filter (where started_at <= after_90) as sessions,
        sum(duration_seconds) filter (where started_at <= after_90) as seconds
    from (select * from events where ingested_at >= started_at + interval 7 day) as tardy
    inner join wanted
        on tardy.user_id = wanted.user_id and started_at <= after_7 and ingested_at > as_of
    group by n
),
counted as (
    select
        wanted.user_id, wanted.as_of, arrived.last_started_at,
        coalesce(arrived.sessions, 0) - coalesce(past_90.sessions, 0) + coalesce(missed.sessions, 0) as sessions,
        coalesce(arrived.seconds, 0) - coalesce(past_90.seconds, 0) + coalesce(missed.seconds, 0) as seconds,
        coalesce(arrived.sessions, 0) - coalesce(past_7.sessions, 0) + coalesce(missed.sessions_7, 0) as sessions_7,
        coalesce(arrived.sessions, 0) - coalesce(past_30.sessions, 0) + coalesce(missed.sessions_30, 0) as sessions_30
    from wanted
    asof left join arrived on arrived.user_id = wanted.user_id and arrived.ingested_at <= wanted.as_of
    asof left join started as past_90 on past_90.user_id = wanted.user_id and past_90.started_at <= wanted.after_90
    asof left join started as past_30 on past_30.user_id = wanted.user_id and past_30.started_at <= wanted.after_30
    asof left join started as past_7 on past_7.user_id = wanted.user_id and past_7.started_at <= wanted.after_7
    left join missed on missed.n = wanted.n
)
{FROM_AGGREGATES} from counted
"""

FORMULATIONS = {"range_join": RANGE_JOIN, "cumulative": CUMULATIVE}


def load(database: Path, events: str, spine: str) -> None:
    """Makes the database anew from the exported files."""
    database.unlink(missing_ok=True)
    with duckdb.connect(database) as connection:
        connection.execute(LOAD, {"events": events})
        connection.execute(LOAD_SPINE, {"spine": spine})


def answer(database: Path, formulation: str, repeats: int, threads: int) -> list[float]:
    """Writes the answer into a table of the database, so many times over. Returns the seconds of each."""
    seconds = []
    with duckdb.connect(database, config={"threads": threads}) as connection:
        for _ in range(repeats):
            connection.execute("drop table if exists answer")
            start = time.perf_counter()
            connection.execute(f"create table answer as {FORMULATIONS[formulation]}")
            seconds.append(time.perf_counter() - start)
    return seconds


def export(database: Path, path: Path) -> None:
    """Writes the last answer into a Parquet file, in the order of its keys."""
    with duckdb.connect(database) as connection:
        connection.table("answer").order("user_id, as_of").write_parquet(str(path))


def main() -> None:
    """Reads what to do as JSON from the first argument; prints the answer's seconds as JSON."""
    step, given = sys.argv[1], json.loads(sys.argv[2])
    database = Path(given.pop("database"))
    if step == "load":
        load(database, **given)
    elif step == "answer":
        print(json.dumps(answer(database, **given)))
    elif step == "export":
        export(database, Path(given["path"]))


if __name__ == "__main__":
    main()
