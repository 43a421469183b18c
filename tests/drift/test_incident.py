"""Incidents open with an alarm, gather what breaks together, remind ever more rarely, and close when it is quiet."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from features.contract import Severity
from features.drift.cause import Cause
from features.drift.incident import QUIET_HOURS, Event, Finding, Incident, Step, advance

START = datetime(2013, 7, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
REMIND = 24
DAY = 24


def finding(feature: str = "a", cause: Cause = Cause.UNIT_CHANGE, **changes: Any) -> Finding:
    sick: dict[str, Any] = {
        "severity": Severity.CRITICAL,
        "upstream": "view",
        "owner": "Ann",
        "because": "x 60",
        "sentence": "1 to 2",
    }
    return Finding(feature, cause=cause, **sick | changes)


GENUINE = finding("b", Cause.GENUINE, because="no mark")
NULLS = finding("c", Cause.NULL_BURST, because="20% are missing")


def opened(*findings: Finding, at: datetime = START) -> Incident:
    (step,) = advance([], findings or [finding()], at, REMIND)
    assert step.event is Event.OPENED
    return step.incident


def after(incident: Incident, hours: float, *findings: Finding) -> Step:
    """What an hour does to one incident."""
    (step,) = advance([incident], findings, START + hours * HOUR, REMIND)
    return step


def history(hourly: Sequence[Sequence[Finding]]) -> list[tuple[int, Event, Incident]]:
    """All that is told over consecutive hours."""
    current: list[Incident] = []
    told = []
    for number, findings in enumerate(hourly):
        steps = advance(current, findings, START + number * HOUR, REMIND)
        current = [step.incident for step in steps if step.incident.closed_at is None]
        told += [(number, step.event, step.incident) for step in steps if step.event]
    return told


def test_without_an_alarm_nothing_happens() -> None:
    assert advance([], [], START, REMIND) == []


def test_an_alarm_opens_an_incident() -> None:
    incident = opened(finding())
    assert incident == Incident(
        upstream="view",
        owner="Ann",
        cause=Cause.UNIT_CHANGE,
        severity=Severity.CRITICAL,
        findings=(finding(),),
        opened_at=START,
        last_alarm_at=START,
        told_at=START,
    )


def test_what_one_dbt_model_delivers_is_one_incident() -> None:
    incident = opened(finding("a"), finding("c", Cause.NULL_BURST), finding("d", Cause.STALE))
    assert set(incident.features) == {"a", "c", "d"}


def test_what_two_dbt_models_deliver_are_two() -> None:
    steps = advance([], [finding("a"), finding("y", upstream="labels", owner="Bob")], START, REMIND)
    assert {(step.incident.upstream, step.incident.owner) for step in steps} == {("view", "Ann"), ("labels", "Bob")}


def test_a_data_incident_speaks_for_the_others_however_loud() -> None:
    stale = finding("d", Cause.STALE, severity=Severity.WARNING, owner="Dan")
    incident = opened(GENUINE, stale)
    assert (incident.cause, incident.owner) == (Cause.STALE, "Dan")
    assert incident.severity is Severity.CRITICAL
    assert incident.features == ("b", "d")


@pytest.mark.parametrize(
    ("causes", "leads"),
    [
        ((Cause.NULL_BURST, Cause.CONTRACT_BREAK), Cause.CONTRACT_BREAK),
        ((Cause.STALE, Cause.UNIT_CHANGE, Cause.DEFAULT_FILL), Cause.UNIT_CHANGE),
        ((Cause.GENUINE, Cause.VOLUME), Cause.VOLUME),
        ((Cause.GENUINE, Cause.NEW_CATEGORY), Cause.NEW_CATEGORY),
    ],
)
def test_of_equally_severe_causes_the_most_urgent_leads(causes: Sequence[Cause], leads: Cause) -> None:
    incident = opened(*[finding(f"f{number}", cause) for number, cause in enumerate(causes)])
    assert incident.cause is leads
    assert incident.findings[0].cause is leads


def test_the_summary_says_what_and_why_and_whom_to_ask() -> None:
    assert opened(finding("a"), NULLS).summary == (
        "view: c: NULL burst, 20% are missing; a: unit change, x 60. Ask Ann."
    )


# What moves and what is sick


def test_what_moves_while_the_pipeline_is_sick_is_a_consequence() -> None:
    (step,) = advance([], [finding("a"), finding("(prediction)", Cause.GENUINE)], START, REMIND)
    assert step.incident.cause is Cause.UNIT_CHANGE
    assert step.incident.blocks_retraining


def test_what_moved_before_the_pipeline_was_sick_stays_an_incident_of_its_own() -> None:
    moving = opened(GENUINE)
    steps = advance([moving], [GENUINE, finding("a")], START + HOUR, REMIND)
    assert {(step.incident.cause, step.incident.features) for step in steps} == {
        (Cause.GENUINE, ("b",)),
        (Cause.UNIT_CHANGE, ("a",)),
    }


def test_a_feature_that_moved_and_is_sick_now_opens_a_data_incident() -> None:
    moving = opened(finding("a", Cause.GENUINE))
    steps = advance([moving], [finding("a")], START + HOUR, REMIND)
    sick = [step.incident for step in steps if step.event is Event.OPENED]
    assert [incident.cause for incident in sick] == [Cause.UNIT_CHANGE]
    assert sick[0].blocks_retraining


def test_a_consequence_does_not_keep_the_incident_open() -> None:
    sick = opened(finding("a"), finding("(prediction)", Cause.GENUINE))
    step = after(sick, QUIET_HOURS, finding("(prediction)", Cause.GENUINE))
    assert step.event is Event.CLOSED


@pytest.mark.parametrize("cause", [Cause.GENUINE, Cause.NEW_CATEGORY, Cause.VOLUME])
def test_a_world_that_moves_blocks_nothing(cause: Cause) -> None:
    assert not opened(finding("a", cause)).blocks_retraining


def test_a_sick_pipeline_blocks_until_it_is_closed_or_somebody_knows_better() -> None:
    incident = opened(finding())
    assert incident.blocks_retraining
    assert not replace(incident, closed_at=START).blocks_retraining
    assert not replace(incident, verdict="genuine").blocks_retraining
    assert not replace(incident, verdict="benign").blocks_retraining


def test_a_verdict_does_not_cover_what_breaks_later() -> None:
    judged = replace(opened(finding("a", Cause.DEFAULT_FILL)), verdict="genuine", incident_id=1)
    steps = advance([judged], [finding("a", Cause.DEFAULT_FILL), NULLS], START + HOUR, REMIND)
    assert any(step.incident.blocks_retraining for step in steps)


TURNS = "a louder finding of one feature, and an earlier one of another, hide that the pipeline is sick"


def test_a_sick_pipeline_stays_one_whatever_gets_louder() -> None:
    mild = finding("a", Cause.UNIT_CHANGE, severity=Severity.WARNING)
    follows = finding("c", Cause.GENUINE, severity=Severity.WARNING)
    step = after(opened(mild, follows), 1, replace(GENUINE, feature="a"), replace(NULLS, severity=Severity.WARNING))
    assert step.incident.blocks_retraining


# Hour by hour


def test_the_same_alarm_again_changes_nothing() -> None:
    incident = opened(finding())
    assert after(incident, 0, finding()) == Step(incident, None)


def test_an_alarm_that_goes_on_is_not_told_every_hour() -> None:
    step = after(opened(finding()), 1, finding())
    assert step.event is None
    assert step.incident.last_alarm_at == START + HOUR


@pytest.mark.parametrize("hours", [DAY, DAY + 5])
def test_after_a_day_somebody_is_reminded(hours: int) -> None:
    before = after(opened(finding()), DAY - 1, finding())
    assert before.event is None
    step = after(before.incident, hours, finding())
    assert (step.event, step.incident.reminders) == (Event.REMINDED, 1)
    assert step.incident.told_at == START + hours * HOUR


def test_reminders_become_rarer() -> None:
    told = history([[finding()]] * (16 * DAY))
    assert [(hour, event) for hour, event, _ in told] == [
        (0, Event.OPENED),
        (1 * DAY, Event.REMINDED),
        (3 * DAY, Event.REMINDED),
        (7 * DAY, Event.REMINDED),
        (15 * DAY, Event.REMINDED),
    ]


def test_an_incident_that_gets_worse_is_told_at_once_and_reminders_start_again() -> None:
    mild = replace(opened(finding(severity=Severity.WARNING)), reminders=3)
    step = after(mild, 1, finding())
    assert step.event is Event.WORSENED
    assert (step.incident.severity, step.incident.reminders) == (Severity.CRITICAL, 0)
    assert step.incident.told_at == START + HOUR


def test_a_graver_cause_is_worse_also_at_the_same_severity() -> None:
    step = after(opened(NULLS), 1, NULLS, finding("z", Cause.CONTRACT_BREAK))
    assert (step.event, step.incident.cause) == (Event.WORSENED, Cause.CONTRACT_BREAK)
    assert step.incident.features == ("c", "z")


def test_another_feature_of_the_same_kind_joins_without_a_word() -> None:
    step = after(opened(finding("a")), 1, finding("a"), finding("z"))
    assert (step.event, step.incident.features) == (None, ("a", "z"))


def test_what_a_feature_looked_like_at_its_worst_stays() -> None:
    incident = opened(finding(because="all values x 60"))
    step = after(incident, 1, finding(because="half of the values x 60", severity=Severity.WARNING))
    assert step.incident.findings == incident.findings
    assert step.incident.severity is Severity.CRITICAL


def test_a_day_without_an_alarm_closes_the_incident() -> None:
    incident = opened(finding())
    for hours in (1, QUIET_HOURS - 1):
        assert after(incident, hours) == Step(incident, None)
    step = after(incident, QUIET_HOURS)
    assert (step.event, step.incident.closed_at) == (Event.CLOSED, START + QUIET_HOURS * HOUR)
    assert step.incident.closed_because == "no alarm since 2013-07-02 00:00Z"


def test_an_alarm_within_the_day_keeps_it_open() -> None:
    alarms = {0, 20, 43}
    told = history([[finding()] if hour in alarms else [] for hour in range(80)])
    assert [(hour, event) for hour, event, _ in told] == [
        (0, Event.OPENED),
        (43, Event.REMINDED),
        (67, Event.CLOSED),
    ]


def test_an_alarm_after_it_closed_is_another_incident() -> None:
    told = history([[finding()], *[[]] * 30, [finding()]])
    assert [(hour, event) for hour, event, _ in told] == [
        (0, Event.OPENED),
        (24, Event.CLOSED),
        (31, Event.OPENED),
    ]


def test_the_quiet_of_one_model_does_not_touch_anothers() -> None:
    one, other = opened(finding()), opened(finding("y", upstream="labels"))
    steps = advance([one, other], [finding()], START + QUIET_HOURS * HOUR, REMIND)
    assert {step.incident.upstream: step.event for step in steps} == {"view": Event.REMINDED, "labels": Event.CLOSED}


# Whatever happens

FINDINGS = st.lists(
    st.builds(
        finding,
        st.sampled_from("abcd"),
        st.sampled_from(list(Cause)),
        severity=st.sampled_from([Severity.WARNING, Severity.CRITICAL]),
        upstream=st.sampled_from(["view", "labels"]),
    ),
    max_size=4,
    unique_by=lambda one: (one.upstream, one.feature),
)


@hypothesis_settings(max_examples=50)
@example(
    hourly=[
        [
            finding("a", severity=Severity.WARNING),
            finding("b", Cause.GENUINE, severity=Severity.WARNING),
        ],
        [finding("a", Cause.GENUINE), finding("b", severity=Severity.WARNING)],
    ]
)
@given(st.lists(FINDINGS, min_size=1, max_size=60))
def test_whatever_happens_incidents_are_told_apart_and_no_alarm_is_lost(hourly: list[list[Finding]]) -> None:
    current: list[Incident] = []
    for number, findings in enumerate(hourly):
        at = START + number * HOUR
        steps = advance(current, findings, at, REMIND)
        # None that was open is forgotten.
        assert {(one.upstream, one.opened_at, one.cause.is_data_incident) for one in current} <= {
            (step.incident.upstream, step.incident.opened_at, step.incident.cause.is_data_incident) for step in steps
        }
        current = [step.incident for step in steps if step.incident.closed_at is None]
        # As the table demands: one of each kind for each model.
        keys = [(one.upstream, one.cause.is_data_incident) for one in current]
        assert len(set(keys)) == len(keys)
        # Every alarm is part of an open incident, and a sick pipeline's of one that blocks.
        for found in findings:
            of_it = [one for one in current if one.upstream == found.upstream and found.feature in one.features]
            assert of_it
            if found.cause.is_data_incident:
                assert any(one.blocks_retraining and one.last_alarm_at == at for one in of_it)
        # Asked again, the hour says nothing new.
        again = advance(current, findings, at, REMIND)
        assert [step.event for step in again] == [None] * len(current)
        assert {step.incident for step in again} == set(current)
