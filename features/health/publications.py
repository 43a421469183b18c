"""The ledger of a feature view: what is live, what was, what the gate refused, and where one can go back to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from features import warehouse
from features.contract import FeatureView
from features.health.compared import Compared, compared_of
from features.parity import ENTITIES

PAGE_SIZE = 50
# How many later ones are shown above a publication that was asked for.
SHOWN_ABOVE = 20
# Neighbours in time may have drawn their numbers in another order, when two runs wanted to publish at once.
SLACK = 100
INSTANTS_TO_RETURN_TO = 5


@dataclass(frozen=True)
class Publication:
    """A publication, or one that the gate refused.

    Attributes:
        state: live, retired or refused.
        moment: when it went live, or was refused.
        rows: None when refused.
        retired_at: None while it is live, and when it never was.
        is_rollback: whether one with a later as_of had been published before it.
        is_asked: whether it has the as_of that was asked for.
    """

    publication_id: int
    as_of: datetime
    feature_version: str
    state: str
    moment: datetime
    rows: int | None
    retired_at: datetime | None
    note: str | None
    is_rollback: bool
    is_asked: bool
    compared: Compared


@dataclass(frozen=True)
class Live:
    """What readers get now.

    Attributes:
        freshness: fresh or stale, by the clock.
        newest_as_of: the latest that was ever published; later than as_of after a rollback.
    """

    publication_id: int
    as_of: datetime
    feature_version: str
    rows: int
    published_at: datetime
    expires_at: datetime
    freshness: str
    note: str | None
    newest_as_of: datetime

    @property
    def is_rollback(self) -> bool:
        """Whether readers get an earlier snapshot than was published already."""
        return self.as_of < self.newest_as_of


@dataclass(frozen=True)
class Earlier:
    """A snapshot that one could roll back to, unless its rows were thinned out."""

    as_of: datetime
    feature_version: str
    rows: int
    published_at: datetime


def live_of(connection: warehouse.Connection, view: FeatureView, at: datetime) -> Live | None:
    """What readers get, if anything; fresh by the clock `at`."""
    row = connection.execute(
        """
        select
            live.publication_id, live.as_of, live.feature_version, live.row_count as rows, live.published_at, live.note,
            live.as_of + %(expires_after)s::interval as expires_at,
            (select max(as_of) from serving.publications where feature_view = %(view)s) as newest_as_of
        from serving.publications as live
        where live.feature_view = %(view)s and live.retired_at is null
        """,
        {"view": view.name, "expires_after": view.expires_after},
    ).fetchone()
    return Live(**row, freshness=freshness(row["expires_at"], at)) if row else None


def freshness(expires_at: datetime | None, at: datetime) -> str:
    """fresh or stale by the clock, or unpublished."""
    if expires_at is None:
        return "unpublished"
    return "fresh" if at < expires_at else "stale"


def earlier_of(connection: warehouse.Connection, view: FeatureView, live: Live | None) -> tuple[Earlier, ...]:
    """The last of each as_of, as `rollback` would find them."""
    rows = connection.execute(
        """
        select as_of, feature_version, row_count as rows, published_at
        from serving.publications
        where publication_id in (
            select max(publication_id)
            from (
                select as_of, publication_id
                from serving.publications
                where feature_view = %(view)s
                order by published_at desc
                limit 1000
            ) as newest
            where as_of is distinct from %(live)s
            group by as_of
            order by max(publication_id) desc
            limit %(most)s
        )
        order by publication_id desc
        """,
        {"view": view.name, "live": live.as_of if live else None, "most": INSTANTS_TO_RETURN_TO},
    )
    return tuple(Earlier(**row) for row in rows)


def moment_above(connection: warehouse.Connection, view: FeatureView, as_of: datetime) -> datetime | None:
    """The moment before which a page begins that has the last publication of as_of, or its refusal, among its first."""
    row = connection.execute(
        """
        with asked as (
            select coalesce(
                (
                    select max(publication_id) from serving.publications
                    where feature_view = %(view)s and as_of = %(as_of)s
                ),
                (
                    select max(publication_id) from monitoring.parity_audits
                    where feature_view = %(view)s and source = 'publication' and as_of = %(as_of)s
                )
            ) as publication_id
        ),

        published as (
            select publication_id, published_at as moment
            from serving.publications
            where feature_view = %(view)s and publication_id > (select publication_id from asked)
            order by publication_id
            limit %(above)s
        ),

        refused as (
            select publication_id, max(audited_at) as moment
            from monitoring.parity_audits
            where
                feature_view = %(view)s and source = 'publication' and model_name = '' and feature = %(entities)s
                and publication_id > (select publication_id from asked)
                and publication_id <= (
                    select case when count(*) = %(above)s then max(publication_id) else 9223372036854775807 end
                    from published
                )
                and not exists (
                    select from serving.publications where publications.publication_id = parity_audits.publication_id
                )
            group by publication_id
            order by publication_id
            limit %(above)s
        )

        select max(moment) as moment, count(*) as later
        from (
            select * from published union all select * from refused order by publication_id limit %(above)s
        ) as next
        """,
        {"view": view.name, "as_of": as_of, "above": SHOWN_ABOVE, "entities": ENTITIES},
    ).fetchone()
    return row["moment"] if row and row["later"] == SHOWN_ABOVE else None


def publications_of(
    connection: warehouse.Connection, view: FeatureView, before: datetime | None, asked: datetime | None
) -> tuple[tuple[Publication, ...], datetime | None]:
    """A page of them, and of which moment the next one begins."""
    rows = connection.execute(
        PUBLICATIONS, {"view": view.name, "before": before, "most": PAGE_SIZE + 1, "slack": SLACK, "entities": ENTITIES}
    ).fetchall()
    page = rows[:PAGE_SIZE]
    compared = compared_of(connection, [row["publication_id"] for row in page])
    is_rollback = rollbacks(rows)
    publications = tuple(
        Publication(
            publication_id=row["publication_id"],
            as_of=row["as_of"],
            feature_version=row["feature_version"],
            state=row["state"],
            moment=row["moment"],
            rows=row["rows"],
            retired_at=row["retired_at"],
            note=row["note"],
            is_rollback=row["publication_id"] in is_rollback,
            is_asked=row["as_of"] == asked,
            compared=compared.get(row["publication_id"], Compared()),
        )
        for row in page
    )
    return publications, page[-1]["moment"] if len(rows) > len(page) else None


def rollbacks(rows: Sequence[Mapping[str, Any]]) -> set[int]:
    """The publications of a page, newest first, whose as_of is before that of one published earlier.

    Args:
        rows: with publication_id, state and as_of, and as newest_before the latest as_of published before all of them.
    """
    found = set()
    newest = rows[-1]["newest_before"] if rows else None
    for row in reversed(rows):
        if row["state"] == "refused":
            continue
        if newest and row["as_of"] < newest:
            found.add(row["publication_id"])
        newest = max(newest or row["as_of"], row["as_of"])
    return found


# Two publications of a view never share a moment: one waits for the other, and reads the clock after it.
# Of audits only those are read whose number may be one of the page's.
PUBLICATIONS = """
with

published as (

    select
        publication_id, as_of, feature_version, case when retired_at is null then 'live' else 'retired' end as state,
        published_at as moment, row_count as rows, retired_at, note
    from serving.publications
    where feature_view = %(view)s and published_at < coalesce(%(before)s, 'infinity'::timestamptz)
    order by published_at desc
    limit %(most)s

),

bounds as (

    select
        case when count(*) = %(most)s then min(publication_id) - %(slack)s else 0 end as low,
        case
            when %(before)s::timestamptz is null then null
            else (
                select min(publication_id) + %(slack)s
                from serving.publications
                where feature_view = %(view)s and published_at >= %(before)s
            )
        end as high
    from published

),

refused as (

    select
        publication_id, as_of, feature_version, 'refused' as state, max(audited_at) as moment, null::bigint as rows,
        null::timestamptz as retired_at, null as note
    from monitoring.parity_audits
    where
        feature_view = %(view)s
        and source = 'publication'
        and model_name = ''
        -- Each audit has one of these.
        and feature = %(entities)s
        and publication_id >= (select low from bounds)
        and publication_id <= coalesce((select high from bounds), 9223372036854775807)
        and audited_at < coalesce(%(before)s, 'infinity'::timestamptz)
        and not exists (
            select from serving.publications where publications.publication_id = parity_audits.publication_id
        )
    group by publication_id, as_of, feature_version
    order by moment desc
    limit %(most)s

),

listed as (

    select * from published
    union all
    select * from refused
    order by moment desc, publication_id desc
    limit %(most)s

)

select
    listed.*,
    (
        select max(as_of)
        from serving.publications
        where feature_view = %(view)s and published_at < (select min(moment) from listed)
    ) as newest_before
from listed
order by moment desc, publication_id desc
"""
