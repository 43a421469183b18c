"""Streams of hours that do not drift: what their values look like, and how their hours hang together.

A value is Q(Phi(z)): z is normal with the hour's mean and a variance of 1, Phi its distribution function, Q the
marginal's quantiles. Seasons, wobbles and shifts move z, so "0.25 sigma" means the same for every marginal, and the
chance of each cell of a grid is known exactly: an hour's counts can be drawn without drawing its values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from scipy import special, stats

from features.drift.hours import Hour
from features.drift.sketch import Counts, Floats, Grid, Sketch

START = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday
LEVELS = 20
PER_ENTITY = 20
# Of the population, the part that shows up in an hour, so that each of it comes about seven times a week.
HOURLY_PART = 24
GRID_ROWS = 50_000
HOURS_OF_A_WEEK = 168

_LEVEL_ENDS = np.cumsum(1 / np.arange(1, LEVELS + 1)) / np.sum(1 / np.arange(1, LEVELS + 1))


@dataclass(frozen=True)
class Marginal:
    """What values are like.

    Attributes:
        quantile: the value at a probability; of categories their number.
        below: P(X < x).
        names: of categories, by number; empty when values have an order.
    """

    name: str
    quantile: Callable[[Floats], Floats]
    below: Callable[[Floats], Floats]
    names: tuple[str, ...] = ()

    def values(self, rng: np.random.Generator, rows: int, mean: float = 0.0, scale: float = 1.0) -> Floats:
        """Values of an hour; of categories their numbers."""
        return self.at(rng.standard_normal(rows) * scale + mean)

    def at(self, latent: Floats) -> Floats:
        """The values behind latent ones."""
        return self.quantile(special.ndtr(latent))

    def array(self, values: Floats) -> np.ndarray:
        """Values as the monitor reads them: numbers, or names with None for what is missing."""
        if not self.names:
            return values
        known = np.array([*self.names, "never seen before", None], dtype=object)
        return known[np.where(np.isnan(values), len(known) - 1, np.minimum(values, len(known) - 2)).astype(int)]

    def grid(self, rng: np.random.Generator) -> Grid:
        """The cells that a baseline of this marginal would have."""
        return Grid.of(self.array(self.values(rng, GRID_ROWS)))


def _zero_inflated(p: Floats) -> Floats:
    return np.where(p < 0.4, 0.0, np.exp(special.ndtri(np.clip((p - 0.4) / 0.6, 1e-15, 1 - 1e-15))))


def _bimodal(p: Floats) -> Floats:
    lower = p < 0.5
    return np.where(lower, -2.0, 2.0) + 0.5 * special.ndtri(np.clip(2 * p - ~lower, 1e-15, 1 - 1e-15))


def _log(x: Floats) -> Floats:
    return np.log(np.maximum(x, 1e-300))


MARGINALS = {
    marginal.name: marginal
    for marginal in (
        Marginal("normal", special.ndtri, special.ndtr),
        Marginal("lognormal", lambda p: np.exp(special.ndtri(p)), lambda x: special.ndtr(_log(x))),
        Marginal("zero-inflated", _zero_inflated, lambda x: np.where(x <= 0, 0.0, 0.4 + 0.6 * special.ndtr(_log(x)))),
        Marginal("Poisson", lambda p: stats.poisson.ppf(p, 4.0), lambda x: stats.poisson.cdf(np.ceil(x) - 1, 4.0)),
        Marginal(
            "Zipf",
            lambda p: np.searchsorted(_LEVEL_ENDS[:-1], p, side="right").astype(float),
            lambda x: np.concatenate(([0.0], _LEVEL_ENDS))[np.asarray(x, dtype=int)],
            tuple(f"level {number:02d}" for number in range(LEVELS)),
        ),
        Marginal(
            "boolean",
            lambda p: (p >= 0.7).astype(float),
            lambda x: np.array([0.0, 0.7, 1.0])[np.asarray(x, dtype=int)],
            ("false", "true"),
        ),
        Marginal(
            "bimodal",
            _bimodal,
            lambda x: 0.5 * special.ndtr((x + 2) / 0.5) + 0.5 * special.ndtr((x - 2) / 0.5),
        ),
    )
}


class Cells:
    """The chance of each cell of a grid, and the sketch that counts in them make."""

    def __init__(self, marginal: Marginal, grid: Grid) -> None:
        """Knows where the marginal's latent values change cells."""
        self.grid, self.marginal = grid, marginal
        if grid.kind.is_ordered:
            below = marginal.below(np.asarray(grid.edges))
            ends = np.concatenate(([0.0], below, [1.0]))
            self._middles = marginal.quantile((ends[:-1] + ends[1:]) / 2)
            self._ends = special.ndtri(ends)
            return
        places = {name: min(place, grid.named) for place, name in enumerate(grid.categories)}
        self._cell_of = np.array([places.get(name, grid.named + 1) for name in marginal.names])
        self._middles = np.zeros(grid.cells)
        self._ends = special.ndtri(marginal.below(np.arange(len(marginal.names) + 1, dtype=np.float64)))

    def chances(self, mean: float) -> Floats:
        """Of each cell, when the latent mean is this."""
        chances = np.diff(special.ndtr(self._ends - mean))
        if self.grid.kind.is_ordered:
            return chances
        return np.bincount(self._cell_of, weights=chances, minlength=self.grid.cells).astype(float)

    def sketch(self, counts: Counts) -> Sketch:
        """The sketch; all values of a cell are taken to be its middle one."""
        if not self.grid.kind.is_ordered:
            return Sketch(counts, np.zeros(self.grid.cells))
        used: Floats = np.where(counts > 0, self._middles, 0.0)
        return Sketch(counts, counts * used, float(counts @ np.square(used - self.grid.centre)))


@dataclass(frozen=True)
class Structure:
    """How hours hang together.

    Attributes:
        season: amplitude in sigma over the day; half of it over the week. With one, traffic has a daily season too.
        wobble: standard deviation of the hours' means, and memory: their autocorrelation from hour to hour.
        per_entity: rows that each entity has in an hour, all alike.
        is_returning: an hour's entities are some of the week's, who show the same value each time.
    """

    name: str
    season: float = 0.0
    wobble: float = 0.0
    memory: float = 0.0
    per_entity: int = 1
    is_returning: bool = False

    def means(self, rng: np.random.Generator, hours: int) -> Floats:
        """The latent mean of each hour."""
        clock = np.arange(hours)
        season = self.season * (np.sin(2 * np.pi * clock / 24) + 0.5 * np.sin(2 * np.pi * clock / HOURS_OF_A_WEEK))
        noise = rng.standard_normal(hours)
        for hour in range(1, hours if self.memory else 0):
            noise[hour] = self.memory * noise[hour - 1] + np.sqrt(1 - self.memory**2) * noise[hour]
        return season + self.wobble * noise

    def rows(self, rows: int, hours: int) -> list[int]:
        """Entities' rows of each hour before they are repeated: with a season, traffic halves at night."""
        clock = np.arange(hours)
        swing = 0.5 * np.sin(2 * np.pi * (clock - 6) / 24) if self.season else np.zeros(hours)
        base = rows // PER_ENTITY if self.per_entity > 1 or self.is_returning else rows
        return [max(1, round(base * (1 + part))) for part in swing]

    def entities(self, rows: Sequence[int], first: int, last: int) -> float:
        """Distinct entities, as expected, of the hours from `first` to before `last`."""
        if not self.is_returning:
            return float(sum(rows[first:last]))
        total = 0.0
        for week in range(first // HOURS_OF_A_WEEK, (last - 1) // HOURS_OF_A_WEEK + 1):
            start, end = max(first, week * HOURS_OF_A_WEEK), min(last, (week + 1) * HOURS_OF_A_WEEK)
            population = rows[start] * HOURLY_PART
            total += population * (1 - (1 - 1 / HOURLY_PART) ** (end - start))
        return total


STRUCTURES = {
    structure.name: structure
    for structure in (
        Structure("iid"),
        Structure("seasonal", season=0.3),
        Structure("wobble", wobble=0.03),
        Structure("wobble AR(1)", wobble=0.03, memory=0.9),
        Structure("clustered", per_entity=PER_ENTITY),
        Structure("de-duplicated", is_returning=True),
        Structure("season and wobble", season=0.2, wobble=0.02),
    )
}


def counted_hours(
    structure: Structure, cells: Cells, rng: np.random.Generator, rows: int, hours: int
) -> tuple[list[Hour], list[int]]:
    """A stream's hours by drawing their counts, and the entities' rows in each; a million rows cost what ten do."""
    means, sizes = structure.means(rng, hours), structure.rows(rows, hours)
    found: list[Hour] = []
    population: Counts = np.empty(0, dtype=np.int64)
    for hour in range(hours):
        if structure.is_returning:
            if hour % HOURS_OF_A_WEEK == 0:
                population = rng.multinomial(sizes[hour] * HOURLY_PART, cells.chances(0.0))
            counts = rng.multivariate_hypergeometric(population, sizes[hour], method="marginals")
        else:
            counts = rng.multinomial(sizes[hour], cells.chances(means[hour])) * structure.per_entity
        at = START + timedelta(hours=hour)
        found.append(Hour(at, cells.sketch(counts.astype(np.int64)), float(sizes[hour])))
    return found, sizes


def arrays(structure: Structure, marginal: Marginal, rng: np.random.Generator, rows: int, hours: int) -> list[Floats]:
    """The latent values of each hour of a stream without clusters."""
    means = structure.means(rng, hours)
    return [rng.standard_normal(rows) + mean for mean in means]
