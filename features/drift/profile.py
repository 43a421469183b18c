"""Distributions on a grid, and what to expect of a window of hours.

The expected distribution of a window mixes the baseline's hours of the week in the proportions in which the window has
rows of them (post-stratification), so that a change of traffic over the day is not taken for drift. An hour of the week
the baseline saw rarely borrows from its hour of the day, and that from all hours.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

import numpy as np

from features.drift.sketch import Floats, Grid, Sketch

# An hour of the week is weighed against its parent as if the parent had been seen this many rows more.
BORROWED_ROWS = 50.0


@dataclass(frozen=True)
class Profile:
    """A distribution.

    Attributes:
        shares: of the values in each cell; they sum to 1, or are all 0 when there is no value.
        moments: what each cell contributes to the mean.
        square: mean squared distance from the grid's centre.
        missing, not_finite, invalid: shares of all rows.
        size: entities that the shares rest on; with n of them, chance moves a share by about 1/sqrt(n).
        seen: entities counted, those without a value included.
    """

    shares: Floats
    moments: Floats
    square: float
    missing: float
    not_finite: float
    invalid: float
    size: float
    seen: float

    @classmethod
    def of(cls, sketch: Sketch, entities: float | None = None) -> "Profile":
        """The distribution of a sketch.

        Args:
            entities: how many distinct ones its rows belong to; several rows of one entity are one piece of evidence.
        """
        rows, given = sketch.rows, sketch.given
        seen = float(rows if entities is None else min(entities, rows))
        return cls(
            shares=sketch.counts / max(given, 1),
            moments=sketch.sums / max(given, 1),
            square=sketch.squares / max(given, 1),
            missing=sketch.missing / max(rows, 1),
            not_finite=sketch.not_finite / max(rows, 1),
            invalid=sketch.invalid / max(rows, 1),
            size=seen * given / max(rows, 1),
            seen=seen,
        )

    @property
    def mean(self) -> float | None:
        """Of the values; None without any."""
        return float(self.moments.sum()) if self.size else None

    def std(self, grid: Grid) -> float | None:
        """Standard deviation of the values (divided by n); None without any."""
        if self.mean is None:
            return None
        return float(np.sqrt(max(self.square - (self.mean - grid.centre) ** 2, 0.0)))


def mix(parts: Sequence[tuple[Profile, float]]) -> Profile:
    """The mixture of distributions that were measured independently, with weights that sum to 1.

    Its size is that of the weighted mean's variance: 1 / size = sum of weight squared / size.
    """
    profiles = [profile for profile, _ in parts]
    weights = np.array([weight for _, weight in parts])

    def mean(name: str) -> float:
        return float(weights @ np.array([getattr(profile, name) for profile in profiles]))

    def size(name: str) -> float:
        sizes = np.array([getattr(profile, name) for profile in profiles])
        used = weights > 0
        return float(1 / np.sum(weights[used] ** 2 / sizes[used])) if np.all(sizes[used] > 0) else 0.0

    return Profile(
        shares=weights @ np.array([profile.shares for profile in profiles]),
        moments=weights @ np.array([profile.moments for profile in profiles]),
        square=mean("square"),
        missing=mean("missing"),
        not_finite=mean("not_finite"),
        invalid=mean("invalid"),
        size=size("size"),
        seen=size("seen"),
    )


def slot_of(as_of: datetime) -> int:
    """Which hour of the week, from Monday 00:00 UTC."""
    return as_of.weekday() * 24 + as_of.hour


@dataclass(frozen=True)
class Wobble:
    """How far a window strays from what is expected of it although all is well.

    Attributes:
        distance: standard deviation of the KS distance beyond what chance explains.
        cells: the same in Cohen's w squared.
        days: of clean history it was learnt from.
        missing: the same, of the share of missing values.
    """

    distance: float
    cells: float
    days: int
    missing: float = 0.0


@dataclass(frozen=True)
class Baseline:
    """What a feature is compared with.

    Attributes:
        whole: everything in it.
        entities: distinct ones in it.
        slots: its hours of the week, each with its distinct entities; only those it has rows of.
        wobble: by window in hours; empty until there are four clean weeks to learn from.
    """

    grid: Grid
    whole: Sketch
    entities: float
    slots: Mapping[int, tuple[Sketch, float]] = field(default_factory=dict)
    wobble: Mapping[int, Wobble] = field(default_factory=dict)

    @cached_property
    def profile(self) -> Profile:
        """All hours together."""
        return Profile.of(self.whole, self.entities)

    def expected(
        self, hours: Iterable[tuple[datetime, int]], rows: Iterable[tuple[datetime, int]] | None = None
    ) -> Profile:
        """What a window should look like.

        Args:
            hours: of the window, each with its number of values.
            rows: each with its number of rows, those without a value included; by default the same.
        """
        of_values = self._mixture(hours)
        if rows is None or of_values is self.profile:
            return of_values
        of_rows = self._mixture(rows)
        names = ("missing", "not_finite", "invalid", "seen")
        return replace(of_values, **{name: getattr(of_rows, name) for name in names})

    def _mixture(self, hours: Iterable[tuple[datetime, int]]) -> Profile:
        counts: dict[int, int] = defaultdict(int)
        for as_of, count in hours:
            counts[slot_of(as_of)] += count
        total = sum(counts.values())
        if not total or not self.slots:
            return self.profile
        mixture = mix([(self._slot(slot), count / total) for slot, count in counts.items() if count])
        return _no_surer_than(mixture, self.profile)

    def _slot(self, slot: int) -> Profile:
        if slot not in self._slots:
            self._slots[slot] = self._borrowing(slot)
        return self._slots[slot]

    @cached_property
    def _slots(self) -> dict[int, Profile]:
        return {}

    @cached_property
    def _hours_of_day(self) -> dict[int, Profile]:
        found: dict[int, list[tuple[Sketch, float]]] = defaultdict(list)
        for slot, part in self.slots.items():
            found[slot % 24].append(part)
        return {
            # Whether they are the same entities each day is not known; the fewest they can be is the most of a day.
            hour: self._borrow(
                Sketch.total([sketch for sketch, _ in parts], self.grid), max(n for _, n in parts), self.profile
            )
            for hour, parts in found.items()
        }

    def _borrowing(self, slot: int) -> Profile:
        parent = self._hours_of_day.get(slot % 24, self.profile)
        if slot not in self.slots:
            return parent
        return self._borrow(*self.slots[slot], parent)

    @staticmethod
    def _borrow(sketch: Sketch, entities: float, parent: Profile) -> Profile:
        own = sketch.rows / (sketch.rows + BORROWED_ROWS)
        profile = Profile.of(sketch, entities)
        return mix([(profile, own), (parent, 1 - own)]) if profile.size else parent


def _no_surer_than(mixture: Profile, whole: Profile) -> Profile:
    """The hours of a week may show the same entities again, so a mixture of them rests on no more than the whole."""
    return replace(mixture, size=min(mixture.size, whole.size), seen=min(mixture.seen, whole.seen))
