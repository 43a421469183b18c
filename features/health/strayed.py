"""How a feature strayed: what it looks like now, its effect over the months, its incidents, and what it would hide."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from features import warehouse
from features.contract import DriftSettings, Valid
from features.drift import baselines, store
from features.drift.decision import rate_floors
from features.drift.hours import HOUR, expected_of
from features.drift.profile import Profile
from features.drift.sketch import Sketch
from features.health.distribution import Distribution, distribution
from features.health.features import finite
from features.steps.watch import WORST_FIRST

COURSE = timedelta(days=90)
MOST_POINTS = 360
MOST_INCIDENTS = 100


@dataclass(frozen=True)
class Comparison:
    """Which of a feature's comparisons: values of a source in a window, of a segment, against a baseline."""

    source: str
    segment: str
    window_hours: int
    baseline: str


@dataclass(frozen=True)
class Point:
    """The worst report of some hours, and the largest share of missing values in them.

    Attributes:
        as_of: of that report.
        reports: how many it stands for.
        decided_by: what the effect is of: a distance, a share, Cohen's w squared.
        missing_floor: from where on missing values count, by the YAML; a restless feature's own is higher.
    """

    as_of: datetime
    reports: int
    status: str
    decided_by: str | None
    effect: float | None
    effect_low: float | None
    effect_high: float | None
    effect_floor: float | None
    critical_floor: float | None
    missing_rate: float | None
    baseline_missing_rate: float | None
    missing_floor: float | None


@dataclass(frozen=True)
class Incident:
    """An incident that the feature was part of.

    Attributes:
        state: open or closed.
        features: all that alarmed in it.
        sentence, because: what was seen of this feature, and what its cause was read from.
    """

    incident_id: int
    state: str
    severity: str
    cause: str
    upstream: str
    features: tuple[str, ...]
    opened_at: datetime
    last_alarm_at: datetime
    closed_at: datetime | None
    closed_because: str | None
    verdict: str | None
    verdict_note: str | None
    sentence: str
    because: str


@dataclass(frozen=True)
class SelfTest:
    """Whether a shift that was put into the feature's history was found; `none` is clean history."""

    injection: str
    hours: int
    alarms: int
    found_after_hours: int | None
    is_blind: bool
    detail: str
    as_of: datetime


def distribution_of(
    connection: warehouse.Connection, report: Mapping[str, Any] | None, valid: Valid
) -> tuple[Distribution | None, str | None]:
    """What a report compared, from the counts it was made from; or why there is nothing to show.

    Args:
        report: a row of monitoring.drift_reports.
    """
    if report is None:
        return None, "There is no report of this comparison."
    if report["baseline_id"] is None:
        return None, report["detail"]
    _, stored = baselines.baseline_by_id(connection, report["baseline_id"])
    as_of, length = report["as_of"], report["window_hours"] * HOUR
    sketches = store.read_sketches(
        connection,
        stored.grid_id,
        report["source"],
        report["source_version"],
        report["segment"],
        as_of - length,
        as_of,
    )
    grid = stored.baseline.grid
    total = Sketch.total(list(sketches.values()), grid)
    if not total.rows:
        return None, "The counts of this window are not kept any more, or it has none."
    expected = expected_of(stored.baseline, store.as_hours(sketches, {}))
    return distribution(expected, Profile.of(total), grid, valid), None


def course(
    connection: warehouse.Connection,
    model: str,
    feature: str,
    shown: Comparison,
    settings: DriftSettings,
    until: datetime,
) -> tuple[Point, ...]:
    """At most MOST_POINTS points of the 90 days until an instant, each the worst of its quarter day."""
    rows = connection.execute(
        """
        select distinct on (bucket)
            as_of, status, decided_by, effect, effect_low, effect_high, effect_floor, critical_floor,
            baseline_missing_rate,
            max(missing_rate) over (partition by bucket) as missing_rate,
            count(*) over (partition by bucket) as reports
        from (
            -- Before anything else is asked of them, so that they are read in the order in which they were written.
            select *, floor(extract(epoch from %(until)s - as_of) / %(step)s) as bucket
            from monitoring.drift_reports
            where model_name = %(model)s and feature = %(feature)s
                and as_of > %(until)s - %(course)s and as_of <= %(until)s
            offset 0
        ) as binned
        where source = %(source)s and segment = %(segment)s
            and window_hours = %(window)s and baseline = %(baseline)s
        order by
            bucket, array_position(%(worst_first)s::text[], status),
            effect_low / nullif(effect_floor, 0) desc nulls last,
            effect / nullif(effect_floor, 0) desc nulls last,
            as_of desc, reported_at desc
        """,
        {
            "model": model,
            "feature": feature,
            "until": until,
            "course": COURSE,
            "step": (COURSE / MOST_POINTS).total_seconds(),
            "source": shown.source,
            "segment": shown.segment,
            "window": shown.window_hours,
            "baseline": shown.baseline,
            "worst_first": [str(status) for status in WORST_FIRST],
        },
    )
    return tuple(sorted((_point(finite(row), settings) for row in rows), key=lambda point: point.as_of))


def _point(row: dict[str, Any], settings: DriftSettings) -> Point:
    return Point(**row, missing_floor=missing_floor(row["baseline_missing_rate"], settings))


def missing_floor(usual: float | None, settings: DriftSettings) -> float | None:
    """What `features.drift.decision` holds the share of missing values against, but for how a feature strays anyway."""
    return None if usual is None else rate_floors(usual, settings.missing_warning, settings.missing_critical)[0]


def incidents_of(connection: warehouse.Connection, model: str, feature: str) -> tuple[Incident, ...]:
    """Open ones first, then the newest."""
    rows = connection.execute(
        """
        select
            incident_id, case when closed_at is null then 'open' else 'closed' end as state, severity, cause, upstream,
            features, opened_at, last_alarm_at, closed_at, closed_because, verdict, verdict_note, findings
        from monitoring.drift_incidents
        where model_name = %s and %s = any(features)
        order by closed_at is not null, opened_at desc, incident_id desc
        limit %s
        """,
        [model, feature, MOST_INCIDENTS],
    )
    return tuple(_incident(row, feature) for row in rows)


def _incident(row: dict[str, Any], feature: str) -> Incident:
    findings = row.pop("findings")
    own: dict[str, str] = next((finding for finding in findings if finding["feature"] == feature), {})
    return Incident(
        **row | {"features": tuple(row["features"])},
        sentence=own.get("sentence", ""),
        because=own.get("because", ""),
    )


def self_tests_of(connection: warehouse.Connection, model: str, feature: str) -> tuple[SelfTest, ...]:
    """The newest; clean history first."""
    rows = connection.execute(
        """
        select injection, hours, alarms, found_after_hours, is_blind, detail, as_of
        from monitoring.drift_self_tests
        where model_name = %(model)s and feature = %(feature)s
            and as_of = (
                select max(as_of) from monitoring.drift_self_tests
                where model_name = %(model)s and feature = %(feature)s
            )
        order by injection <> 'none', injection
        limit 50
        """,
        {"model": model, "feature": feature},
    )
    return tuple(SelfTest(**row) for row in rows)
