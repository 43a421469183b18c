"""The report's plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.plots import OTHER_COLOUR, REFERENCE_COLOUR, _pyplot
from tests.benchmarks.serving_bench.contestants import POSTGRES, REDIS, SKEWLESS
from tests.benchmarks.serving_bench.findings import CALLS, Latency

PANELS = ((REDIS, "Redis"), (POSTGRES, "PostgreSQL"))


def latencies(found: Sequence[Latency], path: Path, facts: Mapping[str, str]) -> None:
    """A panel for each store: p50 (solid) and p99 (dotted) by the number of entities in a read, both logarithmic."""
    pyplot = _pyplot()
    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4.6), sharey=True, layout="constrained")
    smallest = min(each.users for each in found)
    for panel, (store, title) in zip(panels, PANELS, strict=True):
        there = [each for each in found if (each.store, each.users, each.how) == (store, smallest, CALLS)]
        for name in dict.fromkeys(each.name for each in there):
            _lines(panel, name, [each for each in there if each.name == name])
        panel.set_title(title, loc="left", fontsize=11)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.xaxis.set_major_formatter("{x:,.0f}")
        panel.yaxis.set_major_formatter("{x:,g}")
        panel.set_xlabel("entities in a read")
        panel.grid(axis="y", color="#dddddd", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("milliseconds")
    panels[0].legend(frameon=False, fontsize=9)
    told = ", ".join(facts[name] for name in ("date", "machine") if name in facts)
    figure.suptitle(told, fontsize=9, x=0.99, ha="right")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _lines(panel: Any, name: str, measured: Sequence[Latency]) -> None:
    colour = REFERENCE_COLOUR if name == SKEWLESS else OTHER_COLOUR
    entities = [each.entities for each in measured]
    for quantile, style in (("p50", "o-"), ("p99", "o:")):
        middle = [getattr(each, f"median_{quantile}") * 1000 for each in measured]
        panel.plot(entities, middle, style, color=colour, markersize=4, label=f"{name}, {quantile}")
        rounds = [[seconds * 1000 for seconds in getattr(each, quantile)] for each in measured]
        panel.vlines(entities, list(map(min, rounds)), list(map(max, rounds)), color=colour, alpha=0.35, linewidth=3)
