"""What came out of the pipeline, read from the warehouse as any user would."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from features.contract import Model
from features.drift.decision import SEVERITIES
from features.retraining.backtest import Backtest
from features.scorecard.score import Score
from features.steps.replay import Verdict
from features.warehouse import Connection

LAYERS = """
select 'raw.session_events' as relation, count(*) as rows from raw.session_events
union all select 'staging.stg_session_events', count(*) from staging.stg_session_events
union all select 'staging.rejected_session_events', count(*) from staging.rejected_session_events
union all select 'features.user_session_features', count(*) from features.user_session_features
union all select 'features.churn_labels', count(*) from features.churn_labels
union all select 'training.churn_training_set', count(*) from training.churn_training_set
union all select 'serving.user_features', count(*) from serving.user_features
union all select 'serving.churn_predictions', count(*) from serving.churn_predictions
union all select 'monitoring.drift_reports', count(*) from monitoring.drift_reports
union all select 'monitoring.retraining_decisions', count(*) from monitoring.retraining_decisions
"""

# The same aircraft at the same instants: as it was served, and as it trains the model once its label has matured.
ONE_ENTITY = """
with published as (
    select as_of, feature_version from serving.publications where feature_view = 'user_session_features'
),

used as (
    select 'served' as used_for, features.*
    from features.user_session_features as features
    inner join published using (as_of, feature_version)
    union all
    select 'trained on', features.*
    from training.churn_training_set as training
    inner join features.user_session_features as features using (user_id, as_of, feature_version)
    inner join published using (as_of, feature_version)
)

select as_of, used_for, session_count as sessions, avg_session_duration_minutes as avg_minutes,
    days_since_last_session as days_since_last, sessions_last_7_days as last_7_days,
    sessions_last_30_days as last_30_days
from used
where user_id = 'N14228'
order by as_of, used_for
"""

PUBLICATIONS = """
select
    feature_view,
    as_of,
    feature_version,
    row_count,
    (
        select sum(mismatches) from monitoring.parity_audits as audit
        where audit.publication_id = ledger.publication_id and audit.source = 'publication'
    ) as differing_cells,
    retired_at is null as is_live
from serving.publications as ledger
order by as_of, feature_view
"""

DRIFT = """
select as_of, feature, model_version as version, status, n, training_mean, serving_mean, detail
from monitoring.feature_drift
where model_name = %(model)s and feature <> '(rows)' and status <> 'baseline_missing'
order by as_of, status not in ('critical', 'warning'), feature
"""

INCIDENTS = """
select incident_id as id, opened_at, closed_at, severity, cause, coalesce(verdict, '-') as verdict, summary
from monitoring.drift_incidents
where model_name = %(model)s and (%(everything)s or closed_at is null)
order by incident_id
"""

DECISIONS = """
select as_of, outcome, coalesce(trigger, '-') as trigger,
    priority, reason
from monitoring.retraining_decisions
where model_name = %(model)s
order by as_of
"""

AGEING = """
select as_of, max_age_days, max_age_low_days || ' to ' || max_age_high_days as interval, trainings, reason
from monitoring.decay_backtests
where model_name = %(model)s
order by as_of
"""

PERFORMANCE = """
select model_version as version, cohort, predictions, estimated_roc_auc as roc_auc_expected_before_labels, labels,
    roc_auc, roc_auc_low as low, roc_auc_high as high, lift
from monitoring.model_performance
where model_name = %(model)s and scope <> 'since_training'
order by cohort, scope
"""

VERSIONS = """
select model_version as version, as_of as trained_as_of, train_rows, holdout_rows,
    (metrics ->> 'roc_auc')::double precision as holdout_roc_auc, promoted, reason
from monitoring.model_evaluations
where model_name = %(model)s
order by as_of
"""


def incidents(connection: Connection, model: Model, everything: bool) -> Table:
    """The model's incidents, open ones or all."""
    rows = connection.execute(INCIDENTS, {"model": model.name, "everything": everything}).fetchall()
    return _table(f"Incidents of {model.name}", rows)


def replayed(verdicts: Sequence[Verdict]) -> list[Table]:
    """How many alarms each feature had and would have, and which comparisons would end differently."""
    alarms: dict[str, Counter[str]] = defaultdict(Counter)
    for verdict in verdicts:
        alarms[verdict.subject.feature].update(
            comparisons=1,
            alarms_written=int(verdict.was in SEVERITIES),
            alarms_by_these_rules=int(verdict.now in SEVERITIES),
        )
    changed = [
        {
            "as_of": verdict.subject.as_of,
            "feature": verdict.subject.feature,
            "hours": verdict.subject.window_hours,
            "against": verdict.subject.baseline,
            "was": str(verdict.was or "-"),
            "would be": str(verdict.now),
            "because": verdict.detail,
        }
        for verdict in verdicts
        if verdict.changed
    ]
    totals = [{"feature": feature} | dict(counts) for feature, counts in alarms.items()]
    shown = f"{min(len(changed), MOST_SHOWN)} of {len(changed)}" if len(changed) > MOST_SHOWN else str(len(changed))
    return [
        _table("Alarms by feature", totals),
        _table(f"What would end differently ({shown} comparisons)", changed[:MOST_SHOWN]),
    ]


MOST_SHOWN = 50


def policies(replayed: Backtest) -> Table:
    """What each policy would have done, and cost."""
    in_money = replayed.costs is not None
    rows = [
        {
            "policy": one.policy,
            "retrainings": len(one.retrainings),
            "log loss": one.log_loss,
            "beyond fresh models": one.excess,
            **({"cost": one.cost} if in_money else {}),
            "regret": one.regret,
            "because of": ", ".join(f"{n} {why}" for why, n in Counter(r.trigger for r in one.retrainings).items()),
        }
        for one in replayed.policies
    ]
    return _table(f"From {replayed.started_at:%Y-%m-%d} to {replayed.ended_at:%Y-%m-%d}", rows)


def decay(connection: Connection, model: Model, as_of: datetime) -> Table:
    """The curve that a decay backtest measured."""
    rows = connection.execute(
        "select age_days, excess_loss, excess_low, excess_high, spread_low, spread_high, pairs, label_rows"
        " from monitoring.decay_curves where model_name = %s and as_of = %s order by age_days",
        [model.name, as_of],
    ).fetchall()
    return _table(f"Log loss of {model.name} beside a fresh model, by age", rows)


def scorecard(found: Score) -> list[Table]:
    """The tests of each section, with what decides them, or what would."""
    return [
        _table(
            f"{section.capitalize()}: {points:g} of 7",
            [
                {
                    "test": result.test.test,
                    "what it asks": result.test.title,
                    "points": result.points,
                    "state": str(result.state),
                    "how": str(result.evidence.how) if result.evidence else None,
                    "seen at": result.evidence.seen_at if result.evidence else None,
                    "until": result.evidence.expires_at if result.evidence else None,
                    "evidence, or what would be": (
                        result.evidence.text if result.evidence else result.test.what_counts
                    ),
                }
                for result in found.results
                if result.test.section is section
            ],
        )
        for section, points in found.sections.items()
    ]


def show(connection: Connection, model: str, console: Console) -> None:
    """Prints the tables, each under the question it answers."""
    questions = {
        "How many rows are in each layer?": LAYERS,
        "What did aircraft N14228 look like, when it was served and when it was trained on?": ONE_ENTITY,
        "Which snapshots were published?": PUBLICATIONS,
        "Does what is served still look like what the champion was trained on?": DRIFT,
        "What is wrong with the pipeline, and since when?": INCIDENTS,
        "How good were its predictions, as expected and as it turned out?": PERFORMANCE,
        "How old may the model become?": AGEING,
        "Was the model retrained, and why (not)?": DECISIONS,
        "Which versions are there, and how good are they at times they never saw?": VERSIONS,
    }
    for question, query in questions.items():
        rows = connection.execute(query, {"model": model, "everything": True}).fetchall()
        console.print(_table(question, rows))


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for name in rows[0] if rows else ["nothing yet"]:
        numeric = bool(rows) and isinstance(rows[0][name], int | float) and not isinstance(rows[0][name], bool)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    return table


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
    if hasattr(value, "strftime"):
        return f"{value:%Y-%m-%d %H:%M}"
    return escape(str(value))
