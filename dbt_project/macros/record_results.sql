{#-
    Keeps in monitoring.dbt_results how each model, test and unit test of this run ended: what is built and tested hour by
    hour is then evidence, and how long it takes is known. At the end of `dbt build`, `run` and `test`; one insert.

    A run of `--empty` is none: what it builds and tests is nothing.
-#}
{% macro record_results(results) %}
    {%- set ran = [] -%}
    {%- for result in (results or []) if result.node.resource_type in ['model', 'test', 'unit_test']
        and result.node.package_name == project_name -%}
        {%- do ran.append(result) -%}
    {%- endfor -%}
    {%- if execute and ran and not flags.EMPTY -%}
        {%- do refuse_a_warehouse_without_results() -%}
        {{ insert_results(ran) }}
    {%- endif -%}
{% endmacro %}


{% macro refuse_a_warehouse_without_results() %}
    {%- if run_query("select to_regclass('monitoring.dbt_results') is null").columns[0][0] -%}
        {{ exceptions.raise_compiler_error(
            "monitoring.dbt_results does not exist, so what this run did is not kept. Bring the warehouse's tables up to "
            ~ "date with `make warehouse`, then run dbt again.") }}
    {%- endif -%}
{% endmacro %}


{#- What is too old goes with it: a few rows at a time, and never waiting for another run that does the same. -#}
{% macro insert_results(results) %}
    insert into monitoring.dbt_results (
        dbt_invocation_id, unique_id, resource_type, name, dbt_model, column_name, status, failures, seconds, as_of
    )
    select '{{ invocation_id }}', ran.*, {{ as_of_of_run() }}
    from (
        values
        {%- for result in results %}
        (
            {{ text_literal(result.node.unique_id) }},
            {{ text_literal(result.node.resource_type) }},
            {{ text_literal(result.node.name) }},
            {{ text_literal(tested_model(result.node)) }},
            {{ text_literal(result.node.column_name) }},
            {{ text_literal(result.status) }},
            {{ result.failures if result.failures is not none else 'null' }}::bigint,
            {{ result.execution_time }}::double precision
        ){{ ',' if not loop.last }}
        {%- endfor %}
    ) as ran
    on conflict do nothing;
    delete from monitoring.dbt_results where (dbt_invocation_id, unique_id) in (
        select dbt_invocation_id, unique_id from monitoring.dbt_results
        where ran_at < now() - interval '{{ var("keep_results_days") }} days'
        limit 1000
        for update skip locked
    );
{% endmacro %}


{#- The instant that the run was given, or null; what as_of() would guess is nobody's word. -#}
{% macro as_of_of_run() -%}
    {%- set given = var('as_of', none) or env_var('SKEWLESS_AS_OF', '') -%}
    {{ utc_instant(given) if given else 'null::timestamptz' }}
{%- endmacro %}


{#- The name in the warehouse of the model that a node is, or is attached to. -#}
{% macro tested_model(node) %}
    {%- if node.resource_type == 'model' -%}
        {{ return(node.alias) }}
    {%- endif -%}
    {%- set attached = node.attached_node if node.resource_type == 'test' else node.tested_node_unique_id -%}
    {%- for unique_id in [attached] + (node.depends_on.nodes | list) if unique_id in graph.nodes -%}
        {{ return(graph.nodes[unique_id].alias) }}
    {%- endfor -%}
    {{ return(none) }}
{% endmacro %}


{#- A text as a literal, quotes and all; none is null. -#}
{% macro text_literal(text) -%}
    {%- if text is none or text is undefined -%}
        null::text
    {%- else -%}
        {{ dbt.string_literal(dbt.escape_single_quotes(text | string)) }}::text
    {%- endif -%}
{%- endmacro %}
