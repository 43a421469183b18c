"""Evidence of model development: what the champion's training and judging left behind."""

import pytest

from features.contract import MonitoringSettings
from features.scorecard import model
from features.scorecard.collect import Source
from tests.scorecard.observed_warehouse import DAY, HOUR, NOON, ObservedWarehouse


class TestReview:
    def test_a_commit_as_it_is_that_somebody_reviewed(self, observed: ObservedWarehouse) -> None:
        observed.train()
        found = observed.ask(model.review)
        assert found is not None
        assert found.passed
        assert found.text == "v1 was trained from commit 0123456789ab as it is, reviewed by Ada <ada@example.com>."

    @pytest.mark.parametrize("commit", ["unknown", "0123456789abcdef and uncommitted changes"])
    def test_code_that_is_not_checked_in(self, observed: ObservedWarehouse, commit: str) -> None:
        observed.train(code={"commit": commit, "reviewed_by": []})
        found = observed.ask(model.review)
        assert found is not None
        assert not found.passed
        assert commit in found.text

    def test_a_clean_commit_alone_says_nothing_of_a_review(self, observed: ObservedWarehouse) -> None:
        observed.train(code={"commit": "0123456789abcdef", "reviewed_by": []})
        assert observed.ask(model.review) is None

    def test_nothing_is_said_of_versions_of_before(self, observed: ObservedWarehouse) -> None:
        assert observed.ask(model.review) is None
        observed.train(code=None)
        assert observed.ask(model.review) is None


class TestCorrelation:
    """The holdout said 0.80 to 0.84."""

    def fill(self, observed: ObservedWarehouse, alike: int, other: int, **row: object) -> None:
        observed.train()
        for number in range(alike):
            observed.cohort(0.83, 0.90, NOON - number * HOUR, **row)  # type: ignore[arg-type]
        for number in range(other):
            observed.cohort(0.60, 0.79, NOON - DAY - number * HOUR, **row)  # type: ignore[arg-type]

    @pytest.mark.parametrize(("alike", "other", "passed"), [(5, 0, True), (4, 1, True), (3, 2, False), (0, 5, False)])
    def test_four_in_five_cohorts_are_as_good_as_the_holdout_said(
        self, observed: ObservedWarehouse, alike: int, other: int, passed: bool
    ) -> None:
        self.fill(observed, alike, other)
        found = observed.ask(model.correlation)
        assert found is not None
        assert found.passed is passed
        assert f"Of 5 cohorts of served predictions whose labels have matured, {alike} have a roc_auc" in found.text

    def test_intervals_that_touch_meet(self, observed: ObservedWarehouse) -> None:
        observed.train()
        for number in range(5):
            observed.cohort(0.84, 0.90, NOON - number * HOUR)
        found = observed.ask(model.correlation)
        assert found is not None
        assert found.passed

    def test_a_few_cohorts_say_nothing(self, observed: ObservedWarehouse) -> None:
        self.fill(observed, 4, 0)
        assert observed.ask(model.correlation) is None

    @pytest.mark.parametrize("row", [{"labels": 499}, {"matured": NOON + HOUR}], ids=str)
    def test_nor_do_cohorts_of_few_labels_or_of_labels_that_mature_later(
        self, observed: ObservedWarehouse, row: dict[str, object]
    ) -> None:
        self.fill(observed, 5, 0, **row)
        assert observed.ask(model.correlation) is None


class TestTuning:
    def test_the_best_of_several_candidates(self, observed: ObservedWarehouse) -> None:
        observed.train()
        found = observed.ask(model.tuning)
        assert found is not None
        assert found.passed
        assert "the best of 4 candidates by log loss before the holdout, 0.30000; what is declared gave 0.31000" in (
            found.text
        )

    def test_of_one_candidate_nothing_was_chosen(self, observed: ObservedWarehouse) -> None:
        observed.train(search={"candidates": 1, "best_log_loss": 0.3, "declared_log_loss": 0.3})
        found = observed.ask(model.tuning)
        assert found is not None
        assert not found.passed

    def test_nothing_is_said_where_nothing_was_searched(self, observed: ObservedWarehouse) -> None:
        observed.train(search=None)
        assert observed.ask(model.tuning) is None


class TestStaleness:
    def test_the_newest_backtest_at_or_before_the_instant(self, observed: ObservedWarehouse) -> None:
        observed.backtest(NOON - 30 * DAY, measured=60)
        observed.backtest(NOON - DAY)
        observed.backtest(NOON + DAY, measured=120)
        found = observed.ask(model.staleness)
        assert found is not None
        assert found.passed
        assert "measured up to 90 days; churn may become 40 days old" in found.text
        assert found.expires_at == NOON - DAY + 62 * DAY

    def test_nothing_is_said_without_one(self, observed: ObservedWarehouse) -> None:
        observed.backtest(NOON + HOUR)
        assert observed.ask(model.staleness) is None


@pytest.mark.parametrize(
    ("source", "check"),
    [(model.simpler_models, "simpler_model"), (model.slices, "slice")],
    ids=["simpler_models", "slices"],
)
class TestChecksOfTheGate:
    def test_a_champion_that_passed(self, observed: ObservedWarehouse, source: Source, check: str) -> None:
        observed.train()
        found = observed.ask(source)
        assert found is not None
        assert found.passed
        assert found.text.startswith("The gate on v1: ")

    def test_a_champion_that_did_not(self, observed: ObservedWarehouse, source: Source, check: str) -> None:
        """Somebody may make a version champion in spite of the gate, by rolling back to it."""
        observed.train(failed=check)
        found = observed.ask(source)
        assert found is not None
        assert not found.passed

    def test_a_champion_of_which_it_was_not_asked(
        self, observed: ObservedWarehouse, source: Source, check: str
    ) -> None:
        observed.train(without=check)
        assert observed.ask(source) is None

    def test_no_champion(self, observed: ObservedWarehouse, source: Source, check: str) -> None:
        observed.train(promoted=False)
        assert observed.ask(source) is None


class TestSlices:
    def test_a_segment_that_was_too_small_to_judge(self, observed: ObservedWarehouse) -> None:
        """The gate lets it pass, since it says nothing; the rubric asks for quality that is sufficient."""
        observed.train(slices=[{"name": "frequent", "rows": 9, "metric": {"estimate": None}}])
        found = observed.ask(model.slices)
        assert found is not None
        assert not found.passed
        assert found.text == "The holdout of v1 has too few rows of frequent to judge it there."

    def test_without_a_declared_segment_nothing_is_said(self, observed: ObservedWarehouse) -> None:
        observed.train()
        bare = observed.model.model_copy(update={"monitoring": MonitoringSettings()})
        assert observed.ask(model.slices, model=bare) is None
