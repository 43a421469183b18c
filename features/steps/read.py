"""Reading feature rows: a snapshot's population, the champion's baseline."""

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Baseline:
    """Which training rows a champion is compared with. They are immutable, so naming them is keeping them."""

    baseline_id: int
    feature_version: str
    first_label_at: datetime
    last_label_at: datetime


def baseline_of(connection: warehouse.Connection, model: Model, version: str) -> Baseline | None:
    """The baseline that was written when the version was promoted."""
    row = connection.execute(
        "select baseline_id, feature_version, first_label_at, last_label_at from monitoring.model_baselines"
        " where model_name = %s and model_version = %s",
        [model.name, version],
    ).fetchone()
    return Baseline(**row) if row else None


def baseline_values(connection: warehouse.Connection, model: Model, baseline: Baseline, feature: str) -> pd.Series:
    """One feature's values in the champion's training rows, sorted: a sum of floats depends on their order."""
    query = sql.SQL("select {} from {} where label_at between %s and %s and feature_version = %s order by 1").format(
        sql.Identifier(feature), sql.Identifier(*model.training_set)
    )
    bounds = [baseline.first_label_at, baseline.last_label_at, baseline.feature_version]
    return warehouse.frame(connection, query, bounds)[feature]
