"""The synthetic history is what the pipeline would have written: the pipeline's own readers understand it."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from features import champions, warehouse
from features.contract import Contract
from features.drift import baselines, store
from features.drift.baselines import BaselineKey
from features.drift.incidents import open_incidents
from features.performance.store import holdout_bins
from features.retraining.decision import Outcome
from tests.plugins.episodes import END, NEW_DEFINITION


@pytest.fixture
def connection(health_database: str) -> Iterator[warehouse.Connection]:
    """To the long history."""
    with warehouse.connect(health_database) as connection:
        yield connection


def test_a_sick_pipeline_and_a_moving_world_are_open_at_its_end(
    connection: warehouse.Connection, health_contract: Contract
) -> None:
    found = open_incidents(connection, health_contract.model("churn"))
    assert {incident.blocks_retraining for incident in found} == {True, False}


def test_every_outcome_was_decided(connection: warehouse.Connection) -> None:
    rows = connection.execute("select outcome, count(*) from monitoring.retraining_decisions group by 1").fetchall()
    assert {row["outcome"] for row in rows} == set(map(str, Outcome))


def test_the_champion_has_baselines_and_hours_to_compare(
    connection: warehouse.Connection, health_contract: Contract
) -> None:
    model = health_contract.model("churn")
    version = champions.history(connection, model)[-1].version
    for feature in model.feature_names:
        training = baselines.read_baseline(
            connection, model, feature, BaselineKey("training", "training", "all", version)
        )
        serving = baselines.read_baseline(
            connection, model, feature, BaselineKey("serving", "snapshot", "all", NEW_DEFINITION)
        )
        assert training
        assert serving
        assert training.baseline.profile.shares.sum() == pytest.approx(1)
        assert len(serving.baseline.slots) == 168
        hours = store.read_sketches(
            connection, serving.grid_id, "snapshot", NEW_DEFINITION, "all", END - timedelta(days=1), END
        )
        assert len(hours) == 24
        assert all(sketch.given > 0 for sketch in hours.values())


def test_every_version_was_evaluated(connection: warehouse.Connection, health_contract: Contract) -> None:
    model = health_contract.model("churn")
    assert len(holdout_bins(connection, model, "1")) == 10
    rows = connection.execute("select promoted, checks from monitoring.model_evaluations").fetchall()
    assert {row["promoted"] for row in rows} == {True, False}
    assert all(row["promoted"] == all(check["passed"] for check in row["checks"]) for row in rows)


def test_one_publication_of_each_view_is_live(connection: warehouse.Connection, health_contract: Contract) -> None:
    rows = connection.execute(
        "select feature_view, as_of from serving.publications where retired_at is null"
    ).fetchall()
    assert {row["feature_view"]: row["as_of"] for row in rows} == dict.fromkeys(health_contract.feature_views, END)
