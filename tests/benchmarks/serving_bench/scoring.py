"""Scoring a snapshot by features.steps.score, in a process of its own, so that its memory is that of the step.

The registry alone is replaced: the champion is a gradient boosting classifier that is fitted here, on other rows. What
is timed is the step as the Dag calls it: streaming the snapshot, scoring it, writing the scores and the logged share.
Its argument is JSON: as_of, feature_version. It prints JSON.
"""

import json
import resource
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from unittest import mock

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from features import settings, warehouse
from features.contract import Model, read_contract
from features.serving.champion import ServedModel
from features.steps import score as step
from features.tracking import Version
from tests.benchmarks.serving_bench.findings import Scored
from tests.benchmarks.serving_bench.population import MODEL

FITTED_ON = 20_000
TREES = 100


def champion(model: Model, feature_version: str) -> ServedModel:
    """A classifier of as many trees as scikit-learn's default, on the model's features by their names."""
    rng = np.random.default_rng(7)
    rows = pd.DataFrame({name: rng.uniform(0, 100, FITTED_ON) for name in model.feature_names})
    left = rows.mean(axis=1) + rng.normal(0, 20, FITTED_ON) > 50
    estimator = HistGradientBoostingClassifier(max_iter=TREES, early_stopping=False, random_state=7).fit(rows, left)
    version = Version("1", datetime(2025, 1, 1, tzinfo=UTC), feature_version, "", {}, "")
    return ServedModel(version, estimator, model.feature_names)


def scored(as_of: datetime, feature_version: str) -> Scored:
    """Scores the snapshot, whose rows nobody has scored yet."""
    model = read_contract(settings.MANIFEST).model(MODEL)
    served = champion(model, feature_version)
    with mock.patch.multiple(
        step, champion_of=lambda _: served.version, load_version=lambda *_: served
    ):  # fmt: skip
        before, start = _peak_bytes(), time.perf_counter()
        facts = step.score(model, as_of)
        seconds = time.perf_counter() - start
    assert facts["scored"] == _count("serving.predictions"), facts
    return Scored(
        rows=_count("features.user_session_features"),
        scored=facts["scored"],
        logged=facts["logged"],
        seconds=seconds,
        peak_before=before,
        peak_after=_peak_bytes(),
    )


def _peak_bytes() -> int:
    """The greatest resident set of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _count(relation: str) -> int:
    with warehouse.connect() as connection:
        row = connection.execute(f"select count(*) as n from {relation}").fetchone()
    assert row is not None
    return int(row["n"])


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(asdict(scored(datetime.fromisoformat(given["as_of"]), given["feature_version"]))))
