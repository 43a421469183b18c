{{ config(materialized='ephemeral', access='protected') }}

select
    user_id,
    label_at,
    {{ as_served('user_session_features', 'label_at') }} as as_of
from {{ ref('churn_labels') }}
