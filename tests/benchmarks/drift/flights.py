"""The monitor on a real stream: the flights that left New York in 2013, hour by hour, an aircraft being the entity.

Again and again through the year, four weeks make the baseline and the next two are judged. Nobody knows which of these
weeks drifted: storms and timetables are real. September to November, before Thanksgiving, is the calm part of the year.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import stats

from features.drift.calibration import baseline_of_hours
from features.drift.hours import Hour
from features.drift.profile import Baseline
from features.drift.sketch import Grid, Sketch
from tests.benchmarks.drift import ours, settings
from tests.benchmarks.drift.duel import ARTICLE, CLEAN, OURS
from tests.benchmarks.drift.settings import HOURS_OF_A_WEEK

FEATURES = ("dep_delay", "arr_delay", "air_time", "distance", "carrier", "origin")
NUMBERS = FEATURES[:4]
FIRST = datetime(2013, 1, 7, tzinfo=UTC)  # a Monday
WEEKS = 51
JUDGED_WEEKS = 2
CALM = (datetime(2013, 9, 2, tzinfo=UTC), datetime(2013, 11, 25, tzinfo=UTC))

Change = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]


@dataclass(frozen=True)
class Quiet:
    """Alarms of one feature in weeks that nobody tampered with.

    Attributes:
        weeks: judged, and loud_weeks: those with an alarm.
    """

    contender: str
    feature: str
    is_calm: bool
    weeks: int
    alarms: int
    runs: int
    loud_weeks: int
    by: dict[str, int]


@dataclass(frozen=True)
class Injected:
    """How soon a change of the flights was found, counted from 1; None where it was not within two weeks.

    Attributes:
        without: the same of the same weeks without the change.
    """

    shift: str
    feature: str
    first: list[int | None]
    without: list[int | None]


def _some(frame: pd.DataFrame, rng: np.random.Generator, share: float) -> np.ndarray:
    return rng.random(len(frame)) < share


def _set(feature: str, share: float, change: Callable[[pd.Series], object]) -> Change:
    def changed(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        chosen = _some(frame, rng, share)
        return frame.assign(**{feature: frame[feature].mask(chosen, change(frame[feature]))})

    return changed


SHIFTS: tuple[tuple[str, str, Change], ...] = (
    ("15 minutes later", "dep_delay", _set("dep_delay", 1.0, lambda values: values + 15)),
    ("10 % of rows x 60", "dep_delay", _set("dep_delay", 0.1, lambda values: values * 60)),
    ("5 % of rows are NULL", "arr_delay", _set("arr_delay", 0.05, lambda values: np.nan)),
    ("5 % of rows are 0", "air_time", _set("air_time", 0.05, lambda values: 0.0)),
    ("kilometres, not miles", "distance", _set("distance", 1.0, lambda values: values * 1.609344)),
    ("5 % of rows are a new category", "carrier", _set("carrier", 0.05, lambda values: "new")),
    ("the largest carrier is gone", "distance", lambda frame, rng: frame[frame["carrier"] != "UA"]),
)


class Flights:
    """The flights, one per aircraft and hour of its scheduled departure."""

    def __init__(self, flights: pd.DataFrame) -> None:
        """Sorts them into hours from the first Monday on."""
        at = pd.to_datetime(flights["time_hour"], utc=True)
        hour = ((at - pd.Timestamp(FIRST)) // pd.Timedelta(hours=1)).astype(int)
        known = flights.assign(hour=hour, aircraft=pd.factorize(flights["tailnum"])[0])
        known = known[(hour >= 0) & (hour < WEEKS * HOURS_OF_A_WEEK) & (known["aircraft"] >= 0)]
        self.rows = known.drop_duplicates(["hour", "aircraft"]).sort_values("hour", kind="stable")
        self._ends = np.searchsorted(self.rows["hour"].to_numpy(), np.arange(WEEKS * HOURS_OF_A_WEEK + 1))
        self._aircraft = self.rows["aircraft"].to_numpy()

    def between(self, first: int, last: int) -> pd.DataFrame:
        """The rows of the hours from `first` to before `last`."""
        return self.rows.iloc[self._ends[first] : self._ends[last]]

    @cache  # noqa: B019 - there is one, and it lives as long as the run
    def aircraft(self, first: int, last: int) -> float:
        """Distinct ones in these hours."""
        return float(len(np.unique(self._aircraft[self._ends[first] : self._ends[last]])))

    def hours(self, rows: pd.DataFrame, feature: str, grid: Grid, first: int, last: int) -> list[Hour]:
        """A feature of some rows, counted by hour."""
        values, ends = rows[feature].to_numpy(), np.searchsorted(rows["hour"].to_numpy(), np.arange(first, last + 1))
        return [
            Hour(
                FIRST + timedelta(hours=first + place),
                Sketch.of(values[start:end], grid),
                float(end - start),
            )
            for place, (start, end) in enumerate(pairwise(ends))
        ]


@dataclass(frozen=True)
class Block:
    """A feature's clean weeks from an hour on, and its baseline of them."""

    feature: str
    first: int
    hours: list[Hour]
    baseline: Baseline

    @property
    def is_calm(self) -> bool:
        """Whether all of it, the judged weeks included, is in the calm part of the year."""
        start = FIRST + timedelta(hours=self.first)
        return CALM[0] <= start and start + timedelta(hours=CLEAN + JUDGED_WEEKS * HOURS_OF_A_WEEK) <= CALM[1]

    @property
    def judged(self) -> tuple[int, int]:
        """Its judged hours."""
        return self.first + CLEAN, self.first + CLEAN + JUDGED_WEEKS * HOURS_OF_A_WEEK


def block(flights: Flights, feature: str, first: int) -> Block:
    """Its cells come from its own clean weeks."""
    clean = flights.between(first, first + CLEAN)
    grid = Grid.of(clean[feature].to_numpy())
    hours = flights.hours(clean, feature, grid, first, first + CLEAN)
    known = flights.aircraft(first, first + CLEAN)
    return Block(feature, first, hours, baseline_of_hours(hours, grid, known, settings.WINDOWS))


def watch(flights: Flights, what: Block, rows: pd.DataFrame, *, until_found: bool) -> ours.Alarms:
    """Our alarms in the judged weeks, made of these rows."""
    hours = flights.hours(rows, what.feature, what.baseline.grid, *what.judged)

    def entities(first: int, last: int) -> float:
        return flights.aircraft(what.first + first, what.first + last)

    return ours.watch([*what.hours, *hours], CLEAN, what.baseline, entities, until_found=until_found)


def measure(flights: Flights, weeks_between: int, say: Callable[[str], None]) -> tuple[list[Quiet], list[Injected]]:
    """Alarms of untouched weeks, of ours and of the article's rule, and how soon changes are found."""
    starts = range(0, (WEEKS - settings.BASELINE_WEEKS - JUDGED_WEEKS) * HOURS_OF_A_WEEK + 1, HOURS_OF_A_WEEK)
    blocks = {
        feature: [block(flights, feature, first) for first in list(starts)[::weeks_between]] for feature in FEATURES
    }
    quiet: list[Quiet] = []
    untouched: dict[str, list[ours.Alarms]] = {}
    for feature, some in blocks.items():
        untouched[feature] = [watch(flights, each, flights.between(*each.judged), until_found=False) for each in some]
        quiet += _quiet(OURS, feature, some, untouched[feature])
        if feature in NUMBERS:
            quiet += _quiet(ARTICLE, feature, some, [_article(flights, each) for each in some])
        say(f"flights, {feature}: {sum(each.loud for each in untouched[feature])} alarms in {len(some)} blocks")
    return quiet, [_injected(flights, blocks[shift[1]], shift, untouched[shift[1]]) for shift in SHIFTS]


def _article(flights: Flights, what: Block) -> ours.Alarms:
    """KS of each hour that has flights against all of the clean weeks, missing values left out to its favour."""
    reference = flights.between(what.first, what.first + CLEAN)[what.feature].dropna().to_numpy()
    found, was_loud = ours.Alarms(), False
    for hour in range(*what.judged):
        values = flights.between(hour, hour + 1)[what.feature].dropna().to_numpy()
        loud = bool(len(values)) and bool(stats.ks_2samp(reference, values).pvalue < settings.ARTICLE_WARNING)
        found.add(ours.Alarms(1, int(loud), int(loud and not was_loud)))
        was_loud = loud
        if loud and found.first is None:
            found.first = hour - what.judged[0] + 1
    return found


def _quiet(contender: str, feature: str, blocks: Sequence[Block], alarms: Sequence[ours.Alarms]) -> Iterator[Quiet]:
    for is_calm in (True, False):
        total, loud, weeks = ours.Alarms(), 0, 0
        for each, found in zip(blocks, alarms, strict=True):
            if each.is_calm is is_calm:
                total.add(found)
                loud += found.loud > 0
                weeks += JUDGED_WEEKS
        by = dict(total.by.most_common(3))
        yield Quiet(contender, feature, is_calm, weeks, total.loud, total.runs, loud, by)


def _injected(
    flights: Flights, blocks: Sequence[Block], shift: tuple[str, str, Change], untouched: Sequence[ours.Alarms]
) -> Injected:
    name, feature, change = shift
    rng = np.random.default_rng([settings.SEED, 3])
    first = [
        watch(flights, each, change(flights.between(*each.judged), rng), until_found=True).first for each in blocks
    ]
    return Injected(name, feature, first, [each.first for each in untouched])
