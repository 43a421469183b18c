"""The overview: is what is served fresh and right, are the models young and good, and what is broken?"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from features import warehouse
from features.contract import Contract, Model
from features.drift.decision import DriftStatus
from features.health.decay import champion_age
from features.health.publications import freshness
from features.retraining.decision import Cadence

# Reports that are not about a feature's values.
ROWS = "(rows)"
# The worst first, among features: what could not be judged is worse than what is well. Among the reports of one feature
# it is not (features.steps.watch): a window that was judged speaks for one that is too small.
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
    """The state of everything that dbt declares; as many queries however much that is.

    Args:
        at: the clock by which things are fresh and models are old.
    """
    incidents = open_incidents(connection)
    views = _views(connection, contract, at)
    return Overview(
        feature_views=tuple(sorted(views, key=_view_urgency)),
        models=tuple(sorted(_models(connection, contract, incidents, at), key=_model_urgency)),
        incidents=incidents,
        newest_as_of=max((view.as_of for view in views if view.as_of), default=None),
    )


def drift_place(status: str | None) -> int:
    """Where a status stands among them, the worst being 0; one that is not known is as bad."""
    if status is None:
        return len(DRIFT_WORST_FIRST)
    return DRIFT_WORST_FIRST.index(status) if status in DRIFT_WORST_FIRST else 0


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


def _views(connection: warehouse.Connection, contract: Contract, at: datetime) -> list[ViewHealth]:
    declared = contract.feature_views.values()
    asked = {"views": [view.name for view in declared], "expire": [view.expires_after for view in declared]}
    live = {row["feature_view"]: row for row in connection.execute(LIVE, asked)}
    tested = {row["feature_view"]: row for row in connection.execute(TESTED, asked)}
    drift = _worst_drift(connection, contract)
    return [
        ViewHealth(
            feature_view=view.name,
            entity=", ".join(view.entity),
            owner=view.owner,
            features=len(view.features),
            freshness=freshness(live.get(view.name, NOTHING)["expires_at"], at),
            **{name: live.get(view.name, NOTHING)[name] for name in OF_LIVE},
            tests_failed=tested.get(view.name, NOTHING)["tests_failed"],
            tests_run=tested.get(view.name, NOTHING)["tests_run"],
            worst_drift=drift.get(view.name, NO_DRIFT)[0],
            worst_feature=drift.get(view.name, NO_DRIFT)[1],
            worst_model=drift.get(view.name, NO_DRIFT)[2],
        )
        for view in declared
    ]


NOTHING: Mapping[str, Any] = defaultdict(lambda: None)
NO_DRIFT = (None, None, None)
OF_LIVE = ("as_of", "published_at", "expires_at", "rows", "cells_differing", "cells_compared")
# What is live of each view, and how the gate compared it. PostgreSQL knows what an interval is.
LIVE = """
    select
        live.feature_view, live.as_of, live.published_at, live.row_count as rows,
        live.as_of + declared.expires_after::interval as expires_at, audit.*
    from unnest(%(views)s::text[], %(expire)s::text[]) as declared (feature_view, expires_after)
    inner join serving.publications as live using (feature_view)
    cross join lateral (
        select sum(mismatches)::bigint as cells_differing, sum(rows_compared)::bigint as cells_compared
        from monitoring.parity_audits
        where publication_id = live.publication_id and source = 'publication'
    ) as audit
    where live.retired_at is null
"""
# How the tests of the newest as_of ended, each when it ran last.
TESTED = """
    select
        declared.feature_view,
        count(*) filter (where ended.status in ('fail', 'error')) as tests_failed,
        count(*) as tests_run
    from unnest(%(views)s::text[]) as declared (feature_view)
    cross join lateral (
        select distinct on (result.unique_id) result.status
        from monitoring.dbt_results as result
        where result.dbt_model = declared.feature_view and result.resource_type in ('test', 'unit_test')
            and result.as_of = (
                select max(as_of) from monitoring.dbt_results
                where dbt_model = declared.feature_view and resource_type = 'test'
            )
        order by result.unique_id, result.ran_at desc
    ) as ended
    where ended.status <> 'skipped'
    group by declared.feature_view
"""


def _worst_drift(connection: warehouse.Connection, contract: Contract) -> dict[str, tuple[str, str, str]]:
    """By feature view the status, the feature and the model of its worst report among the newest of each model."""
    rows = connection.execute(
        """
        select report.model_name, report.feature, report.status
        from unnest(%(models)s::text[]) as declared (model_name)
        cross join lateral (
            select distinct model_name, feature, status
            from monitoring.drift_reports
            where model_name = declared.model_name and feature <> %(rows)s
                and as_of = (select max(as_of) from monitoring.drift_reports where model_name = declared.model_name)
        ) as report
        order by report.model_name, report.feature
        """,
        {"models": list(contract.models), "rows": ROWS},
    )
    found: dict[str, tuple[str, str, str]] = {}
    for row in rows:
        view = contract.models[row["model_name"]].feature_view.name
        if view not in found or drift_place(row["status"]) < drift_place(found[view][0]):
            found[view] = (row["status"], row["feature"], row["model_name"])
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


def _models(
    connection: warehouse.Connection, contract: Contract, incidents: Sequence[OpenIncident], at: datetime
) -> list[ModelHealth]:
    asked = {"models": list(contract.models)}
    states = {row["model_name"]: row for row in connection.execute(STATES, asked)}
    open_of = Counter(incident.model for incident in incidents)
    return [_model(model, states[name], open_of[name], at) for name, model in contract.models.items()]


# Of each model its champion, what was decided last, the newest decay backtest, and the champion's performance since its
# training, by each metric that a model can be judged by.
STATES = """
    select
        declared.model_name, champion.model_version as champion, champion.trained_as_of, champion.metrics,
        decision.as_of as decided_as_of, decision.outcome, decision.trigger,
        backtest.max_age_days, backtest.measured_days, backtest.as_of as backtested_as_of, to_jsonb(performance) as now
    from unnest(%(models)s::text[]) as declared (model_name)
    left join lateral (
        select champion.model_version, evaluation.as_of as trained_as_of, evaluation.metrics
        from monitoring.champions as champion
        left join monitoring.model_evaluations as evaluation using (model_name, model_version)
        where champion.model_name = declared.model_name
        order by champion.champion_id desc
        limit 1
    ) as champion on true
    left join lateral (
        select as_of, outcome, trigger from monitoring.retraining_decisions
        where model_name = declared.model_name
        order by as_of desc
        limit 1
    ) as decision on true
    left join lateral (
        select as_of, max_age_days, measured_days from monitoring.decay_backtests
        where model_name = declared.model_name
        order by as_of desc
        limit 1
    ) as backtest on true
    left join lateral (
        select
            labels, roc_auc, roc_auc_low, roc_auc_high, average_precision, average_precision_low,
            average_precision_high, accuracy, accuracy_low, accuracy_high
        from monitoring.model_performance
        where model_name = declared.model_name and model_version = champion.model_version and scope = 'since_training'
        order by cohort desc
        limit 1
    ) as performance on true
"""


def _model(model: Model, state: Mapping[str, Any], incidents: int, at: datetime) -> ModelHealth:
    trained, metric, now = state["trained_as_of"], model.promotion.metric, state["now"] or {}
    backtested = state["backtested_as_of"]
    cadence = Cadence(state["max_age_days"], backtested, state["measured_days"]) if backtested else None
    age = champion_age(model, state["champion"], trained, cadence, at)
    return ModelHealth(
        model=model.name,
        owner=model.owner,
        champion=state["champion"],
        trained_as_of=trained,
        age=age.state,
        age_days=age.age_days,
        max_age_days=age.limit_days,
        decided_as_of=state["decided_as_of"],
        outcome=state["outcome"],
        trigger=state["trigger"],
        metric=metric,
        holdout=(state["metrics"] or {}).get(metric),
        now=now.get(metric),
        now_low=now.get(f"{metric}_low"),
        now_high=now.get(f"{metric}_high"),
        labels=now.get("labels"),
        incidents=incidents,
    )
