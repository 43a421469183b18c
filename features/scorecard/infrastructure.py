"""Evidence of the tests of infrastructure (Breck et al. 2017, section IV); None where nothing was seen.

infra_1 is in features/steps/score_tests.py, since it trains.
"""

from datetime import datetime

from psycopg import sql

from features.scorecard.score import How
from features.scorecard.subject import Observation, Row, Subject, observed

PROMOTIONS = """
select
    count(*) as promotions,
    count(*) filter (where evaluation.promoted and checks.failed = 0 and checks.made > 0) as validated,
    max(evaluation.as_of) as newest,
    string_agg('v' || champion.model_version, ', ' order by champion.champion_id) filter (
        where not (evaluation.promoted and checks.failed = 0 and checks.made > 0)
    ) as others
from monitoring.champions as champion
inner join monitoring.model_evaluations as evaluation using (model_name, model_version)
cross join lateral (
    select count(*) as made, count(*) filter (where not (each ->> 'passed')::boolean) as failed
    from jsonb_array_elements(coalesce(evaluation.checks, '[]')) as listed (each)
) as checks
where
    champion.model_name = %(model)s and champion.kind = 'promotion'
    and evaluation.as_of <= %(as_of)s and evaluation.as_of > %(as_of)s::timestamptz - interval '180 days'
"""


def validation(subject: Subject) -> Observation | None:
    """infra_4: promotions beside the gate's checks."""
    row = subject.row(PROMOTIONS)
    if not row["promotions"]:
        return None
    text = f"{row['validated']} of {row['promotions']} promotions in 180 days had passed every check of the gate"
    beside = f"; not so {row['others']}" if row["others"] else ""
    return observed("infra_4", not row["others"], f"{text}{beside}.", row["newest"])


SCORED = """
select entity_id, as_of, score, model_version from serving.predictions
where model_name = %(model)s and as_of = (
    select max(as_of) from serving.predictions where model_name = %(model)s and as_of <= %(as_of)s
)
order by entity_id
limit 1
"""


def one_example(subject: Subject) -> Observation | None:
    """infra_5: one entity that was scored last, from its events to the features that it was scored with.

    Nothing is seen where the definition has changed since, or the key has several columns.
    """
    view, scored = subject.model.feature_view, subject.row(SCORED)
    if not scored or len(view.entity) != 1:
        return None
    entity, at = scored["entity_id"], scored["as_of"]
    stored = _recomputed(subject, entity, at)
    if not stored or stored["definition"] != stored["definition_now"]:
        return None
    explained = _explained(subject, entity, at)
    text = (
        f"{entity} at {at:%Y-%m-%d %H:%M}Z: {explained['counted']:,} of {explained['events']:,} events counted, each "
        f"other with its reason; recomputed from them, the {len(view.features)} features that "
        f"v{scored['model_version']} scored are {'the same' if stored['is_same'] else 'others'}."
    )
    return observed("infra_5", stored["is_same"] and explained["events"] > 0, text, at)


def _explained(subject: Subject, entity: str, at: datetime) -> Row:
    view = subject.model.feature_view
    query = sql.SQL(
        "select count(*) as events, count(*) filter (where counted) as counted from {}(%(entity)s::{}, %(at)s)"
    ).format(sql.Identifier(view.schema_name, f"explain_{view.name}"), sql.SQL(view.entity_types[0]))
    return subject.row(query, entity=entity, at=at)


def _recomputed(subject: Subject, entity: str, at: datetime) -> Row:
    """Whether the stored row is, cell by cell, what the definition gives now."""
    view = subject.model.feature_view
    same = sql.SQL(" and ").join(
        sql.SQL("stored.{n} is not distinct from again.{n}").format(n=sql.Identifier(name))
        for name in view.feature_names
    )
    query = sql.SQL(
        "select stored.feature_version as definition, again.feature_version as definition_now, {same} as is_same"
        " from {table} as stored cross join {as_of}(array[%(entity)s::{type}], %(at)s) as again"
        " where stored.{key} = %(entity)s::{type} and stored.as_of = %(at)s"
        " order by stored.feature_version = again.feature_version desc limit 1"
    ).format(
        same=same,
        table=sql.Identifier(*view.relation),
        as_of=sql.Identifier(view.schema_name, f"{view.name}_as_of"),
        type=sql.SQL(view.entity_types[0]),
        key=sql.Identifier(view.entity[0]),
    )
    return subject.row(query, entity=entity, at=at)


def canary(subject: Subject) -> Observation | None:
    """infra_6: the gate's check on the live snapshot."""
    champion = subject.champion
    checks = champion.checked("canary") if champion else []
    if champion is None or not checks:
        return None
    text = f"Before v{champion.version} served: {' '.join(each['evidence'] for each in checks)}"
    return observed("infra_6", all(each["passed"] for each in checks), text, champion.trained_as_of)


# When somebody did so: neither ledger says of which instant's knowledge.
ROLLBACKS = """
(
    select since as at, 'v' || model_version || ' of the model served again: ' || because as what
    from monitoring.champions
    where model_name = %(model)s and kind = 'rollback' and since <= %(as_of)s
)
union all
(
    select published_at as at, 'the features of ' || to_char(as_of at time zone 'UTC', 'YYYY-MM-DD HH24:MI')
        || 'Z were served again: ' || note as what
    from serving.publications
    where feature_view = %(view)s and starts_with(note, 'rollback') and published_at <= %(as_of)s
)
order by at desc
limit 1
"""


def rollback(subject: Subject) -> Observation | None:
    """infra_7: the last rollback that somebody made."""
    row = subject.row(ROLLBACKS)
    if not row:
        return None
    return observed("infra_7", True, f"At {row['at']:%Y-%m-%d %H:%M}Z {row['what']}.", row["at"], How.BY_HAND)
