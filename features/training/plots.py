"""Pictures of an evaluation: each title says what was found, with its number.

Figures are made without pyplot, so none is kept by a global registry and a task may make them in any thread. Lines
differ by width and dashes too, not by colour alone: they are read in grey as well.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter
from scipy import stats
from sklearn import metrics

from features.training.evaluation import CalibrationBin, Evaluation, Importance, score_histogram
from features.training.resampling import Booleans, Floats

INK = "#222222"
QUIET = "#6b6b6b"
PALE = "#b5b5b5"
FAINT = "#dcdcdc"
ACCENT = "#b4441a"
METRIC_NAMES = {"roc_auc": "ROC AUC"}
WIDTH, HEADER = 7.2, 0.62  # inches
# From the strongest to the faintest; the first is the challenger's.
LINES = ((ACCENT, 2.4, "-"), (INK, 1.4, "-"), (QUIET, 1.4, (0, (5, 2))), (QUIET, 1.4, (0, (1, 1.5))))
CALIBRATION_CONFIDENCE = 0.95
# More would not fit the picture; the numbers of all are in the evaluation.
MOST_FEATURES = 20


def roc_plot(truth: Booleans, score: Floats, simple: Mapping[str, Floats], champion: Floats | None = None) -> Figure:
    """ROC curves of the challenger, the champion and the simple models on the same rows; both classes are needed."""
    curves = {"challenger": score}
    if champion is not None:
        curves["champion"] = champion
    curves |= {name.replace("_", " "): values for name, values in simple.items()}
    areas = {name: float(metrics.roc_auc_score(truth, values)) for name, values in curves.items()}
    figure, axes = _axes(
        _roc_title(areas),
        f"{len(truth):,} holdout rows, {truth.mean():.0%} of them true",
        "share of false rows flagged (false positive rate)",
        "share of true rows flagged (true positive rate)",
        height=7.4,
    )
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    axes.text(0.5, 0.47, "chance 0.500", color=QUIET, fontsize=9, rotation=45, ha="center", va="center")
    for number, (name, values) in enumerate(curves.items()):
        color, width, dashes = LINES[min(number, len(LINES) - 1)]
        rates = metrics.roc_curve(truth, values)[:2]
        axes.plot(*rates, color=color, linewidth=width, linestyle=dashes, label=name, zorder=3 - number / 10)
    _square(axes, 1.0)
    _legend(axes, areas)
    return figure


def calibration_plot(evaluation: Evaluation) -> Figure:
    """What the model said beside what came true, by tenths of the rows, each with its Wilson interval."""
    bins = evaluation.calibration
    said = np.array([each.mean_score for each in bins])
    true = np.array([each.share_true for each in bins])
    low, high = np.array([_wilson(each) for each in bins]).T
    off = (said < low) | (said > high)
    figure, axes = _axes(
        f"Scores are {100 * evaluation.calibration_error:.1f} points off on average (ECE "
        f"{evaluation.calibration_error:.3f}); {(~off).sum()} of {len(bins)} bins agree",
        f"{evaluation.rows:,} holdout rows in bins of equally many, {CALIBRATION_CONFIDENCE:.0%} Wilson intervals",
        "mean score of the bin (probability)",
        "share of the bin that came true",
        height=7.4,
    )
    limit = min(1.0, 1.08 * float(max(high.max(), said.max())))
    axes.plot([0, limit], [0, limit], color=QUIET, linewidth=1, linestyle=(0, (5, 2)))
    for rows, color, face in ((~off, INK, INK), (off, ACCENT, "white")):
        axes.vlines(said[rows], low[rows], high[rows], color=color, linewidth=1.4)
        axes.plot(said[rows], true[rows], "o", color=color, markerfacecolor=face, markersize=6, markeredgewidth=1.6)
    _square(axes, limit)
    _note(axes, 0.03, 0.97, "above the line: more came true than it said", va="top")
    _note(axes, 0.97, 0.03, "below: fewer came true than it said", ha="right")
    return figure


def importance_plot(evaluation: Evaluation) -> Figure:
    """By how much the metric suffers when a feature's values change places, with the deviation over repeats."""
    shown = evaluation.importance[:MOST_FEATURES]
    left_out = len(evaluation.importance) - len(shown)
    metric = METRIC_NAMES.get(evaluation.metric, evaluation.metric.replace("_", " "))
    figure, axes = _axes(
        _importance_title(shown[0], metric),
        f"permutation importance on {evaluation.rows:,} holdout rows, with the deviation over repeats"
        + (f"; {left_out} smaller ones left out" if left_out else ""),
        f"drop of {metric} when the feature is shuffled",
        "",
        height=1.9 + 0.34 * len(shown),
    )
    places = np.arange(len(shown))
    drops = np.array([each.drop for each in shown])
    deviations = np.array([each.deviation for each in shown])
    axes.barh(places, drops, height=0.6, color=[ACCENT, *[PALE] * (len(shown) - 1)])
    axes.hlines(places, drops - deviations, drops + deviations, color=INK, linewidth=1.4)
    for place, drop, deviation in zip(places, drops, deviations, strict=True):
        beside = (max(drop, 0) + deviation, place)
        axes.annotate(f"{drop:.3f}", beside, (5, 0), textcoords="offset points", va="center", color=INK, fontsize=10)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(places, [each.feature for each in shown])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    return figure


def score_plot(truth: Booleans, score: Floats) -> Figure:
    """Where the scores of rows that came true lie, and those of the others; both classes are needed."""
    true, false, edges = score_histogram(truth, score)
    figure, axes = _axes(
        f"Rows that came true score {score[truth].mean():.2f} on average, the others {score[~truth].mean():.2f}",
        f"{len(truth):,} holdout rows, {truth.mean():.0%} of them true; in steps of {edges[1] - edges[0]:.2f}",
        "score (probability)",
        "share of the rows with this outcome",
    )
    shares = {"true": true / truth.sum(), "false": false / (~truth).sum()}
    axes.stairs(shares["false"], edges, fill=True, color=FAINT)
    axes.stairs(shares["false"], edges, color=QUIET, linewidth=1)
    axes.stairs(shares["true"], edges, color=ACCENT, linewidth=2.4)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.18 * max(float(values.max()) for values in shares.values()))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    for name, other, rows, color in (("true", "false", truth, ACCENT), ("false", "true", ~truth, QUIET)):
        # Where this outcome exceeds the other by most.
        place = int(np.argmax(shares[name] - shares[other]))
        at = (float(edges[place : place + 2].mean()), float(shares[name][place]))
        _label(axes, f"{name}: {rows.sum():,} rows", at, color)
    return figure


def _roc_title(areas: Mapping[str, float]) -> str:
    """The challenger beside the champion, or where there is none beside the best simple model."""
    own = areas["challenger"]
    others = {name: area for name, area in areas.items() if name != "challenger"}
    if not others:
        return f"The challenger's ROC AUC is {own:.3f}"
    name = "champion" if "champion" in others else max(others, key=lambda other: others[other])
    rival = "the champion" if name == "champion" else name
    gap = round(own - others[name], 3)
    if gap == 0:
        return f"ROC AUC {own:.3f}: the challenger equals {rival}"
    return f"ROC AUC {own:.3f}: {abs(gap):.3f} {'above' if gap > 0 else 'below'} {rival}"


def _importance_title(largest: Importance, metric: str) -> str:
    if largest.drop <= largest.deviation:
        return f"No feature matters: shuffled, {metric} drops by {largest.drop:.3f} at most"
    return f"{largest.feature} matters most: shuffled, {metric} drops by {largest.drop:.3f}"


def _wilson(each: CalibrationBin) -> tuple[float, float]:
    """Wilson's score interval of a share (J. Am. Stat. Assoc. 22, 1927)."""
    true = round(each.share_true * each.rows)
    found = stats.binomtest(true, each.rows).proportion_ci(CALIBRATION_CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def _axes(title: str, subtitle: str, x: str, y: str, *, height: float = 5.2) -> tuple[Figure, Axes]:
    top = 1 - HEADER / height
    figure = Figure(figsize=(WIDTH, height), dpi=150, layout=ConstrainedLayoutEngine(rect=(0.01, 0.01, 0.97, top)))
    figure.text(0.02, top + 0.38 / height, title, fontsize=12.5, weight="bold", color=INK)
    figure.text(0.02, top + 0.14 / height, subtitle, fontsize=9.5, color=QUIET)
    axes = figure.add_subplot()
    axes.set_xlabel(x, color=INK, fontsize=10)
    axes.set_ylabel(y, color=INK, fontsize=10)
    axes.set_axisbelow(True)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelcolor=INK, labelsize=9.5)
    return figure, axes


def _legend(axes: Axes, areas: Mapping[str, float]) -> None:
    """The curves' names and areas, best first: curves of good models nearly coincide, so names on them would too."""
    lines = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    best_first = sorted(areas, key=lambda name: -areas[name])
    axes.legend(
        [lines[name] for name in best_first],
        [f"{areas[name]:.3f}  {name}" for name in best_first],
        loc="lower right",
        frameon=False,
        fontsize=10,
        labelcolor=INK,
        title="ROC AUC",
        alignment="left",
    )


def _label(axes: Axes, text: str, at: tuple[float, float], color: str) -> None:
    """A name above a point, away from the nearer edge."""
    axes.annotate(
        text,
        at,
        (0, 6),
        textcoords="offset points",
        ha="left" if at[0] < 0.2 else "right" if at[0] > 0.8 else "center",
        color=color,
        fontsize=10,
        weight="bold",
    )


def _square(axes: Axes, limit: float) -> None:
    """Both axes are shares, so that a step on one is as long as on the other."""
    axes.set_xlim(-0.01 * limit, 1.01 * limit)
    axes.set_ylim(-0.01 * limit, 1.01 * limit)
    axes.set_aspect("equal")


def _note(axes: Axes, x: float, y: float, text: str, *, ha: str = "left", va: str = "bottom") -> None:
    axes.text(x, y, text, transform=axes.transAxes, ha=ha, va=va, color=QUIET, fontsize=9)
