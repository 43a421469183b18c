"""What drift decisions need: sketches, baselines on the same cells, wider reports, incidents, self-tests."""

from alembic import op

revision = "0004"
down_revision = "0003"

SKETCH = """
    counts bigint[] not null,
    sums double precision[] not null,
    squares double precision not null,
    missing bigint not null,
    not_finite bigint not null,
    invalid bigint not null
"""

SKETCHES = f"""
-- The cells of a feature. They never change; when a newer baseline no longer fits them, there is a newer grid.
create table monitoring.sketch_grids (
    grid_id bigint generated always as identity primary key,
    model_name text not null,
    feature text not null,
    kind text not null,
    edges double precision[] not null,
    categories text[] not null,
    made_at timestamptz not null default now()
);
create index sketch_grids_feature on monitoring.sketch_grids (model_name, feature);

-- One hour of a feature in counts. `version` is the definition of what was counted.
create table monitoring.sketches (
    grid_id bigint not null references monitoring.sketch_grids,
    source text not null,
    segment text not null,
    version text not null,
    as_of timestamptz not null,
    {SKETCH},
    primary key (grid_id, source, segment, version, as_of)
);
create index sketches_as_of on monitoring.sketches (as_of);

-- Whom an hour's rows belong to: the smallest hashes of their keys estimate how many are in any union of hours.
create table monitoring.sketched_hours (
    model_name text not null,
    source text not null,
    segment text not null,
    version text not null,
    as_of timestamptz not null,
    row_count bigint not null,
    entity_count bigint not null,
    smallest_hashes bigint[] not null,
    primary key (model_name, source, segment, version, as_of)
);

-- kind training: the rows the model_version in `version` was trained on. kind serving: the first four healthy weeks of
-- the definition in `version`, with how far each window strayed in them.
create table monitoring.feature_baselines (
    baseline_id bigint generated always as identity primary key,
    model_name text not null,
    feature text not null,
    kind text not null check (kind in ('training', 'serving')),
    source text not null,
    segment text not null,
    version text not null,
    grid_id bigint not null references monitoring.sketch_grids,
    starts_at timestamptz not null,
    ends_at timestamptz not null,
    wobble jsonb not null default '[]',
    created_at timestamptz not null default now(),
    unique (model_name, feature, kind, source, segment, version)
);

-- Slot -1 is the whole baseline, the others are its hours of the week from Monday 00:00 UTC.
create table monitoring.baseline_slots (
    baseline_id bigint not null references monitoring.feature_baselines on delete cascade,
    slot smallint not null check (slot between -1 and 167),
    entities double precision not null,
    {SKETCH},
    primary key (baseline_id, slot)
);
"""

REPORTS = """
alter table monitoring.drift_reports
    add column source text not null default 'snapshot',
    add column segment text not null default 'all',
    add column window_hours integer not null default 1,
    add column baseline text not null default 'training',
    add column source_version text not null default '',
    add column kind text,
    add column needed_n bigint,
    add column ks_at_most double precision,
    add column psi double precision,
    add column wasserstein double precision,
    add column cells_effect double precision,
    add column missing_rate double precision,
    add column baseline_missing_rate double precision,
    add column decided_by text,
    add column effect double precision,
    add column effect_low double precision,
    add column effect_high double precision,
    add column critical_floor double precision,
    drop constraint drift_reports_baseline_id_fkey,
    drop constraint drift_reports_pkey,
    add primary key (model_name, as_of, feature, model_version, source, segment, window_hours, baseline);
-- It named a baseline of the whole model; from now on it names a feature's.
update monitoring.drift_reports set baseline_id = null;
alter table monitoring.drift_reports
    add foreign key (baseline_id) references monitoring.feature_baselines on delete set null;

-- The worst finding of each feature at each as_of, over windows, segments, sources and baselines.
create view monitoring.feature_drift as
select distinct on (model_name, as_of, feature, model_version) *
from monitoring.drift_reports
order by
    model_name,
    as_of,
    feature,
    model_version,
    array_position(
        array[
            'error', 'missing_feature', 'unexpected_feature', 'critical', 'warning', 'ok', 'insufficient_data',
            'baseline_missing'
        ],
        status
    ),
    window_hours;
"""

INCIDENTS = """
create table monitoring.drift_incidents (
    incident_id bigint generated always as identity primary key,
    model_name text not null,
    upstream text not null,
    cause text not null,
    is_data_incident boolean not null,
    severity text not null,
    features text[] not null,
    owner text not null,
    summary text not null,
    findings jsonb not null,
    opened_at timestamptz not null,
    last_alarm_at timestamptz not null,
    told_at timestamptz,
    reminders integer not null default 0,
    closed_at timestamptz,
    closed_because text,
    verdict text check (verdict in ('genuine', 'benign')),
    verdict_note text
);
-- At most one is open for what one dbt model delivers to a model while it is sick, and one while the world moves.
create unique index drift_incidents_open on monitoring.drift_incidents (model_name, upstream, is_data_incident)
where closed_at is null;
"""

SELF_TESTS = """
create table monitoring.drift_self_tests (
    model_name text not null,
    feature text not null,
    as_of timestamptz not null,
    injection text not null,
    hours integer not null,
    alarms integer not null,
    found_after_hours integer,
    is_blind boolean not null,
    detail text not null,
    tested_at timestamptz not null default now(),
    primary key (model_name, feature, as_of, injection)
);
"""

INFERENCE_LOG = """
-- What a model really saw and said, request by request.
create table monitoring.inference_log (
    request_id text primary key,
    model_name text not null,
    model_version text not null,
    entity_id text not null,
    as_of timestamptz not null,
    features jsonb not null,
    prediction double precision,
    confidence double precision,
    latency_ms double precision,
    inclusion_probability double precision not null default 1 check (
        inclusion_probability > 0 and inclusion_probability <= 1
    ),
    logged_at timestamptz not null default now()
);
create index inference_log_hour on monitoring.inference_log (model_name, logged_at);
"""


def upgrade() -> None:
    """Creates and extends the tables."""
    for statements in (SKETCHES, REPORTS, INCIDENTS, SELF_TESTS, INFERENCE_LOG):
        op.execute(statements)
