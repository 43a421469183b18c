"""Does a feature, as it is served, still look like what the champion was trained on?

Pure functions of two samples. A difference counts when it is both significant (two-sample Kolmogorov-Smirnov,
`scipy.stats.ks_2samp`, asymptotic p) and large enough to matter (KS distance at or above the feature's floor): with
thousands of rows nearly every difference is significant.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import stats

from features.contract import DriftSettings, Feature, Severity

Sample = npt.NDArray[np.float64]

WARNING_P = 0.05
CRITICAL_P = 0.01
MIN_SAMPLES = 100


class DriftStatus(StrEnum):
    """What a report says. Absence of evidence is never `ok`."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    INSUFFICIENT_DATA = "insufficient_data"
    MISSING_FEATURE = "missing_feature"
    BASELINE_MISSING = "baseline_missing"
    ERROR = "error"


SEVERITIES = {DriftStatus.WARNING: Severity.WARNING, DriftStatus.CRITICAL: Severity.CRITICAL}


@dataclass(frozen=True)
class FeatureDriftReport:
    """One feature at one as_of. Statistics are None where there was nothing to compute them from.

    Attributes:
        n: entities served, those with a missing value included.
        effect_floor: the KS distance from which a difference is a warning.
        detail: the finding as a sentence.
    """

    feature: str
    as_of: datetime
    status: DriftStatus
    n: int
    detail: str
    training_mean: float | None = None
    serving_mean: float | None = None
    training_std: float | None = None
    serving_std: float | None = None
    ks_statistic: float | None = None
    ks_p_value: float | None = None
    effect_floor: float | None = None

    @property
    def drift_detected(self) -> bool:
        """A warning or worse."""
        return self.severity > Severity.NONE

    @property
    def severity(self) -> Severity:
        """NONE for every status that found no drift, also for those that could not look."""
        return SEVERITIES.get(self.status, Severity.NONE)


class FeatureDriftMonitor:
    """Compares samples with the champion's training sample.

    Args:
        baseline: training values by feature; NaN is a missing value. A feature without values has no baseline.
        settings: floors by feature; the contract's defaults for those not named.
    """

    def __init__(self, baseline: Mapping[str, Sample], settings: Mapping[str, DriftSettings] | None = None) -> None:
        self._baseline = baseline
        self._settings = settings or {}

    def check(self, feature: str, serving: Sample, as_of: datetime) -> FeatureDriftReport:
        """The report of one feature; always one, whatever the data."""
        serving = np.asarray(serving, dtype=np.float64)
        given = serving[np.isfinite(serving)]
        training = np.asarray(self._baseline.get(feature, ()), dtype=np.float64)
        training = training[np.isfinite(training)]
        n = len(serving)
        if not len(training):
            return FeatureDriftReport(
                feature, as_of, DriftStatus.BASELINE_MISSING, n, "The champion has no training values of it."
            )
        if n >= MIN_SAMPLES and not len(given):
            return FeatureDriftReport(
                feature, as_of, DriftStatus.MISSING_FEATURE, n, f"None of {n:,} served rows has a value."
            )
        for name, values in (("served", given), ("training", training)):
            if len(values) < MIN_SAMPLES:
                detail = f"{len(values):,} {name} values; {MIN_SAMPLES} are needed."
                return FeatureDriftReport(feature, as_of, DriftStatus.INSUFFICIENT_DATA, n, detail)
        return self._compare(feature, training, given, n, as_of)

    def _compare(self, feature: str, training: Sample, serving: Sample, n: int, as_of: datetime) -> FeatureDriftReport:
        settings = self._settings.get(feature, DriftSettings())
        test = stats.ks_2samp(training, serving, method="asymp")
        distance, p_value = float(test.statistic), float(test.pvalue)
        status = DriftStatus.OK
        if p_value < WARNING_P and distance >= settings.warning_floor:
            status = DriftStatus.WARNING
        if p_value < CRITICAL_P and distance >= settings.critical_floor:
            status = DriftStatus.CRITICAL
        return FeatureDriftReport(
            feature=feature,
            as_of=as_of,
            status=status,
            n=n,
            detail=f"KS distance {distance:.3f}, floors {settings.warning_floor:g} and {settings.critical_floor:g}.",
            training_mean=float(training.mean()),
            serving_mean=float(serving.mean()),
            training_std=float(training.std()),
            serving_std=float(serving.std()),
            ks_statistic=distance,
            ks_p_value=p_value,
            effect_floor=settings.warning_floor,
        )


def settings_of(features: tuple[Feature, ...]) -> dict[str, DriftSettings]:
    """The floors that the contract declares, by feature."""
    return {feature.name: feature.drift for feature in features}
