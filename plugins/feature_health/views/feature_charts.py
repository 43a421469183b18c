"""What one feature looks like beside its baseline, and how it strayed, as charts."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from feature_health.charts import Figure, names_up, numbers_across, numbers_up, times_across
from feature_health.formats import Formats
from feature_health.reader import Reader
from features.health.distribution import Bar, Distribution
from features.health.feature import FeaturePage
from features.health.strayed import COURSE, MOST_POINTS, Point

ALARMS = {"warning": "warn", "critical": "bad", "missing_feature": "bad", "unexpected_feature": "bad", "error": "bad"}
# Of names of categories, and the room they need.
LONGEST_NAME, ROOM_FOR_NAMES = 28, 215
# An axis of effects ends there, in multiples of the warning floor, even if one alarm is far beyond.
MOST_FLOORS = 8.0
# Fewer points than these are drawn one by one.
FEW_POINTS = 60


def beside_baseline(document: FeaturePage, shown: Distribution, formats: Formats) -> Figure:
    """The comparison of a feature's page."""
    window, baseline = document.shown.window_hours, document.shown.baseline
    title = f"The last {window} h beside the {baseline} baseline"
    key = [("before bar", f"{baseline} baseline, mixed to these hours"), ("now bar", f"last {window} h")]
    return histogram(shown, title, key, document.name, formats)


def histogram(shown: Distribution, title: str, key: list[tuple[str, str]], name: str, formats: Formats) -> Figure:
    """The baseline as areas and now as their outline; of categories two bars each."""
    if shown.low is None or shown.high is None:
        return _categories(shown, title, key, formats)
    figure = Figure(
        title=title,
        subtitle="Density: the area of a bar is the share of the values in it",
        x=numbers_across(shown.low, shown.high, formats.number),
        y=numbers_up(
            [value for bar in shown.bars for value in (density(bar.before, bar), density(bar.now, bar))], formats.number
        ),
        x_label=name if len(name) <= LONGEST_NAME * 2 else "",
        y_label="density",
        key=key,
    )
    for bar in shown.bars:
        assert bar.low is not None
        assert bar.high is not None
        figure.bar(bar.low, bar.high, density(bar.before, bar), "before bar")
    figure.line([point for bar in shown.bars for point in _outline(bar)], "now")
    for bar in shown.bars:
        assert bar.low is not None
        assert bar.high is not None
        figure.hit(bar.low, bar.high, _said(bar, formats))
    return figure


def density(share: float, bar: Bar) -> float:
    """A share by the width it is spread over."""
    return share / bar.width if bar.width else 0.0


def _outline(bar: Bar) -> list[tuple[float, float]]:
    assert bar.low is not None
    assert bar.high is not None
    return [(bar.low, density(bar.now, bar)), (bar.high, density(bar.now, bar))]


def _said(bar: Bar, formats: Formats) -> str:
    return f"{short(bar.label)}: {formats.share(bar.now)} now, {formats.share(bar.before)} before"


def short(name: str) -> str:
    """A name as an axis has room for."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _categories(shown: Distribution, title: str, key: list[tuple[str, str]], formats: Formats) -> Figure:
    most = max((max(bar.before, bar.now) for bar in shown.bars), default=1.0)
    figure = Figure(
        title=title,
        subtitle="Share of the values",
        x=numbers_across(0.0, most or 1.0, formats.share, left=ROOM_FOR_NAMES),
        y=names_up([short(bar.label) for bar in shown.bars]),
        key=key,
    )
    room = (figure.y.start - figure.y.end) / (len(shown.bars) + 0.2)
    thickness = round(min(room * 0.36, 18), 1)
    apart = thickness / 2 / room
    for place, bar in enumerate(shown.bars):
        middle = float(len(shown.bars) - place)
        figure.across(bar.before, middle + apart, thickness, "before bar", _said(bar, formats))
        figure.across(bar.now, middle - apart, thickness, "now bar", _said(bar, formats))
    return figure


def outside(shown: Distribution, formats: Formats) -> Iterator[str]:
    """Sentences on what is in no bar."""
    half = 0.5 if shown.is_whole else 0.0
    for part, what in (
        (shown.below, f"below {formats.number((shown.low or 0.0) + half)}"),
        (shown.above, f"above {formats.number((shown.high or 0.0) - half)}"),
    ):
        if part.before or part.now:
            shares = f"{formats.share(part.now)} now and {formats.share(part.before)} before"
            yield f"Not drawn, so that the bulk can be seen: {shares} are {what}."
    for part, what in (
        (shown.missing, "have no value"),
        (shown.not_finite, "are NaN, infinite or beyond 1e150"),
        (shown.invalid, "are outside of what the contract allows"),
    ):
        if part.before or part.now:
            yield f"Of all rows, {formats.share(part.now)} now and {formats.share(part.before)} before {what}."


def _floors(value: float | None, point: Point) -> float | None:
    """In multiples of the warning floor, so that effects of different tests compare; MOST_FLOORS where it is 0."""
    if value is None or point.effect_floor is None:
        return None
    return min(value / point.effect_floor, MOST_FLOORS) if point.effect_floor else MOST_FLOORS


def effects(document: FeaturePage, formats: Formats, reader: Reader) -> Figure:
    """The effect and its bounds, the floors, alarms and incidents."""
    course = document.course
    criticals = [(point.as_of, _floors(point.critical_floor, point)) for point in course]
    highs = [_floors(point.effect_high, point) for point in course]
    known = [value for value in (*highs, *(value for _, value in criticals), 1.0) if value is not None]
    figure = Figure(
        title="Effect over time",
        subtitle=_subtitle(document, max(known) >= MOST_FLOORS),
        x=times_across(*_span(document), reader),
        y=numbers_up(known, formats.number),
        x_label=f"as_of ({reader.zone_name})",
        y_label="warning floors",
        key=[
            ("now bar", "effect, with its bounds"),
            ("warn bar", "warning floor, and alarms"),
            ("bad bar", "critical floor, and alarms"),
            ("accent bar shade", "an incident"),
        ],
    )
    _shade_incidents(document, figure, formats)
    figure.band(
        [(point.as_of, _floors(point.effect_low, point), _floors(point.effect_high, point)) for point in course], "now"
    )
    figure.line([(point.as_of, _floors(point.effect, point)) for point in course], "now")
    figure.rule(1.0, "warn")
    figure.steps(_lasting(criticals, figure), "bad")
    for point in course:
        _mark(figure, point, formats, is_few=len(course) <= FEW_POINTS)
    return figure


def _subtitle(document: FeaturePage, is_cut: bool) -> str:
    shown = document.shown
    what = f"Windows of {shown.window_hours} h against {shown.baseline}; {COURSE.days} days, of each 6 hours the worst"
    return f"{what}. Cut off at {MOST_FLOORS:.0f} floors." if is_cut else f"{what}."


def _span(document: FeaturePage) -> tuple[datetime, datetime]:
    """From the first to the last point, two days at least, so that few points have room."""
    first, last = document.course[0].as_of, document.course[-1].as_of
    room = max((last - first) * 0.01, timedelta(days=1) if last - first < timedelta(days=1) else timedelta(0))
    return first - room, last + room


def _lasting(floors: list[tuple[datetime, float | None]], figure: Figure) -> list[tuple[Any, float | None]]:
    """From edge to edge, the first and last known floor lasting until there."""
    known = [value for _, value in floors if value is not None]
    if not known:
        return []
    kept = [(at, value) for at, value in floors if value is not None]
    return [(figure.x.low, known[0]), *kept, (figure.x.high, known[-1])]


def _shade_incidents(document: FeaturePage, figure: Figure, formats: Formats) -> None:
    low, high = _span(document)
    for incident in document.incidents:
        ends = incident.last_alarm_at if incident.closed_at else high
        if incident.opened_at <= high and ends >= low:
            since = f"{incident.state}, since {formats.time(incident.opened_at)}"
            title = f"Incident {incident.incident_id} ({since}): {incident.cause.replace('_', ' ')}"
            figure.shade(max(incident.opened_at, low), min(ends, high), "accent shade", title)


def _mark(figure: Figure, point: Point, formats: Formats, *, is_few: bool) -> None:
    floors = _floors(point.effect, point)
    value = figure.y.high if floors is None else min(floors, figure.y.high)
    bounds = formats.estimate(point.effect, point.effect_low, point.effect_high)
    by = f" by {point.decided_by}" if point.decided_by else ""
    title = f"{formats.time(point.as_of)}: {point.status.replace('_', ' ')}{by}, effect {bounds}"
    if point.status in ALARMS:
        figure.dot(point.as_of, value, ALARMS[point.status], title)
    elif is_few and floors is not None:
        figure.dot(point.as_of, value, "now", title, radius=3)
    else:
        _tell(figure, point, title)


def _tell(figure: Figure, point: Point, title: str) -> None:
    """On hover of the point's part of the picture."""
    half = COURSE / MOST_POINTS / 2
    figure.hit(point.as_of - half, point.as_of + half, title)


def has_missing(document: FeaturePage) -> bool:
    """Whether it is known at any time how many values were missing."""
    return any(point.missing_rate is not None for point in document.course)


def missing(document: FeaturePage, formats: Formats, reader: Reader) -> Figure:
    """The share of missing values, that of the baseline, and from where on it is too much."""
    course = [point for point in document.course if point.missing_rate is not None]
    figure = Figure(
        title="Missing values over time",
        subtitle="Share of the entities without a value; of each 6 hours the most",
        x=times_across(*_span(document), reader),
        y=numbers_up([value for point in course for value in (point.missing_rate, point.missing_floor)], formats.share),
        x_label=f"as_of ({reader.zone_name})",
        key=[("now bar", "missing"), ("before bar", "baseline"), ("warn bar", "floor, by the YAML")],
    )
    figure.line([(point.as_of, point.baseline_missing_rate) for point in course], "before")
    figure.steps(_lasting([(point.as_of, point.missing_floor) for point in course], figure), "warn")
    figure.line([(point.as_of, point.missing_rate) for point in course], "now")
    for point in course:
        before = formats.share(point.baseline_missing_rate)
        title = f"{formats.time(point.as_of)}: {formats.share(point.missing_rate)}, baseline {before}"
        assert point.missing_rate is not None
        if len(course) <= FEW_POINTS:
            figure.dot(point.as_of, point.missing_rate, "now", title, radius=3)
        else:
            _tell(figure, point, title)
    return figure
