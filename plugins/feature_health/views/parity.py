"""Publications and their parity as tables and a chart."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from feature_health.charts import WIDTH, Figure, numbers_up, times_across
from feature_health.formats import Formats
from feature_health.instants import Instant, key_of
from feature_health.links import Links
from feature_health.pages import AskedOfView, Page, Shown, usual_view
from feature_health.reader import Reader
from feature_health.tables import Column, Table
from features.contract import Contract
from features.health.compared import Compared, Finding
from features.health.parity import WINDOW_DAYS, ParityPage, ServedHour, parity_page
from features.health.publications import Publication
from features.partition import format_key
from features.warehouse import Connection

TONES = {"publication": "now", "inference_log": "accent"}
SOURCES = {"publication": "at the gate", "inference_log": "in what was served"}
# A new definition of a hundred features differs in all of them; nobody reads more.
MOST_FINDINGS = 500
NO_BREAK = "\u00a0"
# Nothing else closes the gate.
EQUAL_BUT_REFUSED = (
    "Its own cells are equal: those of what was live differed, or it has fewer rows. The log of its publish task says "
    "which."
)


class AskedOfPublications(AskedOfView):
    """Which publications are shown.

    Attributes:
        before: those of earlier moments.
        served_before: of the log, hours before this as_of.
        as_of: one that is to be on the page.
    """

    before: Instant | None = None
    served_before: Instant | None = None
    as_of: Instant | None = None


@dataclass(frozen=True)
class Found:
    """A finding, and of what."""

    as_of: datetime
    publication_id: int
    model: str
    finding: Finding


def _document(connection: Connection, contract: Contract, asked: AskedOfPublications, reader: Reader) -> ParityPage:
    view = contract.feature_view(asked.view or usual_view(contract))
    return parity_page(
        connection,
        view,
        tuple(contract.feature_views),
        tuple(model.name for model in contract.models.values() if model.feature_view.name == view.name),
        reader.at,
        before=asked.before,
        served_before=asked.served_before,
        as_of=asked.as_of,
    )


def _shown(document: ParityPage, reader: Reader, links: Links) -> Shown:
    formats = Formats(reader)
    asked = [one.is_asked for one in document.publications] + [hour.is_asked for hour in document.served]
    return Shown(
        title=f"Parity of {document.view}",
        tables=(
            _publications(document, formats),
            _findings(document, links, "gate_findings", "What differed at the gate", _of_publications(document)),
            _served(document, links),
            _findings(document, links, "served_findings", "What differed in what was served", _of_hours(document)),
            _earlier(document),
            _differing(document),
        ),
        values={
            "document": document,
            "is_asked_missing": document.asked_as_of is not None and not any(asked),
            "figure_of_cells": _figure(document, formats, reader) if document.differing else None,
            "compared": [(SOURCES[each.source], each.as_of) for each in document.newest if each.as_of],
            "older_link": _page_link(document, links, before=document.older),
            "served_older_link": _page_link(document, links, served_before=document.served_older),
            "newest_link": links.to("parity", view=document.view),
            "target": _target(document),
            "window_days": WINDOW_DAYS,
        },
    )


def _target(document: ParityPage) -> str | None:
    """The as_of that one would go back to from what is live, as `rollback` takes it: after a rollback, further back."""
    if document.live is None or not document.earlier:
        return None
    before = (one for one in document.earlier if one.as_of < document.live.as_of)
    return format_key(next(before, document.earlier[0]).as_of)


def anchor(publication: Publication) -> str:
    """The place of a publication on the page."""
    return f"publication-{publication.publication_id}"


def _page_link(document: ParityPage, links: Links, **pages: datetime | None) -> str | None:
    if not any(pages.values()):
        return None
    return links.to("parity", view=document.view, **{name: key_of(at) for name, at in pages.items() if at})


def _publications(document: ParityPage, formats: Formats) -> Table:
    return Table(
        name="publications",
        caption="Publications",
        columns=(
            Column("as_of", "time"),
            Column("publication_state", "status", value=_state),
            Column("gate_cells", "outcome", value=_cells, words=("differ", "equal")),
            Column("differs_in", "list", value=_names),
            Column("publication_note", "long" if any(map(_note, document.publications)) else "text", value=_note),
            Column("published_rows", "count", value=lambda one: one.rows),
            Column("feature_version", "code"),
            Column("moment", "time"),
            Column("live_for", value=lambda one: _live_for(one, formats)),
            Column("retired_at", "time"),
        ),
        rows=document.publications,
        empty="Nothing has been published: run materialize_features, which publishes what its parity gate lets pass.",
        anchor=anchor,
        marked=lambda one: one.is_asked,
    )


def _state(publication: Publication) -> str:
    if publication.is_rollback:
        return "live by rollback" if publication.state == "live" else "rollback"
    return publication.state


def _live_for(publication: Publication, formats: Formats) -> str | None:
    if publication.retired_at is None:
        return f"until{NO_BREAK}now" if publication.state == "live" else None
    return formats.duration(publication.retired_at - publication.moment).replace(" ", NO_BREAK)


def _note(publication: Publication) -> str | None:
    """Why it was published or refused, as far as the ledger, the audit and the gate's rules say."""
    compared, note = publication.compared, publication.note or ""
    if publication.state == "refused" and not compared.cells_differing:
        return EQUAL_BUT_REFUSED
    accepted = compared.accepted_because
    if accepted and accepted not in note:
        return f"{note}. Accepted: {accepted}".removeprefix(". ")
    return note or None


def _cells(row: Publication | ServedHour) -> tuple[int | None, int | None]:
    return row.compared.cells_differing, row.compared.cells_compared


def _names(row: Publication | ServedHour) -> list[str]:
    return [finding.feature for finding in row.compared.findings]


def _served(document: ParityPage, links: Links) -> Table:
    dags = " or ".join(f"{model}_inference" for model in document.models)
    nothing = f"Nothing that was served has been compared yet: run {dags}, which does so every hour."
    return Table(
        name="served",
        caption="What models were served",
        columns=(
            Column("as_of", "time"),
            Column("model", link=lambda hour: links.to("model", model=hour.model)),
            Column("feature_version", "code"),
            Column("log_rows", "count", value=lambda hour: hour.rows),
            Column("log_cells", "outcome", value=_cells, words=("differ", "equal")),
            Column("differs_in", "list", value=_names),
            Column("publication_id", "count"),
            Column("audited_at", "time"),
        ),
        rows=document.served,
        empty=nothing if document.models else "No model reads this view, so no request can be compared.",
        marked=lambda hour: hour.is_asked,
    )


def _of_publications(document: ParityPage) -> list[Found]:
    return [found for one in document.publications for found in _found(one.as_of, one.publication_id, "", one.compared)]


def _of_hours(document: ParityPage) -> list[Found]:
    return [
        found
        for hour in document.served
        for found in _found(hour.as_of, hour.publication_id, hour.model, hour.compared)
    ]


def _found(as_of: datetime, publication_id: int, model: str, compared: Compared) -> Iterable[Found]:
    for finding in compared.findings:
        yield Found(as_of, publication_id, model, finding)


def _findings(document: ParityPage, links: Links, name: str, caption: str, found: list[Found]) -> Table:
    is_of_models = name == "served_findings"
    listed = found[:MOST_FINDINGS]

    def feature(row: Found) -> str | None:
        model = row.model or next(iter(document.models), None)
        return (
            None if model is None or row.finding.feature.startswith("(") else links.feature(model, row.finding.feature)
        )

    return Table(
        name=name,
        caption=caption if len(listed) == len(found) else f"{caption}, the first {MOST_FINDINGS} of {len(found)}",
        columns=(
            Column("as_of", "time"),
            Column("model") if is_of_models else Column("publication_id", "count"),
            Column("finding_feature", value=lambda row: row.finding.feature, link=feature),
            Column("finding_mismatches", "count", value=lambda row: row.finding.mismatches),
            Column("finding_rows", "count", value=lambda row: row.finding.rows_compared),
            Column("finding_cause", value=lambda row: row.finding.cause),
            Column("finding_examples", "list", value=lambda row: row.finding.examples),
        ),
        rows=listed,
        empty="Nothing on this page differs.",
        marked=lambda row: row.as_of == document.asked_as_of,
    )


def _earlier(document: ParityPage) -> Table:
    return Table(
        name="earlier",
        caption="Where one can go back to",
        columns=(
            Column("as_of", "time"),
            Column("feature_version", "code"),
            Column("published_rows", "count", value=lambda one: one.rows),
            Column("published_at", "time"),
        ),
        rows=document.earlier,
        empty="Nowhere: no other as_of has been published.",
    )


def _differing(document: ParityPage) -> Table:
    return Table(
        name="differing",
        caption="Instants with cells that differ",
        columns=(
            Column("as_of", "time"),
            Column("audit_source", value=lambda one: one.source),
            Column("cells_differing", "count", value=lambda one: one.cells),
            Column("features_differing", "count", value=lambda one: one.features),
        ),
        rows=tuple(reversed(document.differing)),
        empty=f"None in the last {WINDOW_DAYS} days.",
    )


def _figure(document: ParityPage, formats: Formats, reader: Reader) -> Figure:
    end = max(each.as_of for each in document.newest if each.as_of)
    figure = Figure(
        title="Cells that differ",
        subtitle=f"{WINDOW_DAYS} days up to the newest instant compared; where there is no mark, every cell was equal.",
        x=times_across(end - timedelta(days=WINDOW_DAYS), end + timedelta(hours=1), reader, WIDTH),
        y=numbers_up([float(one.cells) for one in document.differing], formats.count),
        key=[(TONES[source], word) for source, word in SOURCES.items()],
    )
    for one in document.differing:
        said = (
            f"{SOURCES[one.source]}, {formats.time(one.as_of)}: {formats.count(one.cells)} cells of "
            f"{formats.count(one.features)} features"
        )
        figure.whisker(one.as_of, 0, one.cells, TONES[one.source])
        figure.dot(one.as_of, one.cells, TONES[one.source], said)
    return figure


PAGE = Page("parity", AskedOfPublications, _document, _shown)
