"""What a policy would have done and cost: priced exactly, never better than hindsight, and without a look ahead."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from features.contract import CostSettings, DriftSettings, RetrainingSettings
from features.errors import SkewlessError
from features.retraining.backtest import Backtest, Ledger, backtest
from features.retraining.cadence import cadence_known_at
from features.retraining.decision import Cadence, Outcome
from features.retraining.losses import LossMatrix
from tests.retraining.loss_matrices import RECIPE, ROLLING, START, WEEK, made, trained, world
from tests.retraining.loss_matrices import rotating as rotating_world

COSTS = CostSettings(training=1, loss_per_day=0.5)
# Nothing but performance and drift calls for a retraining.
PATIENT = RetrainingSettings(
    max_model_age=10_000, min_new_labels=10**9, min_recent_labels=200, min_labels_after_shift=500, costs=COSTS
)
# No policy can do without what happens from week 12 on.
TURN = 12
POLICIES = ["current", "never", "always", "periodic", "oracle"]


@pytest.fixture(scope="module")
def turned() -> LossMatrix:
    """A world whose concept becomes the opposite overnight; what is measured of the features stays the same."""
    return trained(world(flips_at=TURN), ROLLING)


@pytest.fixture(scope="module")
def rotating() -> LossMatrix:
    return rotating_world(0.45)


def replay(
    matrix: LossMatrix, settings: RetrainingSettings = PATIENT, *, minimum: float | None = None, **options: int
) -> Backtest:
    return backtest(matrix, settings, minimum=minimum, replicates=40, **options)  # type: ignore[arg-type]


def triggers(found: Backtest) -> set[str]:
    return {one.trigger for one in found["current"].retrainings}


# The cheapest schedule.


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    """Of up to six models, not at every step, with excess losses that may be negative."""
    steps = draw(st.integers(2, 9))
    starts = [0, *sorted(draw(st.sets(st.integers(1, steps - 1), max_size=5)))]
    stale = np.full((len(starts), steps), np.nan)
    for model, start in enumerate(starts):
        values = st.lists(st.floats(-0.2, 1), min_size=steps - start, max_size=steps - start)
        stale[model, start:] = draw(values)
    days = np.array(draw(st.lists(st.sampled_from([1.0, 7.0]), min_size=steps, max_size=steps)))
    return Ledger(stale, stale, np.ones(steps, dtype=np.intp), days, np.array(starts))


def _champions(ledger: Ledger, schedule: tuple[int, ...]) -> list[int]:
    deployed = {int(ledger.starts[model]): model for model in (0, *schedule)}
    champions: list[int] = []
    for step in range(ledger.stale.shape[1]):
        champions.append(deployed.get(step, champions[-1] if champions else 0))
    return champions


@given(ledgers(), st.floats(0.01, 5))
def test_the_oracle_is_the_cheapest_of_all_schedules(ledger: Ledger, training: float) -> None:
    costs = CostSettings(training=training, loss_per_day=1)

    def cost(schedule: tuple[int, ...]) -> float:
        return ledger.cost(_champions(ledger, schedule), len(schedule), costs)

    later = range(1, len(ledger.starts))
    every = [schedule for size in range(len(later) + 1) for schedule in combinations(later, size)]
    assert cost(ledger.cheapest_schedule(costs)) == pytest.approx(min(map(cost, every)), abs=1e-9)


def test_of_equals_the_oracle_takes_the_one_with_fewest_retrainings() -> None:
    found = replay(made(lambda *_: 0.4))
    assert found["oracle"].retrainings == ()


# Prices.


def test_costs_and_losses_are_those_of_a_plain_loop(rotating: LossMatrix) -> None:
    found = replay(rotating, period_days=28)
    first = int(rotating.cutoffs[0])
    for name in POLICIES:
        one, champion, cost, excess, losses = found[name], first, 0.0, 0.0, 0.0
        retrained = {int((each.at - START) / WEEK) for each in one.retrainings}
        for week in range(first, 24):
            if week in retrained:
                champion, cost = week, cost + COSTS.training
            rows = rotating.times == week
            mine, fresh = (
                log_loss(rotating.truth[rows], rotating.scores[model - first, rows].astype(float))
                for model in (champion, week)
            )
            losses, excess, cost = losses + mine, excess + mine - fresh, cost + COSTS.loss_per_day * 7 * (mine - fresh)
        steps = 24 - first
        assert one.log_loss == pytest.approx(losses / steps, abs=1e-6)
        assert one.excess == pytest.approx(excess / steps, abs=1e-6)
        assert one.cost == pytest.approx(cost, abs=1e-4)
        assert found["oracle"].cost is not None
        assert one.regret == pytest.approx(cost - found["oracle"].cost, abs=1e-4)


def test_where_fresh_models_are_worse_keeping_the_old_one_earns() -> None:
    found = replay(made(lambda _, cutoff, week: 0.4 + 0.02 * cutoff))
    never = found["never"]
    assert never.cost is not None
    assert never.cost < 0
    assert never.excess < 0
    assert never.regret == pytest.approx(0, abs=1e-9)


def test_without_costs_losses_are_compared_with_always(rotating: LossMatrix) -> None:
    found = replay(rotating, PATIENT.model_copy(update={"costs": None}))
    assert [one.policy for one in found.policies] == ["current", "never", "always", "periodic"]
    assert {one.cost for one in found.policies} == {None}
    assert found["never"].regret == found["never"].excess > 0
    assert (found["always"].excess, found["always"].regret) == (0, 0)


# Policies.


@pytest.mark.parametrize("period_days", [7, 8, 21, 30, 1000])
def test_the_longer_the_period_the_fewer_the_retrainings(rotating: LossMatrix, period_days: int) -> None:
    found = replay(rotating, period_days=period_days)
    never, periodic, always = (len(found[name].retrainings) for name in ("never", "periodic", "always"))
    assert never == 0 <= periodic <= always == len(rotating.cutoffs) - 1
    assert periodic == (len(rotating.cutoffs) - 1) // -(-period_days // 7)


@pytest.mark.parametrize("seed", range(5))
def test_no_policy_is_cheaper_than_hindsight(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.exponential(0.3, size=(20, 20))
    found = replay(made(lambda _, cutoff, week: noise[cutoff, week], without=(3, 7, 8)))
    assert found["oracle"].regret == 0
    assert all(one.regret >= -1e-9 for one in found.policies)


def test_where_training_is_refused_the_champion_stays() -> None:
    found = replay(made(lambda _, cutoff, week: 0.4, instants=10, without=(3, 4)))
    weeks = [(one.at - START) // WEEK for one in found["always"].retrainings]
    assert weeks == [1, 2, 5, 6, 7, 8, 9]


def test_a_sudden_change_is_found_by_performance_and_mended(turned: LossMatrix) -> None:
    found = replay(turned, minimum=0.5)
    assert triggers(found) == {"performance"}
    assert all(one.at > START + TURN * WEEK for one in found["current"].retrainings)
    assert found["current"].log_loss < found["never"].log_loss - 0.5
    assert found["current"].retrainings[-1].promoted


def test_a_model_that_is_not_promoted_costs_a_training_and_changes_nothing(turned: LossMatrix) -> None:
    """Right after the turn, what is learnt is the old concept; the holdout, of the new one, says so."""
    gated, open_gate = replay(turned, minimum=0.5), replay(turned)
    assert not gated["current"].retrainings[0].promoted
    assert open_gate["current"].retrainings[0].promoted
    assert gated["current"].log_loss < open_gate["current"].log_loss
    assert len(gated["always"].retrainings) == len(open_gate["always"].retrainings)
    assert gated["oracle"] == open_gate["oracle"]


def test_a_world_at_rest_is_left_alone() -> None:
    found = replay(trained(world(weeks=14), RECIPE))
    assert found["current"].retrainings == ()
    assert {decision.outcome for decision in found.decisions} <= {Outcome.HOLD, Outcome.UNKNOWN}
    assert len(found.decisions) == 14 - 3 - 1


def test_performance_is_that_of_the_champion_on_what_matured_since(turned: LossMatrix) -> None:
    found = replay(turned)
    week, first = 9, int(turned.cutoffs[0])
    decision = found.decisions[week - first - 1]
    matured = turned.labels["matured_at"]
    rows = ((matured > START + first * WEEK) & (matured <= START + week * WEEK)).to_numpy()
    expected = roc_auc_score(turned.truth[rows], turned.scores[0, rows])
    evidence = next(one.evidence for one in decision.triggers if one.trigger == "performance")
    assert (said := re.search(r"on ([\d,]+) labels .* scores ([\d.]+) \(", evidence))
    assert (said[1].replace(",", ""), said[2]) == (str(rows.sum()), f"{expected:.3f}")


def test_drift_waits_for_labels_of_the_new_world() -> None:
    matrix = trained(world(weeks=20, shifts_at=TURN), ROLLING)
    settings = PATIENT.model_copy(update={"performance_drop": 0.9})
    found = replay(matrix, settings)
    first = int(matrix.cutoffs[0])
    outcomes = [decision.outcome for decision in found.decisions[TURN - first - 1 :]]
    # 250 labels of each week mature a week later; 500 are there two weeks after the shift.
    assert outcomes[:3] == [Outcome.BLOCKED, Outcome.BLOCKED, Outcome.RETRAIN]
    assert triggers(found) == {"drift"}
    assert found["current"].retrainings[0].at == START + (TURN + 2) * WEEK

    ignored = backtest(matrix, settings, drift_settings={"x": DriftSettings(watch=False)}, replicates=40)
    assert ignored["current"].retrainings == ()


def test_the_cadence_is_kept(rotating: LossMatrix) -> None:
    settings = PATIENT.model_copy(update={"max_model_age": "auto", "performance_drop": 0.9})
    found = backtest(rotating, settings, cadence=Cadence(21, START, 60), replicates=40)
    weeks = [(one.at - START) // WEEK for one in found["current"].retrainings]
    assert triggers(found) == {"scheduled"}
    assert set(np.diff([int(rotating.cutoffs[0]), *weeks])) == {3}


def test_the_cadence_is_what_monthly_backtests_of_their_time_would_have_said(rotating: LossMatrix) -> None:
    settings = PATIENT.model_copy(update={"max_model_age": "auto", "performance_drop": 0.9})
    found = replay(rotating, settings)
    said = [
        next(one.evidence for one in decision.triggers if one.trigger == "scheduled") for decision in found.decisions
    ]
    # First no model was old enough; then each backtest holds for a month.
    first = next(number for number, evidence in enumerate(said) if "by the decay backtest of" in evidence)
    assert first > 2
    assert all("may become 30 until a decay backtest has met" in evidence for evidence in said[:first])
    assert all("by the decay backtest of" in evidence for evidence in said[first:])
    made = {evidence.rpartition(" of ")[2].rstrip("."): evidence for evidence in said[first:]}
    assert len(made) > 1
    days = [datetime.fromisoformat(day).replace(tzinfo=UTC) for day in made]
    assert {later - earlier for earlier, later in pairwise(days)} == {4 * WEEK}
    for day, evidence in zip(days, made.values(), strict=True):
        known = cadence_known_at(rotating, day, settings)
        assert known is not None
        assert known.measured_days >= 60
        assert evidence.endswith(f"may become {known.max_age_days}, by the decay backtest of {day:%Y-%m-%d}.")


def test_labels_are_counted_on_all_entities_though_few_are_scored() -> None:
    settings = PATIENT.model_copy(update={"min_new_labels": 1000, "performance_drop": 0.9})
    labels = world(weeks=12)
    whole = replay(trained(labels, RECIPE), settings)
    thin = replay(trained(labels, RECIPE, max_cells=12 * 1500), settings)
    assert triggers(whole) == {"data_volume"}
    assert [one.at for one in thin["current"].retrainings] == [one.at for one in whole["current"].retrainings]


# No look ahead, and the same again.


@pytest.mark.parametrize("max_model_age", [10_000, "auto"])
@pytest.mark.parametrize("week", [10, TURN + 2, TURN + 5])
def test_what_comes_later_changes_no_decision(turned: LossMatrix, week: int, max_model_age: int | str) -> None:
    settings = PATIENT.model_copy(update={"min_new_labels": 1500, "max_model_age": max_model_age})
    whole = replay(turned, settings).decisions
    as_of = START + week * WEEK
    labels = world(flips_at=TURN)
    known = labels[labels["label_at"] <= as_of].sample(frac=1, random_state=3)
    known.loc[known["matured_at"] > as_of, "churned"] ^= True
    cut = replay(trained(known, ROLLING), settings).decisions
    assert cut[-1].as_of == as_of
    assert cut == whole[: len(cut)]


def test_the_same_again(rotating: LossMatrix) -> None:
    assert replay(rotating) == replay(rotating)


def test_a_replay_needs_a_label_time_after_the_first_model() -> None:
    with pytest.raises(SkewlessError, match="of 1 label times 1 have a model"):
        replay(made(lambda *_: 0.4, instants=1))
    nothing = replace(made(lambda *_: 0.4, instants=3), cutoffs=np.zeros(0, dtype=np.intp))
    with pytest.raises(SkewlessError, match="of 3 label times 0 have a model"):
        replay(nothing)


def test_days_without_a_next_step_count_as_the_usual_ones() -> None:
    ledger = Ledger.of(made(lambda *_: 0.4, instants=5))
    assert ledger.days.tolist() == [timedelta(days=7) / timedelta(days=1)] * 5
