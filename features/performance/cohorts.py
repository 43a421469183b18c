"""What a model said at an instant, and what became true of it.

A cohort is what one version said at one as_of. A batch has an as_of. Features that were computed on demand hold the
knowledge of any instant, so requests of services are put to the hour that they lead up to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from psycopg import sql

from features import warehouse
from features.contract import Model

if TYPE_CHECKING:
    import pandas as pd

    from features.tracking import Version

Scope = Literal["batch", "online", "since_training"]
HOUR = timedelta(hours=1)
# How long a cohort is looked at again, in case more of it arrives: requests are logged a little later than they are
# made, and labels may come home one by one.
LOOK_BACK = timedelta(days=7)
# Beside the columns of a training set, none of which has such a name.
ENTITY, SCORE = "(entity)", "(score)"

BATCH = """
select model_version, as_of as cohort, entity_id, score, 1::double precision as weight
from serving.predictions
where model_name = %(model)s and as_of > %(since)s and as_of <= %(until)s
"""
# Several requests of an entity that lead up to one hour are one piece of evidence, as they are to the drift monitor;
# the first of those that were logged counts.
ONLINE = """
select distinct on (model_version, cohort, entity_id)
    model_version, cohort, entity_id, prediction as score, 1 / inclusion_probability as weight
from monitoring.inference_log
cross join lateral (
    select date_trunc('hour', as_of + interval '1 hour' - interval '1 microsecond', 'UTC') as cohort
) as hours
where
    model_name = %(model)s and kind = 'online' and prediction is not null
    -- Whole hours.
    and as_of > date_trunc('hour', %(since)s::timestamptz, 'UTC')
    and as_of <= date_trunc('hour', %(until)s::timestamptz, 'UTC')
order by model_version, cohort, entity_id, as_of, logged_at, request_id
"""
SAID: dict[Scope, sql.SQL] = {"batch": sql.SQL(BATCH), "online": sql.SQL(ONLINE)}
# Whether anything was said, by the index alone.
ANYTHING_SAID: dict[Scope, sql.SQL] = {
    "batch": sql.SQL("select from serving.predictions where model_name = %(model)s"),
    "online": sql.SQL("select from monitoring.inference_log where model_name = %(model)s and kind = 'online'"),
}


@dataclass(frozen=True)
class Cohort:
    """What a version said at an instant.

    Attributes:
        scope: of the whole population (batch), or of those who asked (online); since_training is all that a version
            says of the labels since its training, the newest of them at this instant.
    """

    version: str
    scope: Scope
    at: datetime


def unestimated(connection: warehouse.Connection, model: Model, as_of: datetime) -> list[Cohort]:
    """Cohorts of the last days, by as_of, of which there is more than is known in monitoring.model_performance."""
    found = []
    for scope in SAID:
        query = sql.SQL(
            "select said.model_version, said.cohort from ("
            "select model_version, cohort, count(*) as predictions from ({said}) as each_said group by 1, 2"
            ") as said left join monitoring.model_performance as known on known.model_name = %(model)s"
            " and known.scope = %(scope)s and known.model_version = said.model_version and known.cohort = said.cohort"
            " where said.predictions > coalesce(known.predictions, 0) order by 2, 1"
        ).format(said=SAID[scope])
        parameters = {"model": model.name, "scope": scope, "since": as_of - LOOK_BACK, "until": as_of}
        rows = connection.execute(query, parameters)
        found += [Cohort(row["model_version"], scope, row["cohort"]) for row in rows]
    return found


def unmeasured(connection: warehouse.Connection, model: Model, as_of: datetime) -> list[Cohort]:
    """Cohorts all of whose labels have matured by as_of, of which more labels are known than were measured.

    Fewer are no news: logged requests are deleted in the end, and what was measured of them stays.
    """
    found = []
    for scope in SAID:
        query = sql.SQL(
            "select said.model_version, known.labels from"
            " (select distinct model_version from ({said}) as each_said where cohort = %(cohort)s) as said"
            " left join monitoring.model_performance as known on known.model_name = %(model)s"
            " and known.scope = %(scope)s and known.model_version = said.model_version and known.cohort = %(cohort)s"
            " order by 1"
        ).format(said=SAID[scope])
        for at in _with_news(connection, model, scope, as_of):
            for row in connection.execute(query, _at(model, scope, at)).fetchall():
                cohort = Cohort(row["model_version"], scope, at)
                if row["labels"] is None or _count_labelled(connection, model, cohort) > row["labels"]:
                    found.append(cohort)
    return found


def _with_news(connection: warehouse.Connection, model: Model, scope: Scope, as_of: datetime) -> list[datetime]:
    """Instants at which something was said, all labels of which have matured by as_of: lately, or nobody measured."""
    query = sql.SQL(
        "select cohort from ("
        "select as_of as cohort, max(matured_at) as matured_at from {labels} where as_of is not null group by as_of"
        ") as labelled where matured_at <= %(as_of)s and (matured_at > %(since)s"
        " or (select coalesce(bool_or(known.labels is null), true) from monitoring.model_performance as known"
        " where known.model_name = %(model)s and known.scope = %(scope)s and known.cohort = labelled.cohort))"
        " and exists ({said} and as_of > cohort - interval '1 hour' and as_of <= cohort) order by 1"
    ).format(labels=sql.Identifier(*model.training_set), said=ANYTHING_SAID[scope])
    parameters = {"model": model.name, "scope": scope, "as_of": as_of, "since": as_of - LOOK_BACK}
    return [row["cohort"] for row in connection.execute(query, parameters)]


def predictions(connection: warehouse.Connection, model: Model, cohort: Cohort) -> "pd.DataFrame":
    """What was said: entity_id, score and weight, in the order of entities."""
    query = sql.SQL(
        "select entity_id, score, weight from ({}) as said"
        " where model_version = %(version)s and cohort = %(cohort)s order by entity_id"
    ).format(SAID[cohort.scope])
    parameters = _at(model, cohort.scope, cohort.at) | {"version": cohort.version}
    return warehouse.frame(connection, query, parameters)


def labelled(connection: warehouse.Connection, model: Model, cohort: Cohort) -> "pd.DataFrame":
    """What was said and is known to be true or not: entity_id, score, weight, truth and matured_at."""
    labels = warehouse.frame(
        connection,
        sql.SQL("{} order by entity_id, label_at").format(_labels(model, "truth", "label_at", "matured_at")),
        _at(model, cohort.scope, cohort.at),
    )
    # Not in the warehouse, whose planner knows nothing of an instant as new as this, and may compare each with each.
    return predictions(connection, model, cohort).merge(labels, on="entity_id")


def _count_labelled(connection: warehouse.Connection, model: Model, cohort: Cohort) -> int:
    """How many rows `labelled` has."""
    query = sql.SQL(
        "select count(*) as n from (select entity_id from ({said}) as said"
        " where model_version = %(version)s and cohort = %(cohort)s intersect all {labels}) as both_of_them"
    ).format(said=SAID[cohort.scope], labels=_labels(model))
    parameters = _at(model, cohort.scope, cohort.at) | {"version": cohort.version}
    row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return int(row["n"])


def _at(model: Model, scope: Scope, at: datetime) -> dict[str, object]:
    return {"model": model.name, "scope": scope, "cohort": at, "since": at - HOUR, "until": at}


def _labels(model: Model, *names: str) -> sql.Composed:
    """The labels of the instant %(cohort)s: entity_id and, where they are wanted, truth, label_at and matured_at."""
    columns = {"truth": sql.Identifier("label", model.label)}
    selected = [
        sql.SQL("{} as {}").format(columns.get(name, sql.Identifier("label", name)), sql.Identifier(name))
        for name in names
    ]
    return sql.SQL("select {} from {} as label where label.as_of = %(cohort)s and {} is not null").format(
        sql.SQL(", ").join([sql.SQL("{} as entity_id").format(_key(model.entity, "label")), *selected]),
        sql.Identifier(*model.training_set),
        columns["truth"],
    )


def _key(entity: Sequence[str], table: str) -> sql.Composed:
    """An entity's key as predictions and the log have it: its text; of several columns, that of a JSON array."""
    columns = sql.SQL(", ").join(sql.Identifier(table, name) for name in entity)
    return sql.SQL("{}::text" if len(entity) == 1 else "jsonb_build_array({})::text").format(columns)


def count_since(
    connection: warehouse.Connection, model: Model, version: "Version", as_of: datetime
) -> dict[str, Any] | None:
    """How many labels matured by as_of of which a version could not know when it was trained, the newest cohort they
    belong to, and when the last of them matured_at; None without any.

    Only labels whose features have the definition that the version was trained on.
    """
    query = sql.SQL("select count(*) as labels, max(as_of) as cohort, max(matured_at) as matured_at from {} where {}")
    row = connection.execute(
        query.format(sql.Identifier(*model.training_set), _matured(model)), _since(version, as_of)
    ).fetchone()
    return row if row and row["labels"] else None


def labelled_since(
    connection: warehouse.Connection, model: Model, version: "Version", as_of: datetime
) -> "pd.DataFrame":
    """The labels that `count_since` counts: entity, label, features, and as SCORE what the version said of them in the
    batch of that time, if it did."""
    names = dict.fromkeys((*model.entity, model.label, *model.feature_names, "as_of"))
    query = sql.SQL(
        "select {key} as {name}, {names} from {labels} as label where {matured} order by 1, label_at"
    ).format(
        key=_key(model.entity, "label"),
        name=sql.Identifier(ENTITY),
        names=sql.SQL(", ").join(sql.Identifier("label", name) for name in names),
        labels=sql.Identifier(*model.training_set),
        matured=_matured(model),
    )
    rows = warehouse.frame(connection, query, _since(version, as_of))
    query = sql.SQL(
        "select entity_id as {}, as_of, score as {} from serving.predictions"
        " where model_name = %s and model_version = %s and as_of = any(%s)"
    ).format(sql.Identifier(ENTITY), sql.Identifier(SCORE))
    said = warehouse.frame(connection, query, [model.name, version.number, list(rows["as_of"].unique())])
    # Merged here for the reason that `labelled` gives. Without a row a column does not know what it is of.
    said = said.astype({name: rows[name].dtype for name in (ENTITY, "as_of")})
    return rows.merge(said, on=[ENTITY, "as_of"], how="left")


def _since(version: "Version", as_of: datetime) -> dict[str, object]:
    return {"since": version.trained_as_of, "until": as_of, "feature_version": version.feature_version}


def _matured(model: Model) -> sql.Composed:
    return sql.SQL(
        "matured_at > %(since)s and matured_at <= %(until)s and feature_version = %(feature_version)s"
        " and {} is not null"
    ).format(sql.Identifier(model.label))
