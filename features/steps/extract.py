"""Reading feature rows: a training extract, a snapshot's population, the champion's baseline."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
from psycopg import sql

from features import warehouse
from features.contract import Model
from features.errors import SkewlessError


@dataclass(frozen=True)
class TrainingExtract:
    """Every label that had matured by as_of, with the features that were live at its instant.

    Attributes:
        rows: the entity, label_at, the label and the features; ordered by entity and label_at.
        extract_id: names the content: definition, label times, number of rows and a checksum of them.
    """

    rows: pd.DataFrame
    extract_id: str
    feature_version: str


def training_extract(model: Model, as_of: datetime) -> TrainingExtract:
    """The extract at as_of.

    Raises:
        SkewlessError: when no label has matured by then.
    """
    names = [model.entity, "label_at", model.label, *model.feature_names]
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    relation = sql.Identifier(*model.training_set)
    with warehouse.connect() as connection:
        connection.execute("set transaction isolation level repeatable read")
        facts = connection.execute(
            sql.SQL(
                "select count(*) as n, min(feature_version) as version, count(distinct feature_version) as versions,"
                " sum(hashtextextended(({})::text, 0)) as checksum from {} where matured_at <= %s"
            ).format(sql.SQL("row({})").format(columns), relation),
            [as_of],
        ).fetchone()
        if not facts or not facts["n"]:
            raise SkewlessError(
                f"No label of {model.name} had matured by {as_of:%Y-%m-%d}: there is nothing to train on."
            )
        if facts["versions"] != 1:
            raise SkewlessError(f"{'.'.join(model.training_set)} mixes {facts['versions']} feature versions.")
        order = sql.SQL(" order by {}, label_at").format(sql.Identifier(model.entity))
        rows = warehouse.frame(
            connection, sql.SQL("select {} from {} where matured_at <= %s").format(columns, relation) + order, [as_of]
        )
    identity = f"{model.name} {facts['version']} {as_of.isoformat()} {facts['n']} {facts['checksum']}"
    return TrainingExtract(rows, hashlib.sha256(identity.encode()).hexdigest()[:16], facts["version"])


def snapshot(
    connection: warehouse.Connection, model: Model, as_of: datetime, version: str, names: list[str]
) -> pd.DataFrame:
    """Columns of the feature rows at as_of, of the model's population, in key order."""
    query = sql.SQL("select {} from {} where as_of = %s and feature_version = %s and ({}) order by {}").format(
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.Identifier(*model.feature_view.relation),
        sql.SQL(model.population.replace("%", "%%")),  # the contract's own SQL, as trusted as a dbt model
        sql.Identifier(model.entity),
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
    """One feature's values in the champion's training rows."""
    query = sql.SQL("select {} from {} where label_at between %s and %s and feature_version = %s").format(
        sql.Identifier(feature), sql.Identifier(*model.training_set)
    )
    bounds = [baseline.first_label_at, baseline.last_label_at, baseline.feature_version]
    return warehouse.frame(connection, query, bounds)[feature]
