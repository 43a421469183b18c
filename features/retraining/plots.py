"""Figures of how models age and of what policies would have cost: readable in grey, the finding in the title."""

import io
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from features.retraining.backtest import Backtest, Replayed
from features.retraining.cadence import DecayCurve, Recommendation

INK, MIDDLE, PALE, ACCENT = "#222222", "#777777", "#d9d9d9", "#b3401f"
SMALL = 8.5
# Of what called for a retraining, how it is drawn, and as a letter; all else is a plain tick.
MARKS = {"performance": ("v", "▼"), "drift": ("D", "◆"), "manual": ("s", "■")}
TICK = ("|", "❘")
# A policy that costs so many times what the next one does would flatten all others, and is drawn at the edge.
OFF_SCALE = 2.5


def decay_plot(curve: DecayCurve, recommendation: Recommendation) -> Figure:
    """Excess log loss by model age with its confidence band and spread, and the age that follows."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    _decay(axes, curve)
    _recommended(axes, curve, recommendation)
    _name_lines(axes, curve, recommendation)
    _title(figure, f"A model may become {_plural(recommendation.max_age_days, 'day')} old")
    _say(
        axes,
        f"Log loss above that of a fresh model on the same rows, whose own is {curve.fresh_loss:.3f}",
    )
    axes.set_xlabel("Age of the model (days)")
    axes.set_ylabel("Excess log loss (nats per row)")
    return figure


def policy_plot(backtest: Backtest) -> Figure:
    """What each policy would have cost against how often it retrained, and when it did."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[2, 3])
    _trade_off(left, backtest)
    _timeline(right, backtest)
    _title(figure, _finding(backtest))
    _say(left, "What each policy cost" if backtest.costs else "What each policy lost to the freshest models")
    _say(right, f"When each policy retrained   {MARKS['performance'][1]} performance   {MARKS['drift'][1]} drift")
    return figure


def svg(figure: Figure) -> str:
    """The figure as SVG; the same figure gives the same text, without the date or random ids."""
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "skewless"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _decay(axes: Axes, curve: DecayCurve) -> None:
    """From no excess at age 0 on, where every model is its own fresh one."""
    ages = [0.0, *curve.ages]

    def column(name: str) -> list[float]:
        return [0.0, *(getattr(point, name) for point in curve.points)]

    axes.fill_between(ages, column("low"), column("high"), color=PALE, linewidth=0)
    for name in ("spread_low", "spread_high"):
        axes.plot(ages, column(name), color=MIDDLE, linewidth=0.9, linestyle=(0, (1, 1.5)))
    axes.plot(ages, column("excess"), color=INK, linewidth=1.8, marker="o", markersize=3)
    axes.axhline(0, color=INK, linewidth=0.6, zorder=1)
    _plain(axes)
    axes.set_xlim(0, ages[-1])


def _name_lines(axes: Axes, curve: DecayCurve, recommendation: Recommendation) -> None:
    """Beside the ends of the lines, pushed apart where they would overlap."""
    last, bound = curve.points[-1], recommendation.bound
    meaning = "worth a retraining" if recommendation.method == "costs" else f"{bound / curve.fresh_loss:.1%} of fresh"
    names = {
        "mean": (last.excess, INK),
        f"{curve.confidence:.0%} confidence": (last.high, MIDDLE),
        "80% of label times": (last.spread_high, MIDDLE),
        f"{meaning}: {bound:.4f}": (bound, ACCENT),
    }
    bottom, top = axes.get_ylim()
    places = _pushed_apart([value for value, _ in names.values()], (top - bottom) * 0.06)
    for (name, (_, color)), place in zip(names.items(), places, strict=True):
        _write(axes, name, last.age_days, place, color=color)


def _write(axes: Axes, text: str, x: float, y: float, *, color: str = INK, bold: bool = False) -> None:
    """Right of a point in the plot."""
    axes.annotate(
        text,
        (x, y),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        fontsize=SMALL,
        fontweight="bold" if bold else "normal",
        color=color,
        annotation_clip=False,
        zorder=1.5,  # over the grid, and under the points of others
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )


def _pushed_apart(values: Sequence[float], gap: float) -> list[float]:
    """The values in their order, each at least a gap above the next lower one."""
    places = list(values)
    order = sorted(range(len(values)), key=lambda number: values[number])
    for lower, upper in pairwise(order):
        places[upper] = max(places[upper], places[lower] + gap)
    return places


def _recommended(axes: Axes, curve: DecayCurve, recommendation: Recommendation) -> None:
    """The bound, on it the interval of the age, and the age itself."""
    age = recommendation.max_age_days
    axes.axhline(recommendation.bound, color=ACCENT, linewidth=0.9, linestyle="--")
    axes.hlines(recommendation.bound, recommendation.low, recommendation.high, color=ACCENT, linewidth=3.5)
    axes.axvline(age, color=ACCENT, linewidth=1.4)
    left = age > curve.last_age / 2  # on the side where there is room
    axes.annotate(
        f"{_plural(age, 'day')}\n({recommendation.low} to {recommendation.high})",
        (age, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-6 if left else 6, -4),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        fontsize=SMALL,
        fontweight="bold",
        color=ACCENT,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )


def _value(one: Replayed) -> float:
    """What is drawn upwards: the cost, or the excess log loss where costs are not given."""
    return one.excess if one.cost is None else one.cost


def _trade_off(axes: Axes, backtest: Backtest) -> None:
    values = [_value(one) for one in backtest.policies]
    limit = _limit(values)
    shown = [min(value, limit) for value in values]
    span = max(shown) - min(0.0, *shown) or 1.0
    axes.set_ylim(min(0.0, *shown) - 0.08 * span, max(shown) + 0.12 * span)
    places = _pushed_apart(shown, 0.06 * span)
    for one, value, height, place in zip(backtest.policies, values, shown, places, strict=True):
        count, color = len(one.retrainings), ACCENT if one.policy == "current" else INK
        beyond = value > limit
        axes.plot(count, height, marker="^" if beyond else "o", markersize=7, color=color, clip_on=False)
        text = f"{one.policy}  {_number(backtest, value)}" + (" (off the scale)" if beyond else "")
        _write(axes, text, count, place, color=color, bold=one.policy == "current")
    _plain(axes)
    axes.axhline(0, color=INK, linewidth=0.6, zorder=1)
    # Room for the name of the rightmost.
    axes.set_xlim(-0.5, max(1, *(len(one.retrainings) for one in backtest.policies)) * 1.45)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("Retrainings after the first training")
    axes.set_ylabel("Excess log loss (nats per row)" if backtest.costs is None else "Cost (in the contract's currency)")


def _limit(values: Sequence[float]) -> float:
    """Up to which value points are drawn in their place."""
    second, largest = sorted(values)[-2:]
    return OFF_SCALE / 2 * second if second > 0 and largest > OFF_SCALE * second else largest


def _timeline(axes: Axes, backtest: Backtest) -> None:
    policies = sorted(backtest.policies, key=_value, reverse=True)
    start, end = _date(backtest.started_at), _date(backtest.ended_at)
    for row, one in enumerate(policies):
        color = ACCENT if one.policy == "current" else INK
        axes.hlines(row, start, end, color=PALE, linewidth=0.8, zorder=0)
        for retrained in one.retrainings:
            marker, _ = MARKS.get(retrained.trigger, TICK)
            size = 12 if marker == "|" else 6
            axes.plot(_date(retrained.at), row, marker=marker, markersize=size, color=color, markeredgewidth=1.4)
        _write(axes, _triggers(one), end, row, color=color)
    axes.set_yticks(range(len(policies)), [one.policy for one in policies])
    axes.xaxis_date()
    axes.set_ylim(-0.6, len(policies) - 0.4)
    axes.set_xlim(start, end)
    _plain(axes)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Label time (UTC)")


def _date(at: datetime) -> float:
    """As matplotlib counts: days since 1970."""
    return at.timestamp() / 86400


def _triggers(one: Replayed) -> str:
    """How often it retrained, and for the current policy why."""
    counts = Counter(retrained.trigger for retrained in one.retrainings)
    if one.policy != "current" or not counts:
        return str(len(one.retrainings))
    return "\n".join(f"{count} {trigger.replace('_', ' ')}" for trigger, count in counts.most_common())


def _finding(backtest: Backtest) -> str:
    current = backtest["current"]
    often = f"retrained {_plural(len(current.retrainings), 'time')}"
    if backtest.costs is None:
        return f"The current policy {often}, and loses {current.excess:.4f} log loss a row to the freshest models"
    return f"The current policy {often}, and costs {_number(backtest, current.regret)} more than hindsight would have"


def _number(backtest: Backtest, value: float) -> str:
    return f"{value:.4f}" if backtest.costs is None else f"{value:,.0f}"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _title(figure: Figure, finding: str) -> None:
    figure.suptitle(finding, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)


def _say(axes: Axes, detail: str) -> None:
    axes.set_title(detail, loc="left", fontsize=9, color=MIDDLE)


def _plain(axes: Axes) -> None:
    """A light grid, and no frame but the axes."""
    axes.grid(color="#eeeeee", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL, colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
