"""Should the model be retrained? A pure function of its inputs and as_of; no clock, no I/O.

Every trigger is evaluated and kept with its evidence, so that none hides another. What cannot be judged is `unknown`,
which is never the same as fine, and never a reason to retrain either. Guards come last: a model that is retrained on
corrupted data learns the corruption.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from features.contract import RetrainingSettings
from features.retraining.decision import (
    Block,
    Cadence,
    Champion,
    Guard,
    Outcome,
    PolicyInputs,
    Priority,
    RetrainingDecision,
    RetrainingTrigger,
    TriggerFinding,
)

# While `max_model_age: auto` waits for a backtest that has met models old enough to say more, or less: one that has met
# young ones only can but say that they may not become older.
MAX_AGE_DAYS_UNTIL_KNOWN = 30
OLD_ENOUGH_DAYS = 2 * MAX_AGE_DAYS_UNTIL_KNOWN
BUDGET_PERIOD = timedelta(days=30)
JUDGED = frozenset({"ok", "warning", "critical"})


class RetrainingPolicy:
    """Seven triggers and six guards of a maintenance cycle; their bounds are the exposure's `retraining`.

    Example:
        >>> from datetime import UTC
        >>> as_of = datetime(2013, 7, 15, tzinfo=UTC)
        >>> champion = Champion("3", as_of - timedelta(days=40), holdout_metric=0.71, feature_version="a1b2c3")
        >>> policy = RetrainingPolicy(RetrainingSettings(max_model_age=30))
        >>> decision = policy.evaluate(PolicyInputs(champion, feature_version="a1b2c3"), as_of)
        >>> decision.outcome, decision.trigger
        (<Outcome.RETRAIN: 'retrain'>, <RetrainingTrigger.SCHEDULED: 'scheduled'>)
        >>> being_trained = PolicyInputs(champion, feature_version="a1b2c3", in_flight=1)
        >>> decision = policy.evaluate(being_trained, as_of)
        >>> decision.outcome, [block.guard for block in decision.blocked_by]
        (<Outcome.BLOCKED: 'blocked'>, [<Guard.IN_FLIGHT: 'in_flight'>])
    """

    def __init__(self, settings: RetrainingSettings) -> None:
        self.settings = settings

    def evaluate(self, inputs: PolicyInputs, as_of: datetime) -> RetrainingDecision:
        """The decision at as_of."""
        findings = tuple(self._findings(inputs, as_of))
        fired = [finding for finding in findings if finding.fired]  # most urgent first, as the triggers are
        blocks = tuple(self._blocks(inputs, {finding.trigger for finding in fired}, as_of)) if fired else ()
        outcome = _outcome(findings, blocks)
        return RetrainingDecision(
            as_of=as_of,
            outcome=outcome,
            trigger=fired[0].trigger if fired else None,
            priority=fired[0].trigger.priority if fired else Priority.NONE,
            reason=_reason(outcome, findings, blocks),
            triggers=findings,
            blocked_by=blocks,
        )

    def _findings(self, inputs: PolicyInputs, as_of: datetime) -> Iterator[TriggerFinding]:
        """One of each trigger, in their order."""
        champion = inputs.champion
        if champion is None:
            for trigger in RetrainingTrigger:
                if trigger is RetrainingTrigger.NO_MODEL:
                    yield TriggerFinding(trigger, True, "There is no champion yet.")
                elif trigger is RetrainingTrigger.MANUAL:
                    yield _manual(inputs)
                else:
                    yield TriggerFinding(trigger, None, "There is no champion to judge.")
            return
        yield TriggerFinding(RetrainingTrigger.NO_MODEL, False, f"v{champion.version} is the champion.")
        yield _definition_changed(champion, inputs.feature_version)
        yield self._performance(champion, inputs, as_of)
        yield _manual(inputs)
        yield self._drift(inputs, as_of)
        yield self._scheduled(champion, inputs, as_of)
        yield self._data_volume(inputs, as_of)

    def _performance(self, champion: Champion, inputs: PolicyInputs, as_of: datetime) -> TriggerFinding:
        trigger, found = RetrainingTrigger.PERFORMANCE, inputs.performance
        if found is None or found.labels < self.settings.min_recent_labels:
            labels = f"{found.labels:,} labels have" if found else "it is not known how many labels have"
            needed = f"{self.settings.min_recent_labels:,} are needed"
            return TriggerFinding(
                trigger, None, f"Performance is unknown: {labels} matured since the champion was trained; {needed}."
            )
        if math.isnan(found.metric) or math.isnan(found.high) or math.isnan(champion.holdout_metric):
            return TriggerFinding(
                trigger,
                None,
                f"Performance is unknown: on {found.labels:,} labels matured since, the metric is no number.",
            )
        bound = champion.holdout_metric * (1 - self.settings.performance_drop)
        score = (
            f"on {found.labels:,} labels matured since, the champion scores {found.metric:.3f} "
            f"({found.low:.3f} to {found.high:.3f})"
        )
        share = f"{100 * (1 - self.settings.performance_drop):g}%"
        limit = f"{bound:.3f} ({share} of its holdout {champion.holdout_metric:.3f})"
        if _below(found.high, bound):
            return TriggerFinding(trigger, True, f"Performance: {score}, below {limit}.")
        if stale := self._why_labels_are_stale(inputs, as_of):
            return TriggerFinding(trigger, None, f"Performance is unknown: {stale}.")
        if _below(found.metric, bound):
            return TriggerFinding(trigger, False, f"Performance: {score}, below {limit}, which may be chance.")
        return TriggerFinding(trigger, False, f"Performance: {score}, not below {limit}.")

    def _drift(self, inputs: PolicyInputs, as_of: datetime) -> TriggerFinding:
        trigger = RetrainingTrigger.DRIFT
        if inputs.drift is None or not inputs.drift.findings:
            return TriggerFinding(trigger, None, "Drift is unknown: there is no report.")
        age = as_of - inputs.drift.as_of
        if not timedelta(0) <= age <= timedelta(hours=self.settings.drift_stale_after_hours):
            return TriggerFinding(
                trigger, None, f"Drift is unknown: the last reports are of {inputs.drift.as_of:%Y-%m-%d %H:%M}Z."
            )
        findings = sorted(inputs.drift.findings, key=lambda finding: (finding.feature, finding.status))
        name = self.settings.drift_severity.name.lower()
        drifted = [finding.feature for finding in findings if finding.severity >= self.settings.drift_severity]
        if drifted:
            return TriggerFinding(trigger, True, f"Drift at or above {name} in {', '.join(drifted)}.")
        unjudged = [f"{finding.feature} ({finding.status})" for finding in findings if finding.status not in JUDGED]
        if unjudged:
            return TriggerFinding(trigger, None, f"Drift is unknown for {', '.join(unjudged)}.")
        return TriggerFinding(trigger, False, f"None of {len(findings)} features drifted at or above {name}.")

    def _scheduled(self, champion: Champion, inputs: PolicyInputs, as_of: datetime) -> TriggerFinding:
        trigger, age = RetrainingTrigger.SCHEDULED, (as_of - champion.trained_as_of).days
        if age < 0:
            return TriggerFinding(trigger, False, "The champion was trained as of a later instant.")
        limit, source = age_limit(self.settings, inputs.cadence)
        days = "1 day" if age == 1 else f"{age} days"
        return TriggerFinding(trigger, age >= limit, f"The champion is {days} old; it may become {limit}{source}.")

    def _data_volume(self, inputs: PolicyInputs, as_of: datetime) -> TriggerFinding:
        trigger, needed = RetrainingTrigger.DATA_VOLUME, self.settings.min_new_labels
        if inputs.new_labels is None:
            return TriggerFinding(trigger, None, "The number of new labels is unknown.")
        count = f"{inputs.new_labels:,} labels matured since the champion was trained"
        if inputs.new_labels >= needed:
            return TriggerFinding(trigger, True, f"{count}; {needed:,} call for a new one.")
        if stale := self._why_labels_are_stale(inputs, as_of):
            return TriggerFinding(trigger, None, f"The number of new labels is unknown: {stale}.")
        return TriggerFinding(trigger, False, f"{count}; {needed:,} call for a new one.")

    def _why_labels_are_stale(self, inputs: PolicyInputs, as_of: datetime) -> str | None:
        """Why what the labels say is out of date, if it is: "no news" is no good news where news stopped coming."""
        if inputs.newest_label is None:
            return "no label has matured"
        if as_of - inputs.newest_label > timedelta(days=self.settings.labels_stale_after_days):
            return f"no label has matured since {inputs.newest_label:%Y-%m-%d}"
        return None

    def _blocks(self, inputs: PolicyInputs, fired: set[RetrainingTrigger], as_of: datetime) -> Iterator[Block]:
        """What forbids the retraining that the fired triggers call for."""
        yield from _sick_pipelines(inputs)
        yield from _missing_features(inputs)
        if fired == {RetrainingTrigger.DRIFT}:
            yield from self._few_labels_since_shift(inputs)
        if inputs.in_flight:
            trainings = "a training is" if inputs.in_flight == 1 else f"{inputs.in_flight} trainings are"
            yield Block(Guard.IN_FLIGHT, f"Not before it is finished: {trainings} under way.")
        if RetrainingTrigger.MANUAL not in fired:
            yield from self._too_often(inputs, as_of)

    def _few_labels_since_shift(self, inputs: PolicyInputs) -> Iterator[Block]:
        """A model cannot learn a new world from labels of the old one."""
        known, needed = inputs.labels_since_shift, self.settings.min_labels_after_shift
        if known is None or known < needed:
            labels = "an unknown number of" if known is None else f"{known:,}"
            yield Block(
                Guard.FEW_LABELS_SINCE_SHIFT,
                f"Of the time since the drift began {labels} labels have matured; {needed:,} are needed to learn it.",
            )

    def _too_often(self, inputs: PolicyInputs, as_of: datetime) -> Iterator[Block]:
        past = [earlier for earlier in inputs.retrainings if earlier.as_of < as_of]
        cooldown = timedelta(hours=self.settings.cooldown_hours)
        # A new definition needs a model of its own, however young that of the old one is.
        same = [earlier.as_of for earlier in past if inputs.feature_version in {None, earlier.feature_version}]
        if same and as_of - max(same) < cooldown:
            yield Block(
                Guard.COOLDOWN,
                f"The last retraining was asked for at {max(same):%Y-%m-%d %H:%M}Z; "
                f"the next may be {self.settings.cooldown_hours} hours later.",
            )
        recent = [earlier for earlier in past if as_of - earlier.as_of < BUDGET_PERIOD]
        if len(recent) >= self.settings.max_retrainings_in_30_days:
            yield Block(
                Guard.BUDGET,
                f"{len(recent)} retrainings in {BUDGET_PERIOD.days} days are as many as the budget allows.",
            )


def age_limit(settings: RetrainingSettings, cadence: Cadence | None) -> tuple[int, str]:
    """How old a champion may become, in days, and where that comes from, to be read after the number."""
    if settings.max_model_age != "auto":
        return settings.max_model_age, ""
    if cadence and cadence.measured_days >= OLD_ENOUGH_DAYS:
        return cadence.max_age_days, f", by the decay backtest of {cadence.as_of:%Y-%m-%d}"
    return MAX_AGE_DAYS_UNTIL_KNOWN, f" until a decay backtest has met models of {OLD_ENOUGH_DAYS} days"


def _below(value: float, bound: float) -> bool:
    """At the bound is not below it, also where floating point has them differ in the last digit."""
    return value < bound and not math.isclose(value, bound)


def _definition_changed(champion: Champion, current: str | None) -> TriggerFinding:
    trigger = RetrainingTrigger.DEFINITION_CHANGED
    if current is None:
        return TriggerFinding(trigger, None, "It is not known which definition of the features is served.")
    if current == champion.feature_version:
        return TriggerFinding(trigger, False, f"The features are defined as they were for v{champion.version}.")
    return TriggerFinding(
        trigger,
        True,
        f"The features have a new definition, {current}; v{champion.version} was trained on "
        f"{champion.feature_version} and cannot score them.",
    )


def _manual(inputs: PolicyInputs) -> TriggerFinding:
    because = (inputs.requested or "").strip()
    if because:
        end = "" if because[-1] in ".!?" else "."
        return TriggerFinding(RetrainingTrigger.MANUAL, True, f"Asked for by hand: {because}{end}")
    return TriggerFinding(RetrainingTrigger.MANUAL, False, "Nobody asked for it.")


def _missing_features(inputs: PolicyInputs) -> Iterator[Block]:
    """A feature that stopped arriving is a sick pipeline: training on it would teach the model the fault."""
    missing = [
        finding.feature
        for finding in (inputs.drift.findings if inputs.drift else ())
        if finding.status == "missing_feature"
    ]
    for feature in sorted(missing):
        yield Block(Guard.MISSING_FEATURE, f"{feature} has stopped arriving; mend the pipeline before retraining.")


def _sick_pipelines(inputs: PolicyInputs) -> Iterator[Block]:
    for incident in sorted(inputs.data_incidents, key=lambda incident: incident.incident_id):
        yield Block(
            Guard.DATA_INCIDENT,
            f"Incident {incident.incident_id} is open since {incident.opened_at:%Y-%m-%d %H:%M}Z: {incident.cause} in "
            f"{', '.join(incident.features)}. Ask {incident.owner}; if the change is genuine, "
            f"`skewless resolve-incident {incident.incident_id} --as genuine` lets retraining go on.",
        )


def _outcome(findings: Sequence[TriggerFinding], blocks: Sequence[Block]) -> Outcome:
    if blocks:
        return Outcome.BLOCKED
    if any(finding.fired for finding in findings):
        return Outcome.RETRAIN
    return Outcome.UNKNOWN if any(finding.fired is None for finding in findings) else Outcome.HOLD


def _reason(outcome: Outcome, findings: Sequence[TriggerFinding], blocks: Sequence[Block]) -> str:
    fired = [finding for finding in findings if finding.fired]
    evidence = " ".join(finding.evidence for finding in fired)
    unknown = " ".join(finding.evidence for finding in findings if finding.fired is None)
    if outcome is Outcome.RETRAIN:
        without_champion = fired[0].trigger is RetrainingTrigger.NO_MODEL
        return evidence if without_champion or not unknown else f"{evidence} Besides: {unknown}"
    if outcome is Outcome.BLOCKED:
        reasons = " ".join(block.reason for block in blocks)
        return f"Not retraining, although {fired[0].trigger} fired. {reasons} What fired: {evidence}"
    known = " ".join(finding.evidence for finding in findings if finding.trigger in SAID and finding.fired is False)
    if outcome is Outcome.UNKNOWN:
        return f"No trigger fired, but not all could be judged. {unknown} {known}".strip()
    return f"No trigger fired. {known}"


# What a decision to hold says; that there is a champion, of this definition, and that nobody asked goes without saying.
SAID = frozenset({
    RetrainingTrigger.PERFORMANCE,
    RetrainingTrigger.DRIFT,
    RetrainingTrigger.SCHEDULED,
    RetrainingTrigger.DATA_VOLUME,
})
