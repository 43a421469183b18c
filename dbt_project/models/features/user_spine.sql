{{ config(materialized='ephemeral', access='private') }}

-- For whom and when features are wanted: everybody known at this run's as_of, for serving, and every label's instant,
-- for training.

with

known_users as (

    select distinct
        user_id,
        {{ as_of() }} as as_of
    from {{ ref('stg_session_events') }}
    where started_at <= {{ as_of() }} and ingested_at <= {{ as_of() }}

),

labelled_users as (

    select distinct
        user_id,
        as_of
    from {{ ref('churn_label_spine') }}

)

select * from known_users
union
select * from labelled_users
