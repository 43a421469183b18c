"""Charts as inline SVG: no script, no style of their own, colours by class, so that they follow the theme.

A plotting library would bring styles that the content security policy forbids, and one theme only. Where ticks stand is
left to matplotlib. Every mark that can be asked about has a title that says its numbers.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from markupsafe import Markup, escape
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.ticker import MaxNLocator

from feature_health.reader import Reader

WIDTH, HEIGHT = 640, 270
# Of charts over time, which stand by themselves.
WIDE = 1000
LEFT, RIGHT, TOP, BOTTOM = 70, 14, 12, 46
Point = tuple[float | datetime, float | None]


@dataclass(frozen=True)
class Scale:
    """From values to places; times are days since 1970.

    Attributes:
        ticks: where, what is written there.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[tuple[float, str], ...] = ()

    def __call__(self, value: float | datetime) -> float:
        """The place of a value; beyond the ends it is drawn at the end."""
        # As date2num would, which takes fifty times as long.
        number = value.timestamp() / 86400 if isinstance(value, datetime) else value
        share = (number - self.low) / ((self.high - self.low) or 1)
        return round(self.start + min(max(share, 0.0), 1.0) * (self.end - self.start), 1)


@dataclass
class Figure:
    """A chart with its words, and the marks that were drawn so far.

    Attributes:
        title, subtitle: what it shows, and in which units.
        x_label, y_label: written along the axes.
        key: class and text of what the colours mean.
    """

    title: str
    subtitle: str
    x: Scale
    y: Scale
    x_label: str = ""
    y_label: str = ""
    key: list[tuple[str, str]] = field(default_factory=list)
    _marks: list[Markup] = field(default_factory=list)

    def line(self, points: Iterable[Point], cls: str) -> None:
        """A line; it breaks where a value is missing."""
        for run in _runs(points):
            self._mark("path", f"line {cls}", d=self._path(run))

    def steps(self, points: Iterable[Point], cls: str) -> None:
        """A dashed line that stays until the next value: what a value is held against."""
        for run in _runs(points):
            parts = [f"M{self.x(run[0][0])} {self.y(run[0][1])}"]
            parts += [f"H{self.x(at)}V{self.y(value)}" for at, value in run[1:]]
            self._mark("path", f"rule {cls}", d="".join(parts))

    def band(self, points: Iterable[tuple[float | datetime, float | None, float | None]], cls: str) -> None:
        """From a low to a high."""
        known = ((at, low, high) for at, low, high in points if low is not None and high is not None)
        rows = [(at, low, high) for at, low, high in known if not math.isnan(low + high)]
        if rows:
            there = [f"{self.x(at)} {self.y(high)}" for at, _, high in rows]
            back = [f"{self.x(at)} {self.y(low)}" for at, low, _ in reversed(rows)]
            self._mark("path", f"band {cls}", d=f"M{'L'.join(there + back)}Z")

    def bar(self, low: float | datetime, high: float | datetime, value: float, cls: str, title: str = "") -> None:
        """A bar from the axis up to a value."""
        left, right, top = self.x(low), self.x(high), self.y(value)
        self._mark(
            "rect",
            cls,
            title,
            x=left,
            y=top,
            width=round(max(right - left, 0.5), 1),
            height=round(max(self.y.start - top, 0), 1),
        )

    def across(self, value: float, place: float, thickness: float, cls: str, title: str = "") -> None:
        """A bar from the left edge to a value, in the middle of `place` on the y axis."""
        middle, start, end = self.y(place), self.x(0.0), self.x(value)
        self._mark(
            "rect",
            cls,
            title,
            x=min(start, end),
            y=round(middle - thickness / 2, 1),
            width=round(max(abs(end - start), 0.5), 1),
            height=thickness,
        )

    def dot(self, at: float | datetime, value: float, cls: str, title: str = "", radius: float = 4) -> None:
        """A point."""
        self._mark("circle", f"dot {cls}", title, cx=self.x(at), cy=self.y(value), r=radius)

    def whisker(self, at: float | datetime, low: float, high: float, cls: str) -> None:
        """An interval, standing."""
        self._mark("path", f"whisker {cls}", d=f"M{self.x(at)} {self.y(low)}V{self.y(high)}")

    def lying_whisker(self, place: float, low: float, high: float, cls: str) -> None:
        """An interval, lying at a place of the y axis."""
        self._mark("path", f"whisker {cls}", d=f"M{self.x(low)} {self.y(place)}H{self.x(high)}")

    def dashes(self, points: Iterable[Point], cls: str) -> None:
        """A dashed line from point to point; it breaks where a value is missing."""
        for run in _runs(points):
            self._mark("path", f"rule {cls}", d=self._path(run))

    def block(
        self, low: float | datetime, high: float | datetime, place: float, thickness: float, cls: str, title: str = ""
    ) -> None:
        """A bar from `low` to `high` on the x axis, in the middle of `place` on the y axis; never too thin to see."""
        left, right = self.x(low), self.x(high)
        width = round(max(right - left, 2), 1)
        start, top = min(left, self.x.end - width), round(self.y(place) - thickness / 2, 1)
        self._mark("rect", cls, title, x=round(start, 1), y=top, width=width, height=thickness)

    def say(self, at: float | datetime, value: float, text: str, anchor: str = "middle") -> None:
        """A word at a place, standing on it."""
        self._marks.append(_text(self.x(at), self.y(value), text, "label", anchor=anchor))

    def rule(self, value: float, cls: str, title: str = "") -> None:
        """A dashed line across."""
        self._mark("path", f"rule {cls}", title, d=f"M{self.x.start} {self.y(value)}H{self.x.end}")

    def upright(self, at: float | datetime, cls: str, title: str = "") -> None:
        """A dashed line from bottom to top."""
        self._mark("path", f"rule {cls}", title, d=f"M{self.x(at)} {self.y.start}V{self.y.end}")

    def shade(self, low: float | datetime, high: float | datetime, cls: str, title: str = "") -> None:
        """A stripe from bottom to top; never too thin to see."""
        left, right = self.x(low), self.x(high)
        width, height = round(max(right - left, 3), 1), round(self.y.start - self.y.end, 1)
        self._mark("rect", f"band {cls}", title, x=left, y=self.y.end, width=width, height=height)

    def hit(self, low: float | datetime, high: float | datetime, title: str) -> None:
        """A stripe that says something on hover."""
        left, right = self.x(low), self.x(high)
        self._mark(
            "rect",
            "hit",
            title,
            x=left,
            y=self.y.end,
            width=round(max(right - left, 1), 1),
            height=round(self.y.start - self.y.end, 1),
        )

    @property
    def width(self) -> float:
        """Of the picture."""
        return self.x.end + RIGHT

    @property
    def is_wide(self) -> bool:
        """Whether it stands by itself."""
        return self.width > WIDTH

    @property
    def svg(self) -> Markup:
        """The picture."""
        parts = [*self._grid(), *self._marks, *self._labels()]
        return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            self.width, HEIGHT, f"{self.title}. {self.subtitle}", Markup("").join(parts)
        )

    def _path(self, run: Sequence[tuple[float | datetime, float]]) -> str:
        return _joined([(self.x(at), self.y(value)) for at, value in run])

    def _mark(self, tag: str, cls: str, title: str = "", **attributes: Any) -> None:
        """Draws, unless a place is not a number: what is not known is not drawn."""
        if not any("nan" in str(value) for value in attributes.values()):
            self._marks.append(_element(tag, cls, title, **attributes))

    def _grid(self) -> Iterable[Markup]:
        for value, text in self.y.ticks:
            place = self.y(value)
            yield _element("path", "grid", d=f"M{self.x.start} {place}H{self.x.end}")
            yield _text(self.x.start - 8, place + 4.5, text, anchor="end")
        for number, (value, text) in enumerate(self.x.ticks):
            place = self.x(value)
            yield _element("path", "axis", d=f"M{place} {self.y.start}v5")
            yield _text(place, self.y.start + 20, text, "every-other" if number % 2 else "", anchor="middle")
        yield _element("path", "axis", d=f"M{self.x.start} {self.y.start}H{self.x.end}")

    def _labels(self) -> Iterable[Markup]:
        if self.x_label:
            yield _text((self.x.start + self.x.end) / 2, HEIGHT - 6, self.x_label, anchor="middle")
        if self.y_label:
            middle = (self.y.start + self.y.end) / 2
            yield Markup('<text x="{}" y="{}" text-anchor="middle" transform="rotate(-90 {} {})">{}</text>').format(
                14, middle, 14, middle, self.y_label
            )


def numbers_across(low: float, high: float, write: Callable[[float], str], most: int = 6, left: float = LEFT) -> Scale:
    """A horizontal scale from low to high."""
    return Scale(low, high, left, WIDTH - RIGHT, _ticks(low, high, write, most))


def numbers_up(values: Iterable[float | None], write: Callable[[float], str], *, zero: bool = True) -> Scale:
    """A vertical scale that has room for all values, and for 0 unless it is told otherwise."""
    given = [value for value in values if value is not None and math.isfinite(value)] or [0.0, 1.0]
    low, high = min(given), max(given)
    low, high = (min(low, 0.0), max(high, 0.0)) if zero else (low, high)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-3):
        room = max(abs(high), 1e-3) / 2
        low, high = low if zero else low - room, high + room
    ends = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    low = low if zero and low >= 0 else min(low, float(ends[0]))
    high = max(high, float(ends[-1]))
    return Scale(low, high, HEIGHT - BOTTOM, TOP, _ticks(low, high, write, 5))


def names_up(names: Sequence[str]) -> Scale:
    """A vertical scale with one place for each name, the first on top."""
    ticks = tuple((float(len(names) - place), name) for place, name in enumerate(names))
    return Scale(0.4, len(names) + 0.6, HEIGHT - BOTTOM, TOP, ticks)


def times_across(low: datetime, high: datetime, reader: Reader, width: float = WIDE) -> Scale:
    """A horizontal scale of times, written in the reader's zone."""
    locator = AutoDateLocator(tz=reader.zone, minticks=3, maxticks=8)
    found = locator.tick_values(low.astimezone(reader.zone), high.astimezone(reader.zone))
    places = [each for each in found if date2num(low) <= each <= date2num(high)]
    texts = ConciseDateFormatter(locator, tz=reader.zone).format_ticks(places) if places else []
    ticks = tuple((float(place), text) for place, text in zip(places, texts, strict=True))
    return Scale(float(date2num(low)), float(date2num(high)), LEFT, width - RIGHT, ticks)


def spark(values: Sequence[float | None], ceiling: float, label: str, mark: float | None = None) -> Markup:
    """A small line without axes, from 0 to `ceiling`; what is above is drawn at the edge.

    Args:
        mark: where a dashed line is drawn across.
    """
    x = Scale(0, max(len(values) - 1, 1), 2, 110)
    y = Scale(0, ceiling or 1, 22, 3)
    paths = [] if mark is None else [_element("path", "rule before", d=f"M{x.start} {y(mark)}H{x.end}")]
    paths += [
        _element("path", f"line now{' alone' * (len(run) == 1)}", d=_joined([(x(at), y(value)) for at, value in run]))
        for run in _runs(enumerate(values))
    ]
    return Markup('<svg class="spark" viewBox="0 0 112 25" role="img" aria-label="{}">{}</svg>').format(
        label, Markup("").join(paths)
    )


def _joined(places: Sequence[tuple[float, float]]) -> str:
    """A path through places; a single one is a dot, which round ends of lines make visible."""
    return "M" + "L".join(f"{x} {y}" for x, y in places) + ("h0" if len(places) == 1 else "")


def _ticks(low: float, high: float, write: Callable[[float], str], most: int) -> tuple[tuple[float, str], ...]:
    places = MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    slack = (high - low) * 1e-6
    return tuple((float(each), write(float(each))) for each in places if low - slack <= each <= high + slack)


def _runs(points: Iterable[Point]) -> list[list[tuple[float | datetime, float]]]:
    """The stretches without a missing value."""
    runs: list[list[tuple[float | datetime, float]]] = [[]]
    for at, value in points:
        if value is None or math.isnan(value):
            runs.append([])
        else:
            runs[-1].append((at, value))
    return [run for run in runs if run]


def _element(tag: str, cls: str, title: str = "", **attributes: Any) -> Markup:
    # Thousands of them are written for one page, and Markup.format takes ten times as long.
    given = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())
    inside = f"<title>{escape(title)}</title>" if title else ""
    return Markup(f'<{tag} class="{escape(cls)}"{given}>{inside}</{tag}>')  # noqa: S704


def _text(x: float, y: float, text: str, cls: str = "", anchor: str = "start") -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}" class="{}">{}</text>').format(
        round(x, 1), round(y, 1), anchor, cls, escape(text)
    )
