"""Half a year of three hundred users: small enough to compute in seconds, large enough to train on.

It ends after a leap day, so that its hours can be those of a schedule that does not start by itself.

Nothing in it is random: every value is a hash of its row's numbers, so that two warehouses hold the same.
"""

HASH = """
create function pg_temp.hash(u int, n int, stream int) returns int language sql immutable
return (hashint8extended(u * 1000 + n, stream) & 2147483647)::int
"""
# User u has a session every one to six days until some day of its own, or all the time. A session is known of half an
# hour to three hours after it began.
HISTORY = """
insert into raw.session_events (event_id, user_id, event_type, started_at, duration_seconds, ingested_at)
select
    'e' || u || '-' || n,
    'u' || lpad(u::text, 3, '0'),
    'kind ' || mod(pg_temp.hash(u, n, 1), 3),
    started_at,
    300 + mod(pg_temp.hash(u, n, 2), 7200),
    started_at + make_interval(mins => 30 + mod(pg_temp.hash(u, n, 3), 150))
from generate_series(1, 300) as u
cross join generate_series(1, 250) as n
cross join lateral (
    select timestamptz '2011-09-01'
        + make_interval(mins => (n - 1) * (1 + mod(u, 6)) * 1440 + mod(pg_temp.hash(u, n, 4), 1440)) as started_at
) as begun
where started_at < timestamptz '2012-04-08'
    and started_at < timestamptz '2011-09-15' + make_interval(days => mod(pg_temp.hash(u, 0, 5), 300))
"""


# The hours of leap days.
CRON = "0 * 29 2 *"
FIRST = "2012-02-29T00:00:00"
# The champion is too old by then.
LAST = "2012-04-04T00:00:00"


def hour(number: int) -> str:
    """The partition of an hour of the leap day."""
    return f"2012-02-29T{number:02}:00:00"


def statements() -> tuple[str, str]:
    """What has to be executed in one session, in this order."""
    return HASH, HISTORY
