"""Concluding: what the findings of all features say together, and who has to hear of it."""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from features import metrics, parity, warehouse
from features.contract import Model, Severity
from features.drift import store
from features.drift.cause import STALE_HOURS, Cause
from features.drift.counting import Population
from features.drift.decision import DriftStatus
from features.drift.hours import WEEK, same_time_of_day
from features.drift.incident import Event, Finding, Incident, Step, advance
from features.drift.incidents import newest_as_of, open_incidents, write_incident
from features.drift.looks import Outlook
from features.drift.report import WHOLE, FeatureDriftReport, Subject
from features.drift.sources import LABEL
from features.errors import SkewlessError
from features.steps.watch import NO_CHAMPION, WORST_FIRST

log = logging.getLogger(__name__)

ROWS = "(rows)"
# A count is unusual when it is this far beyond all that were seen at this hour of the day in the last week.
VOLUME_WARNING = 0.3
VOLUME_CRITICAL = 0.6
DAYS_OF_VOLUME = 3


def conclude(
    model: Model, planned: Mapping[str, Any] | None, findings: Sequence[Mapping[str, Any]], as_of: datetime
) -> dict[str, Any]:
    """Opens, continues and closes incidents. Concluding an instant again changes nothing.

    Args:
        planned: what `features.steps.watch.plan` returned; None when it failed.
        findings: what `watch_feature` returned, of every feature whose task succeeded.

    Returns:
        statuses by feature, the incidents' events, and a summary in Markdown.

    Raises:
        SkewlessError: when nothing was watched at all.
    """
    if planned is None:
        raise SkewlessError("Nothing was watched, because `plan` failed: its log says why. Clear it, and this follows.")
    looked_at = {finding["feature"]: finding for finding in findings}
    with warehouse.connect() as connection:
        volume = _volume(connection, model, planned["champion"], as_of)
        blind = _blind(connection, model, as_of)
        steps = []
        if as_of >= newest_as_of(connection, model):
            known = open_incidents(connection, model)
            skew = _skew(connection, model, as_of)
            found = [*_alarms(model, findings), *_stale(model, findings, known), *skew, *volume]
            steps = advance(known, found, as_of, model.monitoring.remind_after_hours)
            steps = [write_incident(connection, model, step) for step in steps]
            store.thin(connection, model, as_of)
        else:
            log.info("A later instant was watched before, so the incidents stay as they are.")
        still_open = open_incidents(connection, model)
    metrics.watched(model, len(still_open), sum(incident.blocks_retraining for incident in still_open))
    statuses = {
        name: looked_at[name]["status"] if name in looked_at else str(DriftStatus.ERROR) for name in planned["features"]
    }
    summary = markdown(model, as_of, planned, statuses, looked_at, steps)
    if blind:
        summary += f"\n\nBlind, by the last self-test: {'; '.join(blind)}."
    log.info("%s", summary)
    return {"statuses": statuses, "events": [_told(step) for step in steps if step.event], "summary": summary}


def _told(step: Step) -> dict[str, Any]:
    incident = step.incident
    return {
        "event": str(step.event),
        "incident_id": incident.incident_id,
        "cause": str(incident.cause),
        "severity": incident.severity.name.lower(),
        "features": list(incident.features),
        "blocks_retraining": incident.blocks_retraining,
        "summary": incident.summary,
    }


def _alarms(model: Model, findings: Sequence[Mapping[str, Any]]) -> list[Finding]:
    found = []
    for finding in findings:
        if finding["is_dropped"]:
            # Somebody changed the contract on purpose; a new champion is what it takes, and no incident.
            continue
        if finding["status"] == DriftStatus.MISSING_FEATURE:
            found.append(
                _finding(model, finding["feature"], Severity.CRITICAL, Cause.NULL_BURST, "it stopped arriving", finding)
            )
        elif finding["alarm"]:
            alarm = finding["alarm"]
            severity = Severity(alarm["severity"])
            found.append(
                _finding(model, finding["feature"], severity, Cause(alarm["cause"]), alarm["because"], finding)
            )
    return found


def _finding(
    model: Model, feature: str, severity: Severity, cause: Cause, because: str, finding: Mapping[str, Any]
) -> Finding:
    # Scores come from the features, so one incident covers both; labels come from elsewhere.
    upstream, owner = model.feature_view.name, model.feature_view.owner
    if feature == LABEL:
        upstream, owner = model.labels, model.owner
    return Finding(feature, upstream, owner, severity, cause, because, str(finding.get("detail", "")))


def _stale(model: Model, findings: Sequence[Mapping[str, Any]], known: Sequence[Incident]) -> list[Finding]:
    """Features that stood still for a day, and twice as long as ever, while others of the same rows moved."""
    were_stale = {
        finding.feature for incident in known for finding in incident.findings if finding.cause is Cause.STALE
    }
    features = [finding for finding in findings if finding["feature"] in model.feature_names]
    moving = [finding for finding in features if finding["hours_unchanged"] < STALE_HOURS]
    if not moving:
        return []
    return [
        _finding(
            model,
            finding["feature"],
            Severity.WARNING,
            Cause.STALE,
            f"not one value changed in {finding['hours_unchanged']} hours, while others did",
            finding,
        )
        for finding in features
        if finding["hours_unchanged"] >= STALE_HOURS
        and not finding["alarm"]
        and (finding["feature"] in were_stale or 0 < 2 * finding["longest_pause"] <= finding["hours_unchanged"])
    ]


def _skew(connection: warehouse.Connection, model: Model, as_of: datetime) -> list[Finding]:
    """Features that requests were served with otherwise than their definition gives, by the audit of this instant."""
    rows = connection.execute(
        "select feature, rows_compared, mismatches, cause from monitoring.parity_audits"
        " where source = 'inference_log' and model_name = %s and as_of = %s and mismatches > 0 order by feature",
        [model.name, as_of],
    )
    found = []
    for row in rows:
        because = f"{row['mismatches']:,} of {row['rows_compared']:,} served values differ, by {row['cause']}"
        # Late data is told of; what no definition gives must not be learnt from.
        severity = Severity.WARNING if row["cause"] == parity.Cause.BACKDATED_DATA else Severity.CRITICAL
        found.append(_finding(model, row["feature"], severity, Cause.SKEW, because, {"detail": f"{because}."}))
    return found


def _volume(connection: warehouse.Connection, model: Model, champion: str | None, as_of: datetime) -> list[Finding]:
    """How many rows there are, against the same hour of the last days; its report is that of the feature (rows)."""
    outlook = Outlook(connection, model, champion, as_of)
    findings, reports = [], []
    for look in outlook.looks(model.feature_names[0]):
        source = look.source
        hours = store.read_populations(connection, model, source.name, source.version, as_of - WEEK, as_of)
        report = volume_report(hours.get(WHOLE, {}), Subject(ROWS, as_of, source.name, WHOLE, 1, "serving"))
        reports.append((report, None))
        if report.drift_detected:
            because = report.detail.removesuffix(".")
            findings.append(_finding(model, ROWS, report.severity, Cause.VOLUME, because, {"detail": report.detail}))
    store.write_reports(connection, model, champion or NO_CHAMPION, reports)
    return findings[:1]


def volume_report(hours: Mapping[datetime, Population], subject: Subject) -> FeatureDriftReport:
    """Compares an hour's rows with those of the same hour of the day before."""
    now = hours.get(subject.as_of)
    n = now.rows if now else 0
    before = [
        population.rows
        for at, population in hours.items()
        if at < subject.as_of and same_time_of_day(subject.as_of, at)
    ]
    if len(before) < DAYS_OF_VOLUME:
        detail = f"{len(before)} days to compare with; {DAYS_OF_VOLUME} are needed."
        return FeatureDriftReport(subject, DriftStatus.INSUFFICIENT_DATA, n, detail)
    fewest, usual, most = min(before), float(np.median(before)), max(before)
    beyond = max((fewest - n) / fewest if fewest else 0.0, (n - most) / most if most else float(n > 0))
    status = DriftStatus.OK
    if beyond > VOLUME_WARNING:
        status = DriftStatus.CRITICAL if beyond > VOLUME_CRITICAL else DriftStatus.WARNING
    return FeatureDriftReport(
        subject,
        status,
        n,
        f"{n:,} rows, usually {usual:,.0f} ({fewest:,} to {most:,}).",
        effect=beyond,
        effect_floor=VOLUME_WARNING,
        critical_floor=VOLUME_CRITICAL,
        decided_by="volume",
    )


def _blind(connection: warehouse.Connection, model: Model, as_of: datetime) -> list[str]:
    """Which shifts the last self-test before as_of did not find, by feature."""
    rows = connection.execute(
        "select feature, string_agg(injection, ', ' order by injection) as injections"
        " from monitoring.drift_self_tests where model_name = %(model)s and is_blind and as_of = (select max(as_of)"
        " from monitoring.drift_self_tests where model_name = %(model)s and as_of <= %(as_of)s) group by 1 order by 1",
        {"model": model.name, "as_of": as_of},
    )
    return [f"{row['feature']} to {row['injections']}" for row in rows]


EVENTS = {
    Event.OPENED: "New incident",
    Event.WORSENED: "Incident got worse",
    Event.REMINDED: "Incident goes on",
    Event.CLOSED: "Incident closed",
}


def markdown(
    model: Model,
    as_of: datetime,
    planned: Mapping[str, Any],
    statuses: Mapping[str, str],
    looked_at: Mapping[str, Mapping[str, Any]],
    steps: Sequence[Step],
) -> str:
    """The hour on half a page: incidents first, then the features, worst first."""
    champion = f"v{planned['champion']}" if planned["champion"] else "no champion"
    lines = [f"### {model.name}, {as_of:%Y-%m-%d %H:%M}Z, {champion}", ""]
    for step in steps:
        head = EVENTS.get(step.event) if step.event else "Open incident"
        blocks = " **Retraining is blocked.**" if step.incident.blocks_retraining else ""
        lines.append(f"* **{head}** ({step.incident.severity.name.lower()}): {step.incident.summary}{blocks}")
    lines += ["", "| feature | status | finding | compared |", "|---|---|---|---|"]
    for name, status in sorted(statuses.items(), key=lambda item: WORST_FIRST.index(DriftStatus(item[1]))):
        finding = looked_at.get(name, {"detail": "Its task failed; see its log.", "where": ""})
        lines.append(f"| {_cell(name)} | {status} | {_cell(finding['detail'])} | {finding['where']} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
