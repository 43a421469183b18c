"""What the pages of Feature health need: a role that reads, and an index that finds a feature's reports."""

from alembic import op

revision = "0007"
down_revision = "0006"

READER = "monitor_reader"

# Roles belong to the server, not to the database, so that it may be there: from another warehouse, or because an
# administrator made it for a login that must not create any.
ROLE = f"""
do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = '{READER}') then
        begin
            create role {READER} nologin;
        exception
            when duplicate_object or unique_violation then
                raise notice 'another migration has just created {READER}';
            when insufficient_privilege then
                raise exception '% may not create roles', current_user
                    using hint = 'Ask your administrator to run: create role {READER} nologin; '
                        || 'grant {READER} to ' || quote_ident(current_user) || ' with admin option;';
        end;
    end if;
    if not pg_has_role(current_user, '{READER}', 'member') then
        execute format('grant {READER} to %I', current_user);
    end if;
end
$$
"""

# Neither features nor scores nor raw events: the pages show what is said about them. Of an extract not its spine, which
# is everybody who was trained on.
GRANTS = f"""
grant usage on schema features, training, serving, monitoring to {READER};
grant select on features.feature_versions, features.builds, serving.publications to {READER};
grant select (
    extract_id, training_set, feature_view, feature_version, as_of, knowledge_watermark, columns, row_count,
    spine_checksum, row_checksum, created_at
) on training.extracts to {READER};
grant select on
    monitoring.baseline_slots,
    monitoring.champions,
    monitoring.decay_backtests,
    monitoring.decay_curves,
    monitoring.drift_incidents,
    monitoring.drift_reports,
    monitoring.drift_self_tests,
    monitoring.feature_baselines,
    monitoring.feature_drift,
    monitoring.inference_hours,
    monitoring.model_baselines,
    monitoring.model_evaluations,
    monitoring.model_performance,
    monitoring.parity_audits,
    monitoring.retraining_decisions,
    monitoring.sketch_grids,
    monitoring.sketched_hours,
    monitoring.sketches
to {READER};
"""

INDEXES = """
create index drift_reports_feature on monitoring.drift_reports (model_name, feature, as_of);
create index sketches_grid on monitoring.sketches (grid_id, as_of);
create index parity_audits_view on monitoring.parity_audits (feature_view, source, as_of);
create index parity_audits_differing on monitoring.parity_audits (feature_view, as_of) where mismatches > 0;
"""

RESULTS = f"""
-- What dbt ran and how it ended: a row for each model, test and unit test of each run.
create table monitoring.dbt_results (
    dbt_invocation_id text not null,
    unique_id text not null,
    resource_type text not null check (resource_type in ('model', 'test', 'unit_test')),
    name text not null,
    -- Of a model its own name in the warehouse; of a test that of the model it is attached to, null when that is none.
    dbt_model text,
    -- The column that a test is about, if it is about one.
    column_name text,
    -- success, pass, warn, fail, error or skipped, as dbt says it.
    status text not null,
    failures bigint,
    seconds double precision not null,
    -- The instant whose knowledge the run computed; null when nobody named one.
    as_of timestamptz,
    ran_at timestamptz not null default clock_timestamp(),
    primary key (dbt_invocation_id, unique_id)
);
create index dbt_results_model on monitoring.dbt_results (dbt_model, resource_type, as_of);
create index dbt_results_ran_at on monitoring.dbt_results (ran_at);
grant select on monitoring.dbt_results to {READER};
"""

EVIDENCE = f"""
-- What was seen of each of the 28 tests of the ML Test Score. The score is computed from it and kept nowhere.
create table monitoring.scorecard_evidence (
    evidence_id bigint generated always as identity primary key,
    model_name text not null,
    test text not null,
    how text not null check (how in ('automated', 'by hand')),
    passed boolean not null,
    evidence text not null check (evidence <> ''),
    -- The instant whose knowledge it is.
    seen_at timestamptz not null,
    -- From when it says nothing any more.
    expires_at timestamptz not null,
    recorded_at timestamptz not null default clock_timestamp(),
    -- Who recorded it by command; null when the pipeline computed it.
    recorded_by text
);
-- The newest of a kind is at the end of its range.
create index scorecard_evidence_newest
    on monitoring.scorecard_evidence (model_name, test, passed, how, seen_at, evidence_id);
create index scorecard_evidence_computed on monitoring.scorecard_evidence (model_name, seen_at)
    where recorded_by is null;
grant select on monitoring.scorecard_evidence to {READER};
"""


def upgrade() -> None:
    """Creates the role and the tables of dbt's results and of evidence, grants what the pages read, adds indexes."""
    for statements in (ROLE, GRANTS, INDEXES, RESULTS, EVIDENCE):
        op.execute(statements)
