{{ serving_snapshot(ref('event_type_features')) }}
