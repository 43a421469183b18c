"""The ledger `serving.publications`: which as_of of a feature view is live since when, and was before.

Serving reads the row that is not retired; training reads which one was live at a label's instant. Nothing here is ever
updated but the moment at which a publication ends.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import sql

from features import warehouse
from features.contract import FeatureView
from features.errors import SkewlessError


@dataclass(frozen=True)
class Snapshot:
    """The stored rows of one as_of and definition.

    Attributes:
        events_loaded_through: when the newest event had been loaded that their computation could see; None when dbt
            never built this as_of by itself, but its rows came in as labels' rows.
    """

    as_of: datetime
    feature_version: str
    row_count: int
    events_loaded_through: datetime | None


@dataclass(frozen=True)
class Publication:
    """A row of the ledger.

    Attributes:
        events_loaded_through: when the newest event had been loaded that its rows' computation could see.
    """

    publication_id: int
    as_of: datetime
    feature_version: str
    row_count: int
    events_loaded_through: datetime


def one_writer_at_a_time(connection: warehouse.Connection, view: FeatureView) -> None:
    """Waits until no other transaction publishes the view."""
    connection.execute("select pg_advisory_xact_lock(hashtext(%s))", [f"publish {view.name}"])


def current_version(connection: warehouse.Connection, view: FeatureView) -> str:
    """The definition that dbt built last.

    Raises:
        SkewlessError: when dbt has never built the view.
    """
    row = connection.execute(
        "select feature_version from features.feature_versions where feature_view = %s"
        " order by last_built_at desc limit 1",
        [view.name],
    ).fetchone()
    if row is None:
        raise SkewlessError(f"dbt has not built {view.name} yet: run materialize_features, or `dbt build`.")
    return str(row["feature_version"])


def snapshot(connection: warehouse.Connection, view: FeatureView, as_of: datetime, version: str) -> Snapshot:
    """What is stored of an as_of, by one definition; it may have no row."""
    count = sql.SQL("select count(*) as n from {} where as_of = %s and feature_version = %s")
    row = connection.execute(count.format(sql.Identifier(*view.relation)), [as_of, version]).fetchone()
    assert row is not None
    build = connection.execute(
        "select events_loaded_through from features.builds"
        " where feature_view = %s and feature_version = %s and as_of = %s",
        [view.name, version, as_of],
    ).fetchone()
    return Snapshot(as_of, version, int(row["n"]), build["events_loaded_through"] if build else None)


def live(connection: warehouse.Connection, view: FeatureView) -> Publication | None:
    """What is live, if anything is."""
    return _one(connection, "feature_view = %s and retired_at is null", [view.name])


def last_of(connection: warehouse.Connection, view: FeatureView, as_of: datetime) -> Publication | None:
    """The last publication of an as_of, if it ever was published."""
    return _one(connection, "feature_view = %s and as_of = %s", [view.name, as_of])


def published_instants(connection: warehouse.Connection, view: FeatureView) -> list[datetime]:
    """The as_ofs that were published last, newest first, five at most."""
    rows = connection.execute(
        "select as_of from serving.publications where feature_view = %s"
        " group by as_of order by max(publication_id) desc limit 5",
        [view.name],
    )
    return [row["as_of"] for row in rows]


def replace_live(connection: warehouse.Connection, view: FeatureView, snapshot: Snapshot) -> Publication:
    """Makes a snapshot the live one in this transaction's eyes; `go_live`, just before it commits, says since when."""
    connection.execute(
        "update serving.publications set retired_at = clock_timestamp() where feature_view = %s and retired_at is null",
        [view.name],
    )
    row = connection.execute(
        "insert into serving.publications (feature_view, as_of, feature_version, row_count, events_loaded_through)"
        " values (%s, %s, %s, %s, %s) returning *",
        [view.name, snapshot.as_of, snapshot.feature_version, snapshot.row_count, snapshot.events_loaded_through],
    ).fetchone()
    assert row is not None
    return _publication(row)


def go_live(
    connection: warehouse.Connection, replaced: Publication | None, publication: Publication, note: str | None = None
) -> None:
    """Writes the moment at which readers see one publication instead of another; training has to know it.

    Args:
        note: why it was published, when it is no ordinary publication.
    """
    connection.execute(
        """
        with moment as (
            select clock_timestamp() as live_since
        ),

        retired as (
            update serving.publications set retired_at = live_since
            from moment
            where publication_id = %s
        )

        update serving.publications set published_at = live_since, note = %s
        from moment
        where publication_id = %s
        """,
        [replaced.publication_id if replaced else None, note, publication.publication_id],
    )


def _one(connection: warehouse.Connection, condition: str, parameters: list[Any]) -> Publication | None:
    row = connection.execute(
        f"select * from serving.publications where {condition} order by publication_id desc limit 1", parameters
    ).fetchone()
    return _publication(row) if row else None


def _publication(row: dict[str, Any]) -> Publication:
    return Publication(
        publication_id=row["publication_id"],
        as_of=row["as_of"],
        feature_version=row["feature_version"],
        row_count=row["row_count"],
        # Nothing that was loaded after it was published can have been seen.
        events_loaded_through=row["events_loaded_through"] or row["published_at"],
    )
