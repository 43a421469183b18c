{#-
    Materialization of feature views: an append-only table keyed (as_of, entity, feature_version).

    It happens in one transaction, and one builder of a view at a time. The warehouse functions are installed from the
    compiled SQL, and the missing rows of the spine are then computed through them, batch by batch: PostgreSQL walks no
    lateral aggregate with more than one core, but it does call a function for many batches on all of them. What comes
    out is appended. A killed build leaves nothing behind.

    There is no full refresh: rows that were served stay.
-#}
{% materialization feature_view, adapter='postgres' %}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {%- if flags.EMPTY -%}
        {{ exceptions.raise_compiler_error(
            this.identifier ~ ': --empty replaces the events by nothing, and the definition with them. A feature view '
            ~ 'keeps both; use an empty database to try the project without data.') }}
    {%- endif -%}
    {%- do get_assert_columns_equivalent(sql) -%}
    {%- do prepare_feature_table() -%}
    {%- set events = events_of(model) -%}
    {%- do install_functions(sql, events) -%}
    {%- do compute_missing_rows(sql) -%}
    {%- do run_query(record_feature_version(around_spine(sql, 'spine'))) -%}
    {%- do run_query(record_build(events)) -%}

    {#- A comment takes the lock of whoever analyses the table, and a grant changes a row that the analysis writes at
        its end. In the other order the two would wait for each other. -#}
    {%- do persist_docs(this.incorporate(type='table'), model) -%}
    {%- do apply_grants(this, config.get('grants'), should_revoke=false) -%}
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
                this.identifier ~ "." ~ column.name ~ " holds " ~ stored_type(column.name) ~ ", and its YAML says "
                ~ model.columns[column.name].data_type ~ ". Rows that were served stay as they are: give the feature "
                ~ "another name, or make a dbt model version of the view.") }}
        {%- endif -%}
    {%- endfor -%}
{% endmacro %}


{% macro stored_type(name) -%}
    {%- for column in adapter.get_columns_in_relation(this) if column.name == name -%}{{ column.data_type }}{%- endfor -%}
{%- endmacro %}


{#- Batches of a thousand (entity, as_of) pairs in key order, so that a batch reads neighbouring index pages.
    The working tables are logged, although nobody reads them after a crash: of an unlogged one whose transaction ends
    because the postmaster was killed, PostgreSQL may leave a file that keeps it from starting again. -#}
{% macro compute_missing_rows(compiled) %}
    {%- set entity = entity_of(model) -%}
    {%- set batches = this.incorporate(path={'identifier': this.identifier ~ '__batches'}) -%}
    {%- set computed = this.incorporate(path={'identifier': this.identifier ~ '__computed'}) -%}
    {%- set columns = get_quoted_csv(model.columns.keys() | list) -%}
    {%- do run_query(
        'create table ' ~ batches ~ ' as'
        ~ ' select (place - 1) / 1000 as batch, ' ~ array_aggs(entity + ['as_of'])
        ~ ' from (select spine.*, row_number() over (order by ' ~ entity | join(', ') ~ ', as_of) as place from ('
        ~ spine_of(compiled) ~ ') as spine) as numbered group by batch'
    ) -%}
    {#- However small the table of batches is, the work behind each is large. -#}
    {%- do run_query('alter table ' ~ batches ~ " set (parallel_workers = " ~ parallel_workers() ~ ')') -%}
    {%- do run_query('set local parallel_setup_cost = 0; set local parallel_tuple_cost = 0') -%}
    {%- do run_query(
        'create table ' ~ computed ~ ' as select computed.* from ' ~ batches ~ ' as batch cross join lateral '
        ~ function_name('', '_as_of_each') ~ '(' ~ qualified('batch', entity + ['as_of']) ~ ') as computed'
    ) -%}
    {#- In the order of the primary key, which so grows at its end. -#}
    {% call statement('main') %}
        insert into {{ this }} ({{ columns }})
        select {{ columns }} from {{ computed }}
        order by {{ (['as_of'] + entity) | join(', ') }}
        on conflict do nothing
    {% endcall %}
    {%- do run_query('drop table ' ~ batches ~ ', ' ~ computed) -%}
{% endmacro %}


{% macro array_aggs(columns) -%}
    {%- for column in columns -%}
        array_agg({{ column }} order by place) as {{ column }}{{ ', ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}


{#- As many as the server lets one query have. -#}
{% macro parallel_workers() -%}
    {{ run_query('show max_parallel_workers_per_gather').columns[0][0] }}
{%- endmacro %}


{#- The staging model whose events a feature view aggregates. -#}
{% macro events_of(node) -%}
    {%- set parents = staging_parents(node) -%}
    {%- if parents | length != 1 -%}
        {{ exceptions.raise_compiler_error(
            node.alias ~ ' reads ' ~ parents | length ~ ' staging models. A feature view reads one; join them there.') }}
    {%- endif -%}
    {{ return(adapter.get_relation(parents[0].database, parents[0].schema, parents[0].alias)) }}
{%- endmacro %}
