"""Replaying: what would the rules that the YAML states now have said of history?

Hourly sketches are kept, so a rule can be tried on months of them in seconds before it is merged. With unchanged rules
a replay repeats the reports that were written.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from features import warehouse
from features.contract import DriftSettings, Model, Severity
from features.drift import store
from features.drift.decision import SEVERITIES, DriftStatus
from features.drift.looks import WEEK
from features.drift.report import FeatureDriftReport, Subject
from features.drift.rows import LABEL, PREDICTION
from features.drift.store import BaselineKey, StoredBaseline
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
        features = {key[0] for key in written}
        alpha = budget(model, len(features), any(key[1] == "inference_log" for key in written)).alpha
        for (feature, source, segment, baseline_id), reports in written.items():
            settings = _settings(model, feature)
            if settings is not None and settings.watch:
                stored = store.baseline_by_id(connection, baseline_id)
                yield from _Again(connection, model, source, segment, stored, settings, alpha).verdicts(
                    feature, reports
                )


def _written(
    connection: warehouse.Connection, model: Model, since: datetime, until: datetime
) -> dict[tuple[str, str, str, int], dict[datetime, dict[int, dict[str, Any]]]]:
    """Reports by what was compared with what, then by as_of and window."""
    rows = connection.execute(
        "select feature, source, segment, baseline_id, baseline, as_of, window_hours, status,"
        " source_version from"
        " monitoring.drift_reports where model_name = %s and as_of > %s and as_of <= %s and baseline_id is not null",
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


class _Again:
    """One feature's comparisons with one baseline, decided again."""

    def __init__(
        self,
        connection: warehouse.Connection,
        model: Model,
        source: str,
        segment: str,
        stored: tuple[BaselineKey, StoredBaseline],
        settings: DriftSettings,
        alpha: float,
    ) -> None:
        self._connection, self._model, self._source, self._segment = connection, model, source, segment
        self._key, self._stored = stored
        self._settings, self._alpha = settings, alpha

    def verdicts(self, feature: str, reports: dict[datetime, dict[int, dict[str, Any]]]) -> Iterator[Verdict]:
        for as_of, windows in sorted(reports.items()):
            for window in self._model.monitoring.windows_hours:
                version = next(iter(windows.values()))["source_version"]
                subject = Subject(feature, as_of, self._source, self._segment, window, self._key.kind, version)
                again = self._report(subject)
                was = DriftStatus(windows[window]["status"]) if window in windows else None
                yield Verdict(subject, was, again.status, again.detail)

    def _report(self, subject: Subject) -> FeatureDriftReport:
        after = subject.as_of - WEEK
        version = subject.source_version
        sketches = store.read_sketches(
            self._connection, self._stored.grid_id, self._source, version, self._segment, after, subject.as_of
        )
        populations = store.read_populations(
            self._connection, self._model, self._source, version, after, subject.as_of
        ).get(self._segment, {})
        hours = store.as_hours(sketches, populations)
        return report_window(subject, hours, populations, self._stored.baseline, self._settings, self._alpha)
