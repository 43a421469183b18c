{#-
    Incremental strategy `insert_missing`: rows whose key is already there are left exactly as they are. Two runs of
    one partition, at once or one after the other, end with the same rows. The key is the model's unique index.
-#}
{% macro get_incremental_insert_missing_sql(arg_dict) %}
    {%- set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) -%}
    insert into {{ arg_dict['target_relation'] }} ({{ columns }})
    select {{ columns }} from {{ arg_dict['temp_relation'] }}
    on conflict do nothing
{% endmacro %}
