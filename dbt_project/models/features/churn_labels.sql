{{
    config(
        materialized='incremental',
        incremental_strategy='insert_missing',
        on_schema_change='fail',
        indexes=[{'columns': ['user_id', 'label_at'], 'unique': true}],
    )
}}

{#- While dbt parses, the YAML's meta is not known yet; any numbers will do then. -#}
{%- set meta = model.config.meta if execute else dict(horizon_days=1, grace_days=1, parameters=dict(
    anchor='2000-01-01', every_days=1, active_within_days=1, warm_up_days=1
)) %}
{%- set label = dict(meta.parameters, horizon_days=meta.horizon_days, grace_days=meta.grace_days) %}

{#- Read in three places, so not a CTE: PostgreSQL would copy it and lose its index. -#}
{%- set events = ref('stg_session_events') %}

with

-- Anchored to the calendar, not to the run, so that every run agrees on the label times. They begin when the first
-- record arrived: a record that arrives late, however far back it happened, adds none.
label_times as (

    select
        label_at,
        label_at + interval '{{ label.horizon_days }} days' as horizon_ends_at,
        label_at + interval '{{ label.horizon_days + label.grace_days }} days' as matured_at
    from
        generate_series(
            (
                select date_bin('{{ label.every_days }} days', min(ingested_at), {{ utc_instant(label.anchor) }})
                from {{ events }}
            ) + interval '{{ label.warm_up_days }} days',
            {{ as_of() }} - interval '{{ label.horizon_days + label.grace_days }} days',
            interval '{{ label.every_days }} days'
        ) as label_at
    {% if is_incremental() %}
    where label_at not in (select distinct present.label_at from {{ this }} as present)
    {% endif %}

),

users as (

    select
        user_id,
        min(started_at) as first_started_at,
        max(started_at) as last_started_at
    from {{ events }}
    group by user_id

),

-- One walk over the covering index for each user and label time that may count, as in a feature view.
outcomes as (

    select
        users.user_id,
        label_times.label_at,
        label_times.matured_at,
        counted.sessions_before,
        counted.sessions_after
    from users
    inner join label_times
        on
            users.first_started_at <= label_times.label_at
            and users.last_started_at > label_times.label_at - interval '{{ label.active_within_days }} days'
    cross join lateral (
        select
            count(*) filter (
                where events.started_at <= label_times.label_at
                and events.ingested_at <= label_times.label_at
                and (events.superseded_at is null or label_times.label_at < events.superseded_at)
            ) as sessions_before,
            count(*) filter (
                where events.started_at > label_times.label_at
                and events.ingested_at <= label_times.matured_at
                and (events.superseded_at is null or label_times.matured_at < events.superseded_at)
            ) as sessions_after
        from {{ events }} as events
        where
            events.user_id = users.user_id
            and events.started_at > label_times.label_at - interval '{{ label.active_within_days }} days'
            and events.started_at <= label_times.horizon_ends_at
    ) as counted

)

select
    user_id,
    label_at,
    matured_at,
    sessions_after = 0 as churned
from outcomes
where sessions_before > 0
