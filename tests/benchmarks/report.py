"""Writes what a run found: a Markdown page, a plot and the raw numbers, beside each other in one folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.benchmarks.contest import Outcome, Task
from tests.benchmarks.measure import median

NAME = "bench_features"
HEADER = ("contestant", "median", "repeats", "ratio", "memory", "server's memory", "answer", "note")
REFERENCE_COLOUR, OTHER_COLOUR = "#d55e00", "#7f8fa6"


def write(tasks: Sequence[Task], facts: Mapping[str, str], folder: Path) -> Path:
    """Writes bench_features.md, .png and .json into the folder.

    Args:
        tasks: with at least one outcome each.
        facts: what has to be known of the run, in the order of the page: date, machine, versions, sizes.
        folder: made when it is missing.

    Returns:
        the page's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plot(tasks, folder / f"{NAME}.png", facts)
    raw_tasks = [asdict(task) for task in tasks]
    for outcome in (outcome for task in raw_tasks for outcome in task["outcomes"]):
        del outcome["answer"]  # a path of the machine that ran
    (folder / f"{NAME}.json").write_text(json.dumps({"facts": dict(facts), "tasks": raw_tasks}, indent=2) + "\n")
    page = folder / f"{NAME}.md"
    page.write_text(markdown(tasks, facts))
    return page


def markdown(tasks: Sequence[Task], facts: Mapping[str, str]) -> str:
    """The page. It shows the plot by its file name, so it has to lie beside it."""
    lines = ["# Benchmark: features", "", "Written by `make bench-features`; do not edit.", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items()), ""]
    lines += [f"![Median wall time of each contestant]({NAME}.png)", ""]
    for task in tasks:
        lines += [f"## {task.title}", "", task.text, "", *_table(task), ""]
    lines += ["Versions:", "", *versions(tasks), ""]
    return "\n".join(lines)


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


def plot(tasks: Sequence[Task], path: Path, facts: Mapping[str, str]) -> None:
    """One panel per task: a bar for each median, a dot for each repeat, a logarithmic axis of seconds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    heights = [len(task.outcomes) + 1.5 for task in tasks]
    figure, panels = plt.subplots(
        len(tasks),
        1,
        figsize=(10, 0.45 * sum(heights) + 0.6),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for panel, task in zip(panels[:, 0], tasks, strict=True):
        for place, outcome in enumerate(task.outcomes):
            _bar(panel, place, outcome, is_reference=outcome.name == task.reference)
        panel.set_yticks(range(len(task.outcomes)), [outcome.name for outcome in task.outcomes])
        panel.invert_yaxis()
        panel.set_xscale("log")
        panel.set_xlim(*_span(task))
        panel.set_title(task.title, loc="left", fontsize=11)
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1, 0].set_xlabel("seconds, logarithmic; bar: median, dots: repeats")
    told = ", ".join(facts[name] for name in ("date", "machine") if name in facts)
    figure.suptitle(told, fontsize=9, x=0.99, ha="right")
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)


def _span(task: Task) -> tuple[float, float]:
    """From below the fastest repeat to far enough beyond the slowest for its label."""
    seconds = [each for outcome in task.outcomes for each in outcome.seconds]
    room = max(seconds) / min(seconds)
    return min(seconds) / 2, max(seconds) * 2 * room**0.35


def _bar(panel: Any, place: int, outcome: Outcome, *, is_reference: bool) -> None:
    middle = median(outcome.seconds)
    panel.barh(place, middle, color=REFERENCE_COLOUR if is_reference else OTHER_COLOUR, height=0.6)
    panel.plot(outcome.seconds, [place] * len(outcome.seconds), "o", color="black", markersize=3)
    extrapolated = " (extrapolated)" if "extrapolated" in outcome.note else ""
    panel.annotate(
        duration(middle) + extrapolated,
        (max(outcome.seconds), place),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
    )


def duration(seconds: float) -> str:
    """Seconds for a reader: three digits that count, hours when they are many."""
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:,.1f} h"
    if seconds >= 100:
        return f"{seconds:,.0f} s"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def size(number: int | None) -> str:
    """Bytes for a reader."""
    return "" if number is None else f"{number / 2**20:,.0f} MiB"
