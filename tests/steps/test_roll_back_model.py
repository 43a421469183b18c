"""The drill: an earlier champion is in production again after one command, and whoever cannot be, is not."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from features import tracking, warehouse
from features.contract import Model, PromotionSettings, TrainingSettings
from features.errors import SkewlessError
from features.steps.promote import promote
from features.steps.roll_back_model import roll_back_model
from features.steps.score import score
from features.steps.train import train
from features.steps.watch import plan, watch_feature
from tests.databases import copy_of, execute, registry, use

AS_OF = datetime(2013, 7, 2, tzinfo=UTC)
CHAMPIONS = 3


@pytest.fixture(scope="module")
def model(sample_database: str, churn: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """A model with three champions, one after the other."""
    quick = TrainingSettings(parameters={"max_iter": 50})
    model = churn.model_copy(
        update={"training": quick, "promotion": PromotionSettings(minimum=0.6, tolerance=0.05, slice_tolerance=0.2)}
    )
    with copy_of(sample_database, "skewless_swinging") as name, pytest.MonkeyPatch.context() as patch:
        use(name, patch)
        with registry(tmp_path_factory.mktemp("artifacts")):
            for number in range(1, CHAMPIONS + 1):
                # Another commit each time: the same one trains no second version.
                patch.setenv("SKEWLESS_GIT_COMMIT", f"commit {number}")
                facts = promote(model, train(model, AS_OF), AS_OF)
                assert facts["promoted"], facts
            yield model


@pytest.fixture(autouse=True)
def _all_three_promoted(model: Model) -> None:
    """Each test begins with version 3 as the champion, and nothing rolled back yet."""
    execute("delete from monitoring.champions where champion_id > %s", CHAMPIONS)
    tracking.promote(model, "3")


def champion(model: Model) -> str:
    found = tracking.champion(model)
    assert found is not None
    return found.number


def ledger() -> list[dict[str, Any]]:
    with warehouse.connect() as connection:
        return connection.execute("select * from monitoring.champions order by champion_id").fetchall()


def test_the_same_extract_makes_the_same_model_every_time(model: Model) -> None:
    with warehouse.connect() as connection:
        evaluations = connection.execute(
            "select extract_id, metrics, evaluation - 'code' as evaluation"
            " from monitoring.model_evaluations order by model_version"
        ).fetchall()
    assert len(evaluations) == CHAMPIONS
    assert evaluations[1:] == evaluations[:-1]


def test_a_champion_of_another_definition_is_no_yardstick(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    older = replace(tracking.registered(model, "3"), feature_version="older")
    monkeypatch.setattr(tracking, "champion", lambda model: older)
    facts = promote(model, "2", AS_OF)
    assert facts["promoted"]
    assert (
        "The champion v3 was trained on another definition of the features, older, and cannot score" in facts["reason"]
    )


def test_the_champion_before_is_champion_again(model: Model) -> None:
    assert roll_back_model(model, because="it forgets the old customers") == {"version": "2", "replaced": "3"}
    assert champion(model) == "2"
    last = ledger()[-1]
    assert (last["model_version"], last["replaced_version"], last["kind"]) == ("2", "3", "rollback")
    assert last["because"] == "it forgets the old customers"


def test_it_scores_and_is_watched_against_what_it_was_trained_on(model: Model) -> None:
    roll_back_model(model)
    assert score(model, AS_OF)["model_version"] == "2"
    planned = plan(model, AS_OF)
    assert planned["champion"] == "2"
    report = watch_feature(model, "session_count", planned, AS_OF)
    assert report["status"] in {"ok", "warning", "critical"}, "its baseline has stayed"


def test_going_back_again_goes_further_back_and_not_forward(model: Model) -> None:
    roll_back_model(model)
    assert roll_back_model(model)["version"] == "1"
    with pytest.raises(SkewlessError, match=r"no earlier champion of churn; v1 is the first\. Nothing changed"):
        roll_back_model(model)
    assert champion(model) == "1"


def test_one_may_name_the_version(model: Model) -> None:
    assert roll_back_model(model, "1")["version"] == "1"
    assert roll_back_model(model, "3") == {"version": "3", "replaced": "1"}, "and change one's mind"
    assert champion(model) == "3"


def test_a_version_that_never_was_champion_is_refused_with_those_that_were(model: Model) -> None:
    with pytest.raises(SkewlessError, match=r"v7 never was champion of churn; these were: v1, v2, v3\."):
        roll_back_model(model, "7")
    assert champion(model) == "3"


def test_clearing_the_dag_run_does_not_go_further_back(model: Model) -> None:
    for _ in range(2):
        assert roll_back_model(model, dag_run_id="manual__1")["version"] == "2"
    assert champion(model) == "2"
    assert len(ledger()) == CHAMPIONS + 1


def test_a_version_of_another_definition_is_refused(model: Model) -> None:
    execute("update monitoring.champions set feature_version = 'older' where model_version = '1'")
    try:
        with pytest.raises(SkewlessError, match="v1 was trained on another definition of user_session_features, older"):
            roll_back_model(model, "1")
        assert champion(model) == "3"
    finally:
        version = ledger()[-1]["feature_version"]
        execute("update monitoring.champions set feature_version = %s where model_version = '1'", version)


def test_a_registry_that_does_not_answer_leaves_the_ledger_as_it_was(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*arguments: object) -> None:
        raise MlflowException("the registry does not answer")

    before = ledger()
    monkeypatch.setattr(tracking, "promote", away)
    with pytest.raises(MlflowException):
        roll_back_model(model)
    assert ledger() == before


def test_where_there_is_no_champion_there_is_nothing_to_go_back_from(model: Model) -> None:
    unborn = model.model_copy(update={"name": "unborn"})
    with pytest.raises(SkewlessError, match="unborn has no champion"):
        roll_back_model(unborn)
