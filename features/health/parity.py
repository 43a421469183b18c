"""The parity page: what is live and was, and where it was not what the definition that trains gives.

The gate compares what is published; the log of requests tells what models were served in reality. Both are shown, each
for itself. An audit of a publication that the ledger lacks is of one that the gate refused.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from features import warehouse
from features.contract import FeatureView
from features.health.compared import COUNTED, Compared, comparison
from features.health.publications import (
    PAGE_SIZE,
    SHOWN_ABOVE,
    Earlier,
    Live,
    Publication,
    earlier_of,
    live_of,
    moment_above,
    publications_of,
)

WINDOW_DAYS = 90
SOURCES = ("publication", "inference_log")
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class ServedHour:
    """An hour of a model's log compared.

    Attributes:
        publication_id: what was published last by then; 0 when nothing was.
        rows: logged requests that were compared.
        audited_at: when.
    """

    as_of: datetime
    model: str
    publication_id: int
    feature_version: str
    rows: int
    audited_at: datetime
    is_asked: bool
    compared: Compared


@dataclass(frozen=True)
class Differing:
    """Cells that differ at an instant, at its worst audit, and of how many features they are.

    Attributes:
        source: publication or inference_log.
    """

    as_of: datetime
    source: str
    cells: int
    features: int


@dataclass(frozen=True)
class Newest:
    """The newest instant compared of a source; None when nothing of it was."""

    source: str
    as_of: datetime | None


@dataclass(frozen=True)
class ParityPage:
    """Publications of a view and what was found wrong with them.

    Attributes:
        live: None before the first publication.
        earlier: where one could go back to, the last published first.
        publications, served: newest first.
        older, served_older: of which `before` and `served_before` the next pages are; None on the last ones.
        newest: of each source.
        differing: of the last WINDOW_DAYS days up to the newest of these, oldest first.
        models: that read the view.
    """

    view: str
    views: tuple[str, ...]
    models: tuple[str, ...]
    asked_as_of: datetime | None
    live: Live | None
    earlier: tuple[Earlier, ...]
    publications: tuple[Publication, ...]
    older: datetime | None
    served: tuple[ServedHour, ...]
    served_older: datetime | None
    newest: tuple[Newest, ...]
    differing: tuple[Differing, ...]


def parity_page(
    connection: warehouse.Connection,
    view: FeatureView,
    views: tuple[str, ...],
    models: tuple[str, ...],
    at: datetime,
    *,
    before: datetime | None = None,
    served_before: datetime | None = None,
    as_of: datetime | None = None,
) -> ParityPage:
    """The page of a view.

    Args:
        at: the clock by which what is live is fresh.
        before: publications of earlier moments only.
        served_before: hours of the log before this as_of only.
        as_of: publications and hours of it are marked; without `before` they are on the page.
    """
    if as_of and not before:
        before = moment_above(connection, view, as_of)
    if as_of and not served_before:
        served_before = as_of + (SHOWN_ABOVE + 1) * HOUR
    publications, older = publications_of(connection, view, before, as_of)
    served, served_older = _served(connection, view, served_before, as_of)
    live = live_of(connection, view, at)
    newest = _newest(connection, view)
    return ParityPage(
        view=view.name,
        views=views,
        models=models,
        asked_as_of=as_of,
        live=live,
        earlier=earlier_of(connection, view, live),
        publications=publications,
        older=older,
        served=served,
        served_older=served_older,
        newest=newest,
        differing=_differing(connection, view, newest),
    )


def _served(
    connection: warehouse.Connection, view: FeatureView, before: datetime | None, asked: datetime | None
) -> tuple[tuple[ServedHour, ...], datetime | None]:
    """A page of hours, and before which as_of the next one begins; an hour of several models is on one page."""
    rows = connection.execute(
        f"""
        with hours as (
            select distinct as_of
            from monitoring.parity_audits
            where
                feature_view = %(view)s and source = 'inference_log'
                and as_of < coalesce(%(before)s, 'infinity'::timestamptz)
            order by as_of desc
            limit %(most)s
        )

        select
            as_of, model_name as model, publication_id, feature_version, max(rows_compared) as rows,
            max(audited_at) as audited_at, max(accepted_because) as accepted_because, {COUNTED}
        from monitoring.parity_audits
        where
            feature_view = %(view)s and source = 'inference_log'
            and as_of >= (select min(as_of) from hours) and as_of <= (select max(as_of) from hours)
        group by as_of, model_name, publication_id, feature_version
        order by as_of desc, model_name
        """,
        {"view": view.name, "before": before, "most": PAGE_SIZE + 1},
    ).fetchall()
    hours = list(dict.fromkeys(row["as_of"] for row in rows))
    shown = hours[:PAGE_SIZE]
    page = (row for row in rows if row["as_of"] in set(shown))
    return tuple(_hour(row, asked) for row in page), shown[-1] if len(hours) > len(shown) else None


def _hour(row: dict[str, Any], asked: datetime | None) -> ServedHour:
    return ServedHour(
        as_of=row["as_of"],
        model=row["model"],
        publication_id=row["publication_id"],
        feature_version=row["feature_version"],
        rows=row["rows"],
        audited_at=row["audited_at"],
        is_asked=row["as_of"] == asked,
        compared=comparison(row),
    )


def _newest(connection: warehouse.Connection, view: FeatureView) -> tuple[Newest, ...]:
    rows = connection.execute(
        """
        select
            source,
            (
                select max(as_of) from monitoring.parity_audits
                where feature_view = %s and parity_audits.source = sources.source
            ) as as_of
        from unnest(%s::text[]) as sources (source)
        """,
        [view.name, list(SOURCES)],
    )
    return tuple(Newest(**row) for row in rows)


def _differing(connection: warehouse.Connection, view: FeatureView, newest: Iterable[Newest]) -> tuple[Differing, ...]:
    """Of several audits of an instant, as of refusals one after the other, the worst."""
    end = max((each.as_of for each in newest if each.as_of), default=None)
    if end is None:
        return ()
    rows = connection.execute(
        """
        select distinct on (as_of, source)
            as_of, source, sum(mismatches)::bigint as cells, count(*) as features
        from monitoring.parity_audits
        where feature_view = %s and mismatches > 0 and as_of > %s
        group by as_of, source, publication_id, model_name
        order by as_of, source, cells desc
        limit 20000
        """,
        [view.name, end - timedelta(days=WINDOW_DAYS)],
    )
    return tuple(Differing(**row) for row in rows)
