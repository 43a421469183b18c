"""Parity of what models really saw: logged requests, compared cell by cell with a recomputation at their own as_of.

The gate compares what is published. Between that and a model lie a store, a service and a log, and each may change a
value; this is where it shows. Cells are compared as the gate does, with `is distinct from`.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from features import warehouse
from features.contract import Feature, FeatureView, Model
from features.parity import EXAMPLES, Cause, Finding, finding_of, for_each, is_backdated, record_findings

log = logging.getLogger(__name__)

SOURCE = "inference_log"
NO_PUBLICATION = 0
# Of an hour. What is wrong with one request in a thousand is found among as many, but for one time in 500 million; and
# they are recomputed in a second, while all requests of a busy service would take minutes of the hour.
LARGEST_SAMPLE = 20_000

NEW_DEFINITION = str(Cause.NEW_DEFINITION)
NO_KEY = "entity_id is no key of the view"
BEYOND_SAMPLE = "beyond the sample"


@dataclass(frozen=True)
class ServedAudit:
    """An hour of a model's log compared: a finding for each feature that may be logged.

    Attributes:
        as_of: the hour's end.
        feature_version: the definition that the as-of function holds.
        publication_id: what was published last by then; NO_PUBLICATION when nothing was.
        rows_compared: logged requests; an entity may have several.
        skipped: how many were not compared, by reason.
    """

    as_of: datetime
    feature_version: str
    publication_id: int
    rows_compared: int
    skipped: Mapping[str, int]
    findings: Sequence[Finding]

    @property
    def sentences(self) -> list[str]:
        """What differs, a sentence for each feature."""
        return [finding.sentence(self.as_of, self.rows_compared) for finding in self.findings if finding.cause]


def audit_log(connection: warehouse.Connection, model: Model, as_of: datetime, current_version: str) -> ServedAudit:
    """Compares what the model saw in the hour that ends at as_of with what the definition gives.

    These are the entities scored at as_of and the requests of services in the hour. Features that tell who somebody is
    are in no log and not compared; any other that a request lacks differs. Requests of another definition are skipped,
    since the as-of function holds the current one.

    Args:
        current_version: of the definition that the as-of function holds.
    """
    view = model.feature_view
    logged = logged_features(view)
    publication_id = _last_publication(connection, view, as_of)
    if not logged:
        return ServedAudit(as_of, current_version, publication_id, 0, {}, [])
    parameters = {
        "model_name": model.name,
        "feature_view": view.name,
        "as_of": as_of,
        "feature_version": current_version,
    }
    rows = connection.execute(_comparison(view, logged), parameters).fetchall()
    found, total = {row["feature"]: row for row in rows}, rows[0]
    skipped = {
        NEW_DEFINITION: total["logged"] - total["current"],
        NO_KEY: total["current"] - total["with_key"],
        BEYOND_SAMPLE: total["with_key"] - total["compared"],
    }
    return ServedAudit(
        as_of,
        current_version,
        publication_id,
        total["compared"],
        {reason: count for reason, count in skipped.items() if count},
        [finding_of(feature.name, found.get(feature.name), is_current=True) for feature in logged],
    )


def logged_features(view: FeatureView) -> list[Feature]:
    """The features that may be written to the inference log."""
    return [feature for feature in view.features if not feature.pii]


def _last_publication(connection: warehouse.Connection, view: FeatureView, as_of: datetime) -> int:
    row = connection.execute(
        "select max(publication_id) as last from serving.publications where feature_view = %s and as_of <= %s",
        [view.name, as_of],
    ).fetchone()
    return row["last"] or NO_PUBLICATION if row else NO_PUBLICATION


def record_audit(connection: warehouse.Connection, model: Model, audit: ServedAudit) -> None:
    """Keeps an audit in monitoring.parity_audits, in place of an earlier one of the hour."""
    key = {"publication_id": audit.publication_id, "source": SOURCE, "model_name": model.name}
    # Not left to the upsert: a feature may be gone since, or the hour have another last publication by a rollback.
    connection.execute(
        "delete from monitoring.parity_audits where source = %(source)s and model_name = %(model_name)s"
        " and as_of = %(as_of)s",
        {**key, "as_of": audit.as_of},
    )
    about = {
        **key,
        "feature_view": model.feature_view.name,
        "as_of": audit.as_of,
        "feature_version": audit.feature_version,
        "rows_compared": audit.rows_compared,
    }
    record_findings(connection, about, audit.findings)


# Names with an underscore stand beside the columns of keys, whatever those are called.
COMPARISON = """
with

logged as (

    select
        request_id as _request,
        entity_id as _entity,
        as_of as _as_of,
        features as _features,
        feature_version as _version,
        written_at as _written_at
    from monitoring.inference_log
    where
        model_name = %(model_name)s
        and (
            (kind = 'batch' and as_of = %(as_of)s)
            or (kind = 'online' and logged_at > %(as_of)s - interval '1 hour' and logged_at <= %(as_of)s)
        )

),

current as (

    select * from logged where _version = %(feature_version)s

),

keyed as (

    select current.*, {typed_keys}
    from current
    cross join lateral (select {parts} as _parts) as entity
    where {is_key}

),

with_key as (

    select * from keyed where {has_key}

),

sampled as materialized (

    -- The same requests each time, whoever they are of.
    select * from with_key order by hashtextextended(_request, 0), _request limit {largest_sample}

),

wanted as materialized (

    select {arrays}, array_agg(_as_of) as _as_ofs
    from (select distinct {keys}, _as_of from sampled order by {keys}, _as_of) as spine

),

recomputed as materialized (

    select again.* from wanted cross join lateral {recompute}({wanted_arrays}, wanted._as_ofs) as again

),

compared as materialized (

    select
        {sampled_keys},
        sampled._as_of,
        sampled._written_at,
        {differences}
    from sampled
    left join recomputed on {same_key} and sampled._as_of = recomputed.as_of

),

published as (

    -- Rows never change, so of several publications, as after a rollback, the first says what they could have seen.
    select distinct on (as_of) as_of as _as_of, coalesce(events_loaded_through, published_at) as _loaded_through
    from serving.publications
    where feature_view = %(feature_view)s and feature_version = %(feature_version)s
    order by as_of, publication_id

),

differing as materialized (

    select compared.*, {is_backdated} as is_backdated
    from compared
    left join published on compared._as_of = published._as_of
    where {any_differs}

),

listed as (

    select
        entity.feature,
        sum(entity._rows)::bigint as mismatches,
        sum(entity._backdated)::bigint as backdated,
        jsonb_agg(jsonb_build_array({keys}) order by {keys}) filter (where _place <= {examples}) as example_keys
    from (
        select
            cell.feature,
            {differing_keys},
            count(*) as _rows,
            count(*) filter (where is_backdated) as _backdated,
            row_number() over (partition by cell.feature order by {differing_keys}) as _place
        from differing
        cross join lateral (values {cells}) as cell (feature, differs)
        where cell.differs
        group by cell.feature, {differing_keys}
    ) as entity
    group by entity.feature

)

select total.*, listed.*
from (
    select
        (select count(*) from logged) as logged,
        (select count(*) from current) as current,
        (select count(*) from with_key) as with_key,
        (select count(*) from compared) as compared
) as total
left join listed on true
"""

# What cannot be cast differs, and must not end the audit of all others. The JSON itself is compared first, because a
# whole number may be logged as 3.0, which no integer type reads, and an array is no literal of its type. What is absent
# is neither, unlike a JSON null.
DIFFERS = """case
    when sampled._features -> {text} = coalesce(to_jsonb(recomputed.{name}), 'null') then false
    when pg_input_is_valid(sampled._features ->> {text}, {type_name})
        then (sampled._features ->> {text})::{type} is distinct from recomputed.{name}
    else true
end as {differs}"""


TYPED_KEY = """case
    when pg_input_is_valid(_parts ->> {place}, {type_name}) then (_parts ->> {place})::{type}
end as {name}"""


def _comparison(view: FeatureView, features: Sequence[Feature]) -> sql.Composed:
    keys, names = view.entity, [feature.name for feature in features]
    return sql.SQL(COMPARISON).format(
        **_key_of_entity_id(view),
        has_key=for_each(keys, "{name} is not null", " and "),
        largest_sample=sql.Literal(LARGEST_SAMPLE),
        keys=for_each(keys, "{name}"),
        sampled_keys=for_each(keys, "sampled.{name}"),
        differing_keys=for_each(keys, "differing.{name}"),
        arrays=for_each(keys, "array_agg({name}) as {name}"),
        wanted_arrays=for_each(keys, "wanted.{name}"),
        recompute=sql.Identifier(view.schema_name, f"{view.name}_as_of_each"),
        same_key=for_each(keys, "sampled.{name} = recomputed.{name}", " and "),
        differences=sql.SQL(", ").join(map(_differs, features)),
        is_backdated=is_backdated(
            view, sql.SQL("compared._as_of"), sql.SQL("coalesce(published._loaded_through, compared._written_at)")
        ),
        any_differs=for_each(names, "{differs}", " or "),
        cells=for_each(names, "({text}, {differs})"),
        examples=sql.Literal(EXAMPLES),
    )


def _differs(feature: Feature) -> sql.Composed:
    return sql.SQL(DIFFERS).format(
        name=sql.Identifier(feature.name),
        text=sql.Literal(feature.name),
        differs=sql.Identifier(f"{feature.name} differs"),
        type=sql.SQL(feature.data_type),
        type_name=sql.Literal(feature.data_type),
    )


def _key_of_entity_id(view: FeatureView) -> dict[str, sql.Composable]:
    """How the log's entity_id becomes key columns: it is the key as text, or a JSON array of several columns'."""
    if len(view.entity) == 1:
        parts = sql.SQL("jsonb_build_array(_entity)")
    else:
        parts = sql.SQL("case when pg_input_is_valid(_entity, 'jsonb') then _entity::jsonb end")
    places = [sql.Literal(place) for place in range(len(view.entity))]
    each = sql.SQL(", ").join(sql.SQL("_parts -> {}").format(place) for place in places)
    typed = (
        sql.SQL(TYPED_KEY).format(
            place=place, type_name=sql.Literal(declared), type=sql.SQL(declared), name=sql.Identifier(name)
        )
        for name, declared, place in zip(view.entity, view.entity_types, places, strict=True)
    )
    return {
        "parts": parts,
        # An array of as many as there are columns, and nothing else.
        "is_key": sql.SQL("_parts = jsonb_build_array({})").format(each),
        "typed_keys": sql.SQL(", ").join(typed),
    }
