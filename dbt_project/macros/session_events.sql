{#- Every reason why a row of raw.session_events cannot count, as one text; null for a good row. A tombstone
    (is_deleted) only has to say which event it withdraws, and when that became known.
    Seconds are compared, not instants: no interval holds every bigint. -#}
{% macro session_event_rejection() -%}
    nullif(concat_ws(
        ', ',
        case when event_id is null then 'event_id is missing' end,
        case when ingested_at is null then 'ingested_at is missing' end,
        case when not isfinite(ingested_at) then 'ingested_at is infinite' end,
        case when user_id is null and not is_deleted then 'user_id is missing' end,
        case when started_at is null and not is_deleted then 'started_at is missing' end,
        case when not isfinite(started_at) and not is_deleted then 'started_at is infinite' end,
        case when duration_seconds is null and not is_deleted then 'duration_seconds is missing' end,
        case when duration_seconds < 0 and not is_deleted then 'duration_seconds is negative' end,
        case
            when
                duration_seconds >= 0
                and extract(epoch from ingested_at) - extract(epoch from started_at) < duration_seconds
                and not is_deleted
                then 'ingested_at is before the session ended'
        end
    ), '')
{%- endmacro %}


{#- A version of an event is its (event_id, ingested_at). Of several rows for one version one counts, the first in this
    order: the first to arrive, but a session before a tombstone, so that what is staged never has to vanish. The order
    tells apart any two rows that differ. -#}
{% macro precedence() -%}
    is_deleted, loaded_at, source_file, source_row, user_id, event_type, started_at, duration_seconds
{%- endmacro %}
