"""Everybody on the same arrays: alarms where nothing drifts, and how soon a shift is found.

The contenders judge each hour by itself, as they come. Ours has its four windows. Each contender is also given the
threshold at which it would be as quiet as the quietest that the calibration can tell: the largest statistic of weeks
without drift, of its kind of values.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from features.drift.calibration import baseline_of_hours
from features.drift.hours import Hour
from features.drift.profile import Baseline
from features.drift.sketch import Floats, Grid, Sketch
from tests.benchmarks import peer_venv
from tests.benchmarks.drift import contenders, ours, settings, streams
from tests.benchmarks.drift.contenders import Judged
from tests.benchmarks.drift.settings import HOURS_OF_A_WEEK, Scale
from tests.benchmarks.drift.shifts import SHIFTS, Shift

OURS, ARTICLE, EVIDENTLY, NANNYML = "Skewless", "the article's rule", "Evidently", "NannyML"
CALM = "no drift"
CALIBRATION = "calibration"
CLEAN = settings.BASELINE_WEEKS * HOURS_OF_A_WEEK


@dataclass(frozen=True)
class Found:
    """How one contender did on one shift, or on none.

    Attributes:
        first: hours until the first alarm of each column, None without any within `hours`.
        alarms: (column, hour) pairs that alarm; of ours until the first when a shift is looked for.
        is_recalibrated: with the threshold of weeks without drift instead of its own.
    """

    structure: str
    rows: int
    contender: str
    shift: str
    hours: int
    first: list[int | None]
    alarms: int
    is_recalibrated: bool = False


@dataclass(frozen=True)
class Past:
    """What a contender is told of the clean weeks.

    Attributes:
        hours: all of their rows as [hours, rows, columns].
        sample: of those rows.
        categories: which columns are categories.
    """

    hours: Floats
    sample: Floats
    categories: list[bool]

    def only(self, kept: list[int]) -> "Past":
        """Of some columns."""
        return Past(self.hours[:, :, kept], self.sample[:, kept], [self.categories[place] for place in kept])


class Arena:
    """One setting's streams: of each column four clean weeks, a week that fills the windows, and what comes then."""

    def __init__(self, structure: str, marginals: Sequence[str], rows: int, seed: Sequence[int]) -> None:
        """Draws the columns' clean weeks."""
        self.structure, self.rows = streams.STRUCTURES[structure], rows
        self.marginals = [streams.MARGINALS[name] for name in marginals]
        self._seed = list(seed)
        self._latent = self._draw(1, CLEAN + HOURS_OF_A_WEEK)

    def _draw(self, part: int, hours: int) -> list[list[Floats]]:
        """Latent values by column and hour."""
        return [
            streams.arrays(
                self.structure, marginal, np.random.default_rng([*self._seed, part, place]), self.rows, hours
            )
            for place, marginal in enumerate(self.marginals)
        ]

    @cached_property
    def past(self) -> Past:
        """The clean weeks."""
        hours = self._values([column[:CLEAN] for column in self._latent])
        rows, rng = hours.reshape(-1, hours.shape[2]), np.random.default_rng([*self._seed, 9])
        chosen = rng.choice(len(rows), min(len(rows), settings.REFERENCE_ROWS), replace=False)
        return Past(hours, rows[np.sort(chosen)], [bool(marginal.names) for marginal in self.marginals])

    def _values(self, latent: Sequence[Sequence[Floats]]) -> Floats:
        return stack([
            [marginal.at(hour) for hour in column] for marginal, column in zip(self.marginals, latent, strict=True)
        ])

    def calm(self, part: int, hours: int) -> Floats:
        """More hours without drift."""
        return self._values(self._draw(part, hours))

    def shifted(self, shift: Shift, hours: int) -> tuple[Floats, list[int]]:
        """The hours after a shift, of the columns that can suffer it, and which they are."""
        places = [place for place, marginal in enumerate(self.marginals) if shift.fits(marginal)]
        latent, rng = self._draw(2, hours), np.random.default_rng([*self._seed, 8])
        changed = [
            [shift.change(self.marginals[place], values, hour, rng) for hour, values in enumerate(latent[place], 1)]
            for place in places
        ]
        return stack(changed), places

    @cached_property
    def monitored(self) -> list[tuple[Baseline, list[Hour]]]:
        """Our baseline of each column, and the hours that fill its windows."""
        found = []
        for place, marginal in enumerate(self.marginals):
            grid = marginal.grid(np.random.default_rng([*self._seed, 7, place]))
            hours = self.counted(place, [marginal.at(hour) for hour in self._latent[place]], 0, grid)
            known = float(self.rows * CLEAN)
            found.append((baseline_of_hours(hours[:CLEAN], grid, known, settings.WINDOWS), hours[CLEAN:]))
        return found

    def counted(self, place: int, values: Sequence[Floats], start: int, grid: Grid) -> list[Hour]:
        """A column's hours as the warehouse counts them."""
        marginal = self.marginals[place]
        return [
            Hour(
                streams.START + timedelta(hours=start + hour),
                Sketch.of(marginal.array(each), grid),
                float(len(each)),
            )
            for hour, each in enumerate(values)
        ]


def stack(columns: Sequence[Sequence[Floats]]) -> Floats:
    """Columns of hours of values as [hours, rows, columns]."""
    return np.stack([np.stack(column) for column in columns], axis=2)


def _entities_between(ends: Floats, first: int, last: int) -> float:
    return float(ends[last] - ends[first])


def ours_on(arena: Arena, hours: Floats, places: Sequence[int], *, until_found: bool) -> list[ours.Alarms]:
    """Our alarms in each of the columns given."""
    found = []
    for column, place in enumerate(places):
        baseline, filling = arena.monitored[place]
        later = arena.counted(place, list(hours[:, :, column]), CLEAN + len(filling), baseline.grid)
        whole = [*filling, *later]
        ends = np.concatenate(([0.0], np.cumsum([hour.entities for hour in whole])))
        found.append(
            ours.watch(
                whole,
                len(filling),
                baseline,
                partial(_entities_between, ends),
                until_found=until_found,
            )
        )
    return found


def rivals_on(past: Past, sets: Mapping[str, Floats], run_dir: Path, report_hours: int) -> dict[str, dict[str, Judged]]:
    """What each contender says of each set; all columns of the past have to be in it."""
    place = contenders.bench(run_dir)
    work = place.folder("drift")
    python = {
        EVIDENTLY: peer_venv.ensure(place, "evidently", contenders.EVIDENTLY),
        NANNYML: peer_venv.ensure(place, "nannyml", contenders.NANNYML),
    }
    return {
        ARTICLE: contenders.article(past.sample, sets),
        EVIDENTLY: contenders.package(
            "evidently", python[EVIDENTLY], work, past.sample, sets, past.categories, report_hours
        ),
        NANNYML: contenders.package("nannyml", python[NANNYML], work, past.hours, sets, past.categories),
    }


def first_alarm(alarm: np.ndarray) -> int | None:
    """Hours until the first, counted from 1."""
    return int(np.argmax(alarm)) + 1 if alarm.any() else None


def calm_duel(structure: str, rows: int, scale: Scale, run_dir: Path) -> list[Found]:
    """Everybody's alarms in a week without drift."""
    arena = Arena(structure, settings.MARGINALS, rows, [settings.SEED, 1, rows, len(structure)])
    hours = arena.calm(3, HOURS_OF_A_WEEK)
    found = [_ours_found(arena, CALM, hours, range(len(arena.marginals)))]
    for name, judged in rivals_on(arena.past, {CALM: hours}, run_dir, scale.report_hours).items():
        alarm = judged[CALM].alarm
        first = [first_alarm(column) for column in alarm.T]
        found.append(Found(structure, rows, name, CALM, len(hours), first, int(alarm.sum())))
    return found


def _ours_found(arena: Arena, shift: str, hours: Floats, places: Sequence[int]) -> Found:
    mine = ours_on(arena, hours, places, until_found=shift != CALM)
    first, loud = [each.first for each in mine], sum(each.loud for each in mine)
    return Found(arena.structure.name, arena.rows, OURS, shift, len(hours), first, loud)


def shift_duel(rows: int, scale: Scale, run_dir: Path, say: Callable[[str], None]) -> list[Found]:
    """How soon everybody finds each shift."""
    marginals = settings.SHIFTED_MARGINALS[: scale.columns]
    arena = Arena(settings.SHIFTED_STRUCTURE, marginals, rows, [settings.SEED, 2, rows])
    calm = arena.calm(3, HOURS_OF_A_WEEK)
    found = [_ours_found(arena, CALM, calm, range(len(arena.marginals)))]
    for shift in SHIFTS:
        found.append(_ours_found(arena, shift.name, *arena.shifted(shift, scale.horizon)))
    say(f"shifts at {rows:,} rows an hour: ours are found, the contenders' turn")
    for kind in (False, True):
        found += _rivals_of_kind(arena, kind, scale, run_dir)
    return found


def _rivals_of_kind(arena: Arena, are_categories: bool, scale: Scale, run_dir: Path) -> list[Found]:
    """The contenders on the columns of one kind, so that all columns of a set have as many rows."""
    names = [marginal.name for marginal in arena.marginals]
    kept = [place for place, each in enumerate(arena.past.categories) if each is are_categories]
    sets = {
        CALIBRATION: arena.calm(4, scale.calibration_weeks * HOURS_OF_A_WEEK)[:, :, kept],
        CALM: arena.calm(3, HOURS_OF_A_WEEK)[:, :, kept],
    }
    for shift in SHIFTS:
        if any(shift.fits(arena.marginals[place]) for place in kept):
            hours, places = arena.shifted(shift, scale.horizon)
            sets[shift.name] = hours[:, :, [places.index(place) for place in kept]]
    found = []
    for contender, judged in rivals_on(arena.past.only(kept), sets, run_dir, 0).items():
        quietest = thresholds(judged[CALIBRATION].statistic, [names[place] for place in kept])
        for name, each in judged.items():
            if name != CALIBRATION:
                found += _both(arena, contender, name, each, quietest)
    return found


def thresholds(statistic: Floats, groups: Sequence[str]) -> Floats:
    """Of each column: the largest statistic that any column of its group has without drift."""
    largest = {
        group: np.nanmax(statistic[:, [place for place, name in enumerate(groups) if name == group]])
        for group in groups
    }
    return np.array([largest[group] for group in groups])


def _both(arena: Arena, contender: str, shift: str, judged: Judged, quietest: Floats) -> list[Found]:
    """A contender at its defaults and recalibrated."""
    alarms = {False: judged.alarm, True: judged.statistic > quietest}
    return [
        Found(
            arena.structure.name,
            arena.rows,
            contender,
            shift,
            len(alarm),
            [first_alarm(column) for column in alarm.T],
            int(alarm.sum()),
            is_recalibrated,
        )
        for is_recalibrated, alarm in alarms.items()
    ]
