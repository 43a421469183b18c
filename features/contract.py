"""The contract between dbt's YAML and everything in Python: what a feature view and a model may declare, strictly.

This module is load-bearing: Dags, drift, policy and training read the registry only through it, and a key it does not
know is refused with its file. It imports nothing else of this package but the error type, and nothing heavy, because
Dag files read it at parse time.
"""

import json
from datetime import timedelta
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from features.errors import SkewlessError

PACKAGE = "skewless"
T = TypeVar("T", bound=BaseModel)


class Severity(IntEnum):
    """How bad a finding is; ordered."""

    NONE = 0
    WARNING = 1
    CRITICAL = 2


def _severity(value: object) -> Severity:
    if isinstance(value, Severity):
        return value
    # Not `none`: every feature is at or above it, so it would call for a retraining each hour.
    if str(value).lower() not in {"warning", "critical"}:
        raise ValueError(f"{value!r} is neither warning nor critical")
    return Severity[str(value).upper()]


class Strict(BaseModel):
    """Unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DriftSettings(Strict):
    """config.meta.drift of a feature's column, or `off`: from where on a change matters.

    Floors are KS distances: 0.04 is a shift of about a tenth of a standard deviation, 0.10 of a quarter. Where values
    have no order they are changes of a category's share.

    Attributes:
        watch: whether it is watched at all; `drift: off` is short for `watch: false`.
        treat_as: categorical, for numbers that name things.
        direction: up or down, when only larger or only smaller values are bad news.
        missing_warning, missing_critical: by how much the share of missing values may rise.
    """

    watch: bool = True
    treat_as: Literal["numeric", "categorical"] | None = None
    direction: Literal["both", "up", "down"] = "both"
    warning_floor: float = Field(default=0.04, ge=0, le=1)
    critical_floor: float = Field(default=0.10, ge=0, le=1)
    missing_warning: float = Field(default=0.005, ge=0, le=1)
    missing_critical: float = Field(default=0.05, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        # YAML reads `off` as false.
        return {"watch": False} if value is False or value == "off" else value

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for warning, critical in (("warning_floor", "critical_floor"), ("missing_warning", "missing_critical")):
            if getattr(self, warning) > getattr(self, critical):
                raise ValueError(
                    f"{warning} {getattr(self, warning):g} is above {critical} {getattr(self, critical):g}; set both"
                )
        return self


class Valid(Strict):
    """config.meta.valid of a feature's column: the values it may have. Any other breaks the contract, be it one row."""

    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] | None = None


class Feature(Strict):
    """A column of a feature view whose config.meta says `feature: true`.

    Attributes:
        pii: whether its values tell who somebody is; then they are never written to the inference log.
    """

    name: str
    description: str
    data_type: str
    drift: DriftSettings = DriftSettings()
    valid: Valid = Valid()
    pii: bool = False


class Retention(Strict):
    """Which snapshots are kept: all of the last days, then the one at midnight (UTC), then none.

    Rows that a label trains on stay, and so does what is live. The others can be recomputed exactly.
    """

    every_hour_for_days: int = Field(default=7, ge=1)
    every_day_for_days: int = Field(default=90, ge=1)


class FeatureView(Strict):
    """A dbt model under models/features whose config.meta names an entity.

    Attributes:
        name: of its table. Versions of one dbt model are views of their own.
        entity: its key columns beside as_of.
        entity_types: their SQL types.
        expires_after: how long after as_of its snapshot counts as fresh, as PostgreSQL writes an interval.
        owner: whom to ask when what it delivers is wrong: its own, or that of its dbt group.
        audited_share: of the served rows, how many the parity gate recomputes; 1 is all.
        events: schema and name of the staging model it aggregates.
        serving: schema and name of the relation that serves its published snapshot; None when nothing does.
        training_sets: schema and name of each relation that trains on it.
    """

    name: str
    schema_name: str
    entity: tuple[str, ...]
    entity_types: tuple[str, ...]
    owner: str
    lookback_days: int
    expires_after: str
    audited_share: float
    retention: Retention
    features: tuple[Feature, ...]
    events: tuple[str, str]
    serving: tuple[str, str] | None
    training_sets: tuple[tuple[str, str], ...]

    @property
    def relation(self) -> tuple[str, str]:
        """Schema and table."""
        return self.schema_name, self.name

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Its features, in the order of the YAML."""
        return tuple(feature.name for feature in self.features)


class SearchSettings(Strict):
    """Which hyper-parameters are tried before a model is fitted.

    Attributes:
        parameters: the values to choose from, by parameter.
        candidates: how many combinations are tried at most, the declared parameters being the first. A budget in
            seconds would give another model on another machine.
        folds: how many spans of time each is judged on.
    """

    parameters: Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Field(min_length=1)]
    candidates: int = Field(default=12, ge=2)
    folds: int = Field(default=3, ge=1)


class TrainingSettings(Strict):
    """How a model is fitted: any scikit-learn classifier with probabilities, by its import path.

    Attributes:
        holdout_label_times: how many of the newest label times judge it.
        calibration: whether its probabilities are adjusted on label times that it was not fitted on, and how.
        calibration_label_times: how many of those before the holdout.
        recency_feature: of what the simplest model that is fitted beside it is made.
        seed: of everything that is random.
    """

    estimator: str = "sklearn.ensemble.HistGradientBoostingClassifier"
    parameters: dict[str, Any] = {}
    holdout_label_times: int = Field(default=4, ge=1)
    search: SearchSettings | None = None
    calibration: Literal["none", "sigmoid", "isotonic"] = "none"
    calibration_label_times: int = Field(default=2, ge=1)
    recency_feature: str | None = None
    seed: int = Field(default=0, ge=0)


class CostSettings(Strict):
    """What retraining and not retraining cost, in one currency of your choice.

    Attributes:
        training: of one, with everything it entails.
        loss_per_day: of a day at which the log loss is 1 higher than that of a fresh model.
    """

    training: float = Field(gt=0)
    loss_per_day: float = Field(gt=0)


class ApprovalSettings(Strict):
    """A person says yes before training starts.

    Attributes:
        timeout_hours: after which no answer is a no.
        approvers: ids of Airflow users; by default everybody who may answer.
    """

    timeout_hours: int = Field(default=24, ge=1)
    approvers: tuple[str, ...] = ()


class RetrainingSettings(Strict):
    """When a model is retrained.

    Attributes:
        max_model_age: in days, or `auto`: as old as the decay backtest says.
        min_new_labels: matured since the champion was trained.
        performance_drop: relative to the champion's holdout; the whole confidence interval has to be below.
        confidence: of that interval.
        drift_severity: from which severity on drift calls for a retraining.
        min_recent_labels: fewer say nothing about performance.
        min_labels_after_shift: fewer cannot teach what drift alone calls for.
        labels_stale_after_days: without a newly matured label, what is known of labels is out of date.
        drift_stale_after_hours: likewise for drift reports.
        cooldown_hours: between two retrainings on the same definition of the features.
        max_retrainings_in_30_days: the budget.
        staleness_tolerance: what a model may lose by age, as a share of a fresh model's log loss, where costs are not
            given; `auto` and the decay backtest use it.
        costs: what the cadence minimises, if given.
        approval: whether a person is asked.
    """

    max_model_age: Annotated[int, Field(ge=1)] | Literal["auto"] = 30
    min_new_labels: int = Field(default=5000, ge=1)
    performance_drop: float = Field(default=0.05, gt=0, lt=1)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    drift_severity: Annotated[Severity, BeforeValidator(_severity)] = Severity.CRITICAL
    min_recent_labels: int = Field(default=500, ge=2)
    min_labels_after_shift: int = Field(default=500, ge=1)
    labels_stale_after_days: int = Field(default=14, ge=1)
    drift_stale_after_hours: int = Field(default=24, ge=0)
    cooldown_hours: int = Field(default=24, ge=0)
    max_retrainings_in_30_days: int = Field(default=8, ge=1)
    staleness_tolerance: float = Field(default=0.02, gt=0)
    costs: CostSettings | None = None
    approval: ApprovalSettings | None = None


class PromotionSettings(Strict):
    """When a freshly trained challenger becomes champion.

    Attributes:
        minimum: of the metric, on the holdout.
        tolerance: the lower confidence bound of challenger minus champion has to exceed its negative.
        slice_tolerance: a fall of the metric on a segment by as much is refused, unless it may be chance.
        slice_minimum: of the metric on each segment.
        confidence: of the intervals.
        max_score_shift: between the mean scores of the last snapshot.
        min_rank_agreement: Spearman's correlation of the two models' scores of the last snapshot.
    """

    metric: Literal["roc_auc", "average_precision", "accuracy"] = "roc_auc"  # of what is measured, those to maximise
    minimum: float = 0.5
    tolerance: float = Field(default=0.0, ge=0)
    slice_tolerance: float = Field(default=0.05, ge=0)
    slice_minimum: float = 0.5
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    max_score_shift: float = Field(default=0.1, gt=0, le=1)
    min_rank_agreement: float = Field(default=0.5, ge=-1, le=1)


class EmailSettings(Strict):
    """Whom to write to, through an Airflow connection of type smtp."""

    connection: str
    to: Annotated[tuple[str, ...], Field(min_length=1)]


class NotifySettings(Strict):
    """Who is told of incidents; by Airflow connections, none of which is needed."""

    slack_webhook: str | None = None
    email: EmailSettings | None = None


class MonitoringSettings(Strict):
    """config.meta.monitoring of an exposure: how its inputs, predictions and labels are watched.

    Attributes:
        false_alarms_per_week: expected at most over all that is watched of the model; every threshold follows from it.
        windows_hours: how far back each comparison looks.
        segments: parts of the population that are watched by themselves, each a SQL condition on the features.
        prediction, label: as a feature's `drift`.
        remind_after_hours: an incident that stays open is told of again, then after twice as long, and so on.
        keep_reports_days: after which reports that found nothing are deleted; those of drift stay.
        keep_sketches_days: after which hourly counts are deleted, and no rule can be replayed on them any more.
    """

    false_alarms_per_week: float = Field(default=0.5, gt=0)
    windows_hours: Annotated[tuple[Annotated[int, Field(ge=1, le=168)], ...], Field(min_length=1)] = (1, 6, 24, 168)
    segments: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], str] = {}
    prediction: DriftSettings = DriftSettings()
    label: DriftSettings = DriftSettings()
    remind_after_hours: int = Field(default=24, ge=1)
    keep_reports_days: int = Field(default=90, ge=7)
    keep_sketches_days: int = Field(default=365, ge=35)
    notify: NotifySettings = NotifySettings()

    @model_validator(mode="after")
    def _no_name_twice(self) -> Self:
        if "all" in self.segments:
            raise ValueError("segments: `all` is the whole population; give this one another name")
        if len(set(self.windows_hours)) < len(self.windows_hours):
            raise ValueError("windows_hours: a window is listed twice")
        return self


class InferenceSettings(Strict):
    """config.meta.inference of an exposure: what is logged of what the model is asked, and for how long.

    Attributes:
        log_share: of the requests of services.
        batch_log_share: of the entities that are scored with a snapshot; `serving.predictions` has all of them.
        keep_log_days: after which logged requests are deleted.
        keep_predictions_days: after which `serving.predictions` are; those whose labels may still come home stay.
    """

    log_share: float = Field(default=1.0, gt=0, le=1)
    batch_log_share: float = Field(default=0.1, gt=0, le=1)
    keep_log_days: int = Field(default=90, ge=1)
    keep_predictions_days: int = Field(default=90, ge=1)


class Model(Strict):
    """An exposure of type ml.

    Attributes:
        population: whom the model is for, as a SQL condition on the features.
        label_horizon: from label_at until the outcome is known.
    """

    name: str
    description: str
    owner: str
    entity: tuple[str, ...]
    feature_view: FeatureView
    labels: str
    training_set: tuple[str, str]
    label: str
    population: str
    label_horizon: timedelta
    training: TrainingSettings
    retraining: RetrainingSettings
    promotion: PromotionSettings
    monitoring: MonitoringSettings = MonitoringSettings()
    inference: InferenceSettings = InferenceSettings()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The inputs, in the order of the feature view."""
        return self.feature_view.feature_names


def _columns(value: object) -> object:
    return (value,) if isinstance(value, str) else value


# One column, or a list of them.
Entity = Annotated[tuple[str, ...], BeforeValidator(_columns), Field(min_length=1)]


class ExposureMeta(Strict):
    """config.meta of an exposure of type ml."""

    entity: Entity
    feature_view: str
    labels: str
    training_set: str
    label: str
    population: str = "true"
    training: TrainingSettings = TrainingSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    promotion: PromotionSettings = PromotionSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    inference: InferenceSettings = InferenceSettings()


class FeatureViewMeta(Strict):
    """config.meta of a feature view."""

    entity: Entity
    owner: str | None = None
    lookback_days: int = Field(ge=1)
    expires_after: str
    audited_share: float = Field(default=1.0, gt=0, le=1)
    retention: Retention = Retention()


class ColumnMeta(Strict):
    """config.meta of a column."""

    feature: bool = False
    drift: DriftSettings = DriftSettings()
    valid: Valid = Valid()
    pii: bool = False


class LabelMeta(Strict):
    """config.meta of a label model: when its labels mature, and what its own SQL wants to know."""

    horizon_days: int = Field(ge=1)
    grace_days: int = Field(default=0, ge=0)
    parameters: dict[str, Any] = {}


class Contract(Strict):
    """Everything that dbt's YAML declares for Skewless."""

    feature_views: dict[str, FeatureView]
    models: dict[str, Model]

    def feature_view(self, name: str) -> FeatureView:
        """The feature view of that name.

        Raises:
            SkewlessError: naming the feature views there are.
        """
        if name not in self.feature_views:
            raise SkewlessError(
                f"There is no feature view {name!r}; dbt declares {', '.join(self.feature_views) or 'none'}."
            )
        return self.feature_views[name]

    def model(self, name: str) -> Model:
        """The model of that name.

        Raises:
            SkewlessError: naming the models there are.
        """
        if name not in self.models:
            raise SkewlessError(
                f"No model {name!r} is declared; dbt's exposures declare {', '.join(self.models) or 'none'}."
            )
        return self.models[name]


def read_contract(manifest: Path) -> Contract:
    """The contract in dbt's manifest.

    Raises:
        SkewlessError: when there is no manifest, or naming the file and key of a mistake in the YAML.
    """
    try:
        modified = manifest.stat().st_mtime_ns
    except FileNotFoundError:
        raise SkewlessError(f"{manifest} does not exist. Run `make manifest` (dbt parse) to write it.") from None
    return _read(manifest, modified)


@cache
def _read(manifest: Path, modified: int) -> Contract:
    try:
        parsed = json.loads(manifest.read_text())
    except json.JSONDecodeError as error:
        raise SkewlessError(f"{manifest} is not whole: {error}. Run `make manifest` to write it again.") from error
    nodes = {
        node["alias"]: node
        for node in parsed["nodes"].values()
        if node["resource_type"] == "model" and node["package_name"] == PACKAGE
    }
    owners = {group["name"]: _owner(group["owner"]) for group in parsed["groups"].values()}
    views = {
        name: _feature_view(node, nodes, owners)
        for name, node in sorted(nodes.items())  # dbt's own order changes with what it parsed last
        if "entity" in node["config"].get("meta", {})
    }
    exposures = [exposure for exposure in parsed["exposures"].values() if exposure["type"] == "ml"]
    models = {exposure["name"]: _model(exposure, views, nodes) for exposure in exposures}
    return Contract(feature_views=views, models=models)


def _checked(kind: type[T], meta: dict[str, Any], where: str) -> T:
    try:
        return kind.model_validate(meta)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise SkewlessError(f"{where}: config.meta.{key}: {first['msg'].removeprefix('Value error, ')}.") from error


def _where(node: dict[str, Any]) -> str:
    return f"{(node['patch_path'] or node['original_file_path']).split('://')[-1]}: {node['name']}"


def _owner(owner: dict[str, Any]) -> str:
    """Name and address, as far as they are given."""
    name, email = owner.get("name"), owner.get("email")
    return f"{name} <{email}>" if name and email else str(name or email)


def _feature_view(node: dict[str, Any], nodes: dict[str, dict[str, Any]], owners: dict[str, str]) -> FeatureView:
    where = _where(node)
    meta = _checked(FeatureViewMeta, node["config"]["meta"], where)
    owner = meta.owner or owners.get(node["config"].get("group") or "")
    if not owner:
        raise SkewlessError(f"{where}: config.meta.owner: it has none, and is in no dbt group that has one.")
    for column in meta.entity:
        if not node["columns"].get(column, {}).get("data_type"):
            raise SkewlessError(f"{where}.{column}: a column of the entity needs an entry with a data_type.")
    events = [_relation(parent) for parent in _parents(node, nodes) if _layer(parent) == "staging"]
    if len(events) != 1:
        raise SkewlessError(f"{where}: it reads {len(events)} staging models; a feature view reads one.")
    readers = [reader for reader in nodes.values() if node["unique_id"] in reader["depends_on"]["nodes"]]
    serving = [_relation(reader) for reader in readers if _layer(reader) == "serving"]
    if len(serving) > 1:
        names = ", ".join(name for _, name in serving)
        raise SkewlessError(f"{where}: {names} serve it; one serving model does, and others select from that.")
    return FeatureView(
        name=node["alias"],
        schema_name=node["schema"],
        entity=meta.entity,
        entity_types=tuple(node["columns"][column]["data_type"] for column in meta.entity),
        owner=owner,
        lookback_days=meta.lookback_days,
        expires_after=meta.expires_after,
        audited_share=meta.audited_share,
        retention=meta.retention,
        features=_features(node, where),
        events=events[0],
        serving=serving[0] if serving else None,
        training_sets=tuple(_relation(reader) for reader in readers if _layer(reader) == "training"),
    )


def _features(node: dict[str, Any], where: str) -> tuple[Feature, ...]:
    features = []
    for column in node["columns"].values():
        column_meta = _checked(ColumnMeta, column.get("config", {}).get("meta", {}), f"{where}.{column['name']}")
        if column_meta.feature:
            if not column["data_type"]:
                raise SkewlessError(f"{where}.{column['name']}: a feature needs a data_type.")
            features.append(
                Feature(
                    name=column["name"],
                    description=column["description"],
                    data_type=column["data_type"],
                    drift=column_meta.drift,
                    valid=column_meta.valid,
                    pii=column_meta.pii,
                )
            )
    if not features:
        raise SkewlessError(f"{where}: no column says config.meta.feature: true.")
    return tuple(features)


def _relation(node: dict[str, Any]) -> tuple[str, str]:
    return node["schema"], node["alias"]


def _layer(node: dict[str, Any]) -> str:
    """The folder under models/ that a model lives in."""
    return str(node["fqn"][1])


def _parents(node: dict[str, Any], nodes: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [parent for parent in nodes.values() if parent["unique_id"] in node["depends_on"]["nodes"]]


def _model(exposure: dict[str, Any], views: dict[str, FeatureView], nodes: dict[str, dict[str, Any]]) -> Model:
    where = f"{exposure['original_file_path']}: {exposure['name']}"
    meta = _checked(ExposureMeta, exposure["config"].get("meta", {}), where)
    if meta.feature_view not in views:
        raise SkewlessError(f"{where}: config.meta.feature_view: there is no feature view {meta.feature_view!r}.")
    if meta.entity != views[meta.feature_view].entity:
        of_view = ", ".join(views[meta.feature_view].entity)
        raise SkewlessError(f"{where}: config.meta.entity: the entity of {meta.feature_view} is {of_view}.")
    for key, name in (("labels", meta.labels), ("training_set", meta.training_set)):
        if name not in nodes:
            raise SkewlessError(f"{where}: config.meta.{key}: there is no dbt model {name!r}.")
    label = _checked(LabelMeta, nodes[meta.labels]["config"]["meta"], _where(nodes[meta.labels]))
    matures_after = label.horizon_days + label.grace_days
    kept = views[meta.feature_view].retention.every_hour_for_days
    if kept <= matures_after:
        raise SkewlessError(
            f"{where}: its labels mature after {matures_after} days, and {meta.feature_view} keeps every snapshot for "
            f"{kept}: the row that served a label would be thinned out before the label trains. Set "
            f"config.meta.retention.every_hour_for_days of {meta.feature_view} to {matures_after + 1} or more."
        )
    if meta.inference.keep_log_days <= matures_after:
        raise SkewlessError(
            f"{where}: config.meta.inference.keep_log_days: its labels mature after {matures_after} days, and logged "
            f"requests are deleted after {meta.inference.keep_log_days}: none would meet its label. Set it to "
            f"{matures_after + 1} or more."
        )
    recency = meta.training.recency_feature
    if recency is not None and recency not in views[meta.feature_view].feature_names:
        raise SkewlessError(f"{where}: config.meta.training.recency_feature: {recency!r} is no feature of the view.")
    return Model(
        name=exposure["name"],
        description=exposure["description"],
        owner=_owner(exposure["owner"]),
        entity=meta.entity,
        feature_view=views[meta.feature_view],
        labels=meta.labels,
        training_set=(nodes[meta.training_set]["schema"], meta.training_set),
        label=meta.label,
        population=meta.population,
        label_horizon=timedelta(days=label.horizon_days),
        training=meta.training,
        retraining=meta.retraining,
        promotion=meta.promotion,
        monitoring=meta.monitoring,
        inference=meta.inference,
    )
