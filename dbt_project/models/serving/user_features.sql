{{ config(materialized='view') }}

{#- While dbt parses, the other models are not known yet. -#}
{%- set expires_after = feature_node('user_session_features').config.meta.expires_after if execute else '' %}

with

features as (

    select * from {{ ref('user_session_features') }}

),

live as (

    select * from {{ source('serving', 'publications') }}
    where feature_view = 'user_session_features' and retired_at is null

)

select
    features.*,
    live.published_at,
    live.as_of + interval '{{ expires_after }}' as expires_at
from live
inner join features
    on live.as_of = features.as_of and live.feature_version = features.feature_version
