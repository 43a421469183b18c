"""Hours: what was counted in one, and what is said of several."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from features.drift.profile import Baseline, Profile
from features.drift.sketch import Sketch

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
WEEK = timedelta(weeks=1)


@dataclass(frozen=True)
class Hour:
    """What was counted in an hour.

    Attributes:
        entities: distinct ones in it.
    """

    as_of: datetime
    sketch: Sketch
    entities: float


def within(hours: Sequence[Hour], as_of: datetime, window: int) -> list[Hour]:
    """The hours of (as_of - window, as_of]."""
    return [hour for hour in hours if as_of - window * HOUR < hour.as_of <= as_of]


def pace_of(instants: Sequence[datetime]) -> timedelta:
    """How far apart instants in order usually are, an hour at least; an hour, too, when there are too few to tell."""
    gaps = sorted(later - earlier for earlier, later in pairwise(instants))
    return max(gaps[len(gaps) // 2], HOUR) if len(gaps) > 1 else HOUR


def same_time_of_day(one: datetime, other: datetime) -> bool:
    """Whether instants are whole days apart."""
    return (one - other) % DAY == timedelta(0)


def expected_of(baseline: Baseline, hours: Sequence[Hour]) -> Profile:
    """What these hours together should look like."""
    return baseline.expected(
        [(hour.as_of, hour.sketch.given) for hour in hours], [(hour.as_of, hour.sketch.rows) for hour in hours]
    )
