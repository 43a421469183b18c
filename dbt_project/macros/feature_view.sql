{#-
    The one way to compute features: aggregates over "the events of this entity that were known at as_of".

    A feature view calls this with its aggregates as the body, and says nothing about time, joins or entities:

        {% call feature_view(events=ref('stg_session_events'), labels=[ref('churn_labels')]) %}
            count(*) as session_count,
            count(*) filter (where {{ in_last(days=7) }}) as sessions_last_7_days,
        {% endcall %}

    The YAML's config.meta names the entity (a column of the events, or a list of columns) and lookback_days. Inside the
    body `known` is one row per known event within the lookback, and `spine.as_of` the instant; macros/knowledge.sql
    says what is known. Windows are half-open: (as_of - days, as_of].

    Rows are wanted for every entity known at the run's as_of, which is what serving needs, and for every row of
    `labels` at the as_of whose features were live at its label_at, which is what training needs (macros/spine.sql).

    Arguments:
        events: a staging model with the entity's columns, started_at, ingested_at, superseded_at and loaded_at.
        labels: label tables (the entity's columns, label_at) that train on this view.
-#}
{% macro feature_view(events, labels=[]) -%}
    {{- config(materialized='feature_view') -}}
    {%- set body = caller() | trim | trim(',') -%}
    {#- While dbt parses, the YAML is not known yet; it only has to see what this model refers to. -#}
    {%- if execute -%}
        {%- do refuse_an_incomplete_declaration() -%}
        {%- do refuse_what_is_no_function_of_as_of(body, model.config.meta.lookback_days) -%}
        {{ return(adapter.dispatch('feature_view', 'skewless')(events, entity_of(model), labels, body)) }}
    {%- endif -%}
{%- endmacro %}


{#-
    On PostgreSQL each spine row walks the covering index (entity, started_at) of the events: no sort and no spill,
    whatever the history. See https://www.postgresql.org/docs/current/queries-table-expressions.html#QUERIES-LATERAL
-#}
{% macro default__feature_view(events, entity, labels, body) -%}
select
    ----------  ids
    {{ qualified('spine', entity) }},
    spine.as_of,

    ----------  features
    computed.*,

    ----------  definition
    '{{ feature_version(model.alias) }}'::text as feature_version

from (
    {{ spine_marks().begin }}
    {{ missing_spine_rows(events, entity, labels) }}
    {{ spine_marks().end }}
) as spine
cross join lateral (
    select
        {{ body }}
    from {{ events }} as known
    where
        {{ same_key('known', 'spine', entity) }}
        {%- for rule in rules_of_knowledge(model.config.meta.lookback_days) %}
        and {{ rule.holds }}
        {%- endfor %}
) as computed
{%- endmacro %}


{#- What stands between these marks says for whom and when. Training, serving and the as-of function are the same
    definition around another spine; see `around_spine`. -#}
{% macro spine_marks() %}
    {{ return({'begin': '/* spine */', 'end': '/* end of spine */'}) }}
{% endmacro %}


{#- The spine of a compiled feature view. -#}
{% macro spine_of(compiled) -%}
    {%- set marks = spine_marks() -%}
    {{ return(compiled.split(marks.begin)[1].split(marks.end)[0]) }}
{%- endmacro %}


{#- A compiled feature view with another spine. Without the database's name, so that it can be kept, compared and
    installed anywhere. -#}
{% macro around_spine(compiled, spine) -%}
    {{ return(compiled | replace(spine_of(compiled), ' ' ~ spine ~ ' ')
        | replace(adapter.quote(this.database) ~ '.', '')) }}
{%- endmacro %}


{% macro refuse_an_incomplete_declaration() -%}
    {%- for key in ['entity', 'lookback_days', 'expires_after'] if key not in model.config.meta -%}
        {{ exceptions.raise_compiler_error(
            model.alias ~ ": its YAML needs config.meta." ~ key ~ ", as models/features/user_session_features.yml has it.") }}
    {%- endfor -%}
{%- endmacro %}


{#- A definition that reads a clock or rolls dice gives another answer when it is recomputed, and a window longer than
    the lookback is shorter than its name says. -#}
{% macro refuse_what_is_no_function_of_as_of(body, lookback_days) -%}
    {%- set clocks = 'now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday|random|random_normal'
        ~ '|gen_random_uuid' -%}
    {%- set constants = 'current_timestamp|current_date|current_time|localtimestamp|localtime' -%}
    {%- set found = modules.re.search('(?i)\\b((' ~ clocks ~ ')\\s*\\(|(' ~ constants ~ ')\\b)', body) -%}
    {%- if found -%}
        {{ exceptions.raise_compiler_error(
            model.alias ~ ": '" ~ found[0] ~ "' gives another answer each time. A feature is a function of the events "
            ~ "known at as_of; write spine.as_of for the time.") }}
    {%- endif -%}
    {%- for number, unit in modules.re.findall("(?i)interval\\s*'(\\d+)\\s*(day|hour)s?'", body) -%}
        {%- set days = number | int / (24 if unit | lower == 'hour' else 1) -%}
        {%- if days > lookback_days -%}
            {{ exceptions.raise_compiler_error(
                model.alias ~ ": a window of " ~ days | int ~ " days sees no further back than lookback_days="
                ~ lookback_days ~ ". Raise lookback_days or shorten the window.") }}
        {%- endif -%}
    {%- endfor -%}
{%- endmacro %}


{#- The entity of a feature view, as a list of its key columns. -#}
{% macro entity_of(node) -%}
    {%- set entity = node.config.meta.entity -%}
    {{ return([entity] if entity is string else entity) }}
{%- endmacro %}


{#- The feature columns of a feature view, in the order of its YAML. -#}
{% macro feature_names(node) -%}
    {%- set names = [] -%}
    {%- for column in node.columns.values() if (column.config.meta or {}).get('feature') -%}
        {%- do names.append(column.name) -%}
    {%- endfor -%}
    {{ return(names) }}
{%- endmacro %}


{#- `spine.a, spine.b` -#}
{% macro qualified(relation, columns) -%}
    {%- for column in columns -%}
        {{ relation }}.{{ column }}{{ ', ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}


{#- `one.a = other.a and one.b = other.b`: column by column, so that no two keys look alike. -#}
{% macro same_key(one, other, columns) -%}
    {%- for column in columns -%}
        {{ one }}.{{ column }} = {{ other }}.{{ column }}{{ ' and ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}
