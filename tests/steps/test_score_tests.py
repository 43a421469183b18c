"""The ML Test Score of the sample's first day: everything is real, and what is seen is what other steps have left."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from features import tracking, warehouse
from features.contract import Model
from features.scorecard import infrastructure
from features.scorecard.subject import subject
from features.steps import score_tests as step
from features.steps.compare_served import compare_served
from features.steps.decide import decide
from features.steps.promote import promote
from features.steps.publish import publish
from features.steps.score import score
from features.steps.score_tests import score_tests
from features.steps.summarise_inference import summarise_inference
from features.steps.train import train
from features.steps.watch import plan, watch_feature
from features.training.data import TrainingRefused
from tests.databases import copy_of, execute, registry, use

AS_OF = datetime(2013, 7, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def lived(sample_database: str, churn: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A copy of the sample in which one partition has run, as the Dags run it; what scoring it gave."""
    with (
        pytest.MonkeyPatch.context() as patch,
        copy_of(sample_database, "skewless_scored") as name,
        registry(tmp_path_factory.mktemp("artifacts")),
    ):
        use(name, patch)
        forget_later_runs()
        publish(churn.feature_view, AS_OF)
        version = train(churn, AS_OF)
        assert promote(churn, version, AS_OF)["promoted"]
        score(churn, AS_OF)
        compare_served(churn, AS_OF)
        summarise_inference(churn, AS_OF)
        planned = plan(churn, AS_OF)
        for feature in planned["features"]:
            watch_feature(churn, feature, planned, AS_OF)
        decide(churn, AS_OF, "run")
        yield score_tests(churn, AS_OF)


def forget_later_runs() -> None:
    """The sample is built once; after that, other tests try on it what dbt refuses."""
    execute("""
        delete from monitoring.dbt_results where dbt_invocation_id <> (
            select dbt_invocation_id from monitoring.dbt_results order by ran_at limit 1
        )
    """)


def rows(query: str) -> list[dict[str, Any]]:
    with warehouse.connect() as connection:
        return connection.execute(query).fetchall()


def evidence() -> dict[str, dict[str, Any]]:
    """What is kept, by test."""
    return {row["test"]: row for row in rows("select * from monitoring.scorecard_evidence order by evidence_id")}


# What one partition alone shows. Of the others some need history, some a person, some CI.
PASSED = {
    "data_1", "data_2", "data_3", "data_4", "data_5",
    "model_3", "model_5", "model_6",
    "infra_1", "infra_4", "infra_5", "infra_6",
    "monitoring_2", "monitoring_3", "monitoring_4", "monitoring_5",
}  # fmt: skip


def test_one_partition_shows_what_it_can(lived: dict[str, Any]) -> None:
    assert set(lived["passed"]) >= PASSED, lived
    seen = evidence()
    assert set(lived["passed"]) == {name for name, row in seen.items() if row["passed"]}
    assert {(row["how"], row["seen_at"], row["recorded_by"]) for row in seen.values()} == {("automated", AS_OF, None)}
    assert all(row["expires_at"] > AS_OF for row in seen.values())


def test_what_it_cannot_show_stays_at_nothing(lived: dict[str, Any]) -> None:
    never = {"infra_2", "infra_3", "infra_7", "model_2", "model_4", "model_7", "monitoring_1", "monitoring_6"}
    assert not never & set(evidence())
    assert lived["score"] == min(lived["sections"].values()) <= 4


def test_every_sentence_has_a_number_and_ends(lived: dict[str, Any]) -> None:
    for name, row in evidence().items():
        assert any(letter.isdigit() for letter in row["evidence"]), name
        assert row["evidence"].endswith("."), name


def test_the_commit_and_the_search_are_kept_with_the_evaluation(lived: dict[str, Any]) -> None:
    (row,) = rows("select evaluation from monitoring.model_evaluations")
    assert set(row["evaluation"]["code"]) == {"commit", "reviewed_by"}
    search = row["evaluation"]["search"]
    assert search["candidates"] == 4
    assert search["best_log_loss"] <= search["declared_log_loss"]


def test_training_again_gave_the_same(lived: dict[str, Any]) -> None:
    text = evidence()["infra_1"]["evidence"]
    assert text.startswith("v1 of 2013-07-02 00:00Z, trained again on the ")
    assert "the same 5 metrics" in text


def test_doing_it_again_keeps_what_it_was_and_does_not_train(
    lived: dict[str, Any], churn: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "_train_again", lambda *_: pytest.fail("it trained again"))
    before = {name: row["evidence"] for name, row in evidence().items()}
    assert score_tests(churn, AS_OF) == lived
    assert {name: row["evidence"] for name, row in evidence().items()} == before
    assert len(rows("select 1 from monitoring.scorecard_evidence")) == len(before)


def test_in_the_next_hour_what_was_found_of_training_still_counts_and_not_for_longer(
    lived: dict[str, Any], churn: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "_train_again", lambda *_: pytest.fail("it trained again"))
    try:
        assert "infra_1" in score_tests(churn, AS_OF + HOUR)["passed"]
        found = rows("select evidence, seen_at, expires_at from monitoring.scorecard_evidence where test = 'infra_1'")
        assert {row["seen_at"] for row in found} == {AS_OF, AS_OF + HOUR}
        assert {row["expires_at"] for row in found} == {AS_OF + 31 * 24 * HOUR}
        assert len({row["evidence"] for row in found}) == 1
    finally:
        execute("delete from monitoring.scorecard_evidence where seen_at > %s", AS_OF)


def of_champion(model: Model) -> Any:
    with warehouse.connect() as connection:
        return subject(connection, model, AS_OF).champion


def test_a_month_later_it_is_trained_again(lived: dict[str, Any], churn: Model) -> None:
    champion = of_champion(churn)
    with warehouse.connect() as connection:
        for later, is_known in ((31 * 24 * HOUR - HOUR, True), (31 * 24 * HOUR, False)):
            known = step._trained_again(connection, churn, champion, AS_OF + later)
            assert (known is not None) == is_known


def test_a_training_that_gives_another_model_is_found(lived: dict[str, Any], churn: Model) -> None:
    other = churn.model_copy(
        update={"training": churn.training.model_copy(update={"search": None, "parameters": {"max_leaf_nodes": 3}})}
    )
    found = step._train_again(other, of_champion(churn), AS_OF)
    assert found is not None
    assert not found.passed
    assert "roc_auc 0.8" in found.text
    assert " then, 0." in found.text


def test_an_extract_that_cannot_be_rebuilt_is_found(
    lived: dict[str, Any], churn: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(extract_id: str) -> None:
        raise TrainingRefused(f"Extract {extract_id} had 9 rows; rebuilding it gives 8 that are not the same.")

    monkeypatch.setattr(step, "reproduce", refuse)
    found = step._train_again(churn, of_champion(churn), AS_OF)
    assert found is not None
    assert not found.passed
    assert "cannot be trained again: Extract" in found.text


def test_a_server_that_is_away_is_no_finding(
    lived: dict[str, Any], churn: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(extract_id: str) -> None:
        raise warehouse.WarehouseUnavailable("gone")

    monkeypatch.setattr(step, "reproduce", away)
    with pytest.raises(warehouse.WarehouseUnavailable):
        step._train_again(churn, of_champion(churn), AS_OF)


def one_example(model: Model) -> Any:
    with warehouse.connect() as connection:
        return infrastructure.one_example(subject(connection, model, AS_OF))


def test_one_entity_is_explained_from_its_events_to_its_score(lived: dict[str, Any], churn: Model) -> None:
    found = one_example(churn)
    assert found.passed
    (row,) = rows("select entity_id, score from serving.predictions order by entity_id limit 1")
    assert found.text.startswith(f"{row['entity_id']} at 2013-07-02 00:00Z: ")
    assert "v1 scored are the same." in found.text
    assert f"{row['score']:.4f}" not in found.text  # whoever sees the pages may not see scores


def test_one_whose_stored_features_were_changed_is_found(lived: dict[str, Any], churn: Model) -> None:
    change = (
        "update features.user_session_features set session_count = session_count {} 1 where as_of = %s"
        " and user_id = (select min(entity_id) from serving.predictions)"
    )
    execute(change.format("+"), AS_OF)
    try:
        found = one_example(churn)
        assert not found.passed
        assert "are others." in found.text
    finally:
        execute(change.format("-"), AS_OF)


def test_nothing_is_said_of_an_entity_once_the_definition_has_changed(lived: dict[str, Any], churn: Model) -> None:
    change = "update features.user_session_features set feature_version = %s where as_of = %s and feature_version = %s"
    (row,) = rows("select feature_version from features.feature_versions where feature_view = 'user_session_features'")
    execute(change, "another", AS_OF, row["feature_version"])
    try:
        assert one_example(churn) is None
    finally:
        execute(change, row["feature_version"], AS_OF, "another")


def test_a_model_that_was_never_trained_has_nothing_to_show_but_its_features(
    lived: dict[str, Any], churn: Model
) -> None:
    other = churn.model_copy(update={"name": "upsell"})
    assert tracking.champion(other) is None
    facts = score_tests(other, AS_OF)
    assert facts["score"] == 0
    # Those of its feature view, whoever uses it.
    assert set(facts["passed"]) == {"data_1", "data_3", "data_4", "monitoring_3"}
