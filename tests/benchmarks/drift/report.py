"""Writes what was found: drift.md with its plots, and drift.json with the raw numbers."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tests.benchmarks.drift import findings, plots, settings
from tests.benchmarks.drift.cost import IN_ARRAYS, IN_SQL, READING, Cost
from tests.benchmarks.drift.duel import ARTICLE, CALM, EVIDENTLY, NANNYML, OURS, Found
from tests.benchmarks.drift.false_alarms import Rate
from tests.benchmarks.drift.findings import BENIGN, Findings, Score, per_week
from tests.benchmarks.drift.flights import Injected, Quiet
from tests.benchmarks.drift.shifts import SHIFTS
from tests.benchmarks.measure import duration, size
from tests.benchmarks.report import rows as table

NAME = "drift"
CONTENDERS = (
    (OURS, False),
    (ARTICLE, False),
    (EVIDENTLY, False),
    (NANNYML, False),
    (ARTICLE, True),
    (EVIDENTLY, True),
    (NANNYML, True),
)


def read(folder: Path) -> tuple[Findings, dict[str, dict[str, str]]]:
    """What was written before: the findings, and the facts of each part."""
    file = folder / f"{NAME}.json"
    raw = json.loads(file.read_text()) if file.exists() else {"findings": {}, "facts": {}}
    return Findings.of_json(raw["findings"]), raw["facts"]


def write(found: Findings, facts: Mapping[str, Mapping[str, str]], folder: Path) -> Path:
    """Writes drift.md, drift.json and the plots into the folder.

    Args:
        facts: what has to be known of each part's run: date, machine, versions, sizes.

    Returns:
        the page's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    raw = {"facts": facts, "findings": found.as_json()}
    (folder / f"{NAME}.json").write_text(json.dumps(raw, indent=1) + "\n")
    shown = plots.draw(found, folder / NAME)
    page = folder / f"{NAME}.md"
    page.write_text(markdown(found, facts, shown))
    return page


def markdown(found: Findings, facts: Mapping[str, Mapping[str, str]], shown: Sequence[str] = ()) -> str:
    """The page. It shows the plots by their file names, so it has to lie beside them."""
    lines = ["# Benchmark: drift", "", "Written by `make bench-drift`; do not edit.", "", *_facts(facts), ""]
    goals = [(goal.goal, goal.measured, "met" if goal.is_met else "**not met**") for goal in findings.goals(found)]
    if goals:
        lines += ["## Goals", "", "Written down before the run.", "", *table([("goal", "measured", ""), *goals]), ""]
    for plot in shown:
        lines += [f"![{plots.TITLES[plot.removeprefix(NAME)]}]({plot})", ""]
    parts: tuple[tuple[Sequence[object], Callable[[], Iterable[str]]], ...] = (
        (found.rates, lambda: _rates(found.rates)),
        (found.duel, lambda: _calm(found.duel)),
        ([each for each in found.duel if each.shift != CALM], lambda: _shifts(found.duel)),
        (found.costs, lambda: _costs(found.costs)),
        (found.quiet, lambda: _flights(found.quiet, found.injected)),
    )
    for rows, section in parts:
        lines += [*section(), ""] if rows else []
    return "\n".join(lines)


def _facts(facts: Mapping[str, Mapping[str, str]]) -> list[str]:
    names = list(dict.fromkeys(name for part in facts.values() for name in part))
    header = ("", *facts)
    return table([header, *((name, *(part.get(name, "") for part in facts.values())) for name in names)])


def _rates(rates: Sequence[Rate]) -> list[str]:
    sizes = sorted({rate.rows for rate in rates})
    by = {(rate.structure, rate.rows): rate for rate in rates}
    weeks = sorted({rate.feature_weeks for rate in rates})
    lines = [
        "## Our false alarms",
        "",
        "Alarms a week of 100 features that do not drift, with 95 % Poisson intervals: an alarm is an hour of a",
        "feature in which any window says warning or critical. The columns are rows an hour. Each setting is of",
        f"{' to '.join(f'{each:g}' for each in weeks)} feature-weeks over {len(settings.MARGINALS)} kinds of values,",
        f"so its interval is wide; the budget is {settings.FALSE_ALARMS_PER_WEEK:g} a week. Hours' counts are drawn",
        "from their exact distribution. *clustered*: 20 equal rows of each entity; *de-duplicated*: one row an entity",
        "and hour, of entities that come about seven times a week.",
        "",
    ]
    cells = [
        (structure, *(_rate(by.get((structure, each))) for each in sizes))
        for structure in dict.fromkeys(rate.structure for rate in rates)
    ]
    lines += table([("", *(f"{each:,}" for each in sizes)), *cells])
    loud = [rate for rate in rates if rate.alarms]
    if loud:
        lines += ["", "Which window and family decided:", ""]
        lines += [f"* {rate.structure}, {rate.rows:,}: {_by(rate.by)}, in {rate.runs} runs" for rate in loud]
    return lines


def _by(by: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in by.items())


def _rate(rate: Rate | None) -> str:
    if rate is None:
        return ""
    low, high = rate.interval
    return f"{rate.per_week:.3g} ({low:.2g} to {high:.2g})"


def _calm(duel: Sequence[Found]) -> list[str]:
    known = {key: each for key, each in findings.scores(duel).items() if key[2] == CALM}
    settings_of = sorted({key[:2] for key in known}, key=lambda key: (key[0], key[1]))
    lines = [
        "## Everybody's false alarms",
        "",
        f"Alarms a week of 100 features without drift, on the same arrays: {len(settings.MARGINALS)} columns for a",
        "week. The article's rule and Evidently compare each hour with 20,000 rows of the four clean weeks; NannyML's",
        "chunks are hours and its reference all rows of those weeks. *Recalibrated*: with the threshold that the",
        "largest statistic of weeks without drift sets, for each kind of values. That leaves them more false alarms",
        "than ours may have, which is to their favour: so few hours cannot tell a threshold for 0.5 a week.",
        "",
    ]
    rows = []
    for who, is_recalibrated in CONTENDERS:
        found = [known.get((*setting, CALM, who, is_recalibrated)) for setting in settings_of]
        if any(found):
            rows.append((_called(who, is_recalibrated), *(_calm_cell(each) for each in found)))
    return lines + table([("", *(f"{structure}, {rows:,}" for structure, rows in settings_of)), *rows])


def _called(who: str, is_recalibrated: bool) -> str:
    return f"{who}, recalibrated" if is_recalibrated else who


def _calm_cell(each: Score | None) -> str:
    return "" if each is None else f"{per_week(each.alarms, each.hours):,.0f}"


def _shifts(duel: Sequence[Found]) -> list[str]:
    known = findings.scores(duel)
    lines = [
        "## How soon a shift is found",
        "",
        "In each cell: the share of columns found within 1, 24 and 168 hours, then the median delay. The streams have",
        "a daily season of 0.2 sigma and a wobble of 0.02. What always alarms finds everything: read the defaults",
        f"beside their false alarms above. Sigmas are of the normal behind each marginal; columns are {_columns()}.",
        "A missing value is no drift to the packages' drift tests; they count missing values elsewhere.",
    ]
    for rows in sorted({key[1] for key in known if key[2] != CALM}):
        for title, are_benign in (("shifts", False), ("too small to matter: should stay quiet", True)):
            lines += ["", f"### {rows:,} rows an hour, {title}", ""]
            lines += table(_shift_rows(known, rows, are_benign))
    beaten = findings.sooner(duel)
    lines += ["", "### Where another is sooner than ours", ""]
    lines += [
        f"* {shift}, {rows:,} rows an hour: {who}, recalibrated, {findings.delay(theirs)}; ours {findings.delay(mine)}"
        for shift, rows, mine, who, theirs in beaten
    ] or ["Nowhere, among the contenders recalibrated."]
    return lines


def _columns() -> str:
    counts = {name: settings.SHIFTED_MARGINALS.count(name) for name in dict.fromkeys(settings.SHIFTED_MARGINALS)}
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _shift_rows(
    known: Mapping[tuple[str, int, str, str, bool], Score], rows: int, are_benign: bool
) -> list[tuple[str, ...]]:
    found = [("", *(_called(*each) for each in CONTENDERS))]
    for shift in SHIFTS:
        if (shift.name in BENIGN) is are_benign:
            keys = [(settings.SHIFTED_STRUCTURE, rows, shift.name, *each) for each in CONTENDERS]
            found.append((shift.name, *(_shift_cell(known.get(key)) for key in keys)))
    return found


def _shift_cell(each: Score | None) -> str:
    if each is None:
        return ""
    shares = "/".join("-" if share is None else f"{share:.2g}" for share in each.found)
    return f"{shares}, {findings.delay(each.median)}"


def _costs(costs: Sequence[Cost]) -> list[str]:
    lines = [
        "## Cost",
        "",
        "One look at ten columns against 20,000 rows of reference, each contender in a process of its own, in turns.",
        "Ratios are Evidently's seconds over the contender's: above 1 is cheaper than Evidently. Memory is the peak of",
        "the process with its imports and data, of PostgreSQL's processes for the SQL. Bytes are what leaves the",
        "warehouse, in binary.",
        "",
    ]
    header = ("rows", "contender", "a million values", "repeats", "ratio", "memory", "bytes moved")
    cells = [
        (
            f"{cost.rows:,}",
            cost.contender,
            duration(cost.per_million),
            ", ".join(duration(seconds) for seconds in cost.seconds),
            f"{findings.ratio(costs, cost.contender, cost.rows):.2f}",
            size(cost.peak_bytes or None),
            f"{cost.moved_bytes:,}",
        )
        for cost in costs
    ]
    notes = [
        f"* {IN_SQL} reads the table once for each column, as the monitor does.",
        f"* *{READING}*, by COPY into a frame, is what everybody else has to do first.",
        *(
            f"* {who} is cheaper than {IN_ARRAYS} on {rows:,} rows: {duration(theirs)} a million values"
            for rows, who, theirs in findings.cheaper(costs)
        ),
    ]
    return [*lines, *table([header, *cells]), "", *notes]


def _flights(quiet: Sequence[Quiet], injected: Sequence[Injected]) -> list[str]:
    lines = [
        "## Real flights",
        "",
        "All flights from New York in 2013 by hour, about 920 a day. Four weeks make the baseline, the next two are",
        "judged. Calm is September to November before Thanksgiving. Nobody knows which weeks drifted, so an alarm is",
        "not known to be false.",
        "",
    ]
    header = (
        "contender",
        "feature",
        "part of the year",
        "weeks",
        "alarms a week of 100 features",
        "runs",
        "decided by",
    )
    rows = [
        (
            each.contender,
            each.feature,
            "calm" if each.is_calm else "the rest",
            f"{each.weeks}",
            f"{100 * each.alarms / each.weeks:,.0f}",
            f"{each.runs}",
            _by(each.by),
        )
        for each in sorted(quiet, key=lambda each: (each.contender != OURS, not each.is_calm))
        if each.weeks
    ]
    lines += [*table([header, *rows]), "", "What ours finds of changes made to the judged weeks:", ""]
    return lines + table([INJECTED_HEADER, *(_injected(each) for each in injected)])


INJECTED_HEADER = ("change", "feature", "within 24 h", "168 h", "median", "alarms without it within 24 h", "168 h")


def _injected(each: Injected) -> tuple[str, ...]:
    def share(first: Sequence[int | None], limit: int) -> str:
        return f"{sum(hour is not None and hour <= limit for hour in first) / len(first):.0%}"

    shares = [share(first, limit) for first in (each.first, each.without) for limit in (24, 168)]
    median = sorted(findings.NEVER if hour is None else hour for hour in each.first)[len(each.first) // 2]
    return each.shift, each.feature, *shares[:2], findings.delay(median), *shares[2:]
