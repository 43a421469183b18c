"""Evidence of monitoring: what was watched, and what it found."""

from datetime import datetime, timedelta

import pytest

from features.contract import Model, MonitoringSettings, NotifySettings
from features.scorecard import monitoring
from tests.scorecard.world import DAY, HOUR, NOON, VIEW, World

SOURCE = "stg_session_events"
RELATIONS = ("churn_training_set", "user_features")


class TestDependencies:
    @pytest.fixture
    def told(self, world: World) -> Model:
        """The model, were somebody told of its incidents."""
        notify = MonitoringSettings(notify=NotifySettings(slack_webhook="alerts"))
        return world.model.model_copy(update={"monitoring": notify})

    def watch(self, world: World, *, blind: bool = False, freshness: str = "fresh_at_as_of_stg_ingested_at") -> None:
        world.ran(freshness, of=SOURCE)
        world.self_test("session_count")
        world.self_test("sessions_last_7_days", is_blind=blind)

    def test_somebody_is_told_and_there_is_something_to_tell(self, world: World, told: Model) -> None:
        self.watch(world)
        found = world.ask(monitoring.dependencies, model=told)
        assert found is not None
        assert found.passed
        assert "Incidents are told by slack" in found.text
        assert "all 2 shifts put in were found" in found.text
        assert found.expires_at == NOON - HOUR + DAY, "from the older of both looks on"

    def test_a_source_that_stopped_is_seen_too(self, world: World, told: Model) -> None:
        """It is the look that is the test, not what it finds."""
        world.ran("fresh_at_as_of_stg_ingested_at", of=SOURCE, status="fail")
        world.self_test("session_count")
        found = world.ask(monitoring.dependencies, model=told)
        assert found is not None
        assert found.passed
        assert "fresh_at_as_of_stg_ingested_at fail" in found.text

    def test_a_monitor_that_is_blind(self, world: World, told: Model) -> None:
        self.watch(world, blind=True)
        found = world.ask(monitoring.dependencies, model=told)
        assert found is not None
        assert not found.passed
        assert "blind to shifts of sessions_last_7_days (0.25 sigma)" in found.text

    def test_nothing_is_said_where_nobody_is_told(self, world: World) -> None:
        self.watch(world)
        assert world.ask(monitoring.dependencies) is None

    def test_nor_where_freshness_is_not_tested_or_nothing_tests_the_monitor(self, world: World, told: Model) -> None:
        self.watch(world, freshness="not_null_event_id")
        assert world.ask(monitoring.dependencies, model=told) is None
        world.ran("fresh_at_as_of_stg_ingested_at", of=SOURCE)
        assert world.ask(monitoring.dependencies, model=told) is not None
        world.connection.execute("delete from monitoring.drift_self_tests")
        assert world.ask(monitoring.dependencies, model=told) is None


class TestInvariants:
    def fill(self, world: World, *, status: str = "pass", without: str = "") -> None:
        for relation in RELATIONS:
            world.ran(f"unique_key_{relation}", of=relation, status=status if relation == RELATIONS[1] else "pass")
        for name in world.model.feature_names:
            if name != without:
                world.report(name)

    def test_both_ends_hold(self, world: World) -> None:
        self.fill(world)
        found = world.ask(monitoring.invariants)
        assert found is not None
        assert found.passed
        assert "1 of churn_training_set" in found.text
        assert "1 of user_features" in found.text
        assert found.text.endswith("Served at 2013-07-02 12:00Z: 5 features are there, valid and of their kind.")

    def test_a_test_of_what_is_served_that_did_not_pass(self, world: World) -> None:
        self.fill(world, status="fail")
        found = world.ask(monitoring.invariants)
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
        self, world: World, status: str, decided_by: str, passed: bool
    ) -> None:
        self.fill(world, without="session_count")
        world.report("session_count", status, decided_by=decided_by)
        found = world.ask(monitoring.invariants)
        assert found is not None
        assert found.passed is passed

    def test_a_feature_that_nobody_looked_at(self, world: World) -> None:
        self.fill(world, without="session_count")
        world.report("(prediction)")
        found = world.ask(monitoring.invariants)
        assert found is not None
        assert not found.passed
        assert "session_count (not reported) broken" in found.text

    def test_only_the_newest_hour_counts(self, world: World) -> None:
        self.fill(world)
        world.report("session_count", "error", at=NOON - HOUR)
        world.report("session_count", "error", at=NOON + HOUR)
        found = world.ask(monitoring.invariants)
        assert found is not None
        assert found.passed

    def test_it_expires_with_the_older_of_both_looks(self, world: World) -> None:
        self.fill(world)
        found = world.ask(monitoring.invariants, NOON + 30 * DAY)
        assert found is not None
        assert found.expires_at == NOON + DAY

    def test_nothing_is_said_where_one_end_was_not_looked_at(self, world: World) -> None:
        world.ran(of=RELATIONS[0])
        world.report("session_count")
        assert world.ask(monitoring.invariants) is None


class TestParity:
    def test_what_was_published_and_what_was_served(self, world: World) -> None:
        world.audit()
        world.audit(source="inference_log", rows=30)
        found = world.ask(monitoring.parity)
        assert found is not None
        assert found.passed
        assert found.text == (
            "Published at 2013-07-02 12:00Z: of 100 recomputed rows no cell differs. "
            "Served at 2013-07-02 12:00Z: of 30 recomputed rows no cell differs."
        )

    @pytest.mark.parametrize("source", ["publication", "inference_log"])
    def test_a_cell_that_differs(self, world: World, source: str) -> None:
        world.audit(mismatches=int(source == "publication"))
        world.audit(mismatches=int(source == "inference_log"), source="inference_log")
        found = world.ask(monitoring.parity)
        assert found is not None
        assert not found.passed
        assert "1 cells differ (session_count)" in found.text

    def test_only_the_newest_audit_counts(self, world: World) -> None:
        world.audit(5, at=NOON - HOUR, number=1)
        world.audit(number=2)
        world.audit(5, at=NOON + HOUR, number=3)
        found = world.ask(monitoring.parity)
        assert found is not None
        assert found.passed

    def test_nothing_is_said_where_nothing_was_compared(self, world: World) -> None:
        world.audit(source="inference_log")
        assert world.ask(monitoring.parity) is None
        world.audit(rows=0)
        assert world.ask(monitoring.parity) is None


class TestAge:
    """Without a backtest that has met models of 60 days, a champion may become 30 days old."""

    @pytest.mark.parametrize(("days", "passed"), [(0, True), (29, True), (30, False), (90, False)])
    def test_a_champion_beside_what_the_policy_allows(self, world: World, days: int, passed: bool) -> None:
        world.train(at=NOON - days * DAY)
        found = world.ask(monitoring.age)
        assert found is not None
        assert found.passed is passed

    def test_what_the_backtest_says_counts(self, world: World) -> None:
        world.train(at=NOON - 35 * DAY)
        world.backtest(NOON - DAY, max_age=40)
        found = world.ask(monitoring.age)
        assert found is not None
        assert found.passed
        assert found.text == "v1 is 35.0 days old; it may become 40, by the decay backtest of 2013-07-01."

    def test_it_expires_when_the_champion_becomes_too_old(self, world: World) -> None:
        world.train(at=NOON - 30 * DAY + HOUR)
        found = world.ask(monitoring.age)
        assert found is not None
        assert found.expires_at == NOON + HOUR

    def test_nothing_is_said_without_a_champion(self, world: World) -> None:
        assert world.ask(monitoring.age) is None


class TestStability:
    def test_a_week_of_finite_values(self, world: World) -> None:
        world.train()
        world.count("session_count")
        world.count("(prediction)")
        world.count("(prediction)", at=NOON - 6 * DAY)
        world.count("(prediction)", at=NOON - 8 * DAY, not_finite=1)
        found = world.ask(monitoring.stability)
        assert found is not None
        assert found.passed
        assert "In 2 hours of a week every feature and score is finite." in found.text

    @pytest.mark.parametrize("feature", ["(prediction)", "session_count"])
    def test_a_value_that_is_no_number(self, world: World, feature: str) -> None:
        world.train()
        world.count("(prediction)")
        world.count(feature, not_finite=2)
        found = world.ask(monitoring.stability)
        assert found is not None
        assert not found.passed
        assert f"values of {feature} are not finite" in found.text

    def test_a_champion_that_the_gate_found_unstable(self, world: World) -> None:
        world.train(failed="stable")
        world.count("(prediction)")
        found = world.ask(monitoring.stability)
        assert found is not None
        assert not found.passed

    def test_nothing_is_said_without_scores_or_without_a_champion(self, world: World) -> None:
        world.count("(prediction)")
        assert world.ask(monitoring.stability) is None
        world.train()
        world.connection.execute("delete from monitoring.sketches")
        world.count("session_count")
        assert world.ask(monitoring.stability) is None


class TestSpeed:
    def builds(self, world: World, now: float, before: float, runs: int = 3) -> None:
        for number in range(runs):
            world.ran(VIEW, kind="model", seconds=now, at=NOON - number * DAY)
            world.ran(VIEW, kind="model", seconds=before, at=NOON - 10 * DAY - number * DAY)

    def answers(self, world: World, at: datetime, milliseconds: float) -> None:
        for number in range(3):
            world.answer(milliseconds, at - number * HOUR)

    @pytest.mark.parametrize(
        ("now", "before", "passed"), [(10, 10, True), (15, 10, True), (15.1, 10, False), (1.9, 1, True), (1, 90, True)]
    )
    def test_builds_of_this_week_beside_those_before(
        self, world: World, now: float, before: float, passed: bool
    ) -> None:
        self.builds(world, now, before)
        found = world.ask(monitoring.speed)
        assert found is not None
        assert found.passed is passed

    def test_one_slow_build_is_none_of_a_regression(self, world: World) -> None:
        self.builds(world, 10, 10)
        world.ran(VIEW, kind="model", seconds=500, at=NOON - HOUR)
        found = world.ask(monitoring.speed)
        assert found is not None
        assert found.passed

    def test_predictions_that_take_much_longer(self, world: World) -> None:
        self.builds(world, 10, 10)
        self.answers(world, NOON, 40.0)
        self.answers(world, NOON - 10 * DAY, 20.0)
        found = world.ask(monitoring.speed)
        assert found is not None
        assert not found.passed
        assert "Online predictions (95%): 40.00 ms in 3 runs of this week, 20.00 ms in 3 before." in found.text

    @pytest.mark.parametrize("age", [timedelta(days=40), timedelta(0)])
    def test_nothing_is_said_before_there_is_something_to_compare(self, world: World, age: timedelta) -> None:
        for number in range(5):
            world.ran(VIEW, kind="model", at=NOON - age - number * HOUR)
        assert world.ask(monitoring.speed) is None


class TestQuality:
    @pytest.mark.parametrize(("fired", "passed"), [(False, True), (True, False)])
    def test_what_the_policy_found(self, world: World, fired: bool, passed: bool) -> None:
        world.train()
        world.decide(fired)
        found = world.ask(monitoring.quality)
        assert found is not None
        assert found.passed is passed
        assert found.text == "The policy on v1 at 2013-07-02 12:00Z. Performance: 0.80, not below 0.78."

    def test_what_could_not_be_judged_is_no_evidence(self, world: World) -> None:
        world.train()
        world.decide(None)
        assert world.ask(monitoring.quality) is None

    def test_nor_is_a_decision_on_another_champion_or_a_later_one(self, world: World) -> None:
        world.train()
        world.decide(False, champion="2")
        assert world.ask(monitoring.quality) is None
        world.decide(False, at=NOON + HOUR)
        assert world.ask(monitoring.quality) is None
