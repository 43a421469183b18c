"""Reading feature rows: a snapshot's population, and which training rows belong to which segment."""

from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd
from psycopg import sql

from features import warehouse
from features.contract import Model


def snapshot(
    connection: warehouse.Connection, model: Model, as_of: datetime, version: str, names: list[str]
) -> pd.DataFrame:
    """Columns of the feature rows at as_of, of the model's population, in key order."""
    query = sql.SQL("select {} from {} where as_of = %s and feature_version = %s and ({}) order by {}").format(
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.Identifier(*model.feature_view.relation),
        sql.SQL(model.population.replace("%", "%%")),  # the contract's own SQL, as trusted as a dbt model
        sql.SQL(", ").join(map(sql.Identifier, model.entity)),
    )
    return warehouse.frame(connection, query, [as_of, version])


def latest_snapshot(
    connection: warehouse.Connection, model: Model, as_of: datetime, version: str, names: list[str]
) -> pd.DataFrame:
    """The same of the last instant, at or before as_of, that dbt computed by this definition; empty without one."""
    row = connection.execute(
        "select max(as_of) as newest from features.builds"
        " where feature_view = %s and feature_version = %s and as_of <= %s",
        [model.feature_view.name, version, as_of],
    ).fetchone()
    assert row is not None
    return snapshot(connection, model, row["newest"] or as_of, version, names)


def segments(connection: warehouse.Connection, model: Model, rows: pd.DataFrame) -> dict[str, npt.NDArray[np.bool_]]:
    """Which of the training rows belong to each segment of the exposure's `monitoring`."""
    declared = model.monitoring.segments
    if not declared:
        return {}
    key = [*model.entity, "label_at"]
    conditions = sql.SQL(", ").join(
        sql.SQL("coalesce(({}), false) as {}").format(sql.SQL(condition.replace("%", "%%")), sql.Identifier(name))
        for name, condition in declared.items()
    )
    query = sql.SQL("select {}, {} from {} where label_at between %s and %s").format(
        sql.SQL(", ").join(map(sql.Identifier, key)), conditions, sql.Identifier(*model.training_set)
    )
    found = warehouse.frame(connection, query, [rows["label_at"].min(), rows["label_at"].max()])
    joined = rows[key].merge(found, on=key, how="left", validate="one_to_one")
    return {name: joined[name].astype(bool).to_numpy() for name in declared}
