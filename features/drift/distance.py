"""Distances between two distributions on one grid.

Kolmogorov-Smirnov is bracketed: on the cells' edges it is exact, and within a cell it can be larger by no more than
the cell's own mass. Wasserstein-1 is exact unless the distributions cross within a cell, also in the open cells at
both ends, because each cell knows the sum of its values. PSI, Cohen's w squared and chi-square look at the cells as
they are.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from features.drift.profile import Profile
from features.drift.sketch import Floats, Grid

# Fewer expected entities in a cell than this, and chi-square's tail is not what the table says.
FEWEST_EXPECTED = 10.0


@dataclass(frozen=True)
class Bracket:
    """A number that is known to lie between two others."""

    low: float
    high: float


def ks(baseline: Profile, current: Profile, grid: Grid) -> Bracket:
    """The Kolmogorov-Smirnov distance of the values behind two profiles, whatever they were within the cells."""
    right = np.cumsum(baseline.shares - current.shares)
    left = np.concatenate(([0.0], right[:-1]))
    low = min(1.0, float(np.abs(right[:-1]).max(initial=0.0)))
    spread = ~grid.points if grid.kind.is_ordered else np.zeros(grid.cells, dtype=bool)
    inside = np.maximum(left + baseline.shares, current.shares - left)[spread]
    return Bracket(low, min(1.0, max(low, float(inside.max(initial=0.0)))))


def one_sided_ks(baseline: Profile, current: Profile, *, upwards: bool) -> float:
    """The largest difference of the distribution functions in one direction; upwards, values became larger."""
    difference = np.cumsum(baseline.shares - current.shares)[:-1]
    return float(max(0.0, (difference if upwards else -difference).max(initial=0.0)))


def largest_cell(baseline: Profile, current: Profile) -> tuple[int, float]:
    """Which cell's share changed most, and by how much (positive: it grew)."""
    change = current.shares - baseline.shares
    cell = int(np.abs(change).argmax())
    return cell, float(change[cell])


def ks_p_value(distance: float, n: float, m: float) -> float:
    """The article's p: of a distance this large by chance, asymptotically; scipy's `kstwobign`."""
    return float(stats.kstwobign.sf(distance * np.sqrt(n * m / (n + m))))


def wasserstein(baseline: Profile, current: Profile, grid: Grid) -> float:
    """Wasserstein-1, the area between the distribution functions, in units of the feature."""
    right = np.cumsum(baseline.shares - current.shares)
    left = np.concatenate(([0.0], right[:-1]))
    edges = np.asarray(grid.edges)
    moments = baseline.moments - current.moments
    # By parts: the integral of F - G over a cell is hi * d(hi) - lo * d(lo) - (what the cell adds to the means).
    upper = np.concatenate((edges * right[:-1], [0.0]))
    lower = np.concatenate(([0.0], edges * left[1:]))
    return float(np.abs(upper - lower - moments).sum())


def psi(baseline: Profile, current: Profile) -> float:
    """Population stability index; empty cells count as half an entity, so that it stays finite."""
    expected, actual = _smoothed(baseline), _smoothed(current)
    return float(np.sum((actual - expected) * np.log(actual / expected)))


def _smoothed(profile: Profile) -> Floats:
    counts = profile.shares * profile.size + 0.5
    return np.asarray(counts / counts.sum())


@dataclass(frozen=True)
class CellDifference:
    """How much the cells differ.

    Attributes:
        statistic: Pearson's, against the expected shares, allowing for their own sampling error.
        degrees: of freedom, one less than the cells it was taken over.
        effective: n * m / (n + m).
        smallest: share that the emptiest of these cells is expected to hold.
    """

    statistic: float
    degrees: int
    effective: float
    smallest: float = 1.0

    @property
    def w_squared(self) -> float:
        """Cohen's effect size without what chance adds; 0 when chance explains it all."""
        return max(0.0, (self.statistic - self.degrees) / self.effective) if self.effective else 0.0

    @property
    def p_value(self) -> float:
        """Of a statistic this large when nothing changed."""
        return float(stats.chi2.sf(self.statistic, self.degrees)) if self.degrees else 1.0

    def exceeds(self, w_squared: float) -> float:
        """p of a statistic this large when the true effect is at most w_squared.

        A noncentral chi-square, but for one thing: a change that sits in one small cell raises that cell's own
        variance, by a factor of 1 + sqrt(w squared / share) at most. Its mean and that variance, in a gamma
        distribution.
        """
        if not self.degrees:
            return 1.0
        noncentrality = self.effective * w_squared
        inflated = 1 + np.sqrt(w_squared / self.smallest)
        mean = self.degrees + noncentrality
        variance = 2 * self.degrees + 4 * noncentrality * inflated
        return float(stats.gamma.sf(self.statistic, mean**2 / variance, scale=variance / mean))

    def falls_short_of(self, w_squared: float) -> float:
        """p of a statistic this small when the true effect is at least w_squared."""
        return float(stats.ncx2.cdf(self.statistic, self.degrees, self.effective * w_squared))


def cells(baseline: Profile, current: Profile) -> CellDifference:
    """Chi-square over cells that are merged until chance alone would put 10 entities into each."""
    effective = current.size * baseline.size / (current.size + baseline.size) if current.size and baseline.size else 0.0
    expected, actual = _merged(baseline.shares, current.shares, effective)
    if len(expected) < 2:
        return CellDifference(0.0, 0, effective)
    return CellDifference(
        float(effective * np.sum((actual - expected) ** 2 / expected)),
        len(expected) - 1,
        effective,
        float(expected.min()),
    )


def _merged(expected: Floats, actual: Floats, entities: float) -> tuple[Floats, Floats]:
    """Neighbouring cells together until each expects enough; what is left joins the last."""
    if entities <= 0:
        return np.empty(0), np.empty(0)
    need = FEWEST_EXPECTED / entities
    starts, mass = [0], 0.0
    for cell, share in enumerate(expected):
        mass += share
        if mass >= need and cell + 1 < len(expected):
            starts.append(cell + 1)
            mass = 0.0
    if mass < need and len(starts) > 1:
        starts.pop()
    return np.add.reduceat(expected, starts), np.add.reduceat(actual, starts)
