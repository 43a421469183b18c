{#-
    The version of a feature view: a hash of its SQL, of every staging model it reads and of every macro of this
    project that any of them calls. Rows of different definitions so stay apart, and editing a comment elsewhere
    changes nothing. The spine decides for whom and when, not what, and is left out.
-#}
{% macro feature_version(feature_view) -%}
    {%- if execute -%}
        {%- set view = feature_node(feature_view) -%}
        {%- set parts = [] -%}
        {%- set macros = [] -%}
        {%- for node in [view] + staging_parents(view) -%}
            {%- do parts.append(node.raw_code) -%}
            {%- do macros.extend(node.depends_on.macros) -%}
        {%- endfor -%}
        {%- for macro in macros | unique | sort if macro.startswith('macro.skewless.') -%}
            {%- do parts.append(context[macro.split('.')[-1]].macro.macro_sql) -%}
        {%- endfor -%}
        {%- do parts.append(default__feature_view.macro.macro_sql) -%}
        {{- local_md5(parts | join('\n'))[:12] -}}
    {%- endif -%}
{%- endmacro %}


{% macro feature_node(feature_view) %}
    {{ return(graph.nodes['model.skewless.' ~ feature_view]) }}
{% endmacro %}


{% macro staging_parents(node) %}
    {%- set found = [] -%}
    {%- for parent_id in node.depends_on.nodes | sort -%}
        {%- set parent = graph.nodes.get(parent_id) -%}
        {%- if parent and parent.fqn[1] == 'staging' -%}
            {%- do found.append(parent) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}


{#- Keeps the history of definitions, newest `last_built_at` being the current one; publishing reads it. -#}
{% macro record_feature_version() %}
    insert into features.feature_versions (feature_view, feature_version, definition)
    values ('{{ this.identifier }}', '{{ feature_version(this.identifier) }}', $definition${{ model.raw_code }}$definition$)
    on conflict (feature_view, feature_version) do update set last_built_at = now()
{% endmacro %}
