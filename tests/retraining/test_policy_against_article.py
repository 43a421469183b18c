"""A tie to the article: its policy beside ours, on the same inputs.

The article's policy, in our words, is the oracle where it is right: as long as one trigger at most fires and all is
known, certain and allowed, both say the same. Where they differ, each kind of difference is a row of a table that says
what the article would have done, what we do, and why. Last, what ties them on any inputs: ours trains for none of the
article's reasons where the article would not, and never calls it less urgent.
"""

import math
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.contract import RetrainingSettings, Severity
from features.retraining.decision import (
    Cadence,
    Champion,
    DriftFinding,
    DriftFindings,
    Outcome,
    Performance,
    PolicyInputs,
    Priority,
    Retraining,
    RetrainingTrigger,
)
from tests.retraining.policy_inputs import (
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
    OVERDUE,
    PERFORMANCE,
    SCHEDULED,
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
    labelled,
    last_labelled,
    redefined,
    requested,
    retrained,
    scored,
    with_missing_feature,
)


class Verdict(NamedTuple):
    """What both policies can say; the article's only ever retrains or holds."""

    outcome: Outcome
    trigger: RetrainingTrigger | None = None
    priority: Priority = Priority.NONE


HOLD = Verdict(Outcome.HOLD)
UNKNOWN = Verdict(Outcome.UNKNOWN)


def retrain(trigger: RetrainingTrigger, priority: Priority) -> Verdict:
    return Verdict(Outcome.RETRAIN, trigger, priority)


def blocked(trigger: RetrainingTrigger, priority: Priority) -> Verdict:
    return Verdict(Outcome.BLOCKED, trigger, priority)


def article(inputs: PolicyInputs, as_of: datetime, drift_severity_threshold: Severity = Severity.CRITICAL) -> Verdict:
    """The first rule that holds decides; what is absent is fine; the threshold is never looked at.

    There has to be a champion: the article does not say what is done before there is one.
    """
    assert inputs.champion is not None
    if (as_of - inputs.champion.trained_as_of).days >= 30:
        return retrain(SCHEDULED, Priority.MEDIUM)
    if inputs.drift and any(finding.severity == Severity.CRITICAL for finding in inputs.drift.findings):
        return retrain(DRIFT, Priority.HIGH)
    if inputs.performance and inputs.performance.metric < 0.95 * inputs.champion.holdout_metric:
        return retrain(PERFORMANCE, Priority.CRITICAL)
    if inputs.new_labels and inputs.new_labels >= 5000:
        return retrain(DATA_VOLUME, Priority.LOW)
    return HOLD


def ours(inputs: PolicyInputs, settings: RetrainingSettings = SETTINGS) -> Verdict:
    decision = evaluate(inputs, settings)
    return Verdict(decision.outcome, decision.trigger, decision.priority)


# --- Where they agree ---

OF_THE_ARTICLE = [SCHEDULED, DRIFT, PERFORMANCE, DATA_VOLUME]


@st.composite
def certain(draw: st.DrawFn, alone: RetrainingTrigger | None) -> PolicyInputs:
    """Inputs that are all known, of which nothing forbids retraining, and on which this trigger alone fires."""

    def drawn(trigger: RetrainingTrigger, fires: st.SearchStrategy[Any], rests: st.SearchStrategy[Any]) -> Any:
        return draw(fires if trigger is alone else rests)

    day = timedelta(days=1)
    age = drawn(SCHEDULED, st.timedeltas(30 * day, 999 * day), st.timedeltas(0 * day, 30 * day - timedelta.resolution))
    share = drawn(PERFORMANCE, st.floats(0, 0.9499), st.floats(0.9501, 1.05))
    mild = st.sampled_from([Severity.NONE, Severity.WARNING])
    severities = draw(st.lists(mild, min_size=1, max_size=4))
    severities += drawn(DRIFT, st.just([Severity.CRITICAL]), st.just([]))
    count = drawn(DATA_VOLUME, st.integers(5000, 10**6), st.integers(0, 4999))
    holdout = draw(st.floats(0.05, 1))
    metric = share * holdout
    statuses = {Severity.NONE: "ok", Severity.WARNING: "warning", Severity.CRITICAL: "critical"}
    return PolicyInputs(
        champion=Champion("3", AS_OF - age, holdout, "v1"),
        feature_version="v1",
        drift=DriftFindings(
            AS_OF - draw(st.integers(0, 24)) * HOUR,
            [
                DriftFinding(f"f{place}", statuses[each], each)
                for place, each in enumerate(draw(st.permutations(severities)))
            ],
        ),
        performance=Performance(metric, metric, metric, draw(st.integers(500, 10**6))),
        new_labels=count,
        newest_label=AS_OF - draw(st.integers(0, 14)) * DAY,
        labels_since_shift=draw(st.integers(500, 10**6)),
        retrainings=[Retraining(AS_OF - days * DAY, "v1") for days in draw(st.lists(st.integers(1, 40), max_size=7))],
    )


@pytest.mark.parametrize("alone", [*OF_THE_ARTICLE, None])
@given(data=st.data())
def test_when_all_is_certain_and_one_trigger_fires_at_most_both_say_the_same(
    alone: RetrainingTrigger | None, data: st.DataObject
) -> None:
    inputs = data.draw(certain(alone))
    assert fired(evaluate(inputs)) == {trigger: trigger is alone for trigger in RetrainingTrigger}
    assert ours(inputs) == article(inputs, AS_OF)
    assert ours(inputs) == (retrain(alone, alone.priority) if alone else HOLD)


# --- Where they differ ---

HIGH, LOW, MEDIUM, CRITICAL = Priority.HIGH, Priority.LOW, Priority.MEDIUM, Priority.CRITICAL

# What is the case, the settings, what the article does, what we do.
DIFFERENCES: dict[str, tuple[PolicyInputs, RetrainingSettings, Verdict, Verdict]] = {
    # The article stops at the first rule, so that a routine one hides the alarm. We look at all and take the worst.
    "due, which hides bad performance": (
        firing([SCHEDULED, PERFORMANCE]),
        SETTINGS,
        retrain(SCHEDULED, MEDIUM),
        retrain(PERFORMANCE, CRITICAL),
    ),
    "due, which hides drift": (
        firing([SCHEDULED, DRIFT]),
        SETTINGS,
        retrain(SCHEDULED, MEDIUM),
        retrain(DRIFT, HIGH),
    ),
    "drift, which hides bad performance": (
        firing([DRIFT, PERFORMANCE]),
        SETTINGS,
        retrain(DRIFT, HIGH),
        retrain(PERFORMANCE, CRITICAL),
    ),
    # An estimate moves by chance. We want the whole confidence interval below, and labels enough for one.
    "performance that may be chance": (
        scored(0.7, 0.6, 0.78),
        SETTINGS,
        retrain(PERFORMANCE, CRITICAL),
        HOLD,
    ),
    "performance on 20 labels": (
        scored(0.5, 0.3, 0.7, labels=20),
        SETTINGS,
        retrain(PERFORMANCE, CRITICAL),
        UNKNOWN,
    ),
    # 95 % of 0.808 is 0.7676 to the last digit; in floating point the product is a little more.
    "performance exactly at its bound": (
        scored(0.7676, holdout=0.808),
        SETTINGS,
        retrain(PERFORMANCE, CRITICAL),
        HOLD,
    ),
    # What nobody measured is no pass: the article skips it and reports that all is well. We say what is unknown.
    "an absent metric": (replace(CALM, performance=None), SETTINGS, HOLD, UNKNOWN),
    "a metric that is no number": (scored(math.nan), SETTINGS, HOLD, UNKNOWN),
    "drift reports that nobody made": (replace(CALM, drift=None), SETTINGS, HOLD, UNKNOWN),
    "an empty list of drift reports": (replace(CALM, drift=DriftFindings(AS_OF, ())), SETTINGS, HOLD, UNKNOWN),
    "a feature on too few rows to judge": (drifted("ok", "insufficient_data"), SETTINGS, HOLD, UNKNOWN),
    "a feature that stopped arriving": (drifted("ok", "missing_feature"), SETTINGS, HOLD, UNKNOWN),
    "labels that nobody counted": (labelled(None), SETTINGS, HOLD, UNKNOWN),
    # A pipeline that stopped looks like a quiet day, or like the day it stopped. What is stale is unknown.
    "stale labels": (last_labelled(15 * DAY), SETTINGS, HOLD, UNKNOWN),
    "stale drift reports that were fine": (drifted("ok", ago=25 * HOUR), SETTINGS, HOLD, UNKNOWN),
    "stale drift reports that were critical": (
        drifted("critical", ago=25 * HOUR),
        SETTINGS,
        retrain(DRIFT, HIGH),
        UNKNOWN,
    ),
    # A model that is retrained on corrupted data learns the corruption, whatever the occasion.
    "drift of corrupted data": (
        replace(SHIFTED, data_incidents=[SICK]),
        SETTINGS,
        retrain(DRIFT, HIGH),
        blocked(DRIFT, HIGH),
    ),
    "due, on corrupted data": (
        replace(OVERDUE, data_incidents=[SICK]),
        SETTINGS,
        retrain(SCHEDULED, MEDIUM),
        blocked(SCHEDULED, MEDIUM),
    ),
    "due, while a feature is missing": (
        with_missing_feature(OVERDUE),
        SETTINGS,
        retrain(SCHEDULED, MEDIUM),
        blocked(SCHEDULED, MEDIUM),
    ),
    # A shift cannot be learned from labels of the time before it.
    "drift before labels have matured": (
        replace(SHIFTED, labels_since_shift=0),
        SETTINGS,
        retrain(DRIFT, HIGH),
        blocked(DRIFT, HIGH),
    ),
    # The article is asked each hour and says yes each hour, until a new model is in place.
    "asked again while a training runs": (
        replace(OVERDUE, in_flight=1),
        SETTINGS,
        retrain(SCHEDULED, MEDIUM),
        blocked(SCHEDULED, MEDIUM),
    ),
    "asked again an hour later": (
        retrained(HOUR, inputs=SHIFTED),
        SETTINGS,
        retrain(DRIFT, HIGH),
        blocked(DRIFT, HIGH),
    ),
    "asked once more than the budget allows": (
        retrained(*EIGHT, inputs=labelled(5000)),
        SETTINGS,
        retrain(DATA_VOLUME, LOW),
        blocked(DATA_VOLUME, LOW),
    ),
    # The article has a threshold of severity that nothing reads, and an age that is the same for every domain.
    "a warning where warnings are enough": (drifted("warning"), WARNING_IS_ENOUGH, HOLD, retrain(DRIFT, HIGH)),
    "older than the decay backtest allows": (
        replace(aged(days=10), cadence=Cadence(7, AS_OF - 30 * DAY, 120)),
        BY_BACKTEST,
        HOLD,
        retrain(SCHEDULED, MEDIUM),
    ),
    "old, and of no harm by the decay backtest": (
        replace(aged(days=45), cadence=Cadence(90, AS_OF - 30 * DAY, 120)),
        BY_BACKTEST,
        retrain(SCHEDULED, MEDIUM),
        HOLD,
    ),
    # Reasons that the article does not have: a model that cannot score what is served, and a person who knows more.
    "a new definition of the features": (redefined(), SETTINGS, HOLD, retrain(DEFINITION_CHANGED, CRITICAL)),
    "a person asks": (requested(), SETTINGS, HOLD, retrain(MANUAL, HIGH)),
}


@pytest.mark.parametrize(("inputs", "settings", "articles", "our"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_where_they_differ(inputs: PolicyInputs, settings: RetrainingSettings, articles: Verdict, our: Verdict) -> None:
    assert article(inputs, AS_OF, settings.drift_severity) == articles
    assert ours(inputs, settings) == our
    assert our != articles


# --- What ties them on any inputs ---

WITH_A_CHAMPION = INPUTS.filter(lambda inputs: inputs.champion is not None)


@given(WITH_A_CHAMPION)
def test_ours_has_none_of_the_articles_reasons_where_the_article_has_none(inputs: PolicyInputs) -> None:
    decision = evaluate(inputs)
    if any(fired(decision)[trigger] for trigger in OF_THE_ARTICLE):
        assert article(inputs, AS_OF).outcome is Outcome.RETRAIN


@given(WITH_A_CHAMPION)
def test_what_the_article_retrains_for_is_no_less_urgent_to_us_unless_unknown_or_chance(inputs: PolicyInputs) -> None:
    decision, (_, trigger, priority) = evaluate(inputs), article(inputs, AS_OF)
    if trigger is None:
        return
    if fired(decision)[trigger]:
        assert decision.priority >= priority
    else:
        assert fired(decision)[trigger] is None or evidence(decision, trigger).endswith("which may be chance.")
