"""A model: its versions, how good each was when it was trained, how good it turned out, and what it was made from."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from features import champions, warehouse
from features.contract import Model, Valid
from features.drift.sources import PREDICTION
from features.errors import SkewlessError
from features.health.distribution import Distribution
from features.health.strayed import distribution_of

MOST_VERSIONS = 50
MOST_COHORTS = 400
PROBABILITY = Valid(minimum=0, maximum=1)


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval; None where it could not be measured."""

    estimate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Version:
    """A version that was trained.

    Attributes:
        state: champion, was champion, or refused by the gate.
        metric: on its holdout, by which it was judged.
        feature_version: the definition of the features it was trained on; None when its extract is not on record.
    """

    version: str
    state: str
    trained_as_of: datetime
    metric: Estimate
    train_rows: int
    holdout_rows: int
    extract_id: str
    feature_version: str | None
    reason: str


@dataclass(frozen=True)
class Measured:
    """One metric of a version's holdout."""

    name: str
    value: Estimate


@dataclass(frozen=True)
class CalibrationBin:
    """About a tenth of the holdout, by score."""

    mean_score: float
    share_true: float
    rows: int


@dataclass(frozen=True)
class Importance:
    """By how much the metric drops when the feature's values change places; None where it was not a number."""

    feature: str
    drop: float | None
    deviation: float | None


@dataclass(frozen=True)
class Slice:
    """The metric on a part of the holdout."""

    name: str
    rows: int
    value: Estimate


@dataclass(frozen=True)
class Check:
    """What the gate checked."""

    check: str
    passed: bool
    evidence: str


@dataclass(frozen=True)
class Extract:
    """The rows a version was made from; `make reproduce ID=` makes them again."""

    extract_id: str
    training_set: str
    feature_version: str
    as_of: datetime
    row_count: int
    row_checksum: str
    first_label_at: datetime | None
    last_label_at: datetime | None


@dataclass(frozen=True)
class Reign:
    """A time at which a version became champion."""

    since: datetime
    kind: str
    version: str
    replaced_version: str | None
    because: str


@dataclass(frozen=True)
class Cohort:
    """What a version said at one instant, as expected before labels and as it turned out."""

    cohort: datetime
    version: str
    scope: str
    predictions: int
    expected: Estimate
    labels: int | None
    turned_out: Estimate
    calibration_error: float | None


@dataclass(frozen=True)
class Chosen:
    """Everything about one version.

    Attributes:
        scores: of its holdout, and of the last window in which it scored, which ends at `scores_as_of`.
    """

    version: Version
    metrics: tuple[Measured, ...]
    simple: tuple[Measured, ...]
    calibration: tuple[CalibrationBin, ...]
    calibration_error: float | None
    importance: tuple[Importance, ...]
    slices: tuple[Slice, ...]
    checks: tuple[Check, ...]
    parameters: dict[str, Any]
    extract: Extract | None
    scores: Distribution | None
    scores_as_of: datetime | None


@dataclass(frozen=True)
class ModelPage:
    """The model, its versions newest first, and one of them in full.

    Attributes:
        minimum: of the metric, what the gate asks for.
        chosen: None before anything was trained.
        cohorts: oldest first.
    """

    model: str
    models: tuple[str, ...]
    description: str
    owner: str
    feature_view: str
    population: str
    label: str
    metric: str
    minimum: float
    can_go_back_to: tuple[str, ...]
    versions: tuple[Version, ...]
    chosen: Chosen | None
    reigns: tuple[Reign, ...]
    cohorts: tuple[Cohort, ...]


def model_page(
    connection: warehouse.Connection, model: Model, models: tuple[str, ...], version: str | None
) -> ModelPage:
    """The page of a model.

    Args:
        models: every model there is.
        version: which is shown in full; the champion, or else the newest, when it is None.

    Raises:
        SkewlessError: when the version was never trained.
    """
    line = champions.succession(champions.history(connection, model))
    champion = line[-1].version if line else None
    reigned = _reigns(connection, model)
    rows = _evaluations(connection, model)
    versions = tuple(_version(row, model, champion, {reign.version for reign in reigned}) for row in rows)
    return ModelPage(
        model=model.name,
        models=models,
        description=model.description,
        owner=model.owner,
        feature_view=model.feature_view.name,
        population=model.population,
        label=model.label,
        metric=model.promotion.metric,
        minimum=model.promotion.minimum,
        can_go_back_to=tuple(reign.version for reign in reversed(line[:-1])),
        versions=versions,
        chosen=_chosen(connection, model, versions, rows, version or champion),
        reigns=reigned,
        cohorts=_cohorts(connection, model),
    )


def _evaluations(connection: warehouse.Connection, model: Model) -> list[dict[str, Any]]:
    return connection.execute(
        """
        select evaluation.*, extract.feature_version as made_from
        from monitoring.model_evaluations as evaluation
        left join training.extracts as extract using (extract_id)
        where evaluation.model_name = %s
        order by evaluation.as_of desc, evaluation.evaluated_at desc
        limit %s
        """,
        [model.name, MOST_VERSIONS],
    ).fetchall()


def _version(row: Mapping[str, Any], model: Model, champion: str | None, reigned: set[str]) -> Version:
    number = row["model_version"]
    was = "was champion" if number in reigned else "refused"
    return Version(
        version=number,
        state="champion" if number == champion else was,
        trained_as_of=row["as_of"],
        metric=_judged_by(row, model.promotion.metric),
        train_rows=row["train_rows"],
        holdout_rows=row["holdout_rows"],
        extract_id=row["extract_id"],
        feature_version=row["made_from"],
        reason=row["reason"],
    )


def _judged_by(row: Mapping[str, Any], metric: str) -> Estimate:
    """With its interval where there is one; the oldest evaluations kept the number only."""
    found = ((row["evaluation"] or {}).get("metrics") or {}).get(metric)
    return _estimate(found) if found else Estimate(row["metrics"].get(metric), None, None)


def _estimate(found: Mapping[str, float | None]) -> Estimate:
    return Estimate(found["estimate"], found["low"], found["high"])


def _chosen(
    connection: warehouse.Connection,
    model: Model,
    versions: tuple[Version, ...],
    rows: list[dict[str, Any]],
    wanted: str | None,
) -> Chosen | None:
    if not versions:
        return None
    number = wanted or versions[0].version
    found = next((place for place, one in enumerate(versions) if one.version == number), None)
    if found is None:
        there = ", ".join(one.version for one in versions)
        raise SkewlessError(f"{model.name} has no version {number!r} among the last {MOST_VERSIONS}; it has {there}.")
    row, evaluation = rows[found], rows[found]["evaluation"] or {}
    return Chosen(
        version=versions[found],
        metrics=_measured(evaluation.get("metrics")),
        simple=_measured(evaluation.get("simple")),
        calibration=tuple(CalibrationBin(**each) for each in evaluation.get("calibration") or ()),
        calibration_error=evaluation.get("calibration_error"),
        importance=tuple(Importance(**each) for each in evaluation.get("importance") or ()),
        slices=tuple(
            Slice(each["name"], each["rows"], _estimate(each["metric"])) for each in evaluation.get("slices") or ()
        ),
        checks=tuple(Check(**each) for each in row["checks"] or ()),
        parameters=evaluation.get("parameters") or {},
        extract=_extract(connection, model, versions[found]),
        **_scores(connection, model, number),
    )


def _scores(connection: warehouse.Connection, model: Model, version: str) -> dict[str, Any]:
    """By the newest comparison of its scores with those of its holdout; of a day, where there is one."""
    report = connection.execute(
        """
        select *
        from monitoring.drift_reports
        where model_name = %s and feature = %s and model_version = %s
            and (source, segment, baseline) = ('snapshot', 'all', 'training') and baseline_id is not null
        order by as_of desc, abs(window_hours - 24)
        limit 1
        """,
        [model.name, PREDICTION, version],
    ).fetchone()
    found, _ = distribution_of(connection, report, PROBABILITY)
    return {"scores": found, "scores_as_of": report["as_of"] if report and found else None}


def _measured(found: Mapping[str, Mapping[str, float | None]] | None) -> tuple[Measured, ...]:
    return tuple(Measured(name, _estimate(each)) for name, each in sorted((found or {}).items()))


def _extract(connection: warehouse.Connection, model: Model, version: Version) -> Extract | None:
    row = connection.execute(
        """
        select
            extract.extract_id, extract.training_set, extract.feature_version, extract.as_of, extract.row_count,
            extract.row_checksum, baseline.first_label_at, baseline.last_label_at
        from training.extracts as extract
        left join monitoring.model_baselines as baseline
            on baseline.model_name = %(model)s and baseline.model_version = %(version)s
        where extract.extract_id = %(extract)s
        """,
        {"model": model.name, "version": version.version, "extract": version.extract_id},
    ).fetchone()
    return Extract(**row) if row else None


def _reigns(connection: warehouse.Connection, model: Model) -> tuple[Reign, ...]:
    """Newest first."""
    rows = connection.execute(
        "select since, kind, model_version as version, replaced_version, because from monitoring.champions"
        " where model_name = %s order by champion_id desc limit %s",
        [model.name, MOST_VERSIONS],
    )
    return tuple(Reign(**row) for row in rows)


def _cohorts(connection: warehouse.Connection, model: Model) -> tuple[Cohort, ...]:
    """One instant of each day and scope, oldest first: the newest that has labels, else the newest."""
    metric = model.promotion.metric  # one of three names, by the contract
    known_before = metric in {"roc_auc", "accuracy"}
    expected = f"estimated_{metric}" if known_before else "null::double precision"
    bounds = (f"estimated_{metric}_low", f"estimated_{metric}_high") if known_before else (expected, expected)
    rows = connection.execute(
        f"""
        select distinct on (date_trunc('day', cohort, 'UTC'), scope)
            cohort, model_version, scope, predictions, labels, calibration_error,
            {expected} as expected, {bounds[0]} as expected_low, {bounds[1]} as expected_high,
            {metric} as turned_out, {metric}_low as low, {metric}_high as high
        from monitoring.model_performance
        where model_name = %s and scope in ('batch', 'online')
        order by date_trunc('day', cohort, 'UTC') desc, scope, labels is null, cohort desc, model_version desc
        limit %s
        """,
        [model.name, MOST_COHORTS],
    ).fetchall()
    return tuple(
        Cohort(
            cohort=row["cohort"],
            version=row["model_version"],
            scope=row["scope"],
            predictions=row["predictions"],
            expected=Estimate(row["expected"], row["expected_low"], row["expected_high"]),
            labels=row["labels"],
            turned_out=Estimate(row["turned_out"], row["low"], row["high"]),
            calibration_error=row["calibration_error"],
        )
        for row in reversed(rows)
    )
