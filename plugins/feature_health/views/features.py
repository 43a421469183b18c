"""The features of a model as tables, each with a small line of the last 30 days."""

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from feature_health.charts import spark
from feature_health.formats import NOTHING, Formats
from feature_health.instants import Instant, key_of
from feature_health.links import Links
from feature_health.pages import AskedOfModel, Page, Shown
from feature_health.reader import Reader
from feature_health.tables import Column, Kind, Table
from features.contract import Contract
from features.health.features import FeaturesPage, Finding, WatchedFeature, features_page
from features.warehouse import Connection

# Where small lines end: so many times the floor.
CEILING = 3.0


class AskedOfInstant(AskedOfModel):
    """Whose reports are shown, in place of the newest."""

    as_of: Instant | None = None


def _document(connection: Connection, contract: Contract, asked: AskedOfInstant, reader: Reader) -> FeaturesPage:
    return features_page(connection, contract, asked.model, asked.as_of)


def _shown(document: FeaturesPage, reader: Reader, links: Links) -> Shown:
    formats = Formats(reader)
    features = _table(document, "features", "Features", document.features, formats, links)
    others = _table(document, "others", "Also watched", document.others, formats, links)
    return Shown(
        title=f"Features of {document.model}",
        tables=(features, others),
        values={
            "document": document,
            "counts": _counts(document),
            "anchor": key_of(document.as_of) if document.as_of else None,
        },
    )


def _counts(document: FeaturesPage) -> list[tuple[str, int]]:
    """How many features have each status, in the order of the table."""
    statuses = [row.finding.status for row in document.features]
    return [(status, statuses.count(status)) for status in dict.fromkeys(statuses)]


def _table(
    document: FeaturesPage, name: str, caption: str, rows: Sequence[WatchedFeature], formats: Formats, links: Links
) -> Table:
    def link(row: WatchedFeature) -> str | None:
        return links.feature(document.model, row.feature) if row.is_declared else None

    return Table(
        name=name,
        caption=caption,
        columns=(
            Column("drift_feature", value=lambda row: row.feature, link=link),
            Column("drift_status", "status", value=lambda row: row.finding.status),
            Column("trend", value=lambda row: row.trend, draw=lambda row: _trend(row, formats)),
            Column("decided_by", value=lambda row: _words(row.finding.decided_by)),
            *finding_columns(lambda row: row.finding),
            Column("compared", value=lambda row: compared(row.finding)),
            Column("drift_detail", "long", value=lambda row: row.finding.detail),
        ),
        rows=rows,
        empty="None.",
    )


def finding_columns(finding: Callable[[Any], Finding]) -> tuple[Column, ...]:
    """The numbers of a finding, each with what it is held against.

    Args:
        finding: that of a row.
    """

    def bounds(row: Any) -> tuple[float | None, float | None] | None:
        found = finding(row)
        return None if found.effect is None else (found.effect_low, found.effect_high)

    def of(key: str, kind: Kind, also: Column | None = None) -> Column:
        return Column(key, kind, value=lambda row: getattr(finding(row), key), also=also)

    return (
        of("effect", "metric", Column("effect_bounds", "interval", value=bounds)),
        of("effect_floor", "metric", of("critical_floor", "metric")),
        of("n", "count", of("needed_n", "count")),
        of("missing_rate", "share", of("baseline_missing_rate", "share")),
    )


def compared(finding: Finding) -> str | None:
    """Where it was seen, in words: 24 h, training, frequent, inference log."""
    if finding.window_hours is None:
        return None
    parts = [f"{finding.window_hours} h", finding.baseline or ""]
    parts += [] if finding.segment == "all" else [finding.segment or ""]
    parts += [] if finding.source == "snapshot" else [_words(finding.source) or ""]
    return ", ".join(parts)


def _words(name: str | None) -> str | None:
    return name.replace("_", " ") if name else None


def _trend(row: WatchedFeature, formats: Formats) -> Markup:
    known = [value for value in row.trend if value is not None]
    if not known:
        return Markup("{}").format(NOTHING)
    last = f"{formats.number(known[-1], 2)} times its floor on the last day, {formats.number(max(known), 2)} at most"
    return spark(row.trend, CEILING, f"{row.feature}: {last}", mark=1.0)


PAGE = Page("features", AskedOfInstant, _document, _shown)
