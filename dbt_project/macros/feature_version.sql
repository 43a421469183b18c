{#-
    The version of a feature view: a hash of its SQL, entity and lookback, of every staging model that it reads,
    directly or through another, and of every macro of this project that any of them uses. Rows of different
    definitions so stay apart, and editing a comment elsewhere changes nothing. The spine decides for whom and when,
    not what, and is left out.
-#}
{% macro feature_version(feature_view) -%}
    {%- if execute -%}
        {%- set view = feature_node(feature_view) -%}
        {%- set nodes = [view] + staging_ancestors(view) -%}
        {%- set parts = [entity_of(view) | join(','), view.config.meta.lookback_days | string] -%}
        {%- set macros = [] -%}
        {%- for node in nodes -%}
            {%- do parts.append(node.raw_code) -%}
            {%- do collect_macros(node.depends_on.macros + called_in(node.raw_code), macros) -%}
        {%- endfor -%}
        {%- for macro in macros | sort -%}
            {%- do parts.append(context[macro].macro.macro_sql) -%}
        {%- endfor -%}
        {{- local_md5(parts | join('\n'))[:12] -}}
    {%- endif -%}
{%- endmacro %}


{#- The dbt model that is stored under this name. Its alias, since versions of a model share their name. -#}
{% macro feature_node(feature_view) %}
    {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.alias == feature_view -%}
        {{ return(node) }}
    {%- endfor -%}
    {{ exceptions.raise_compiler_error("There is no feature view '" ~ feature_view ~ "'.") }}
{% endmacro %}


{#- The staging models that a model reads itself. -#}
{% macro staging_parents(node) %}
    {%- set found = [] -%}
    {%- for parent_id in node.depends_on.nodes | sort if parent_id in graph.nodes -%}
        {%- if graph.nodes[parent_id].fqn[1] == 'staging' -%}
            {%- do found.append(graph.nodes[parent_id]) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}


{#- Those, and the staging models that they read in turn. -#}
{% macro staging_ancestors(node) %}
    {%- set found = [] -%}
    {%- for parent in staging_parents(node) -%}
        {%- do found.append(parent) -%}
        {%- do found.extend(staging_ancestors(parent)) -%}
    {%- endfor -%}
    {{ return(found | unique(attribute='unique_id') | sort(attribute='unique_id') | list) }}
{% endmacro %}


{#- The project's macros that a model calls. dbt itself overlooks those inside a call block. -#}
{% macro called_in(raw_code) %}
    {%- set found = [] -%}
    {%- for name in modules.re.findall('\\w+(?=\\s*\\()', raw_code) -%}
        {%- if context.get(name) and context[name].macro is defined and context[name].macro.package_name == 'skewless' -%}
            {%- do found.append('macro.skewless.' ~ name) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}


{#- Adds the project's own macros among `unique_ids`, and those they call, to `found`. -#}
{% macro collect_macros(unique_ids, found) %}
    {%- set left_out = [
        'missing_spine_rows', 'feature_version', 'refuse_an_incomplete_declaration',
        'refuse_what_is_no_function_of_as_of',
    ] -%}
    {%- for unique_id in unique_ids if unique_id.startswith('macro.skewless.') -%}
        {%- set name = unique_id.split('.')[-1] -%}
        {%- if name not in found and name not in left_out -%}
            {%- do found.append(name) -%}
            {%- do collect_macros(context[name].macro.depends_on.macros, found) -%}
        {%- endif -%}
    {%- endfor -%}
{% endmacro %}


{#- Keeps the history of definitions, newest `last_built_at` being the current one. -#}
{% macro record_feature_version(definition) %}
    insert into features.feature_versions (feature_view, feature_version, definition)
    values ('{{ this.identifier }}', '{{ feature_version(this.identifier) }}', $definition${{ definition }}$definition$)
    on conflict (feature_view, feature_version) do update set last_built_at = now()
{% endmacro %}


{#- Keeps when this as_of was first computed, and how far the events had been loaded: later ones that claim to have been
    known then are backdated. -#}
{% macro record_build(events) %}
    insert into features.builds (feature_view, feature_version, as_of, events_loaded_through, dbt_invocation_id)
    select '{{ this.identifier }}', '{{ feature_version(this.identifier) }}', run.as_of, loaded.through,
        '{{ invocation_id }}'
    from (select {{ as_of() }} as as_of) as run
    cross join (select max(loaded_at) as through from {{ events }}) as loaded
    where run.as_of is not null
    on conflict do nothing
{% endmacro %}
