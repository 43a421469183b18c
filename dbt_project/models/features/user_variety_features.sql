{% call feature_view(events=ref('stg_session_events')) %}
    count(distinct event_type) as event_type_count,
    count(distinct event_type) filter (where {{ in_last(days=30) }}) as event_types_last_30_days,
    coalesce(max(duration_seconds), 0)::double precision / 60 as longest_session_minutes,
{% endcall %}
