"""What the warehouse would hold had nothing gone wrong: each step of the Dags as a function call, one after the other.

No scheduler, no worker, no network: the steps in the order in which data flow, in this process.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg
import pytest

from features import warehouse
from features.contract import Contract, read_contract
from features.steps import (
    compare_served,
    conclude,
    decide,
    measure,
    promote,
    publish,
    retain,
    score,
    score_tests,
    summarise_inference,
    train,
    watch,
)
from tests.databases import migrated, registry, using
from tests.dbt_project.running import run_dbt
from tests.drills import leap_day_history

DATABASE = "skewless_undisturbed"


@dataclass
class Undisturbed:
    """A warehouse in which partitions are computed without anything that could fail."""

    contract: Contract

    def compute(self, as_of: datetime) -> None:
        """Everything that the chain of Dags does for a partition."""
        run_dbt(as_of, *(f"path:models/{folder}" for folder in ("staging", "features", "training", "serving")))
        for view in self.contract.feature_views.values():
            publish.publish(view, as_of)
        for view in self.contract.feature_views.values():
            retain.thin(view, as_of)
        self._model(as_of)

    def _model(self, as_of: datetime) -> None:
        model = self.contract.model("churn")
        score.score(model, as_of)
        compare_served.compare_served(model, as_of)
        measure.measure(model, as_of)
        summarise_inference.summarise_inference(model, as_of)
        retain.thin_log(model, as_of)
        planned = watch.plan(model, as_of)
        findings = [watch.watch_feature(model, feature, planned, as_of) for feature in planned["features"]]
        conclude.conclude(model, planned, findings, as_of)
        decision = decide.decide(model, as_of, "undisturbed")
        score_tests.score_tests(model, as_of)
        if decision["should_retrain"]:
            promote.promote(model, train.train(model, as_of), as_of)

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """A connection to it."""
        return psycopg.connect(host=warehouse.host(), user=warehouse.user(), dbname=DATABASE, autocommit=True)


@contextmanager
def undisturbed(manifest: Path, artifacts: Path, salt: str) -> Iterator[Undisturbed]:
    """One with the history and a registry of its own; both are gone in the end.

    Args:
        salt: by which requests are sampled; the same as where things go wrong.
    """
    with migrated(DATABASE), using(DATABASE), registry(artifacts), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SKEWLESS_SAMPLING_SALT", salt)
        with warehouse.connect() as connection:
            for statement in leap_day_history.statements():
                connection.execute(statement)
        yield Undisturbed(read_contract(manifest))
