{#- Staging is private to the feature store, so reading it from elsewhere does not parse. The raw events behind it are a
    source, which dbt lets everybody read; this refuses that before a run begins. -#}
{% macro refuse_shortcuts() %}
    {%- for node in (graph.nodes.values() if execute else []) if node.resource_type == 'model'
        and node.fqn[1] not in ['staging', 'features'] -%}
        {%- for parent_id in node.depends_on.nodes if graph.sources.get(parent_id, {}).get('source_name') == 'raw' -%}
            {{ exceptions.raise_compiler_error(
                node.original_file_path ~ " reads " ~ parent_id.split('.')[-2:] | join('.') ~ ". Only staging reads raw "
                ~ "events, and only feature views compute from them: write it as a feature, then select it.") }}
        {%- endfor -%}
    {%- endfor -%}
{% endmacro %}
