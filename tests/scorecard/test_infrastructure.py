"""Evidence of infrastructure; one example and training again are in tests/steps, on a warehouse that dbt built."""

import pytest

from features.scorecard import infrastructure
from features.scorecard.score import How
from tests.scorecard.world import DAY, HOUR, NOON, VIEW, World


class TestValidation:
    def test_every_promotion_had_passed(self, world: World) -> None:
        world.train("1", at=NOON - 60 * DAY)
        world.train("2")
        world.train("3", failed="champion", promoted=False)  # and was refused, as it should be
        found = world.ask(infrastructure.validation)
        assert found is not None
        assert found.passed
        assert found.text == "2 of 2 promotions in 180 days had passed every check of the gate."

    def test_a_promotion_in_spite_of_the_gate(self, world: World) -> None:
        world.train("1", failed="minimum")
        world.train("2")
        found = world.ask(infrastructure.validation)
        assert found is not None
        assert not found.passed
        assert found.text == "1 of 2 promotions in 180 days had passed every check of the gate; not so v1."

    def test_a_promotion_that_was_never_judged(self, world: World) -> None:
        world.train("1")
        world.connection.execute("update monitoring.model_evaluations set checks = null")
        found = world.ask(infrastructure.validation)
        assert found is not None
        assert not found.passed

    def test_nothing_is_said_where_nobody_was_promoted_lately(self, world: World) -> None:
        world.train("1", at=NOON - 180 * DAY)
        world.train("2", at=NOON + HOUR)
        assert world.ask(infrastructure.validation) is None


class TestCanary:
    def test_scores_alike(self, world: World) -> None:
        world.train()
        found = world.ask(infrastructure.canary)
        assert found is not None
        assert found.passed
        assert found.text.startswith("Before v1 served: On the 3,000 rows of the last snapshot")

    def test_scores_too_different(self, world: World) -> None:
        world.train(failed="canary")
        found = world.ask(infrastructure.canary)
        assert found is not None
        assert not found.passed

    def test_nothing_is_said_without_the_check(self, world: World) -> None:
        assert world.ask(infrastructure.canary) is None
        world.train(without="canary")
        assert world.ask(infrastructure.canary) is None


class TestRollback:
    def publish(self, world: World, note: str | None) -> None:
        world.put(
            "serving.publications",
            feature_view=VIEW,
            as_of=NOON - DAY,
            feature_version="v1",
            row_count=1,
            published_at=NOON - HOUR,
            retired_at=NOON,
            note=note,
        )

    def test_of_a_model_is_a_test_by_hand(self, world: World) -> None:
        world.train()
        world.crown("1", kind="rollback", since=NOON - 3 * HOUR)
        found = world.ask(infrastructure.rollback)
        assert found is not None
        assert (found.passed, found.how) == (True, How.BY_HAND)
        assert found.text == "At 2013-07-02 09:00Z v1 of the model served again: it was better."
        assert found.expires_at == NOON - 3 * HOUR + 180 * DAY

    def test_so_is_one_of_features(self, world: World) -> None:
        self.publish(world, "rollback: a bad load")
        found = world.ask(infrastructure.rollback)
        assert found is not None
        assert found.text == (
            "At 2013-07-02 11:00Z the features of 2013-07-01 12:00Z were served again: rollback: a bad load."
        )

    @pytest.mark.parametrize("note", [None, "accepted: meant"])
    def test_other_publications_and_promotions_are_none(self, world: World, note: str | None) -> None:
        world.train()
        self.publish(world, note)
        assert world.ask(infrastructure.rollback) is None

    def test_nor_is_one_that_is_yet_to_come(self, world: World) -> None:
        world.crown("1", kind="rollback", since=NOON + HOUR)
        assert world.ask(infrastructure.rollback) is None
