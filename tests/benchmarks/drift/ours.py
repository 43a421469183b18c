"""The monitor under test, hour by hour, exactly as it decides in the warehouse."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from features.contract import DriftSettings
from features.drift.decision import Budget
from features.drift.hours import Hour, expected_of
from features.drift.profile import Baseline, Profile
from features.drift.report import FeatureDriftReport, Subject, compare
from features.drift.sketch import Counts, Floats, Grid, Sketch
from tests.benchmarks.drift import settings

BUDGET = Budget(settings.FALSE_ALARMS_PER_WEEK, settings.COMPARISONS)
DEFAULTS = DriftSettings()
# Distinct entities of the hours from one place to before another.
Entities = Callable[[int, int], float]


@dataclass
class Alarms:
    """What the monitor said of some hours.

    Attributes:
        hours: looked at, and loud: those with a warning or worse in any window.
        runs: of loud hours without a quiet one between.
        by: how often each (window, family) was the one that decided.
        first: hours until the first alarm, counted from 1; None without any.
    """

    hours: int = 0
    loud: int = 0
    runs: int = 0
    by: Counter[str] = field(default_factory=Counter)
    first: int | None = None

    def add(self, other: "Alarms") -> None:
        """Takes another feature's in."""
        self.hours += other.hours
        self.loud += other.loud
        self.runs += other.runs
        self.by.update(other.by)


class Rolling:
    """Sums of the last hours by subtraction, as a warehouse gets them by adding rows."""

    def __init__(self, hours: Sequence[Hour], grid: Grid) -> None:
        """Adds up all hours once."""
        self.hours = hours
        sketches = [Sketch.empty(grid), *(hour.sketch for hour in hours)]
        self._counts: Counts = np.cumsum([sketch.counts for sketch in sketches], axis=0)
        self._sums: Floats = np.cumsum([sketch.sums for sketch in sketches], axis=0)
        self._squares = np.cumsum([sketch.squares for sketch in sketches])
        self._missing = np.cumsum([sketch.missing for sketch in sketches])

    def sketch(self, first: int, last: int) -> Sketch:
        """Of the hours from `first` to before `last`."""
        return Sketch(
            self._counts[last] - self._counts[first],
            self._sums[last] - self._sums[first],
            float(self._squares[last] - self._squares[first]),
            int(self._missing[last] - self._missing[first]),
        )


def reports(hours: Rolling, place: int, baseline: Baseline, entities: Entities) -> Iterator[FeatureDriftReport]:
    """One report for each window that ends with the hour at `place`."""
    for window in settings.WINDOWS:
        first = max(0, place + 1 - window)
        current = Profile.of(hours.sketch(first, place + 1), entities(first, place + 1))
        inside = hours.hours[first : place + 1]
        subject = Subject("feature", hours.hours[place].as_of, window_hours=window, baseline="serving")
        yield compare(subject, current, baseline, expected_of(baseline, inside), DEFAULTS, BUDGET.alpha)


def watch(
    hours: Sequence[Hour],
    start: int,
    baseline: Baseline,
    entities: Entities,
    *,
    until_found: bool = False,
) -> Alarms:
    """Judges each hour from `start` on; those before only fill the windows."""
    rolling, found, was_loud = Rolling(hours, baseline.grid), Alarms(), False
    for place in range(start, len(hours)):
        loud = [report for report in reports(rolling, place, baseline, entities) if report.drift_detected]
        found.hours += 1
        found.by.update(f"{report.subject.window_hours} h {report.decided_by}" for report in loud)
        found.loud += bool(loud)
        found.runs += bool(loud) and not was_loud
        was_loud = bool(loud)
        if loud and found.first is None:
            found.first = place - start + 1
            if until_found:
                break
    return found
