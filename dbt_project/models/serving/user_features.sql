{{ serving_snapshot(ref('user_session_features')) }}
