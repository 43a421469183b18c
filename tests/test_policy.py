"""When a model is retrained: four triggers with exact bounds, and what is not known is neither fine nor a reason."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.contract import RetrainingSettings, Severity
from features.drift.cause import Cause
from features.drift.incident import Incident
from features.policy import (
    Champion,
    DataIncident,
    DriftFinding,
    PolicyInputs,
    Priority,
    RetrainingDecision,
    RetrainingPolicy,
    RetrainingTrigger,
)

AS_OF = datetime(2013, 7, 2, tzinfo=UTC)
SETTINGS = RetrainingSettings(max_model_age_days=30, min_new_labels=5000, performance_drop=0.05)
NO_MODEL, PERFORMANCE, DRIFT, SCHEDULED, DATA_VOLUME = RetrainingTrigger

# A champion of yesterday that does well, on data that look the same: nothing to do.
CALM = PolicyInputs(
    champion=Champion("3", AS_OF - timedelta(days=1), 0.8),
    drift=(DriftFinding("a", "ok", Severity.NONE), DriftFinding("b", "ok", Severity.NONE)),
    new_labels=100,
    recent_metric=0.8,
    recent_labels=1000,
)


def evaluate(inputs: PolicyInputs, settings: RetrainingSettings = SETTINGS) -> RetrainingDecision:
    return RetrainingPolicy(settings).evaluate(inputs, AS_OF)


def aged(**age: float) -> PolicyInputs:
    return replace(CALM, champion=replace(CALM.champion, trained_as_of=AS_OF - timedelta(**age)))


def drifted(*statuses: str) -> PolicyInputs:
    severities = {"warning": Severity.WARNING, "critical": Severity.CRITICAL}
    return replace(
        CALM,
        drift=[
            DriftFinding(f"f{i}", status, severities.get(status, Severity.NONE)) for i, status in enumerate(statuses)
        ],
    )


def judged(metric: float | None, holdout: float = 0.8) -> PolicyInputs:
    return replace(CALM, champion=replace(CALM.champion, holdout_metric=holdout), recent_metric=metric)


def fired(decision: RetrainingDecision) -> dict[RetrainingTrigger, bool | None]:
    return {finding.trigger: finding.fired for finding in decision.triggers}


def evidence(decision: RetrainingDecision, trigger: RetrainingTrigger) -> str:
    return next(finding.evidence for finding in decision.triggers if finding.trigger is trigger)


WARNING_IS_ENOUGH = SETTINGS.model_copy(update={"drift_severity": Severity.WARNING})

# What is known, the trigger in question, whether it fires.
BOUNDS = {
    "age at the maximum": (aged(days=30), SETTINGS, SCHEDULED, True),
    "age a day below": (aged(days=29), SETTINGS, SCHEDULED, False),
    "age a second below": (aged(days=29, hours=23, minutes=59, seconds=59), SETTINGS, SCHEDULED, False),
    "age above": (aged(days=365), SETTINGS, SCHEDULED, True),
    "trained after as_of, in a backfill": (aged(days=-40), SETTINGS, SCHEDULED, False),
    "labels at the minimum": (replace(CALM, new_labels=5000), SETTINGS, DATA_VOLUME, True),
    "labels one below": (replace(CALM, new_labels=4999), SETTINGS, DATA_VOLUME, False),
    "no labels": (replace(CALM, new_labels=0), SETTINGS, DATA_VOLUME, False),
    "metric exactly 95 % of its holdout": (judged(0.76), SETTINGS, PERFORMANCE, False),
    "metric just below": (judged(0.76 - 1e-6), SETTINGS, PERFORMANCE, True),
    "metric far below": (judged(0.5), SETTINGS, PERFORMANCE, True),
    "metric of nothing": (judged(0.0), SETTINGS, PERFORMANCE, True),
    "metric better than its holdout": (judged(0.9), SETTINGS, PERFORMANCE, False),
    "critical drift": (drifted("ok", "critical"), SETTINGS, DRIFT, True),
    "a warning, critical asked for": (drifted("ok", "warning"), SETTINGS, DRIFT, False),
    "a warning, warning asked for": (drifted("ok", "warning"), WARNING_IS_ENOUGH, DRIFT, True),
    "critical, warning asked for": (drifted("ok", "critical"), WARNING_IS_ENOUGH, DRIFT, True),
    "no drift, warning asked for": (drifted("ok", "ok"), WARNING_IS_ENOUGH, DRIFT, False),
    "critical beside what nobody could judge": (drifted("insufficient_data", "critical"), SETTINGS, DRIFT, True),
}


@pytest.mark.parametrize(("inputs", "settings", "trigger", "fires"), BOUNDS.values(), ids=BOUNDS)
def test_a_trigger_fires_at_its_bound(
    inputs: PolicyInputs, settings: RetrainingSettings, trigger: RetrainingTrigger, fires: bool
) -> None:
    decision = evaluate(inputs, settings)
    assert fired(decision) == {PERFORMANCE: False, DRIFT: False, SCHEDULED: False, DATA_VOLUME: False} | {
        trigger: fires
    }
    assert decision.should_retrain is fires
    assert decision.trigger is (trigger if fires else None)


def test_95_percent_of_a_holdout_is_not_below_it_in_floating_point_either() -> None:
    for thousandths in range(500, 1000):
        bound = float(Decimal(thousandths) / 1000 * Decimal("0.95"))
        assert fired(evaluate(judged(bound, holdout=thousandths / 1000)))[PERFORMANCE] is False, bound


UNKNOWN = {
    "no metric": (judged(None), PERFORMANCE, "Performance is unknown"),
    "a metric that is no number": (judged(math.nan), PERFORMANCE, "Performance is unknown"),
    "a holdout metric that is no number": (judged(0.8, holdout=math.nan), PERFORMANCE, "Performance is unknown"),
    "no drift reports": (replace(CALM, drift=None), DRIFT, "Drift is unknown: there is no report."),
    "an empty list of them": (replace(CALM, drift=[]), DRIFT, "Drift is unknown: there is no report."),
    "no labels counted": (replace(CALM, new_labels=None), DATA_VOLUME, "The number of new labels is unknown."),
} | {
    status: (drifted("ok", status), DRIFT, f"Drift is unknown for f1 ({status}).")
    for status in ("insufficient_data", "missing_feature", "baseline_missing", "error", "not_reported")
}


@pytest.mark.parametrize(("inputs", "trigger", "reason"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_known_neither_fires_nor_counts_as_fine(
    inputs: PolicyInputs, trigger: RetrainingTrigger, reason: str
) -> None:
    decision = evaluate(inputs)
    assert fired(decision)[trigger] is None
    assert reason in evidence(decision, trigger)
    assert reason in decision.reason
    assert not decision.should_retrain


def test_nothing_to_do_is_a_decision_with_a_reason_too() -> None:
    decision = evaluate(CALM)
    assert not decision.should_retrain
    assert decision.trigger is None
    assert decision.priority is Priority.NONE
    assert decision.reason.startswith("No trigger fired.")
    assert decision.as_of == AS_OF


def test_without_a_champion_one_is_trained() -> None:
    decision = evaluate(PolicyInputs(None, None, None, None, 0))
    assert decision.should_retrain
    assert decision.trigger is NO_MODEL
    assert decision.priority is Priority.CRITICAL
    assert decision.reason == "There is no champion yet."


ALL = replace(aged(days=31), drift=drifted("critical").drift, new_labels=9000, recent_metric=0.5)


def test_every_trigger_is_evaluated_and_kept_also_when_the_first_fires() -> None:
    decision = evaluate(ALL)
    assert fired(decision) == {PERFORMANCE: True, DRIFT: True, SCHEDULED: True, DATA_VOLUME: True}
    for finding in decision.triggers:
        assert finding.evidence in decision.reason


def test_the_most_urgent_trigger_that_fired_gives_the_decision_its_name_and_priority() -> None:
    expected = [
        (ALL, PERFORMANCE, Priority.CRITICAL),
        (replace(ALL, recent_metric=0.8), DRIFT, Priority.HIGH),
        (replace(ALL, recent_metric=0.8, drift=CALM.drift), SCHEDULED, Priority.MEDIUM),
        (replace(CALM, new_labels=9000), DATA_VOLUME, Priority.LOW),
    ]
    for inputs, trigger, priority in expected:
        decision = evaluate(inputs)
        assert (decision.trigger, decision.priority) == (trigger, priority)
    assert Priority.NONE < Priority.LOW < Priority.MEDIUM < Priority.HIGH < Priority.CRITICAL


def test_an_unknown_trigger_does_not_hold_up_the_others() -> None:
    decision = evaluate(replace(ALL, recent_metric=None, drift=None))
    assert decision.should_retrain
    assert decision.trigger is SCHEDULED


def test_a_feature_that_stopped_arriving_forbids_retraining() -> None:
    decision = evaluate(replace(ALL, drift=drifted("critical", "missing_feature", "missing_feature").drift))
    assert not decision.should_retrain
    assert decision.trigger is PERFORMANCE
    assert len(decision.blocked_by) == 2
    assert "f1 has stopped arriving" in decision.blocked_by[0]
    assert "f2 has stopped arriving" in decision.blocked_by[1]
    assert decision.reason.startswith("Not retraining, although performance fired: f1 has stopped arriving")


def test_where_nothing_fired_there_is_nothing_to_forbid() -> None:
    assert evaluate(drifted("ok", "missing_feature")).blocked_by == ()


SICK = DataIncident(7, "unit change", ("a", "b"), datetime(2013, 7, 1, 5, tzinfo=UTC), "Ann <ann@example.com>")


def test_an_open_data_incident_forbids_retraining_and_names_whom_to_ask() -> None:
    decision = evaluate(replace(ALL, data_incidents=[SICK]))
    assert not decision.should_retrain
    assert (decision.trigger, decision.priority) == (PERFORMANCE, Priority.CRITICAL)
    assert decision.blocked_by == (
        "Incident 7 is open since 2013-07-01 05:00Z: unit change in a, b. Ask Ann <ann@example.com>; if the change is "
        "genuine, `skewless resolve-incident 7 --as genuine` lets retraining go on.",
    )
    assert decision.reason == f"Not retraining, although performance fired: {decision.blocked_by[0]}"
    assert fired(decision) == fired(evaluate(ALL))


@pytest.mark.parametrize("trigger", [PERFORMANCE, DRIFT, SCHEDULED, DATA_VOLUME])
def test_whatever_fired_a_data_incident_forbids_it(trigger: RetrainingTrigger) -> None:
    inputs = {
        PERFORMANCE: judged(0.5),
        DRIFT: drifted("critical"),
        SCHEDULED: aged(days=31),
        DATA_VOLUME: replace(CALM, new_labels=9000),
    }[trigger]
    assert evaluate(inputs).should_retrain
    decision = evaluate(replace(inputs, data_incidents=[SICK]))
    assert (decision.should_retrain, decision.trigger) == (False, trigger)


def test_the_first_model_is_not_trained_on_sick_data_either() -> None:
    decision = evaluate(PolicyInputs(None, None, None, None, 0, data_incidents=[SICK]))
    assert (decision.should_retrain, decision.trigger) == (False, NO_MODEL)
    assert "Ask Ann" in decision.reason


def test_every_incident_and_missing_feature_is_a_reason_of_its_own() -> None:
    other = replace(SICK, incident_id=9, owner="Bob")
    missing = replace(ALL, drift=drifted("missing_feature").drift, data_incidents=[SICK, other])
    assert [reason.split(" ")[0] for reason in evaluate(missing).blocked_by] == ["f0", "Incident", "Incident"]
    assert "Ask Bob" in evaluate(missing).reason


def test_where_nothing_fired_an_incident_is_not_mentioned() -> None:
    decision = evaluate(replace(CALM, data_incidents=[SICK]))
    assert decision.blocked_by == ()
    assert decision == evaluate(CALM)


def blocking(**changes: object) -> list[DataIncident]:
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
def test_an_incident_that_is_no_sick_pipeline_forbids_nothing(changes: dict[str, object]) -> None:
    assert not evaluate(replace(ALL, data_incidents=blocking())).should_retrain
    assert evaluate(replace(ALL, data_incidents=blocking(**changes))) == evaluate(ALL)
    assert evaluate(ALL).should_retrain


def test_the_evidence_has_the_numbers() -> None:
    decision = evaluate(replace(ALL, recent_labels=12_345))
    assert evidence(decision, PERFORMANCE) == (
        "On 12,345 labels matured since, the champion scores 0.500, below 0.760 (95% of its holdout 0.800)."
    )
    assert evidence(decision, DRIFT) == "Drift at or above critical in f0."
    assert evidence(decision, SCHEDULED) == "The champion is 31 days old; it may become 30."
    assert evidence(decision, DATA_VOLUME) == (
        "9,000 labels matured since the champion was trained; 5,000 call for a new one."
    )
    calm = evaluate(CALM)
    assert "scores 0.800, not below 0.760" in evidence(calm, PERFORMANCE)
    assert evidence(calm, DRIFT) == "None of 2 features drifted at or above critical."
    assert "1 days old" in evidence(calm, SCHEDULED)
    assert "100 labels" in evidence(calm, DATA_VOLUME)


STATUSES = ["ok", "warning", "critical", "insufficient_data", "missing_feature", "baseline_missing", "error"]
INPUTS = st.builds(
    PolicyInputs,
    champion=st.none()
    | st.builds(
        Champion,
        version=st.just("1"),
        trained_as_of=st.datetimes(datetime(2012, 1, 1), datetime(2014, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
        holdout_metric=st.floats(0, 1),
    ),
    drift=st.none() | st.lists(st.sampled_from(STATUSES)).map(lambda statuses: drifted(*statuses).drift),
    new_labels=st.none() | st.integers(0, 10_000),
    recent_metric=st.none() | st.floats(0, 1),
    recent_labels=st.integers(0, 10_000),
    data_incidents=st.lists(st.just(SICK), max_size=2),
)


@given(INPUTS)
def test_the_same_inputs_give_the_same_decision(inputs: PolicyInputs) -> None:
    assert evaluate(inputs) == evaluate(inputs)


@given(INPUTS)
def test_a_decision_agrees_with_its_findings(inputs: PolicyInputs) -> None:
    decision = evaluate(inputs)
    any_fired = any(finding.fired for finding in decision.triggers)
    assert decision.should_retrain == (any_fired and not decision.blocked_by)
    assert not (decision.should_retrain and inputs.data_incidents)
    assert any_fired or not decision.blocked_by
    assert (decision.trigger is not None) == any_fired
    assert (decision.priority > Priority.NONE) == any_fired
    assert decision.reason
    assert all(finding.evidence for finding in decision.triggers)
    assert [finding.trigger for finding in decision.triggers] == (
        [NO_MODEL] if inputs.champion is None else [PERFORMANCE, DRIFT, SCHEDULED, DATA_VOLUME]
    )
