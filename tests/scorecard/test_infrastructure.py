"""Evidence of infrastructure; one example and training again are in tests/steps, on a warehouse that dbt built."""

import pytest

from features.scorecard import infrastructure
from features.scorecard.score import How
from tests.scorecard.observed_warehouse import DAY, HOUR, NOON, VIEW, ObservedWarehouse


class TestValidation:
    def test_every_promotion_had_passed(self, observed: ObservedWarehouse) -> None:
        observed.train("1", at=NOON - 60 * DAY)
        observed.train("2")
        observed.train("3", failed="champion", promoted=False)  # and was refused, as it should be
        found = observed.ask(infrastructure.validation)
        assert found is not None
        assert found.passed
        assert found.text == "2 of 2 promotions in 180 days had passed every check of the gate."

    def test_a_promotion_in_spite_of_the_gate(self, observed: ObservedWarehouse) -> None:
        observed.train("1", failed="minimum")
        observed.train("2")
        found = observed.ask(infrastructure.validation)
        assert found is not None
        assert not found.passed
        assert found.text == "1 of 2 promotions in 180 days had passed every check of the gate; not so v1."

    def test_a_promotion_that_was_never_judged(self, observed: ObservedWarehouse) -> None:
        observed.train("1")
        observed.connection.execute("update monitoring.model_evaluations set checks = null")
        found = observed.ask(infrastructure.validation)
        assert found is not None
        assert not found.passed

    def test_nothing_is_said_where_nobody_was_promoted_lately(self, observed: ObservedWarehouse) -> None:
        observed.train("1", at=NOON - 180 * DAY)
        observed.train("2", at=NOON + HOUR)
        assert observed.ask(infrastructure.validation) is None


class TestCanary:
    def test_scores_alike(self, observed: ObservedWarehouse) -> None:
        observed.train()
        found = observed.ask(infrastructure.canary)
        assert found is not None
        assert found.passed
        assert found.text.startswith("Before v1 served: On the 3,000 rows of the last snapshot")

    def test_scores_too_different(self, observed: ObservedWarehouse) -> None:
        observed.train(failed="canary")
        found = observed.ask(infrastructure.canary)
        assert found is not None
        assert not found.passed

    def test_nothing_is_said_without_the_check(self, observed: ObservedWarehouse) -> None:
        assert observed.ask(infrastructure.canary) is None
        observed.train(without="canary")
        assert observed.ask(infrastructure.canary) is None


class TestRollback:
    def publish(self, observed: ObservedWarehouse, note: str | None) -> None:
        observed.put(
            "serving.publications",
            feature_view=VIEW,
            as_of=NOON - DAY,
            feature_version="v1",
            row_count=1,
            published_at=NOON - HOUR,
            retired_at=NOON,
            note=note,
        )

    def test_of_a_model_is_a_test_by_hand(self, observed: ObservedWarehouse) -> None:
        observed.train()
        observed.crown("1", kind="rollback", since=NOON - 3 * HOUR)
        found = observed.ask(infrastructure.rollback)
        assert found is not None
        assert (found.passed, found.how) == (True, How.BY_HAND)
        assert found.text == "At 2013-07-02 09:00Z v1 of the model served again: it was better."
        assert found.expires_at == NOON - 3 * HOUR + 180 * DAY

    def test_so_is_one_of_features(self, observed: ObservedWarehouse) -> None:
        self.publish(observed, "rollback: a bad load")
        found = observed.ask(infrastructure.rollback)
        assert found is not None
        assert found.text == (
            "At 2013-07-02 11:00Z the features of 2013-07-01 12:00Z were served again: rollback: a bad load."
        )

    @pytest.mark.parametrize("note", [None, "accepted: meant"])
    def test_other_publications_and_promotions_are_none(self, observed: ObservedWarehouse, note: str | None) -> None:
        observed.train()
        self.publish(observed, note)
        assert observed.ask(infrastructure.rollback) is None

    def test_nor_is_one_that_is_yet_to_come(self, observed: ObservedWarehouse) -> None:
        observed.crown("1", kind="rollback", since=NOON + HOUR)
        assert observed.ask(infrastructure.rollback) is None
