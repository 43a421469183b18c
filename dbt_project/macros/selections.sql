{#-
    Training sets and serving snapshots: selections from a feature table. They compute nothing, and they follow the
    feature view: a new feature is a column of theirs at once.
-#}


{#-
    Each row of a label table with the features that were live at its instant: as many rows as labels, whatever happens.

    Arguments:
        labels: a label table: the entity's columns, label_at, the label, and matured_at if it knows it. Otherwise the
            label matures config.meta.horizon_days + grace_days after label_at.
        features: the feature view's table.
-#}
{% macro training_set(labels, features) -%}
    {{- config(materialized='view', post_hook='{{ describe_features() }}') -}}
    {%- if execute -%}
    {%- set view = feature_node(features.identifier) -%}
    {%- set label = feature_node(labels.identifier) -%}
select
    ----------  label
    labelled.*,
    {%- if 'matured_at' not in label.columns %}
    labelled.label_at
    + {{ whole_days(label.config.meta.horizon_days + label.config.meta.get("grace_days", 0)) }} as matured_at,
    {%- endif %}

    ----------  features
    features.feature_version
    {%- for name in feature_names(view) %},
    features.{{ name }}
    {%- endfor %}

from ({{ labels_as_served(labels, features.identifier) }}) as labelled
left join {{ features }} as features
    on
        {{ same_key('labelled', 'features', entity_of(view)) }}
        and labelled.as_of = features.as_of
        and features.feature_version = '{{ feature_version(features.identifier) }}'
    {%- endif -%}
{%- endmacro %}


{#- The published snapshot of a feature view: its rows at the as_of that the ledger names as live. -#}
{% macro serving_snapshot(features) -%}
    {{- config(materialized='view', post_hook='{{ describe_features() }}') -}}
    {%- if execute -%}
    {%- set view = feature_node(features.identifier) -%}
select
    ----------  ids
    {{ qualified('features', entity_of(view)) }},
    features.as_of,

    ----------  publication
    live.published_at,
    live.as_of + interval '{{ view.config.meta.expires_after }}' as expires_at,

    ----------  features
    features.feature_version
    {%- for name in feature_names(view) %},
    features.{{ name }}
    {%- endfor %}

from {{ source('serving', 'publications') }} as live
inner join {{ features }} as features
    on live.as_of = features.as_of and live.feature_version = features.feature_version
where live.feature_view = '{{ features.identifier }}' and live.retired_at is null
    {%- endif -%}
{%- endmacro %}


{#- Gives the feature columns of a selection the descriptions of their feature view. -#}
{% macro describe_features() %}
    {%- set columns = {} -%}
    {%- for parent_id in model.depends_on.nodes if graph.nodes.get(parent_id, {}).get('config', {}).get('meta', {}).entity -%}
        {%- for name, column in graph.nodes[parent_id].columns.items() if name not in model.columns -%}
            {%- do columns.update({name: column}) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- if columns -%}{{ alter_column_comment(this.incorporate(type='view'), columns) }}{%- endif -%}
{% endmacro %}
