"""What the Dags' tasks do: read the warehouse, let the pure modules decide, write the outcome.

Every step takes the model's or feature view's name and as_of, may be run again, and returns small facts for the log and
for the asset event. None reads the clock to decide anything.
"""
