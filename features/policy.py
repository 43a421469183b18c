"""Should the model be retrained? A pure function of its inputs and as_of; no clock, no I/O.

Every trigger is evaluated and kept with its evidence. What cannot be judged is `unknown`, which is never the same as
fine, and never a reason to retrain either.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum

from features.contract import RetrainingSettings, Severity


class Priority(IntEnum):
    """How urgent a retraining is; ordered."""

    NONE = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


class RetrainingTrigger(StrEnum):
    """What can call for a retraining."""

    NO_MODEL = "no_model"
    PERFORMANCE = "performance"
    DRIFT = "drift"
    SCHEDULED = "scheduled"
    DATA_VOLUME = "data_volume"


PRIORITIES = {
    RetrainingTrigger.NO_MODEL: Priority.CRITICAL,
    RetrainingTrigger.PERFORMANCE: Priority.CRITICAL,
    RetrainingTrigger.DRIFT: Priority.HIGH,
    RetrainingTrigger.SCHEDULED: Priority.MEDIUM,
    RetrainingTrigger.DATA_VOLUME: Priority.LOW,
}


@dataclass(frozen=True)
class Champion:
    """The model in production.

    Attributes:
        trained_as_of: the instant whose knowledge it was trained on.
        holdout_metric: its metric on the holdout when it was trained.
    """

    version: str
    trained_as_of: datetime
    holdout_metric: float


@dataclass(frozen=True)
class DriftFinding:
    """One feature's status and severity."""

    feature: str
    status: str
    severity: Severity


@dataclass(frozen=True)
class DataIncident:
    """A sick pipeline: what is wrong, since when, and whom to ask."""

    incident_id: int
    cause: str
    features: tuple[str, ...]
    opened_at: datetime
    owner: str


@dataclass(frozen=True)
class PolicyInputs:
    """What the policy judges by; None is "not known".

    Attributes:
        new_labels: labels matured since the champion was trained.
        recent_metric: the champion's metric on labels that matured since it was trained.
        recent_labels: how many labels that metric rests on.
        data_incidents: those that are open, and that nobody called genuine.
    """

    champion: Champion | None
    drift: Sequence[DriftFinding] | None
    new_labels: int | None
    recent_metric: float | None
    recent_labels: int
    data_incidents: Sequence[DataIncident] = ()


@dataclass(frozen=True)
class TriggerFinding:
    """One trigger: whether it fired (None: unknown), and why, with the numbers."""

    trigger: RetrainingTrigger
    fired: bool | None
    evidence: str


@dataclass(frozen=True)
class RetrainingDecision:
    """What was decided, and every trigger that was looked at.

    Attributes:
        trigger: the most urgent one that fired.
        blocked_by: reasons that forbid retraining although a trigger fired.
    """

    as_of: datetime
    should_retrain: bool
    trigger: RetrainingTrigger | None
    priority: Priority
    reason: str
    triggers: tuple[TriggerFinding, ...]
    blocked_by: tuple[str, ...] = ()


class RetrainingPolicy:
    """The four triggers of a maintenance cycle, and "there is no model yet"."""

    def __init__(self, settings: RetrainingSettings) -> None:
        self.settings = settings

    def evaluate(self, inputs: PolicyInputs, as_of: datetime) -> RetrainingDecision:
        """The decision at as_of."""
        if inputs.champion is None:
            findings: tuple[TriggerFinding, ...] = (
                TriggerFinding(RetrainingTrigger.NO_MODEL, True, "There is no champion yet."),
            )
        else:
            findings = (
                self._performance(inputs.champion, inputs),
                self._drift(inputs),
                self._scheduled(inputs.champion, as_of),
                self._data_volume(inputs),
            )
        fired = sorted((finding for finding in findings if finding.fired), key=_priority, reverse=True)
        blocked = (*_missing_features(inputs), *_sick_pipelines(inputs)) if fired else ()
        return RetrainingDecision(
            as_of=as_of,
            should_retrain=bool(fired) and not blocked,
            trigger=fired[0].trigger if fired else None,
            priority=_priority(fired[0]) if fired else Priority.NONE,
            reason=_reason(fired, findings, blocked),
            triggers=findings,
            blocked_by=blocked,
        )

    def _performance(self, champion: Champion, inputs: PolicyInputs) -> TriggerFinding:
        if inputs.recent_metric is None or math.isnan(inputs.recent_metric) or math.isnan(champion.holdout_metric):
            evidence = "Performance is unknown: too few labels have matured since the champion was trained."
            return TriggerFinding(RetrainingTrigger.PERFORMANCE, None, evidence)
        bound = champion.holdout_metric * (1 - self.settings.performance_drop)
        # At the bound is not below it, also where floating point has them differ in the last digit.
        fired = inputs.recent_metric < bound and not math.isclose(inputs.recent_metric, bound)
        evidence = (
            f"On {inputs.recent_labels:,} labels matured since, the champion scores {inputs.recent_metric:.3f}, "
            f"{'below' if fired else 'not below'} {bound:.3f} ({1 - self.settings.performance_drop:.0%} of its holdout "
            f"{champion.holdout_metric:.3f})."
        )
        return TriggerFinding(RetrainingTrigger.PERFORMANCE, fired, evidence)

    def _drift(self, inputs: PolicyInputs) -> TriggerFinding:
        if not inputs.drift:
            return TriggerFinding(RetrainingTrigger.DRIFT, None, "Drift is unknown: there is no report.")
        threshold = self.settings.drift_severity
        drifted = [finding.feature for finding in inputs.drift if finding.severity >= threshold]
        name = threshold.name.lower()
        if drifted:
            return TriggerFinding(RetrainingTrigger.DRIFT, True, f"Drift at or above {name} in {', '.join(drifted)}.")
        unjudged = [f"{finding.feature} ({finding.status})" for finding in inputs.drift if finding.status not in JUDGED]
        if unjudged:
            return TriggerFinding(RetrainingTrigger.DRIFT, None, f"Drift is unknown for {', '.join(unjudged)}.")
        return TriggerFinding(
            RetrainingTrigger.DRIFT, False, f"None of {len(inputs.drift)} features drifted at or above {name}."
        )

    def _scheduled(self, champion: Champion, as_of: datetime) -> TriggerFinding:
        age = (as_of - champion.trained_as_of).days
        fired = age >= self.settings.max_model_age_days
        evidence = f"The champion is {age} days old; it may become {self.settings.max_model_age_days}."
        return TriggerFinding(RetrainingTrigger.SCHEDULED, fired, evidence)

    def _data_volume(self, inputs: PolicyInputs) -> TriggerFinding:
        if inputs.new_labels is None:
            return TriggerFinding(RetrainingTrigger.DATA_VOLUME, None, "The number of new labels is unknown.")
        fired = inputs.new_labels >= self.settings.min_new_labels
        evidence = (
            f"{inputs.new_labels:,} labels matured since the champion was trained; "
            f"{self.settings.min_new_labels:,} call for a new one."
        )
        return TriggerFinding(RetrainingTrigger.DATA_VOLUME, fired, evidence)


JUDGED = frozenset({"ok", "warning", "critical"})


def _priority(finding: TriggerFinding) -> Priority:
    return PRIORITIES[finding.trigger]


def _missing_features(inputs: PolicyInputs) -> tuple[str, ...]:
    """A feature that stopped arriving is a sick pipeline: training on it would teach the model the fault."""
    return tuple(
        f"{finding.feature} has stopped arriving; mend the pipeline before retraining."
        for finding in inputs.drift or ()
        if finding.status == "missing_feature"
    )


def _sick_pipelines(inputs: PolicyInputs) -> tuple[str, ...]:
    """A model that is retrained on corrupted data learns the corruption."""
    return tuple(
        f"Incident {incident.incident_id} is open since {incident.opened_at:%Y-%m-%d %H:%M}Z: {incident.cause} in "
        f"{', '.join(incident.features)}. Ask {incident.owner}; if the change is genuine, "
        f"`skewless resolve-incident {incident.incident_id} --as genuine` lets retraining go on."
        for incident in inputs.data_incidents
    )


def _reason(fired: Sequence[TriggerFinding], findings: Sequence[TriggerFinding], blocked: Sequence[str]) -> str:
    if blocked:
        return f"Not retraining, although {fired[0].trigger} fired: {' '.join(blocked)}"
    if fired:
        return " ".join(finding.evidence for finding in fired)
    return "No trigger fired. " + " ".join(finding.evidence for finding in findings)
