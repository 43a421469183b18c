{#- The newest row known at as_of must have arrived within max_age of it: a stalled source fails the run that would
    publish features frozen in time. It compares with as_of, never with the clock, so a backfill passes as it did. -#}
{% test fresh_at_as_of(model, arrived_at, max_age) %}
    select max({{ arrived_at }}) as newest
    from {{ model }}
    where {{ arrived_at }} <= {{ as_of() }}
    having coalesce(max({{ arrived_at }}) < {{ as_of() }} - interval '{{ max_age }}', true)
{% endtest %}


{#- `expression` holds for every row of the run's as_of. Older rows are immutable and were tested when written. -#}
{% test holds_at_as_of(model, expression, column_name=none) %}
    select *
    from {{ model }}
    where as_of = {{ as_of() }} and ({{ column_name or "" }} {{ expression }}) is not true
{% endtest %}


{#- `expression` holds for every row. -#}
{% test holds(model, expression, column_name=none) %}
    select *
    from {{ model }}
    where ({{ column_name or "" }} {{ expression }}) is not true
{% endtest %}


{#- The columns name each row once. -#}
{% test unique_key(model, columns) %}
    select {{ columns | join(', ') }}
    from {{ model }}
    group by {{ columns | join(', ') }}
    having count(*) > 1
{% endtest %}


{#- The join that made this relation neither lost a row of the other nor multiplied one. -#}
{% test same_row_count(model, as_model) %}
    select counted.*
    from (
        select
            (select count(*) from {{ model }}) as here,
            (select count(*) from {{ as_model }}) as there
    ) as counted
    where counted.here <> counted.there
{% endtest %}


{#- A selection from a feature view has every feature of it, of the same type: the contract that follows by itself. -#}
{% test has_columns_of(model, feature_view) %}
    {%- if execute %}
    select expected.name, expected.type
    from (
        {%- for name in feature_names(feature_node(feature_view.identifier)) %}
        select '{{ name }}' as name, pg_typeof(features.{{ name }})::text as type
        from (select 1 as one) as dummy left join {{ feature_view }} as features on false
        {{ 'union all' if not loop.last }}
        {%- endfor %}
    ) as expected
    left join information_schema.columns as present
        on
            present.table_schema = '{{ model.schema }}'
            and present.table_name = '{{ model.identifier }}'
            and present.column_name = expected.name
            and present.data_type = expected.type
    where present.column_name is null
    {%- endif %}
{% endtest %}
