"""What is written down about one feature in one window; a row of monitoring.drift_reports."""

from dataclasses import dataclass
from datetime import datetime

from features.contract import DriftSettings, Severity
from features.drift import distance
from features.drift.decision import NEVER, SEVERITIES, DriftStatus, Effect, Judgement, judge
from features.drift.profile import Baseline, Profile

WHOLE = "all"


@dataclass(frozen=True)
class Subject:
    """What a report is about.

    Attributes:
        feature: its name, or (prediction), or (label).
        source: where its values were read: snapshot, inference_log, labels, array.
        segment: the part of the population; `all` is everybody.
        window_hours: how far back from as_of.
        baseline: training or serving.
        source_version: the definition of what was counted.
    """

    feature: str
    as_of: datetime
    source: str = "array"
    segment: str = WHOLE
    window_hours: int = 1
    baseline: str = "training"
    source_version: str = ""


@dataclass(frozen=True)
class FeatureDriftReport:
    """One subject's finding. Statistics are None where there was nothing to compute them from.

    Attributes:
        n: distinct entities, those without a value included.
        needed_n: entities without which a change of twice the critical floor would go unseen.
        effect: the change that decides, with its bounds and floors: a KS distance, a share, Cohen's w squared.
        decided_by: the family of tests that decides: shape, cells, missing, new, not_finite, invalid.
        alarms: every family that alarms, worst first.
        ks_statistic: on the cells' edges; the exact one is not larger than ks_at_most.
        detail: the finding as a sentence.
    """

    subject: Subject
    status: DriftStatus
    n: int
    detail: str
    kind: str | None = None
    needed_n: int | None = None
    training_mean: float | None = None
    serving_mean: float | None = None
    training_std: float | None = None
    serving_std: float | None = None
    ks_statistic: float | None = None
    ks_at_most: float | None = None
    ks_p_value: float | None = None
    psi: float | None = None
    wasserstein: float | None = None
    cells_effect: float | None = None
    missing_rate: float | None = None
    baseline_missing_rate: float | None = None
    decided_by: str | None = None
    effect: float | None = None
    effect_low: float | None = None
    effect_high: float | None = None
    effect_floor: float | None = None
    critical_floor: float | None = None
    alarms: tuple[str, ...] = ()

    @property
    def feature(self) -> str:
        """Whose report it is."""
        return self.subject.feature

    @property
    def drift_detected(self) -> bool:
        """A warning or worse."""
        return self.severity > Severity.NONE

    @property
    def severity(self) -> Severity:
        """NONE for every status that found no drift, also for those that could not look."""
        return SEVERITIES.get(self.status, Severity.NONE)


def compare(
    subject: Subject,
    current: Profile,
    baseline: Baseline,
    expected: Profile,
    settings: DriftSettings,
    alpha: float,
) -> FeatureDriftReport:
    """The report of a window against a baseline; always one, whatever the data.

    Args:
        expected: what the baseline expects of the window's hours.
    """
    n = round(current.seen)
    if not baseline.whole.given:
        return FeatureDriftReport(subject, DriftStatus.BASELINE_MISSING, n, "There are no values to compare with.")
    grid = baseline.grid
    if _has_stopped(current, expected, alpha):
        return FeatureDriftReport(
            subject,
            DriftStatus.MISSING_FEATURE,
            n,
            f"None of {n:,} entities has a value.",
            kind=grid.kind,
            missing_rate=current.missing,
            baseline_missing_rate=expected.missing,
        )
    judgement = judge(
        current, expected, grid, settings, alpha, baseline.wobble.get(subject.window_hours), baseline.profile
    )
    decided_by = next(iter(judgement.alarms), "shape")
    return FeatureDriftReport(
        subject=subject,
        status=judgement.status,
        n=n,
        detail=judgement.detail,
        kind=grid.kind,
        needed_n=judgement.needed if judgement.needed < NEVER else None,
        missing_rate=current.missing if n else None,
        baseline_missing_rate=expected.missing,
        decided_by=decided_by,
        alarms=judgement.alarms,
        **_statistics(current, expected, baseline),
        **_bounds(judgement.effects.get(decided_by)),
        **_cells(judgement),
    )


def _has_stopped(current: Profile, expected: Profile, alpha: float) -> bool:
    """Whether nobody has a value, although so many would not all be without one by chance."""
    silent = current.seen > 0 and not current.size and not (current.not_finite or current.invalid)
    return silent and expected.missing**current.seen < alpha


def _statistics(current: Profile, expected: Profile, baseline: Baseline) -> dict[str, float | None]:
    if not current.size:
        return {}
    grid = baseline.grid
    found: dict[str, float | None] = {"psi": distance.psi(expected, current)}
    if grid.kind.is_ordered:
        bracket = distance.ks(expected, current, grid)
        found |= {
            "training_mean": expected.mean,
            "serving_mean": current.mean,
            "training_std": expected.std(grid),
            "serving_std": current.std(grid),
            "ks_statistic": bracket.low,
            "ks_at_most": bracket.high,
            "ks_p_value": distance.ks_p_value(bracket.low, current.size, expected.size),
            "wasserstein": distance.wasserstein(expected, current, grid),
        }
    return found


def _bounds(effect: Effect | None) -> dict[str, float | None]:
    if effect is None:
        return {}
    return {
        "effect": effect.value,
        "effect_low": effect.low,
        "effect_high": effect.high,
        "effect_floor": effect.warning,
        "critical_floor": effect.critical,
    }


def _cells(judgement: Judgement) -> dict[str, float | None]:
    return {"cells_effect": judgement.effects["cells"].value} if "cells" in judgement.effects else {}
