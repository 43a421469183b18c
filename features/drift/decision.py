"""What a difference means: is it, beyond what chance explains, larger than what matters?

Never a p-value against 0.05. A finding counts when the *lower bound* of its effect passes a floor, and the bound's
confidence comes from a budget of false alarms: alpha = budget / (tests in a week). Expectations add up whatever depends
on what, so the promise holds for any number of features, windows and hours, however they move together.

Three families of tests, because no single one sees everything:

* shape: Kolmogorov-Smirnov with the Dvoretzky-Kiefer-Wolfowitz bound (Massart 1990), valid with ties and on a grid.
  Where values have no order: the largest change of one share, with Newcombe's bounds from Clopper and Pearson's.
* cells: Pearson's chi-square against its distribution when "Cohen's w squared is at most the floor".
  It sees what leaves the shape alone: spikes, rounding, two bumps for one.
* rates: the exact binomial bound (Clopper & Pearson 1934) for missing values, and for values where the baseline has
  none: categories never seen, numbers between or beyond those that were.

A floor is the larger of the declared one and of how far the feature strays when all is well
(`features.drift.calibration`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy import optimize, special, stats

from features.contract import DriftSettings, Severity
from features.drift import distance
from features.drift.hours import HOUR, WEEK
from features.drift.profile import Profile, Wobble
from features.drift.sketch import Grid, Kind

FAMILIES = 3
# Cohen's w squared that is as much as a KS distance: 0.04 is as 0.02, 0.10 as 0.125.
W_SQUARED_PER_DISTANCE_SQUARED = 12.5


class DriftStatus(StrEnum):
    """What a report says. Absence of evidence is never `ok`."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    INSUFFICIENT_DATA = "insufficient_data"
    MISSING_FEATURE = "missing_feature"
    UNEXPECTED_FEATURE = "unexpected_feature"
    BASELINE_MISSING = "baseline_missing"
    ERROR = "error"


SEVERITIES = {DriftStatus.WARNING: Severity.WARNING, DriftStatus.CRITICAL: Severity.CRITICAL}
STATUSES = {
    Severity.NONE: DriftStatus.OK,
    Severity.WARNING: DriftStatus.WARNING,
    Severity.CRITICAL: DriftStatus.CRITICAL,
}


@dataclass(frozen=True)
class Budget:
    """How many false alarms are tolerated, and over how many tests.

    Attributes:
        false_alarms_per_week: expected at most, over everything that is tested.
        comparisons: tested each hour, each in three families: features x windows x baselines x segments.
    """

    false_alarms_per_week: float
    comparisons: int

    @property
    def alpha(self) -> float:
        """What one test may spend."""
        return self.false_alarms_per_week / (WEEK // HOUR * self.comparisons * FAMILIES)


@dataclass(frozen=True)
class Effect:
    """A measured change with its bounds and the floors it is held against.

    Attributes:
        unit: what it is a change of: the KS distance, a share, Cohen's w squared.
        low: lower confidence bound; what decides.
        warning, critical: the floors.
    """

    unit: str
    value: float
    low: float
    high: float
    warning: float
    critical: float

    @property
    def severity(self) -> Severity:
        """By the largest floor that the lower bound passes."""
        if self.low > self.critical:
            return Severity.CRITICAL
        return Severity.WARNING if self.low > self.warning else Severity.NONE

    def __str__(self) -> str:
        bounds = f"({_short(self.low)} to {_short(self.high)})"
        return f"{self.unit} {_short(self.value)} {bounds}, floors {_short(self.warning)} and {_short(self.critical)}"


def _short(value: float) -> str:
    return f"{value:.3f}"


@dataclass(frozen=True)
class Judgement:
    """What was concluded of one window.

    Attributes:
        needed: entities without which a change of twice the critical floor would go unseen.
        effects: by family: shape, cells, missing, new, broken.
    """

    status: DriftStatus
    n: int
    needed: int
    effects: dict[str, Effect]
    detail: str

    @property
    def severity(self) -> Severity:
        """NONE for every status that found no drift, also for those that could not look."""
        return SEVERITIES.get(self.status, Severity.NONE)

    @property
    def alarms(self) -> tuple[str, ...]:
        """The families that alarm, worst first."""
        loud = [name for name, effect in self.effects.items() if effect.severity > Severity.NONE]
        return tuple(sorted(loud, key=lambda name: -self.effects[name].severity))


def judge(
    current: Profile,
    expected: Profile,
    grid: Grid,
    settings: DriftSettings,
    alpha: float,
    wobble: Wobble | None = None,
    whole: Profile | None = None,
) -> Judgement:
    """Compares a window with what is expected of it.

    Args:
        alpha: of each family; see `Budget`.
        wobble: how far this window strays when all is well, when that is known.
        whole: the baseline at all hours, which says what was ever seen; by default what is expected.
    """
    floors = _floors(settings, alpha, wobble)
    known = whole or expected
    rates = _rates(current, expected, known, grid, settings, alpha, floors.missing)
    effects = {name: rate for name, rate in rates.items() if rate}
    if grid.kind.is_ordered:
        needed = needed_entities(floors.distance_critical, expected.size, alpha)
    else:
        needed = needed_for_shares(floors.distance_critical, expected, grid, alpha)
    if current.size:
        effects["shape"] = _shape(current, expected, grid, settings, floors, alpha)
        effects["cells"] = _cells(current, expected, floors, alpha, settings)
    judgement = Judgement(DriftStatus.OK, round(current.seen), needed, effects, "")
    worst = max((effect.severity for effect in effects.values()), default=Severity.NONE)
    status = STATUSES[worst]
    if status is DriftStatus.OK and current.size < needed:
        status = DriftStatus.INSUFFICIENT_DATA
    return replace(judgement, status=status, detail=_detail(judgement, status, round(current.size)))


@dataclass(frozen=True)
class _Floors:
    distance_warning: float
    distance_critical: float
    cells_warning: float
    cells_critical: float
    missing: float


def _floors(settings: DriftSettings, alpha: float, wobble: Wobble | None) -> _Floors:
    distance_wobble = cells_wobble = missing_wobble = 0.0
    if wobble and wobble.days > 1:
        # The wobble is itself estimated, from days that count as independent: Student's t allows for it.
        factor = float(stats.t.isf(alpha / 2, wobble.days - 1))
        distance_wobble, cells_wobble = factor * wobble.distance, factor**2 * wobble.cells
        missing_wobble = factor * wobble.missing
    warning, critical = settings.warning_floor, settings.critical_floor
    return _Floors(
        max(warning, distance_wobble),
        max(critical, distance_wobble),
        max(w_squared_of(warning), cells_wobble),
        max(w_squared_of(critical), cells_wobble),
        missing_wobble,
    )


def w_squared_of(floor: float) -> float:
    """The cells' floor that goes with a floor of the KS distance."""
    return W_SQUARED_PER_DISTANCE_SQUARED * floor**2


def needed_entities(critical: float, baseline: float, alpha: float) -> int:
    """Entities needed to be sure of a change of twice the critical floor; NEVER when no number would do."""
    target = min(2 * critical, 1.0) - critical
    if target <= 0 or not baseline:
        return NEVER
    share = 2 * target**2 / np.log(2 / alpha) - 1 / baseline
    return int(np.ceil(1 / share)) if share > 0 else NEVER


def needed_for_shares(critical: float, expected: Profile, grid: Grid, alpha: float) -> int:
    """The same for categories: by the normal approximation, for the share that varies most before or after."""
    target = min(2 * critical, 1.0) - critical
    if target <= 0 or not expected.size:
        return NEVER
    shares = np.concatenate((expected.shares, np.clip(expected.shares + 2 * critical, 0.0, 1.0)))
    variance = float((shares * (1 - shares)).max())
    share = target**2 / (variance * stats.norm.isf(alpha / _looks(grid)) ** 2) - 1 / expected.size
    # What is exact is a little wider than what is normal.
    return int(np.ceil(1 / share + 4 / target)) if share > 0 else NEVER


NEVER = 2**62


def _shape(
    current: Profile, expected: Profile, grid: Grid, settings: DriftSettings, floors: _Floors, alpha: float
) -> Effect:
    if not grid.kind.is_ordered:
        return _largest_share(current, expected, grid, settings, floors, alpha)
    slack = float(np.sqrt(np.log(2 / alpha) / 2 * (1 / current.size + 1 / expected.size))) if expected.size else 1.0
    if settings.direction == "both":
        value = distance.ks(expected, current, grid).low
    else:
        value = distance.one_sided_ks(expected, current, upwards=settings.direction == "up")
    low, high = max(0.0, value - slack), min(1.0, value + slack)
    return Effect("distance", value, low, high, floors.distance_warning, floors.distance_critical)


def _largest_share(
    current: Profile, expected: Profile, grid: Grid, settings: DriftSettings, floors: _Floors, alpha: float
) -> Effect:
    """The category whose share surely changed most. The bounds allow for having looked at all of them."""
    each = alpha / _looks(grid)
    low, high = clopper_pearson(current.shares, current.size, each)
    base_low, base_high = clopper_pearson(expected.shares, expected.size, each)
    change = current.shares - expected.shares
    # Newcombe's way (1998) to a bound of a difference from those of its parts: their widths add up as squares.
    below = np.hypot(current.shares - low, base_high - expected.shares)
    above = np.hypot(high - current.shares, expected.shares - base_low)
    grown, shrunk = change - below, -change - above
    if grid.kind is Kind.BOOLEAN and settings.direction != "both":
        cell = TRUE
        sure = (grown if settings.direction == "up" else shrunk)[cell]
    else:
        surely = np.maximum(grown, shrunk)
        # Where nothing is sure, what seems to have changed most is shown.
        cell = int((surely if surely.max() > 0 else np.abs(change)).argmax())
        sure = surely.max()
    most = max(change[cell] + above[cell], below[cell] - change[cell])
    return Effect(
        "share",
        float(abs(change[cell])),
        max(0.0, float(sure)),
        float(most),
        floors.distance_warning,
        floors.distance_critical,
    )


def _looks(grid: Grid) -> int:
    """How many shares are looked at; true is the complement of false, so the pair is one look."""
    return 1 if grid.kind is Kind.BOOLEAN else grid.cells


TRUE = 1  # the cell of `true` in a boolean's grid


def _cells(current: Profile, expected: Profile, floors: _Floors, alpha: float, settings: DriftSettings) -> Effect:
    found = distance.cells(expected, current)
    low, high = w_squared_bounds(found, alpha)
    if settings.direction != "both":
        # A chi-square has no direction; it informs, and the shape decides.
        return Effect("cells", found.w_squared, low, high, np.inf, np.inf)
    return Effect("cells", found.w_squared, low, high, floors.cells_warning, floors.cells_critical)


def w_squared_bounds(found: distance.CellDifference, alpha: float) -> tuple[float, float]:
    """The smallest and the largest effect of which the statistic would be no surprise."""
    if not found.degrees or not found.effective:
        return 0.0, np.inf
    low = 0.0 if found.p_value >= alpha else _where(found.exceeds, alpha, found)
    # The noncentral chi-square's own inverse; NaN when even no effect would be this small.
    high = float(special.chndtrinc(found.statistic, found.degrees, alpha)) / found.effective
    return low, high if np.isfinite(high) and found.falls_short_of(0.0) > alpha else 0.0


def _where(tail: Callable[[float], float], alpha: float, found: distance.CellDifference) -> float:
    """The effect at which a tail is as large as alpha; 0 when it is nowhere."""
    smallest, highest = (value / found.effective for value in (1e-9, 4 * found.statistic + 40 * found.degrees + 400))
    if (tail(smallest) - alpha) * (tail(highest) - alpha) >= 0:
        return 0.0
    return float(optimize.brentq(lambda value: tail(value) - alpha, smallest, highest, xtol=1e-12, rtol=1e-9))


def _rates(
    current: Profile,
    expected: Profile,
    whole: Profile,
    grid: Grid,
    settings: DriftSettings,
    alpha: float,
    missing_wobble: float,
) -> dict[str, Effect | None]:
    """Missing values, values never seen, and what must not occur at all."""
    floors = max(settings.missing_warning, missing_wobble), max(settings.missing_critical, missing_wobble)
    looks = {"missing": (current.missing, expected.missing, current.seen, *floors)}
    if grid.kind is not Kind.BOOLEAN:
        new = _is_new(whole, grid, settings)
        # Good and Turing: about as much is yet to be seen as was seen once.
        usual = float(expected.shares[new].sum()) + _seen_once(whole, grid)
        share = float(current.shares[new].sum())
        looks["new"] = share, usual, current.size, settings.warning_floor / 8, settings.critical_floor / 2
    effects: dict[str, Effect | None] = {}
    for name, (rate, usual, n, warning, critical) in looks.items():
        if n:
            low, high = clopper_pearson(np.array([rate]), n, alpha / len(looks))
            warning, critical = rate_floors(usual, warning, critical)
            effects[name] = Effect(f"{name} rate", rate, float(low[0]), float(high[0]), warning, critical)
    for name, rate in (("not_finite", current.not_finite), ("invalid", current.invalid)):
        # Not statistics: one such row breaks the contract.
        effects[name] = Effect(f"{name} rate", rate, rate, rate, 0.0, 0.0) if rate else None
    return effects


def rate_floors(usual: float, warning: float, critical: float) -> tuple[float, float]:
    """From where on a rate is a warning, and critical: by so much more than usual, and by a multiple of it."""
    return max(1.5 * usual, usual + warning), max(3 * usual, usual + critical)


def _is_new(whole: Profile, grid: Grid, settings: DriftSettings) -> np.ndarray:
    """Which cells hold what the baseline has hardly any of."""
    if not grid.kind.is_ordered:
        return np.asarray(np.arange(grid.cells) == grid.named + 1)
    new = whole.shares < HARDLY_ANY
    middle = int(np.searchsorted(np.cumsum(whole.shares), 0.5))
    if settings.direction == "up":
        new[:middle] = False
    elif settings.direction == "down":
        new[middle:] = False
    return np.asarray(new)


def _seen_once(whole: Profile, grid: Grid) -> float:
    """At most this share was seen once only, by as many entities as there are cells or categories of one."""
    if not whole.size:
        return 0.0
    entities = whole.shares * whole.size
    once = int(((entities > 0) & (entities < 2)).sum())
    if not grid.kind.is_ordered:
        once += len(grid.categories) - grid.named
    return (once + 3 * float(np.sqrt(once + 1))) / whole.size


# A cell of less than this share was empty, or nearly so.
HARDLY_ANY = 0.001


def clopper_pearson(shares: np.ndarray, n: float, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Exact one-sided bounds of binomial rates, each missed with a probability of at most alpha."""
    if not n:
        return np.zeros_like(shares), np.ones_like(shares)
    hits = shares * n
    low = np.where(hits > 0, stats.beta.ppf(alpha, np.maximum(hits, 1e-300), n - hits + 1), 0.0)
    high = np.where(hits < n, stats.beta.isf(alpha, hits + 1, np.maximum(n - hits, 1e-300)), 1.0)
    return low, high


def _detail(judgement: Judgement, status: DriftStatus, n: int) -> str:
    if status is DriftStatus.INSUFFICIENT_DATA:
        if judgement.needed >= NEVER:
            return "The baseline holds too few entities, or its floor is too high, for any change to be seen."
        return f"{n:,} entities with a value; {judgement.needed:,} are needed."
    named = judgement.alarms or ("shape",)
    sentence = "; ".join(str(judgement.effects[name]) for name in named if name in judgement.effects)
    return f"{sentence}." if sentence else "No value to compare."
