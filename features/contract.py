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
    """config.meta.drift of a feature's column: the KS distance below which a difference does not matter.

    A KS distance of 0.04 is a shift of about a tenth of a standard deviation, 0.10 of a quarter.
    """

    warning_floor: float = Field(default=0.04, ge=0, le=1)
    critical_floor: float = Field(default=0.10, ge=0, le=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.warning_floor > self.critical_floor:
            raise ValueError(
                f"warning_floor {self.warning_floor:g} is above critical_floor {self.critical_floor:g}; set both"
            )
        return self


class Feature(Strict):
    """A column of a feature view whose config.meta says `feature: true`."""

    name: str
    description: str
    data_type: str
    drift: DriftSettings = DriftSettings()


class FeatureView(Strict):
    """A dbt model under models/features whose config.meta names an entity.

    Attributes:
        entity: its key column beside as_of.
        expires_after: how long after as_of its snapshot counts as fresh, as PostgreSQL writes an interval.
    """

    name: str
    schema_name: str
    entity: str
    expires_after: str
    features: tuple[Feature, ...]

    @property
    def relation(self) -> tuple[str, str]:
        """Schema and table."""
        return self.schema_name, self.name


class TrainingSettings(Strict):
    """How a model is fitted: any scikit-learn estimator by its import path."""

    estimator: str
    parameters: dict[str, Any] = {}
    holdout_label_times: int = Field(default=4, ge=1)


class RetrainingSettings(Strict):
    """When a model is retrained."""

    max_model_age_days: int = Field(default=30, ge=1)
    min_new_labels: int = Field(default=5000, ge=1)
    performance_drop: float = Field(default=0.05, gt=0, lt=1)
    drift_severity: Annotated[Severity, BeforeValidator(_severity)] = Severity.CRITICAL


class PromotionSettings(Strict):
    """When a freshly trained challenger becomes champion."""

    metric: Literal["roc_auc", "average_precision", "accuracy"] = "roc_auc"  # of what is measured, those to maximise
    minimum: float = 0.5
    tolerance: float = Field(default=0.0, ge=0)


class Model(Strict):
    """An exposure of type ml.

    Attributes:
        population: whom the model is for, as a SQL condition on the features.
        label_horizon: from label_at until the outcome is known.
    """

    name: str
    description: str
    owner: str
    entity: str
    feature_view: FeatureView
    labels: str
    training_set: tuple[str, str]
    label: str
    population: str
    label_horizon: timedelta
    training: TrainingSettings
    retraining: RetrainingSettings
    promotion: PromotionSettings

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The inputs, in the order of the feature view."""
        return tuple(feature.name for feature in self.feature_view.features)


class ExposureMeta(Strict):
    """config.meta of an exposure of type ml."""

    entity: str
    feature_view: str
    labels: str
    training_set: str
    label: str
    population: str = "true"
    training: TrainingSettings
    retraining: RetrainingSettings = RetrainingSettings()
    promotion: PromotionSettings = PromotionSettings()


class FeatureViewMeta(Strict):
    """config.meta of a feature view."""

    entity: str
    expires_after: str = "3 hours"


class ColumnMeta(Strict):
    """config.meta of a column."""

    feature: bool = False
    drift: DriftSettings = DriftSettings()


class LabelMeta(Strict):
    """config.meta of a label model."""

    anchor: str
    every_days: int = Field(ge=1)
    active_within_days: int = Field(ge=1)
    warm_up_days: int = Field(ge=0)
    horizon_days: int = Field(ge=1)
    grace_days: int = Field(ge=0)


class Contract(Strict):
    """Everything that dbt's YAML declares for Skewless."""

    feature_views: dict[str, FeatureView]
    models: dict[str, Model]

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
        node["name"]: node
        for node in parsed["nodes"].values()
        if node["resource_type"] == "model" and node["package_name"] == PACKAGE
    }
    views = {name: _feature_view(node) for name, node in nodes.items() if "entity" in node["config"].get("meta", {})}
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


def _feature_view(node: dict[str, Any]) -> FeatureView:
    where = _where(node)
    meta = _checked(FeatureViewMeta, node["config"]["meta"], where)
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
                )
            )
    if not features:
        raise SkewlessError(f"{where}: no column says config.meta.feature: true.")
    return FeatureView(
        name=node["name"],
        schema_name=node["schema"],
        entity=meta.entity,
        expires_after=meta.expires_after,
        features=tuple(features),
    )


def _model(exposure: dict[str, Any], views: dict[str, FeatureView], nodes: dict[str, dict[str, Any]]) -> Model:
    where = f"{exposure['original_file_path']}: {exposure['name']}"
    meta = _checked(ExposureMeta, exposure["config"].get("meta", {}), where)
    if meta.feature_view not in views:
        raise SkewlessError(f"{where}: config.meta.feature_view: there is no feature view {meta.feature_view!r}.")
    for key, name in (("labels", meta.labels), ("training_set", meta.training_set)):
        if name not in nodes:
            raise SkewlessError(f"{where}: config.meta.{key}: there is no dbt model {name!r}.")
    label = _checked(LabelMeta, nodes[meta.labels]["config"]["meta"], _where(nodes[meta.labels]))
    return Model(
        name=exposure["name"],
        description=exposure["description"],
        owner=exposure["owner"].get("name") or exposure["owner"]["email"],
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
    )
