{{
    config(
        materialized='incremental',
        incremental_strategy='insert_missing',
        on_schema_change='append_new_columns',
        full_refresh=false,
        indexes=[
            {'columns': ['user_id', 'as_of', 'feature_version'], 'unique': true},
            {'columns': ['as_of']},
        ],
        post_hook="{{ record_feature_version() }}",
    )
}}

{% call feature_view(
    spine=ref('user_spine'),
    events=ref('stg_session_events'),
    entity='user_id',
    lookback_days=90,
) %}
    count(*) as session_count,
    coalesce(sum(duration_seconds)::double precision / nullif(60 * count(*), 0), 0) as avg_session_duration_minutes,
    coalesce(floor(extract(epoch from spine.as_of - max(started_at)) / 86400)::bigint, 999) as days_since_last_session,
    count(*) filter (where started_at > spine.as_of - interval '7 days') as sessions_last_7_days,
    count(*) filter (where started_at > spine.as_of - interval '30 days') as sessions_last_30_days,
{% endcall %}
