{#- An index for the features of one entity that answers without touching the table. dbt's own `indexes` knows no
    `include`. In a full refresh the table that is replaced, which dbt drops a moment later, still has an index of that
    name; it goes first. -#}
{% macro covering_index(events, entity) -%}
    {%- set keys = ([entity] if entity is string else entity) + ['started_at'] -%}
    {%- set include = [] -%}
    {%- for column in ['user_id', 'event_type', 'duration_seconds', 'ingested_at', 'superseded_at'] if column not in keys -%}
        {%- do include.append(column) -%}
    {%- endfor -%}
    {%- set name = events.identifier ~ '_' ~ local_md5(keys | join(','))[:8] -%}
    do $index$
    begin
        if exists (
            select from pg_catalog.pg_index
            where indexrelid = to_regclass('{{ events.schema }}.{{ name }}') and indrelid <> '{{ events }}'::regclass
        ) then
            drop index {{ events.schema }}.{{ name }};
        end if;
        create index if not exists {{ name }}
        on {{ events }} ({{ keys | join(', ') }}) include ({{ include | join(', ') }});
    end
    $index$
{%- endmacro %}
