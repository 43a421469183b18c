"""Reading feature rows: a snapshot's population."""

from datetime import datetime

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
