"""A window: the hours of (as_of - length, as_of], added up and compared."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise

import numpy as np

from features.contract import DriftSettings
from features.drift.counting import Population, distinct_entities
from features.drift.decision import DriftStatus
from features.drift.hours import HOUR, Hour, expected_of, pace_of, same_time_of_day, within
from features.drift.profile import Baseline, Profile
from features.drift.report import FeatureDriftReport, Subject, compare
from features.drift.sketch import Floats, Sketch

# A window needs half of its hours, or it is another window.
HOURS_NEEDED = 0.5


def report_window(
    subject: Subject,
    hours: Sequence[Hour],
    populations: Mapping[datetime, Population],
    baseline: Baseline,
    settings: DriftSettings,
    alpha: float,
) -> FeatureDriftReport:
    """The report of a subject's window.

    Args:
        hours: of the last week, in order.
        populations: whom each hour's rows belong to.
    """
    inside = within(hours, subject.as_of, subject.window_hours)
    expected = expected_hours(hours, subject.window_hours)
    if len(inside) < HOURS_NEEDED * expected:
        detail = f"{len(inside)} of its {expected} hours are there; half of them are needed."
        return FeatureDriftReport(subject, DriftStatus.INSUFFICIENT_DATA, 0, detail)
    current = profile_of(inside, populations, baseline)
    return compare(subject, current, baseline, expected_of(baseline, inside), settings, alpha)


def profile_of(hours: Sequence[Hour], populations: Mapping[datetime, Population], baseline: Baseline) -> Profile:
    """The distribution of some hours together, resting on their distinct entities."""
    parts = [populations[hour.as_of] for hour in hours if hour.as_of in populations]
    return Profile.of(Sketch.total([hour.sketch for hour in hours], baseline.grid), distinct_entities(parts))


def expected_hours(hours: Sequence[Hour], window: int) -> int:
    """How many instants a window of this many hours should have, by the pace at which they came."""
    return max(1, round(window * HOUR / pace_of([hour.as_of for hour in hours])))


def usual_and_present(hours: Sequence[Hour], *, at_any_time: bool) -> tuple[Floats, Floats]:
    """Counts by cell that the newest hour usually has, and those that it has; nothing when too little is known.

    Args:
        at_any_time: a snapshot is of everybody at any time of the day; requests come more or less by the hour.
    """
    newest = hours[-1]
    earlier = [
        hour.sketch.counts
        for hour in hours[:-1]
        if hour.sketch.rows and (at_any_time or same_time_of_day(newest.as_of, hour.as_of))
    ]
    if len(earlier) < HOURS_TO_KNOW:
        return np.empty(0), np.empty(0)
    return np.median(earlier, axis=0), newest.sketch.counts.astype(np.float64)


HOURS_TO_KNOW = 3


def pauses_of(hours: Sequence[Hour]) -> tuple[int, int]:
    """For how many of the newest hours nothing changed, and the longest such pause before; 0 if it never changed."""
    pauses, pause = [], 0
    for earlier, later in pairwise(hours):
        if _same(earlier.sketch, later.sketch):
            pause += 1
        else:
            pauses.append(pause)
            pause = 0
    return pause, max(1, *pauses) if pauses else 0


def _same(one: Sketch, other: Sketch) -> bool:
    # The order of addition shows in a sum's last digits.
    return (
        one.given > 0
        and np.array_equal(one.counts, other.counts)
        and np.allclose(one.sums, other.sums, rtol=1e-9, atol=0.0)
    )
