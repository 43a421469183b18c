"""Retention: old snapshots thin out, and so do predictions and the log of requests.

Any row of a snapshot can be recomputed exactly, so nothing is lost by it. Of requests the hourly aggregates stay,
and of predictions how good they were.
"""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

from psycopg import sql

from features import ledger, warehouse
from features.contract import FeatureView, Model, Retention

log = logging.getLogger(__name__)

# A row that a service wrote stands in until the entity is in a snapshot, which takes an hour or two, or for good when
# nobody knows the entity: then it can be computed again. Whoever asks for many such must not fill the warehouse.
KEEP_WRITTEN = timedelta(days=2)
# A prediction is measured when its label has matured, and again if more labels come home in the weeks after.
UNTIL_MEASURED = timedelta(days=35)
# In one transaction: so few that neither their locks nor what has to be replicated is in anybody's way.
CHUNK = 10_000

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


def thin_log(model: Model, as_of: datetime) -> int:
    """Deletes what is older at as_of than the model's `inference` says: logged requests, refused ones, predictions.

    Predictions stay until they have been measured, whatever it says. Rows that services wrote of the model's feature
    view go after KEEP_WRITTEN. It may be stopped at any time.

    Returns:
        how many rows were deleted.
    """
    oldest_request = as_of - timedelta(days=model.inference.keep_log_days)
    keep = max(timedelta(days=model.inference.keep_predictions_days), model.label_horizon + UNTIL_MEASURED)
    view = model.feature_view.name
    deleted = {
        "monitoring.inference_log": _delete(LOGGED, model.name, oldest_request),
        "monitoring.rejected_inferences": _delete(REJECTED, model.name, oldest_request),
        "serving.predictions": _delete(PREDICTED, model.name, as_of - keep),
        "serving.written_features": _delete(WRITTEN, view, as_of - KEEP_WRITTEN),
    }
    for table, count in deleted.items():
        if count:
            log.info("%s: %s old rows of %s deleted.", model.name, f"{count:,}", table)
    return sum(deleted.values())


def _delete(statement: str, whose: str, before: datetime) -> int:
    """Runs a deletion of at most so many rows, each time in its own transaction, until none is left."""
    deleted = 0
    while True:
        with warehouse.connect() as connection:
            gone = connection.execute(statement, [whose, before, CHUNK]).rowcount
        deleted += gone
        if gone < CHUNK:
            return deleted


LOGGED = """
delete from monitoring.inference_log where ctid = any(array(
    select ctid from monitoring.inference_log where model_name = %s and logged_at < %s limit %s
))
"""
REJECTED = """
delete from monitoring.rejected_inferences where ctid = any(array(
    select ctid from monitoring.rejected_inferences where model_name = %s and rejected_at < %s limit %s
))
"""
PREDICTED = """
delete from serving.predictions where ctid = any(array(
    select ctid from serving.predictions where model_name = %s and as_of < %s limit %s
))
"""
WRITTEN = """
delete from serving.written_features where ctid = any(array(
    select ctid from serving.written_features where feature_view = %s and as_of < %s limit %s
))
"""
