{#- The warehouse contract names its schemas (`features`, `serving`, ...), so a model lands in exactly the schema it
    asks for, on every target; two environments are two databases. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name | trim if custom_schema_name else target.schema }}
{%- endmacro %}
