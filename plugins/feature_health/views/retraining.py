"""Decisions on retraining as a list, and how the model ages as charts."""

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from feature_health.charts import WIDTH, Figure, names_up, numbers_across, numbers_up, times_across
from feature_health.formats import Formats
from feature_health.instants import Instant, key_of
from feature_health.links import Links
from feature_health.pages import AskedOfModel, Page, Shown
from feature_health.reader import Reader
from feature_health.tables import Column, Table
from features.contract import Contract
from features.health.decay import DecayBacktest
from features.health.features import chosen_model
from features.health.retraining import WINDOW_DAYS, RetrainingPage, Stretch, retraining_page
from features.retraining.decision import Outcome
from features.warehouse import Connection

LINES = {"champion": "accent", "retrain": "now", "blocked": "warn", "hold": "before", "unknown": "accent"}
THICKNESS = 20
ROOM_FOR_NAMES = 112
# More words than these would lie upon each other.
MOST_NAMED = 8


class AskedOfDecisions(AskedOfModel):
    """Which decisions are shown.

    Attributes:
        outcome: only these.
        before: of earlier instants.
        as_of: one that is to be on the page.
        every: 1: each one; otherwise those that differ from the one before.
    """

    outcome: Outcome | None = None
    before: Instant | None = None
    as_of: Instant | None = None
    every: bool | None = None


def _document(connection: Connection, contract: Contract, asked: AskedOfDecisions, reader: Reader) -> RetrainingPage:
    return retraining_page(
        connection,
        chosen_model(contract, asked.model),
        tuple(contract.models),
        reader.at,
        outcome=asked.outcome,
        before=asked.before,
        as_of=asked.as_of,
        every=bool(asked.every),
    )


def _shown(document: RetrainingPage, reader: Reader, links: Links) -> Shown:
    formats = Formats(reader)
    listed = {stretch.decision.as_of for stretch in document.stretches}
    # A decision that is not in the list, because it only repeats another, or is on another page.
    alone = document.shown if document.shown and document.shown.as_of not in listed else None
    return Shown(
        title=f"Retraining of {document.model}",
        tables=(_decisions(document, links), _bands(document), _champions(document, links), _curve(document)),
        values={
            "document": document,
            "alone": alone,
            "filters": list(_filters(document, links)),
            "strip": _strip(document, formats, reader) if document.bands else None,
            "decay": _decay(document, document.backtest, formats) if document.backtest else None,
            "anchor": anchor,
            "every_link": _every_link(document, links),
            "older_link": _older_link(document, links),
            "newest_link": _link(document, links),
            "hours_link": lambda stretch: _hours_link(document, stretch, links),
            "window_days": WINDOW_DAYS,
        },
    )


def anchor(as_of: datetime) -> str:
    """The place of a decision on the page."""
    return f"at-{key_of(as_of).removesuffix('Z')}"


def _link(document: RetrainingPage, links: Links, **changes: object) -> str:
    asked = {"model": document.model, "outcome": document.outcome, "every": 1 if document.every else None}
    return links.to("retraining", **asked | changes)


def _every_link(document: RetrainingPage, links: Links) -> str:
    return _link(document, links, every=None if document.every else 1)


def _older_link(document: RetrainingPage, links: Links) -> str | None:
    return _link(document, links, before=key_of(document.older)) if document.older else None


def _hours_link(document: RetrainingPage, stretch: Stretch, links: Links) -> str:
    """Every decision, from the newest of a stretch on."""
    before = key_of(stretch.until + timedelta(seconds=1))
    return links.to("retraining", model=document.model, every=1, before=before)


def _filters(document: RetrainingPage, links: Links) -> Iterator[tuple[str, int, str, bool]]:
    """Word, count, address, and whether it is chosen."""
    everything = sum(one.decisions for one in document.counts)
    yield "all", everything, _link(document, links, outcome=None), document.outcome is None
    for one in document.counts:
        is_chosen = one.outcome == document.outcome
        yield one.outcome, one.decisions, _link(document, links, outcome=str(one.outcome)), is_chosen


def _strip(document: RetrainingPage, formats: Formats, reader: Reader) -> Figure:
    names = list(LINES)
    end = document.bands[-1].end
    start = end - timedelta(days=WINDOW_DAYS)
    figure = Figure(
        title="Outcomes by hour",
        subtitle=f"{WINDOW_DAYS} days up to the newest decision; on top, which version became champion.",
        x=replace(times_across(start, end, reader, WIDTH), start=ROOM_FOR_NAMES),
        y=names_up(names),
        key=[("now", "promotion"), ("accent", "rollback")],
    )
    places = {name: float(len(names) - place) for place, name in enumerate(names)}
    for band in document.bands:
        said = f"{band.outcome}: {formats.time(band.start)} to {formats.time(band.end)}, {band.decisions} decisions"
        figure.block(band.start, band.end, places[band.outcome], THICKNESS, LINES[band.outcome], said)
    reigns = [reign for reign in document.reigns if reign.as_of and reign.as_of >= start]
    for reign in reigns:
        assert reign.as_of is not None
        cls = "accent" if reign.kind == "rollback" else "now"
        figure.upright(reign.as_of, cls)
        said = f"{reign.kind} of v{reign.version}, {formats.time(reign.as_of)}: {reign.because}"
        figure.dot(reign.as_of, places["champion"], cls, said, radius=5)
        if len(reigns) <= MOST_NAMED:
            near_the_end = reign.as_of > end - timedelta(days=4)
            beside = reign.as_of + timedelta(days=-0.7 if near_the_end else 0.7)
            figure.say(beside, places["champion"] + 0.24, f"v{reign.version:.8}", "end" if near_the_end else "start")
    return figure


def _decay(document: RetrainingPage, backtest: DecayBacktest, formats: Formats) -> Figure:
    points, age = backtest.points, document.age
    last = max(backtest.measured_days, backtest.high_days, backtest.max_age_days, age.age_days or 0)
    values = [value for one in points for value in (one.low, one.high, one.spread_low, one.spread_high)]
    figure = Figure(
        title="How the model ages",
        subtitle="Mean log loss above that of a fresh model on the same rows, by age in days.",
        x=numbers_across(0, last, formats.count),
        y=numbers_up(map(_drawn, values), formats.number),
        x_label="days",
        key=[("before band", "four of five label times"), ("now band", "confidence interval"), ("now", "mean")],
    )
    figure.band([(one.age_days, _drawn(one.spread_low), _drawn(one.spread_high)) for one in points], "before")
    figure.band([(one.age_days, _drawn(one.low), _drawn(one.high)) for one in points], "now")
    if math.isfinite(backtest.slope_per_day):
        figure.dashes([(0, 0), (backtest.measured_days, backtest.slope_per_day * backtest.measured_days)], "before")
    figure.line([(one.age_days, _drawn(one.excess)) for one in points], "now")
    for one in (one for one in points if math.isfinite(one.excess)):
        interval = f"{formats.number(one.low)} to {formats.number(one.high)}"
        said = f"{one.age_days:g} days: {formats.number(one.excess)} ({interval}), {one.pairs} pairs"
        figure.dot(one.age_days, one.excess, "now", said, radius=3)
    top = figure.y.high
    said = f"May become {backtest.max_age_days} days, from {backtest.low_days} to {backtest.high_days}"
    figure.upright(backtest.max_age_days, "accent", said)
    figure.lying_whisker(top * 0.985, backtest.low_days, backtest.high_days, "accent")
    figure.key.append(("accent", f"may become {backtest.max_age_days} d ({backtest.low_days} to {backtest.high_days})"))
    if age.age_days is not None:
        cls = "bad" if age.state == "due" else "good"
        figure.upright(age.age_days, cls, f"v{age.version} is {formats.days(age.age_days)} old")
        figure.key.append((cls, f"champion v{age.version} by the clock: {formats.days(age.age_days)}"))
    return figure


def _drawn(value: float) -> float | None:
    """A value as a chart draws it: what is no number is missing."""
    return value if math.isfinite(value) else None


def _decisions(document: RetrainingPage, links: Links) -> Table:
    """The list as a table, for its CSV; the page writes it out itself."""
    return Table(
        name="decisions",
        caption="Decisions",
        columns=(
            Column("as_of", "time", value=lambda one: one.decision.as_of),
            Column("outcome", "status", value=lambda one: one.decision.outcome),
            Column("trigger", value=lambda one: one.decision.trigger),
            Column("priority", value=lambda one: one.decision.priority),
            Column("decision_reason", "long", value=lambda one: one.decision.reason),
            Column("guards", "list", value=lambda one: [f"{by.guard}: {by.reason}" for by in one.decision.blocked_by]),
            Column("stretch_decisions", "count", value=lambda one: one.decisions),
            Column("stretch_until", "time", value=lambda one: one.until),
            Column("came_of_it", "list", value=_what_came_of_it),
            Column("dag_run", value=lambda one: one.decision.dag_run_id),
        ),
        rows=document.stretches,
        empty=f"{document.model}_retraining has decided nothing yet.",
    )


def _what_came_of_it(stretch: Stretch) -> list[str]:
    return [
        f"v{one.version}: {'promoted' if one.promoted else 'not promoted'}. {one.reason}"
        for one in stretch.decision.trainings
    ]


def _bands(document: RetrainingPage) -> Table:
    return Table(
        name="outcomes",
        caption="Hours in a row with one outcome",
        columns=(
            Column("band_start", "time", value=lambda band: band.start),
            Column("band_end", "time", value=lambda band: band.end),
            Column("band_outcome", "status", value=lambda band: band.outcome),
            Column("band_decisions", "count", value=lambda band: band.decisions),
        ),
        rows=tuple(reversed(document.bands)),
        empty="Nothing has been decided.",
    )


def _champions(document: RetrainingPage, links: Links) -> Table:
    return Table(
        name="champions",
        caption="Champions",
        columns=(
            Column("version", link=lambda one: links.to("model", model=document.model, version=one.version)),
            Column("reign_kind", value=lambda one: one.kind),
            Column("replaced_version"),
            Column("decided_then", "time", value=lambda one: one.as_of),
            Column("since", "time"),
            Column("because", "long"),
        ),
        rows=document.reigns,
        empty=f"No version has become champion yet: {document.model}_training promotes the first.",
    )


def _curve(document: RetrainingPage) -> Table:
    return Table(
        name="decay_curve",
        caption="Loss by age",
        columns=(
            Column("curve_age", "days", value=lambda one: one.age_days),
            Column("curve_excess", "number", value=lambda one: one.excess),
            Column("curve_low", "number", value=lambda one: one.low),
            Column("curve_high", "number", value=lambda one: one.high),
            Column("spread_low", "number"),
            Column("spread_high", "number"),
            Column("curve_pairs", "count", value=lambda one: one.pairs),
            Column("curve_rows", "count", value=lambda one: one.label_rows),
        ),
        rows=document.backtest.points if document.backtest else (),
        empty="There is no decay backtest.",
    )


PAGE = Page("retraining", AskedOfDecisions, _document, _shown)
