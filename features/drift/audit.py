"""The audit path: the exact two-sample Kolmogorov-Smirnov test, from the rows themselves.

The monitor never reads rows. This does, for one feature at one instant, to show that the cells tell the same.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from psycopg import sql
from scipy import stats

from features import warehouse
from features.contract import Model
from features.drift import baselines, distance
from features.drift.baselines import BaselineKey
from features.drift.looks import Outlook
from features.drift.profile import Profile
from features.drift.report import WHOLE
from features.drift.sketch import Floats, Sketch, allowed_by, usable
from features.drift.sources import Column, Source, training_source
from features.errors import SkewlessError


@dataclass(frozen=True)
class Audit:
    """The exact test beside what the cells say of the same rows.

    Attributes:
        statistic, p_value: of `scipy.stats.ks_2samp`, asymptotic.
        at_least, at_most: what the cells say.
        served, trained: rows with a value.
    """

    statistic: float
    p_value: float
    at_least: float
    at_most: float
    served: int
    trained: int


def audit(model: Model, feature: str, as_of: datetime) -> Audit:
    """Compares a feature of the snapshot at as_of with the champion's training rows, row by row and cell by cell.

    Raises:
        SkewlessError: when there is no champion, no such numeric feature, or nothing served.
    """
    from features import tracking

    champion = tracking.champion(model)
    if champion is None:
        raise SkewlessError(f"{model.name} has no champion yet, so there is nothing to compare with.")
    with warehouse.connect() as connection:
        key = BaselineKey("training", "training", WHOLE, champion.number)
        stored = baselines.read_baseline(connection, model, feature, key)
        look = next(iter(Outlook(connection, model, champion.number, as_of).looks(feature)), None)
        if (
            stored is None
            or look is None
            or feature not in model.feature_names
            or not stored.baseline.grid.kind.is_ordered
        ):
            raise SkewlessError(f"{feature} is no numeric feature with a baseline of {model.name} v{champion.number}.")
        period = connection.execute(
            "select feature_version, first_label_at, last_label_at from monitoring.model_baselines"
            " where model_name = %s and model_version = %s",
            [model.name, champion.number],
        ).fetchone()
        assert period is not None
        source = training_source(model, period["feature_version"], period["first_label_at"], period["last_label_at"])
        trained = _values(connection, source, look.column, [])
        served = _values(connection, look.source, look.column, [as_of])
    if not len(served) or not len(trained):
        raise SkewlessError(f"{feature} has {len(served)} values at {as_of} and {len(trained)} in the training rows.")
    grid = stored.baseline.grid
    before, now = (Profile.of(Sketch.of(values, grid, look.column.valid)) for values in (trained, served))
    bracket = distance.ks(before, now, grid)
    exact = stats.ks_2samp(trained, served, method="asymp")
    return Audit(float(exact.statistic), float(exact.pvalue), bracket.low, bracket.high, len(served), len(trained))


def _values(connection: warehouse.Connection, source: Source, column: Column, hours: list[datetime]) -> Floats:
    """The values that the cells count."""
    query = sql.SQL("select {} as value from ({}) as rows").format(column.expression, source.rows(hours))
    values = np.array(
        [np.nan if row["value"] is None else row["value"] for row in connection.execute(query)], dtype=float
    )
    values = values[usable(values)]
    return values[allowed_by(column.valid, values)]
