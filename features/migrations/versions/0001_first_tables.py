"""The first tables: raw events, definitions, the ledger, predictions, monitoring."""

from alembic import op

revision = "0001"
down_revision = None

SCHEMAS = ("raw", "staging", "features", "training", "serving", "monitoring")

RAW = """
create table raw.session_events (
    event_id text,
    user_id text,
    started_at timestamptz,
    duration_seconds bigint,
    ingested_at timestamptz,
    is_deleted boolean not null default false,
    source_file text,
    source_row bigint,
    loaded_at timestamptz not null default now()
);
create index session_events_version on raw.session_events (event_id, ingested_at);
create index session_events_loaded_at on raw.session_events (loaded_at);

-- Rows of files that could not be read or that repeat another, as they came.
create table raw.rejected_rows (
    content_sha256 text not null,
    source_file text not null,
    source_row bigint not null,
    reason text not null,
    row_as_it_came jsonb not null,
    rejected_at timestamptz not null default now(),
    primary key (content_sha256, source_row)
);

-- One row per loaded file: its content names it, so loading it again is harmless and an interrupted load resumes.
create table raw.loads (
    content_sha256 text primary key,
    source_file text not null,
    rows_done bigint not null,
    is_complete boolean not null,
    updated_at timestamptz not null default now()
);

-- Files on their way in; a complete one moves to raw.session_events in one transaction.
create table raw.load_buffer (
    content_sha256 text not null,
    source_file text not null,
    source_row bigint not null,
    event_id text,
    user_id text,
    started_at timestamptz,
    duration_seconds bigint,
    ingested_at timestamptz,
    is_deleted boolean not null,
    reason text,
    row_as_it_came jsonb,
    primary key (content_sha256, source_row)
);
"""

FEATURES = """
create table features.feature_versions (
    feature_view text not null,
    feature_version text not null,
    definition text not null,
    first_built_at timestamptz not null default now(),
    last_built_at timestamptz not null default now(),
    primary key (feature_view, feature_version)
);
"""

SERVING = """
create table serving.publications (
    publication_id bigint generated always as identity primary key,
    feature_view text not null,
    as_of timestamptz not null,
    feature_version text not null,
    row_count bigint not null check (row_count > 0),
    published_at timestamptz not null default now(),
    retired_at timestamptz
);
-- At most one publication of a feature view is live.
create unique index publications_live on serving.publications (feature_view) where retired_at is null;

create table serving.predictions (
    model_name text not null,
    model_version text not null,
    entity_id text not null,
    as_of timestamptz not null,
    score double precision not null,
    scored_at timestamptz not null default now(),
    primary key (model_name, as_of, entity_id, model_version)
);
"""

MONITORING = """
create table monitoring.model_baselines (
    baseline_id bigint generated always as identity primary key,
    model_name text not null,
    model_version text not null,
    training_set text not null,
    feature_version text not null,
    first_label_at timestamptz not null,
    last_label_at timestamptz not null,
    row_count bigint not null,
    created_at timestamptz not null default now(),
    unique (model_name, model_version)
);

create table monitoring.drift_reports (
    model_name text not null,
    model_version text not null,
    feature text not null,
    as_of timestamptz not null,
    status text not null,
    n bigint not null,
    training_mean double precision,
    serving_mean double precision,
    training_std double precision,
    serving_std double precision,
    ks_statistic double precision,
    ks_p_value double precision,
    effect_floor double precision,
    drift_detected boolean not null,
    detail text not null,
    baseline_id bigint references monitoring.model_baselines,
    reported_at timestamptz not null default now(),
    primary key (model_name, as_of, feature, model_version)
);

create table monitoring.retraining_decisions (
    model_name text not null,
    as_of timestamptz not null,
    should_retrain boolean not null,
    trigger text,
    priority text not null,
    reason text not null,
    triggers jsonb not null,
    blocked_by jsonb not null,
    champion_version text,
    dag_run_id text not null,
    decided_at timestamptz not null default now(),
    primary key (model_name, as_of)
);

create table monitoring.model_evaluations (
    model_name text not null,
    model_version text not null,
    as_of timestamptz not null,
    metrics jsonb not null,
    train_rows bigint not null,
    holdout_rows bigint not null,
    extract_id text not null,
    promoted boolean not null,
    reason text not null,
    evaluated_at timestamptz not null default now(),
    primary key (model_name, model_version)
);
"""


def upgrade() -> None:
    """Creates the schemas and tables."""
    for schema in SCHEMAS:
        op.execute(f"create schema if not exists {schema}")
    for statements in (RAW, FEATURES, SERVING, MONITORING):
        op.execute(statements)
