"""One feature of a model: what it is, what it looks like beside its baseline, how it strayed, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from features import warehouse
from features.contract import Contract, DriftSettings, Feature, Model, Valid
from features.drift.report import WHOLE
from features.drift.sources import LABEL, PREDICTION
from features.errors import SkewlessError
from features.health.distribution import Distribution
from features.health.features import Finding, chosen_model, finite
from features.health.strayed import (
    Comparison,
    Incident,
    Point,
    SelfTest,
    course,
    distribution_of,
    incidents_of,
    self_tests_of,
)

# Preferred when nobody says which window: it holds every time of the day.
WINDOW = 24
BASELINES = ("training", "serving")
# Where values are read, the first that reported being shown.
SOURCES = ("snapshot", "labels", "inference_log")
MOST_VERSIONS = 20


@dataclass(frozen=True)
class Report:
    """A comparison, what was found, and the statistics.

    Attributes:
        ks_statistic: on the cells' edges; the exact one is not larger than ks_at_most.
        wasserstein: in units of the feature.
    """

    comparison: Comparison
    finding: Finding
    training_mean: float | None
    serving_mean: float | None
    training_std: float | None
    serving_std: float | None
    ks_statistic: float | None
    ks_at_most: float | None
    psi: float | None
    wasserstein: float | None


@dataclass(frozen=True)
class Declared:
    """What dbt's YAML says of a feature.

    Attributes:
        settings: how it is watched; floors are KS distances, or changes of a share.
    """

    description: str
    data_type: str
    owner: str
    settings: DriftSettings
    valid: Valid
    pii: bool


@dataclass(frozen=True)
class Definition:
    """A definition of the feature view; `sql` is what dbt compiled of its model."""

    feature_version: str
    first_built_at: datetime
    last_built_at: datetime
    sql: str


@dataclass(frozen=True)
class UsedBy:
    """Who reads the view.

    Attributes:
        models: their names.
        training_sets, serving: relations.
    """

    models: tuple[str, ...]
    training_sets: tuple[str, ...]
    serving: str | None


@dataclass(frozen=True)
class FeaturePage:
    """Everything known of a feature.

    Attributes:
        name: the feature's, or (prediction), or (label).
        definitions: of its view, the newest first; none of scores and labels.
        as_of: of the newest reports; None before the first.
        reports: the newest ones, the shortest window first.
        shown: the comparison that the charts are of, and its report if there is one.
        windows, segments, sources: to choose from.
        distribution: of `shown`; None where `no_distribution` says why.
        course: of `shown` over the last 90 days.
    """

    model: str
    models: tuple[str, ...]
    name: str
    feature_view: str
    declared: Declared
    definitions: tuple[Definition, ...]
    used_by: UsedBy
    as_of: datetime | None
    reports: tuple[Report, ...]
    shown: Comparison
    report: Report | None
    windows: tuple[int, ...]
    segments: tuple[str, ...]
    sources: tuple[str, ...]
    distribution: Distribution | None
    no_distribution: str | None
    course: tuple[Point, ...]
    incidents: tuple[Incident, ...]
    self_tests: tuple[SelfTest, ...]


def feature_page(
    connection: warehouse.Connection,
    contract: Contract,
    model_name: str | None,
    name: str,
    *,
    window: int | None = None,
    baseline: str | None = None,
    segment: str | None = None,
    source: str | None = None,
) -> FeaturePage:
    """A feature of a model.

    Args:
        window, baseline, segment, source: the comparison that is shown; what is not said is chosen from those that the
            newest reports are of.

    Raises:
        SkewlessError: when the model has no such feature, or no such comparison; naming those there are.
    """
    model = chosen_model(contract, model_name)
    declared = _declared(model, name)
    is_feature = name not in {PREDICTION, LABEL}
    rows = _newest_reports(connection, model, name)
    reports = tuple(_report(row) for row in rows)
    shown = _comparison(model, reports, Comparison(source or "", segment or "", window or 0, baseline or ""))
    place = next((place for place, report in enumerate(reports) if report.comparison == shown), None)
    picture, why_not = distribution_of(connection, rows[place] if place is not None else None, declared.valid)
    as_of = rows[0]["as_of"] if rows else None
    return FeaturePage(
        model=model.name,
        models=tuple(contract.models),
        name=name,
        feature_view=model.feature_view.name,
        declared=declared,
        definitions=_definitions(connection, model) if is_feature else (),
        used_by=_used_by(contract, model) if is_feature else UsedBy((model.name,), (), None),
        as_of=as_of,
        reports=reports,
        shown=shown,
        report=reports[place] if place is not None else None,
        windows=model.monitoring.windows_hours,
        segments=(WHOLE, *model.monitoring.segments),
        sources=tuple(dict.fromkeys(report.comparison.source for report in reports)),
        distribution=picture,
        no_distribution=why_not,
        course=course(connection, model.name, name, shown, declared.settings, as_of) if as_of else (),
        incidents=incidents_of(connection, model.name, name),
        self_tests=self_tests_of(connection, model.name, name),
    )


def _declared(model: Model, name: str) -> Declared:
    features = {feature.name: feature for feature in model.feature_view.features}
    score = Valid(minimum=0, maximum=1)
    features[PREDICTION] = Feature(
        name=PREDICTION,
        description="What the champion says: its score of each entity of the snapshot.",
        data_type="double precision",
        drift=model.monitoring.prediction,
        valid=score,
    )
    features[LABEL] = Feature(
        name=LABEL,
        description=f"What became of them: {model.label} of {model.labels}, in the hour in which it matured.",
        data_type="boolean",
        drift=model.monitoring.label,
    )
    if name not in features:
        raise SkewlessError(f"{model.name} has no feature {name[:80]!r}; it has {', '.join(features)}.")
    found = features[name]
    owner = model.owner if name in {PREDICTION, LABEL} else model.feature_view.owner
    return Declared(found.description, found.data_type, owner, found.drift, found.valid, found.pii)


def _used_by(contract: Contract, model: Model) -> UsedBy:
    view = model.feature_view
    return UsedBy(
        models=tuple(each.name for each in contract.models.values() if each.feature_view.name == view.name),
        training_sets=tuple(".".join(relation) for relation in view.training_sets),
        serving=".".join(view.serving) if view.serving else None,
    )


def _newest_reports(connection: warehouse.Connection, model: Model, name: str) -> list[dict[str, Any]]:
    """Of several versions of the model those of the one that was looked at last."""
    rows = connection.execute(
        """
        select *
        from monitoring.drift_reports
        where model_name = %(model)s and feature = %(feature)s
            and as_of = (
                select max(as_of) from monitoring.drift_reports where model_name = %(model)s and feature = %(feature)s
            )
        order by window_hours, baseline desc, segment <> %(whole)s, segment, source
        limit 1000
        """,
        {"model": model.name, "feature": name, "whole": WHOLE},
    ).fetchall()
    newest = max(rows, key=lambda row: row["reported_at"], default=None)
    return [row for row in rows if newest and row["model_version"] == newest["model_version"]]


FOUND = tuple(Finding.__dataclass_fields__)
STATISTICS = tuple(name for name in Report.__dataclass_fields__ if name not in {"comparison", "finding"})
COMPARED = tuple(Comparison.__dataclass_fields__)


def _report(row: dict[str, Any]) -> Report:
    row = finite(row)
    return Report(
        comparison=Comparison(**{name: row[name] for name in COMPARED}),
        finding=Finding(**{name: row[name] for name in FOUND}),
        **{name: row[name] for name in STATISTICS},
    )


def _comparison(model: Model, reports: Sequence[Report], asked: Comparison) -> Comparison:
    """The one asked for; what was not said, so that a report has it, and best one that could be judged."""
    segments = (WHOLE, *model.monitoring.segments)
    for value, known, what in (
        (asked.window_hours, model.monitoring.windows_hours, "hours are no window"),
        (asked.segment, segments, "is no segment"),
        (asked.baseline, BASELINES, "is no baseline"),
        (asked.source, SOURCES, "is no source"),
    ):
        if value and value not in known:
            raise SkewlessError(f"{value} {what} of {model.name}; there are {', '.join(map(str, known))}.")
    windows = model.monitoring.windows_hours
    wanted = Comparison(SOURCES[0], WHOLE, WINDOW if WINDOW in windows else windows[0], BASELINES[0])
    fitting = [report for report in reports if _fits(report.comparison, asked)]
    if fitting:
        return min(fitting, key=lambda report: _strangeness(report, wanted)).comparison
    return Comparison(*(getattr(asked, name) or getattr(wanted, name) for name in COMPARED))


def _fits(found: Comparison, asked: Comparison) -> bool:
    return all(getattr(asked, name) in {getattr(found, name), "", 0} for name in COMPARED)


def _strangeness(report: Report, wanted: Comparison) -> tuple[Any, ...]:
    """Everybody before a segment, what could be compared before what could not, then the usual window and baseline."""
    found = report.comparison
    return (
        SOURCES.index(found.source) if found.source in SOURCES else len(SOURCES),
        found.segment != WHOLE,
        report.finding.effect is None,
        found.window_hours != wanted.window_hours,
        found.window_hours,
        found.baseline != wanted.baseline,
    )


def _definitions(connection: warehouse.Connection, model: Model) -> tuple[Definition, ...]:
    rows = connection.execute(
        """
        select feature_version, first_built_at, last_built_at, definition as sql
        from features.feature_versions
        where feature_view = %s
        order by last_built_at desc, first_built_at desc
        limit %s
        """,
        [model.feature_view.name, MOST_VERSIONS],
    )
    return tuple(Definition(**row) for row in rows)
