"""The part of the synthetic history that is about feature views: definitions, builds, publications and their parity."""

from features import warehouse
from features.contract import Contract, FeatureView, Model
from tests.plugins.episodes import NEW_DEFINITION, OLD_DEFINITION, Span


def write(connection: warehouse.Connection, contract: Contract, model: Model, span: Span) -> None:
    """Writes the ledger of every view; of the one the model reads also what requests were served."""
    connection.execute("create temporary table cells (feature text primary key, place integer not null) on commit drop")
    for view in contract.feature_views.values():
        _write_view(connection, view, span)
        if view.name == model.feature_view.name:
            _write(connection, AUDITS_OF_LOG, view, span, model.name)


def _write_view(connection: warehouse.Connection, view: FeatureView, span: Span) -> None:
    connection.execute("truncate cells")
    connection.execute(
        "insert into cells select * from unnest(%s::text[]) with ordinality", [["(entities)", *view.feature_names]]
    )
    for statement in (DEFINITIONS, BUILDS, PUBLICATIONS, AUDITS):
        _write(connection, statement, view, span)


def _write(connection: warehouse.Connection, statement: str, view: FeatureView, span: Span, model: str = "") -> None:
    parameters = {
        "view": view.name,
        "model": model,
        "start": span.start,
        "end": span.end,
        "redefined_at": span.redefined_at,
        "backdated_at": span.at(0.2),
        "late_at": span.at(0.55),
        "skewed_at": span.at(0.9),
        "old": OLD_DEFINITION,
        "new": NEW_DEFINITION,
    }
    connection.execute(statement, parameters)


DEFINITIONS = """
insert into features.feature_versions (feature_view, feature_version, definition, first_built_at, last_built_at)
values
    (%(view)s, %(old)s, 'select count(*) as session_count from known', %(start)s, %(redefined_at)s),
    (%(view)s, %(new)s, 'select count(distinct event_id) as session_count from known', %(redefined_at)s, %(end)s)
"""

BUILDS = """
insert into features.builds (
    feature_view, feature_version, as_of, events_loaded_through, built_at, dbt_invocation_id
)
select %(view)s, definition, as_of, as_of - interval '2 minutes', as_of + interval '2 minutes',
    md5(as_of::text)::uuid::text
from hours
"""

# One hour is published late, and one in spite of what the gate found.
PUBLICATIONS = """
insert into serving.publications (
    feature_view, as_of, feature_version, row_count, published_at, retired_at, events_loaded_through, note
)
select %(view)s, as_of, definition, 3900 - (60 * pg_temp.chance(1, extract(epoch from as_of)::bigint))::integer,
    published_at, lead(published_at) over (order by published_at), as_of - interval '2 minutes',
    case when as_of = %(redefined_at)s then 'accepted skew: the definition was changed on purpose' end
from hours
cross join lateral (
    select as_of + interval '3 minutes' + case when as_of = %(late_at)s then interval '50 minutes' else '0' end
        as published_at
) as timed
order by published_at
"""

AUDITS = """
insert into monitoring.parity_audits (
    publication_id, feature, feature_view, as_of, feature_version, rows_compared, mismatches, example_keys, cause,
    accepted_because, audited_at, source, model_name
)
select publication_id, feature, %(view)s, as_of, feature_version, row_count, coalesce(mismatches, 0),
    case when mismatches > 0 then '[["user-00017"], ["user-00345"], ["user-01022"]]'::jsonb else '[]' end, cause,
    case when cause = 'new definition' then 'The definition was changed on purpose.' end, published_at, 'publication',
    ''
from serving.publications
cross join cells
left join lateral (
    select 1200 + place as mismatches, 'new definition' as cause
    where as_of = %(redefined_at)s - interval '1 hour' and place between 2 and 4
    union all
    select 14, 'backdated data' where as_of = %(backdated_at)s and place in (2, 3)
) as differs on true
where feature_view = %(view)s
"""

AUDITS_OF_LOG = """
insert into monitoring.parity_audits (
    publication_id, feature, feature_view, as_of, feature_version, rows_compared, mismatches, example_keys, cause,
    accepted_because, audited_at, source, model_name
)
select publication_id, feature, %(view)s, as_of, feature_version, 310, coalesce(mismatches, 0),
    case when mismatches > 0 then '[["user-00017"], ["user-00345"]]'::jsonb else '[]' end, cause, null,
    as_of + interval '9 minutes', 'inference_log', %(model)s
from serving.publications
cross join cells
left join lateral (
    select 37 as mismatches, 'changed logic' as cause
    where as_of >= %(skewed_at)s and as_of < %(skewed_at)s + interval '5 hours' and place = 2
) as differs on true
where feature_view = %(view)s and feature <> '(entities)'
"""
