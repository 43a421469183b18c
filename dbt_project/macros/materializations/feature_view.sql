{#-
    Materialization of feature views: an append-only table keyed (as_of, entity, feature_version).

    It happens in one transaction, and one builder of a view at a time. The spine's missing rows become a table of their
    own, so that PostgreSQL knows how many there are and walks them with every core (an `insert ... select` never runs
    in parallel, a `create table as` does). What is computed is then appended, and the warehouse functions are installed
    from the very same compiled SQL. A killed build leaves nothing behind.

    There is no full refresh: rows that were served stay.
-#}
{% materialization feature_view, adapter='postgres' %}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {%- do get_assert_columns_equivalent(sql) -%}
    {%- do prepare_feature_table() -%}
    {%- do compute_missing_rows(sql) -%}
    {#- `dbt build --empty` replaces the events by nothing; that is no definition to keep. -#}
    {%- if not flags.EMPTY -%}
        {%- set events = events_of(model) -%}
        {%- do install_functions(sql, events) -%}
        {%- do run_query(record_feature_version(around_spine(sql, 'spine'), events)) -%}
    {%- endif -%}

    {%- do apply_grants(this, config.get('grants'), should_revoke=true) -%}
    {%- do persist_docs(this.incorporate(type='table'), model) -%}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {%- do adapter.commit() -%}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [this.incorporate(type='table')]}) }}
{% endmaterialization %}


{#- Creates the table when it is missing, and lets it follow the YAML: a new feature is a new column, empty in the rows
    of earlier definitions; the column of a feature that is gone stays, empty from now on.
    as_of leads the key: a run's rows land beside each other, and a snapshot is read without the rest of history. -#}
{% macro prepare_feature_table() %}
    {%- set columns = [] -%}
    {%- for column in model.columns.values() -%}
        {%- do columns.append(adapter.quote(column.name) ~ ' ' ~ column.data_type) -%}
    {%- endfor -%}
    {%- set key = ['as_of'] + entity_of(model) + ['feature_version'] -%}
    {%- do run_query('create table if not exists ' ~ this ~ ' (' ~ columns | join(', ') ~ ', primary key ('
        ~ key | join(', ') ~ '))') -%}
    {%- set present = {} -%}
    {%- for column in get_column_schema_from_query('select * from ' ~ this) -%}
        {%- do present.update({column.name: column.dtype}) -%}
    {%- endfor -%}
    {%- for column in get_column_schema_from_query(get_empty_schema_sql(model.columns)) -%}
        {%- if column.name not in present -%}
            {%- do run_query('alter table ' ~ this ~ ' add column ' ~ adapter.quote(column.name) ~ ' '
                ~ model.columns[column.name].data_type) -%}
        {%- elif present[column.name] != column.dtype -%}
            {{ exceptions.raise_compiler_error(
                this.identifier ~ "." ~ column.name ~ " holds " ~ present[column.name] ~ ", and its YAML says "
                ~ column.dtype ~ ". Rows that were served stay as they are: give the feature another name, or make a "
                ~ "dbt model version of the view.") }}
        {%- endif -%}
    {%- endfor -%}
{% endmacro %}


{% macro compute_missing_rows(compiled) %}
    {%- set spine = this.incorporate(path={'identifier': this.identifier ~ '__spine'}) -%}
    {%- set computed = this.incorporate(path={'identifier': this.identifier ~ '__computed'}) -%}
    {%- set columns = get_quoted_csv(model.columns.keys() | list) -%}
    {%- do run_query('create unlogged table ' ~ spine ~ ' as ' ~ spine_of(compiled)) -%}
    {%- do run_query('analyze ' ~ spine) -%}
    {%- do run_query(
        'create unlogged table ' ~ computed ~ ' as ' ~ around_spine(compiled, 'select * from ' ~ spine)) -%}
    {% call statement('main') %}
        insert into {{ this }} ({{ columns }})
        select {{ columns }} from {{ computed }}
        on conflict do nothing
    {% endcall %}
    {%- do run_query('drop table ' ~ spine ~ ', ' ~ computed) -%}
{% endmacro %}


{#- The staging model whose events a feature view aggregates. -#}
{% macro events_of(node) -%}
    {%- set parents = [] -%}
    {%- for parent_id in node.depends_on.nodes if graph.nodes.get(parent_id, {}).get('fqn', ['', ''])[1] == 'staging' -%}
        {%- do parents.append(graph.nodes[parent_id]) -%}
    {%- endfor -%}
    {%- if parents | length != 1 -%}
        {{ exceptions.raise_compiler_error(
            node.alias ~ ' reads ' ~ parents | length ~ ' staging models. A feature view reads one; join them there.') }}
    {%- endif -%}
    {{ return(adapter.get_relation(parents[0].database, parents[0].schema, parents[0].alias)) }}
{%- endmacro %}
