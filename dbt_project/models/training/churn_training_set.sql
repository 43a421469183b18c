{{ config(materialized='view') }}

with

labels as (

    select * from {{ ref('churn_labels') }}

),

as_served as (

    select * from {{ ref('churn_label_spine') }}

),

features as (

    select * from {{ ref('user_session_features') }}
    where feature_version = '{{ feature_version("user_session_features") }}'

)

select
    ----------  ids
    features.*,

    ----------  label
    labels.label_at,
    labels.matured_at,
    labels.churned

from labels
inner join as_served
    on labels.user_id = as_served.user_id and labels.label_at = as_served.label_at
inner join features
    on as_served.user_id = features.user_id and as_served.as_of = features.as_of
