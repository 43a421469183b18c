{#- Every reason why a row of raw.session_events cannot count, as one text; null for a good row. A tombstone
    (is_deleted) only has to say which event it withdraws, and when that became known. -#}
{% macro session_event_rejection() -%}
    nullif(concat_ws(
        ', ',
        case when event_id is null then 'event_id is missing' end,
        case when ingested_at is null then 'ingested_at is missing' end,
        case when user_id is null and not is_deleted then 'user_id is missing' end,
        case when started_at is null and not is_deleted then 'started_at is missing' end,
        case when duration_seconds is null and not is_deleted then 'duration_seconds is missing' end,
        case when duration_seconds < 0 then 'duration_seconds is negative' end,
        case
            when duration_seconds >= 0 and ingested_at < started_at + duration_seconds * interval '1 second'
                then 'ingested_at is before the session ended'
        end
    ), '')
{%- endmacro %}
