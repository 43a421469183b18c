{% call feature_view(events=ref('stg_session_events')) %}
    count(*) as session_count,
    count(distinct user_id) as user_count,
    count(distinct user_id) filter (where {{ in_last(days=7) }}) as users_last_7_days,
    {{ mean_minutes('duration_seconds') }} as avg_session_duration_minutes,
    {{ days_since_last() }} as days_since_last_session,
{% endcall %}
