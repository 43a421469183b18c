"""Evidence of features and data: rows with which a test passes, rows with which it does not, and too few to say."""

import pytest

from features.contract import Feature, Valid
from features.scorecard import data
from features.scorecard.score import How
from tests.scorecard.world import DAY, HOUR, NOON, VIEW, World


def without_ranges(world: World, **changes: object) -> object:
    """The model, were no feature's values bounded; or otherwise changed."""
    view = world.model.feature_view
    features = tuple(feature.model_copy(update={"valid": Valid()} | changes) for feature in view.features)
    return world.model.model_copy(update={"feature_view": view.model_copy(update={"features": features})})


class TestFeatureExpectations:
    def test_a_range_or_a_test_for_each_feature(self, world: World) -> None:
        for name in ("sessions_last_7_days", "sessions_last_30_days"):  # the others have a range
            world.ran(f"holds_{name}", column=name)
        found = world.ask(data.feature_expectations, NOON + HOUR)
        assert found is not None
        assert found.passed
        assert found.how is How.AUTOMATED
        assert found.expires_at == NOON + DAY, "from the run on, not from the look"
        assert found.text == (
            "Each of 5 features has a `valid` range or a test. dbt tests: 2 of user_session_features at "
            "2013-07-02 12:00Z passed."
        )

    def test_a_feature_with_neither(self, world: World) -> None:
        world.ran(column="sessions_last_7_days")
        found = world.ask(data.feature_expectations)
        assert found is not None
        assert not found.passed
        assert "sessions_last_30_days have neither" in found.text

    @pytest.mark.parametrize("status", ["fail", "error", "warn", "skipped"])
    def test_a_test_that_did_not_pass(self, world: World, status: str) -> None:
        for name in world.model.feature_names:
            world.ran(name, column=name)
        world.ran("other", status=status)
        found = world.ask(data.feature_expectations)
        assert found is not None
        assert not found.passed
        assert f"other ({status}) did not pass" in found.text

    def test_a_test_that_was_run_again_is_as_it_ended_last(self, world: World) -> None:
        for name in world.model.feature_names:
            world.ran(name, column=name)
        world.ran("other", status="fail", run="first")
        world.ran("other", status="pass", run="second")
        found = world.ask(data.feature_expectations)
        assert found is not None
        assert found.passed

    def test_only_the_newest_run_at_or_before_the_instant_counts(self, world: World) -> None:
        for name in world.model.feature_names:
            world.ran(name, column=name, at=NOON - HOUR, status="fail")
            world.ran(name, column=name)
            world.ran(name, column=name, at=NOON + HOUR, status="fail")
        assert [
            found.passed
            for at in (NOON - HOUR, NOON, NOON + HOUR)
            if (found := world.ask(data.feature_expectations, at)) is not None
        ] == [False, True, False]

    @pytest.mark.parametrize("kind", ["model", "unit_test"])
    def test_nothing_is_said_where_no_test_of_the_view_ran(self, world: World, kind: str) -> None:
        world.ran(of="event_type_features")
        world.ran(kind=kind)
        world.ran(at=None, run="by hand, at no instant")
        assert world.ask(data.feature_expectations) is None


class TestBenefit:
    def test_every_feature_helps(self, world: World) -> None:
        world.train()
        found = world.ask(data.benefit)
        assert found is not None
        assert found.passed
        assert found.text == (
            "On the holdout of v1, permuting each feature takes 0.0500 (session_count) or more from its roc_auc."
        )
        assert found.expires_at == NOON - 10 * DAY + 62 * DAY

    @pytest.mark.parametrize(("drop", "deviation"), [(0.0, 0.0), (-0.01, 0.001), (0.001, 0.002), (None, None)])
    def test_a_feature_that_does_not_help_beyond_chance(
        self, world: World, drop: float | None, deviation: float | None
    ) -> None:
        names = world.model.feature_names
        importance = [{"feature": name, "drop": 0.1, "deviation": 0.01} for name in names[1:]]
        world.train(importance=[*importance, {"feature": names[0], "drop": drop, "deviation": deviation}])
        found = world.ask(data.benefit)
        assert found is not None
        assert not found.passed
        assert f"permuting {names[0]} takes nothing" in found.text

    def test_a_feature_that_the_champion_does_not_know(self, world: World) -> None:
        names = world.model.feature_names
        world.train(importance=[{"feature": name, "drop": 0.1, "deviation": 0.01} for name in names[1:]])
        found = world.ask(data.benefit)
        assert found is not None
        assert not found.passed

    def test_nothing_is_said_without_a_champion_or_of_one_that_was_trained_later(self, world: World) -> None:
        assert world.ask(data.benefit) is None
        world.train(at=NOON + HOUR)
        assert world.ask(data.benefit) is None

    def test_nothing_is_said_where_importance_was_not_kept(self, world: World) -> None:
        world.train(importance=[])
        assert world.ask(data.benefit) is None

    def test_it_is_that_of_the_champion_and_after_a_rollback_of_the_one_before(self, world: World) -> None:
        world.train("1")
        world.train("2", at=NOON - DAY, importance=[{"feature": "session_count", "drop": 0.0, "deviation": 0.0}])
        found = world.ask(data.benefit)
        assert found is not None
        assert not found.passed
        world.crown("1", kind="rollback")
        found = world.ask(data.benefit)
        assert found is not None
        assert found.passed


class TestCost:
    """Snapshots stay fresh for three hours, of which a build may take a quarter: 2,700 s."""

    def test_a_build_that_takes_little(self, world: World) -> None:
        world.ran(VIEW, kind="model", seconds=2.5)
        world.ran(VIEW, kind="model", seconds=3.5, at=NOON - 6 * DAY)
        found = world.ask(data.cost)
        assert found is not None
        assert found.passed
        assert (
            "The slowest of 2 builds of user_session_features in a week took 3.5 s, and may take 2,700 s" in found.text
        )

    @pytest.mark.parametrize(("seconds", "passed"), [(2700.0, True), (2700.1, False)])
    def test_a_build_that_takes_too_long(self, world: World, seconds: float, passed: bool) -> None:
        world.ran(VIEW, kind="model", seconds=seconds)
        found = world.ask(data.cost)
        assert found is not None
        assert found.passed is passed

    def test_it_says_how_long_predictions_took(self, world: World) -> None:
        world.ran(VIEW, kind="model")
        world.answer(12.5, NOON - HOUR)
        found = world.ask(data.cost)
        assert found is not None
        assert found.text.endswith("95% of predictions in the hour to 2013-07-02 11:00Z took 12.5 ms at most.")

    def test_nothing_is_said_of_builds_that_failed_or_are_too_long_ago(self, world: World) -> None:
        world.ran(VIEW, kind="model", status="error")
        world.ran(VIEW, kind="model", at=NOON - 7 * DAY)
        world.ran(VIEW, kind="model", at=NOON + HOUR)
        assert world.ask(data.cost) is None


class TestMetaRequirements:
    def test_every_feature_is_described_and_watched(self, world: World) -> None:
        world.ran(VIEW, kind="model")
        found = world.ask(data.meta_requirements)
        assert found is not None
        assert found.passed
        assert "5 features of Feature store maintainers" in found.text

    def test_a_feature_without_a_description(self, world: World) -> None:
        world.ran(VIEW, kind="model")
        found = world.ask(data.meta_requirements, model=without_ranges(world, description=" "))  # type: ignore[arg-type]
        assert found is not None
        assert not found.passed
        assert "without a description" in found.text

    def test_a_feature_that_nobody_watches(self, world: World) -> None:
        world.ran(VIEW, kind="model")
        off = Feature.model_validate({"name": "a", "description": "b", "data_type": "text", "drift": False}).drift
        found = world.ask(data.meta_requirements, model=without_ranges(world, drift=off))  # type: ignore[arg-type]
        assert found is not None
        assert not found.passed

    def test_a_view_that_was_not_built(self, world: World) -> None:
        world.ran(VIEW, kind="model", status="error")
        found = world.ask(data.meta_requirements)
        assert found is not None
        assert not found.passed

    def test_nothing_is_said_before_a_build(self, world: World) -> None:
        assert world.ask(data.meta_requirements) is None


class TestPrivacy:
    def test_requests_that_hold_declared_features_only(self, world: World) -> None:
        world.request(1, {"session_count": 3.0})
        world.request(2, {"session_count": 4.0, "sessions_last_7_days": 1.0}, NOON - HOUR)
        found = world.ask(data.privacy)
        assert found is not None
        assert found.passed
        assert "2 logged requests of a week hold 2 of 5 features that may be logged, and none of 0" in found.text

    def test_a_request_that_holds_what_tells_who_somebody_is(self, world: World) -> None:
        world.request(1, {"session_count": 3.0})
        found = world.ask(data.privacy, model=without_ranges(world, pii=True))  # type: ignore[arg-type]
        assert found is not None
        assert not found.passed
        assert found.text == "Not private: session_count is logged."

    def test_a_request_that_holds_what_nobody_declared(self, world: World) -> None:
        world.request(1, {"email": 1.0})
        found = world.ask(data.privacy)
        assert found is not None
        assert found.text == "Not private: email is logged."

    @pytest.mark.parametrize(("age", "passed"), [(90, True), (91, True), (92, False)])
    def test_a_request_that_should_be_gone(self, world: World, age: int, passed: bool) -> None:
        world.request(1, {"session_count": 3.0})
        world.request(2, {"session_count": 3.0}, NOON - age * DAY)
        found = world.ask(data.privacy)
        assert found is not None
        assert found.passed is passed

    @pytest.mark.parametrize("reader", ["public", "monitor_reader"])
    def test_rows_of_persons_that_anybody_may_read(self, world: World, reader: str) -> None:
        world.request(1, {"session_count": 3.0})
        world.connection.execute(f"grant select (score) on serving.predictions to {reader}")
        found = world.ask(data.privacy)
        assert found is not None
        assert not found.passed
        assert f"{reader} may read serving.predictions" in found.text

    def test_nothing_is_said_where_nothing_was_logged_lately(self, world: World) -> None:
        world.request(1, {"session_count": 3.0}, NOON - 8 * DAY)
        assert world.ask(data.privacy) is None


class TestSpeedOfChange:
    def define(self, world: World, version: str, built: int, published: int | None) -> None:
        """A definition, first built and first published so many hours before NOON."""
        world.put(
            "features.feature_versions",
            feature_view=VIEW,
            feature_version=version,
            definition="",
            first_built_at=NOON - built * HOUR,
        )
        if published is not None:
            world.put(
                "serving.publications",
                feature_view=VIEW,
                as_of=NOON - published * HOUR,
                feature_version=version,
                row_count=1,
                published_at=NOON - published * HOUR,
                retired_at=NOON,
            )

    @pytest.mark.parametrize(("published", "passed"), [(39, True), (16, True), (15, False)])
    def test_a_changed_definition_that_was_served(self, world: World, published: int, passed: bool) -> None:
        self.define(world, "v1", 100, 90)
        self.define(world, "v2", 40, published)
        found = world.ask(data.speed_of_change)
        assert found is not None
        assert found.passed is passed
        assert found.text.endswith(f"{40 - published}.0 h after dbt had built it first.")

    def test_the_first_definition_is_no_change(self, world: World) -> None:
        self.define(world, "v1", 40, 39)
        assert world.ask(data.speed_of_change) is None

    def test_nothing_is_said_of_a_definition_that_is_not_served_yet(self, world: World) -> None:
        self.define(world, "v1", 100, 90)
        self.define(world, "v2", 40, None)
        assert world.ask(data.speed_of_change) is None


class TestFeatureCode:
    @pytest.mark.parametrize(("status", "passed"), [("pass", True), ("fail", False), ("error", False)])
    def test_unit_tests_of_the_view(self, world: World, status: str, passed: bool) -> None:
        world.ran("counts_sessions", kind="unit_test", status=status)
        found = world.ask(data.feature_code)
        assert found is not None
        assert found.passed is passed

    def test_other_tests_are_none(self, world: World) -> None:
        world.ran()
        assert world.ask(data.feature_code) is None
