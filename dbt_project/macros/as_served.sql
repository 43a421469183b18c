{#-
    Training is as stale as serving: the as_of of the feature row that was live at `instant`. That is what the ledger
    says; before the ledger begins, what a punctual schedule (hourly, on the hour) would have published.
-#}
{% macro as_served(feature_view, instant) -%}
    coalesce(
        (
            select publication.as_of
            from {{ source('serving', 'publications') }} as publication
            where
                publication.feature_view = '{{ feature_view }}'
                and publication.published_at <= {{ instant }}
            order by publication.publication_id desc
            limit 1
        ),
        date_trunc('hour', {{ instant }}, 'UTC')
    )
{%- endmacro %}
