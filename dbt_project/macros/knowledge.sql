{#-
    What is known at as_of, rule by rule: an event counts when every rule holds, and the reason says why one does not.
    `known` is the event, `spine.as_of` the instant. Corrections and withdrawals are later versions of an event, so
    the version that was current at as_of counts: ingested_at <= as_of < superseded_at.
-#}
{% macro rules_of_knowledge(lookback_days) %}
    {{ return([
        {
            'holds': "known.started_at > spine.as_of - " ~ whole_days(lookback_days),
            'reason': 'outside the lookback of ' ~ lookback_days ~ ' days',
        },
        {
            'holds': 'known.started_at <= spine.as_of',
            'reason': 'had not happened by as_of',
        },
        {
            'holds': 'known.ingested_at <= spine.as_of',
            'reason': 'too late: arrived after as_of',
        },
        {
            'holds': '(known.superseded_at is null or spine.as_of < known.superseded_at)',
            'reason': 'superseded by a later version, or withdrawn, by as_of',
        },
    ]) }}
{% endmacro %}


{#- Days of 24 hours. PostgreSQL adds days by the calendar, which costs more than all else that is done with an event;
    hours it only adds. -#}
{% macro whole_days(days) -%}
    interval '{{ days * 24 }} hours'
{%- endmacro %}


{#- The part of the lookback that a feature counts, for `filter (where ...)`. -#}
{% macro in_last(days) -%}
    known.started_at > spine.as_of - {{ whole_days(days) }}
{%- endmacro %}


{#- The mean of a whole number of seconds, in minutes; 0 without events. Summed as integers and divided once, so that a
    recomputation agrees to the last bit, whatever the plan. -#}
{% macro mean_minutes(seconds) -%}
    coalesce(sum({{ seconds }})::double precision / nullif(60 * count(*), 0), 0)
{%- endmacro %}


{#- Whole days from the last event to as_of; 999 without events. -#}
{% macro days_since_last() -%}
    coalesce(floor(extract(epoch from spine.as_of - max(known.started_at)) / 86400)::bigint, 999)
{%- endmacro %}
