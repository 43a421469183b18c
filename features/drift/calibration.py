"""How far a feature strays from its own expectation although all is well.

Rows of one entity come again, seasons are never quite the same, hours resemble the hour before: all of it makes
windows differ by more than independent sampling would have them. The excess is measured on clean history, each week
against the other weeks, and raises the floors (`features.drift.decision`). Kolmogorov's statistic has
E[K squared] = pi squared / 12, so D squared - 0.822 / n is what sampling does not explain.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np

from features.drift import distance
from features.drift.hours import WEEK, Hour, expected_of, pace_of, within
from features.drift.profile import Baseline, Profile, Wobble, slot_of
from features.drift.sketch import Grid, Sketch

KOLMOGOROV_SECOND_MOMENT = np.pi**2 / 12
DAYS_NEEDED = 28
# Of a clean period's hours, how many have to be there.
COVERAGE_NEEDED = 0.8
# Windows that overlap tell the same; of each length about this many are looked at.
WINDOWS_LOOKED_AT = 168


def is_covered(hours: Sequence[datetime], since: datetime, until: datetime) -> bool:
    """Whether enough of a period was counted to call it known, at the pace at which its hours came."""
    hours = sorted(hours)
    if len(hours) < DAYS_NEEDED:
        return False
    pace = pace_of(hours)
    reaches_back = hours[-1] - hours[0] + pace >= until - since
    return reaches_back and len(hours) * pace >= COVERAGE_NEEDED * (until - since)


def baseline_of_hours(hours: Sequence[Hour], grid: Grid, entities: float, windows: Sequence[int]) -> Baseline:
    """The baseline that a clean period makes, with its hours of the week and its wobble.

    Args:
        entities: distinct ones in the whole period.
    """
    weeks = _by_week(hours)
    whole = _baseline(hours, grid, entities)
    if len(weeks) < 2:
        return whole
    days = len({hour.as_of.date() for hour in hours})
    others = {
        number: _baseline([hour for other, part in weeks.items() if other != number for hour in part], grid, entities)
        for number in weeks
    }
    wobble = {window: _wobble(weeks, others, grid, entities, window, days) for window in windows}
    return Baseline(grid, whole.whole, whole.entities, whole.slots, _longer_is_no_worse(wobble))


def _by_week(hours: Sequence[Hour]) -> Mapping[int, list[Hour]]:
    first = min((hour.as_of for hour in hours), default=None)
    weeks: dict[int, list[Hour]] = defaultdict(list)
    for hour in hours:
        assert first is not None
        weeks[(hour.as_of - first) // WEEK].append(hour)
    return weeks


def _baseline(hours: Sequence[Hour], grid: Grid, entities: float) -> Baseline:
    slots: dict[int, list[Hour]] = defaultdict(list)
    for hour in hours:
        slots[slot_of(hour.as_of)].append(hour)
    whole = Sketch.total([hour.sketch for hour in hours], grid)
    totals = {slot: Sketch.total([hour.sketch for hour in part], grid) for slot, part in slots.items()}
    return Baseline(
        grid,
        whole,
        min(entities, whole.rows),
        {slot: (total, distinct(slots[slot], entities, total.rows)) for slot, total in totals.items()},
    )


def distinct(hours: Sequence[Hour], entities: float, rows: int) -> float:
    """About how many distinct entities some hours of a period hold, when the whole period holds `entities`."""
    most = max((hour.entities for hour in hours), default=0.0)
    return float(max(most, min(rows, entities, sum(hour.entities for hour in hours))))


def _wobble(
    weeks: Mapping[int, list[Hour]],
    others: Mapping[int, Baseline],
    grid: Grid,
    entities: float,
    window: int,
    days: int,
) -> Wobble:
    """The excess of one window length: mean of D squared less what sampling explains, and the same for the cells."""
    distances, effects, missing = [], [], []
    total = sum(len(hours) for hours in weeks.values())
    stride = max(1, min(window, total // WINDOWS_LOOKED_AT))
    for number, hours in weeks.items():
        for part in _windows(hours, window, stride):
            current = Profile.of(
                Sketch.total([hour.sketch for hour in part], grid),
                distinct(part, entities, sum(hour.sketch.rows for hour in part)),
            )
            expected = expected_of(others[number], part)
            if current.seen:
                chance = expected.missing * (1 - expected.missing) * (1 / current.seen + 1 / max(expected.seen, 1.0))
                missing.append((current.missing - expected.missing) ** 2 - chance)
            if current.size and expected.size:
                found = distance.cells(expected, current)
                apart = _distance(expected, current, grid)
                distances.append(apart**2 - KOLMOGOROV_SECOND_MOMENT / found.effective)
                effects.append((found.statistic - found.degrees) / found.effective if found.degrees else 0.0)
    return Wobble(_root(distances), max(0.0, _mean(effects)), days, _root(missing))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _root(squares: Sequence[float]) -> float:
    return float(np.sqrt(max(0.0, _mean(squares))))


def _distance(expected: Profile, current: Profile, grid: Grid) -> float:
    if grid.kind.is_ordered:
        return distance.ks(expected, current, grid).low
    return abs(distance.largest_cell(expected, current)[1])


def _windows(hours: Sequence[Hour], window: int, stride: int) -> list[Sequence[Hour]]:
    """Windows of a length within a week, each the hours of (end - window, end], with half of them at least."""
    ends = [hour.as_of for hour in hours][::stride] if window < len(hours) else [hours[-1].as_of]
    found = [within(hours, end, window) for end in ends]
    return [part for part in found if 2 * len(part) >= min(window, len(hours))]


def _longer_is_no_worse(wobble: Mapping[int, Wobble]) -> dict[int, Wobble]:
    """A window of a week was seen four times only, but it is a mean of days, which strays no further than its parts.

    (The sup-norm is convex: by Jensen's inequality the mean square of the mean is at most the mean of the squares.)
    """
    result: dict[int, Wobble] = {}
    known: Wobble | None = None
    for window, found in sorted(wobble.items()):
        if window > LONGEST_SEEN_OFTEN and known is not None:
            found = Wobble(
                max(found.distance, known.distance),
                max(found.cells, known.cells),
                found.days,
                max(found.missing, known.missing),
            )
        result[window] = known = found
    return result


LONGEST_SEEN_OFTEN = 24
