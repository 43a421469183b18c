"""Evidence of monitoring: what was watched, and what it found."""

from datetime import datetime, timedelta

import pytest

from features.contract import Model, MonitoringSettings, NotifySettings
from features.scorecard import monitoring
from tests.scorecard.observed_warehouse import DAY, HOUR, NOON, VIEW, ObservedWarehouse

SOURCE = "stg_session_events"
RELATIONS = ("churn_training_set", "user_features")


class TestDependencies:
    @pytest.fixture
    def told(self, observed: ObservedWarehouse) -> Model:
        """The model, were somebody told of its incidents."""
        notify = MonitoringSettings(notify=NotifySettings(slack_webhook="alerts"))
        return observed.model.model_copy(update={"monitoring": notify})

    def watch(
        self, observed: ObservedWarehouse, *, blind: bool = False, freshness: str = "fresh_at_as_of_stg_ingested_at"
    ) -> None:
        observed.ran(freshness, of=SOURCE)
        observed.self_test("session_count")
        observed.self_test("sessions_last_7_days", is_blind=blind)

    def test_somebody_is_told_and_there_is_something_to_tell(self, observed: ObservedWarehouse, told: Model) -> None:
        self.watch(observed)
        found = observed.ask(monitoring.dependencies, model=told)
        assert found is not None
        assert found.passed
        assert "Incidents are told by slack" in found.text
        assert "all 2 shifts put in were found" in found.text
        assert found.expires_at == NOON - HOUR + DAY, "from the older of both looks on"

    def test_a_source_that_stopped_is_seen_too(self, observed: ObservedWarehouse, told: Model) -> None:
        """It is the look that is the test, not what it finds."""
        observed.ran("fresh_at_as_of_stg_ingested_at", of=SOURCE, status="fail")
        observed.self_test("session_count")
        found = observed.ask(monitoring.dependencies, model=told)
        assert found is not None
        assert found.passed
        assert "fresh_at_as_of_stg_ingested_at fail" in found.text

    def test_a_monitor_that_is_blind(self, observed: ObservedWarehouse, told: Model) -> None:
        self.watch(observed, blind=True)
        found = observed.ask(monitoring.dependencies, model=told)
        assert found is not None
        assert not found.passed
        assert "blind to shifts of sessions_last_7_days (0.25 sigma)" in found.text

    def test_nothing_is_said_where_nobody_is_told(self, observed: ObservedWarehouse) -> None:
        self.watch(observed)
        assert observed.ask(monitoring.dependencies) is None

    def test_nor_where_freshness_is_not_tested_or_nothing_tests_the_monitor(
        self, observed: ObservedWarehouse, told: Model
    ) -> None:
        self.watch(observed, freshness="not_null_event_id")
        assert observed.ask(monitoring.dependencies, model=told) is None
        observed.ran("fresh_at_as_of_stg_ingested_at", of=SOURCE)
        assert observed.ask(monitoring.dependencies, model=told) is not None
        observed.connection.execute("delete from monitoring.drift_self_tests")
        assert observed.ask(monitoring.dependencies, model=told) is None


class TestInvariants:
    def fill(self, observed: ObservedWarehouse, *, status: str = "pass", without: str = "") -> None:
        for relation in RELATIONS:
            observed.ran(f"unique_key_{relation}", of=relation, status=status if relation == RELATIONS[1] else "pass")
        for name in observed.model.feature_names:
            if name != without:
                observed.report(name)

    def test_both_ends_hold(self, observed: ObservedWarehouse) -> None:
        self.fill(observed)
        found = observed.ask(monitoring.invariants)
        assert found is not None
        assert found.passed
        assert "1 of churn_training_set" in found.text
        assert "1 of user_features" in found.text
        assert found.text.endswith("Served at 2013-07-02 12:00Z: 5 features are there, valid and of their kind.")

    def test_a_test_of_what_is_served_that_did_not_pass(self, observed: ObservedWarehouse) -> None:
        self.fill(observed, status="fail")
        found = observed.ask(monitoring.invariants)
        assert found is not None
        assert not found.passed

    @pytest.mark.parametrize(
        ("status", "decided_by", "passed"),
        [
            ("critical", "invalid", False),
            ("warning", "not_finite", False),
            ("critical", "missing", False),
            ("missing_feature", "shape", False),
            ("error", "shape", False),
            ("critical", "shape", True),  # the world may move without breaking what must hold
            ("ok", "invalid", True),
        ],
    )
    def test_a_feature_that_is_not_what_it_must_be(
        self, observed: ObservedWarehouse, status: str, decided_by: str, passed: bool
    ) -> None:
        self.fill(observed, without="session_count")
        observed.report("session_count", status, decided_by=decided_by)
        found = observed.ask(monitoring.invariants)
        assert found is not None
        assert found.passed is passed

    def test_a_feature_that_nobody_looked_at(self, observed: ObservedWarehouse) -> None:
        self.fill(observed, without="session_count")
        observed.report("(prediction)")
        found = observed.ask(monitoring.invariants)
        assert found is not None
        assert not found.passed
        assert "session_count (not reported) broken" in found.text

    def test_only_the_newest_hour_counts(self, observed: ObservedWarehouse) -> None:
        self.fill(observed)
        observed.report("session_count", "error", at=NOON - HOUR)
        observed.report("session_count", "error", at=NOON + HOUR)
        found = observed.ask(monitoring.invariants)
        assert found is not None
        assert found.passed

    def test_it_expires_with_the_older_of_both_looks(self, observed: ObservedWarehouse) -> None:
        self.fill(observed)
        found = observed.ask(monitoring.invariants, NOON + 30 * DAY)
        assert found is not None
        assert found.expires_at == NOON + DAY

    def test_nothing_is_said_where_one_end_was_not_looked_at(self, observed: ObservedWarehouse) -> None:
        observed.ran(of=RELATIONS[0])
        observed.report("session_count")
        assert observed.ask(monitoring.invariants) is None


class TestParity:
    def test_what_was_published_and_what_was_served(self, observed: ObservedWarehouse) -> None:
        observed.audit()
        observed.audit(source="inference_log", rows=30)
        found = observed.ask(monitoring.parity)
        assert found is not None
        assert found.passed
        assert found.text == (
            "Published at 2013-07-02 12:00Z: of 100 recomputed rows no cell differs. "
            "Served at 2013-07-02 12:00Z: of 30 recomputed rows no cell differs."
        )

    @pytest.mark.parametrize("source", ["publication", "inference_log"])
    def test_a_cell_that_differs(self, observed: ObservedWarehouse, source: str) -> None:
        observed.audit(mismatches=int(source == "publication"))
        observed.audit(mismatches=int(source == "inference_log"), source="inference_log")
        found = observed.ask(monitoring.parity)
        assert found is not None
        assert not found.passed
        assert "1 cells differ (session_count)" in found.text

    def test_only_the_newest_audit_counts(self, observed: ObservedWarehouse) -> None:
        observed.audit(5, at=NOON - HOUR, number=1)
        observed.audit(number=2)
        observed.audit(5, at=NOON + HOUR, number=3)
        found = observed.ask(monitoring.parity)
        assert found is not None
        assert found.passed

    def test_nothing_is_said_where_nothing_was_compared(self, observed: ObservedWarehouse) -> None:
        observed.audit(source="inference_log")
        assert observed.ask(monitoring.parity) is None
        observed.audit(rows=0)
        assert observed.ask(monitoring.parity) is None


class TestAge:
    """Without a backtest that has met models of 60 days, a champion may become 30 days old."""

    @pytest.mark.parametrize(("days", "passed"), [(0, True), (29, True), (30, False), (90, False)])
    def test_a_champion_beside_what_the_policy_allows(
        self, observed: ObservedWarehouse, days: int, passed: bool
    ) -> None:
        observed.train(at=NOON - days * DAY)
        found = observed.ask(monitoring.age)
        assert found is not None
        assert found.passed is passed

    def test_what_the_backtest_says_counts(self, observed: ObservedWarehouse) -> None:
        observed.train(at=NOON - 35 * DAY)
        observed.backtest(NOON - DAY, max_age=40)
        found = observed.ask(monitoring.age)
        assert found is not None
        assert found.passed
        assert found.text == "v1 is 35.0 days old; it may become 40, by the decay backtest of 2013-07-01."

    def test_it_expires_when_the_champion_becomes_too_old(self, observed: ObservedWarehouse) -> None:
        observed.train(at=NOON - 30 * DAY + HOUR)
        found = observed.ask(monitoring.age)
        assert found is not None
        assert found.expires_at == NOON + HOUR

    def test_nothing_is_said_without_a_champion(self, observed: ObservedWarehouse) -> None:
        assert observed.ask(monitoring.age) is None


class TestStability:
    def test_a_week_of_finite_values(self, observed: ObservedWarehouse) -> None:
        observed.train()
        observed.count("session_count")
        observed.count("(prediction)")
        observed.count("(prediction)", at=NOON - 6 * DAY)
        observed.count("(prediction)", at=NOON - 8 * DAY, not_finite=1)
        found = observed.ask(monitoring.stability)
        assert found is not None
        assert found.passed
        assert "In 2 hours of a week every feature and score is finite." in found.text

    @pytest.mark.parametrize("feature", ["(prediction)", "session_count"])
    def test_a_value_that_is_no_number(self, observed: ObservedWarehouse, feature: str) -> None:
        observed.train()
        observed.count("(prediction)")
        observed.count(feature, not_finite=2)
        found = observed.ask(monitoring.stability)
        assert found is not None
        assert not found.passed
        assert f"values of {feature} are not finite" in found.text

    def test_a_champion_that_the_gate_found_unstable(self, observed: ObservedWarehouse) -> None:
        observed.train(failed="stable")
        observed.count("(prediction)")
        found = observed.ask(monitoring.stability)
        assert found is not None
        assert not found.passed

    def test_nothing_is_said_without_scores_or_without_a_champion(self, observed: ObservedWarehouse) -> None:
        observed.count("(prediction)")
        assert observed.ask(monitoring.stability) is None
        observed.train()
        observed.connection.execute("delete from monitoring.sketches")
        observed.count("session_count")
        assert observed.ask(monitoring.stability) is None


class TestSpeed:
    def builds(self, observed: ObservedWarehouse, now: float, before: float, runs: int = 3) -> None:
        for number in range(runs):
            observed.ran(VIEW, kind="model", seconds=now, at=NOON - number * DAY)
            observed.ran(VIEW, kind="model", seconds=before, at=NOON - 10 * DAY - number * DAY)

    def answers(self, observed: ObservedWarehouse, at: datetime, milliseconds: float) -> None:
        for number in range(3):
            observed.answer(milliseconds, at - number * HOUR)

    @pytest.mark.parametrize(
        ("now", "before", "passed"), [(10, 10, True), (15, 10, True), (15.1, 10, False), (1.9, 1, True), (1, 90, True)]
    )
    def test_builds_of_this_week_beside_those_before(
        self, observed: ObservedWarehouse, now: float, before: float, passed: bool
    ) -> None:
        self.builds(observed, now, before)
        found = observed.ask(monitoring.speed)
        assert found is not None
        assert found.passed is passed

    def test_one_slow_build_is_none_of_a_regression(self, observed: ObservedWarehouse) -> None:
        self.builds(observed, 10, 10)
        observed.ran(VIEW, kind="model", seconds=500, at=NOON - HOUR)
        found = observed.ask(monitoring.speed)
        assert found is not None
        assert found.passed

    def test_predictions_that_take_much_longer(self, observed: ObservedWarehouse) -> None:
        self.builds(observed, 10, 10)
        self.answers(observed, NOON, 40.0)
        self.answers(observed, NOON - 10 * DAY, 20.0)
        found = observed.ask(monitoring.speed)
        assert found is not None
        assert not found.passed
        assert "Online predictions (95%): 40.00 ms in 3 runs of this week, 20.00 ms in 3 before." in found.text

    @pytest.mark.parametrize("age", [timedelta(days=40), timedelta(0)])
    def test_nothing_is_said_before_there_is_something_to_compare(
        self, observed: ObservedWarehouse, age: timedelta
    ) -> None:
        for number in range(5):
            observed.ran(VIEW, kind="model", at=NOON - age - number * HOUR)
        assert observed.ask(monitoring.speed) is None


class TestQuality:
    @pytest.mark.parametrize(("fired", "passed"), [(False, True), (True, False)])
    def test_what_the_policy_found(self, observed: ObservedWarehouse, fired: bool, passed: bool) -> None:
        observed.train()
        observed.decide(fired)
        found = observed.ask(monitoring.quality)
        assert found is not None
        assert found.passed is passed
        assert found.text == "The policy on v1 at 2013-07-02 12:00Z. Performance: 0.80, not below 0.78."

    def test_what_could_not_be_judged_is_no_evidence(self, observed: ObservedWarehouse) -> None:
        observed.train()
        observed.decide(None)
        assert observed.ask(monitoring.quality) is None

    def test_nor_is_a_decision_on_another_champion_or_a_later_one(self, observed: ObservedWarehouse) -> None:
        observed.train()
        observed.decide(False, champion="2")
        assert observed.ask(monitoring.quality) is None
        observed.decide(False, at=NOON + HOUR)
        assert observed.ask(monitoring.quality) is None
