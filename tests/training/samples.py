"""Training rows of which it is known what there is to learn."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from features.training.data import Split, split_in_time

HORIZON = timedelta(days=14)
FIRST = datetime(2013, 3, 5, tzinfo=UTC)
FEATURES = ["a", "b"]


def extract(label_times: int = 12, rows_each: int = 250, every: timedelta = timedelta(days=7)) -> pd.DataFrame:
    """Users with two features; the first one decides the label, with noise, and the second one has no part in it."""
    rng = np.random.default_rng(3)
    n = label_times * rows_each
    a = rng.normal(size=n)
    return pd.DataFrame({
        "user_id": [f"u{i % rows_each}" for i in range(n)],
        "label_at": pd.to_datetime([FIRST + i // rows_each * every for i in range(n)], utc=True),
        "a": a,
        "b": rng.integers(0, 9, n),
        "churned": a + rng.normal(size=n) > 0,
    })


def sample_split() -> Split:
    """Six label times to learn from, one that is on neither side, four to be judged on."""
    return split_in_time(extract(label_times=11), HORIZON, 4)
