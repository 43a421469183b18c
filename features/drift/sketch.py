"""Counts instead of rows: how many values fell into each cell of a fixed grid.

Two sketches of one grid add up, so the sketch of a day is the sum of its hours. The warehouse fills them in one pass
(`features.drift.store`); `Sketch.of` does the same to an array, and both put a value into the same cell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from numbers import Number
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from features.contract import Valid

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
# A feature's values: an array, or a list in which None may stand for a missing one, which ArrayLike does not allow.
Values: TypeAlias = npt.ArrayLike | Sequence[object]

# Cells of equal mass in the baseline. A value that fills one by itself gets a cell of its own.
CELLS = 64
# Categories with a cell of their own; rarer ones share one.
NAMED_CATEGORIES = 62
# Beyond it a square overflows; no measurement is that large.
LARGEST = 1e150


class Kind(StrEnum):
    """What the values of a feature are like, which decides how they are compared."""

    NUMERIC = "numeric"
    DISCRETE = "discrete"
    BOOLEAN = "boolean"
    CATEGORICAL = "categorical"

    @property
    def is_ordered(self) -> bool:
        """Whether "larger" means something."""
        return self in {Kind.NUMERIC, Kind.DISCRETE}


@dataclass(frozen=True)
class Grid:
    """Cells that never change once something was counted in them.

    Attributes:
        edges: increasing; cell k of an ordered kind holds edges[k - 1] <= x < edges[k], the first and last are open.
        categories: every known one, most frequent first. The first 62 have a cell each; then come two cells: the other
            known ones, and those never seen before.
    """

    kind: Kind
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()

    @property
    def cells(self) -> int:
        """How many there are."""
        return len(self.edges) + 1 if self.kind.is_ordered else self.named + 2

    @property
    def named(self) -> int:
        """Categories with a cell of their own."""
        return min(len(self.categories), NAMED_CATEGORIES)

    @property
    def points(self) -> npt.NDArray[np.bool_]:
        """Which cells of an ordered kind hold a single value, because the next number is the next edge."""
        edges = np.asarray(self.edges)
        between = edges[1:] == np.nextafter(edges[:-1], np.inf)
        return np.concatenate(([False], between, [False])) if len(edges) else np.zeros(1, dtype=bool)

    @property
    def centre(self) -> float:
        """What squares are measured from, so that they do not swallow small spreads around large means."""
        return self.edges[len(self.edges) // 2] if self.edges else 0.0

    def label(self, cell: int) -> str:
        """A cell in words."""
        if self.kind.is_ordered:
            low = f"{self.edges[cell - 1]:.6g}" if cell else None
            high = f"{self.edges[cell]:.6g}" if cell < len(self.edges) else None
            if low is None:
                return f"below {high}"
            if high is None or low == high:
                return f"{low} or more" if high is None else low
            return f"{low} to {high}"
        if cell < self.named:
            return self.categories[cell]
        return "rare categories" if cell == self.named else "new categories"

    @classmethod
    def numeric(cls, quantiles: Sequence[float], atoms: Sequence[float], *, atoms_are_all: bool = False) -> Self:
        """Equi-depth cells around atoms; what lies between two atoms has a cell of its own, too.

        Args:
            quantiles: of the baseline, at 1/64, 2/64, ... .
            atoms: values that are frequent enough for a cell of their own.
            atoms_are_all: the baseline has no other value.
        """
        just_above = (float(np.nextafter(atom, np.inf)) for atom in atoms)
        edges = {*map(float, () if atoms_are_all else quantiles), *map(float, atoms), *just_above}
        return cls(Kind.DISCRETE if atoms_are_all else Kind.NUMERIC, edges=tuple(sorted(edges)))

    @classmethod
    def of(cls, values: Values, *, categorical: bool = False) -> Self:
        """The grid of a baseline given as an array; missing values and NaN are left out.

        Raises:
            ValueError: when no value is left.
        """
        array = as_array(values)
        if categorical or array.dtype.kind not in "iuf":
            return cls.of_categories(array)
        known = array[usable(array.astype(np.float64))].astype(np.float64)
        if not len(known):
            raise ValueError("no value to make cells of")
        distinct, counts = np.unique(known, return_counts=True)
        if len(distinct) <= CELLS:
            return cls.numeric((), distinct.tolist(), atoms_are_all=True)
        quantiles = np.quantile(known, np.arange(1, CELLS) / CELLS, method="inverted_cdf")
        return cls.numeric(quantiles.tolist(), distinct[counts * CELLS >= len(known)].tolist())

    @classmethod
    def of_categories(cls, values: npt.NDArray[Any]) -> Self:
        """A cell for each category, by frequency, then by name."""
        names = [text for value in values.tolist() if (text := as_category(value)) is not None]
        if not names:
            raise ValueError("no value to make cells of")
        if all(isinstance(value, bool | np.bool_) for value in values.tolist() if not _is_missing(value)):
            return cls(Kind.BOOLEAN, categories=("false", "true"))
        distinct, counts = np.unique(np.array(names), return_counts=True)
        order = np.lexsort((distinct, -counts))
        return cls(Kind.CATEGORICAL, categories=tuple(distinct[order].tolist()))


def as_array(values: Values) -> npt.NDArray[Any]:
    """Numbers as floats, NaN where one is missing; anything else as it is, in an array of objects."""
    array: npt.NDArray[Any] = np.asarray(values, dtype=None if hasattr(values, "dtype") else object)
    if array.dtype != object:
        return array
    known = [value for value in array.tolist() if not _is_missing(value)]
    if not known or not all(isinstance(value, Number) and not isinstance(value, bool) for value in known):
        return array
    return np.array([np.nan if _is_missing(value) else float(value) for value in array.tolist()], dtype=np.float64)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def as_category(value: Any) -> str | None:
    """A value as PostgreSQL writes it; None when it is missing. A whole number is one, however it is stored.

    >>> as_category(3.0), as_category(True), as_category("new"), as_category(float("nan"))
    ('3', 'true', 'new', None)
    """
    if _is_missing(value):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).lower() if isinstance(value, bool | np.bool_) else str(value)


def usable(values: Floats) -> npt.NDArray[np.bool_]:
    """Which values can be computed with."""
    return np.isfinite(values) & (np.abs(values) <= LARGEST)


def allowed_by(valid: Valid, values: Floats) -> npt.NDArray[np.bool_]:
    """Which numbers the contract allows."""
    low = -np.inf if valid.minimum is None else valid.minimum
    high = np.inf if valid.maximum is None else valid.maximum
    return np.asarray((values >= low) & (values <= high))


@dataclass(frozen=True)
class Sketch:
    """What was counted of one feature.

    Attributes:
        counts: by cell; values that the contract does not allow are in no cell.
        sums: of the values by cell; zeros where values have no order.
        squares: sum of squared distances from the grid's centre.
        missing: NULLs.
        not_finite: NaN, infinite, or beyond 1e150.
        invalid: outside of what the contract allows.
    """

    counts: Counts
    sums: Floats
    squares: float = 0.0
    missing: int = 0
    not_finite: int = 0
    invalid: int = 0

    @property
    def given(self) -> int:
        """Values in cells."""
        return int(self.counts.sum())

    @property
    def rows(self) -> int:
        """Everything that was counted."""
        return self.given + self.missing + self.not_finite + self.invalid

    def __add__(self, other: "Sketch") -> "Sketch":
        return Sketch(
            self.counts + other.counts,
            self.sums + other.sums,
            self.squares + other.squares,
            self.missing + other.missing,
            self.not_finite + other.not_finite,
            self.invalid + other.invalid,
        )

    @classmethod
    def empty(cls, grid: Grid) -> "Sketch":
        """Nothing counted yet."""
        return cls(np.zeros(grid.cells, dtype=np.int64), np.zeros(grid.cells))

    @classmethod
    def of(cls, values: Values, grid: Grid, valid: Valid | None = None) -> "Sketch":
        """The sketch of an array, cell by cell what the warehouse counts."""
        array = as_array(values)
        valid = valid or Valid()
        return _of_numbers(array, grid, valid) if grid.kind.is_ordered else _of_categories(array, grid, valid)

    @classmethod
    def total(cls, sketches: Sequence["Sketch"], grid: Grid) -> "Sketch":
        """Their sum."""
        return sum(sketches, start=cls.empty(grid))


def _of_numbers(array: npt.NDArray[Any], grid: Grid, valid: Valid) -> Sketch:
    numbers = array.astype(np.float64)
    # An array has no NULL: NaN stands for it.
    missing = np.isnan(numbers)
    finite = usable(numbers) & ~missing
    allowed = finite & allowed_by(valid, numbers)
    inside = numbers[allowed]
    cell = np.searchsorted(np.asarray(grid.edges), inside, side="right")
    return Sketch(
        counts=np.bincount(cell, minlength=grid.cells).astype(np.int64),
        sums=np.bincount(cell, weights=inside, minlength=grid.cells).astype(np.float64),
        squares=float(np.square(inside - grid.centre).sum()),
        missing=int(missing.sum()),
        not_finite=int((~finite & ~missing).sum()),
        invalid=int((finite & ~allowed).sum()),
    )


def _of_categories(array: npt.NDArray[Any], grid: Grid, valid: Valid) -> Sketch:
    positions: Mapping[str, int] = {name: min(place, grid.named) for place, name in enumerate(grid.categories)}
    counts = np.zeros(grid.cells, dtype=np.int64)
    missing = invalid = 0
    for value in array.tolist():
        name = as_category(value)
        if name is None:
            missing += 1
        elif valid.values is not None and name not in valid.values:
            invalid += 1
        else:
            counts[positions.get(name, grid.named + 1)] += 1
    return Sketch(counts, np.zeros(grid.cells), missing=missing, invalid=invalid)
