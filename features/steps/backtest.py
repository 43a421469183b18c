"""Backtests on the labels that have matured: how fast a model ages, and what a policy would have cost."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pandas as pd
from psycopg import sql

from features import ledger, warehouse
from features.contract import Model
from features.errors import SkewlessError
from features.retraining import plots
from features.retraining.backtest import Backtest, backtest
from features.retraining.cadence import DecayCurve, Recommendation, decay_curve, recommended_age
from features.retraining.losses import LossMatrix, Recipe, train_at_many_instants

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


def backtest_decay(model: Model, as_of: datetime, on_progress: Progress | None = None) -> dict[str, Any]:
    """Trains at every label time, measures the loss by model age, and keeps the curve and the age it leads to.

    Doing so again replaces them. `max_model_age: auto` reads the last one at or before its as_of.

    Returns:
        max_age_days and the reason as a sentence.

    Raises:
        SkewlessError: when the history is too short to say anything.
    """
    with warehouse.connect() as connection:
        version = ledger.current_version(connection, model.feature_view)
        labels = matured_labels(connection, model, as_of)
        recipe = Recipe.of(model, _chosen_parameters(connection, model, as_of))
    matrix = train_at_many_instants(labels, recipe, on_progress=on_progress)
    curve = decay_curve(matrix, seed=model.training.seed, confidence=model.retraining.confidence)
    recommendation = recommended_age(curve, model.retraining.costs, model.retraining.staleness_tolerance)
    for point in curve.points:
        log.info(
            "%5.1f days old: log loss %+.5f (%+.5f to %+.5f) beside a fresh model, in %s pairs.",
            point.age_days,
            point.excess,
            point.low,
            point.high,
            point.pairs,
        )
    log.info("%s may become %s days old. %s", model.name, recommendation.max_age_days, recommendation.reason)
    with warehouse.connect() as connection:
        _write(connection, model, as_of, version, matrix, curve, recommendation)
    return {"max_age_days": recommendation.max_age_days, "reason": recommendation.reason}


def backtest_policy(
    model: Model, as_of: datetime, *, period_days: int = 30, on_progress: Progress | None = None
) -> Backtest:
    """What the declared policy would have done and cost over the labels there are, beside never, always and periodic.

    Nothing is written.

    Args:
        as_of: labels that matured later are left out.
        period_days: of the periodic policy.
    """
    with warehouse.connect() as connection:
        labels = matured_labels(connection, model, as_of)
        recipe = Recipe.of(model, _chosen_parameters(connection, model, as_of))
    matrix = train_at_many_instants(labels, recipe, on_progress=on_progress)
    return backtest(
        matrix,
        model.retraining,
        period_days=period_days,
        false_alarms_per_week=model.monitoring.false_alarms_per_week,
        drift_settings={feature.name: feature.drift for feature in model.feature_view.features},
        minimum=model.promotion.minimum,
    )


def decay_plot(model: Model, as_of: datetime) -> str:
    """The plot that was kept with a decay backtest, as SVG."""
    with warehouse.connect() as connection:
        row = connection.execute(
            "select plot_svg from monitoring.decay_backtests where model_name = %s and as_of = %s", [model.name, as_of]
        ).fetchone()
    if row is None:
        raise SkewlessError(f"There is no decay backtest of {model.name} at {as_of:%Y-%m-%d %H:%M}Z.")
    return str(row["plot_svg"])


def last_matured(model: Model) -> datetime:
    """When the newest label matured.

    Raises:
        SkewlessError: when none has.
    """
    query = sql.SQL("select max(matured_at) as newest from {}").format(sql.Identifier(*model.training_set))
    with warehouse.connect() as connection:
        row = connection.execute(query).fetchone()
    if row is None or row["newest"] is None:
        raise SkewlessError(f"No label of {model.name} has matured: run materialize_features, or `make demo`.")
    newest: datetime = row["newest"]
    return newest


def matured_labels(connection: warehouse.Connection, model: Model, as_of: datetime) -> pd.DataFrame:
    """The training set as far as it had matured by as_of, with matured_at.

    Raises:
        SkewlessError: when nothing had.
    """
    names = [*model.entity, "label_at", "matured_at", model.label, *model.feature_names]
    query = sql.SQL("select {} from {} where matured_at <= %s").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(*model.training_set)
    )
    labels = warehouse.frame(connection, query, [as_of])
    if labels.empty:
        raise SkewlessError(
            f"No label of {model.name} had matured by {as_of:%Y-%m-%d}: run materialize_features, or `make demo`."
        )
    return labels


def _chosen_parameters(connection: warehouse.Connection, model: Model, as_of: datetime) -> dict[str, Any]:
    """What the last search chose; a backtest does not search again at each instant."""
    row = connection.execute(
        "select evaluation -> 'parameters' as parameters from monitoring.model_evaluations"
        " where model_name = %s and as_of <= %s and evaluation is not null order by as_of desc limit 1",
        [model.name, as_of],
    ).fetchone()
    return dict(row["parameters"]) if row and row["parameters"] else {}


def _write(
    connection: warehouse.Connection,
    model: Model,
    as_of: datetime,
    feature_version: str,
    matrix: LossMatrix,
    curve: DecayCurve,
    recommendation: Recommendation,
) -> None:
    key = [model.name, as_of]
    connection.execute("delete from monitoring.decay_backtests where model_name = %s and as_of = %s", key)
    slope = curve.slope
    row = {
        "model_name": model.name,
        "as_of": as_of,
        "max_age_days": recommendation.max_age_days,
        "max_age_low_days": recommendation.low,
        "max_age_high_days": recommendation.high,
        "measured_days": curve.last_age,
        "method": recommendation.method,
        "reason": recommendation.reason,
        "fresh_loss": curve.fresh_loss,
        "slope_per_day": slope.estimate,
        "slope_low": slope.low,
        "slope_high": slope.high,
        "trainings": len(matrix.cutoffs),
        "label_rows": len(matrix.rows),
        "feature_version": feature_version,
        "plot_svg": plots.svg(plots.decay_plot(curve, recommendation)),
    }
    warehouse.insert(connection, "monitoring.decay_backtests", row)
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into monitoring.decay_curves (model_name, as_of, age_days, excess_loss, excess_low, excess_high,"
            " spread_low, spread_high, pairs, label_rows) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                [
                    *key,
                    point.age_days,
                    point.excess,
                    point.low,
                    point.high,
                    point.spread_low,
                    point.spread_high,
                    point.pairs,
                    point.rows,
                ]
                for point in curve.points
            ],
        )
