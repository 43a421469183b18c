"""Publishing: one inserted ledger row makes an as_of the live one."""

import logging
from datetime import datetime
from typing import Any

from psycopg import sql

from features import warehouse
from features.contract import FeatureView
from features.errors import SkewlessError

log = logging.getLogger(__name__)


def publish(view: FeatureView, as_of: datetime) -> dict[str, Any]:
    """Makes the view's rows at as_of the live snapshot.

    Publishing an as_of again changes nothing, and an older one, as in a backfill, never replaces a newer one.

    Returns:
        as_of, feature_version, row_count and whether the as_of is live now.

    Raises:
        SkewlessError: when there are no rows at as_of.
    """
    with warehouse.connect() as connection:
        connection.execute("select pg_advisory_xact_lock(hashtext(%s))", [f"publish {view.name}"])
        version = current_version(connection, view)
        row_count = count_rows(connection, view, as_of, version)
        if not row_count:
            raise SkewlessError(
                f"{view.schema_name}.{view.name} has no row at {as_of:%Y-%m-%d %H:%M}Z of definition "
                f"{version}; clear the dbt tasks of this Dag run."
            )
        live = connection.execute(
            "select as_of, feature_version from serving.publications where feature_view = %s and retired_at is null",
            [view.name],
        ).fetchone()
        facts = {"as_of": as_of.isoformat(), "feature_version": version, "row_count": row_count}
        if live and (live["as_of"], live["feature_version"]) == (as_of, version):
            log.info("%s at %s is live already.", view.name, as_of)
            return {**facts, "is_live": True}
        if live and live["as_of"] > as_of:
            log.info("%s at %s stays unpublished: %s is live and newer.", view.name, as_of, live["as_of"])
            return {**facts, "is_live": False}
        connection.execute(
            "update serving.publications set retired_at = now() where feature_view = %s and retired_at is null",
            [view.name],
        )
        connection.execute(
            "insert into serving.publications (feature_view, as_of, feature_version, row_count)"
            " values (%s, %s, %s, %s)",
            [view.name, as_of, version, row_count],
        )
    log.info("Published %s at %s: %s rows of definition %s.", view.name, as_of, f"{row_count:,}", version)
    return {**facts, "is_live": True}


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


def count_rows(connection: warehouse.Connection, view: FeatureView, as_of: datetime, version: str) -> int:
    """Rows of one as_of and definition."""
    query = sql.SQL("select count(*) as n from {} where as_of = %s and feature_version = %s")
    row = connection.execute(query.format(sql.Identifier(*view.relation)), [as_of, version]).fetchone()
    return int(row["n"]) if row else 0
