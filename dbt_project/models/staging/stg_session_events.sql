{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        on_schema_change='append_new_columns',
        unique_key='event_id',
        indexes=[
            {'columns': ['event_id', 'ingested_at'], 'unique': true},
            {'columns': ['loaded_at']},
        ],
        post_hook=[
            "{{ covering_index(this, 'user_id') }}",
            "{{ covering_index(this, 'event_type') }}",
            "analyze {{ this }}",
        ],
    )
}}

with

valid as not materialized (

    select * from {{ source('raw', 'session_events') }}
    where {{ session_event_rejection() }} is null

),

{% if is_incremental() %}
-- A long load commits rows whose loaded_at is older than rows already staged, hence the overlap.
changed as (

    select distinct valid.event_id
    from valid
    where
        valid.loaded_at >= (
            select coalesce(max(staged.loaded_at) - interval '6 hours', '-infinity')
            from {{ this }} as staged
        )
        and not exists (
            select 1
            from {{ this }} as staged
            where
                staged.event_id = valid.event_id
                and staged.ingested_at = valid.ingested_at
                and staged.loaded_at <= valid.loaded_at
        )

),
{% endif %}

first_rows as (

    select distinct on (event_id, ingested_at) *
    from valid
    {% if is_incremental() %}
    where event_id in (select changed.event_id from changed)
    {% endif %}
    order by event_id, ingested_at, {{ precedence() }}

),

versions as (

    select
        *,
        lead(ingested_at) over next_version as superseded_at,
        lead(loaded_at) over next_version as superseded_loaded_at
    from first_rows
    window next_version as (partition by event_id order by ingested_at)

)

select
    ----------  ids
    event_id,
    user_id,
    event_type,

    ----------  times
    started_at,
    ingested_at,
    superseded_at,
    loaded_at,
    superseded_loaded_at,

    ----------  measures
    duration_seconds

from versions
where not is_deleted
