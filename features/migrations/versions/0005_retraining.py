"""What the maintenance cycle needs: outcomes of decisions, gates with their checks, the ledger of champions, decay."""

from alembic import op

revision = "0005"
down_revision = "0004"

DECISIONS = """
alter table monitoring.retraining_decisions
    -- retrain, blocked, hold or unknown. Decisions made before knew no unknown.
    add column outcome text,
    add column feature_version text;
update monitoring.retraining_decisions set outcome = case
    when should_retrain then 'retrain' when trigger is null then 'hold' else 'blocked'
end;
alter table monitoring.retraining_decisions alter column outcome set not null;
-- A reason was a sentence; now it names its guard, too.
update monitoring.retraining_decisions set blocked_by = (
    select coalesce(jsonb_agg(jsonb_build_object(
        'guard', case when starts_with(old.sentence, 'Incident ') then 'data_incident' else 'missing_feature' end,
        'reason', old.sentence
    )), '[]')
    from jsonb_array_elements_text(blocked_by) as old (sentence)
);
"""

EVALUATIONS = """
alter table monitoring.model_evaluations
    -- Metrics with intervals, calibration, importance, slices, simple models; then the gate's checks.
    add column evaluation jsonb,
    add column checks jsonb;
"""

CHAMPIONS = """
-- Who was champion since when: a row for each promotion and each rollback. The registry's alias is what serving reads.
create table monitoring.champions (
    champion_id bigint generated always as identity primary key,
    model_name text not null,
    model_version text not null,
    feature_version text not null,
    kind text not null check (kind in ('promotion', 'rollback')),
    replaced_version text,
    because text not null,
    -- Of a rollback that a Dag run asked for; running it again does not go back further.
    dag_run_id text,
    since timestamptz not null default clock_timestamp()
);
create index champions_model on monitoring.champions (model_name, champion_id);
-- Those of before, as far as it is known.
insert into monitoring.champions (model_name, model_version, feature_version, kind, because, since)
select evaluation.model_name, evaluation.model_version, baseline.feature_version, 'promotion', evaluation.reason,
    evaluation.evaluated_at
from monitoring.model_evaluations as evaluation
inner join monitoring.model_baselines as baseline using (model_name, model_version)
where evaluation.promoted
order by evaluation.evaluated_at;
"""

DECAY = """
-- How fast a model ages, and how old it may become. One row for each backtest, one for each age it measured.
create table monitoring.decay_backtests (
    model_name text not null,
    as_of timestamptz not null,
    max_age_days integer not null,
    max_age_low_days integer not null,
    max_age_high_days integer not null,
    measured_days integer not null,
    method text not null,
    reason text not null,
    fresh_loss double precision not null,
    slope_per_day double precision not null,
    slope_low double precision not null,
    slope_high double precision not null,
    trainings integer not null,
    label_rows bigint not null,
    feature_version text not null,
    plot_svg text not null,
    made_at timestamptz not null default now(),
    primary key (model_name, as_of)
);

create table monitoring.decay_curves (
    model_name text not null,
    as_of timestamptz not null,
    age_days double precision not null,
    excess_loss double precision not null,
    excess_low double precision not null,
    excess_high double precision not null,
    spread_low double precision not null,
    spread_high double precision not null,
    pairs integer not null,
    label_rows bigint not null,
    primary key (model_name, as_of, age_days),
    foreign key (model_name, as_of) references monitoring.decay_backtests on delete cascade
);
"""

BUILDS = """
-- Which run of dbt computed an as_of first; null where that is no longer known.
alter table features.builds add column dbt_invocation_id text;
"""


def upgrade() -> None:
    """Widens decisions, evaluations and builds; creates the ledger of champions and the decay tables."""
    for statements in (DECISIONS, EVALUATIONS, CHAMPIONS, DECAY, BUILDS):
        op.execute(statements)
