"""How a model ages, as the newest decay backtest measured it, and how old the champion is against that."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from features import warehouse
from features.contract import Model
from features.retraining.decision import Cadence
from features.retraining.policy import age_limit


@dataclass(frozen=True)
class AgePoint:
    """How much worse than a fresh model one of this age is, on the same rows.

    Attributes:
        excess: mean log loss above that of the fresh model.
        low, high: its confidence interval.
        spread_low, spread_high: between which four of five label times lie.
        pairs: (old model, label time) that were compared.
        label_rows: how many rows they rest on; a row counts once for each pair.
    """

    age_days: float
    excess: float
    low: float
    high: float
    spread_low: float
    spread_high: float
    pairs: int
    label_rows: int


@dataclass(frozen=True)
class DecayBacktest:
    """The newest backtest and its curve, youngest first.

    Attributes:
        max_age_days: how old a model may become, the lower end of low_days to high_days.
        measured_days: the oldest age it met often enough.
        slope_per_day: by how much the log loss rises a day if in proportion to age, with its interval.
    """

    as_of: datetime
    made_at: datetime
    max_age_days: int
    low_days: int
    high_days: int
    measured_days: int
    method: str
    reason: str
    fresh_loss: float
    slope_per_day: float
    slope_low: float
    slope_high: float
    trainings: int
    label_rows: int
    points: tuple[AgePoint, ...]

    @property
    def cadence(self) -> Cadence:
        """What the policy takes from it."""
        return Cadence(self.max_age_days, self.as_of, self.measured_days)


@dataclass(frozen=True)
class ChampionAge:
    """The champion's age by the clock against what the policy allows.

    Attributes:
        due_at: from when on the schedule calls for a new one.
        state: young, due or none.
        limit_source: where the limit comes from, to be read after the number.
    """

    version: str | None
    trained_as_of: datetime | None
    age_days: float | None
    due_at: datetime | None
    state: str
    limit_days: int
    limit_source: str


def newest_backtest(connection: warehouse.Connection, model: Model) -> DecayBacktest | None:
    """The one with the newest as_of, whatever the clock says; None before the first."""
    row = connection.execute(
        """
        select
            as_of, made_at, max_age_days, max_age_low_days as low_days, max_age_high_days as high_days, measured_days,
            method, reason, fresh_loss, slope_per_day, slope_low, slope_high, trainings, label_rows
        from monitoring.decay_backtests
        where model_name = %s
        order by as_of desc
        limit 1
        """,
        [model.name],
    ).fetchone()
    return DecayBacktest(**row, points=_points(connection, model, row["as_of"])) if row else None


def _points(connection: warehouse.Connection, model: Model, as_of: datetime) -> tuple[AgePoint, ...]:
    rows = connection.execute(
        """
        select
            age_days, excess_loss as excess, excess_low as low, excess_high as high, spread_low, spread_high, pairs,
            label_rows
        from monitoring.decay_curves
        where model_name = %s and as_of = %s
        order by age_days
        limit 1000
        """,
        [model.name, as_of],
    )
    return tuple(AgePoint(**row) for row in rows)


def champion_age(
    model: Model,
    version: str | None,
    trained_as_of: datetime | None,
    cadence: Cadence | None,
    at: datetime,
) -> ChampionAge:
    """The champion's age at an instant, judged as the policy does: by whole days."""
    limit, source = age_limit(model.retraining, cadence)
    if trained_as_of is None:
        return ChampionAge(version, None, None, None, "none", limit, source)
    age = at - trained_as_of
    return ChampionAge(
        version=version,
        trained_as_of=trained_as_of,
        age_days=age / timedelta(days=1),
        due_at=trained_as_of + timedelta(days=limit),
        state="due" if age.days >= limit else "young",
        limit_days=limit,
        limit_source=source,
    )
