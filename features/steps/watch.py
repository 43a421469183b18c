"""Watching: counts what is new of a feature, compares its windows with the baselines, and writes the reports.

`plan` says what there is to watch and counts whom the hours' rows belong to; `watch_feature` is one feature's task;
`features.steps.conclude` reads the tasks' findings together.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from features import ledger, warehouse
from features.contract import Model
from features.drift import baselines, store
from features.drift.baselines import BaselineKey, StoredBaseline
from features.drift.calibration import DAYS_NEEDED, baseline_of_hours, is_covered
from features.drift.cause import Cause, Evidence, diagnose
from features.drift.counting import count, count_entities, distinct_entities, quantiles
from features.drift.decision import Budget, DriftStatus
from features.drift.hours import WEEK, Hour, expected_of, within
from features.drift.incidents import had_incident
from features.drift.looks import Look, Outlook, not_declared
from features.drift.report import WHOLE, FeatureDriftReport, Subject
from features.drift.store import StoredGrid
from features.drift.window import pauses_of, profile_of, report_window, usual_and_present

log = logging.getLogger(__name__)

NO_CHAMPION = "none"
# Every window is compared with the training rows and with the first healthy weeks.
BASELINES = 2
# Worst first, when one word has to stand for all reports of a feature.
WORST_FIRST = (
    DriftStatus.ERROR,
    DriftStatus.MISSING_FEATURE,
    DriftStatus.UNEXPECTED_FEATURE,
    DriftStatus.CRITICAL,
    DriftStatus.WARNING,
    DriftStatus.OK,
    DriftStatus.INSUFFICIENT_DATA,
    DriftStatus.BASELINE_MISSING,
)


def plan(model: Model, as_of: datetime) -> dict[str, Any]:
    """What to watch at as_of, looked up once for all features.

    Returns:
        champion (its version; None without one that knows these features), features (the names to watch, in order),
        alpha (what one test may spend of the budget of false alarms).
    """
    from features import tracking  # takes seconds to import, which the mapped tasks are spared

    champion = tracking.champion(model)
    with warehouse.connect() as connection:
        # What was learnt of another definition says nothing about this one; the policy asks for a new champion.
        fits = champion and champion.feature_version == ledger.current_version(connection, model.feature_view)
        number = champion.number if champion and fits else None
        outlook = Outlook(connection, model, number, as_of)
        for look in outlook.sources():
            _count_populations(connection, model, look)
        names = [*outlook.declared, *(not_declared(connection, model, number, as_of) if number else [])]
    return {"champion": number, "features": names, "alpha": budget(model, len(names), outlook.uses_log).alpha}


def budget(model: Model, features: int, uses_log: bool) -> Budget:
    """The model's budget of false alarms over all that is compared each hour."""
    monitoring = model.monitoring
    parts = len(monitoring.windows_hours) * (1 + len(monitoring.segments)) * (2 if uses_log else 1)
    return Budget(monitoring.false_alarms_per_week, max(1, features) * parts * BASELINES)


def _count_populations(connection: warehouse.Connection, model: Model, look: Look) -> None:
    source = look.source
    unknown = store.hours_of_unknown_population(connection, model, source, look.hours)
    hours = sorted({*unknown, *look.counted_again})
    store.write_populations(connection, model, source, hours, count_entities(connection, source, hours))


@dataclass(frozen=True)
class Finding:
    """A feature's reports from one source, and what its worst alarm looks like.

    Attributes:
        hours_unchanged: for how many of the newest hours nothing changed.
        longest_pause: the longest that nothing changed before, in the same week; 0 if it never changed.
        looked: whether there was a source to look at.
    """

    reports: list[tuple[FeatureDriftReport, int | None]]
    alarm: dict[str, Any] | None = None
    hours_unchanged: int = 0
    longest_pause: int = 0
    looked: bool = True


def watch_feature(model: Model, feature: str, planned: Mapping[str, Any], as_of: datetime) -> dict[str, Any]:
    """Writes a feature's reports at as_of, whatever is found; doing so again replaces them.

    Args:
        feature: its name, or (prediction), or (label).
        planned: what `plan` returned.

    Returns:
        the feature's worst status and finding as a sentence, and the probable cause when it alarms.
    """
    champion = planned["champion"]
    try:
        reports, findings = _look_at(model, feature, planned, as_of)
    except Exception as error:  # whatever it is, the feature has a status that says so, and the task is red
        report = FeatureDriftReport(Subject(feature, as_of, "snapshot"), DriftStatus.ERROR, 0, _in_one_line(error))
        with warehouse.connect() as connection:
            store.write_reports(connection, model, champion or NO_CHAMPION, [(report, None)])
        raise
    worst = worst_of(reports)
    log.info("%s: %s. %s", feature, worst.status, worst.detail)
    return {
        "feature": feature,
        "status": str(worst.status),
        "severity": int(worst.severity),
        "detail": worst.detail,
        "where": where(worst.subject),
        "n": worst.n,
        "alarm": max((finding.alarm for finding in findings if finding.alarm), key=_rank, default=None),
        "hours_unchanged": max(finding.hours_unchanged for finding in findings),
        "longest_pause": max(finding.longest_pause for finding in findings),
        "is_dropped": not findings[0].looked,
    }


def _rank(alarm: Mapping[str, Any]) -> tuple[int, bool]:
    """The worst alarm speaks for a feature; of several such, what is wrong with the pipeline."""
    return int(alarm["severity"]), Cause(alarm["cause"]).is_data_incident


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _look_at(
    model: Model, feature: str, planned: Mapping[str, Any], as_of: datetime
) -> tuple[list[FeatureDriftReport], list[Finding]]:
    champion = planned["champion"]
    with warehouse.connect() as connection:
        looks = Outlook(connection, model, champion, as_of).looks(feature)
        findings = [_Watch(connection, model, look, champion, as_of, planned["alpha"]).finding() for look in looks]
        if not looks:
            findings = [_cannot_look(connection, model, feature, champion, as_of)]
        reports = [report for finding in findings for report in finding.reports]
        store.write_reports(connection, model, champion or NO_CHAMPION, reports)
    return [report for report, _ in reports], findings


def worst_of(reports: Sequence[FeatureDriftReport]) -> FeatureDriftReport:
    """The report that stands for all of a feature's: the worst, and of several such the shortest window's."""
    return min(reports, key=lambda report: (WORST_FIRST.index(report.status), report.subject.window_hours))


def where(subject: Subject) -> str:
    """Which comparison a report is of, in words."""
    parts = [subject.source.replace("_", " "), f"{subject.window_hours} h", f"against {subject.baseline}"]
    return ", ".join(([] if subject.segment == WHOLE else [subject.segment]) + parts)


def _cannot_look(
    connection: warehouse.Connection, model: Model, feature: str, champion: str | None, as_of: datetime
) -> Finding:
    """There is no source: no champion, or the contract does not declare the feature."""
    status, detail = DriftStatus.UNEXPECTED_FEATURE, "Requests bring it, and dbt does not declare it."
    if champion is None:
        status, detail = DriftStatus.BASELINE_MISSING, "There is no champion to compare with."
    elif baselines.read_baseline(connection, model, feature, BaselineKey("training", "training", WHOLE, champion)):
        status = DriftStatus.MISSING_FEATURE
        detail = f"The champion was trained on it, and {model.feature_view.name} does not declare it any more."
    return Finding([(FeatureDriftReport(Subject(feature, as_of, "snapshot"), status, 0, detail), None)], looked=False)


class _Watch:
    """A feature's values from one source, counted and compared."""

    def __init__(
        self,
        connection: warehouse.Connection,
        model: Model,
        look: Look,
        champion: str | None,
        as_of: datetime,
        alpha: float,
    ) -> None:
        self._connection, self._model, self._look, self._as_of, self._alpha = connection, model, look, as_of, alpha
        self._champion = champion
        source = look.source
        self._populations = store.read_populations(connection, model, source.name, source.version, as_of - WEEK, as_of)

    def finding(self) -> Finding:
        """Counts what is new, and compares every segment and window with every baseline there is."""
        reports: list[tuple[FeatureDriftReport, int | None]] = []
        alarms: list[dict[str, Any]] = []
        pauses = (0, 0)
        for segment in self._look.source.parts:
            baselines = self._baselines(segment)
            if not baselines:
                reports.append((self._no_baseline(segment), None))
            for key, stored in baselines:
                hours = self._hours(stored, segment)
                if segment == WHOLE:
                    pauses = pauses_of(hours)
                found = [self._report(key, stored, hours, window) for window in self._model.monitoring.windows_hours]
                reports += [(report, stored.baseline_id) for report in found]
                loud = [report for report in found if report.drift_detected]
                if loud:
                    alarms.append(self._alarm(worst_of(loud), stored, hours))
        return Finding(reports, max(alarms, key=_rank, default=None), *pauses)

    def _no_baseline(self, segment: str) -> FeatureDriftReport:
        population = self._populations.get(segment, {}).get(self._as_of)
        subject = Subject(self._look.column.name, self._as_of, self._look.source.name, segment)
        detail = "There is no champion to compare with."
        if self._champion:
            detail = f"v{self._champion} was promoted before there was such a feature or segment; the next one has it."
        return FeatureDriftReport(
            subject, DriftStatus.BASELINE_MISSING, population.entities if population else 0, detail
        )

    def _baselines(self, segment: str) -> list[tuple[BaselineKey, StoredBaseline]]:
        name = self._look.column.name
        found: list[tuple[BaselineKey, StoredBaseline]] = []
        for key in self._look.baselines(self._champion or NO_CHAMPION, segment):
            stored = baselines.read_baseline(self._connection, self._model, name, key)
            if stored is None and key.kind == "serving" and found:
                self._hours(found[0][1], segment)  # so that this hour is among those it is made of
                stored = self._first_healthy_weeks(key, found[0][1])
            if stored:
                found.append((key, stored))
        return found

    def _hours(self, stored: StoredBaseline, segment: str) -> list[Hour]:
        """The hours of the last week in the baseline's cells, counting those that were not counted yet."""
        look, grid = self._look, StoredGrid(stored.grid_id, stored.baseline.grid)
        missing = store.missing_hours(self._connection, grid, look.source, look.hours)
        if segment == WHOLE:
            missing = sorted({*missing, *look.counted_again})
        if missing:
            found = count(self._connection, look.source, look.column, grid.grid, missing)
            store.write_sketches(self._connection, grid, look.source, missing, found)
        sketches = store.read_sketches(
            self._connection,
            stored.grid_id,
            look.source.name,
            look.source.version,
            segment,
            self._as_of - WEEK,
            self._as_of,
        )
        return store.as_hours(sketches, self._populations.get(segment, {}))

    def _report(self, key: BaselineKey, stored: StoredBaseline, hours: list[Hour], window: int) -> FeatureDriftReport:
        source = self._look.source
        subject = Subject(
            self._look.column.name, self._as_of, source.name, key.segment, window, key.kind, source.version
        )
        populations = self._populations.get(key.segment, {})
        return report_window(subject, hours, populations, stored.baseline, self._look.settings, self._alpha)

    def _alarm(self, report: FeatureDriftReport, stored: StoredBaseline, hours: list[Hour]) -> dict[str, Any]:
        """What the alarm of a window looks like."""
        baseline, subject, look = stored.baseline, report.subject, self._look
        inside = within(hours, self._as_of, subject.window_hours)
        current = profile_of(inside, self._populations.get(subject.segment, {}), baseline)
        expected = expected_of(baseline, inside)
        usual, present = usual_and_present(hours, at_any_time=look.source.name == "snapshot")
        at = [hour.as_of for hour in inside]
        is_ordered = baseline.grid.kind.is_ordered
        found = diagnose(
            Evidence(
                grid=baseline.grid,
                current=current,
                expected=expected,
                alarms=report.alarms,
                quantiles=quantiles(self._connection, look.source, look.column, subject.segment, at)
                if is_ordered
                else np.empty(0),
                usual=usual,
                present=present,
            )
        )
        return {
            "severity": int(report.severity),
            "cause": str(found.cause),
            "because": found.because,
            "detail": report.detail,
            "where": where(subject),
        }

    def _first_healthy_weeks(self, key: BaselineKey, training: StoredBaseline) -> StoredBaseline | None:
        """Makes the serving baseline as soon as there are four weeks without an incident of the feature."""
        since = self._as_of - timedelta(days=DAYS_NEEDED)
        source, name = self._look.source, self._look.column.name
        counted = store.read_sketches(
            self._connection, training.grid_id, source.name, source.version, key.segment, since, self._as_of
        )
        # Hours in which nothing came are counted, too, and say nothing of what is usual.
        sketches = {at: sketch for at, sketch in counted.items() if sketch.rows}
        if not is_covered(list(sketches), since, self._as_of):
            return None
        if had_incident(self._connection, self._model, name, since):
            return None
        populations = store.read_populations(
            self._connection, self._model, source.name, source.version, since, self._as_of
        ).get(key.segment, {})
        baseline = baseline_of_hours(
            store.as_hours(sketches, populations),
            training.baseline.grid,
            distinct_entities(list(populations.values())),
            self._model.monitoring.windows_hours,
        )
        grid = StoredGrid(training.grid_id, training.baseline.grid)
        slots = {**baseline.slots, baselines.WHOLE_SLOT: (baseline.whole, baseline.entities)}
        baselines.write_baseline(
            self._connection, self._model, name, key, grid, slots, (since, self._as_of), baseline.wobble
        )
        log.info("%s: the last %s days are its serving baseline from now on.", name, DAYS_NEEDED)
        return baselines.read_baseline(self._connection, self._model, name, key)
