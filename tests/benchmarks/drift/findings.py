"""What the measurements say: summaries of them, and which goals they meet."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.benchmarks.drift import settings
from tests.benchmarks.drift.cost import IN_ARRAYS, IN_SQL, READING, Cost
from tests.benchmarks.drift.duel import CALM, EVIDENTLY, NANNYML, OURS, Found
from tests.benchmarks.drift.false_alarms import Rate, poisson_interval
from tests.benchmarks.drift.flights import Injected, Quiet
from tests.benchmarks.drift.shifts import QUARTER_SIGMA, SHIFTS, SPIKES

BENIGN = {shift.name for shift in SHIFTS if shift.is_benign}
NEVER = float("inf")


@dataclass
class Findings:
    """Everything measured, by part; empty where a part has not run."""

    rates: list[Rate] = field(default_factory=list)
    duel: list[Found] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    quiet: list[Quiet] = field(default_factory=list)
    injected: list[Injected] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Lists of plain values."""
        return asdict(self)

    @classmethod
    def of_json(cls, raw: dict[str, Any]) -> "Findings":
        """The opposite of as_json."""
        kinds = {"rates": Rate, "duel": Found, "costs": Cost, "quiet": Quiet, "injected": Injected}
        return cls(**{name: [kind(**row) for row in raw.get(name, [])] for name, kind in kinds.items()})


@dataclass(frozen=True)
class Goal:
    """A goal, what was measured, and whether it is met."""

    goal: str
    measured: str
    is_met: bool


@dataclass(frozen=True)
class Score:
    """How one contender did on one shift, over all columns.

    Attributes:
        found: share of columns within 1, 24 and 168 hours; None beyond what was looked at.
        median: hours; infinite when half of the columns were never found.
        alarms: (column, hour) pairs, and hours looked at.
    """

    found: tuple[float | None, ...]
    median: float
    alarms: int
    hours: int


def score(parts: Sequence[Found]) -> Score:
    """Of one contender, shift and size, the kinds of columns together."""
    first = [each for part in parts for each in part.first]
    hours = min(part.hours for part in parts)
    found = tuple(
        sum(each is not None and each <= limit for each in first) / len(first) if limit <= hours else None
        for limit in (1, 24, 168)
    )
    median = statistics.median_high([NEVER if each is None else float(each) for each in first])
    return Score(found, median, sum(part.alarms for part in parts), sum(len(part.first) * part.hours for part in parts))


def scores(duel: Iterable[Found]) -> dict[tuple[str, int, str, str, bool], Score]:
    """By structure, rows an hour, shift, contender, and whether it was recalibrated."""
    parts: dict[tuple[str, int, str, str, bool], list[Found]] = {}
    for each in duel:
        parts.setdefault((each.structure, each.rows, each.shift, each.contender, each.is_recalibrated), []).append(each)
    return {key: score(some) for key, some in parts.items()}


def per_week(alarms: int, hours: int) -> float:
    """Alarms a week of 100 features."""
    return 100 * alarms / (hours / settings.HOURS_OF_A_WEEK)


def goals(found: Findings) -> list[Goal]:
    """Those that the parts measured can tell of."""
    return [*_quiet_goals(found.rates), *_power_goals(found.duel), *_cost_goals(found.costs)]


def _quiet_goals(rates: Sequence[Rate]) -> list[Goal]:
    if not rates:
        return []
    worst = max(rates, key=lambda rate: rate.per_week)
    weeks, alarms = sum(rate.feature_weeks for rate in rates), sum(rate.alarms for rate in rates)
    high = 100 * poisson_interval(alarms)[1] / weeks
    limit = f"at most {settings.GOAL_FALSE_ALARMS:g} false alarms a week of 100 features"
    where = f" ({worst.structure}, {worst.rows:,} rows an hour)" if worst.alarms else ""
    return [
        Goal(
            f"{limit}, in every setting",
            f"worst of {len(rates)} settings: {worst.per_week:.2g}{where}",
            worst.per_week <= settings.GOAL_FALSE_ALARMS,
        ),
        Goal(
            f"{limit}, all settings together, with 95 % confidence",
            f"{alarms} alarms in {weeks:,.0f} feature-weeks: at most {high:.2g}",
            high <= settings.GOAL_FALSE_ALARMS,
        ),
    ]


def _power_goals(duel: Sequence[Found]) -> list[Goal]:
    known = {
        (rows, shift): each for (_, rows, shift, who, _), each in scores(duel).items() if who == OURS and shift != CALM
    }
    found = []
    for (rows, shift), each in known.items():
        limit = {QUARTER_SIGMA: settings.GOAL_DELAY_QUARTER_SIGMA} | dict.fromkeys(SPIKES, settings.GOAL_DELAY_SPIKE)
        if shift in limit and rows >= settings.GOAL_ROWS:
            text = f"{shift}, {rows:,} rows an hour: found within {limit[shift]} hours (median)"
            found.append(Goal(text, delay(each.median), each.median <= limit[shift]))
    loud = [(shift, rows, each.alarms) for (rows, shift), each in known.items() if shift in BENIGN and each.alarms]
    if known:
        text = "; ".join(f"{shift} at {rows:,} rows: {alarms} columns" for shift, rows, alarms in loud)
        found.append(Goal("no alarm for a shift too small to matter", text or "none", not loud))
    return found


def delay(hours: float) -> str:
    """Hours for a reader."""
    return "not found" if hours == NEVER else f"{hours:g} h"


def ratio(costs: Sequence[Cost], name: str, rows: int) -> float:
    """How many times Evidently's seconds are those of the contender named."""
    by_name = {cost.contender: cost.per_million for cost in costs if cost.rows == rows}
    return by_name[EVIDENTLY] / by_name[name]


def ratio_with_reading(costs: Sequence[Cost], name: str, rows: int) -> float:
    """The same when Evidently's seconds include reading the rows out of the warehouse."""
    by_name = {cost.contender: cost.per_million for cost in costs if cost.rows == rows}
    return (by_name[EVIDENTLY] + by_name[READING]) / by_name[name]


def cheaper(costs: Sequence[Cost]) -> list[tuple[int, str, float]]:
    """Who compares arrays in less time than ours: rows, who, and their seconds for a million values."""
    mine = {cost.rows: cost.per_million for cost in costs if cost.contender == IN_ARRAYS}
    others = [cost for cost in costs if cost.contender in {EVIDENTLY, NANNYML}]
    return [(cost.rows, cost.contender, cost.per_million) for cost in others if cost.per_million < mine[cost.rows]]


def _cost_goals(costs: Sequence[Cost]) -> list[Goal]:
    found = []
    for rows in sorted({cost.rows for cost in costs}):
        for name in (IN_ARRAYS, IN_SQL):
            times = ratio(costs, name, rows)
            text = f"{name}: at least {settings.GOAL_COST_RATIO:g} times cheaper than Evidently, {rows:,} rows"
            measured = f"{times:.1f} times"
            if name == IN_SQL:
                measured += f"; {ratio_with_reading(costs, name, rows):.1f} with the reading that Evidently needs"
            found.append(Goal(text, measured, times >= settings.GOAL_COST_RATIO))
    return found


def sooner(duel: Sequence[Found]) -> list[tuple[str, int, float, str, float]]:
    """Where a contender, made as quiet as it gets, is sooner than ours: shift, rows, our median, who, theirs."""
    known = scores(duel)
    found = []
    for (structure, rows, shift, who, is_recalibrated), theirs in known.items():
        mine = known.get((structure, rows, shift, OURS, False))
        if is_recalibrated and mine and shift not in BENIGN | {CALM} and theirs.median < mine.median:
            found.append((shift, rows, mine.median, who, theirs.median))
    order = [shift.name for shift in SHIFTS]
    return sorted(found, key=lambda row: (row[1], order.index(row[0])))
