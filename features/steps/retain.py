"""Retention: old snapshots thin out. Any of their rows can be recomputed exactly, so nothing is lost."""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

from psycopg import sql

from features import ledger, warehouse
from features.contract import FeatureView, Retention

log = logging.getLogger(__name__)

# Jumps from one as_of to the next along the primary key.
INSTANTS = """
with recursive instants as (
    select min(as_of) as as_of from {table}
    union all
    select (select min(later.as_of) from {table} as later where later.as_of > instants.as_of)
    from instants
    where instants.as_of is not null
)

select as_of from instants where as_of is not null and as_of < %s
"""


def is_kept(snapshot: datetime, as_of: datetime, retention: Retention) -> bool:
    """Whether the policy keeps a snapshot when the newest one is at as_of.

    >>> from datetime import UTC
    >>> now = datetime(2013, 7, 15, 12, tzinfo=UTC)
    >>> is_kept(datetime(2013, 7, 9, 3, tzinfo=UTC), now, Retention())
    True
    >>> is_kept(datetime(2013, 7, 8, 3, tzinfo=UTC), now, Retention())
    False
    >>> is_kept(datetime(2013, 7, 8, 0, tzinfo=UTC), now, Retention())
    True
    """
    age = as_of - snapshot
    if age <= timedelta(days=retention.every_hour_for_days):
        return True
    is_midnight = snapshot.hour == snapshot.minute == snapshot.second == snapshot.microsecond == 0
    return is_midnight and age <= timedelta(days=retention.every_day_for_days)


def thin(view: FeatureView, as_of: datetime) -> dict[str, int]:
    """Deletes the view's rows of snapshots that its policy no longer keeps at as_of.

    Rows that a label trains on stay, whatever their age, and so does the live snapshot. One snapshot is one
    transaction, so that it may be stopped at any time.

    Returns:
        how many rows were deleted, from how many snapshots.
    """
    deleted = snapshots = 0
    with warehouse.connect() as connection:
        old = list(_old_snapshots(connection, view, as_of))
    for number, snapshot in enumerate(old, start=1):
        with warehouse.connect() as connection:
            gone = connection.execute(_deletion(view), {"as_of": snapshot}).rowcount
        deleted += gone
        snapshots += gone > 0
        if gone:
            log.info("%s: %s rows of %s thinned out (%s of %s).", view.name, f"{gone:,}", snapshot, number, len(old))
    return {"rows": deleted, "snapshots": snapshots}


def _old_snapshots(connection: warehouse.Connection, view: FeatureView, as_of: datetime) -> Iterator[datetime]:
    live = ledger.live(connection, view)
    for row in connection.execute(sql.SQL(INSTANTS).format(table=sql.Identifier(*view.relation)), [as_of]):
        if not is_kept(row["as_of"], as_of, view.retention) and not (live and live.as_of == row["as_of"]):
            yield row["as_of"]


def _deletion(view: FeatureView) -> sql.Composed:
    trains = sql.SQL("select 1 from {} as training_set where training_set.as_of = %(as_of)s and {}")
    kept = [
        sql.SQL(" and not exists ({})").format(trains.format(sql.Identifier(*relation), _same_key(view)))
        for relation in view.training_sets
    ]
    delete = sql.SQL("delete from {} as snapshot where snapshot.as_of = %(as_of)s")
    return delete.format(sql.Identifier(*view.relation)) + sql.Composed(kept)


def _same_key(view: FeatureView) -> sql.Composed:
    same = sql.SQL("training_set.{key} = snapshot.{key}")
    return sql.SQL(" and ").join(same.format(key=sql.Identifier(key)) for key in view.entity)
