"""One feature as tables, and beside which charts they stand."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from feature_health.formats import Formats
from feature_health.links import Links
from feature_health.pages import AskedOfModel, Page, Shown
from feature_health.reader import Reader
from feature_health.tables import Column, Table
from feature_health.views.feature_charts import beside_baseline, effects, has_missing, missing, outside
from feature_health.views.features import finding_columns
from features.contract import Contract
from features.health.distribution import Bar, Distribution
from features.health.feature import FeaturePage, Report, feature_page
from features.health.strayed import COURSE, Point, SelfTest
from features.warehouse import Connection

# So many of the newest stand in the page; all of them are in its CSV.
SHOWN_POINTS = 40


class AskedOfFeature(AskedOfModel):
    """Which feature, and which of its comparisons."""

    name: str
    window: int | None = None
    baseline: Literal["training", "serving"] | None = None
    segment: str | None = None
    source: str | None = None


def _document(connection: Connection, contract: Contract, asked: AskedOfFeature, reader: Reader) -> FeaturePage:
    return feature_page(
        connection,
        contract,
        asked.model,
        asked.name,
        window=asked.window,
        baseline=asked.baseline,
        segment=asked.segment,
        source=asked.source,
    )


def _shown(document: FeaturePage, reader: Reader, links: Links) -> Shown:
    formats = Formats(reader)
    shown = document.distribution
    return Shown(
        title=f"{document.name} of {document.model}",
        tables=(
            _reports(document, links),
            _bars(document),
            _course(document),
            _incidents(document),
            _self_tests(document),
        ),
        values={
            "document": document,
            "picture": beside_baseline(document, shown, formats) if shown else None,
            "outside": list(outside(shown, formats)) if shown else [],
            "effects": effects(document, formats, reader) if document.course else None,
            "missing": missing(document, formats, reader) if has_missing(document) else None,
            "choices": list(_choices(document, links)),
            "newest_points": _newest(_course(document)),
        },
    )


def _choices(document: FeaturePage, links: Links) -> Iterator[tuple[str, list[tuple[str, str, bool]]]]:
    """Heading, and of each value its words, its address and whether it is shown."""
    shown = document.shown
    baselines = ("training", "serving")
    offered: tuple[tuple[str, str, Any, tuple[Any, ...]], ...] = (
        ("window", "Window", shown.window_hours, document.windows),
        ("baseline", "Against", shown.baseline, baselines),
        ("segment", "Segment", shown.segment, document.segments),
        ("source", "Read from", shown.source, document.sources),
    )
    chosen = {key: value for key, _, value, _ in offered}
    for key, heading, current, values in offered:
        if len(values) > 1:
            yield (
                heading,
                [
                    (
                        f"{value} h" if key == "window" else str(value).replace("_", " "),
                        links.to("feature", **{"model": document.model, "name": document.name} | chosen | {key: value}),
                        value == current,
                    )
                    for value in values
                ],
            )


# Tables


def _reports(document: FeaturePage, links: Links) -> Table:
    def link(report: Report) -> str:
        one = report.comparison
        return links.to(
            "feature",
            model=document.model,
            name=document.name,
            window=one.window_hours,
            baseline=one.baseline,
            segment=one.segment,
            source=one.source,
        )

    source = Column("source", value=lambda one: one.comparison.source.replace("_", " "))
    return Table(
        name="reports",
        caption="Newest statistics",
        columns=(
            Column("window_hours", value=lambda one: f"{one.comparison.window_hours} h", link=link),
            Column("baseline", value=lambda one: one.comparison.baseline),
            Column("segment", value=lambda one: one.comparison.segment),
            *([source] if len(document.sources) > 1 else []),
            Column("drift_status", "status", value=lambda one: one.finding.status),
            Column("decided_by", value=lambda one: (one.finding.decided_by or "").replace("_", " ")),
            *finding_columns(lambda one: one.finding),
            Column("serving_mean", "number", also=Column("training_mean", "number")),
            Column("serving_std", "number", also=Column("training_std", "number")),
            Column("ks_statistic", "metric", also=Column("ks_at_most", "metric")),
            Column("psi", "metric"),
            Column("wasserstein", "number"),
            Column("drift_detail", "long", value=lambda one: one.finding.detail),
        ),
        rows=document.reports,
        empty=f"Nothing was reported of it yet: {document.model}_drift does it.",
    )


def _bars(document: FeaturePage) -> Table:
    return Table(
        name="distribution",
        caption="Distribution",
        columns=(
            Column("bar", value=lambda bar: bar.label),
            Column("bar_before", "share", value=lambda bar: bar.before),
            Column("bar_now", "share", value=lambda bar: bar.now),
            Column("bar_change", "share", value=lambda bar: bar.now - bar.before),
        ),
        rows=_all_bars(document.distribution) if document.distribution else (),
        empty=document.no_distribution or "None.",
    )


def _all_bars(shown: Distribution) -> tuple[Bar, ...]:
    """What is drawn, and between which bars what is not."""
    below, above = (Bar(label, part.before, part.now) for label, part in _beyond(shown))
    return (
        *([below] if below.before or below.now else []),
        *shown.bars,
        *([above] if above.before or above.now else []),
    )


def _beyond(shown: Distribution) -> tuple[tuple[str, Any], tuple[str, Any]]:
    return ("further below", shown.below), ("further above", shown.above)


def _course(document: FeaturePage) -> Table:
    return Table(
        name="course",
        caption="Effect and missing values over time",
        columns=(
            Column("course_as_of", "time", value=lambda point: point.as_of),
            Column("drift_status", "status", value=lambda point: point.status),
            Column("decided_by", value=lambda point: (point.decided_by or "").replace("_", " ")),
            Column(
                "effect",
                "metric",
                also=Column("effect_bounds", "interval", value=_bounds),
            ),
            Column("effect_floor", "metric", also=Column("critical_floor", "metric")),
            Column("missing_rate", "share", also=Column("baseline_missing_rate", "share")),
            Column("missing_floor", "share"),
            Column("course_reports", "count", value=lambda point: point.reports),
        ),
        rows=tuple(reversed(document.course)),
        empty=f"No report of this comparison in the last {COURSE.days} days: {document.model}_drift writes them.",
    )


def _bounds(point: Point) -> tuple[float | None, float | None] | None:
    return None if point.effect is None else (point.effect_low, point.effect_high)


def _newest(table: Table) -> Table:
    """The rows that stand in the page."""
    return replace(table, rows=table.rows[:SHOWN_POINTS])


def _incidents(document: FeaturePage) -> Table:
    return Table(
        name="incidents",
        caption="Incidents",
        columns=(
            Column("incident_id", "count"),
            Column("incident_state", "status", value=lambda incident: incident.state),
            Column("severity", "status"),
            Column("cause", value=lambda incident: incident.cause.replace("_", " ")),
            Column("opened_at", "time"),
            Column("last_alarm_at", "time"),
            Column("closed_at", "time"),
            Column("verdict"),
            Column("incident_features", "list", value=lambda incident: incident.features),
            Column("incident_sentence", "long", value=lambda incident: incident.sentence),
            Column("incident_because", "long", value=lambda incident: incident.because),
        ),
        rows=document.incidents,
        empty="It was part of none.",
    )


def _self_tests(document: FeaturePage) -> Table:
    return Table(
        name="self_tests",
        caption="Would a shift be found?",
        columns=(
            Column("injection"),
            Column("self_test_result", "status", value=result_of),
            Column("found_after_hours", value=_found_after),
            Column("self_test_alarms", "count", value=lambda one: one.alarms),
            Column("self_test_hours", "count", value=lambda one: one.hours),
            Column("drift_detail", value=lambda one: one.detail),
            Column("self_test_as_of", "time", value=lambda one: one.as_of),
        ),
        rows=document.self_tests,
        empty=f"Not known yet: {document.model}_drift_self_test finds out each night, once 8 hours were served.",
    )


def result_of(one: SelfTest) -> str:
    """found, blind, or clean for history in which nothing was to be found."""
    if one.injection == "none":
        return "clean history"
    return "blind" if one.is_blind else "found"


def _found_after(one: SelfTest) -> str | None:
    return None if one.found_after_hours is None else f"{one.found_after_hours} h"


PAGE = Page("feature", AskedOfFeature, _document, _shown)
