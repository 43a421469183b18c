"""What serving needs: rows written online, a wider inference log, performance, audits of what was served."""

from alembic import op

revision = "0006"
down_revision = "0005"

STORE = """
-- Feature rows that a service wrote or had computed for an entity that the live snapshot lacks; the newest of each.
create table serving.written_features (
    feature_view text not null,
    feature_version text not null,
    entity_id text not null,
    as_of timestamptz not null,
    features jsonb not null,
    was_computed boolean not null,
    written_at timestamptz not null default now(),
    primary key (feature_view, feature_version, entity_id)
);
create index written_features_as_of on serving.written_features (as_of);
"""

LOG = """
alter table monitoring.inference_log
    add column feature_version text not null default '',
    add column kind text not null default 'online' check (kind in ('online', 'batch')),
    -- Where the features came from: redis, postgres, written, computed or snapshot.
    add column served_from text,
    -- What the service made of the prediction.
    add column decision text,
    -- logged_at says when the model was asked, and this when the row reached the warehouse.
    add column written_at timestamptz not null default now();
create index inference_log_as_of on monitoring.inference_log (model_name, as_of);

-- What could not be logged, as it came.
create table monitoring.rejected_inferences (
    request_id text,
    model_name text not null,
    reason text not null,
    row_as_it_came text not null,
    rejected_at timestamptz not null default now()
);
create index rejected_inferences_model on monitoring.rejected_inferences (model_name, rejected_at);

-- The log by the hour, which ends at `hour`. Requests are estimated from those that were logged.
create table monitoring.inference_hours (
    model_name text not null,
    model_version text not null,
    kind text not null,
    hour timestamptz not null,
    logged bigint not null,
    requests double precision not null,
    score_mean double precision,
    score_quantiles jsonb not null,
    confidence_mean double precision,
    confidence_quantiles jsonb not null,
    latency_quantiles_ms jsonb not null,
    missing jsonb not null,
    summarised_at timestamptz not null default now(),
    primary key (model_name, model_version, kind, hour)
);
"""

PERFORMANCE = """
-- How good a version is on what it said at `cohort`, the as_of of its predictions. Estimated as soon as it has spoken,
-- measured when the labels have matured. scope: batch (the scored population), online (the logged requests, weighted)
-- or since_training (all labels that matured since it was trained; cohort is the newest of them).
create table monitoring.model_performance (
    model_name text not null,
    model_version text not null,
    scope text not null check (scope in ('batch', 'online', 'since_training')),
    cohort timestamptz not null,
    predictions bigint not null,
    estimated_accuracy double precision,
    estimated_accuracy_low double precision,
    estimated_accuracy_high double precision,
    estimated_roc_auc double precision,
    estimated_roc_auc_low double precision,
    estimated_roc_auc_high double precision,
    estimated_brier double precision,
    labels bigint,
    matured_at timestamptz,
    share_true double precision,
    accuracy double precision,
    accuracy_low double precision,
    accuracy_high double precision,
    roc_auc double precision,
    roc_auc_low double precision,
    roc_auc_high double precision,
    average_precision double precision,
    average_precision_low double precision,
    average_precision_high double precision,
    brier double precision,
    brier_low double precision,
    brier_high double precision,
    calibration_error double precision,
    calibration_error_low double precision,
    calibration_error_high double precision,
    lift double precision,
    lift_low double precision,
    lift_high double precision,
    confidence double precision not null,
    measured_at timestamptz not null default now(),
    primary key (model_name, model_version, scope, cohort)
);
create index model_performance_cohort on monitoring.model_performance (model_name, cohort);
"""

AUDITS = """
-- What was published is audited by the gate, what was served by the hour: source publication or inference_log. Of the
-- latter the model is named, and publication_id is what was live.
alter table monitoring.parity_audits
    add column source text not null default 'publication' check (source in ('publication', 'inference_log')),
    add column model_name text not null default '',
    drop constraint parity_audits_pkey,
    add primary key (publication_id, source, model_name, feature, as_of);
"""


def upgrade() -> None:
    """Creates the tables of the store and of performance; widens the inference log and the audits."""
    for statements in (STORE, LOG, PERFORMANCE, AUDITS):
        op.execute(statements)
