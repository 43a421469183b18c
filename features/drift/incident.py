"""Incidents: one for what breaks together, opened by an alarm, closed by its absence.

Pure: what is open and what was found go in, what to do comes out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, TypeAlias

from features.contract import Severity
from features.drift.cause import Cause

# What a person may say of an incident.
Verdict: TypeAlias = Literal["genuine", "benign"]
# Longer than the windows that alarm most, so that an incident does not flicker.
QUIET_HOURS = 24
# The worst cause speaks for the incident; what is sick comes before what is news.
URGENCY = {cause: place for place, cause in enumerate(Cause)}


@dataclass(frozen=True)
class Finding:
    """An alarm of one feature and what it looks like.

    Attributes:
        upstream: the dbt model that delivers it.
        owner: whom to ask.
        sentence: the numbers.
    """

    feature: str
    upstream: str
    owner: str
    severity: Severity
    cause: Cause
    because: str
    sentence: str


@dataclass(frozen=True)
class Incident:
    """What is wrong with what one dbt model delivers.

    Attributes:
        incident_id: None before it is stored.
        told_at: when somebody was told of it last.
    """

    upstream: str
    owner: str
    cause: Cause
    severity: Severity
    findings: tuple[Finding, ...]
    opened_at: datetime
    last_alarm_at: datetime
    told_at: datetime
    reminders: int = 0
    incident_id: int | None = None
    closed_at: datetime | None = None
    closed_because: str | None = None
    verdict: Verdict | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """Those that alarmed at any time, in order of appearance."""
        return tuple(finding.feature for finding in self.findings)

    @property
    def blocks_retraining(self) -> bool:
        """A sick pipeline does, until it is closed or somebody says that the change is genuine."""
        return self.cause.is_data_incident and self.closed_at is None and self.verdict is None

    @property
    def summary(self) -> str:
        """The incident as a sentence."""
        parts = "; ".join(f"{finding.feature}: {finding.cause}, {finding.because}" for finding in self.findings)
        return f"{self.upstream}: {parts}. Ask {self.owner}."


class Event(StrEnum):
    """What happened to an incident; each is told."""

    OPENED = "opened"
    WORSENED = "worsened"
    REMINDED = "reminded"
    CLOSED = "closed"


@dataclass(frozen=True)
class Step:
    """An incident after an hour, and what is told of it; None when there is nothing to tell."""

    incident: Incident
    event: Event | None


def advance(
    open_incidents: Sequence[Incident], findings: Sequence[Finding], as_of: datetime, remind_after_hours: int
) -> list[Step]:
    """What the findings of an hour do to the incidents: open, worsen, remind, close, or nothing.

    What one dbt model delivers is in one incident while its pipeline is sick, and in another when the world moves: the
    first blocks retraining, and must not stay open because of the second.
    """
    steps = []
    known = {(incident.upstream, incident.cause.is_data_incident): incident for incident in open_incidents}
    for upstream in dict.fromkeys([*(finding.upstream for finding in findings), *(key[0] for key in known)]):
        sick, moved = known.get((upstream, True)), known.get((upstream, False))
        found = [finding for finding in findings if finding.upstream == upstream]
        to_sick, to_moved = _shared_out(found, sick, moved)
        for incident, part in ((sick, to_sick), (moved, to_moved)):
            if incident is None and part:
                steps.append(_open(upstream, part, as_of))
            elif incident is not None:
                goes_on = any(finding.cause.is_data_incident == incident.cause.is_data_incident for finding in part)
                steps.append(
                    _continue(incident, part, as_of, remind_after_hours) if goes_on else _quiet(incident, as_of)
                )
    return steps


def _shared_out(
    found: Sequence[Finding], sick: Incident | None, moved: Incident | None
) -> tuple[list[Finding], list[Finding]]:
    """Which findings belong to the sick pipeline, and which to the world. Whatever first shows while the pipeline is
    sick is a consequence, such as scores that move with their features, or a long window with a mended hour in it."""
    is_sick = any(finding.cause.is_data_incident for finding in found)
    before = set(moved.features) if moved else set()
    consequences = set(sick.features) if sick else set()
    to_sick: list[Finding] = []
    to_moved: list[Finding] = []
    for finding in found:
        belongs = finding.cause.is_data_incident or (
            finding.feature not in before and (is_sick or finding.feature in consequences)
        )
        (to_sick if belongs else to_moved).append(finding)
    return to_sick, to_moved


def _open(upstream: str, findings: Sequence[Finding], as_of: datetime) -> Step:
    worst = _leading(findings)
    incident = Incident(
        upstream=upstream,
        owner=worst.owner,
        cause=worst.cause,
        severity=max(finding.severity for finding in findings),
        findings=tuple(sorted(findings, key=_urgency)),
        opened_at=as_of,
        last_alarm_at=as_of,
        told_at=as_of,
    )
    return Step(incident, Event.OPENED)


def _urgency(finding: Finding) -> tuple[int, int]:
    return -finding.severity, URGENCY[finding.cause]


def _leading(findings: Sequence[Finding]) -> Finding:
    """A data incident speaks for the others, however loud: what broke it explains them."""
    return min(findings, key=lambda finding: (not finding.cause.is_data_incident, *_urgency(finding)))


def _continue(incident: Incident, findings: Sequence[Finding], as_of: datetime, remind_after_hours: int) -> Step:
    # What a feature looked like at its worst stays; later hours, half mended, look like less.
    merged: dict[str, Finding] = {finding.feature: finding for finding in incident.findings}
    verdict = incident.verdict
    for finding in findings:
        before = merged.get(finding.feature)
        if before is None or _says_more(finding, before):
            merged[finding.feature] = finding
            if finding.cause.is_data_incident and (before is None or not before.cause.is_data_incident):
                verdict = None  # it was given before anybody knew of this
    every = tuple(merged.values())
    severity = max(finding.severity for finding in every)
    cause = _leading(every).cause
    went_on = replace(incident, findings=every, severity=severity, cause=cause, last_alarm_at=as_of, verdict=verdict)
    if verdict != incident.verdict or severity > incident.severity or cause is not incident.cause:
        return Step(replace(went_on, told_at=as_of, reminders=0), Event.WORSENED)
    wait = timedelta(hours=remind_after_hours) * 2**incident.reminders
    if as_of - incident.told_at >= wait:
        return Step(replace(went_on, told_at=as_of, reminders=incident.reminders + 1), Event.REMINDED)
    return Step(went_on, None)


def _says_more(finding: Finding, before: Finding) -> bool:
    """What broke the pipeline is never forgotten for what is only louder."""
    sick, was_sick = finding.cause.is_data_incident, before.cause.is_data_incident
    return sick > was_sick or (sick == was_sick and finding.severity > before.severity)


def _quiet(incident: Incident, as_of: datetime) -> Step:
    if as_of - incident.last_alarm_at < timedelta(hours=QUIET_HOURS):
        return Step(incident, None)
    because = f"no alarm since {incident.last_alarm_at:%Y-%m-%d %H:%M}Z"
    return Step(replace(incident, closed_at=as_of, closed_because=because), Event.CLOSED)
