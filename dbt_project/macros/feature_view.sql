{#-
    The one way to compute features: aggregates over "the events of this entity that were known at as_of".

    A feature view calls this with its aggregates as the body, and says nothing about time or joins:

        {% call feature_view(spine=ref('user_spine'), events=ref('stg_session_events'), entity='user_id',
                             lookback_days=90) %}
            count(*) as session_count,
        {% endcall %}

    Inside the body `known` is one row per known event within the lookback, and `spine.as_of` the instant. An event is
    known at as_of when it had happened and its record had arrived, and no later version of it had:

        started_at <= as_of  and  ingested_at <= as_of  and  (superseded_at is null or as_of < superseded_at)

    Windows are half-open: (as_of - lookback, as_of].
-#}
{% macro feature_view(spine, events, entity, lookback_days) -%}
    {{ return(adapter.dispatch('feature_view', 'skewless')(spine, events, entity, lookback_days, caller)) }}
{%- endmacro %}


{#-
    On PostgreSQL each spine row walks the covering index (entity, started_at) of the events: no sort and no spill,
    whatever the history. See https://www.postgresql.org/docs/current/queries-table-expressions.html#QUERIES-LATERAL
-#}
{% macro default__feature_view(spine, events, entity, lookback_days, body) -%}
select
    ----------  ids
    spine.{{ entity }},
    spine.as_of,

    ----------  features
    computed.*,

    ----------  definition
    '{{ feature_version(model.name) }}'::text as feature_version

from ({{ missing_spine_rows(spine, entity) }}) as spine
cross join lateral (
    select
        {{ body() | trim | trim(',') }}
    from {{ events }} as known
    where
        known.{{ entity }} = spine.{{ entity }}
        and known.started_at > spine.as_of - interval '{{ lookback_days }} days'
        and known.started_at <= spine.as_of
        and known.ingested_at <= spine.as_of
        and (known.superseded_at is null or spine.as_of < known.superseded_at)
) as computed
{%- endmacro %}


{#- Rows, once written, never change: a run computes only the (entity, as_of) pairs that its definition lacks.
    In key order, so that neighbouring rows read neighbouring index pages. -#}
{% macro missing_spine_rows(spine, entity) %}
    select wanted.{{ entity }}, wanted.as_of
    from {{ spine }} as wanted
    {%- if is_incremental() %}
    where not exists (
        select 1
        from {{ this }} as present
        where
            present.{{ entity }} = wanted.{{ entity }}
            and present.as_of = wanted.as_of
            and present.feature_version = '{{ feature_version(model.name) }}'
    )
    {%- endif %}
    order by wanted.{{ entity }}, wanted.as_of
{% endmacro %}
