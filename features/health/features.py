"""All that is watched of a model, the worst first, each with the finding that is worst at one instant."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from features import warehouse
from features.contract import Contract, Model
from features.drift.decision import DriftStatus
from features.drift.sources import LABEL, PREDICTION
from features.errors import SkewlessError
from features.health.overview import ROWS, drift_place

# What a trend shows: a point for each day.
TREND_DAYS = 30
# Of each day the reports of its last instant are read, whose windows of a day and a week reach over the hours before:
# those of all its instants are half a million when there are a hundred features.
DAY = timedelta(days=1)
# Where an effect is many times its floor, or there is none that it could pass: an invalid value is one too many.
MOST_FLOORS = 99.0

OFF, NOT_REPORTED = "off", "not_reported"


@dataclass(frozen=True)
class Finding:
    """A report of monitoring.drift_reports: what was concluded of one feature in one window.

    Attributes:
        decided_by: the family of tests that decides: shape, cells, missing, new, not_finite, invalid.
        effect: with its bounds and floors; None where nothing could be compared.
        n, needed_n: entities counted, and needed.
        missing_rate, baseline_missing_rate: share of entities without a value.
    """

    status: str
    detail: str
    decided_by: str | None = None
    effect: float | None = None
    effect_low: float | None = None
    effect_high: float | None = None
    effect_floor: float | None = None
    critical_floor: float | None = None
    n: int | None = None
    needed_n: int | None = None
    missing_rate: float | None = None
    baseline_missing_rate: float | None = None
    source: str | None = None
    segment: str | None = None
    window_hours: int | None = None
    baseline: str | None = None
    model_version: str | None = None

    @property
    def floors(self) -> float:
        """The effect in multiples of its warning floor, MOST_FLOORS at most; 0 where there is none."""
        if not self.effect:
            return 0.0
        return min(self.effect / self.effect_floor, MOST_FLOORS) if self.effect_floor else MOST_FLOORS


@dataclass(frozen=True)
class WatchedFeature:
    """One row of the page.

    Attributes:
        feature: its name, or (prediction), (label), (rows).
        is_declared: whether it has a page of its own.
        finding: the worst of all its windows, baselines, segments and sources.
        trend: of each of the last 30 days, the oldest first, the largest effect that was judged at its last instant, in
            multiples of its warning floor; None where nothing was.
    """

    feature: str
    is_declared: bool
    finding: Finding
    trend: tuple[float | None, ...]


@dataclass(frozen=True)
class FeaturesPage:
    """What is watched of a model.

    Attributes:
        models: every model there is.
        as_of: of these reports; None before the first.
        newest_as_of: of the newest ones.
        others: the scores, the labels and the number of rows, which are watched like features.
    """

    model: str
    models: tuple[str, ...]
    feature_view: str
    as_of: datetime | None
    newest_as_of: datetime | None
    features: tuple[WatchedFeature, ...]
    others: tuple[WatchedFeature, ...]


def chosen_model(contract: Contract, name: str | None) -> Model:
    """The model of that name; without a name the first that dbt declares.

    Raises:
        SkewlessError: when there is none.
    """
    if not contract.models:
        raise SkewlessError("dbt declares no model: an exposure of type ml with a config.meta (models/exposures.yml).")
    return contract.model(next(iter(contract.models)) if name is None else name)


def features_page(
    connection: warehouse.Connection, contract: Contract, name: str | None, as_of: datetime | None = None
) -> FeaturesPage:
    """The features of a model by how bad their reports are.

    Args:
        name: of the model; the first when it is not said.
        as_of: whose reports; the newest when it is not said.
    """
    model = chosen_model(contract, name)
    newest = _newest(connection, model)
    shown = as_of or newest
    findings = _findings(connection, model, shown) if shown else {}
    trends = _trends(connection, model, shown) if shown else {}
    rows = [_row(model, feature, findings, trends) for feature in _names(model, findings)]
    rows.sort(key=_urgency)
    extra = {PREDICTION, LABEL, ROWS}
    return FeaturesPage(
        model=model.name,
        models=tuple(contract.models),
        feature_view=model.feature_view.name,
        as_of=shown,
        newest_as_of=newest,
        features=tuple(row for row in rows if row.feature not in extra),
        others=tuple(row for row in rows if row.feature in extra),
    )


def _newest(connection: warehouse.Connection, model: Model) -> datetime | None:
    row = connection.execute(
        "select max(as_of) as newest from monitoring.drift_reports where model_name = %s", [model.name]
    ).fetchone()
    found: datetime | None = row["newest"] if row else None
    return found


def _names(model: Model, findings: Mapping[str, Finding]) -> list[str]:
    """What the contract declares, and what else was reported."""
    declared = [*model.feature_names, PREDICTION, LABEL]
    return [*declared, *(name for name in findings if name not in declared)]


def _findings(connection: warehouse.Connection, model: Model, as_of: datetime) -> dict[str, Finding]:
    """By feature; of several versions of the model the one that was looked at last."""
    rows = connection.execute(
        """
        select distinct on (feature)
            feature, status, detail, decided_by, effect, effect_low, effect_high, effect_floor, critical_floor, n,
            needed_n, missing_rate, baseline_missing_rate, source, segment, window_hours, baseline, model_version
        from monitoring.feature_drift
        where model_name = %s and as_of = %s
        order by feature, reported_at desc
        """,
        [model.name, as_of],
    )
    return {row["feature"]: Finding(**finite({name: row[name] for name in row if name != "feature"})) for row in rows}


def finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row in which no number is NaN or infinite: the monitor writes NULL for those, and none can be drawn."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }


def _trends(connection: warehouse.Connection, model: Model, until: datetime) -> dict[str, list[float | None]]:
    """One question for all features. What could not be judged is left out: a small window strays by chance."""
    rows = connection.execute(
        """
        select
            feature,
            looks.place,
            max(
                case
                    when effect_floor > 0 then greatest(least(effect / effect_floor, %(most)s), 0)
                    when effect > 0 then %(most)s
                    else 0
                end
            ) as floors
        from (
            select place, %(until)s - place * %(day)s as ends_at
            from generate_series(0, %(days)s - 1) as place
        ) as looks
        cross join lateral (
            select max(as_of) as as_of
            from monitoring.drift_reports
            where model_name = %(model)s and as_of <= looks.ends_at and as_of > looks.ends_at - %(day)s
        ) as newest
        inner join monitoring.drift_reports as reports
            on reports.model_name = %(model)s and reports.as_of = newest.as_of
        where status = any(%(judged)s)
        group by 1, 2
        """,
        {
            "model": model.name,
            "until": until,
            "days": TREND_DAYS,
            "day": DAY,
            "most": MOST_FLOORS,
            "judged": [str(status) for status in (DriftStatus.OK, DriftStatus.WARNING, DriftStatus.CRITICAL)],
        },
    )
    trends: dict[str, list[float | None]] = defaultdict(lambda: [None] * TREND_DAYS)
    for row in rows:
        trends[row["feature"]][TREND_DAYS - 1 - row["place"]] = row["floors"]
    return trends


def _row(
    model: Model, name: str, findings: Mapping[str, Finding], trends: Mapping[str, Sequence[float | None]]
) -> WatchedFeature:
    return WatchedFeature(
        feature=name,
        is_declared=name in {*model.feature_names, PREDICTION, LABEL},
        finding=findings.get(name) or _nothing_reported(model, name),
        trend=tuple(trends.get(name) or [None] * TREND_DAYS),
    )


def is_watched(model: Model, name: str) -> bool:
    """Whether the contract wants it watched: a feature, (prediction) or (label)."""
    settings = {feature.name: feature.drift for feature in model.feature_view.features}
    settings |= {PREDICTION: model.monitoring.prediction, LABEL: model.monitoring.label}
    return settings[name].watch


def _nothing_reported(model: Model, name: str) -> Finding:
    if not is_watched(model, name):
        return Finding(OFF, "The YAML says `drift: off`, so nobody watches it.")
    return Finding(NOT_REPORTED, f"No report of this instant: see its task in {model.name}_drift.")


def _urgency(row: WatchedFeature) -> tuple[Any, ...]:
    """What is not watched comes last; what should have been reported and was not, before what was found well."""
    status = row.finding.status
    if status == OFF:
        place = float(len(DriftStatus))
    elif status == NOT_REPORTED:
        place = drift_place(DriftStatus.WARNING) + 0.5
    else:
        place = drift_place(status)
    return place, -row.finding.floors, row.feature
