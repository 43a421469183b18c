"""Two distributions on one grid as bars side by side: what a reader sees of a baseline and of now.

A bar is a run of whole cells, so its shares are exact; only where it is drawn is chosen here. Cells hold equal mass, so
some are very thin and the outer two have no end: thin ones are taken together, and a picture ends where the bulk does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from features.contract import Valid
from features.drift.profile import Profile
from features.drift.sketch import Floats, Grid

# No bar is thinner than this part of the picture.
MOST_BARS = 64
MOST_CATEGORIES = 14
# The middle of the baseline, and that of the window, are always in the picture; half as much again on each side may be.
BASELINE_BULK, CURRENT_BULK = (0.05, 0.95), (0.25, 0.75)
ALMOST_ALL = (0.005, 0.995)
ROOM = 0.5


@dataclass(frozen=True)
class Bar:
    """A part of the values.

    Attributes:
        before, now: shares of the values in it.
        low, high: from where to where it is drawn; None of a category.
        width: what its shares are divided by to be a density. Of a single value it is a bar's smallest width.
    """

    label: str
    before: float
    now: float
    low: float | None = None
    high: float | None = None
    width: float | None = None


@dataclass(frozen=True)
class Outside:
    """What is beyond an end of the picture."""

    before: float
    now: float


@dataclass(frozen=True)
class Distribution:
    """A baseline and a window.

    Attributes:
        kind: numeric, discrete, boolean or categorical.
        bars: of ordered values from low to high; else the most frequent first.
        low, high: ends of the picture; None of categories.
        is_whole: values are whole numbers, each drawn from half before it to half behind it.
        below, above: shares of the values that are not in it.
        missing, not_finite, invalid: shares of all rows, which are in no bar.
    """

    kind: str
    bars: tuple[Bar, ...]
    low: float | None
    high: float | None
    is_whole: bool
    below: Outside
    above: Outside
    missing: Outside
    not_finite: Outside
    invalid: Outside


def distribution(before: Profile, now: Profile, grid: Grid, valid: Valid | None = None) -> Distribution:
    """What there is to draw of two profiles on a grid.

    Args:
        valid: beyond what the contract allows no bar is drawn.
    """
    low = high = None
    below = above = Outside(0.0, 0.0)
    if grid.kind.is_ordered:
        cells = _cells(before, now, grid, valid or Valid())
        low, high = _ends(cells)
        inside = [cell for cell in cells if low <= cell.low and cell.high <= high]
        bars = _bars(inside, (high - low) / MOST_BARS)
        high = max([high, *(bar.high for bar in bars if bar.high is not None)])
        below = _sum([cell for cell in cells if cell not in inside and cell.low < low])
        above = _sum([cell for cell in cells if cell not in inside and cell.low >= low])
    else:
        bars = _categories(before.shares, now.shares, grid)
    return Distribution(
        kind=str(grid.kind),
        bars=tuple(bars),
        low=low,
        high=high,
        is_whole=grid.kind.is_ordered and is_whole(grid),
        below=below,
        above=above,
        missing=Outside(before.missing, now.missing),
        not_finite=Outside(before.not_finite, now.not_finite),
        invalid=Outside(before.invalid, now.invalid),
    )


@dataclass(frozen=True)
class _Cell:
    """A cell of an ordered grid with finite ends; `is_value` when it holds a single one, and has no width."""

    label: str
    low: float
    high: float
    is_value: bool
    before: float
    now: float


def is_whole(grid: Grid) -> bool:
    """Whether the values are whole numbers."""
    return all(edge in {round(edge), np.nextafter(round(edge), np.inf)} for edge in grid.edges)


def _cells(before: Profile, now: Profile, grid: Grid, valid: Valid) -> list[_Cell]:
    """All cells that hold something, or lie between such; whole numbers reach from half to half."""
    whole = is_whole(grid)
    edges = [float(_whole_edge(edge)) - 0.5 if whole else edge for edge in grid.edges]
    last = grid.cells - 1
    smallest = -np.inf if valid.minimum is None else valid.minimum - 0.5 * whole
    largest = np.inf if valid.maximum is None else valid.maximum + 0.5 * whole
    found: list[_Cell] = []
    for place in range(grid.cells):
        shares = float(before.shares[place]), float(now.shares[place])
        low = edges[place - 1] if place else max(_end(before, now, 0, edges[0], -1), smallest)
        high = edges[place] if place < last else min(_end(before, now, last, edges[-1], 1), largest)
        if place in {0, last} and not any(shares):
            continue
        if high <= low and whole and found:  # between a whole number and the next there is nothing, or hardly anything
            found[-1] = replace(found[-1], before=found[-1].before + shares[0], now=found[-1].now + shares[1])
            continue
        is_value = not whole and (bool(grid.points[place]) or high <= low)
        found.append(_Cell(_label(grid, place, whole), low, max(low, high), is_value, *shares))
    return found or [_Cell(grid.label(0), edges[0], edges[0], True, 0.0, 0.0)]


def _whole_edge(edge: float) -> float:
    """The first whole number of the cell that begins here."""
    return edge if edge == round(edge) else round(edge) + 1


def _label(grid: Grid, place: int, whole: bool) -> str:
    if not whole:
        return grid.label(place)
    first = round(_whole_edge(grid.edges[place - 1])) if place else None
    beyond = round(_whole_edge(grid.edges[place])) if place < len(grid.edges) else None
    if first is None:
        return f"below {beyond}"
    if beyond is None:
        return f"{first} or more"
    return f"{first}" if beyond - first <= 1 else f"{first} to {beyond - 1}"


def _end(before: Profile, now: Profile, place: int, edge: float, direction: int) -> float:
    """Twice as far from an open cell's edge as the mean of its values: its end, if they were spread evenly."""
    reach = 0.0
    for profile in (before, now):
        if profile.shares[place] > 0:
            mean = float(profile.moments[place] / profile.shares[place])
            reach = max(reach, 2 * direction * (mean - edge) if np.isfinite(mean) else 0.0)
    return edge + direction * reach


def _ends(cells: Sequence[_Cell]) -> tuple[float, float]:
    """Where the picture begins and ends, always at an edge of a cell."""
    shares = [np.array([getattr(cell, name) for cell in cells]) for name in ("before", "now")]
    known = [each for each in shares if each.sum() > 0] or shares[:1]
    bulk = [
        [_quantile(cells, each, share) for share in ends]
        for each, ends in zip(known, (BASELINE_BULK, CURRENT_BULK), strict=False)
    ]
    low, high = min(each[0] for each in bulk), max(each[1] for each in bulk)
    room = ROOM * (high - low)
    least = min(_quantile(cells, each, ALMOST_ALL[0]) for each in known)
    most = max(_quantile(cells, each, ALMOST_ALL[1]) for each in known)
    low, high = max(low - room, least), min(high + room, most)
    # A cell that is cut belongs to the picture when most of it does.
    inside = [cell for cell in cells if cell.high >= low and cell.low <= high and _mostly(cell, low, high)]
    inside = inside or [min(cells, key=lambda cell: abs(cell.low - low))]
    low, high = inside[0].low, inside[-1].high
    return (low, high) if low < high else (low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1))


def _mostly(cell: _Cell, low: float, high: float) -> bool:
    return min(cell.high, high) - max(cell.low, low) >= 0.5 * (cell.high - cell.low)


def _quantile(cells: Sequence[_Cell], shares: Floats, share: float) -> float:
    """Where this share of the values is below, if they are spread evenly within cells."""
    wanted, below = share * float(shares.sum()), 0.0
    for cell, mass in zip(cells, shares, strict=True):
        if below + mass >= wanted and mass > 0:
            return cell.low + (cell.high - cell.low) * max(wanted - below, 0.0) / float(mass)
        below += float(mass)
    return cells[-1].high


def _bars(cells: Sequence[_Cell], thinnest: float) -> list[Bar]:
    """Neighbouring cells together until each bar is wide enough. A value that stands alone gets the smallest width."""
    groups: list[list[_Cell]] = []
    for cell in cells:
        is_wide = cell.high - cell.low >= thinnest
        open_group = bool(groups) and groups[-1][-1].high - groups[-1][0].low < thinnest
        if open_group and not (is_wide and any(each.is_value for each in groups[-1])):
            groups[-1].append(cell)
        else:
            groups.append([cell])
    bars = [_bar(group, thinnest) for group in groups]
    return [*bars[:1], *(_apart(bar, following) for bar, following in pairwise(bars))]


def _bar(cells: Sequence[_Cell], thinnest: float) -> Bar:
    low, high, total = cells[0].low, cells[-1].high, _sum(cells)
    if any(cell.is_value for cell in cells):
        high = max(high, low + thinnest)
    return Bar(_joined([cell.label for cell in cells]), total.before, total.now, low, high, high - low)


def _joined(labels: Sequence[str]) -> str:
    """One label for neighbours: `1 to 2` and `3` are `1 to 3`."""
    if len(labels) == 1:
        return labels[0]
    first, last = labels[0].split(" to ")[0], labels[-1].split(" to ")[-1]
    if last.endswith(" or more"):
        return f"{first} or more"
    return f"up to {last}" if first.startswith("below ") else f"{first} to {last}"


def _apart(bar: Bar, following: Bar) -> Bar:
    """The following bar, not drawn over a single value before it, which is drawn wider than it is."""
    assert bar.high is not None
    assert following.low is not None
    assert following.high is not None
    return replace(following, low=min(max(following.low, bar.high), following.high))


def _sum(cells: Sequence[_Cell]) -> Outside:
    return Outside(sum(cell.before for cell in cells), sum(cell.now for cell in cells))


def _categories(before: Floats, now: Floats, grid: Grid) -> list[Bar]:
    """Each category, most frequent first; the rarest together, but never those that are new."""
    bars = [Bar(grid.label(cell), float(before[cell]), float(now[cell])) for cell in range(grid.cells)]
    *named, rare, new = bars
    kept = sorted(named, key=lambda bar: -max(bar.before, bar.now))[:MOST_CATEGORIES]
    # In the grid's order, which is the baseline's.
    shown = [bar for bar in named if bar in kept]
    left = [bar for bar in named if bar not in kept]
    if left:
        others = Bar(f"{len(left)} others", sum(bar.before for bar in left), sum(bar.now for bar in left))
        shown.append(others)
    return [*shown, *(bar for bar in (rare, new) if bar.before or bar.now)]
