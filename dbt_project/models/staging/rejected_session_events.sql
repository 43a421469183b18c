with

judged as (

    select
        *,
        {{ session_event_rejection() }} as broken_rules
    from {{ source('raw', 'session_events') }}

),

numbered as (

    select
        *,
        row_number() over (
            partition by event_id, ingested_at, broken_rules is null
            order by {{ precedence() }}
        ) as place
    from judged

),

typed as (

    select
        *,
        case
            when broken_rules is not null then broken_rules
            when place > 1 then 'repeats an event_id at the same ingested_at'
        end as reason
    from numbered

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
    to_jsonb(typed)
    - array['broken_rules', 'place', 'reason', 'source_file', 'source_row', 'loaded_at'] as row_as_it_came,
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
