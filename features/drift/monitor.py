"""The monitor on plain arrays, for a notebook or a batch job without a warehouse; the same cells, the same decision."""

import logging
from collections.abc import Mapping
from datetime import datetime

import numpy as np

from features.contract import DriftSettings, Valid
from features.drift.decision import Budget, DriftStatus
from features.drift.profile import Baseline, Profile
from features.drift.report import FeatureDriftReport, Subject, compare
from features.drift.sketch import Grid, Sketch, Values

log = logging.getLogger(__name__)


class FeatureDriftMonitor:
    """Compares samples with the champion's training sample.

    Args:
        baseline: training values by feature, or baselines made before. Only counts of them are kept. NaN and None are
            missing values; a feature without values has no baseline.
        settings: floors by feature; the contract's defaults for those not named.
        valid: what the contract allows, by feature.
        false_alarms_per_week: expected at most over all features, when each is checked once an hour.

    Example:
        >>> from datetime import UTC
        >>> as_of = datetime(2013, 7, 15, 12, tzinfo=UTC)
        >>> trained_on = np.random.default_rng(1).gamma(2, 10, size=2000)
        >>> served = np.random.default_rng(2).gamma(2, 10, size=500)
        >>> monitor = FeatureDriftMonitor({"minutes": trained_on})
        >>> monitor.check("minutes", served, as_of).status
        <DriftStatus.OK: 'ok'>
        >>> monitor.check("minutes", 60 * served, as_of).status  # seconds instead of minutes
        <DriftStatus.CRITICAL: 'critical'>
        >>> monitor.check("minutes", [], as_of).detail
        '0 entities with a value; 470 are needed.'
    """

    def __init__(
        self,
        baseline: Mapping[str, Values | Baseline],
        settings: Mapping[str, DriftSettings] | None = None,
        *,
        valid: Mapping[str, Valid] | None = None,
        false_alarms_per_week: float = 0.5,
    ) -> None:
        self._settings = dict(settings or {})
        self._valid = dict(valid or {})
        self._baselines = {name: self._baseline(name, values) for name, values in baseline.items()}
        self._alpha = Budget(false_alarms_per_week, max(1, len(baseline))).alpha

    def check(
        self, feature: str, serving: Values, as_of: datetime, *, entities: int | None = None
    ) -> FeatureDriftReport:
        """The report of one feature.

        Args:
            entities: how many distinct ones the values belong to, when one may have several.
        """
        subject = Subject(feature, as_of)
        baseline = self._baselines.get(feature)
        if baseline is None:
            n = int(np.size(np.asarray(serving, dtype=object)))
            return FeatureDriftReport(
                subject, DriftStatus.BASELINE_MISSING, n, "The baseline has no value of this feature."
            )
        sketch = Sketch.of(serving, baseline.grid, self._valid.get(feature))
        expected = baseline.expected([(as_of, sketch.given)])
        settings = self._settings.get(feature, DriftSettings())
        return compare(subject, Profile.of(sketch, entities), baseline, expected, settings, self._alpha)

    def check_all(self, serving: Mapping[str, Values], as_of: datetime) -> list[FeatureDriftReport]:
        """A report of every feature of the baseline or of the data; one that cannot be read is an `error`, and the
        others have theirs."""
        names = [*self._baselines, *(name for name in serving if name not in self._baselines)]
        return [self._check_whatever(name, serving, as_of) for name in names]

    def _check_whatever(self, name: str, serving: Mapping[str, Values], as_of: datetime) -> FeatureDriftReport:
        subject = Subject(name, as_of)
        if name not in serving:
            return FeatureDriftReport(subject, DriftStatus.MISSING_FEATURE, 0, "The data have no such feature.")
        if name not in self._baselines:
            n = int(np.size(np.asarray(serving[name], dtype=object)))
            return FeatureDriftReport(subject, DriftStatus.UNEXPECTED_FEATURE, n, "The baseline has no such feature.")
        try:
            return self.check(name, serving[name], as_of)
        except Exception as error:  # whatever it is, the other features still get their reports
            log.exception("%s could not be checked", name)
            return FeatureDriftReport(subject, DriftStatus.ERROR, 0, f"{type(error).__name__}: {error}")

    def _baseline(self, name: str, values: Values | Baseline) -> Baseline | None:
        if isinstance(values, Baseline):
            return values
        categorical = self._settings.get(name, DriftSettings()).treat_as == "categorical"
        try:
            grid = Grid.of(values, categorical=categorical)
        except ValueError:
            return None
        sketch = Sketch.of(values, grid, self._valid.get(name))
        return Baseline(grid, sketch, sketch.rows)
