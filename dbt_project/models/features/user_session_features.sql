{% call feature_view(events=ref('stg_session_events'), labels=[ref('churn_labels')]) %}
    count(*) as session_count,
    {{ mean_minutes('duration_seconds') }} as avg_session_duration_minutes,
    {{ days_since_last() }} as days_since_last_session,
    count(*) filter (where {{ in_last(days=7) }}) as sessions_last_7_days,
    count(*) filter (where {{ in_last(days=30) }}) as sessions_last_30_days,
{% endcall %}
