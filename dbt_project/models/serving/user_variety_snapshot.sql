{{ serving_snapshot(ref('user_variety_features')) }}
