"""Evidence of the tests of monitoring (Breck et al. 2017, section V); None where nothing was seen."""

from dataclasses import replace
from datetime import timedelta

from features.retraining.decision import Cadence, RetrainingTrigger
from features.retraining.policy import age_limit
from features.scorecard import dbt_results
from features.scorecard.subject import Observation, Row, Subject, listed, observed
from features.steps.tell import channels

# So much slower than before is a regression; a difference of less is nobody's concern.
MUCH_SLOWER = 1.5
SECONDS_THAT_MATTER = 1.0
MILLISECONDS_THAT_MATTER = 5.0
FEWEST_RUNS = 3

# The test that a source still delivers, on the staging model that the view reads.
FRESHNESS = "fresh_at_as_of"


def dependencies(subject: Subject) -> Observation | None:
    """monitoring_1: whether somebody would be told, and whether there would be something to tell.

    Without a channel nobody is; that is no failed test, but one that is not made.
    """
    model = subject.model
    told = channels(model)
    source = dbt_results.newest(subject, model.feature_view.events[1], "test")
    shifts = subject.rows(
        """
        select feature, injection, is_blind, as_of from monitoring.drift_self_tests
        where model_name = %(model)s and injection <> 'none' and as_of = (
            select max(as_of) from monitoring.drift_self_tests where model_name = %(model)s and as_of <= %(as_of)s
        )
        """
    )
    freshness = [node for node in source.nodes if FRESHNESS in node["name"]] if source else []
    if not told or not shifts or source is None or not freshness:
        return None
    blind = [f"{row['feature']} ({row['injection']})" for row in shifts if row["is_blind"]]
    found = f"blind to shifts of {listed(blind)}" if blind else f"all {len(shifts)} shifts put in were found"
    text = (
        f"Incidents are told by {listed(sorted(told))}. Of the source: {freshness[0]['name']} {freshness[0]['status']} "
        f"at {source.as_of:%Y-%m-%d %H:%M}Z. Self-test of {shifts[0]['as_of']:%Y-%m-%d %H:%M}Z: {found}."
    )
    return observed("monitoring_1", not blind, text, min(source.as_of, shifts[0]["as_of"]))


# Of the newest hour that was watched: what is no distribution that moved, but an input that is not what it must be.
BROKEN = """
select feature, min(status) as status, max(as_of) as as_of, bool_or(
    status in ('error', 'missing_feature', 'unexpected_feature')
    or (drift_detected and decided_by in ('missing', 'new', 'not_finite', 'invalid'))
) as is_broken
from monitoring.drift_reports
where model_name = %(model)s and feature not like '(%%' and as_of = (
    select max(as_of) from monitoring.drift_reports where model_name = %(model)s and as_of <= %(as_of)s
)
group by feature
"""


def invariants(subject: Subject) -> Observation | None:
    """monitoring_2: dbt's tests of both ends, and the newest hour's reports."""
    model = subject.model
    relations = [model.training_set[1], *([model.feature_view.serving[1]] if model.feature_view.serving else [])]
    runs = [run for name in relations if (run := dbt_results.newest(subject, name, "test"))]
    reports = subject.rows(BROKEN)
    if len(runs) < len(relations) or not reports:
        return None
    reported = {row["feature"] for row in reports}
    broken = [row["feature"] for row in reports if row["is_broken"]]
    broken += [f"{name} (not reported)" for name in model.feature_names if name not in reported]
    watched = reports[0]["as_of"]
    held = f"{listed(broken)} broken" if broken else f"{len(reports)} features are there, valid and of their kind"
    text = f"dbt tests: {'; '.join(run.sentence for run in runs)}. Served at {watched:%Y-%m-%d %H:%M}Z: {held}."
    passed = not broken and not any(run.not_passed for run in runs)
    return observed("monitoring_2", passed, text, min(watched, *(run.as_of for run in runs)))


AUDITED = """
select audit.source, audit.as_of, max(audit.rows_compared) as rows_compared,
    sum(audit.mismatches)::bigint as mismatches,
    string_agg(audit.feature, ', ' order by audit.feature) filter (where audit.mismatches > 0) as features
from monitoring.parity_audits as audit
inner join (
    select source, max(as_of) as as_of from monitoring.parity_audits
    where
        feature_view = %(view)s and as_of <= %(as_of)s
        and (source = 'publication' or (source = 'inference_log' and model_name = %(model)s))
    group by source
) as newest using (source, as_of)
where audit.feature_view = %(view)s and audit.model_name in ('', %(model)s)
group by audit.source, audit.as_of
order by audit.source desc
"""


def parity(subject: Subject) -> Observation | None:
    """monitoring_3: the newest audit of what was published, and the newest of what requests were served with."""
    audits = [row for row in subject.rows(AUDITED) if row["rows_compared"]]
    if not any(row["source"] == "publication" for row in audits):
        return None
    text = " ".join(_audit(row) for row in audits)
    passed = not any(row["mismatches"] for row in audits)
    return observed("monitoring_3", passed, text, max(row["as_of"] for row in audits))


def _audit(row: Row) -> str:
    what = "Published" if row["source"] == "publication" else "Served"
    differ = f"{row['mismatches']:,} cells differ ({row['features']})" if row["mismatches"] else "no cell differs"
    return f"{what} at {row['as_of']:%Y-%m-%d %H:%M}Z: of {row['rows_compared']:,} recomputed rows {differ}."


def age(subject: Subject) -> Observation | None:
    """monitoring_4: the champion's age beside what the policy allows; it expires when the champion becomes too old."""
    champion = subject.champion
    if champion is None:
        return None
    row = subject.row(
        "select max_age_days, as_of, measured_days from monitoring.decay_backtests"
        " where model_name = %(model)s and as_of <= %(as_of)s order by as_of desc limit 1"
    )
    limit, source = age_limit(subject.model.retraining, Cadence(**row) if row else None)
    days = (subject.as_of - champion.trained_as_of) / timedelta(days=1)
    text = f"v{champion.version} is {days:.1f} days old; it may become {limit}{source}."
    seen = observed("monitoring_4", days < limit, text, subject.as_of)
    # A failure refutes however old it is; only a pass has to end with the champion's time.
    too_old = champion.trained_as_of + timedelta(days=limit)
    return replace(seen, expires_at=min(seen.expires_at, too_old)) if seen.passed else seen


# An hour may have been counted on several grids, so hours are counted, not values.
COUNTED = """
select
    count(distinct sketch.as_of) filter (where grid.feature = '(prediction)') as hours,
    max(sketch.as_of) filter (where grid.feature = '(prediction)') as newest,
    array_agg(distinct grid.feature order by grid.feature) filter (where sketch.not_finite > 0) as features
from monitoring.sketch_grids as grid
inner join monitoring.sketches as sketch using (grid_id)
where
    grid.model_name = %(model)s and sketch.segment = 'all'
    and sketch.as_of > %(as_of)s::timestamptz - interval '7 days' and sketch.as_of <= %(as_of)s
"""


def stability(subject: Subject) -> Observation | None:
    """monitoring_5: values that are no number, among a week's inputs and scores, and at the edges in the gate."""
    champion, row = subject.champion, subject.row(COUNTED)
    stable = champion.checked("stable") if champion else []
    if champion is None or not stable or not row["hours"]:
        return None
    sick = row["features"] or []
    found = f"values of {listed(sick)} are not finite" if sick else "every feature and score is finite"
    hours = "1 hour" if row["hours"] == 1 else f"{row['hours']:,} hours"
    text = f"In {hours} of a week {found}. The gate on v{champion.version}: {stable[0]['evidence']}"
    return observed("monitoring_5", not sick and all(each["passed"] for each in stable), text, row["newest"])


BUILDS = """
select as_of as at, seconds as took from monitoring.dbt_results
where
    dbt_model = %(view)s and resource_type = 'model' and status = 'success'
    and as_of > %(as_of)s::timestamptz - interval '35 days' and as_of <= %(as_of)s
"""
PREDICTIONS = """
select hour as at, (latency_quantiles_ms ->> '0.95')::double precision as took from monitoring.inference_hours
where
    model_name = %(model)s and kind = %(kind)s and latency_quantiles_ms ->> '0.95' is not null
    and hour > %(as_of)s::timestamptz - interval '35 days' and hour <= %(as_of)s
"""
# Medians, which one busy hour does not move.
COMPARED = """
select
    percentile_cont(0.5) within group (order by took) filter (where is_new) as now,
    percentile_cont(0.5) within group (order by took) filter (where not is_new) as before,
    count(*) filter (where is_new) as runs_now,
    count(*) filter (where not is_new) as runs_before,
    max(at) as newest
from (
    select at, took, at > %(as_of)s::timestamptz - interval '7 days' as is_new from ({measured}) as measured
) as told
"""


def speed(subject: Subject) -> Observation | None:
    """monitoring_6: how long building and predicting take, this week beside the four weeks before.

    Online and batch predictions are different things, and are compared apart. Nothing is seen before both spans have
    a few builds.
    """
    builds = subject.row(COMPARED.replace("{measured}", BUILDS))
    if not _is_comparable(builds):
        return None
    found = [(f"Builds of {subject.model.feature_view.name}", "s", builds, SECONDS_THAT_MATTER)]
    for kind in ("online", "batch"):
        row = subject.row(COMPARED.replace("{measured}", PREDICTIONS), kind=kind)
        if _is_comparable(row):
            found.append((f"{kind.capitalize()} predictions (95%)", "ms", row, MILLISECONDS_THAT_MATTER))
    slower = [name for name, _, row, matters in found if _is_slower(row, matters)]
    text = " ".join(
        f"{name}: {row['now']:.2f} {unit} in {row['runs_now']:,} runs of this week, {row['before']:.2f} {unit} in "
        f"{row['runs_before']:,} before."
        for name, unit, row, _ in found
    )
    return observed("monitoring_6", not slower, text, builds["newest"])


def _is_comparable(row: Row) -> bool:
    return bool(min(row["runs_now"], row["runs_before"]) >= FEWEST_RUNS)


def _is_slower(row: Row, matters: float) -> bool:
    return bool(row["now"] > MUCH_SLOWER * row["before"] and row["now"] - row["before"] > matters)


def quality(subject: Subject) -> Observation | None:
    """monitoring_7: what the policy's newest decision found of the champion's performance.

    What could not be judged is no evidence.
    """
    champion = subject.champion
    row = subject.row(
        """
        select decision.as_of, decision.champion_version, found.finding
        from monitoring.retraining_decisions as decision
        cross join lateral (
            select finding from jsonb_array_elements(decision.triggers) as listed (finding)
            where finding ->> 'trigger' = %(trigger)s
        ) as found
        where decision.model_name = %(model)s and decision.as_of <= %(as_of)s
        order by decision.as_of desc
        limit 1
        """,
        trigger=str(RetrainingTrigger.PERFORMANCE),
    )
    if champion is None or not row or row["champion_version"] != champion.version or row["finding"]["fired"] is None:
        return None
    text = f"The policy on v{champion.version} at {row['as_of']:%Y-%m-%d %H:%M}Z. {row['finding']['evidence']}"
    return observed("monitoring_7", not row["finding"]["fired"], text, row["as_of"])
