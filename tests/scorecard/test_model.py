"""Evidence of model development: what the champion's training and judging left behind."""

import pytest

from features.contract import MonitoringSettings
from features.scorecard import model
from features.scorecard.collect import Source
from tests.scorecard.world import DAY, HOUR, NOON, World


class TestReview:
    def test_a_commit_as_it_is_that_somebody_reviewed(self, world: World) -> None:
        world.train()
        found = world.ask(model.review)
        assert found is not None
        assert found.passed
        assert found.text == "v1 was trained from commit 0123456789ab as it is, reviewed by Ada <ada@example.com>."

    @pytest.mark.parametrize("commit", ["unknown", "0123456789abcdef and uncommitted changes"])
    def test_code_that_is_not_checked_in(self, world: World, commit: str) -> None:
        world.train(code={"commit": commit, "reviewed_by": []})
        found = world.ask(model.review)
        assert found is not None
        assert not found.passed
        assert commit in found.text

    def test_a_clean_commit_alone_says_nothing_of_a_review(self, world: World) -> None:
        world.train(code={"commit": "0123456789abcdef", "reviewed_by": []})
        assert world.ask(model.review) is None

    def test_nothing_is_said_of_versions_of_before(self, world: World) -> None:
        assert world.ask(model.review) is None
        world.train(code=None)
        assert world.ask(model.review) is None


class TestCorrelation:
    """The holdout said 0.80 to 0.84."""

    def fill(self, world: World, alike: int, other: int, **row: object) -> None:
        world.train()
        for number in range(alike):
            world.cohort(0.83, 0.90, NOON - number * HOUR, **row)  # type: ignore[arg-type]
        for number in range(other):
            world.cohort(0.60, 0.79, NOON - DAY - number * HOUR, **row)  # type: ignore[arg-type]

    @pytest.mark.parametrize(("alike", "other", "passed"), [(5, 0, True), (4, 1, True), (3, 2, False), (0, 5, False)])
    def test_four_in_five_cohorts_are_as_good_as_the_holdout_said(
        self, world: World, alike: int, other: int, passed: bool
    ) -> None:
        self.fill(world, alike, other)
        found = world.ask(model.correlation)
        assert found is not None
        assert found.passed is passed
        assert f"Of 5 cohorts of served predictions whose labels have matured, {alike} have a roc_auc" in found.text

    def test_intervals_that_touch_meet(self, world: World) -> None:
        world.train()
        for number in range(5):
            world.cohort(0.84, 0.90, NOON - number * HOUR)
        found = world.ask(model.correlation)
        assert found is not None
        assert found.passed

    def test_a_few_cohorts_say_nothing(self, world: World) -> None:
        self.fill(world, 4, 0)
        assert world.ask(model.correlation) is None

    @pytest.mark.parametrize("row", [{"labels": 499}, {"matured": NOON + HOUR}], ids=str)
    def test_nor_do_cohorts_of_few_labels_or_of_labels_that_mature_later(
        self, world: World, row: dict[str, object]
    ) -> None:
        self.fill(world, 5, 0, **row)
        assert world.ask(model.correlation) is None


class TestTuning:
    def test_the_best_of_several_candidates(self, world: World) -> None:
        world.train()
        found = world.ask(model.tuning)
        assert found is not None
        assert found.passed
        assert "the best of 4 candidates by log loss before the holdout, 0.30000; what is declared gave 0.31000" in (
            found.text
        )

    def test_of_one_candidate_nothing_was_chosen(self, world: World) -> None:
        world.train(search={"candidates": 1, "best_log_loss": 0.3, "declared_log_loss": 0.3})
        found = world.ask(model.tuning)
        assert found is not None
        assert not found.passed

    def test_nothing_is_said_where_nothing_was_searched(self, world: World) -> None:
        world.train(search=None)
        assert world.ask(model.tuning) is None


class TestStaleness:
    def test_the_newest_backtest_at_or_before_the_instant(self, world: World) -> None:
        world.backtest(NOON - 30 * DAY, measured=60)
        world.backtest(NOON - DAY)
        world.backtest(NOON + DAY, measured=120)
        found = world.ask(model.staleness)
        assert found is not None
        assert found.passed
        assert "measured up to 90 days; churn may become 40 days old" in found.text
        assert found.expires_at == NOON - DAY + 62 * DAY

    def test_nothing_is_said_without_one(self, world: World) -> None:
        world.backtest(NOON + HOUR)
        assert world.ask(model.staleness) is None


@pytest.mark.parametrize(
    ("source", "check"),
    [(model.simpler_models, "simpler_model"), (model.slices, "slice")],
    ids=["simpler_models", "slices"],
)
class TestChecksOfTheGate:
    def test_a_champion_that_passed(self, world: World, source: Source, check: str) -> None:
        world.train()
        found = world.ask(source)
        assert found is not None
        assert found.passed
        assert found.text.startswith("The gate on v1: ")

    def test_a_champion_that_did_not(self, world: World, source: Source, check: str) -> None:
        """Somebody may make a version champion in spite of the gate, by rolling back to it."""
        world.train(failed=check)
        found = world.ask(source)
        assert found is not None
        assert not found.passed

    def test_a_champion_of_which_it_was_not_asked(self, world: World, source: Source, check: str) -> None:
        world.train(without=check)
        assert world.ask(source) is None

    def test_no_champion(self, world: World, source: Source, check: str) -> None:
        world.train(promoted=False)
        assert world.ask(source) is None


class TestSlices:
    def test_a_segment_that_was_too_small_to_judge(self, world: World) -> None:
        """The gate lets it pass, since it says nothing; the rubric asks for quality that is sufficient."""
        world.train(slices=[{"name": "frequent", "rows": 9, "metric": {"estimate": None}}])
        found = world.ask(model.slices)
        assert found is not None
        assert not found.passed
        assert found.text == "The holdout of v1 has too few rows of frequent to judge it there."

    def test_without_a_declared_segment_nothing_is_said(self, world: World) -> None:
        world.train()
        bare = world.model.model_copy(update={"monitoring": MonitoringSettings()})
        assert world.ask(model.slices, model=bare) is None
