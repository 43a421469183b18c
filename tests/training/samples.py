"""Training rows of which it is known what there is to learn, and an estimator that learns nothing."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics

from features.training.data import Split, outcomes, split_in_time
from features.training.estimator import scores

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


def judge(estimator: Any, rows: pd.DataFrame, features: Sequence[str], label: str) -> dict[str, float]:
    """By scikit-learn: ROC AUC, average precision, accuracy, Brier score and log loss on rows with both classes."""
    truth, score = outcomes(rows, label), scores(estimator, rows, features)
    return {
        "roc_auc": float(metrics.roc_auc_score(truth, score)),
        "average_precision": float(metrics.average_precision_score(truth, score)),
        "accuracy": float(metrics.accuracy_score(truth, score >= 0.5)),
        "brier": float(metrics.brier_score_loss(truth, score)),
        "log_loss": float(metrics.log_loss(truth, score)),
    }


class Flipped:
    """Says of the class True what its feature says, with its classes in an order that it was given."""

    def __init__(self, classes: list[Any]) -> None:
        self.classes_ = np.array(classes)

    def predict_proba(self, rows: pd.DataFrame) -> Any:
        probability = rows["a"].to_numpy()
        return np.column_stack([probability if bool(name) else 1 - probability for name in self.classes_])
