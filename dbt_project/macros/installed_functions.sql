{#-
    The warehouse functions of a feature view, generated from its compiled model so that nothing is typed twice:

        <view>_as_of(<key>s[], ..., as_of)         its rows for these entities, known or not, at any instant
        <view>_as_of_each(<key>s[], ..., as_of[])  the same with an instant for each entity; it fills the table
        <view>_entities(as_of)                     the entities known at an instant
        <view>_known_until(as_of)                  when the newest record arrived that was known at an instant
        explain_<view>(<key>, ..., as_of)          the events of one entity: those that counted, and why others did not

    Function bodies are texts, so rebuilding a table below does not drop them. They compute in UTC whatever the caller's
    time zone, in which a day may have 23 hours.

    Who may select from the view may call <view>_as_of and <view>_known_until, although the events they read are not for
    them: these run with their owner's rights, so nothing in them may depend on the caller's search path. The others run
    with the caller's.
-#}
{% macro install_functions(compiled, events) %}
    {%- set entity = entity_of(model) -%}
    {%- set instant = '$' ~ (entity | length + 1) -%}
    {%- set at_one_instant = 'select ' ~ entity | join(', ') ~ ', ' ~ instant ~ ' as as_of from '
        ~ unnested(entity) -%}
    {%- set each_at_its_own = 'select * from ' ~ unnested(entity + ['as_of']) -%}
    {%- do run_query(as_of_function('_as_of', 'timestamptz', compiled, at_one_instant, is_for_readers=true)) -%}
    {%- do run_query(as_of_function('_as_of_each', 'timestamptz[]', compiled, each_at_its_own)) -%}
    {%- do run_query(entities_function(events, entity)) -%}
    {%- do run_query(known_until_function(events)) -%}
    {%- do run_query(explain_function(events, entity, model.config.meta.lookback_days)) -%}
    {%- do run_query(grant_to_readers(entity, config.get('grants', {}).get('select', []))) -%}
{% endmacro %}


{% macro grant_to_readers(entity, readers) -%}
    {%- set types = [] -%}
    {%- for column in entity -%}{%- do types.append(model.columns[column].data_type ~ '[]') -%}{%- endfor -%}
    {%- set as_of = function_name('', '_as_of') ~ '(' ~ (types + ['timestamptz']) | join(', ') ~ ')' -%}
    {%- set functions = as_of ~ ', ' ~ function_name('', '_known_until') ~ '(timestamptz)' -%}
revoke execute on function {{ functions }} from public;
{%- if readers %}
grant execute on function {{ functions }} to {{ ([readers] if readers is string else readers) | join(', ') }};
{%- endif %}
{%- endmacro %}


{% macro known_until_function(events) -%}
create or replace function {{ function_name('', '_known_until') }}(as_of timestamptz)
returns timestamptz
language sql stable parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $known$
select max(ingested_at) from {{ events.include(database=false) }} where ingested_at <= $1
$known$
{%- endmacro %}


{#- The function's array parameters, side by side, as a relation with these columns. -#}
{% macro unnested(columns) -%}
    rows from (
    {%- for column in columns %}unnest(${{ loop.index }}){{ ', ' if not loop.last }}{% endfor -%}
    ) as wanted ({{ columns | join(', ') }})
{%- endmacro %}


{% macro function_name(prefix, suffix) -%}
    {{ adapter.quote(this.schema) }}.{{ adapter.quote(prefix ~ this.identifier ~ suffix) }}
{%- endmacro %}


{#- The key columns' types, which the contract's YAML names. -#}
{% macro key_parameters(entity, plural='') -%}
    {%- for column in entity -%}
        {{ column }}{{ 's' if plural }} {{ model.columns[column].data_type }}{{ plural }},{{ ' ' }}
    {%- endfor -%}
{%- endmacro %}


{% macro as_of_function(suffix, instant_type, compiled, spine, is_for_readers=false) -%}
create or replace function {{ function_name('', suffix) }}({{ key_parameters(entity_of(model), '[]') }}as_of {{ instant_type }})
returns setof {{ this.include(database=false) }}
language sql stable parallel safe
{%- if is_for_readers %}
security definer
{%- endif %}
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $as_of$
select
    {%- for column in adapter.get_columns_in_relation(this) %}
    {% if column.name not in model.columns -%} null::{{ column.data_type }} as {% endif -%}
    {{ adapter.quote(column.name) }}{{ ',' if not loop.last }}
    {%- endfor %}
from (
{{ around_spine(compiled, spine) }}
) as computed
$as_of$
{%- endmacro %}


{% macro entities_function(events, entity) -%}
create or replace function {{ function_name('', '_entities') }}(as_of timestamptz)
returns table (
    {%- for column in entity %}{{ column }} {{ model.columns[column].data_type }}{{ ', ' if not loop.last }}{% endfor -%}
)
language sql stable parallel safe
as $entities$
{{ known_entities(events.include(database=false), entity, '$1') }}
$entities$
{%- endmacro %}


{% macro explain_function(events, entity, lookback_days) -%}
    {%- set event_columns = [] -%}
    {%- for column in adapter.get_columns_in_relation(events) if column.name not in entity -%}
        {%- do event_columns.append(column) -%}
    {%- endfor -%}
-- Not replaced: the events may have gained a column since.
drop function if exists {{ function_name('explain_', '') }};
create function {{ function_name('explain_', '') }}({{ key_parameters(entity) }}as_of timestamptz)
returns table (
    counted boolean,
    reason text
    {%- for column in event_columns %},
    {{ adapter.quote(column.name) }} {{ column.data_type }}
    {%- endfor %}
)
language sql stable parallel safe
set timezone = 'UTC'
as $explain$
select
    judged.reason is null as counted,
    judged.reason
    {%- for column in event_columns %},
    judged.{{ adapter.quote(column.name) }}
    {%- endfor %}
from (
    select
        known.*,
        nullif(concat_ws(
            '; '
            {%- for rule in rules_of_knowledge(lookback_days) %},
            case when not {{ rule.holds }} then '{{ rule.reason }}' end
            {%- endfor %}
        ), '') as reason
    from {{ events.include(database=false) }} as known
    cross join (select ${{ entity | length + 1 }} as as_of) as spine
    where
        {%- for column in entity %}
        {{ 'and ' if not loop.first }}known.{{ column }} = ${{ loop.index }}
        {%- endfor %}
) as judged
order by judged.started_at, judged.ingested_at
$explain$
{%- endmacro %}
