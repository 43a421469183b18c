{{ config(materialized='view') }}

select
    entity_id as user_id,
    as_of,
    score as churn_probability,
    model_version,
    scored_at
from {{ source('serving', 'predictions') }}
where model_name = 'churn'
