{{ training_set(labels=ref('churn_labels'), features=ref('user_session_features')) }}
