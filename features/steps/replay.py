"""Replaying: what would the rules that the YAML states now have said of history?

Hourly sketches are kept, so a rule can be tried on months of them before it is merged. With unchanged rules a replay
repeats the reports that were written.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from features import warehouse
from features.contract import DriftSettings, Model, Severity
from features.drift import baselines, store
from features.drift.baselines import BaselineKey, StoredBaseline
from features.drift.counting import Population
from features.drift.decision import SEVERITIES, DriftStatus
from features.drift.hours import HOUR, WEEK, Hour, within
from features.drift.report import FeatureDriftReport, Subject
from features.drift.sources import LABEL, PREDICTION
from features.drift.window import report_window
from features.errors import SkewlessError
from features.steps.watch import budget

END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Verdict:
    """A report as it was written, and as the rules would have it now; None where no such report was written."""

    subject: Subject
    was: DriftStatus | None
    now: DriftStatus
    detail: str

    @property
    def changed(self) -> bool:
        """Whether the severity differs."""
        return _severity(self.was) != _severity(self.now)


def _severity(status: DriftStatus | None) -> Severity:
    return SEVERITIES.get(status, Severity.NONE) if status else Severity.NONE


def replay(model: Model, since: datetime, until: datetime) -> Iterator[Verdict]:
    """Every comparison that was made in (since, until], decided again by the model's settings.

    Raises:
        SkewlessError: when nothing was watched in that time.
    """
    with warehouse.connect() as connection:
        written = _written(connection, model, since, until)
        if not written:
            raise SkewlessError(f"No drift report of {model.name} is in ({since}, {until}].")
        alpha = budget(model, _watched(connection, model, since, until), _uses_log(written)).alpha
        history = _History(connection, model, since, until)
        for (feature, source, segment, baseline_id), reports in written.items():
            settings = _settings(model, feature)
            if settings is not None and settings.watch:
                stored = baselines.baseline_by_id(connection, baseline_id)
                yield from _Again(history, model, source, segment, stored, settings, alpha).verdicts(feature, reports)


def _uses_log(written: Iterable[tuple[str, str, str, int]]) -> bool:
    return any(source == "inference_log" for _, source, _, _ in written)


def _watched(connection: warehouse.Connection, model: Model, since: datetime, until: datetime) -> int:
    """How many features share the budget: those that were watched, less those that would not be any more."""
    rows = connection.execute(
        "select distinct feature from monitoring.drift_reports where model_name = %s and as_of > %s and as_of <= %s"
        " and feature <> '(rows)'",
        [model.name, since, until],
    )
    settings = [_settings(model, row["feature"]) for row in rows]
    return sum(known is None or known.watch for known in settings)


def _written(
    connection: warehouse.Connection, model: Model, since: datetime, until: datetime
) -> dict[tuple[str, str, str, int], dict[datetime, dict[int, dict[str, Any]]]]:
    """Reports by what was compared with what, then by as_of and window."""
    rows = connection.execute(
        "select feature, source, segment, baseline_id, baseline, as_of, window_hours, status,"
        " source_version from"
        " monitoring.drift_reports where model_name = %s and as_of > %s and as_of <= %s and baseline_id is not null"
        " order by feature, source, segment, baseline_id, as_of, window_hours",
        [model.name, since, until],
    )
    found: dict[tuple[str, str, str, int], dict[datetime, dict[int, dict[str, Any]]]] = defaultdict(dict)
    for row in rows:
        key = row["feature"], row["source"], row["segment"], row["baseline_id"]
        found[key].setdefault(row["as_of"], {})[row["window_hours"]] = row
    return found


def _settings(model: Model, feature: str) -> DriftSettings | None:
    if feature in {PREDICTION, LABEL}:
        return model.monitoring.prediction if feature == PREDICTION else model.monitoring.label
    return next((known.drift for known in model.feature_view.features if known.name == feature), None)


class _History:
    """Hourly counts of the replayed time and the week before it, read once."""

    def __init__(self, connection: warehouse.Connection, model: Model, since: datetime, until: datetime) -> None:
        self._connection, self._model, self._after, self._until = connection, model, since - WEEK, until
        self._populations: dict[tuple[str, str], dict[str, dict[datetime, Population]]] = {}

    def populations(self, source: str, version: str, segment: str) -> dict[datetime, Population]:
        key = source, version
        if key not in self._populations:
            self._populations[key] = store.read_populations(
                self._connection, self._model, source, version, self._after, self._until
            )
        return self._populations[key].get(segment, {})

    def hours(self, grid_id: int, source: str, version: str, segment: str) -> list[Hour]:
        sketches = store.read_sketches(self._connection, grid_id, source, version, segment, self._after, self._until)
        return store.as_hours(sketches, self.populations(source, version, segment))


class _Again:
    """One feature's comparisons with one baseline, decided again."""

    def __init__(
        self,
        history: _History,
        model: Model,
        source: str,
        segment: str,
        stored: tuple[BaselineKey, StoredBaseline],
        settings: DriftSettings,
        alpha: float,
    ) -> None:
        self._history, self._model, self._source, self._segment = history, model, source, segment
        self._key, self._stored = stored
        self._settings, self._alpha = settings, alpha

    def verdicts(self, feature: str, reports: dict[datetime, dict[int, dict[str, Any]]]) -> Iterator[Verdict]:
        known: dict[str, list[Hour]] = {}
        for as_of, windows in sorted(reports.items()):
            version = next(iter(windows.values()))["source_version"]
            if version not in known:
                known[version] = self._history.hours(self._stored.grid_id, self._source, version, self._segment)
            hours = within(known[version], as_of, WEEK // HOUR)
            for window in self._model.monitoring.windows_hours:
                subject = Subject(feature, as_of, self._source, self._segment, window, self._key.kind, version)
                again = self._report(subject, hours)
                was = DriftStatus(windows[window]["status"]) if window in windows else None
                yield Verdict(subject, was, again.status, again.detail)

    def _report(self, subject: Subject, hours: list[Hour]) -> FeatureDriftReport:
        populations = self._history.populations(self._source, subject.source_version, self._segment)
        return report_window(subject, hours, populations, self._stored.baseline, self._settings, self._alpha)
