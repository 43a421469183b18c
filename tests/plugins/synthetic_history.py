"""Months of what the pipeline writes, in under a minute: as many features and days as a test asks for.

Hours, features and what goes wrong (`tests.plugins.episodes`) become temporary tables. Reports, counts and audits are
selected from them, so that millions of rows are made where they are stored. Decisions are the policy's own
(`tests.plugins.retraining_timeline`). The same arguments give the same rows; the axis ends at a fixed instant.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta

from features import warehouse
from features.contract import Contract, Model
from features.drift.incident import Incident
from features.drift.incidents import resolve
from features.drift.sources import LABEL, PREDICTION
from tests.plugins import model_history, publication_history
from tests.plugins.episodes import DAY, HALF_WIDTH, NEW_DEFINITION, OLD_DEFINITION, WINDOWS, Episode, Span, episodes
from tests.plugins.manifests import CATEGORY, FLAG
from tests.plugins.retraining_timeline import RetrainingTimeline, decide_every_hour
from tests.plugins.rows import copy_rows

CELLS = 16
CATEGORIES = ("basic", "plus", "family", "student", "business", "trial")


def fill(
    connection: warehouse.Connection, contract: Contract, *, days: int = 90, model: str = "churn"
) -> RetrainingTimeline:
    """Fills a migrated warehouse without rows with the history of a model; gives what was decided in it.

    Args:
        contract: says which features there are.
        days: how long it is; it ends at `tests.plugins.episodes.END`.
    """
    watched, span = contract.model(model), Span(days)
    # Row by row, foreign keys and commits to disk would take longer than the rows.
    connection.execute(
        "set local session_replication_role = replica; set local synchronous_commit = off; set local jit = off"
    )
    connection.execute("set local work_mem = '256MB'; set local maintenance_work_mem = '512MB'")
    happened = episodes(watched.feature_names, span)
    incidents = [episode.incident(watched, number, span) for number, episode in enumerate(happened, 1)]
    _create_temporary_tables(connection, watched, span, happened)
    backtests = [span.start + number * 30 * DAY for number in range(days // 30 + 1)]
    timeline = decide_every_hour(watched, span, incidents, _statuses(connection), backtests)
    _create_reigns(connection, timeline, span)
    _write_incidents(connection, watched, incidents)
    _write_baselines(connection, watched, timeline, span)
    _write_sketches(connection, watched, span)
    _write_reports(connection, watched, span)
    model_history.write(connection, watched, span, timeline, backtests)
    publication_history.write(connection, contract, watched, span)
    return timeline


def _create_temporary_tables(
    connection: warehouse.Connection, model: Model, span: Span, happened: Sequence[Episode]
) -> None:
    connection.execute(TEMPORARY_TABLES)
    copy_rows(connection, "hours", ({"as_of": at, "definition": span.definition(at)} for at in span.hours))
    copy_rows(
        connection,
        "profiles",
        (
            {
                "feature": name,
                "place": place,
                "kind": _kind(name),
                "source": "labels" if name == LABEL else "snapshot",
                "centre": 0.3 if name == PREDICTION else 4.0 + 3 * (place % 17),
            }
            for place, name in enumerate([*model.feature_names, PREDICTION, LABEL])
        ),
    )
    copy_rows(
        connection,
        "episodes",
        (
            {
                "feature": name,
                "starts_at": episode.starts_at,
                "ends_at": episode.ends_at,
                "effect": episode.effect,
                "status": episode.status,
            }
            for episode in happened
            for name in episode.features
        ),
    )
    connection.execute(STRAYS, {"windows": list(WINDOWS), "half": HALF_WIDTH})
    connection.execute("analyze hours; analyze profiles; analyze strays")


def _kind(feature: str) -> str:
    return {FLAG: "boolean", LABEL: "boolean", CATEGORY: "categorical"}.get(feature, "numeric")


TEMPORARY_TABLES = """
create temporary table hours (as_of timestamptz primary key, definition text not null) on commit drop;
create temporary table profiles (
    feature text primary key, place integer not null, kind text not null, source text not null,
    centre double precision not null
) on commit drop;
create temporary table episodes (
    feature text not null, starts_at timestamptz not null, ends_at timestamptz not null, effect double precision,
    status text
) on commit drop;
-- The same number between 0 and 1 for the same two numbers.
create function pg_temp.chance(one bigint, other bigint) returns double precision immutable language sql as
'select (hashint8extended(one, other) & 65535) / 65536.0';
"""

# A window is as wrong as the part of it that lies in the episode.
STRAYS = """
create temporary table strays on commit drop as
select feature, as_of, window_hours, max(episodes.effect * part) as effect, max(shown.status) as status
from episodes
cross join unnest(%(windows)s::integer[]) as window_hours
inner join hours on as_of >= starts_at and as_of < ends_at + window_hours * interval '1 hour'
cross join lateral (
    select extract(epoch from least(as_of, ends_at) - greatest(as_of - window_hours * interval '1 hour', starts_at
        - interval '1 hour')) / 3600.0 / window_hours as part
) as overlap
cross join lateral (
    select coalesce(case when part >= 1 then episodes.status end, case
        when episodes.effect * part - %(half)s > 0.10 then 'critical'
        when episodes.effect * part - %(half)s > 0.04 then 'warning'
    end) as status
) as shown
where part > 0
group by 1, 2, 3
"""


def _statuses(connection: warehouse.Connection) -> dict[datetime, dict[str, str]]:
    found: dict[datetime, dict[str, str]] = defaultdict(dict)
    rows = connection.execute(
        "select as_of, feature, min(status) as worst from strays where status is not null group by 1, 2"
    )
    for row in rows:  # by luck of the alphabet critical comes before missing_feature, and that before warning
        found[row["as_of"]][row["feature"]] = row["worst"]
    return found


def _create_reigns(connection: warehouse.Connection, timeline: RetrainingTimeline, span: Span) -> None:
    connection.execute(
        "create temporary table reigns (version text, since timestamptz, until timestamptz) on commit drop"
    )
    ends = [reign.since for reign in timeline.reigns[1:]] + [span.end + DAY]
    copy_rows(
        connection,
        "reigns",
        (
            {"version": reign.version, "since": reign.since, "until": until}
            for reign, until in zip(timeline.reigns, ends, strict=True)
        ),
    )


def _write_incidents(connection: warehouse.Connection, model: Model, incidents: Sequence[Incident]) -> None:
    for incident in incidents:
        row = asdict(incident) | {
            "model_name": model.name,
            "cause": str(incident.cause),
            "is_data_incident": incident.cause.is_data_incident,
            "severity": incident.severity.name.lower(),
            "features": list(incident.features),
            "summary": incident.summary,
            "findings": json.dumps([asdict(finding) for finding in incident.findings]),
        }
        columns, values = ", ".join(row), ", ".join(f"%({name})s" for name in row)
        connection.execute(
            f"insert into monitoring.drift_incidents ({columns}) overriding system value values ({values})", row
        )
        if incident.verdict and incident.incident_id:
            resolve(connection, incident.incident_id, incident.verdict, "We looked at it together with the owners.")
    connection.execute("select setval('monitoring.drift_incidents_incident_id_seq', %s)", [len(incidents) + 1])


def _write_baselines(connection: warehouse.Connection, model: Model, timeline: RetrainingTimeline, span: Span) -> None:
    parameters = {
        "model": model.name,
        "start": span.start,
        "end": span.end,
        "learnt": min(span.start + 28 * DAY, span.end),
        "cells": CELLS,
        "categories": list(CATEGORIES),
        "versions": [
            {"version": training.version, "as_of": training.as_of.isoformat()} for training in timeline.trainings
        ],
        "definitions": [OLD_DEFINITION, NEW_DEFINITION],
        "wobble": warehouse.json_text([
            {"window_hours": window, "distance": 0.008 / (1 + place), "cells": 0.002, "days": 28, "missing": 0.0004}
            for place, window in enumerate(WINDOWS)
        ]),
    }
    parameters["versions"] = warehouse.json_text(parameters["versions"])
    for statement in BASELINES.split(";"):
        connection.execute(statement, parameters)


BASELINES = """
insert into monitoring.sketch_grids (model_name, feature, kind, edges, categories, made_at)
select %(model)s, feature, kind,
    case when kind = 'numeric' then array(
        select centre * step / 8.0 from generate_series(1, %(cells)s - 1) as step order by step
    ) else '{}' end,
    case kind when 'boolean' then '{false,true}' when 'categorical' then %(categories)s::text[] else '{}' end,
    %(start)s - interval '20 days'
from profiles order by place;

create temporary table shapes on commit drop as
select grid_id, profiles.*, cell_count,
    array(
        select case profiles.kind
            when 'numeric' then 20 + 3600 * exp(-((cell - 6.5 - place %% 3) ^ 2) / 14) / 6.6
            else (cell <= cell_count - 2)::integer * 3800.0 / (cell + place %% 2)
        end
        from generate_series(1, cell_count) as cell order by cell
    ) as usual
from profiles
inner join monitoring.sketch_grids using (feature)
cross join lateral (
    select case profiles.kind when 'numeric' then %(cells)s else cardinality(categories) + 2 end as cell_count
) as sized;

insert into monitoring.feature_baselines (
    model_name, feature, kind, source, segment, version, grid_id, starts_at, ends_at, wobble, created_at
)
select %(model)s, feature, 'training', 'training', 'all', version, grid_id, as_of - interval '90 days',
    as_of - interval '15 days', '[]'::jsonb, as_of
from shapes cross join jsonb_to_recordset(%(versions)s::jsonb) as trained (version text, as_of timestamptz)
union all
select %(model)s, feature, 'serving', source, 'all', definition, grid_id, %(start)s, %(learnt)s, %(wobble)s::jsonb,
    %(learnt)s
from shapes cross join unnest(%(definitions)s::text[]) as definition
order by 2, 3, 6;

insert into monitoring.baseline_slots (
    baseline_id, slot, entities, counts, sums, squares, missing, not_finite, invalid
)
select baseline_id, slot, 3900, counts, sums, 3900 * centre * centre / 5, 8, 0, 0
from monitoring.feature_baselines as baselines
inner join shapes using (feature, grid_id)
-- A training baseline has labels of Tuesdays at midnight only.
inner join generate_series(-1, 167) as slot on baselines.kind = 'serving' or slot in (-1, 24)
cross join lateral (
    select array_agg(round(per_hour * case slot when -1 then 24 else 1 end)::bigint order by cell) as counts,
        array_agg(case shapes.kind when 'numeric' then per_hour * centre * (cell - 0.5) / 8 else 0 end order by cell)
            as sums
    from unnest(usual) with ordinality as each (per_hour, cell)
) as counted
"""


def _write_sketches(connection: warehouse.Connection, model: Model, span: Span) -> None:
    connection.execute(SKETCHES)
    connection.execute(POPULATIONS, {"model": model.name})


# While a feature strays, its cells exchange rows: what effect there is moves from the lower half to the upper.
SKETCHES = """
insert into monitoring.sketches (
    grid_id, source, segment, version, as_of, counts, sums, squares, missing, not_finite, invalid
)
select grid_id, source, 'all', definition, as_of, counts, sums, 3900 * centre * centre / 5,
    (6 + 4 * pg_temp.chance(grid_id, extract(epoch from as_of)::bigint))::integer, 0, 0
from hours
cross join shapes
left join strays using (feature, as_of)
cross join lateral (
    select array_agg(greatest(each.rows, 0)::bigint order by cell) as counts,
        array_agg(case kind when 'numeric' then each.rows * centre * (cell - 0.5) / 8 else 0 end order by cell) as sums
    from (
        select cell, round(per_hour * (1 + sign(cell - cell_count / 2.0) * 2 * coalesce(strays.effect, 0)
            + 0.02 * (pg_temp.chance(grid_id * 100 + cell, extract(epoch from as_of)::bigint) - 0.5))) as rows
        from unnest(usual) with ordinality as shape (per_hour, cell)
    ) as each
) as counted
where strays.window_hours is null or strays.window_hours = 1
order by grid_id, as_of
"""

POPULATIONS = """
insert into monitoring.sketched_hours (
    model_name, source, segment, version, as_of, row_count, entity_count, smallest_hashes
)
select %(model)s, source, 'all', definition, as_of, entities, entities, array[1, 2, 3]
from hours
cross join (values ('snapshot'), ('labels')) as sources (source)
cross join lateral (select 3900 - (60 * pg_temp.chance(1, extract(epoch from as_of)::bigint))::integer as entities) as n
"""


def _write_reports(connection: warehouse.Connection, model: Model, span: Span) -> None:
    parameters = {
        "model": model.name,
        "start": span.start,
        "learnt": span.start + 28 * DAY,
        "windows": list(WINDOWS),
        "half": HALF_WIDTH,
        "segments_since": span.end - timedelta(days=2),
    }
    # With its indexes made afterwards a table fills twice as fast.
    dropped = connection.execute(INDEXES).fetchall()
    for index in dropped:
        connection.execute(index["drop"])
    # A day at a time: nothing has to be sorted for rows of an hour to lie together.
    for number in range(span.days):
        after = span.start + number * DAY
        connection.execute(REPORTS, parameters | {"after": after, "until": after + DAY})
    for index in dropped:
        connection.execute(index["make"])


INDEXES = """
select
    case when conname is null then 'drop index monitoring.' || quote_ident(indexname)
        else 'alter table monitoring.drift_reports drop constraint ' || quote_ident(conname) end as drop,
    case when conname is null then indexdef
        else 'alter table monitoring.drift_reports add ' || pg_get_constraintdef(pg_constraint.oid) end as make
from pg_indexes
left join pg_constraint on conname = indexname and conrelid = 'monitoring.drift_reports'::regclass
where schemaname = 'monitoring' and tablename = 'drift_reports'
order by conname is null, indexname
"""

REPORTS = """
insert into monitoring.drift_reports (
    model_name, model_version, feature, as_of, status, n, training_mean, serving_mean, training_std, serving_std,
    ks_statistic, ks_p_value, effect_floor, drift_detected, detail, baseline_id, reported_at, source, segment,
    window_hours, baseline, source_version, kind, needed_n, ks_at_most, psi, wasserstein, cells_effect, missing_rate,
    baseline_missing_rate, decided_by, effect, effect_low, effect_high, critical_floor
)
select
    %(model)s, version, feature, as_of, found.status, case when is_judged then n else 0 end,
    case when is_ordered then centre end, case when is_ordered then centre * (1 + found.effect) end,
    case when is_ordered then centre / 2 end, case when is_ordered then centre / 2 * (1 + found.effect / 3) end,
    case when is_ordered then found.effect end, case when is_ordered then exp(-n * found.effect ^ 2) end,
    case when is_judged then 0.04 end, found.status in ('warning', 'critical'),
    case found.status
        when 'insufficient_data' then 'The history begins within this window; half of it is needed.'
        when 'baseline_missing' then 'There are no values to compare with.'
        when 'missing_feature' then 'None of ' || n || ' entities has a value.'
        else 'shape ' || round(found.effect::numeric, 3) || ' (' || round((found.effect - %(half)s)::numeric, 3)
            || ' to ' || round((found.effect + %(half)s)::numeric, 3) || '), floors 0.040 and 0.100.'
    end,
    baseline_id, as_of + interval '4 minutes', profiles.source, segment, window_hours, baseline.name, definition,
    profiles.kind, case when is_judged then 561 end, case when is_ordered then found.effect + 0.002 end,
    case when is_judged then 4 * found.effect ^ 2 end, case when is_ordered then found.effect * centre end,
    case when is_judged then found.effect ^ 2 end, case when is_judged then 0.002 end,
    case when is_judged then 0.002 end, case when is_judged then 'shape' end,
    case when is_judged then found.effect end, case when is_judged then greatest(found.effect - %(half)s, 0) end,
    case when is_judged then found.effect + %(half)s end, case when is_judged then 0.10 end
from hours
inner join reigns on as_of >= since and as_of < until
cross join profiles
cross join unnest(%(windows)s::integer[]) as window_hours
cross join (values ('training'), ('serving')) as baseline (name)
inner join (values ('all'), ('frequent')) as segments (segment) on segment = 'all' or as_of > %(segments_since)s
left join strays using (feature, as_of, window_hours)
left join (
    select baseline_id, feature as of_feature, kind as baseline_name, version as baseline_version
    from monitoring.feature_baselines
) as known
    on known.of_feature = profiles.feature and known.baseline_name = baseline.name
    and known.baseline_version = case baseline.name when 'training' then reigns.version else definition end
cross join lateral (
    select 3900 - (60 * pg_temp.chance(place, extract(epoch from as_of)::bigint))::integer as n,
        greatest(strays.effect, 0.03 * pg_temp.chance(
            place * 10 + window_hours + length(baseline.name), extract(epoch from as_of)::bigint / 3600
        )) as effect
) as drawn
cross join lateral (
    select drawn.effect, case
        when as_of < %(start)s + window_hours * interval '30 minutes' then 'insufficient_data'
        when baseline.name = 'serving' and as_of < %(learnt)s then 'baseline_missing'
        else coalesce(strays.status, 'ok')
    end as status
) as found
cross join lateral (select found.status in ('ok', 'warning', 'critical') as is_judged) as judged
cross join lateral (select is_judged and profiles.kind = 'numeric' as is_ordered) as ordered
where as_of > %(after)s and as_of <= %(until)s
"""
