{#- An index for the features of one entity that answers without touching the table. dbt's own `indexes` knows no
    `include`. -#}
{% macro covering_index(events, entity) -%}
    {%- set keys = ([entity] if entity is string else entity) + ['started_at'] -%}
    {%- set include = [] -%}
    {%- for column in ['user_id', 'event_type', 'duration_seconds', 'ingested_at', 'superseded_at'] if column not in keys -%}
        {%- do include.append(column) -%}
    {%- endfor -%}
    create index if not exists {{ events.identifier ~ '_' ~ local_md5(keys | join(','))[:8] }}
    on {{ events }} ({{ keys | join(', ') }}) include ({{ include | join(', ') }})
{%- endmacro %}
