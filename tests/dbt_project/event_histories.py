"""Histories of events as hypothesis draws them: who, when, how late, corrected and withdrawn."""

import datetime as dt

from hypothesis import strategies as st

from tests.dbt_project.oracle import DAY, HOUR, MICROSECOND, Event

# Daylight saving began on 10 March in New York, so that the longer windows hold a day of 23 hours.
T = dt.datetime(2013, 4, 5, 10, tzinfo=dt.UTC)
EDGES = [T - days * DAY for days in (0, 1, 7, 30, 90)]
# What a careless join, split or format would trip over, and keys that look alike once they are put together.
KEYS = [
    "a",
    "ab",
    "b",
    "bc",
    "c",
    "",
    " ",
    "a ",
    "A",
    "a'b",
    'a"b',
    "a,b",
    "a|b",
    "a:b",
    "a\\b",
    "a\nb",
    "%s",
    "{}",
    "$1",
]
KEYS += ["é", "e\u0301", "日本", "🙂", "--", "null", "NULL", "{a}", "(a)", '["a"]']

keys = st.sampled_from(KEYS)
# Mostly on the edges of what a window holds, or a microsecond beside.
instants = st.one_of(
    st.builds(lambda edge, off: edge + off * MICROSECOND, st.sampled_from(EDGES), st.integers(-1, 1)),
    st.builds(lambda hours: T - hours * HOUR, st.integers(-48, 100 * 24)),
    st.builds(lambda seconds: T - dt.timedelta(seconds=seconds), st.integers(-3600, 8_640_000)),
)
durations = st.sampled_from([0, 1, 7, 59, 60, 61, 600, 86_400])


@st.composite
def versions(draw: st.DrawFn, number: int) -> list[Event]:
    """An event with its corrections and withdrawals, in any order, some of them repeated."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        started_at, seconds = draw(instants), draw(durations)
        ended_at = started_at + dt.timedelta(seconds=seconds)
        lateness = draw(st.sampled_from([dt.timedelta(0), MICROSECOND, HOUR, DAY, 40 * DAY]))
        arrived_at = max(ended_at, draw(instants)) if draw(st.booleans()) else ended_at + lateness
        is_deleted = draw(st.integers(0, 4)) == 0
        event = Event(f"e{number}", draw(keys), started_at, seconds, arrived_at, is_deleted)
        found.append(event._replace(event_type=draw(st.none() | keys)))
    return found + found[: draw(st.integers(0, 1))]


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Up to twelve events, each version loaded at a moment of its own, so that it is clear which came first."""
    rows = [row for number in range(draw(st.integers(1, 12))) for row in draw(versions(number))]
    rows = draw(st.permutations(rows))
    return [row._replace(loaded_at=T + 400 * DAY + place * HOUR) for place, row in enumerate(rows)]
