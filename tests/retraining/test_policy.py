"""When a model is retrained: seven triggers with exact bounds, six guards, and the unknown that is neither fine nor a
reason. Then what holds of any inputs: no trigger hides another, more evidence is never less urgent, no order matters.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain, combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.contract import RetrainingSettings, Severity
from features.drift.cause import Cause
from features.drift.incident import Incident
from features.retraining.decision import (
    Block,
    Cadence,
    DataIncident,
    DriftFinding,
    DriftFindings,
    Guard,
    Outcome,
    Performance,
    PolicyInputs,
    Priority,
    Retraining,
    RetrainingTrigger,
)
from tests.retraining.policy_inputs import (
    ALL,
    AS_OF,
    BY_BACKTEST,
    CALM,
    DATA_VOLUME,
    DAY,
    DEFINITION_CHANGED,
    DRIFT,
    EIGHT,
    HOUR,
    INPUTS,
    MANUAL,
    NO_MODEL,
    OF_A_CHAMPION,
    OVERDUE,
    PERFORMANCE,
    SCHEDULED,
    SECOND,
    SETTINGS,
    SHIFTED,
    SICK,
    WARNING_IS_ENOUGH,
    aged,
    drifted,
    evaluate,
    evidence,
    fired,
    firing,
    guards,
    labelled,
    last_labelled,
    redefined,
    requested,
    retrained,
    scored,
    with_missing_feature,
)

NO_COOLDOWN = SETTINGS.model_copy(update={"cooldown_hours": 0})
NOTHING_FIRED = dict.fromkeys(RetrainingTrigger, False)


# --- Triggers, each at its bounds ---

# What is the case, the settings, the trigger in question, whether it fires.
BOUNDS = {
    "no model": (replace(CALM, champion=None), SETTINGS, NO_MODEL, True),
    "a model": (CALM, SETTINGS, NO_MODEL, False),
    "another definition than the champion's": (redefined(), SETTINGS, DEFINITION_CHANGED, True),
    "the champion's definition": (redefined(version="v1"), SETTINGS, DEFINITION_CHANGED, False),
    "upper bound exactly 95 % of the holdout": (scored(0.7, 0.6, 0.76), SETTINGS, PERFORMANCE, False),
    "upper bound just below": (scored(0.7, 0.6, 0.76 - 1e-6), SETTINGS, PERFORMANCE, True),
    "upper bound just above": (scored(0.7, 0.6, 0.76 + 1e-6), SETTINGS, PERFORMANCE, False),
    "estimate and upper bound exactly there": (scored(0.76), SETTINGS, PERFORMANCE, False),
    "the interval around it": (scored(0.77, 0.75, 0.79), SETTINGS, PERFORMANCE, False),
    "interval far below": (scored(0.5, 0.45, 0.55), SETTINGS, PERFORMANCE, True),
    "metric of nothing": (scored(0.0), SETTINGS, PERFORMANCE, True),
    "better than the holdout": (scored(0.9), SETTINGS, PERFORMANCE, False),
    "a bad metric on just enough labels": (scored(0.5, labels=500), SETTINGS, PERFORMANCE, True),
    "a request": (requested(), SETTINGS, MANUAL, True),
    "a request without a reason": (requested(why=""), SETTINGS, MANUAL, False),
    "critical drift": (drifted("ok", "critical"), SETTINGS, DRIFT, True),
    "a warning, critical asked for": (drifted("ok", "warning"), SETTINGS, DRIFT, False),
    "a warning, warning asked for": (drifted("ok", "warning"), WARNING_IS_ENOUGH, DRIFT, True),
    "critical, warning asked for": (drifted("ok", "critical"), WARNING_IS_ENOUGH, DRIFT, True),
    "no drift, warning asked for": (drifted("ok", "ok"), WARNING_IS_ENOUGH, DRIFT, False),
    "critical beside what nobody could judge": (drifted("insufficient_data", "critical"), SETTINGS, DRIFT, True),
    "critical, as old as reports may be": (drifted("critical", ago=24 * HOUR), SETTINGS, DRIFT, True),
    "age at the maximum": (aged(days=30), SETTINGS, SCHEDULED, True),
    "age a second below": (aged(days=29, hours=23, minutes=59, seconds=59), SETTINGS, SCHEDULED, False),
    "age a day below": (aged(days=29), SETTINGS, SCHEDULED, False),
    "age above": (aged(days=365), SETTINGS, SCHEDULED, True),
    "trained after as_of, in a backfill": (aged(days=-40), SETTINGS, SCHEDULED, False),
    "labels at the minimum": (labelled(5000), SETTINGS, DATA_VOLUME, True),
    "labels one below": (labelled(4999), SETTINGS, DATA_VOLUME, False),
    "no labels": (labelled(0), SETTINGS, DATA_VOLUME, False),
}


@pytest.mark.parametrize(("inputs", "settings", "trigger", "fires"), BOUNDS.values(), ids=BOUNDS)
def test_a_trigger_fires_at_its_bound(
    inputs: PolicyInputs, settings: RetrainingSettings, trigger: RetrainingTrigger, fires: bool
) -> None:
    decision = evaluate(inputs, settings)
    others = dict.fromkeys(OF_A_CHAMPION, None) | {MANUAL: False} if inputs.champion is None else NOTHING_FIRED
    assert fired(decision) == others | {trigger: fires}
    assert decision.outcome is (Outcome.RETRAIN if fires else Outcome.HOLD)
    assert decision.should_retrain is fires
    assert decision.trigger is (trigger if fires else None)
    assert decision.priority is (trigger.priority if fires else Priority.NONE)


WEEKLY = Cadence(7, datetime(2013, 6, 1, tzinfo=UTC), 60)
AGES = {
    "auto, before a backtest, at 30 days": (
        aged(days=30),
        BY_BACKTEST,
        True,
        "30 until a decay backtest has met models of 60 days.",
    ),
    "auto, before a backtest, below": (
        aged(days=29),
        BY_BACKTEST,
        False,
        "30 until a decay backtest has met models of 60 days.",
    ),
    "auto, a backtest that met young models only": (
        replace(aged(days=7), cadence=replace(WEEKLY, measured_days=59)),
        BY_BACKTEST,
        False,
        "30 until a decay backtest has met models of 60 days.",
    ),
    "auto, at what the backtest says": (
        replace(aged(days=7), cadence=WEEKLY),
        BY_BACKTEST,
        True,
        "The champion is 7 days old; it may become 7, by the decay backtest of 2013-06-01.",
    ),
    "auto, a second below it": (
        replace(aged(days=6, hours=23, minutes=59, seconds=59), cadence=WEEKLY),
        BY_BACKTEST,
        False,
        "The champion is 6 days old; it may become 7, by the decay backtest of 2013-06-01.",
    ),
    "auto, when the backtest allows for more than 30": (
        replace(aged(days=89), cadence=Cadence(90, WEEKLY.as_of, 200)),
        BY_BACKTEST,
        False,
        "it may become 90, by the decay backtest of 2013-06-01.",
    ),
    "a number, whatever the backtest says": (
        replace(aged(days=29), cadence=WEEKLY),
        SETTINGS,
        False,
        "The champion is 29 days old; it may become 30.",
    ),
}


@pytest.mark.parametrize(("inputs", "settings", "fires", "says"), AGES.values(), ids=AGES)
def test_how_old_a_model_may_become_is_a_number_or_what_the_decay_backtest_says(
    inputs: PolicyInputs, settings: RetrainingSettings, fires: bool, says: str
) -> None:
    decision = evaluate(inputs, settings)
    assert fired(decision)[SCHEDULED] is fires
    assert evidence(decision, SCHEDULED).endswith(says)


@given(holdout=st.integers(1, 1000), apart=st.integers(-5, 5))
def test_below_95_percent_is_what_whole_numbers_say_it_is(holdout: int, apart: int) -> None:
    """In hundred-thousandths 95 % of a holdout in thousandths is a whole number, so nothing is rounded."""
    inputs = scored(0.0, high=(95 * holdout + apart) / 100_000, holdout=holdout / 1000)
    assert fired(evaluate(inputs))[PERFORMANCE] is (apart < 0)


def test_95_percent_of_a_holdout_is_not_below_it_in_floating_point_either() -> None:
    for thousandths in range(1, 1001):
        bound = 95 * thousandths / 100_000
        decision = evaluate(scored(bound, holdout=thousandths / 1000))
        assert fired(decision)[PERFORMANCE] is False, bound
        assert "not below" in evidence(decision, PERFORMANCE), bound


def test_a_bad_estimate_that_may_be_chance_is_no_reason_and_says_so() -> None:
    decision = evaluate(scored(0.7, 0.6, 0.78))
    assert decision.outcome is Outcome.HOLD
    assert evidence(decision, PERFORMANCE) == (
        "Performance: on 1,000 labels matured since, the champion scores 0.700 (0.600 to 0.780), "
        "below 0.760 (95% of its holdout 0.800), which may be chance."
    )
    assert evidence(decision, PERFORMANCE) in decision.reason


def test_without_a_champion_one_is_trained_whatever_else_is_unknown() -> None:
    decision = evaluate(PolicyInputs(champion=None, feature_version=None))
    assert decision.should_retrain
    assert (decision.trigger, decision.priority) == (NO_MODEL, Priority.CRITICAL)
    assert decision.reason == "There is no champion yet."


def test_nothing_to_do_is_a_decision_with_a_reason_too() -> None:
    decision = evaluate(CALM)
    assert decision.outcome is Outcome.HOLD
    assert (decision.trigger, decision.priority) == (None, Priority.NONE)
    assert decision.reason == (
        "No trigger fired. "
        "Performance: on 1,000 labels matured since, the champion scores 0.800 (0.780 to 0.820), "
        "not below 0.760 (95% of its holdout 0.800). "
        "None of 2 features drifted at or above critical. "
        "The champion is 1 day old; it may become 30. "
        "100 labels matured since the champion was trained; 5,000 call for a new one."
    )
    assert decision.as_of == AS_OF


# --- What is not known ---

STALE_LABELS = {
    PERFORMANCE: "Performance is unknown: no label has matured since 2013-06-17.",
    DATA_VOLUME: "The number of new labels is unknown: no label has matured since 2013-06-17.",
}
NO_LABELS = {
    PERFORMANCE: "Performance is unknown: no label has matured.",
    DATA_VOLUME: "The number of new labels is unknown: no label has matured.",
}
FEW = "Performance is unknown: 499 labels have matured since the champion was trained; 500 are needed."
NO_NUMBER = "Performance is unknown: on 1,000 labels matured since, the metric is no number."

# What is the case, and what is said of each trigger that cannot be judged.
UNKNOWN: dict[str, tuple[PolicyInputs, dict[RetrainingTrigger, str]]] = {
    "no definition": (
        redefined(version=None),
        {DEFINITION_CHANGED: "It is not known which definition of the features is served."},
    ),
    "no performance": (
        replace(CALM, performance=None),
        {
            PERFORMANCE: "Performance is unknown: it is not known how many labels have matured since the champion was "
            "trained; 500 are needed."
        },
    ),
    "too few labels, of which the metric is no number": (scored(math.nan, labels=499), {PERFORMANCE: FEW}),
    "too few labels for a good metric": (scored(0.9, labels=499), {PERFORMANCE: FEW}),
    "too few labels for a bad metric": (scored(0.1, labels=499), {PERFORMANCE: FEW}),
    "a metric that is no number": (scored(math.nan, 0.1, 0.2), {PERFORMANCE: NO_NUMBER}),
    "an upper bound that is no number": (scored(0.1, 0.1, math.nan), {PERFORMANCE: NO_NUMBER}),
    "a holdout that is no number": (scored(0.8, holdout=math.nan), {PERFORMANCE: NO_NUMBER}),
    "no drift reports": (replace(CALM, drift=None), {DRIFT: "Drift is unknown: there is no report."}),
    "an empty list of them": (
        replace(CALM, drift=DriftFindings(AS_OF, ())),
        {DRIFT: "Drift is unknown: there is no report."},
    ),
    "stale drift reports": (
        drifted("ok", ago=24 * HOUR + SECOND),
        {DRIFT: "Drift is unknown: the last reports are of 2013-06-30 23:59Z."},
    ),
    "stale drift reports, critical when they were fresh": (
        drifted("critical", ago=24 * HOUR + SECOND),
        {DRIFT: "Drift is unknown: the last reports are of 2013-06-30 23:59Z."},
    ),
    "no labels counted": (labelled(None), {DATA_VOLUME: "The number of new labels is unknown."}),
    "stale labels": (last_labelled(14 * DAY + SECOND), STALE_LABELS),
    "no label ever": (last_labelled(None), NO_LABELS),
    "nothing but a champion": (
        PolicyInputs(CALM.champion, None),
        {
            DEFINITION_CHANGED: "It is not known which definition of the features is served.",
            PERFORMANCE: "Performance is unknown: it is not known how many labels have matured since the champion was "
            "trained; 500 are needed.",
            DRIFT: "Drift is unknown: there is no report.",
            DATA_VOLUME: "The number of new labels is unknown.",
        },
    ),
} | {
    f"drift {status}": (drifted("ok", status), {DRIFT: f"Drift is unknown for f1 ({status})."})
    for status in ("insufficient_data", "missing_feature", "baseline_missing", "error", "not_reported")
}


@pytest.mark.parametrize(("inputs", "unknown"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_known_neither_fires_nor_counts_as_fine(
    inputs: PolicyInputs, unknown: dict[RetrainingTrigger, str]
) -> None:
    decision = evaluate(inputs)
    assert fired(decision) == NOTHING_FIRED | dict.fromkeys(unknown)
    assert decision.outcome is Outcome.UNKNOWN
    assert not decision.should_retrain
    assert (decision.trigger, decision.priority) == (None, Priority.NONE)
    known = [evidence(decision, each) for each in (PERFORMANCE, DRIFT, SCHEDULED, DATA_VOLUME) if each not in unknown]
    assert decision.reason == " ".join(["No trigger fired, but not all could be judged.", *unknown.values(), *known])
    assert {trigger: evidence(decision, trigger) for trigger in unknown} == unknown


KNOWN = {
    "labels as old as they may be": last_labelled(14 * DAY),
    "drift reports as old as they may be": drifted("ok", ago=24 * HOUR),
    "just enough labels": scored(0.8, labels=500),
}


@pytest.mark.parametrize("inputs", KNOWN.values(), ids=KNOWN)
def test_what_is_just_known_is_fine(inputs: PolicyInputs) -> None:
    decision = evaluate(inputs)
    assert fired(decision) == NOTHING_FIRED
    assert decision.outcome is Outcome.HOLD


@pytest.mark.parametrize("ago", [None, 15 * DAY], ids=["no label ever", "stale labels"])
def test_an_alarm_stays_one_when_labels_stop_coming(ago: timedelta | None) -> None:
    decision = evaluate(last_labelled(ago, firing([PERFORMANCE])))
    assert (decision.outcome, decision.trigger) == (Outcome.RETRAIN, PERFORMANCE)
    assert fired(decision)[DATA_VOLUME] is None
    decision = evaluate(last_labelled(ago, firing([DATA_VOLUME])))
    assert (decision.outcome, decision.trigger) == (Outcome.RETRAIN, DATA_VOLUME)
    assert fired(decision)[PERFORMANCE] is None


@pytest.mark.parametrize("status", ["insufficient_data", "missing_feature", "baseline_missing", "error", "surprise"])
def test_a_status_of_which_nobody_knows_is_not_judged_beside_many_that_are_fine(status: str) -> None:
    decision = evaluate(drifted("ok", "warning", status, "ok", status))
    assert fired(decision)[DRIFT] is None
    assert evidence(decision, DRIFT) == f"Drift is unknown for f2 ({status}), f4 ({status})."


def test_the_unknown_does_not_hold_up_the_others() -> None:
    decision = evaluate(replace(ALL, feature_version=None, performance=None, requested=None, drift=None))
    assert (decision.outcome, decision.trigger) == (Outcome.RETRAIN, SCHEDULED)
    assert fired(decision) == {
        NO_MODEL: False,
        DEFINITION_CHANGED: None,
        PERFORMANCE: None,
        MANUAL: False,
        DRIFT: None,
        SCHEDULED: True,
        DATA_VOLUME: True,
    }


# --- All triggers, always ---


def test_no_trigger_hides_another() -> None:
    """Each of the 64 sets of triggers of a champion fires as itself."""
    sizes = range(len(OF_A_CHAMPION) + 1)
    for together in chain.from_iterable(combinations(OF_A_CHAMPION, size) for size in sizes):
        decision = evaluate(firing(together))
        assert fired(decision) == NOTHING_FIRED | dict.fromkeys(together, True)
        assert [finding.trigger for finding in decision.triggers] == list(RetrainingTrigger)
        assert decision.should_retrain is bool(together)
        assert decision.trigger is next(iter(together), None)
        assert decision.priority == max((trigger.priority for trigger in together), default=Priority.NONE)
        if together:
            assert decision.reason == " ".join(evidence(decision, trigger) for trigger in together)


def test_the_most_urgent_comes_first() -> None:
    priorities = [trigger.priority for trigger in RetrainingTrigger]
    assert priorities == sorted(priorities, reverse=True)
    # By name, as decisions are kept.
    names = [priority.name for priority in (Priority.NONE, *reversed(priorities))]
    assert names == ["NONE", "LOW", "MEDIUM", "HIGH", "HIGH", "CRITICAL", "CRITICAL", "CRITICAL"]


def test_the_evidence_has_the_numbers() -> None:
    assert evaluate(ALL).reason == (
        "The features have a new definition, v2; v3 was trained on v1 and cannot score them. "
        "Performance: on 12,345 labels matured since, the champion scores 0.500 (0.450 to 0.550), "
        "below 0.760 (95% of its holdout 0.800). "
        "Asked for by hand: a new partner joins. "
        "Drift at or above critical in f1. "
        "The champion is 31 days old; it may become 30. "
        "9,000 labels matured since the champion was trained; 5,000 call for a new one."
    )
    calm = evaluate(CALM)
    assert evidence(calm, NO_MODEL) == "v3 is the champion."
    assert evidence(calm, DEFINITION_CHANGED) == "The features are defined as they were for v3."
    assert evidence(calm, MANUAL) == "Nobody asked for it."
    assert evidence(evaluate(drifted("critical", "ok", "warning"), WARNING_IS_ENOUGH), DRIFT) == (
        "Drift at or above warning in f0, f2."
    )


# --- Guards ---


def retrained_often(inputs: PolicyInputs) -> PolicyInputs:
    return retrained(*(day * DAY for day in range(2, 10)), inputs=inputs)


# What calls each guard, and nothing else.
CALLS: dict[Guard, Callable[[PolicyInputs], PolicyInputs]] = {
    Guard.DATA_INCIDENT: lambda inputs: replace(inputs, data_incidents=[SICK]),
    Guard.MISSING_FEATURE: with_missing_feature,
    Guard.FEW_LABELS_SINCE_SHIFT: lambda inputs: replace(inputs, labels_since_shift=499),
    Guard.IN_FLIGHT: lambda inputs: replace(inputs, in_flight=1),
    Guard.COOLDOWN: lambda inputs: retrained(HOUR, version=inputs.feature_version or "", inputs=inputs),
    Guard.BUDGET: retrained_often,
}
# A person may ask again; and other evidence than drift calls for a model of today's labels, however few.
SPARED = {
    Guard.FEW_LABELS_SINCE_SHIFT: set(RetrainingTrigger) - {DRIFT},
    Guard.COOLDOWN: {MANUAL},
    Guard.BUDGET: {MANUAL},
}


@pytest.mark.parametrize("guard", Guard)
@pytest.mark.parametrize("trigger", RetrainingTrigger)
def test_which_guard_forbids_what_which_trigger_calls_for(guard: Guard, trigger: RetrainingTrigger) -> None:
    free = evaluate(firing([trigger]))
    assert (free.outcome, free.trigger) == (Outcome.RETRAIN, trigger)
    guarded = evaluate(CALLS[guard](firing([trigger])))
    # It says what fired and how urgent that is, guarded or not.
    assert fired(guarded)[trigger] is True
    assert (guarded.trigger, guarded.priority) == (trigger, trigger.priority)
    if trigger in SPARED.get(guard, ()):
        assert guarded == free
    else:
        assert guards(guarded) == [guard]
        assert guarded.outcome is Outcome.BLOCKED
        assert not guarded.should_retrain
        assert guarded.reason == (
            f"Not retraining, although {trigger} fired. {guarded.blocked_by[0].reason} What fired: {free.reason}"
        )


@pytest.mark.parametrize("guard", Guard)
def test_where_nothing_fired_no_guard_is_mentioned(guard: Guard) -> None:
    decision = evaluate(CALLS[guard](CALM))
    assert decision.blocked_by == ()
    assert not decision.should_retrain
    if guard is Guard.MISSING_FEATURE:  # of which drift is unknown, and says so
        assert decision.reason.startswith("No trigger fired, but not all could be judged. Drift is unknown for gone")
    else:
        assert decision == evaluate(CALM)


ASKED = firing([MANUAL])

# What is the case, the settings, what forbids it.
GUARDED: dict[str, tuple[PolicyInputs, RetrainingSettings, list[Guard]]] = {
    "labels since the shift at the minimum": (replace(SHIFTED, labels_since_shift=500), SETTINGS, []),
    "one below": (replace(SHIFTED, labels_since_shift=499), SETTINGS, [Guard.FEW_LABELS_SINCE_SHIFT]),
    "none": (replace(SHIFTED, labels_since_shift=0), SETTINGS, [Guard.FEW_LABELS_SINCE_SHIFT]),
    "an unknown number": (replace(SHIFTED, labels_since_shift=None), SETTINGS, [Guard.FEW_LABELS_SINCE_SHIFT]),
    "none, but performance fired too": (replace(firing([PERFORMANCE, DRIFT]), labels_since_shift=0), SETTINGS, []),
    "none, but somebody asked": (replace(firing([MANUAL, DRIFT]), labels_since_shift=0), SETTINGS, []),
    "nothing in flight": (replace(OVERDUE, in_flight=0), SETTINGS, []),
    "several in flight": (replace(OVERDUE, in_flight=3), SETTINGS, [Guard.IN_FLIGHT]),
    "in flight, and somebody asked": (replace(ASKED, in_flight=1), SETTINGS, [Guard.IN_FLIGHT]),
    "never retrained": (OVERDUE, SETTINGS, []),
    "retrained as long ago as the cooldown": (retrained(24 * HOUR, inputs=OVERDUE), SETTINGS, []),
    "a second less": (retrained(24 * HOUR - SECOND, inputs=OVERDUE), SETTINGS, [Guard.COOLDOWN]),
    "a second ago": (retrained(SECOND, inputs=OVERDUE), SETTINGS, [Guard.COOLDOWN]),
    "a second ago, without a cooldown": (retrained(SECOND, inputs=OVERDUE), NO_COOLDOWN, []),
    "just now, by the same decision made again": (retrained(0 * HOUR, inputs=OVERDUE), SETTINGS, []),
    "later, in a backfill": (retrained(-HOUR, inputs=OVERDUE), SETTINGS, []),
    "for another definition": (retrained(HOUR, version="v0", inputs=OVERDUE), SETTINGS, []),
    "long ago, and lately, in any order": (retrained(HOUR, 48 * HOUR, inputs=OVERDUE), SETTINGS, [Guard.COOLDOWN]),
    "lately, and somebody asked": (retrained(HOUR, inputs=ASKED), SETTINGS, []),
    "lately, and somebody asked for what is overdue": (retrained(HOUR, inputs=requested(OVERDUE)), SETTINGS, []),
    "one retraining less than the budget": (retrained(*EIGHT[1:], inputs=OVERDUE), SETTINGS, []),
    "as many as the budget": (retrained(*EIGHT, inputs=OVERDUE), SETTINGS, [Guard.BUDGET]),
    "more": (retrained(*EIGHT, 11 * DAY, inputs=OVERDUE), SETTINGS, [Guard.BUDGET]),
    "the first 30 days ago": (retrained(*EIGHT[1:], 30 * DAY, inputs=OVERDUE), SETTINGS, []),
    "the first a second later": (retrained(*EIGHT[1:], 30 * DAY - SECOND, inputs=OVERDUE), SETTINGS, [Guard.BUDGET]),
    "the last just now": (retrained(*EIGHT[1:], 0 * DAY, inputs=OVERDUE), SETTINGS, []),
    "the last later": (retrained(*EIGHT[1:], -DAY, inputs=OVERDUE), SETTINGS, []),
    "for any definition": (retrained(*EIGHT, version="v0", inputs=OVERDUE), SETTINGS, [Guard.BUDGET]),
    "as many, and somebody asked": (retrained(*EIGHT, inputs=ASKED), SETTINGS, []),
    "lately and often": (retrained(HOUR, *EIGHT, inputs=OVERDUE), SETTINGS, [Guard.COOLDOWN, Guard.BUDGET]),
}


@pytest.mark.parametrize(("inputs", "settings", "forbidden_by"), GUARDED.values(), ids=GUARDED)
def test_a_guard_forbids_at_its_bound(
    inputs: PolicyInputs, settings: RetrainingSettings, forbidden_by: list[Guard]
) -> None:
    decision = evaluate(inputs, settings)
    assert guards(decision) == forbidden_by
    assert decision.outcome is (Outcome.BLOCKED if forbidden_by else Outcome.RETRAIN)


TELLS: dict[str, tuple[PolicyInputs, Block]] = {
    "a data incident": (
        replace(OVERDUE, data_incidents=[SICK]),
        Block(
            Guard.DATA_INCIDENT,
            "Incident 7 is open since 2013-07-01 05:00Z: unit change in a, b. Ask Ann <ann@example.com>; if the change "
            "is genuine, `skewless resolve-incident 7 --as genuine` lets retraining go on.",
        ),
    ),
    "a missing feature": (
        with_missing_feature(OVERDUE),
        Block(Guard.MISSING_FEATURE, "gone has stopped arriving; mend the pipeline before retraining."),
    ),
    "few labels since the shift": (
        replace(SHIFTED, labels_since_shift=20),
        Block(
            Guard.FEW_LABELS_SINCE_SHIFT,
            "Of the time since the drift began 20 labels have matured; 500 are needed to learn it.",
        ),
    ),
    "nobody knows how many": (
        replace(SHIFTED, labels_since_shift=None),
        Block(
            Guard.FEW_LABELS_SINCE_SHIFT,
            "Of the time since the drift began an unknown number of labels have matured; 500 are needed to learn it.",
        ),
    ),
    "one in flight": (
        replace(OVERDUE, in_flight=1),
        Block(Guard.IN_FLIGHT, "Not before it is finished: a training is under way."),
    ),
    "several in flight": (
        replace(OVERDUE, in_flight=3),
        Block(Guard.IN_FLIGHT, "Not before it is finished: 3 trainings are under way."),
    ),
    "a cooldown, since the last of this definition": (
        retrained(2 * HOUR, 5 * HOUR, inputs=retrained(HOUR, version="v0", inputs=OVERDUE)),
        Block(
            Guard.COOLDOWN,
            "The last retraining was asked for at 2013-07-01 22:00Z; the next may be 24 hours later.",
        ),
    ),
    "the budget": (
        retrained(*EIGHT, 10 * DAY, inputs=OVERDUE),
        Block(Guard.BUDGET, "9 retrainings in 30 days are as many as the budget allows."),
    ),
}


@pytest.mark.parametrize(("inputs", "block"), TELLS.values(), ids=TELLS)
def test_a_guard_says_why_and_what_to_do(inputs: PolicyInputs, block: Block) -> None:
    assert evaluate(inputs).blocked_by == (block,)


def test_every_guard_speaks_for_itself() -> None:
    inputs = SHIFTED
    for call in CALLS.values():
        inputs = call(inputs)
    decision = evaluate(replace(inputs, data_incidents=[SICK, replace(SICK, incident_id=3, owner="Bob")]))
    assert guards(decision) == [
        Guard.DATA_INCIDENT,
        Guard.DATA_INCIDENT,
        Guard.MISSING_FEATURE,
        Guard.FEW_LABELS_SINCE_SHIFT,
        Guard.IN_FLIGHT,
        Guard.COOLDOWN,
        Guard.BUDGET,
    ]
    assert "Ask Bob" in decision.blocked_by[0].reason
    assert "Ask Ann" in decision.blocked_by[1].reason
    reasons = " ".join(block.reason for block in decision.blocked_by)
    assert decision.reason == (
        f"Not retraining, although drift fired. {reasons} What fired: Drift at or above critical in f1."
    )


def test_where_the_definition_is_not_known_every_earlier_retraining_counts() -> None:
    just_now = Retraining(AS_OF - timedelta(seconds=1), "any")
    decision = evaluate(replace(aged(days=31), feature_version=None, retrainings=[just_now]))
    assert guards(decision) == [Guard.COOLDOWN]


def test_what_could_not_be_judged_is_said_beside_what_fired() -> None:
    decision = evaluate(replace(aged(days=31), drift=None))
    assert decision.outcome is Outcome.RETRAIN
    assert decision.reason.endswith(" Besides: Drift is unknown: there is no report.")


def test_stale_labels_are_no_news_however_bad_the_estimate() -> None:
    stale = replace(CALM, newest_label=AS_OF - timedelta(days=60))
    for metric in (0.75, 0.77):
        assert fired(evaluate(replace(stale, performance=Performance(metric, 0.70, 0.78, 1000))))[PERFORMANCE] is None


def test_reports_of_a_later_instant_say_nothing_of_this_one() -> None:
    drift = drifted("critical").drift
    assert drift is not None
    later = replace(drift, as_of=AS_OF + timedelta(hours=1))
    assert fired(evaluate(replace(CALM, drift=later)))[DRIFT] is None


def test_a_bound_is_said_as_it_is_set() -> None:
    settings = SETTINGS.model_copy(update={"performance_drop": 0.025})
    assert "0.780 (97.5% of its holdout 0.800)" in evidence(evaluate(CALM, settings), PERFORMANCE)


def test_a_champion_that_knows_more_is_not_too_old() -> None:
    assert evidence(evaluate(aged(days=-40)), SCHEDULED) == "The champion was trained as of a later instant."


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_request_without_a_word_is_none(blank: str) -> None:
    assert fired(evaluate(replace(CALM, requested=blank)))[MANUAL] is False


def test_each_missing_feature_is_named_in_whatever_order_they_come() -> None:
    inputs = drifted("critical", "missing_feature", "missing_feature", inputs=ALL)
    decision = evaluate(inputs)
    assert guards(decision) == [Guard.MISSING_FEATURE] * 2
    assert [block.reason.split()[0] for block in decision.blocked_by] == ["f1", "f2"]
    assert inputs.drift is not None
    backwards = replace(inputs.drift, findings=inputs.drift.findings[::-1])
    assert evaluate(replace(inputs, drift=backwards)) == decision


def test_a_feature_that_went_missing_is_so_by_an_old_report_too() -> None:
    decision = evaluate(drifted("missing_feature", inputs=OVERDUE, ago=48 * HOUR))
    assert fired(decision)[DRIFT] is None
    assert guards(decision) == [Guard.MISSING_FEATURE]


def incidents_of(**changes: Any) -> list[DataIncident]:
    """What reaches the policy of an incident of which something differs, as `features.steps.decide` selects it."""
    opened = Incident(
        upstream="view",
        owner="Ann",
        cause=Cause.UNIT_CHANGE,
        severity=Severity.CRITICAL,
        findings=(),
        opened_at=AS_OF,
        last_alarm_at=AS_OF,
        told_at=AS_OF,
    )
    incident = replace(opened, **changes)
    return [SICK] if incident.blocks_retraining else []


@pytest.mark.parametrize(
    "changes",
    [{"verdict": "genuine"}, {"verdict": "benign"}, {"closed_at": AS_OF}, {"cause": Cause.GENUINE}],
    ids=["genuine by verdict", "benign", "closed", "genuine by its looks"],
)
def test_an_incident_that_is_no_sick_pipeline_forbids_nothing(changes: dict[str, Any]) -> None:
    assert evaluate(replace(ALL, data_incidents=incidents_of())).outcome is Outcome.BLOCKED
    assert evaluate(replace(ALL, data_incidents=incidents_of(**changes))) == evaluate(ALL)
    assert evaluate(ALL).outcome is Outcome.RETRAIN


# --- What would fail silently ---


def test_drift_of_corrupted_data_retrains_nothing() -> None:
    """Minutes became seconds: every alarm rings, and the remedy is not to learn the seconds."""
    corrupted = replace(drifted("critical", "critical", "critical"), data_incidents=[SICK])
    decision = evaluate(corrupted)
    assert decision.outcome is Outcome.BLOCKED
    assert (decision.trigger, decision.priority) == (DRIFT, Priority.HIGH)
    assert "Ask Ann" in decision.reason
    assert not evaluate(requested(corrupted)).should_retrain
    assert evaluate(replace(corrupted, data_incidents=())).should_retrain


def test_a_model_that_is_due_and_does_badly_is_urgent() -> None:
    decision = evaluate(firing([PERFORMANCE, SCHEDULED]))
    assert (decision.trigger, decision.priority) == (PERFORMANCE, Priority.CRITICAL)
    assert "31 days old" in decision.reason


def test_a_metric_that_nobody_measured_is_no_pass() -> None:
    measured, absent = evaluate(CALM), evaluate(replace(CALM, performance=None))
    assert (measured.outcome, absent.outcome) == (Outcome.HOLD, Outcome.UNKNOWN)
    assert "Performance is unknown" in absent.reason


# --- What holds of any inputs ---

ANY_SETTINGS = st.sampled_from([SETTINGS, WARNING_IS_ENOUGH, BY_BACKTEST])


@given(INPUTS, ANY_SETTINGS)
def test_the_same_inputs_give_the_same_decision(inputs: PolicyInputs, settings: RetrainingSettings) -> None:
    assert evaluate(inputs, settings) == evaluate(replace(inputs), settings.model_copy())


@given(INPUTS, ANY_SETTINGS)
def test_a_decision_agrees_with_its_findings(inputs: PolicyInputs, settings: RetrainingSettings) -> None:
    decision = evaluate(inputs, settings)
    calling = [finding for finding in decision.triggers if finding.fired]
    unknown = [finding for finding in decision.triggers if finding.fired is None]
    assert list(fired(decision)) == list(RetrainingTrigger)
    assert decision.trigger is (calling[0].trigger if calling else None)
    assert decision.priority == max((each.trigger.priority for each in calling), default=Priority.NONE)
    match decision.outcome:
        case Outcome.RETRAIN:
            assert calling
            assert not decision.blocked_by
        case Outcome.BLOCKED:
            assert calling
            assert decision.blocked_by
        case Outcome.UNKNOWN:
            assert unknown
            assert not calling
            assert not decision.blocked_by
        case Outcome.HOLD:
            assert set(fired(decision).values()) == {False}
            assert not decision.blocked_by
    # The reason has all that fired; where nothing did, all that is unknown.
    assert all(finding.evidence and finding.evidence in decision.reason for finding in calling or unknown)
    assert all(block.reason and block.reason in decision.reason for block in decision.blocked_by)


@given(INPUTS, ANY_SETTINGS)
def test_what_is_blocked_is_not_trained(inputs: PolicyInputs, settings: RetrainingSettings) -> None:
    decision = evaluate(inputs, settings)
    assert decision.should_retrain is (decision.outcome is Outcome.RETRAIN)
    assert not (decision.blocked_by and decision.should_retrain)


@given(INPUTS, ANY_SETTINGS)
def test_with_a_data_incident_nothing_is_trained(inputs: PolicyInputs, settings: RetrainingSettings) -> None:
    before = evaluate(inputs, settings)
    sick = evaluate(replace(inputs, data_incidents=[*inputs.data_incidents, replace(SICK, incident_id=10)]), settings)
    assert not sick.should_retrain
    assert (sick.trigger, sick.priority, sick.triggers) == (before.trigger, before.priority, before.triggers)
    assert (Guard.DATA_INCIDENT in guards(sick)) is (before.trigger is not None)


@given(INPUTS, ANY_SETTINGS, st.data())
def test_the_order_in_which_things_are_found_is_nothing(
    inputs: PolicyInputs, settings: RetrainingSettings, data: st.DataObject
) -> None:
    def shuffled(items: Sequence[Any]) -> list[Any]:
        return data.draw(st.permutations(items))

    drift = inputs.drift and replace(inputs.drift, findings=shuffled(inputs.drift.findings))
    incidents, retrainings = shuffled(inputs.data_incidents), shuffled(inputs.retrainings)
    other = replace(inputs, drift=drift, data_incidents=incidents, retrainings=retrainings)
    assert evaluate(other, settings) == evaluate(inputs, settings)


def more_drift(inputs: PolicyInputs) -> PolicyInputs:
    if inputs.drift is None:
        return inputs
    worst = [replace(finding, severity=Severity.CRITICAL) for finding in inputs.drift.findings]
    return replace(inputs, drift=replace(inputs.drift, findings=worst))


def another_drift(inputs: PolicyInputs) -> PolicyInputs:
    before = inputs.drift.findings if inputs.drift else ()
    return replace(inputs, drift=DriftFindings(AS_OF, [*before, DriftFinding("z", "critical", Severity.CRITICAL)]))


def worse_performance(inputs: PolicyInputs) -> PolicyInputs:
    if inputs.performance is None:
        return inputs
    metric, low, high = (
        value / 2 for value in (inputs.performance.metric, inputs.performance.low, inputs.performance.high)
    )
    return replace(inputs, performance=Performance(metric, low, high, inputs.performance.labels))


def surer_performance(inputs: PolicyInputs) -> PolicyInputs:
    if inputs.performance is None:
        return inputs
    metric = inputs.performance.metric
    return replace(inputs, performance=Performance(metric, metric, metric, inputs.performance.labels + 500))


def older_champion(inputs: PolicyInputs) -> PolicyInputs:
    if inputs.champion is None:
        return inputs
    trained = inputs.champion.trained_as_of - 20 * DAY
    return replace(inputs, champion=replace(inputs.champion, trained_as_of=trained))


WORSENINGS: dict[str, Callable[[PolicyInputs], PolicyInputs]] = {
    "drift more severe": more_drift,
    "drift of another feature": another_drift,
    "performance lower": worse_performance,
    "performance surer": surer_performance,
    "champion older": older_champion,
    "champion lost": lambda inputs: replace(inputs, champion=None),
    "more labels": lambda inputs: labelled((inputs.new_labels or 0) + 3000, inputs),
    "definition changed": lambda inputs: redefined(inputs, "v3"),
    "asked for": requested,
}


@pytest.mark.parametrize("worsen", WORSENINGS.values(), ids=WORSENINGS)
@given(inputs=INPUTS, settings=ANY_SETTINGS)
def test_more_evidence_is_never_less_urgent(
    worsen: Callable[[PolicyInputs], PolicyInputs], inputs: PolicyInputs, settings: RetrainingSettings
) -> None:
    before, after = evaluate(inputs, settings), evaluate(worsen(inputs), settings)
    assert after.priority >= before.priority
    # Nor does it forbid what was allowed: guards are for what is wrong with the data, or too often.
    assert after.should_retrain >= before.should_retrain
