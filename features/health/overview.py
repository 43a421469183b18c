"""The overview: is what is served fresh and right, are the models young and good, and what is broken?"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from features import warehouse
from features.contract import Contract, FeatureView, Model
from features.drift.decision import DriftStatus
from features.retraining.decision import Cadence
from features.retraining.policy import age_limit

# Reports that are not about a feature's values.
ROWS = "(rows)"
# The worst first: what could not be looked at is worse than what was found.
DRIFT_WORST_FIRST = (
    DriftStatus.ERROR,
    DriftStatus.MISSING_FEATURE,
    DriftStatus.UNEXPECTED_FEATURE,
    DriftStatus.CRITICAL,
    DriftStatus.WARNING,
    DriftStatus.BASELINE_MISSING,
    DriftStatus.INSUFFICIENT_DATA,
    DriftStatus.OK,
)


@dataclass(frozen=True)
class ViewHealth:
    """A feature view and what is live of it.

    Attributes:
        freshness: fresh, stale or unpublished, by the clock.
        tests_failed, tests_run: dbt's tests of it at the newest as_of, each as it ended last; skipped ones are not run.
        cells_differing, cells_compared: by the parity gate, of what is live.
        worst_drift, worst_feature: at the newest drift reports of `worst_model`.
    """

    feature_view: str
    entity: str
    owner: str
    features: int
    freshness: str
    as_of: datetime | None
    published_at: datetime | None
    expires_at: datetime | None
    rows: int | None
    tests_failed: int | None
    tests_run: int | None
    cells_differing: int | None
    cells_compared: int | None
    worst_drift: str | None
    worst_feature: str | None
    worst_model: str | None


@dataclass(frozen=True)
class ModelHealth:
    """A model and how it is doing.

    Attributes:
        trained_as_of: the instant whose knowledge the champion was trained on.
        age_days, max_age_days: of the champion by the clock, and what the policy allows.
        age: young, due or none.
        metric: by which it is judged; `now` on labels since its training with its interval, `holdout` then.
    """

    model: str
    owner: str
    champion: str | None
    trained_as_of: datetime | None
    age: str
    age_days: float | None
    max_age_days: int
    decided_as_of: datetime | None
    outcome: str | None
    trigger: str | None
    metric: str
    holdout: float | None
    now: float | None
    now_low: float | None
    now_high: float | None
    labels: int | None
    incidents: int


@dataclass(frozen=True)
class OpenIncident:
    """Something that is wrong now."""

    incident_id: int
    model: str
    severity: str
    cause: str
    upstream: str
    features: tuple[str, ...]
    owner: str
    opened_at: datetime
    last_alarm_at: datetime
    blocks_retraining: bool
    summary: str


@dataclass(frozen=True)
class Overview:
    """Everything there is, the worst first.

    Attributes:
        newest_as_of: of all that is live; None before anything is.
    """

    feature_views: tuple[ViewHealth, ...]
    models: tuple[ModelHealth, ...]
    incidents: tuple[OpenIncident, ...]
    newest_as_of: datetime | None


def overview(connection: warehouse.Connection, contract: Contract, at: datetime) -> Overview:
    """The state of everything that dbt declares.

    Args:
        at: the clock by which things are fresh and models are old.
    """
    drift = _worst_drift(connection, contract)
    views = [_view(connection, contract, view, drift, at) for view in contract.feature_views.values()]
    incidents = open_incidents(connection)
    models = [_model(connection, model, incidents, at) for model in contract.models.values()]
    return Overview(
        feature_views=tuple(sorted(views, key=_view_urgency)),
        models=tuple(sorted(models, key=_model_urgency)),
        incidents=incidents,
        newest_as_of=max((view.as_of for view in views if view.as_of), default=None),
    )


def drift_place(status: str | None) -> int:
    """Where a status stands among them, the worst being 0."""
    return DRIFT_WORST_FIRST.index(DriftStatus(status)) if status else len(DRIFT_WORST_FIRST)


def _view_urgency(view: ViewHealth) -> tuple[Any, ...]:
    is_fine = (
        view.freshness == "fresh",
        not view.cells_differing,
        not view.tests_failed,
        drift_place(view.worst_drift),
    )
    return (*is_fine, view.feature_view)


def _model_urgency(model: ModelHealth) -> tuple[Any, ...]:
    return (model.champion is not None, -model.incidents, model.age != "due", model.outcome != "blocked", model.model)


def _view(
    connection: warehouse.Connection,
    contract: Contract,
    view: FeatureView,
    drift: dict[str, tuple[str, str]],
    at: datetime,
) -> ViewHealth:
    live = (
        connection.execute(
            """
            select publication_id, as_of, published_at, row_count, as_of + %(expires_after)s::interval as expires_at
            from serving.publications
            where feature_view = %(view)s and retired_at is null
            """,
            {"view": view.name, "expires_after": view.expires_after},
        ).fetchone()
        or {}
    )
    models = [model.name for model in contract.models.values() if model.feature_view.name == view.name]
    worst = min(((*drift[name], name) for name in models if name in drift), key=_by_status, default=(None, None, None))
    return ViewHealth(
        feature_view=view.name,
        entity=", ".join(view.entity),
        owner=view.owner,
        features=len(view.features),
        freshness=_freshness(live.get("expires_at"), at),
        as_of=live.get("as_of"),
        published_at=live.get("published_at"),
        expires_at=live.get("expires_at"),
        rows=live.get("row_count"),
        **_tests(connection, view),
        **_parity(connection, live.get("publication_id")),
        worst_drift=worst[0],
        worst_feature=worst[1],
        worst_model=worst[2],
    )


def _by_status(worst: tuple[str, str, str]) -> int:
    return drift_place(worst[0])


def _freshness(expires_at: datetime | None, at: datetime) -> str:
    if expires_at is None:
        return "unpublished"
    return "fresh" if at < expires_at else "stale"


def _parity(connection: warehouse.Connection, publication_id: int | None) -> dict[str, int | None]:
    row = connection.execute(
        """
        select sum(mismatches)::bigint as cells_differing, sum(rows_compared)::bigint as cells_compared
        from monitoring.parity_audits
        where publication_id = %s and source = 'publication'
        """,
        [publication_id],
    ).fetchone()
    return dict(row or {})


def _tests(connection: warehouse.Connection, view: FeatureView) -> dict[str, int | None]:
    """How the tests of the newest as_of ended, each when it ran last."""
    row = connection.execute(
        """
        with newest as (
            select max(as_of) as as_of from monitoring.dbt_results
            where dbt_model = %(view)s and resource_type = 'test'
        ),

        ended as (
            select distinct on (result.unique_id) result.status
            from monitoring.dbt_results as result
            inner join newest using (as_of)
            where result.dbt_model = %(view)s and result.resource_type in ('test', 'unit_test')
            order by result.unique_id, result.ran_at desc
        )

        select count(*) filter (where status in ('fail', 'error')) as tests_failed, nullif(count(*), 0) as tests_run
        from ended
        where status <> 'skipped'
        """,
        {"view": view.name},
    ).fetchone()
    assert row is not None
    return {**row, "tests_failed": row["tests_failed"] if row["tests_run"] else None}


def _worst_drift(connection: warehouse.Connection, contract: Contract) -> dict[str, tuple[str, str]]:
    """Of each model the status and name of the feature that is worst in its newest reports."""
    found = {}
    for name in contract.models:
        rows = connection.execute(
            """
            select feature, status
            from monitoring.drift_reports
            where model_name = %(model)s and feature <> %(rows)s
                and as_of = (select max(as_of) from monitoring.drift_reports where model_name = %(model)s)
            """,
            {"model": name, "rows": ROWS},
        ).fetchall()
        if rows:
            worst = min(rows, key=lambda row: drift_place(row["status"]))
            found[name] = (worst["status"], worst["feature"])
    return found


def open_incidents(connection: warehouse.Connection) -> tuple[OpenIncident, ...]:
    """What is broken now: critical ones first, then those that block retraining, then by age."""
    rows = connection.execute(
        """
        select
            incident_id, model_name as model, severity, cause, upstream, features, owner, opened_at, last_alarm_at,
            is_data_incident and verdict is null as blocks_retraining, summary
        from monitoring.drift_incidents
        where closed_at is null
        order by severity <> 'critical', not is_data_incident, opened_at
        limit 200
        """
    )
    return tuple(OpenIncident(**{**row, "features": tuple(row["features"])}) for row in rows)


def _model(
    connection: warehouse.Connection, model: Model, incidents: Sequence[OpenIncident], at: datetime
) -> ModelHealth:
    champion = _champion(connection, model)
    trained = champion.get("as_of")
    limit, _ = age_limit(model.retraining, cadence(connection, model))
    decision = _decision(connection, model)
    metric = model.promotion.metric
    return ModelHealth(
        model=model.name,
        owner=model.owner,
        champion=champion.get("model_version"),
        trained_as_of=trained,
        age=_age(trained, limit, at),
        age_days=(at - trained) / timedelta(days=1) if trained else None,
        max_age_days=limit,
        decided_as_of=decision.get("as_of"),
        outcome=decision.get("outcome"),
        trigger=decision.get("trigger"),
        metric=metric,
        holdout=(champion.get("metrics") or {}).get(metric),
        **_performance(connection, model, champion.get("model_version")),
        incidents=sum(incident.model == model.name for incident in incidents),
    )


def _age(trained: datetime | None, limit: int, at: datetime) -> str:
    if trained is None:
        return "none"
    return "due" if (at - trained).days >= limit else "young"


def _champion(connection: warehouse.Connection, model: Model) -> dict[str, Any]:
    row = connection.execute(
        """
        select champion.model_version, evaluation.as_of, evaluation.metrics
        from monitoring.champions as champion
        left join monitoring.model_evaluations as evaluation using (model_name, model_version)
        where champion.model_name = %s
        order by champion.champion_id desc
        limit 1
        """,
        [model.name],
    ).fetchone()
    return row or {}


def cadence(connection: warehouse.Connection, model: Model) -> Cadence | None:
    """What the newest decay backtest says, if there is one."""
    row = connection.execute(
        "select max_age_days, as_of, measured_days from monitoring.decay_backtests"
        " where model_name = %s order by as_of desc limit 1",
        [model.name],
    ).fetchone()
    return Cadence(**row) if row else None


def _decision(connection: warehouse.Connection, model: Model) -> dict[str, Any]:
    row = connection.execute(
        "select as_of, outcome, trigger from monitoring.retraining_decisions"
        " where model_name = %s order by as_of desc limit 1",
        [model.name],
    ).fetchone()
    return row or {}


def _performance(connection: warehouse.Connection, model: Model, version: str | None) -> dict[str, Any]:
    metric = model.promotion.metric  # one of three names, by the contract
    row = connection.execute(
        f"""
        select {metric} as now, {metric}_low as now_low, {metric}_high as now_high, labels
        from monitoring.model_performance
        where model_name = %s and model_version = %s and scope = 'since_training'
        order by cohort desc
        limit 1
        """,
        [model.name, version],
    ).fetchone()
    return row or {"now": None, "now_low": None, "now_high": None, "labels": None}
