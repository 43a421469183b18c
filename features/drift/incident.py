"""Incidents: one for what breaks together, opened by an alarm, closed by its absence.

Pure: what is open and what was found go in, what to do comes out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from features.contract import Severity
from features.drift.cause import Cause

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
    verdict: str | None = None

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
    """What the findings of an hour do to the incidents: open, worsen, remind, close, or nothing."""
    by_upstream: dict[str, list[Finding]] = {}
    for finding in findings:
        by_upstream.setdefault(finding.upstream, []).append(finding)
    known = {incident.upstream: incident for incident in open_incidents}
    steps = [_open(upstream, found, as_of) for upstream, found in by_upstream.items() if upstream not in known]
    for upstream, incident in known.items():
        found = by_upstream.get(upstream)
        steps.append(_continue(incident, found, as_of, remind_after_hours) if found else _quiet(incident, as_of))
    return steps


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
    for finding in findings:
        before = merged.get(finding.feature)
        if before is None or finding.severity > before.severity:
            merged[finding.feature] = finding
    every = tuple(merged.values())
    severity = max(finding.severity for finding in every)
    cause = _leading(every).cause
    went_on = replace(incident, findings=every, severity=severity, cause=cause, last_alarm_at=as_of)
    if severity > incident.severity or cause is not incident.cause:
        return Step(replace(went_on, told_at=as_of, reminders=0), Event.WORSENED)
    wait = timedelta(hours=remind_after_hours) * 2**incident.reminders
    if as_of - incident.told_at >= wait:
        return Step(replace(went_on, told_at=as_of, reminders=incident.reminders + 1), Event.REMINDED)
    return Step(went_on, None)


def _quiet(incident: Incident, as_of: datetime) -> Step:
    if as_of - incident.last_alarm_at < timedelta(hours=QUIET_HOURS):
        return Step(incident, None)
    because = f"no alarm since {incident.last_alarm_at:%Y-%m-%d %H:%M}Z"
    return Step(replace(incident, closed_at=as_of, closed_because=because), Event.CLOSED)
