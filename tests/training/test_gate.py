"""The gate: what a challenger has to show before it replaces the champion. Each check is seen to close."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from features.contract import PromotionSettings
from features.training.evaluation import MIN_SLICE_ROWS
from features.training.gate import MIN_SLICE_OF_EACH_CLASS, Checked, GateCheck, PromotionDecision, Trial
from features.training.gate import judge_challenger as judge
from features.training.resampling import Booleans, Floats

ENTITIES, ROWS_EACH = 200, 3
ROWS = ENTITIES * ROWS_EACH
STRICT = PromotionSettings(minimum=0.6)
LENIENT = PromotionSettings(minimum=0.6, tolerance=0.02)


def outcomes(rows: int = ROWS, seed: int = 0) -> Booleans:
    """Two in five are true."""
    return np.random.default_rng(seed).random(rows) < 0.4


def model(truth: Booleans, strength: float, noise_seed: int) -> Floats:
    """Scores of a model: the stronger, the further those of true rows lie above the others."""
    noise = np.random.default_rng(noise_seed).normal(size=len(truth))
    return 1 / (1 + np.exp(-(strength * (truth - 0.4) + noise - 0.4)))


TRUTH = outcomes()
GOOD, FAIR, POOR = (model(TRUTH, strength, 1) for strength in (2.0, 1.2, 0.4))
SNAPSHOT = model(outcomes(500, seed=7), 1.5, 2)


def trial(**changes: Any) -> Trial:
    """A challenger that is better than everything it is compared with."""
    passing = Trial(
        truth=TRUTH,
        entity=pd.DataFrame({"user_id": np.repeat(np.arange(ENTITIES), ROWS_EACH)}),
        challenger=GOOD,
        champion=FAIR,
        champion_version="3",
        simple={"recency_only": POOR},
        slices={"frequent": np.arange(ROWS) < ROWS // 2},
        extremes=np.array([0.0, 0.4, 1.0]),
        snapshot=SNAPSHOT,
        champion_snapshot=np.clip(SNAPSHOT + 0.02, 0, 1),
    )
    return replace(passing, **changes)


def failed(decision: PromotionDecision) -> list[GateCheck]:
    """What it did not pass."""
    return [each.check for each in decision.checks if not each.passed]


def evidence(decision: PromotionDecision, check: GateCheck) -> str:
    """The sentence of a check that was made once."""
    (only,) = (each.evidence for each in decision.checks if each.check is check)
    return only


# The decision


def test_what_is_better_in_every_way_is_promoted() -> None:
    decision = judge(trial(), STRICT)
    assert decision.promoted
    assert failed(decision) == []


def test_every_check_is_made_and_kept_in_order() -> None:
    decision = judge(trial(), STRICT)
    assert [each.check for each in decision.checks] == list(GateCheck)


def test_no_failure_hides_another() -> None:
    decision = judge(
        trial(challenger=POOR, simple={"recency_only": GOOD}, extremes=np.array([1.2]), snapshot=1 - SNAPSHOT),
        PromotionSettings(minimum=0.99, slice_minimum=0.99),
    )
    assert failed(decision) == list(GateCheck)


def test_there_is_a_check_for_each_slice_and_each_simple_model() -> None:
    everybody = np.ones(ROWS, dtype=bool)
    decision = judge(
        trial(slices={"all": everybody, "none": ~everybody}, simple={"by_a": POOR, "by_b": POOR, "by_c": POOR}), STRICT
    )
    made = [each.check for each in decision.checks]
    assert (made.count(GateCheck.SLICE), made.count(GateCheck.SIMPLER_MODEL)) == (2, 3)


def test_the_reason_of_a_promotion_is_how_good_it_is_by_itself_and_beside_the_champion() -> None:
    decision = judge(trial(), STRICT)
    telling = (GateCheck.MINIMUM, GateCheck.CHAMPION)
    assert decision.reason == " ".join(evidence(decision, check) for check in telling)


def test_the_reason_of_a_refusal_is_only_what_failed_with_its_numbers() -> None:
    decision = judge(trial(simple={"recency_only": POOR, "logistic_regression": GOOD}, snapshot=1 - SNAPSHOT), STRICT)
    assert failed(decision) == [GateCheck.SIMPLER_MODEL, GateCheck.CANARY]
    for each in decision.checks:
        assert (each.evidence in decision.reason) == (not each.passed)
    assert decision.reason.startswith("Against logistic regression: +0.0000 (+0.0000 to +0.0000); it is not better.")
    assert re.search(r"On the 500 rows .* mean score is 0\.\d{3} .* ranks agree by -\d\.\d\d", decision.reason)


@pytest.mark.parametrize("closing", list(GateCheck))
def test_one_failed_check_is_enough_to_refuse(closing: GateCheck) -> None:
    decision = judge(*_failing_only[closing])
    assert failed(decision) == [closing]
    assert not decision.promoted
    assert re.search(r"\d", decision.reason)


def test_the_decision_is_the_same_every_time() -> None:
    assert judge(trial(), STRICT) == judge(trial(), STRICT)
    assert judge(trial(), STRICT, seed=1) != judge(trial(), STRICT, seed=2)


_failing_only: Mapping[GateCheck, tuple[Trial, PromotionSettings]] = {
    GateCheck.STABLE: (trial(extremes=np.array([0.5, 1.01])), STRICT),
    GateCheck.MINIMUM: (trial(), PromotionSettings(minimum=0.99)),
    GateCheck.CHAMPION: (trial(champion=GOOD), STRICT),
    GateCheck.SLICE: (trial(), PromotionSettings(slice_minimum=0.99)),
    GateCheck.SIMPLER_MODEL: (trial(simple={"recency_only": GOOD}), STRICT),
    GateCheck.CANARY: (trial(snapshot=1 - SNAPSHOT), STRICT),
}


# Stable


@pytest.mark.parametrize("sick", [np.nan, np.inf, -0.01, 1.01])
@pytest.mark.parametrize(
    ("field", "place"),
    [("challenger", "the holdout"), ("snapshot", "the last snapshot"), ("extremes", "the most extreme inputs")],
)
def test_two_scores_that_are_no_probability_are_enough(field: str, place: str, sick: float) -> None:
    scores = getattr(trial(), field).copy()
    scores[:2] = sick
    decision = judge(trial(**{field: scores}), LENIENT)
    assert GateCheck.STABLE in failed(decision)
    assert evidence(decision, GateCheck.STABLE) == f"It gives scores that are no probability: 2 of {place}."


def test_every_place_with_sick_scores_is_named() -> None:
    decision = judge(trial(challenger=GOOD + 1, extremes=np.array([np.nan])), STRICT)
    assert "600 of the holdout, 1 of the most extreme inputs" in evidence(decision, GateCheck.STABLE)


def test_nought_and_one_are_probabilities() -> None:
    assert judge(trial(extremes=np.array([0.0, 1.0])), STRICT).promoted


# The minimum


def test_below_the_minimum_it_is_refused_however_poor_the_champion_is() -> None:
    decision = judge(trial(challenger=FAIR, champion=POOR), PromotionSettings(minimum=0.9))
    assert GateCheck.MINIMUM in failed(decision)
    assert re.match(
        r"Its roc_auc 0\.\d{4} \(0\.\d{4} to 0\.\d{4}\) on 600 rows is below", evidence(decision, GateCheck.MINIMUM)
    )


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "accuracy"])
def test_the_metric_is_the_one_that_is_set(metric: Any) -> None:
    decision = judge(trial(), PromotionSettings(metric=metric))
    assert decision.promoted
    assert f"Its {metric} 0." in decision.reason


@pytest.mark.parametrize("only", [True, False])
def test_a_holdout_of_one_class_is_no_reason_to_promote(only: bool) -> None:
    decision = judge(trial(truth=np.full(ROWS, only), champion=None, simple={}), STRICT)
    assert failed(decision) == [GateCheck.MINIMUM]
    assert "nan" in decision.reason


def test_a_metric_whose_bounds_cannot_be_known_is_no_reason_to_promote() -> None:
    one = np.arange(ROWS) == 3
    found = trial(truth=one, challenger=np.where(one, 0.9, 0.4), champion=None, simple={}, champion_snapshot=None)
    decision = judge(found, STRICT)
    assert GateCheck.MINIMUM in failed(decision)
    assert "rests on too few rows of one class to be believed" in evidence(decision, GateCheck.MINIMUM)


# The champion


def test_worse_than_the_champion_is_refused() -> None:
    decision = judge(trial(challenger=FAIR, champion=GOOD, slices={}), LENIENT)
    assert failed(decision) == [GateCheck.CHAMPION]
    assert re.match(
        r"Against champion v3 on the same rows: -0\.\d{4} \(-0\.\d{4} to -0\.\d{4}\); the lower bound does not exceed "
        r"-0\.02\.",
        decision.reason,
    )


def test_an_equal_one_replaces_the_champion_only_where_that_is_tolerated() -> None:
    equal = trial(champion=GOOD)
    assert failed(judge(equal, STRICT)) == [GateCheck.CHAMPION]
    assert judge(equal, LENIENT).promoted


def test_what_may_be_better_or_worse_needs_a_tolerance_as_wide_as_its_uncertainty() -> None:
    noisy = trial(champion=model(TRUTH, 2.0, 4))  # as strong, by other noise
    strict, lenient = (judge(noisy, PromotionSettings(tolerance=tolerance)) for tolerance in (0.0, 0.1))
    low, high = (float(bound) for bound in re.findall(r"[(o ]([+-]0\.\d{4})(?= to|\))", strict.reason))
    assert low < 0 < high, "it is proven, so this shows nothing"
    assert failed(strict) == [GateCheck.CHAMPION]
    assert lenient.promoted


def test_rows_repeated_within_their_entities_prove_nothing() -> None:
    truth = outcomes(ENTITIES, seed=3)
    champion = model(truth, 1.5, 5)
    challenger = 0.5 * champion + 0.5 * model(truth, 1.5, 6)
    challenger = np.where(np.random.default_rng(0).random(ENTITIES) < 0.1, challenger, champion)
    times = 60

    def repeated(owners: np.ndarray) -> PromotionDecision:
        return judge(
            trial(
                truth=truth.repeat(times),
                challenger=challenger.repeat(times),
                champion=champion.repeat(times),
                entity=pd.DataFrame({"user_id": owners}),
                slices={},
                simple={},
            ),
            STRICT,
        )

    assert failed(repeated(np.arange(ENTITIES).repeat(times))) == [GateCheck.CHAMPION]
    assert repeated(np.arange(ENTITIES * times)).promoted, "not even carelessly proven, so this shows nothing"


def test_without_a_champion_there_is_nothing_to_be_better_than() -> None:
    decision = judge(trial(champion=None, champion_snapshot=None), STRICT)
    assert decision.promoted
    assert evidence(decision, GateCheck.CHAMPION) == "There is no other champion."


def test_why_there_is_no_champion_is_said() -> None:
    because = "Champion v3 reads a feature that is gone."
    assert because in judge(trial(champion=None, no_champion_because=because), STRICT).reason


# Slices


def test_a_slice_that_collapses_is_not_made_up_for_by_the_others() -> None:
    rows = np.arange(ROWS) < 210
    better_elsewhere = np.where(rows, POOR, model(TRUTH, 4.0, 1))
    decision = judge(trial(challenger=better_elsewhere, slices={"frequent": rows, "others": ~rows}), STRICT)
    assert failed(decision) == [GateCheck.SLICE]
    assert re.match(
        r"frequent: roc_auc 0\.\d{4} on 210 rows reaches the minimum 0\.5; "
        r"against the champion -0\.\d{4} \(.*\), a fall of 0\.05 or more\.$",
        decision.reason,
    )


def test_a_slice_below_its_minimum_is_refused_without_a_champion_too() -> None:
    rows = np.arange(ROWS) < 300
    reversed_there = np.where(rows, 1 - GOOD, model(TRUTH, 4.0, 1))
    decision = judge(
        trial(challenger=reversed_there, champion=None, champion_snapshot=None, slices={"frequent": rows}, simple={}),
        PromotionSettings(minimum=0.1, max_score_shift=1.0),
    )
    assert failed(decision) == [GateCheck.SLICE]
    assert "on 300 rows is below the minimum 0.5." in decision.reason


def test_two_models_that_are_alike_pass_on_a_slice_too_small_to_prove_it() -> None:
    rows = np.arange(ROWS) < 210
    alike = np.where(rows, model(TRUTH, 1.2, 8), GOOD)  # as strong as the champion there
    decision = judge(trial(challenger=alike, slices={"frequent": rows}), PromotionSettings(tolerance=0.05))
    found = re.search(r"champion [+-][0-9.]+ \(([+-][0-9.]+) to", evidence(decision, GateCheck.SLICE))
    assert found is not None
    low = float(found[1])
    assert low < -0.05, "the lower bound alone would refuse them"
    assert evidence(decision, GateCheck.SLICE).endswith("which may be chance.")
    assert failed(decision) == []


def test_a_slice_may_fall_a_little_even_beyond_doubt() -> None:
    everywhere = np.full(ROWS, True)
    decision = judge(
        trial(challenger=model(TRUTH, 1.9, 1), champion=GOOD, slices={"frequent": everywhere}),
        PromotionSettings(tolerance=0.0, slice_tolerance=0.2),
    )
    assert evidence(decision, GateCheck.SLICE).endswith("no fall that matters.")
    assert failed(decision) == [GateCheck.CHAMPION]


@pytest.mark.parametrize(("rows", "judged"), [(MIN_SLICE_ROWS - 1, False), (MIN_SLICE_ROWS, True), (0, False)])
def test_a_slice_too_small_says_nothing(rows: int, judged: bool) -> None:
    few = np.arange(ROWS) < rows
    decision = judge(trial(slices={"frequent": few}), PromotionSettings(slice_minimum=0.999))
    assert (failed(decision) == [GateCheck.SLICE]) == judged
    assert ("too few of both classes to judge" in evidence(decision, GateCheck.SLICE)) == (not judged)


@pytest.mark.parametrize(
    ("of_a_class", "judged"), [(MIN_SLICE_OF_EACH_CLASS - 1, False), (MIN_SLICE_OF_EACH_CLASS, True)]
)
@pytest.mark.parametrize("rare", [True, False])
def test_a_slice_with_hardly_any_of_a_class_says_nothing(rare: bool, of_a_class: int, judged: bool) -> None:
    rows = (rare == TRUTH) & (np.cumsum(rare == TRUTH) <= of_a_class) | (rare != TRUTH)
    decision = judge(trial(slices={"frequent": rows}), PromotionSettings(slice_minimum=0.999))
    assert (failed(decision) == [GateCheck.SLICE]) == judged


# Simpler models


def test_what_a_simpler_model_does_better_is_refused() -> None:
    decision = judge(trial(simple={"recency_only": model(TRUTH, 3.0, 1)}), LENIENT)
    assert failed(decision) == [GateCheck.SIMPLER_MODEL]
    assert re.match(r"Against recency only: -0\.\d{4} \(.*\); it is not better\.$", decision.reason)


def test_what_a_simpler_model_does_as_well_is_refused_however_tolerant() -> None:
    decision = judge(trial(simple={"recency_only": GOOD}), PromotionSettings(tolerance=0.5))
    assert failed(decision) == [GateCheck.SIMPLER_MODEL]


def test_a_little_better_than_a_simpler_model_is_enough_where_that_is_tolerated() -> None:
    nearly = trial(simple={"recency_only": np.where(np.arange(ROWS) < 30, FAIR, GOOD)})
    assert judge(nearly, PromotionSettings(tolerance=0.1)).promoted


def test_seemingly_better_than_a_simpler_model_is_not_enough_where_that_may_be_chance() -> None:
    nearly = trial(simple={"recency_only": model(TRUTH, 1.95, 4)})  # nearly as strong, by other noise
    strict, lenient = (judge(nearly, PromotionSettings(tolerance=tolerance)) for tolerance in (0.0, 0.1))
    assert failed(strict) == [GateCheck.SIMPLER_MODEL]
    assert re.match(r"Against recency only: \+0\.\d{4} \(-0\.\d{4} to \+0", strict.reason)
    assert lenient.promoted


def test_all_simpler_models_have_to_be_beaten() -> None:
    assert failed(judge(trial(simple={"one": POOR, "other": GOOD}), STRICT)) == [GateCheck.SIMPLER_MODEL]


# The canary


@pytest.mark.parametrize(("shift", "passes"), [(-0.12, False), (-0.08, True), (0.0, True), (0.08, True), (0.12, False)])
def test_a_mean_score_far_from_the_champions_is_refused(shift: float, passes: bool) -> None:
    theirs = 0.2 + 0.6 * SNAPSHOT
    decision = judge(trial(snapshot=theirs + shift, champion_snapshot=theirs), STRICT)
    assert failed(decision) == ([] if passes else [GateCheck.CANARY])
    assert ("too different to go live unwatched" in evidence(decision, GateCheck.CANARY)) == (not passes)
    assert f"beside the champion's {theirs.mean():.3f}" in evidence(decision, GateCheck.CANARY)


def test_inverted_ranks_are_refused_even_with_the_same_mean() -> None:
    centred = SNAPSHOT - SNAPSHOT.mean()
    decision = judge(trial(snapshot=0.5 + 0.5 * centred, champion_snapshot=0.5 - 0.5 * centred), STRICT)
    assert failed(decision) == [GateCheck.CANARY]
    assert "their ranks agree by -1.00" in decision.reason


def test_ranks_may_differ_as_much_as_is_set() -> None:
    shuffled = np.random.default_rng(0).permutation(SNAPSHOT)
    unrelated = trial(champion_snapshot=shuffled)
    assert failed(judge(unrelated, STRICT)) == [GateCheck.CANARY]
    assert judge(unrelated, PromotionSettings(min_rank_agreement=-1)).promoted


def test_constant_scores_are_refused() -> None:
    decision = judge(trial(snapshot=np.full(500, SNAPSHOT.mean())), STRICT)
    assert failed(decision) == [GateCheck.CANARY]
    assert decision.reason == "It does not tell the 500 rows of the last snapshot apart."


def test_a_champion_that_tells_nobody_apart_has_no_ranks_to_agree_with() -> None:
    assert judge(trial(champion_snapshot=np.full(500, SNAPSHOT.mean())), STRICT).promoted


@pytest.mark.parametrize("nothing", [None, np.array([])], ids=["none", "empty"])
def test_without_a_snapshot_it_is_refused_with_what_to_do(nothing: Floats | None) -> None:
    decision = judge(trial(snapshot=nothing, champion_snapshot=nothing), STRICT)
    assert failed(decision) == [GateCheck.CANARY]
    assert "publish one, then clear this task" in decision.reason


@pytest.mark.parametrize(("shift", "passes"), [(0.0, True), (0.3, False)])
def test_without_a_champion_it_has_to_resemble_its_own_holdout(shift: float, passes: bool) -> None:
    snapshot = GOOD[:500] * (1 - shift) + shift
    decision = judge(trial(champion=None, snapshot=snapshot, champion_snapshot=None), STRICT)
    assert failed(decision) == ([] if passes else [GateCheck.CANARY])
    assert f"beside its holdout's {GOOD.mean():.3f}" in evidence(decision, GateCheck.CANARY)


# Nothing unknown passes

SCORES = ("challenger", "champion", "simple", "extremes", "snapshot", "champion_snapshot")


@given(field=st.sampled_from(SCORES), share=st.sampled_from([0.0, 0.1, 1.0]), seed=st.integers(0, 99))
@hypothesis_settings(deadline=None, max_examples=25)
def test_no_score_that_is_no_number_leads_to_a_promotion(field: str, share: float, seed: int) -> None:
    given_scores = getattr(trial(), field)
    scores = given_scores["recency_only"] if field == "simple" else given_scores
    rng = np.random.default_rng(seed)
    unknown = rng.random(len(scores)) < share
    unknown[rng.integers(len(scores))] = True  # at least one
    sick = np.where(unknown, np.nan, scores)
    most_lenient = PromotionSettings(
        minimum=0.0, tolerance=1.0, slice_tolerance=1.0, slice_minimum=0.0, max_score_shift=1.0, min_rank_agreement=-1
    )
    decision = judge(trial(**{field: {"recency_only": sick} if field == "simple" else sick}), most_lenient)
    assert not decision.promoted
    assert decision.reason
    assert [each.check for each in decision.checks] == list(GateCheck)


@pytest.mark.parametrize("field", SCORES)
def test_all_scores_unknown_are_refused(field: str) -> None:
    unknown = np.full(500 if "snapshot" in field else ROWS, np.nan)
    decision = judge(trial(**{field: {"recency_only": unknown} if field == "simple" else unknown}), LENIENT)
    assert not decision.promoted


def test_evidence_is_a_sentence() -> None:
    for decision in (judge(trial(), STRICT), judge(trial(challenger=POOR), STRICT)):
        for each in decision.checks:
            assert isinstance(each, Checked)
            assert each.evidence.endswith(".")
