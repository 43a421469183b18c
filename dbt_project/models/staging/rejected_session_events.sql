with

typed as (

    select
        *,
        {{ session_event_rejection() }} as reason
    from {{ source('raw', 'session_events') }}

),

untyped as (

    select * from {{ source('raw', 'rejected_rows') }}

)

select
    event_id,
    ingested_at,
    source_file,
    source_row,
    reason,
    to_jsonb(typed) - 'reason' - 'source_file' - 'source_row' - 'loaded_at' as row_as_it_came,
    loaded_at as rejected_at
from typed
where reason is not null

union all

select
    row_as_it_came ->> 'event_id' as event_id,
    null as ingested_at,
    source_file,
    source_row,
    reason,
    row_as_it_came,
    rejected_at
from untyped
