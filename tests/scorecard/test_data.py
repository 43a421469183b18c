"""Evidence of features and data: rows with which a test passes, rows with which it does not, and too few to say."""

import pytest

from features.contract import Feature, Valid
from features.scorecard import data
from features.scorecard.score import How
from tests.scorecard.observed_warehouse import DAY, HOUR, NOON, VIEW, ObservedWarehouse


def without_ranges(observed: ObservedWarehouse, **changes: object) -> object:
    """The model, were no feature's values bounded; or otherwise changed."""
    view = observed.model.feature_view
    features = tuple(feature.model_copy(update={"valid": Valid()} | changes) for feature in view.features)
    return observed.model.model_copy(update={"feature_view": view.model_copy(update={"features": features})})


class TestFeatureExpectations:
    def test_a_range_or_a_test_for_each_feature(self, observed: ObservedWarehouse) -> None:
        for name in ("sessions_last_7_days", "sessions_last_30_days"):  # the others have a range
            observed.ran(f"holds_{name}", column=name)
        found = observed.ask(data.feature_expectations, NOON + HOUR)
        assert found is not None
        assert found.passed
        assert found.how is How.AUTOMATED
        assert found.expires_at == NOON + DAY, "from the run on, not from the look"
        assert found.text == (
            "Each of 5 features has a `valid` range or a test. dbt tests: 2 of user_session_features at "
            "2013-07-02 12:00Z passed."
        )

    def test_a_feature_with_neither(self, observed: ObservedWarehouse) -> None:
        observed.ran(column="sessions_last_7_days")
        found = observed.ask(data.feature_expectations)
        assert found is not None
        assert not found.passed
        assert "sessions_last_30_days have neither" in found.text

    @pytest.mark.parametrize("status", ["fail", "error", "warn", "skipped"])
    def test_a_test_that_did_not_pass(self, observed: ObservedWarehouse, status: str) -> None:
        for name in observed.model.feature_names:
            observed.ran(name, column=name)
        observed.ran("other", status=status)
        found = observed.ask(data.feature_expectations)
        assert found is not None
        assert not found.passed
        assert f"other ({status}) did not pass" in found.text

    def test_a_test_that_was_run_again_is_as_it_ended_last(self, observed: ObservedWarehouse) -> None:
        for name in observed.model.feature_names:
            observed.ran(name, column=name)
        observed.ran("other", status="fail", run="first")
        observed.ran("other", status="pass", run="second")
        found = observed.ask(data.feature_expectations)
        assert found is not None
        assert found.passed

    def test_only_the_newest_run_at_or_before_the_instant_counts(self, observed: ObservedWarehouse) -> None:
        for name in observed.model.feature_names:
            observed.ran(name, column=name, at=NOON - HOUR, status="fail")
            observed.ran(name, column=name)
            observed.ran(name, column=name, at=NOON + HOUR, status="fail")
        assert [
            found.passed
            for at in (NOON - HOUR, NOON, NOON + HOUR)
            if (found := observed.ask(data.feature_expectations, at)) is not None
        ] == [False, True, False]

    @pytest.mark.parametrize("kind", ["model", "unit_test"])
    def test_nothing_is_said_where_no_test_of_the_view_ran(self, observed: ObservedWarehouse, kind: str) -> None:
        observed.ran(of="event_type_features")
        observed.ran(kind=kind)
        observed.ran(at=None, run="by hand, at no instant")
        assert observed.ask(data.feature_expectations) is None


class TestBenefit:
    def test_every_feature_helps(self, observed: ObservedWarehouse) -> None:
        observed.train()
        found = observed.ask(data.benefit)
        assert found is not None
        assert found.passed
        assert found.text == (
            "On the holdout of v1, permuting each feature takes 0.0500 (session_count) or more from its roc_auc."
        )
        assert found.expires_at == NOON - 10 * DAY + 62 * DAY

    @pytest.mark.parametrize(("drop", "deviation"), [(0.0, 0.0), (-0.01, 0.001), (0.001, 0.002), (None, None)])
    def test_a_feature_that_does_not_help_beyond_chance(
        self, observed: ObservedWarehouse, drop: float | None, deviation: float | None
    ) -> None:
        names = observed.model.feature_names
        importance = [{"feature": name, "drop": 0.1, "deviation": 0.01} for name in names[1:]]
        observed.train(importance=[*importance, {"feature": names[0], "drop": drop, "deviation": deviation}])
        found = observed.ask(data.benefit)
        assert found is not None
        assert not found.passed
        assert f"permuting {names[0]} takes nothing" in found.text

    def test_a_feature_that_the_champion_does_not_know(self, observed: ObservedWarehouse) -> None:
        names = observed.model.feature_names
        observed.train(importance=[{"feature": name, "drop": 0.1, "deviation": 0.01} for name in names[1:]])
        found = observed.ask(data.benefit)
        assert found is not None
        assert not found.passed

    def test_nothing_is_said_without_a_champion_or_of_one_that_was_trained_later(
        self, observed: ObservedWarehouse
    ) -> None:
        assert observed.ask(data.benefit) is None
        observed.train(at=NOON + HOUR)
        assert observed.ask(data.benefit) is None

    def test_nothing_is_said_where_importance_was_not_kept(self, observed: ObservedWarehouse) -> None:
        observed.train(importance=[])
        assert observed.ask(data.benefit) is None

    def test_it_is_that_of_the_champion_and_after_a_rollback_of_the_one_before(
        self, observed: ObservedWarehouse
    ) -> None:
        observed.train("1")
        observed.train("2", at=NOON - DAY, importance=[{"feature": "session_count", "drop": 0.0, "deviation": 0.0}])
        found = observed.ask(data.benefit)
        assert found is not None
        assert not found.passed
        observed.crown("1", kind="rollback")
        found = observed.ask(data.benefit)
        assert found is not None
        assert found.passed


class TestCost:
    """Snapshots stay fresh for three hours, of which a build may take a quarter: 2,700 s."""

    def test_a_build_that_takes_little(self, observed: ObservedWarehouse) -> None:
        observed.ran(VIEW, kind="model", seconds=2.5)
        observed.ran(VIEW, kind="model", seconds=3.5, at=NOON - 6 * DAY)
        found = observed.ask(data.cost)
        assert found is not None
        assert found.passed
        assert (
            "The slowest of 2 builds of user_session_features in a week took 3.5 s, and may take 2,700 s" in found.text
        )

    @pytest.mark.parametrize(("seconds", "passed"), [(2700.0, True), (2700.1, False)])
    def test_a_build_that_takes_too_long(self, observed: ObservedWarehouse, seconds: float, passed: bool) -> None:
        observed.ran(VIEW, kind="model", seconds=seconds)
        found = observed.ask(data.cost)
        assert found is not None
        assert found.passed is passed

    def test_it_says_how_long_predictions_took(self, observed: ObservedWarehouse) -> None:
        observed.ran(VIEW, kind="model")
        observed.answer(12.5, NOON - HOUR)
        found = observed.ask(data.cost)
        assert found is not None
        assert found.text.endswith("95% of predictions in the hour to 2013-07-02 11:00Z took 12.5 ms at most.")

    def test_nothing_is_said_of_builds_that_failed_or_are_too_long_ago(self, observed: ObservedWarehouse) -> None:
        observed.ran(VIEW, kind="model", status="error")
        observed.ran(VIEW, kind="model", at=NOON - 7 * DAY)
        observed.ran(VIEW, kind="model", at=NOON + HOUR)
        assert observed.ask(data.cost) is None


class TestMetaRequirements:
    def test_every_feature_is_described_and_watched(self, observed: ObservedWarehouse) -> None:
        observed.ran(VIEW, kind="model")
        found = observed.ask(data.meta_requirements)
        assert found is not None
        assert found.passed
        assert "5 features of Feature store maintainers" in found.text

    def test_a_feature_without_a_description(self, observed: ObservedWarehouse) -> None:
        observed.ran(VIEW, kind="model")
        found = observed.ask(data.meta_requirements, model=without_ranges(observed, description=" "))  # type: ignore[arg-type]
        assert found is not None
        assert not found.passed
        assert "without a description" in found.text

    def test_a_feature_that_nobody_watches(self, observed: ObservedWarehouse) -> None:
        observed.ran(VIEW, kind="model")
        off = Feature.model_validate({"name": "a", "description": "b", "data_type": "text", "drift": False}).drift
        found = observed.ask(data.meta_requirements, model=without_ranges(observed, drift=off))  # type: ignore[arg-type]
        assert found is not None
        assert not found.passed

    def test_a_view_that_was_not_built(self, observed: ObservedWarehouse) -> None:
        observed.ran(VIEW, kind="model", status="error")
        found = observed.ask(data.meta_requirements)
        assert found is not None
        assert not found.passed

    def test_nothing_is_said_before_a_build(self, observed: ObservedWarehouse) -> None:
        assert observed.ask(data.meta_requirements) is None


class TestPrivacy:
    def test_requests_that_hold_declared_features_only(self, observed: ObservedWarehouse) -> None:
        observed.request(1, {"session_count": 3.0})
        observed.request(2, {"session_count": 4.0, "sessions_last_7_days": 1.0}, NOON - HOUR)
        found = observed.ask(data.privacy)
        assert found is not None
        assert found.passed
        assert "2 logged requests of a week hold 2 of 5 features that may be logged, and none of 0" in found.text

    def test_a_request_that_holds_what_tells_who_somebody_is(self, observed: ObservedWarehouse) -> None:
        observed.request(1, {"session_count": 3.0})
        found = observed.ask(data.privacy, model=without_ranges(observed, pii=True))  # type: ignore[arg-type]
        assert found is not None
        assert not found.passed
        assert found.text == "Not private: session_count is logged."

    def test_a_request_that_holds_what_nobody_declared(self, observed: ObservedWarehouse) -> None:
        observed.request(1, {"email": 1.0})
        found = observed.ask(data.privacy)
        assert found is not None
        assert found.text == "Not private: email is logged."

    @pytest.mark.parametrize(("age", "passed"), [(90, True), (91, True), (92, False)])
    def test_a_request_that_should_be_gone(self, observed: ObservedWarehouse, age: int, passed: bool) -> None:
        observed.request(1, {"session_count": 3.0})
        observed.request(2, {"session_count": 3.0}, NOON - age * DAY)
        found = observed.ask(data.privacy)
        assert found is not None
        assert found.passed is passed

    @pytest.mark.parametrize("reader", ["public", "monitor_reader"])
    def test_rows_of_persons_that_anybody_may_read(self, observed: ObservedWarehouse, reader: str) -> None:
        observed.request(1, {"session_count": 3.0})
        observed.connection.execute(f"grant select (score) on serving.predictions to {reader}")
        found = observed.ask(data.privacy)
        assert found is not None
        assert not found.passed
        assert f"{reader} may read serving.predictions" in found.text

    def test_nothing_is_said_where_nothing_was_logged_lately(self, observed: ObservedWarehouse) -> None:
        observed.request(1, {"session_count": 3.0}, NOON - 8 * DAY)
        assert observed.ask(data.privacy) is None


class TestSpeedOfChange:
    def define(self, observed: ObservedWarehouse, version: str, built: int, published: int | None) -> None:
        """A definition, first built and first published so many hours before NOON."""
        observed.put(
            "features.feature_versions",
            feature_view=VIEW,
            feature_version=version,
            definition="",
            first_built_at=NOON - built * HOUR,
        )
        if published is not None:
            observed.put(
                "serving.publications",
                feature_view=VIEW,
                as_of=NOON - published * HOUR,
                feature_version=version,
                row_count=1,
                published_at=NOON - published * HOUR,
                retired_at=NOON,
            )

    @pytest.mark.parametrize(("published", "passed"), [(39, True), (16, True), (15, False)])
    def test_a_changed_definition_that_was_served(
        self, observed: ObservedWarehouse, published: int, passed: bool
    ) -> None:
        self.define(observed, "v1", 100, 90)
        self.define(observed, "v2", 40, published)
        found = observed.ask(data.speed_of_change)
        assert found is not None
        assert found.passed is passed
        assert found.text.endswith(f"{40 - published}.0 h after dbt had built it first.")

    def test_the_first_definition_is_no_change(self, observed: ObservedWarehouse) -> None:
        self.define(observed, "v1", 40, 39)
        assert observed.ask(data.speed_of_change) is None

    def test_nothing_is_said_of_a_definition_that_is_not_served_yet(self, observed: ObservedWarehouse) -> None:
        self.define(observed, "v1", 100, 90)
        self.define(observed, "v2", 40, None)
        assert observed.ask(data.speed_of_change) is None


class TestFeatureCode:
    @pytest.mark.parametrize(("status", "passed"), [("pass", True), ("fail", False), ("error", False)])
    def test_unit_tests_of_the_view(self, observed: ObservedWarehouse, status: str, passed: bool) -> None:
        observed.ran("counts_sessions", kind="unit_test", status=status)
        found = observed.ask(data.feature_code)
        assert found is not None
        assert found.passed is passed

    def test_other_tests_are_none(self, observed: ObservedWarehouse) -> None:
        observed.ran()
        assert observed.ask(data.feature_code) is None
