"""Cause before cure: what the pattern of an alarm looks like.

A pipeline that breaks leaves marks that the world rarely leaves: all values multiplied by 60, one value filled into
many rows, a part of the entities gone and the rest as they were. Each mark is a test of its own, tried in order; what
bears none of them is genuine. Retraining cures genuine drift only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from features.drift import distance
from features.drift.profile import Profile
from features.drift.sketch import Floats, Grid, Kind


class Cause(StrEnum):
    """What probably happened."""

    CONTRACT_BREAK = "contract break"
    SKEW = "served otherwise than defined"
    NULL_BURST = "NULL burst"
    UNIT_CHANGE = "unit change"
    DEFAULT_FILL = "default fill"
    DROPPED_SLICE = "dropped slice"
    STALE = "stale feature"
    NEW_CATEGORY = "new category"
    VOLUME = "volume only"
    GENUINE = "genuine"

    @property
    def is_data_incident(self) -> bool:
        """Whether the pipeline is sick, so that retraining would teach the model the fault."""
        return self in DATA_INCIDENTS


DATA_INCIDENTS = frozenset({
    Cause.CONTRACT_BREAK,
    Cause.SKEW,
    Cause.NULL_BURST,
    Cause.UNIT_CHANGE,
    Cause.DEFAULT_FILL,
    Cause.DROPPED_SLICE,
    Cause.STALE,
})

# Ratios between units that are mistaken for each other. Not miles for kilometres: growth by a half looks the same.
FACTORS = (60.0, 3600.0, 24.0, 1440.0, 86400.0, 7.0, 100.0, 1000.0, 1024.0, 1e6, 1e9)
# A factor has to explain all of the change but this part and what chance adds, and never less than the second.
UNEXPLAINED = 0.25
UNEXPLAINED_AT_MOST = 0.6
LEAST_SHARE = 0.03
# When as much of what a cell gained is one value, it was filled in.
SURELY_FILLED = 0.8
# A spike has to be most of what changed.
SPIKE_EXPLAINS = 0.7
SLICE_LOST = 0.1
# Hours without any change, while other features of the same rows changed.
STALE_HOURS = 24


@dataclass(frozen=True)
class Evidence:
    """What is known about an alarm.

    Attributes:
        current: the window that alarms.
        quantiles: of its values, evenly spaced; empty when they have no order.
        alarms: the families of tests that alarm.
        usual: counts by cell that its newest hour usually has, and present: those it has; empty when not known.
    """

    grid: Grid
    current: Profile
    expected: Profile
    alarms: Sequence[str]
    quantiles: Floats
    usual: Floats
    present: Floats


@dataclass(frozen=True)
class Diagnosis:
    """A probable cause and what speaks for it."""

    cause: Cause
    because: str


def diagnose(evidence: Evidence) -> Diagnosis:
    """The first cause whose mark the evidence bears."""
    tests = (
        _contract_break,
        _null_burst,
        # A default beyond all values looks like another unit, too, and so it comes first where it is plain.
        _plain_default_fill,
        _unit_change,
        _dropped_slice,
        _default_fill,
        _new_category,
    )
    for test in tests:
        found = test(evidence)
        if found:
            return found
    return Diagnosis(Cause.GENUINE, "no mark of a broken pipeline")


def _contract_break(evidence: Evidence) -> Diagnosis | None:
    current = evidence.current
    if current.not_finite:
        return Diagnosis(Cause.CONTRACT_BREAK, f"{current.not_finite:.2%} of the values are NaN or infinite")
    if current.invalid:
        return Diagnosis(Cause.CONTRACT_BREAK, f"{current.invalid:.2%} of the values are outside of what is valid")
    return None


def _null_burst(evidence: Evidence) -> Diagnosis | None:
    if evidence.current.size and "missing" not in evidence.alarms:
        return None
    was, now = evidence.expected.missing, evidence.current.missing
    return Diagnosis(Cause.NULL_BURST, f"{now:.1%} of the values are missing, usually {was:.1%}")


def _unit_change(evidence: Evidence) -> Diagnosis | None:
    """Fits F_now(x) = (1 - share) * F(x) + share * F(x / factor) for each factor, by least squares in the share."""
    if not evidence.grid.kind.is_ordered or len(evidence.quantiles) < 2 or not evidence.current.size:
        return None
    points = np.unique(evidence.quantiles)
    now = np.searchsorted(np.sort(evidence.quantiles), points, side="right") / len(evidence.quantiles)
    before = _cumulative(evidence.expected, evidence.grid, points)
    change = now - before
    largest = float(np.abs(change).max())
    best: tuple[float, float, float] | None = None
    allowed = min(UNEXPLAINED * largest + 1 / np.sqrt(evidence.current.size), UNEXPLAINED_AT_MOST * largest)
    for factor in FACTORS:
        for ratio in (factor, 1 / factor):
            effect = _cumulative(evidence.expected, evidence.grid, points / ratio) - before
            if not effect.any():
                continue
            share = float(np.clip(change @ effect / (effect @ effect), 0.0, 1.0))
            left = float(np.abs(change - share * effect).max())
            if share >= LEAST_SHARE and left <= allowed and (best is None or left < best[0]):
                best = left, ratio, share
    if best is None:
        return None
    _, ratio, share = best
    how = f"x {ratio:g}" if ratio >= 1 else f"x 1/{1 / ratio:g}"
    who = "all values" if share > 0.95 else f"about {share:.0%} of the values"
    return Diagnosis(Cause.UNIT_CHANGE, f"{who} are as before {how}")


def _cumulative(profile: Profile, grid: Grid, points: Floats) -> Floats:
    """The distribution function at points: exact on edges and atoms, straight lines within cells of many values."""
    edges = np.asarray(grid.edges)
    below = np.cumsum(profile.shares)[:-1]  # P(x < edge)
    position = np.searchsorted(edges, points, side="right")
    cumulative = np.concatenate(([0.0], below))[position]
    lower = edges[np.maximum(position - 1, 0)]
    upper = edges[np.minimum(position, len(edges) - 1)]
    share = profile.shares[position]
    mean = np.divide(profile.moments[position], share, out=np.zeros_like(share), where=share > 0)
    is_point = grid.points[position]
    width = upper - lower
    within = np.divide(points - lower, width, out=np.ones_like(width), where=width > 0)
    inside = (position > 0) & (position < len(edges))
    # In the open cells at both ends only the mean is known; half of the values are taken to be on either side of it.
    ends = np.where(position == 0, points >= mean, points > mean)
    fraction = np.where(is_point & (position > 0), 1.0, np.where(inside, np.clip(within, 0, 1), ends))
    return np.asarray(cumulative + share * fraction)


def _plain_default_fill(evidence: Evidence) -> Diagnosis | None:
    return _default_fill(evidence, SURELY_FILLED) if evidence.grid.kind.is_ordered else None


def _default_fill(evidence: Evidence, repeated: float = 0.6) -> Diagnosis | None:
    """One cell grew, and without what it gained the rest is as before.

    Args:
        repeated: how much of the gain has to be one value.
    """
    current, expected, grid = evidence.current, evidence.expected, evidence.grid
    # Of two shares one always grows.
    if not current.size or grid.kind is Kind.BOOLEAN or ("new" in evidence.alarms and not grid.kind.is_ordered):
        return None
    cell, grown = distance.largest_cell(expected, current)
    if grown <= 0 or current.shares[cell] >= 1:
        return None
    rest = expected.shares[cell]
    gain = (current.shares[cell] - rest) / (1 - rest)
    if gain <= 0:
        return None
    without = (current.shares - gain * (np.arange(len(current.shares)) == cell)) / (1 - gain)
    left = float(np.abs(np.cumsum(without - expected.shares)).max())
    moved = float(np.abs(current.shares - expected.shares).sum() / 2)
    chance = min(1 / np.sqrt(current.size), (1 - SPIKE_EXPLAINS) * moved)
    filled = not grid.kind.is_ordered or _looks_filled(evidence, cell, gain, repeated)
    if left > (1 - SPIKE_EXPLAINS) * moved + chance or not filled:
        return None
    mirror = ""
    if expected.missing - current.missing > gain / 2:
        mirror = f", and missing values fell from {expected.missing:.1%} to {current.missing:.1%}"
    return Diagnosis(
        Cause.DEFAULT_FILL, f"{gain:.1%} of the values became {_filled_with(evidence, cell, gain)}{mirror}"
    )


def _looks_filled(evidence: Evidence, cell: int, gain: float, repeated: float) -> bool:
    """A fill is one value: many quantiles repeat it."""
    values, repeats = np.unique(evidence.quantiles, return_counts=True)
    if not len(values):
        return False
    inside = np.searchsorted(np.asarray(evidence.grid.edges), values, side="right") == cell
    most = int(repeats[inside].max(initial=0))
    return most >= max(2, round(repeated * gain * len(evidence.quantiles)))


def _filled_with(evidence: Evidence, cell: int, gain: float) -> str:
    if not evidence.grid.kind.is_ordered:
        return f"'{evidence.grid.label(cell)}'"
    values, repeats = np.unique(evidence.quantiles, return_counts=True)
    inside = np.searchsorted(np.asarray(evidence.grid.edges), values, side="right") == cell
    return f"{values[inside][repeats[inside].argmax()]:g}"


def _dropped_slice(evidence: Evidence) -> Diagnosis | None:
    """Fewer rows than usual, and no cell has more of them than usual."""
    usual, present = evidence.usual, evidence.present
    total = float(usual.sum()) if len(usual) else 0.0
    if not total:
        return None
    lost = 1 - float(present.sum()) / total
    if lost < SLICE_LOST:
        return None
    grown = np.maximum(present - usual - 3 * np.sqrt(usual + 1), 0.0)
    if float(grown.sum()) > 0.02 * total:
        return None
    cell = int((usual - present).argmax())
    label = evidence.grid.label(cell)
    return Diagnosis(Cause.DROPPED_SLICE, f"{lost:.0%} of the rows are gone, most of them from {label}")


def _new_category(evidence: Evidence) -> Diagnosis | None:
    if "new" not in evidence.alarms or evidence.grid.kind.is_ordered:
        return None
    return Diagnosis(Cause.NEW_CATEGORY, f"{evidence.current.shares[-1]:.1%} of the values were never seen before")
