"""The report's plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.contest import Curve, Outcome, Task
from tests.benchmarks.measure import duration, median

REFERENCE_COLOUR, OTHER_COLOUR = "#d55e00", "#7f8fa6"
# Colours that people with any colour vision tell apart (Okabe and Ito).
CURVE_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def contest(tasks: Sequence[Task], path: Path, facts: Mapping[str, str]) -> None:
    """One panel per task: a bar for each median, a dot for each repeat, a logarithmic axis of seconds."""
    heights = [len(task.outcomes) + 1.5 for task in tasks]
    figure, panels = _pyplot().subplots(
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
    _save(figure, path, facts)


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


def growth(curves: Sequence[Curve], path: Path, facts: Mapping[str, str]) -> None:
    """Seconds by size, both relative to the smallest and logarithmic, and what proportional and 1.1 would be."""
    pyplot = _pyplot()
    figure, panel = pyplot.subplots(figsize=(8, 5), layout="constrained")
    largest = max(curve.sizes[-1] / curve.sizes[0] for curve in curves)
    for exponent, style in ((1.0, "-"), (1.1, ":")):
        panel.plot([1, largest], [1, largest**exponent], style, color="#bbbbbb", label=f"size^{exponent:g}")
    for curve, colour in zip(curves, CURVE_COLOURS, strict=False):
        by_size = [each / curve.sizes[0] for each in curve.sizes]
        by_time = [each / curve.medians[0] for each in curve.medians]
        panel.plot(by_size, by_time, "o-", color=colour, label=f"{curve.what}: {curve.exponent:.2f}")
    panel.set_xscale("log", base=2)
    panel.set_yscale("log", base=2)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter("{x:g}x")
    panel.set_xlabel("size, in multiples of the smallest")
    panel.set_ylabel("median seconds, in multiples of the smallest size's")
    panel.legend(frameon=False, fontsize=9, title="what grows: exponent")
    panel.spines[["top", "right"]].set_visible(False)
    _save(figure, path, facts)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: Path, facts: Mapping[str, str]) -> None:
    told = ", ".join(facts[name] for name in ("date", "machine") if name in facts)
    figure.suptitle(told, fontsize=9, x=0.99, ha="right")
    figure.savefig(path, dpi=150, metadata={"Software": None})
    _pyplot().close(figure)
