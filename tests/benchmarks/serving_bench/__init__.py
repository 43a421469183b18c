"""How fast features are served, beside Feast's online store, and what tracking and scoring cost. See bench_serving."""
