"""Inputs of the retraining policy: a calm day, one thing at a time on top of it, or anything; and what is decided."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from features.contract import RetrainingSettings, Severity
from features.retraining.decision import (
    Cadence,
    Champion,
    DataIncident,
    DriftFinding,
    DriftFindings,
    Guard,
    Performance,
    PolicyInputs,
    Retraining,
    RetrainingDecision,
    RetrainingTrigger,
)
from features.retraining.policy import RetrainingPolicy

AS_OF = datetime(2013, 7, 2, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
NO_MODEL, DEFINITION_CHANGED, PERFORMANCE, MANUAL, DRIFT, SCHEDULED, DATA_VOLUME = RetrainingTrigger

SETTINGS = RetrainingSettings(
    max_model_age=30,
    min_new_labels=5000,
    performance_drop=0.05,
    drift_severity=Severity.CRITICAL,
    min_recent_labels=500,
    min_labels_after_shift=500,
    labels_stale_after_days=14,
    drift_stale_after_hours=24,
    cooldown_hours=24,
    max_retrainings_in_30_days=8,
)
WARNING_IS_ENOUGH = SETTINGS.model_copy(update={"drift_severity": Severity.WARNING})
BY_BACKTEST = SETTINGS.model_copy(update={"max_model_age": "auto"})

# A champion of yesterday that does well, on data that look the same: nothing to do, and nothing unknown.
CALM = PolicyInputs(
    champion=Champion("3", AS_OF - DAY, 0.8, "v1"),
    feature_version="v1",
    drift=DriftFindings(AS_OF, (DriftFinding("a", "ok", Severity.NONE), DriftFinding("b", "ok", Severity.NONE))),
    performance=Performance(0.8, 0.78, 0.82, 1000),
    new_labels=100,
    newest_label=AS_OF,
)

SICK = DataIncident(7, "unit change", ("a", "b"), datetime(2013, 7, 1, 5, tzinfo=UTC), "Ann <ann@example.com>")


# What it decides on them.


def evaluate(inputs: PolicyInputs, settings: RetrainingSettings = SETTINGS) -> RetrainingDecision:
    return RetrainingPolicy(settings).evaluate(inputs, AS_OF)


def fired(decision: RetrainingDecision) -> dict[RetrainingTrigger, bool | None]:
    return {finding.trigger: finding.fired for finding in decision.triggers}


def evidence(decision: RetrainingDecision, trigger: RetrainingTrigger) -> str:
    return next(finding.evidence for finding in decision.triggers if finding.trigger is trigger)


def guards(decision: RetrainingDecision) -> list[Guard]:
    return [block.guard for block in decision.blocked_by]


# What can be the case, one thing at a time, each on top of what is the case already.


def aged(inputs: PolicyInputs = CALM, **age: float) -> PolicyInputs:
    assert inputs.champion is not None
    return replace(inputs, champion=replace(inputs.champion, trained_as_of=AS_OF - timedelta(**age)))


def drifted(*statuses: str, inputs: PolicyInputs = CALM, ago: timedelta = 0 * HOUR) -> PolicyInputs:
    """Features f0, f1 and so on of these statuses, and labels enough to learn what shifted."""
    severities = {"warning": Severity.WARNING, "critical": Severity.CRITICAL}
    findings = [
        DriftFinding(f"f{place}", status, severities.get(status, Severity.NONE))
        for place, status in enumerate(statuses)
    ]
    return replace(inputs, drift=DriftFindings(AS_OF - ago, findings), labels_since_shift=500)


def scored(
    metric: float, low: float | None = None, high: float | None = None, *, holdout: float = 0.8, labels: int = 1000
) -> PolicyInputs:
    """Without low and high, the interval has no width."""
    low, high = metric if low is None else low, metric if high is None else high
    assert CALM.champion is not None
    champion = replace(CALM.champion, holdout_metric=holdout)
    return replace(CALM, champion=champion, performance=Performance(metric, low, high, labels))


def labelled(count: int | None, inputs: PolicyInputs = CALM) -> PolicyInputs:
    return replace(inputs, new_labels=count)


def last_labelled(ago: timedelta | None, inputs: PolicyInputs = CALM) -> PolicyInputs:
    return replace(inputs, newest_label=None if ago is None else AS_OF - ago)


def redefined(inputs: PolicyInputs = CALM, version: str | None = "v2") -> PolicyInputs:
    return replace(inputs, feature_version=version)


def requested(inputs: PolicyInputs = CALM, why: str = "a new partner joins") -> PolicyInputs:
    return replace(inputs, requested=why)


def retrained(*ago: timedelta, version: str = "v1", inputs: PolicyInputs) -> PolicyInputs:
    earlier = [Retraining(AS_OF - each, version) for each in ago]
    return replace(inputs, retrainings=[*inputs.retrainings, *earlier])


# What makes each trigger fire, and nothing else; without a champion there is no other to judge.
FIRES: dict[RetrainingTrigger, Callable[[PolicyInputs], PolicyInputs]] = {
    NO_MODEL: lambda inputs: replace(inputs, champion=None),
    DEFINITION_CHANGED: redefined,
    PERFORMANCE: lambda inputs: replace(inputs, performance=Performance(0.5, 0.45, 0.55, 12_345)),
    MANUAL: requested,
    DRIFT: lambda inputs: drifted("ok", "critical", inputs=inputs),
    SCHEDULED: lambda inputs: aged(inputs, days=31),
    DATA_VOLUME: lambda inputs: labelled(9000, inputs),
}
OF_A_CHAMPION = [trigger for trigger in RetrainingTrigger if trigger is not NO_MODEL]


def firing(triggers: Sequence[RetrainingTrigger]) -> PolicyInputs:
    inputs = CALM
    for trigger in triggers:
        inputs = FIRES[trigger](inputs)
    return inputs


ALL = firing(OF_A_CHAMPION)
OVERDUE = firing([SCHEDULED])
SHIFTED = firing([DRIFT])
EIGHT = [day * DAY for day in range(2, 10)]


def with_missing_feature(inputs: PolicyInputs) -> PolicyInputs:
    assert inputs.drift is not None
    findings = inputs.drift.findings
    gone = DriftFinding("gone", "missing_feature", Severity.NONE)
    return replace(inputs, drift=DriftFindings(AS_OF, [*findings, gone]))


# Any inputs.

VERSIONS = st.sampled_from(["v1", "v2"])
STATUSES = ["ok", "warning", "critical", "insufficient_data", "missing_feature", "baseline_missing", "error"]
SHARES = st.floats(0, 1)


def hours_ago(earliest: int, latest: int = 0) -> st.SearchStrategy[datetime]:
    return st.integers(latest, earliest).map(lambda hours: AS_OF - hours * HOUR)


FINDINGS = st.lists(
    st.builds(DriftFinding, st.sampled_from("abcdef"), st.sampled_from(STATUSES), st.sampled_from(Severity)),
    max_size=4,
    unique_by=lambda finding: finding.feature,
)


def measured(shares: tuple[float, float, float], labels: int) -> Performance:
    low, metric, high = sorted(shares)
    return Performance(metric, low, high, labels)


MEASURED = st.builds(measured, st.tuples(SHARES, SHARES, SHARES), st.integers(0, 2000))
INPUTS = st.builds(
    PolicyInputs,
    champion=st.none()
    | st.builds(Champion, st.just("3"), hours_ago(60 * 24, -24), SHARES | st.just(math.nan), VERSIONS),
    feature_version=st.none() | VERSIONS,
    drift=st.none() | st.builds(DriftFindings, hours_ago(36), FINDINGS),
    performance=st.none() | st.just(Performance(math.nan, math.nan, math.nan, 0)) | MEASURED,
    new_labels=st.none() | st.integers(0, 10_000),
    newest_label=st.none() | hours_ago(20 * 24),
    labels_since_shift=st.none() | st.integers(0, 1000),
    data_incidents=st.lists(
        st.builds(replace, st.just(SICK), incident_id=st.integers(1, 9), owner=st.sampled_from(["Ann", "Bob"])),
        max_size=2,
        unique_by=lambda incident: incident.incident_id,
    ),
    retrainings=st.lists(st.builds(Retraining, hours_ago(40 * 24, -24), VERSIONS), max_size=10),
    in_flight=st.integers(0, 2),
    requested=st.none() | st.just("a new partner joins"),
    cadence=st.none() | st.builds(Cadence, st.integers(1, 90), hours_ago(24)),
)
