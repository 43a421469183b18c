"""The words of the policy: what it judges by, and what it says."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum

from features.contract import Severity


class Priority(IntEnum):
    """How urgent a retraining is; ordered."""

    NONE = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


class RetrainingTrigger(StrEnum):
    """What can call for a retraining, most urgent first."""

    NO_MODEL = "no_model"
    DEFINITION_CHANGED = "definition_changed"
    PERFORMANCE = "performance"
    MANUAL = "manual"
    DRIFT = "drift"
    SCHEDULED = "scheduled"
    DATA_VOLUME = "data_volume"

    @property
    def priority(self) -> Priority:
        """How urgent it is when it fires."""
        return PRIORITIES[self]


PRIORITIES = {
    RetrainingTrigger.NO_MODEL: Priority.CRITICAL,
    RetrainingTrigger.DEFINITION_CHANGED: Priority.CRITICAL,
    RetrainingTrigger.PERFORMANCE: Priority.CRITICAL,
    RetrainingTrigger.MANUAL: Priority.HIGH,
    RetrainingTrigger.DRIFT: Priority.HIGH,
    RetrainingTrigger.SCHEDULED: Priority.MEDIUM,
    RetrainingTrigger.DATA_VOLUME: Priority.LOW,
}


class Guard(StrEnum):
    """What can forbid a retraining although a trigger fired."""

    DATA_INCIDENT = "data_incident"
    MISSING_FEATURE = "missing_feature"
    FEW_LABELS_SINCE_SHIFT = "few_labels_since_shift"
    IN_FLIGHT = "in_flight"
    COOLDOWN = "cooldown"
    BUDGET = "budget"


class Outcome(StrEnum):
    """What a decision comes to. `unknown` is never the same as `hold`: something could not be judged."""

    RETRAIN = "retrain"
    BLOCKED = "blocked"
    HOLD = "hold"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Champion:
    """The model in production.

    Attributes:
        trained_as_of: the instant whose knowledge it was trained on.
        holdout_metric: its metric on the holdout when it was trained.
        feature_version: the definition of the features it was trained on.
    """

    version: str
    trained_as_of: datetime
    holdout_metric: float
    feature_version: str


@dataclass(frozen=True)
class Performance:
    """The champion's metric on labels that matured since it was trained, with its confidence interval.

    Attributes:
        labels: how many it rests on; where they are too few, the metric is NaN.
    """

    metric: float
    low: float
    high: float
    labels: int


@dataclass(frozen=True)
class DriftFinding:
    """One feature's status and severity."""

    feature: str
    status: str
    severity: Severity


@dataclass(frozen=True)
class DriftFindings:
    """What the monitor found at an instant, feature by feature."""

    as_of: datetime
    findings: Sequence[DriftFinding]


@dataclass(frozen=True)
class DataIncident:
    """A sick pipeline: what is wrong, since when, and whom to ask."""

    incident_id: int
    cause: str
    features: tuple[str, ...]
    opened_at: datetime
    owner: str


@dataclass(frozen=True)
class Retraining:
    """An earlier decision to retrain, and the definition of the features at that time."""

    as_of: datetime
    feature_version: str


@dataclass(frozen=True)
class Cadence:
    """How old a model may become, by a decay backtest.

    Attributes:
        as_of: when the backtest was made.
        measured_days: the oldest age it measured; it vouches for none beyond.
    """

    max_age_days: int
    as_of: datetime
    measured_days: int


@dataclass(frozen=True)
class PolicyInputs:
    """What the policy judges by; None is "not known", except where it says otherwise.

    Attributes:
        champion: None when there is none yet.
        feature_version: the definition of the features that is served now.
        performance: of the champion.
        new_labels: labels matured since the champion was trained.
        newest_label: when the newest of all labels matured.
        labels_since_shift: matured labels of instants after the drift began that is open now.
        data_incidents: those that are open, and that nobody called genuine.
        retrainings: the decisions to retrain of the last weeks.
        in_flight: how many trainings are queued, running or waiting for approval.
        requested: why a person asks for a retraining; None when nobody does.
        cadence: None before the first decay backtest.
    """

    champion: Champion | None
    feature_version: str | None
    drift: DriftFindings | None = None
    performance: Performance | None = None
    new_labels: int | None = None
    newest_label: datetime | None = None
    labels_since_shift: int | None = None
    data_incidents: Sequence[DataIncident] = ()
    retrainings: Sequence[Retraining] = ()
    in_flight: int = 0
    requested: str | None = None
    cadence: Cadence | None = None


@dataclass(frozen=True)
class TriggerFinding:
    """One trigger: whether it fired (None: unknown), and why, with the numbers."""

    trigger: RetrainingTrigger
    fired: bool | None
    evidence: str


@dataclass(frozen=True)
class Block:
    """A guard that forbids retraining, and why."""

    guard: Guard
    reason: str


@dataclass(frozen=True)
class RetrainingDecision:
    """What was decided, and every trigger that was looked at.

    Attributes:
        trigger: the most urgent one that fired.
        reason: a sentence or more, with the numbers.
        blocked_by: what forbids retraining although a trigger fired.
    """

    as_of: datetime
    outcome: Outcome
    trigger: RetrainingTrigger | None
    priority: Priority
    reason: str
    triggers: tuple[TriggerFinding, ...]
    blocked_by: tuple[Block, ...] = ()

    @property
    def should_retrain(self) -> bool:
        """Whether training is to start."""
        return self.outcome is Outcome.RETRAIN
