"""Evidence of the tests of features and data (Breck et al. 2017, section II); None where nothing was seen."""

from datetime import timedelta

from features.scorecard import dbt_results
from features.scorecard.subject import Observation, Row, Subject, listed, observed

# Of the time that a snapshot stays fresh. What takes longer leaves too little to notice it and to run again.
MOST_OF_FRESHNESS = 0.25
# Of logged requests, the newest.
MOST_REQUESTS = 10_000
SOON = timedelta(days=1)


def feature_expectations(subject: Subject) -> Observation | None:
    """data_1: every feature's values are held against something, and they hold."""
    view = subject.model.feature_view
    tests = dbt_results.newest(subject, view.name, "test")
    if tests is None:
        return None
    tested = {node["column_name"] for node in tests.nodes}
    bare = [
        feature.name
        for feature in view.features
        if feature.name not in tested and not any(value is not None for value in feature.valid.model_dump().values())
    ]
    what = f"{listed(bare)} have neither a `valid` range nor a test." if bare else (
        f"Each of {len(view.features)} features has a `valid` range or a test."
    )  # fmt: skip
    passed = not bare and not tests.not_passed
    return observed("data_1", passed, f"{what} dbt tests: {tests.sentence}.", tests.as_of)


def benefit(subject: Subject) -> Observation | None:
    """data_2: permutation importance on the champion's holdout."""
    champion = subject.champion
    found = {each["feature"]: each for each in champion.evaluation.get("importance", [])} if champion else {}
    if champion is None or not found:
        return None
    features = subject.model.feature_names
    useless = [name for name in features if name not in found or not _helps(found[name])]
    metric, least = champion.evaluation["metric"], min(found.values(), key=lambda each: each["drop"] or 0)
    what = f"On the holdout of v{champion.version}, permuting {{}} takes {{}} from its {metric}"
    if useless:
        text = what.format(listed(useless), "nothing that is more than chance")
    else:
        text = what.format("each feature", f"{least['drop']:.4f} ({least['feature']}) or more")
    return observed("data_2", not useless, f"{text}.", champion.trained_as_of)


def _helps(importance: Row) -> bool:
    """Whether permuting a feature takes more from the metric than that varies between permutations."""
    return bool((importance["drop"] or 0) > (importance["deviation"] or 0))


def cost(subject: Subject) -> Observation | None:
    """data_3: what the whole view costs; no feature of it can cost more."""
    view = subject.model.feature_view
    row = subject.row(
        """
        select count(*) as builds, max(seconds) as slowest, max(as_of) as newest,
            extract(epoch from %(expires_after)s::interval)::double precision as fresh_for
        from monitoring.dbt_results
        where
            dbt_model = %(view)s and resource_type = 'model' and status = 'success'
            and as_of > %(as_of)s::timestamptz - interval '7 days' and as_of <= %(as_of)s
        """,
        expires_after=view.expires_after,
    )
    if not row["builds"]:
        return None
    limit = MOST_OF_FRESHNESS * row["fresh_for"]
    text = (
        f"The slowest of {row['builds']:,} builds of {view.name} in a week took {row['slowest']:.1f} s, and may take "
        f"{limit:,.0f} s, {MOST_OF_FRESHNESS:.0%} of the time that a snapshot stays fresh; so none of its "
        f"{len(view.features)} features costs more."
    )
    return observed("data_3", row["slowest"] <= limit, f"{text}{_latency(subject)}", row["newest"])


def _latency(subject: Subject) -> str:
    """How long predictions took lately, as a sentence; nobody says how long they may take."""
    row = subject.row(
        "select (latency_quantiles_ms ->> '0.95')::double precision as p95, hour from monitoring.inference_hours"
        " where model_name = %(model)s and hour <= %(as_of)s and latency_quantiles_ms ? '0.95'"
        " order by hour desc limit 1"
    )
    if not row or row["p95"] is None:
        return ""
    return f" 95% of predictions in the hour to {row['hour']:%Y-%m-%d %H:%M}Z took {row['p95']:.1f} ms at most."


def meta_requirements(subject: Subject) -> Observation | None:
    """data_4: what the project demands of every feature. The contract's reader refuses one without type or owner."""
    view = subject.model.feature_view
    build = dbt_results.newest(subject, view.name, "model")
    if build is None:
        return None
    silent = [feature.name for feature in view.features if not feature.description.strip()]
    unwatched = [feature.name for feature in view.features if not feature.drift.watch]
    lacking = [
        *([f"{listed(silent)} without a description"] if silent else []),
        *([f"{listed(unwatched)} not watched"] if unwatched else []),
        *([f"{view.name} was not built ({build.nodes[0]['status']})"] if build.not_passed else []),
    ]
    text = f"{len(view.features)} features of {view.owner}: " + (
        f"{'; '.join(lacking)}."
        if lacking
        else f"each has a description and a type and is watched, and dbt built them at {build.as_of:%Y-%m-%d %H:%M}Z"
        " without a shortcut to the events."
    )
    return observed("data_4", not lacking, text, build.as_of)


LOGGED = """
with newest as (
    select features, as_of from monitoring.inference_log
    where model_name = %(model)s and as_of <= %(as_of)s and as_of > %(as_of)s::timestamptz - interval '7 days'
    order by as_of desc
    limit %(most)s
)

select
    (select count(*) from newest) as requests,
    (select max(as_of) from newest) as newest,
    array(select distinct jsonb_object_keys(features) as name from newest order by name) as names,
    (select min(logged_at) from monitoring.inference_log where model_name = %(model)s) as oldest
"""

# Readable by everybody who may connect, or by whoever may see the pages.
READABLE = """
select relation, reader
from unnest(%(relations)s::text[]) as relations (relation)
cross join unnest(array['public', 'monitor_reader']) as readers (reader)
where to_regclass(relation) is not null and has_any_column_privilege(reader, to_regclass(relation), 'select')
"""


def privacy(subject: Subject) -> Observation | None:
    """data_5: what is logged of persons, for how long, and who may read it."""
    model, view = subject.model, subject.model.feature_view
    log = subject.row(LOGGED, most=MOST_REQUESTS)
    if not log["requests"]:
        return None
    allowed = {feature.name for feature in view.features if not feature.pii}
    keep = model.inference.keep_log_days
    of_persons = ["raw.session_events", "serving.predictions", "monitoring.inference_log"]
    of_persons += [".".join(relation) for relation in (view.relation, model.training_set, view.serving) if relation]
    leaks = [
        *(f"{name} is logged" for name in log["names"] if name not in allowed),
        # The task that deletes runs with the hour, and may miss a day.
        *(["older requests are kept"] if log["oldest"] < subject.as_of - timedelta(days=keep + 1) else []),
        *(
            f"{row['reader']} may read {row['relation']}"
            for row in subject.rows(READABLE, relations=sorted(of_persons))
        ),
    ]
    secret = len(view.features) - len(allowed)
    text = (
        f"{log['requests']:,} logged requests of a week hold {len(log['names'])} of {len(allowed)} features that may "
        f"be logged, and none of {secret} that are `pii`; none is older than {keep} days; {len(of_persons)} tables "
        f"with rows of persons are closed to the public and to readers of the pages."
    )
    return observed("data_5", not leaks, f"Not private: {listed(leaks)}." if leaks else text, log["newest"])


ADDED = """
select feature_version, first_built_at, place, min(ledger.published_at) as published_at, min(ledger.as_of) as as_of
from (
    select *, row_number() over (order by first_built_at) as place
    from features.feature_versions where feature_view = %(view)s
) as definition
inner join serving.publications as ledger using (feature_view, feature_version)
where ledger.as_of <= %(as_of)s
group by feature_version, first_built_at, place
order by first_built_at desc
limit 1
"""


def speed_of_change(subject: Subject) -> Observation | None:
    """data_6: from the first build of a changed definition to its first publication. The first of all was no change."""
    row = subject.row(ADDED)
    if not row or row["place"] == 1:
        return None
    took = row["published_at"] - row["first_built_at"]
    text = (
        f"Definition {row['feature_version']} of {subject.model.feature_view.name} was served "
        f"{took / timedelta(hours=1):.1f} h after dbt had built it first."
    )
    return observed("data_6", took <= SOON, text, row["as_of"])


def feature_code(subject: Subject) -> Observation | None:
    """data_7: dbt's unit tests of the view."""
    tests = dbt_results.newest(subject, subject.model.feature_view.name, "unit_test")
    if tests is None:
        return None
    return observed("data_7", not tests.not_passed, f"dbt unit tests: {tests.sentence}.", tests.as_of)
