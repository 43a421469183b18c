{#-
    The spine of a feature view: the (entity, as_of) pairs for which features are wanted, less those that are there.
    Rows, once written, never change, so a run computes only what its definition lacks. In key order, so that
    neighbouring rows read neighbouring index pages.
-#}
{% macro missing_spine_rows(events, entity, labels) -%}
    select {{ qualified('wanted', entity) }}, wanted.as_of
    from (
        select {{ qualified('known', entity) }}, known.as_of
        from (
            select {{ entity | join(', ') }}, {{ as_of() }} as as_of
            from ({{ known_entities(events, entity, as_of()) }}) as entities
        ) as known
        {#- `offset 0`: one index probe for each entity. Who is known is guessed too low for a join. #}
        {{ where_missing('where', 'known', entity, 'offset 0') }}
        {%- for table in labels %}
        union
        select {{ qualified('labelled', entity) }}, labelled.as_of
        from ({{ labels_as_served(table, model.alias) }}) as labelled
        where labelled.as_of <= {{ as_of() }}
        {{ where_missing('and', 'labelled', entity) }}
        {%- endfor %}
    ) as wanted
    order by {{ qualified('wanted', entity) }}, wanted.as_of
{%- endmacro %}


{#- The condition that a row of `wanted` is not in the table yet; nothing while there is no table. -#}
{% macro where_missing(conjunction, wanted, entity, fence='') -%}
    {%- if load_relation(this) is not none -%}
    {{ conjunction }} not exists (
        select 1
        from {{ this }} as present
        where
            {{ same_key('present', wanted, entity) }}
            and present.as_of = {{ wanted }}.as_of
            and present.feature_version = '{{ feature_version(model.alias) }}'
        {{ fence }}
    )
    {%- endif -%}
{%- endmacro %}


{#-
    Every entity of which an event was known at an instant, also if that event was withdrawn later: once known, always
    known. It jumps from key to key along the index (entity, started_at), so its cost follows the number of entities,
    not the length of their history. An event without a key belongs to no entity.
-#}
{% macro known_entities(events, entity, instant) -%}
    with recursive entities as (
        (
            select {{ entity | join(', ') }}
            from {{ events }}
            where
                started_at <= {{ instant }} and ingested_at <= {{ instant }}
                {%- for column in entity %}
                and {{ column }} is not null
                {%- endfor %}
            order by {{ entity | join(', ') }}
            limit 1
        )
        union all
        select {{ qualified('following', entity) }}
        from entities
        cross join lateral (
            select {{ entity | join(', ') }}
            from {{ events }} as later
            where
                ({{ qualified('later', entity) }}) > ({{ qualified('entities', entity) }})
                and started_at <= {{ instant }} and ingested_at <= {{ instant }}
                {%- for column in entity[1:] %}
                and {{ column }} is not null
                {%- endfor %}
            order by {{ qualified('later', entity) }}
            limit 1
        ) as following
    )

    select {{ entity | join(', ') }} from entities
{%- endmacro %}


{#-
    The rows of a label table, each with the as_of of the feature row that was live at its label_at. Training is as
    stale as serving: that is what the ledger says, and before the ledger begins what a punctual schedule (hourly, on
    the hour) would have published.
-#}
{% macro labels_as_served(labels, feature_view) -%}
    select labels.*, served.as_of
    from {{ labels }} as labels
    inner join (
        select
            instants.label_at,
            coalesce(
                (
                    select publication.as_of
                    from {{ source('serving', 'publications') }} as publication
                    where
                        publication.feature_view = '{{ feature_view }}'
                        and publication.published_at <= instants.label_at
                    order by publication.published_at desc, publication.publication_id desc
                    limit 1
                ),
                date_trunc('hour', instants.label_at, 'UTC')
            ) as as_of
        from (select distinct label_at from {{ labels }}) as instants
        offset 0 -- without it PostgreSQL asks the ledger for each label instead of each instant
    ) as served
        on labels.label_at = served.label_at
{%- endmacro %}
