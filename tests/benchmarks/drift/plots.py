"""The report's plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.drift import findings, settings
from tests.benchmarks.drift.duel import ARTICLE, CALM, EVIDENTLY, NANNYML, OURS, Found
from tests.benchmarks.drift.findings import BENIGN, Findings, per_week
from tests.benchmarks.drift.shifts import SHIFTS

COLOURS = {OURS: "#d55e00", ARTICLE: "#7f8fa6", EVIDENTLY: "#0072b2", NANNYML: "#009e73"}
TITLES = {
    "_false_alarms.svg": "False alarms a week of 100 features, by contender and setting",
    "_delays.svg": "Median delay of each shift, by contender",
}
# Where zero is drawn on a logarithmic axis.
NOTHING = 0.1
ROWS_SHOWN = 1_000


def draw(found: Findings, stem: Path) -> list[str]:
    """Writes the plots of what was measured, each named by the stem and its kind; their file names."""
    if not found.duel:
        return []
    made = []
    for ending, plot in (("_false_alarms.svg", false_alarms), ("_delays.svg", delays)):
        path = stem.with_name(stem.name + ending)
        if plot(found.duel, path):
            made.append(path.name)
    return made


def false_alarms(duel: Sequence[Found], path: Path) -> bool:
    """A group of bars for each setting without drift."""
    known = {key: each for key, each in findings.scores(duel).items() if key[2] == CALM and not key[4]}
    places = sorted({key[:2] for key in known})
    pyplot = _pyplot()
    figure, panel = pyplot.subplots(figsize=(10, 4.5), layout="constrained")
    for number, (who, colour) in enumerate(COLOURS.items()):
        found = [known.get((*place, CALM, who, False)) for place in places]
        heights = [max(NOTHING, per_week(each.alarms, each.hours)) if each else NOTHING for each in found]
        at = [place + 0.2 * (number - 1.5) for place in range(len(places))]
        panel.bar(at, heights, 0.18, bottom=0, color=colour, label=who)
    panel.set_yscale("log")
    panel.set_ylim(NOTHING / 1.5, None)
    panel.axhline(settings.GOAL_FALSE_ALARMS, color="black", linewidth=0.8, linestyle=":")
    panel.set_xticks(range(len(places)), [_setting(*place) for place in places], fontsize=8)
    panel.set_ylabel("alarms a week of 100 features")
    panel.set_title("No drift: false alarms; at the bottom, none; dotted, the goal", loc="left", fontsize=11)
    return _save(figure, panel, path)


def delays(duel: Sequence[Found], path: Path) -> bool:
    """A dot for each contender on each shift, at about the same false alarms."""
    known = findings.scores(duel)
    sizes = sorted({key[1] for key in known if key[2] not in {CALM, *BENIGN}})
    if not sizes:
        return False
    rows = ROWS_SHOWN if ROWS_SHOWN in sizes else sizes[0]
    shifts = [shift.name for shift in SHIFTS if shift.name not in BENIGN]
    figure, panel = _pyplot().subplots(figsize=(10, 5.5), layout="constrained")
    end = max(part.hours for part in duel) * 2
    for number, (who, colour) in enumerate(COLOURS.items()):
        keys = [(settings.SHIFTED_STRUCTURE, rows, shift, who, who != OURS) for shift in shifts]
        medians = [min(known[key].median, end) if key in known else None for key in keys]
        at = [(place + 0.12 * (number - 1.5), hours) for place, hours in enumerate(medians) if hours]
        panel.plot([x for _, x in at], [y for y, _ in at], "o", color=colour, label=_label(who), markersize=7)
    panel.set_xscale("log")
    panel.axvline(end / 1.4, color="#bbbbbb", linewidth=0.8)
    panel.set_yticks(range(len(shifts)), shifts)
    panel.invert_yaxis()
    panel.set_xlabel("hours until half of the columns were found, logarithmic; beyond the line: not found")
    panel.set_title(f"Delay at {rows:,} rows an hour, false alarms about alike", loc="left", fontsize=11)
    return _save(figure, panel, path)


def _setting(structure: str, rows: int) -> str:
    return "\n".join([*structure.split(" and "), f"{rows:,}"])


def _label(who: str) -> str:
    return who if who == OURS else f"{who}, recalibrated"


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "drift"
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, panel: Any, path: Path) -> bool:
    figure.legend(loc="outside lower center", ncols=len(COLOURS), frameon=False, fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    _pyplot().close(figure)
    return True
