{#- An index that answers without touching the table: dbt's own `indexes` knows no `include`. -#}
{% macro covering_index(relation, columns, include) -%}
    create index if not exists {{ relation.identifier ~ '_' ~ local_md5(columns | join(','))[:8] }}
    on {{ relation }} ({{ columns | join(', ') }}) include ({{ include | join(', ') }})
{%- endmacro %}
