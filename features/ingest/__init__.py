"""Getting events into raw.session_events: from your files, or from the sample data."""
