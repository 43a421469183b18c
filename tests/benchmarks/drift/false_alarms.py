"""Alarms where nothing drifts: ours, over sizes and structures, by drawing the counts of each hour."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from features.drift.calibration import baseline_of_hours
from tests.benchmarks.drift import ours, settings, streams
from tests.benchmarks.drift.settings import HOURS_OF_A_WEEK, Scale

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rate:
    """Alarms of one setting.

    Attributes:
        feature_weeks: looked at.
        alarms: (feature, hour) pairs with a warning or worse in any window.
        runs: uninterrupted ones.
        by: which marginal, window and family decided, with how often.
    """

    structure: str
    rows: int
    feature_weeks: float
    alarms: int
    runs: int
    by: dict[str, int]

    @property
    def per_week(self) -> float:
        """A week, of 100 features."""
        return 100 * self.alarms / self.feature_weeks

    @property
    def interval(self) -> tuple[float, float]:
        """Of `per_week`, as if alarms came one by one (Garwood 1936)."""
        low, high = poisson_interval(self.alarms)
        return 100 * low / self.feature_weeks, 100 * high / self.feature_weeks


def poisson_interval(events: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact two-sided interval of a Poisson mean of which so many events were seen."""
    tail = (1 - confidence) / 2
    low = float(stats.chi2.ppf(tail, 2 * events) / 2) if events else 0.0
    return low, float(stats.chi2.isf(tail, 2 * events + 2) / 2)


def measure(scale: Scale, say: Callable[[str], None]) -> Iterator[Rate]:
    """The rate of each structure and size."""
    for structure in scale.structures:
        for rows in scale.sizes:
            rate = measure_one(structure, rows, scale.features, scale.weeks)
            say(f"{structure}, {rows:,} rows an hour: {rate.alarms} alarms in {rate.feature_weeks:g} feature-weeks")
            yield rate


def measure_one(structure: str, rows: int, features: int, weeks: int) -> Rate:
    """All marginals in one setting, each with baselines of its own."""
    total = ours.Alarms()
    for number, marginal in enumerate(settings.MARGINALS):
        for feature in range(features):
            seed = [settings.SEED, list(streams.STRUCTURES).index(structure), rows, number, feature]
            found = one_feature(structure, marginal, rows, weeks, np.random.default_rng(seed))
            found.by = Counter({f"{marginal} {decided}": count for decided, count in found.by.items()})
            total.add(found)
    return Rate(structure, rows, total.hours / HOURS_OF_A_WEEK, total.loud, total.runs, dict(total.by.most_common()))


def one_feature(structure: str, marginal: str, rows: int, weeks: int, rng: np.random.Generator) -> ours.Alarms:
    """Four weeks make the baseline, one fills the windows, the others are judged."""
    how, what = streams.STRUCTURES[structure], streams.MARGINALS[marginal]
    cells = streams.Cells(what, what.grid(rng))
    clean = settings.BASELINE_WEEKS * HOURS_OF_A_WEEK
    filling = settings.FILLING_WEEKS * HOURS_OF_A_WEEK
    hours, sizes = streams.counted_hours(how, cells, rng, rows, clean + filling + weeks * HOURS_OF_A_WEEK)
    known = how.entities(sizes, 0, clean)
    baseline = baseline_of_hours(hours[:clean], cells.grid, known, settings.WINDOWS)
    return ours.watch(
        hours[clean:], filling, baseline, lambda first, last: how.entities(sizes, clean + first, clean + last)
    )
