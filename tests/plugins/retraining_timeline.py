"""What the synthetic history decides, trains and promotes: the policy itself decides hour by hour."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from features.contract import Model, Severity
from features.drift.incident import Incident
from features.retraining.decision import (
    Cadence,
    Champion,
    DataIncident,
    DriftFinding,
    DriftFindings,
    Outcome,
    Performance,
    PolicyInputs,
    Retraining,
    RetrainingDecision,
)
from features.retraining.policy import RetrainingPolicy
from tests.plugins.episodes import DAY, HOUR, OLD_DEFINITION, Span

LABELS_PER_WEEK = 3460
MATURES_AFTER = 15 * DAY
SEVERITIES = {"ok": Severity.NONE, "warning": Severity.WARNING, "critical": Severity.CRITICAL}


@dataclass(frozen=True)
class Training:
    """A version, and what the gate made of it."""

    version: str
    as_of: datetime
    feature_version: str
    metric: float
    rival: str | None
    promoted: bool


@dataclass(frozen=True)
class Reign:
    """A row of the ledger of champions."""

    version: str
    since: datetime
    feature_version: str
    kind: str
    replaced: str | None


@dataclass
class RetrainingTimeline:
    """Everything that was decided, trained and promoted, oldest first."""

    decisions: list[tuple[RetrainingDecision, str | None, str]] = field(default_factory=list)
    trainings: list[Training] = field(default_factory=list)
    reigns: list[Reign] = field(default_factory=list)

    def training(self, version: str) -> Training:
        """That of a version."""
        return next(training for training in self.trainings if training.version == version)

    @property
    def champion(self) -> Training:
        """That of the version that reigns."""
        return self.training(self.reigns[-1].version)


def matured_between(after: datetime, until: datetime) -> list[datetime]:
    """When labels matured: those of each Tuesday, half a month later."""
    first = (after + DAY).replace(hour=0, minute=0, second=0, microsecond=0)
    days = (first + number * DAY for number in range((until - after).days + 2))
    return [day for day in days if (day - MATURES_AFTER).weekday() == 1 and after < day <= until]


def metric_at(training: Training, at: datetime, span: Span) -> float:
    """roc_auc on the labels since the training: it ages, and there is one bad week."""
    age = (at - training.as_of) / DAY
    slump = 0.06 if span.at(0.5) <= at < span.at(0.5) + 7 * DAY else 0.0
    return training.metric - 0.0007 * age - slump + 0.004 * math.sin(age)


def decide_every_hour(
    model: Model,
    span: Span,
    incidents: Sequence[Incident],
    statuses: Mapping[datetime, Mapping[str, str]],
    backtests: Sequence[datetime],
) -> RetrainingTimeline:
    """Decides every hour of the span.

    Args:
        statuses: by hour, of the features that were not ok.
        backtests: when the decay of the model was measured.
    """
    timeline, policy = RetrainingTimeline(), RetrainingPolicy(model.retraining)
    first = Training("1", span.start - 20 * DAY, OLD_DEFINITION, 0.8142, None, True)
    timeline.trainings.append(first)
    timeline.reigns.append(Reign("1", first.as_of + timedelta(minutes=25), OLD_DEFINITION, "promotion", None))
    asked_for: list[Retraining] = []
    for at in span.hours:
        inputs = _inputs(model, span, timeline, incidents, statuses, backtests, asked_for, at)
        decision = policy.evaluate(inputs, at)
        timeline.decisions.append((decision, timeline.champion.version, inputs.feature_version or ""))
        if decision.outcome is Outcome.RETRAIN:
            asked_for.append(Retraining(at, inputs.feature_version or ""))
            _train(timeline, span, at)
        if at == span.at(0.35):
            _roll_back(timeline, at)
    return timeline


def _inputs(
    model: Model,
    span: Span,
    timeline: RetrainingTimeline,
    incidents: Sequence[Incident],
    statuses: Mapping[datetime, Mapping[str, str]],
    backtests: Sequence[datetime],
    asked_for: Sequence[Retraining],
    at: datetime,
) -> PolicyInputs:
    champion = timeline.champion
    matured = len(matured_between(champion.as_of, at)) * LABELS_PER_WEEK
    metric = metric_at(champion, at, span) if matured else math.nan
    known = [when for when in backtests if when <= at]
    present = [one for one in incidents if one.opened_at <= at and (one.closed_at is None or at < one.closed_at)]
    moved = [one.opened_at for one in present if not one.cause.is_data_incident and one.verdict != "benign"]
    newest = matured_between(at - 30 * DAY, at)
    stray = statuses.get(at, {})
    findings = [
        DriftFinding(name, stray.get(name, "ok"), SEVERITIES.get(stray.get(name, "ok"), Severity.NONE))
        for name in model.feature_names
    ]
    return PolicyInputs(
        champion=Champion(champion.version, champion.as_of, champion.metric, champion.feature_version),
        feature_version=span.definition(at),
        drift=DriftFindings(at, findings),
        performance=Performance(metric, metric - 0.012, metric + 0.012, matured),
        new_labels=matured,
        newest_label=newest[-1] if newest else None,
        labels_since_shift=LABELS_PER_WEEK * len(matured_between(min(moved), at)) if moved else None,
        data_incidents=[
            _sick(replace(one, closed_at=None)) for one in present if replace(one, closed_at=None).blocks_retraining
        ],
        retrainings=[earlier for earlier in asked_for if at - earlier.as_of < 30 * DAY],
        in_flight=int(any(at - earlier.as_of <= HOUR for earlier in asked_for)),
        requested="the new price list is live" if at == span.at(0.25) else None,
        cadence=Cadence(24, known[-1], 70) if known else None,
    )


def _sick(incident: Incident) -> DataIncident:
    return DataIncident(
        incident.incident_id or 0, str(incident.cause), incident.features, incident.opened_at, incident.owner
    )


def _train(timeline: RetrainingTimeline, span: Span, at: datetime) -> None:
    """Every third version is refused."""
    number = len(timeline.trainings) + 1
    champion, promoted = timeline.champion, number % 3 != 0
    metric = round(0.81 + 0.002 * number if promoted else 0.79, 4)
    training = Training(str(number), at, span.definition(at), metric, champion.version, promoted)
    timeline.trainings.append(training)
    if promoted:
        since = at + timedelta(minutes=25)
        timeline.reigns.append(Reign(training.version, since, training.feature_version, "promotion", champion.version))


def _roll_back(timeline: RetrainingTimeline, at: datetime) -> None:
    """To the champion before this one, if there was one."""
    reign = timeline.reigns[-1]
    if reign.replaced is not None:
        before = timeline.training(reign.replaced)
        since = at + timedelta(minutes=40)
        timeline.reigns.append(Reign(before.version, since, before.feature_version, "rollback", reign.version))
