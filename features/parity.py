"""Parity: what is served, compared cell by cell with a recomputation by the very definition that trains.

The recomputation is the warehouse function that dbt installs from the compiled feature view. It must agree to the last
bit, so cells are compared with `is distinct from`; nothing is rounded.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from psycopg import sql

from features import warehouse
from features.contract import FeatureView
from features.ledger import Publication

log = logging.getLogger(__name__)

# Stands for the set of entities where a feature's name would stand for its values.
ENTITIES = "(entities)"
EXAMPLES = 5


class Cause(StrEnum):
    """Why what was served is not what a recomputation gives."""

    BACKDATED_DATA = "backdated data"
    CHANGED_LOGIC = "changed logic"
    BOTH = "backdated data and changed logic"
    NEW_DEFINITION = "new definition"


@dataclass(frozen=True)
class Finding:
    """One feature of what was served, or its set of entities, compared.

    Attributes:
        example_keys: of entities that differ, at most five.
        cause: None when nothing differs.
    """

    feature: str
    mismatches: int
    example_keys: Sequence[Sequence[Any]]
    cause: Cause | None

    def sentence(self, as_of: datetime, rows_compared: int) -> str:
        """The finding with its numbers, for a log or an error."""
        what = "the set of entities" if self.feature == ENTITIES else self.feature
        examples = ", ".join("/".join(map(str, key)) for key in self.example_keys)
        return (
            f"At {as_of:%Y-%m-%d %H:%M}Z {what} differs in {self.mismatches:,} of {rows_compared:,} rows "
            f"({self.cause}; for example {examples})."
        )


@dataclass(frozen=True)
class Audit:
    """A publication compared: one finding for the set of entities and one for each feature."""

    publication: Publication
    rows_compared: int
    findings: Sequence[Finding]

    def sentence(self, finding: Finding) -> str:
        """A finding with its numbers, for a log or an error."""
        return finding.sentence(self.publication.as_of, self.rows_compared)


def audit(connection: warehouse.Connection, view: FeatureView, publication: Publication, current_version: str) -> Audit:
    """Compares what the connection's transaction sees served of a view with a recomputation at the same as_of.

    Args:
        current_version: of the definition that the as-of function holds. When the publication has another, its cells
            may differ, and how many do is worth knowing before the new one goes live.
    """
    log.info("Recomputing %s at %s to compare it with what is served.", view.name, publication.as_of)
    parameters = {
        "as_of": publication.as_of,
        "feature_version": publication.feature_version,
        "loaded_through": publication.events_loaded_through,
    }
    rows = connection.execute(_comparison(view), parameters).fetchall()
    found = {row["feature"]: row for row in rows}
    is_current = publication.feature_version == current_version
    findings = [finding_of(name, found.get(name), is_current) for name in (ENTITIES, *view.feature_names)]
    return Audit(publication, rows[0]["rows_compared"], findings)


def finding_of(feature: str, found: Mapping[str, Any] | None, is_current: bool) -> Finding:
    """What a comparison found of a feature: its mismatches, how many of them are backdated, and example keys.

    Args:
        found: None when nothing differs.
        is_current: whether what was served has the definition that the as-of function holds.
    """
    if found is None:
        return Finding(feature, 0, (), None)
    if is_current:
        cause = {0: Cause.CHANGED_LOGIC, found["mismatches"]: Cause.BACKDATED_DATA}.get(found["backdated"], Cause.BOTH)
    else:
        cause = Cause.NEW_DEFINITION
    return Finding(feature, found["mismatches"], found["example_keys"], cause)


def record(
    connection: warehouse.Connection, view: FeatureView, audits: Iterable[Audit], accepted_because: str | None
) -> None:
    """Keeps audits in monitoring.parity_audits. A publication_id that the ledger lacks is one that the gate refused."""
    for audit in audits:
        about = {
            "publication_id": audit.publication.publication_id,
            "source": "publication",
            "model_name": "",
            "feature_view": view.name,
            "as_of": audit.publication.as_of,
            "feature_version": audit.publication.feature_version,
            "rows_compared": audit.rows_compared,
        }
        record_findings(connection, about, audit.findings, accepted_because)


def record_findings(
    connection: warehouse.Connection,
    about: Mapping[str, Any],
    findings: Iterable[Finding],
    accepted_because: str | None = None,
) -> None:
    """Writes an audit's findings over those of an earlier one of the same publication, source and model.

    Args:
        about: what they have in common, by column.
    """
    rows = [
        {
            **about,
            "feature": finding.feature,
            "mismatches": finding.mismatches,
            "example_keys": json.dumps(finding.example_keys),
            "cause": finding.cause,
            "accepted_because": accepted_because if finding.cause else None,
        }
        for finding in findings
    ]
    with connection.cursor() as cursor:
        cursor.executemany(RECORD, rows)


RECORD = """
insert into monitoring.parity_audits (
    publication_id, source, model_name, feature, feature_view, as_of, feature_version, rows_compared, mismatches,
    example_keys, cause, accepted_because
)
values (
    %(publication_id)s, %(source)s, %(model_name)s, %(feature)s, %(feature_view)s, %(as_of)s, %(feature_version)s,
    %(rows_compared)s, %(mismatches)s, %(example_keys)s, %(cause)s, %(accepted_because)s
)
on conflict (publication_id, source, model_name, feature, as_of) do update set
    feature_version = excluded.feature_version,
    rows_compared = excluded.rows_compared,
    mismatches = excluded.mismatches,
    example_keys = excluded.example_keys,
    cause = excluded.cause,
    accepted_because = excluded.accepted_because,
    audited_at = now()
"""

# A version of an event that claims to have been known at as_of, or to have ended one that was, came to the warehouse
# only after the row had been computed.
BACKDATED = """exists (
    select 1
    from {events} as event
    where
        {event_key}
        and (
            (event.ingested_at <= {as_of} and event.loaded_at > {loaded_through})
            or (event.superseded_at <= {as_of} and event.superseded_loaded_at > {loaded_through})
        )
)"""

COMPARISON = """
with

entities as (

    select {keys} from {entities}(%(as_of)s) where {is_audited}

),

wanted as materialized (

    select {arrays} from entities

),

recomputed as (

    select again.*, 1 as repetition from wanted cross join lateral {recompute}({wanted_arrays}, %(as_of)s) as again

),

served as (

    select {keys}, {features}, row_number() over (partition by {keys}) as repetition
    from {served}
    where {is_audited}

),

compared as materialized (

    select
        {either_keys},
        served.{first_key} is null or recomputed.{first_key} is null as is_lone,
        {differences}
    from served
    -- An entity that is served twice differs, even if both of its rows are right.
    full join recomputed on {same_key} and served.repetition = recomputed.repetition

),

differing as materialized (

    select compared.*, {is_backdated} as is_backdated
    from compared
    where is_lone or {any_differs}

),

listed as (

    select
        cell.feature,
        count(*) as mismatches,
        count(*) filter (where is_backdated) as backdated,
        jsonb_agg(jsonb_build_array({keys}) order by {keys}) filter (where place <= {examples}) as example_keys
    from (
        select
            differing.*,
            cell.feature,
            row_number() over (partition by cell.feature order by {keys}) as place
        from differing
        cross join lateral (values {cells}) as cell (feature, differs)
        where cell.differs
    ) as cell
    group by cell.feature

)

select total.rows_compared, listed.*
from (select count(*) as rows_compared from compared) as total
left join listed on true
"""


def _comparison(view: FeatureView) -> sql.Composed:
    keys, features = view.entity, view.feature_names
    entities = sql.SQL("({}, is_lone), ").format(sql.Literal(ENTITIES))
    return sql.SQL(COMPARISON).format(
        keys=for_each(keys, "{name}"),
        first_key=sql.Identifier(keys[0]),
        features=for_each(features, "{name}"),
        entities=sql.Identifier(view.schema_name, f"{view.name}_entities"),
        recompute=sql.Identifier(view.schema_name, f"{view.name}_as_of"),
        is_audited=_is_audited(view),
        arrays=for_each(keys, "array_agg({name}) as {name}"),
        wanted_arrays=for_each(keys, "wanted.{name}"),
        served=served_rows(view),
        either_keys=for_each(keys, "coalesce(served.{name}, recomputed.{name}) as {name}"),
        differences=for_each(features, "served.{name} is distinct from recomputed.{name} as {differs}"),
        same_key=for_each(keys, "served.{name} = recomputed.{name}", " and "),
        is_backdated=is_backdated(view, sql.Placeholder("as_of"), sql.Placeholder("loaded_through")),
        any_differs=for_each(features, "{differs}", " or "),
        cells=entities + for_each(features, "({text}, {differs} and not is_lone)"),
        examples=sql.Literal(EXAMPLES),
    )


def for_each(columns: Sequence[str], pattern: str, separator: str = ", ") -> sql.Composed:
    """SQL repeated for columns: `name` in the pattern is the column, `text` its name, `differs` whether it does."""
    return sql.SQL(separator).join(
        sql.SQL(pattern).format(
            name=sql.Identifier(column), text=sql.Literal(column), differs=sql.Identifier(f"{column} differs")
        )
        for column in columns
    )


def is_backdated(view: FeatureView, as_of: sql.Composable, loaded_through: sql.Composable) -> sql.Composed:
    """Whether events that came late may explain how a row of a relation `compared`, with the view's keys, differs.

    Args:
        as_of: the instant whose knowledge the row holds.
        loaded_through: when the newest event had been loaded that its computation could see.
    """
    return sql.SQL(BACKDATED).format(
        events=sql.Identifier(*view.events),
        event_key=for_each(view.entity, "event.{name} = compared.{name}", " and "),
        as_of=as_of,
        loaded_through=loaded_through,
    )


def _is_audited(view: FeatureView) -> sql.Composable:
    """A condition that holds for the view's share of entities: the same ones at an as_of, others at the next."""
    if view.audited_share == 1:
        return sql.SQL("true")
    keys = sql.SQL(", ").join(map(sql.Identifier, view.entity))
    # 2^64 hashes, of which the lowest part is audited.
    return sql.SQL("hashtextextended(row({})::text, extract(epoch from %(as_of)s)::bigint) < {}").format(
        keys, sql.Literal(int((view.audited_share - 0.5) * 2**64))
    )


def served_rows(view: FeatureView) -> sql.Composable:
    """What readers get; for a view that nothing serves, its rows at as_of."""
    if view.serving:
        return sql.Identifier(*view.serving)
    rows = sql.SQL("(select * from {} where as_of = %(as_of)s and feature_version = %(feature_version)s) as snapshot")
    return rows.format(sql.Identifier(*view.relation))
