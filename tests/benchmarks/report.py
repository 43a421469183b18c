"""Writes what a run found: a Markdown page, a plot and the raw numbers, beside each other in one folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.benchmarks import plots
from tests.benchmarks.contest import Curve, Table, Task
from tests.benchmarks.measure import duration, median, size

NAME = "bench_features"
HEADER = ("contestant", "median", "repeats", "ratio", "memory", "server's memory", "answer", "note")


def write(
    tasks: Sequence[Task],
    facts: Mapping[str, str],
    folder: Path,
    tables: Sequence[Table] = (),
    curves: Sequence[Curve] = (),
) -> Path:
    """Writes bench_features.md, .json, .png and, where there are curves, bench_features_growth.png into the folder.

    Args:
        tasks: with at least one outcome each.
        facts: what has to be known of the run, in the order of the page: date, machine, versions, sizes.
        folder: made when it is missing.
        tables: more measurements, in the order of the page.
        curves: for a plot of their own.

    Returns:
        the page's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if tasks:
        plots.contest(tasks, folder / f"{NAME}.png", facts)
    if curves:
        plots.growth(curves, folder / f"{NAME}_growth.png", facts)
    raw = {
        "facts": dict(facts),
        "tasks": [_without_paths(task) for task in tasks],
        "tables": [asdict(table) for table in tables],
        "curves": [asdict(curve) for curve in curves],
    }
    (folder / f"{NAME}.json").write_text(json.dumps(raw, indent=2) + "\n")
    page = folder / f"{NAME}.md"
    page.write_text(markdown(tasks, facts, tables, has_curves=bool(curves)))
    return page


def _without_paths(task: Task) -> dict[str, Any]:
    """A task without its answers' paths, which are of the machine that ran."""
    raw = asdict(task)
    for outcome in raw["outcomes"]:
        del outcome["answer"]
    return raw


def markdown(
    tasks: Sequence[Task], facts: Mapping[str, str], tables: Sequence[Table] = (), *, has_curves: bool = False
) -> str:
    """The page. It shows the plots by their file names, so it has to lie beside them."""
    lines = ["# Benchmark: features", "", "Written by `make bench-features`; do not edit.", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items()), ""]
    if tasks:
        lines += [f"![Median wall time of each contestant]({NAME}.png)", ""]
    for task in tasks:
        lines += [f"## {task.title}", "", task.text, "", *_table(task), ""]
    if has_curves:
        lines += [f"![Seconds by size, both logarithmic]({NAME}_growth.png)", ""]
    for table in tables:
        lines += [f"## {table.title}", "", table.text, "", *rows((table.header, *table.rows)), ""]
    if tasks:
        lines += ["Versions:", "", *versions(tasks), ""]
    return "\n".join(lines)


def rows(cells: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown, the first row being its header."""
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return [lines[0], "|" + "---|" * len(cells[0]), *lines[1:]]


def versions(tasks: Sequence[Task]) -> list[str]:
    """A line per contestant that names any; its formulations, told apart after a comma, share one."""
    lines = {
        f"* {outcome.name.split(',')[0]}: "
        + ", ".join(f"{name} {version}" for name, version in outcome.versions.items())
        for task in tasks
        for outcome in task.outcomes
        if outcome.versions
    }
    return sorted(lines)


def ratios(task: Task) -> list[float]:
    """Each outcome's median over the reference's: 2.0 took twice as long."""
    reference = next(outcome for outcome in task.outcomes if outcome.name == task.reference)
    return [median(outcome.seconds) / median(reference.seconds) for outcome in task.outcomes]


def _table(task: Task) -> list[str]:
    lines = [
        f"Ratios are of medians in this run; 1.0 is {task.reference}, and more is slower.",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|---|---:|---|---:|---:|---:|---|---|",
    ]
    for outcome, ratio in zip(task.outcomes, ratios(task), strict=True):
        cells = (
            outcome.name,
            duration(median(outcome.seconds)),
            ", ".join(duration(seconds) for seconds in outcome.seconds),
            f"{ratio:,.2f}",
            size(outcome.peak_bytes),
            size(outcome.server_bytes),
            outcome.check,
            outcome.note,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines
