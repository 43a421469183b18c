{#-
    Views are replaced in place. dbt's own way on PostgreSQL is to rename and drop, and with the old view go all views
    that others have made on it, and their grants. Here a view whose columns stay, or that gains some at its end, keeps
    them; only when a column went away or changed its type is it dropped, and PostgreSQL refuses that while somebody
    depends on it.
-#}
{% materialization view, adapter='postgres' %}
    {%- set existing = load_relation(this) -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {%- if config.get('contract').enforced -%}
        {%- do get_assert_columns_equivalent(sql) -%}
    {%- endif -%}
    {%- if existing is not none and not (existing.is_view and is_replaceable(existing, sql)) -%}
        {%- do run_query('drop ' ~ existing.type ~ ' ' ~ existing) -%}
    {%- endif -%}
    {% call statement('main') %}
        create or replace view {{ this }} as
        {{ sql }}
    {% endcall %}

    {%- do apply_grants(this, config.get('grants'), should_revoke=false) -%}
    {%- do persist_docs(this.incorporate(type='view'), model) -%}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {%- do adapter.commit() -%}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [this.incorporate(type='view')]}) }}
{% endmaterialization %}


{#- Whether the query's columns begin with those of the view. -#}
{% macro is_replaceable(view, query) %}
    {%- set before = format_columns(get_column_schema_from_query('select * from ' ~ view)) -%}
    {%- set after = format_columns(get_column_schema_from_query(query)) -%}
    {{ return(after[:before | length] == before) }}
{% endmacro %}
