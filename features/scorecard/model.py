"""Evidence of the tests of model development (Breck et al. 2017, section III); None where nothing was seen."""

from typing import Any

from features.provenance import UNKNOWN
from features.scorecard.subject import Observation, Subject, listed, observed

FEWEST_COHORTS = 5
# Intervals of 95% miss each other by chance now and then.
FEWEST_ALIKE = 0.8


def review(subject: Subject) -> Observation | None:
    """model_1: from which commit the champion was trained, and who reviewed it.

    A clean commit without a reviewer in its message is no evidence either way: it may have been reviewed elsewhere.
    """
    champion = subject.champion
    code: dict[str, Any] = (champion.evaluation.get("code") or {}) if champion else {}
    if champion is None or not code:
        return None
    commit, reviewers = str(code["commit"]), code.get("reviewed_by") or []
    if commit == UNKNOWN or " " in commit:
        text = f"v{champion.version} was trained from code that is not checked in: {commit}."
        return observed("model_1", False, text, champion.trained_as_of)
    if not reviewers:
        return None
    text = f"v{champion.version} was trained from commit {commit[:12]} as it is, reviewed by {listed(reviewers)}."
    return observed("model_1", True, text, champion.trained_as_of)


COHORTS = """
select
    performance.cohort, performance.matured_at, performance.{metric}_low as low, performance.{metric}_high as high,
    (holdout.found ->> 'low')::double precision as holdout_low,
    (holdout.found ->> 'high')::double precision as holdout_high
from monitoring.model_performance as performance
inner join monitoring.model_evaluations as evaluation using (model_name, model_version)
cross join lateral (select evaluation.evaluation -> 'metrics' -> %(metric)s as found) as holdout
where
    performance.model_name = %(model)s and performance.scope in ('batch', 'online')
    and performance.labels >= %(fewest)s and performance.matured_at <= %(as_of)s
    and performance.{metric}_low is not null and performance.{metric}_high is not null
    and holdout.found ->> 'low' is not null and holdout.found ->> 'high' is not null
order by performance.cohort desc
limit 50
"""


def correlation(subject: Subject) -> Observation | None:
    """model_2: what the holdout promised, beside what became true of predictions that were served."""
    metric = subject.model.promotion.metric  # one of three names, by the contract
    rows = subject.rows(
        COHORTS.replace("{metric}", metric), metric=metric, fewest=subject.model.retraining.min_recent_labels
    )
    if len(rows) < FEWEST_COHORTS:
        return None
    alike = sum(row["low"] <= row["holdout_high"] and row["high"] >= row["holdout_low"] for row in rows)
    text = (
        f"Of {len(rows)} cohorts of served predictions whose labels have matured, {alike} have a {metric} whose "
        f"interval meets that of the version's holdout; {FEWEST_ALIKE:.0%} have to."
    )
    newest = max(row["matured_at"] for row in rows)
    return observed("model_2", alike >= FEWEST_ALIKE * len(rows), text, newest)


def tuning(subject: Subject) -> Observation | None:
    """model_3: the search before the champion was fitted."""
    champion = subject.champion
    found = champion.evaluation.get("search") if champion else None
    if champion is None or not found:
        return None
    text = (
        f"The hyper-parameters of v{champion.version} are the best of {found['candidates']} candidates by log loss "
        f"before the holdout, {found['best_log_loss']:.5f}; what is declared gave {found['declared_log_loss']:.5f}."
    )
    return observed("model_3", found["candidates"] > 1, text, champion.trained_as_of)


def staleness(subject: Subject) -> Observation | None:
    """model_4: the newest decay backtest."""
    row = subject.row(
        "select as_of, max_age_days, measured_days, trainings, slope_per_day, slope_low, slope_high"
        " from monitoring.decay_backtests where model_name = %(model)s and as_of <= %(as_of)s"
        " order by as_of desc limit 1"
    )
    if not row:
        return None
    text = (
        f"By {row['trainings']} trainings, log loss rises by {row['slope_per_day']:.6f} a day ({row['slope_low']:.6f} "
        f"to {row['slope_high']:.6f}), measured up to {row['measured_days']} days; {subject.model.name} may become "
        f"{row['max_age_days']} days old."
    )
    return observed("model_4", True, text, row["as_of"])


def simpler_models(subject: Subject) -> Observation | None:
    """model_5: the gate's comparison with simple models on the same holdout."""
    return _checks(subject, "model_5", "simpler_model")


def slices(subject: Subject) -> Observation | None:
    """model_6: the gate's checks of the declared segments, each of which must have been large enough to judge.

    A segment that nobody declared is not important; without any, nothing is said.
    """
    champion, declared = subject.champion, subject.model.monitoring.segments
    if champion is None or not declared or not champion.checked("slice"):
        return None
    judged = {each["name"] for each in champion.evaluation.get("slices", []) if each["metric"]["estimate"] is not None}
    if unjudged := [name for name in declared if name not in judged]:
        text = f"The holdout of v{champion.version} has too few rows of {listed(unjudged)} to judge it there."
        return observed("model_6", False, text, champion.trained_as_of)
    return _checks(subject, "model_6", "slice")


def _checks(subject: Subject, test: str, check: str) -> Observation | None:
    champion = subject.champion
    checks = champion.checked(check) if champion else []
    if champion is None or not checks:
        return None
    text = f"The gate on v{champion.version}: {' '.join(each['evidence'] for each in checks)}"
    return observed(test, all(each["passed"] for each in checks), text, champion.trained_as_of)
