"""Experiments and the model registry: MLflow. The alias `champion` names the version in production."""

import os
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

from features import training
from features.contract import Model

CHAMPION = "champion"
CHALLENGER = "challenger"
NOT_FOUND = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


@dataclass(frozen=True)
class Version:
    """A registered version of a model.

    Attributes:
        trained_as_of: the instant whose knowledge it was trained on.
        feature_version: the definition of the features it was trained on.
        metrics: on its holdout.
    """

    number: str
    trained_as_of: datetime
    feature_version: str
    extract_id: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class TrainingRecord:
    """What is written down about a training beside the model itself."""

    as_of: datetime
    extract_id: str
    feature_version: str
    train_rows: int
    holdout_rows: int
    first_label_at: datetime
    last_label_at: datetime


def register(model: Model, fitted: training.Fitted, split: training.Split, record: TrainingRecord) -> Version:
    """Logs the training as a run and registers the estimator as the model's challenger."""
    _use_experiment(model.name)
    example = training.inputs(split.holdout.head(5), list(model.feature_names))
    with mlflow.start_run(run_name=f"{model.name} as of {record.as_of:%Y-%m-%d %H:%M}"):
        mlflow.log_params({"estimator": model.training.estimator, **model.training.parameters})
        mlflow.log_params({"train_rows": record.train_rows, "holdout_rows": record.holdout_rows})
        mlflow.log_metrics(fitted.metrics)
        tags = _tags(record)
        mlflow.set_tags(tags)
        logged = mlflow.sklearn.log_model(
            fitted.estimator,
            name="model",
            signature=infer_signature(example, training.scores(fitted.estimator, example, list(model.feature_names))),
            input_example=example,
            # Named, because inferring them starts a Python process that imports everything once more.
            pip_requirements=[f"{name}=={version(name)}" for name in ("scikit-learn", "pandas", "numpy")],
            registered_model_name=model.name,
            pyfunc_predict_fn="predict_proba",
            # What a checkout trains, it loads itself; the registry is as trusted as the warehouse.
            serialization_format="cloudpickle",
        )
        number = str(logged.registered_model_version)
        client = MlflowClient()
        for key, value in tags.items():
            client.set_model_version_tag(model.name, number, key, value)
        client.set_registered_model_alias(model.name, CHALLENGER, number)
    return Version(number, record.as_of, record.feature_version, record.extract_id, fitted.metrics)


def promote(model: Model, number: str) -> None:
    """Makes a version the champion."""
    client = MlflowClient()
    client.set_registered_model_alias(model.name, CHAMPION, number)


def champion(model: Model) -> Version | None:
    """The version in production, or None when there is none yet."""
    client = MlflowClient()
    try:
        found = client.get_model_version_by_alias(model.name, CHAMPION)
    except MlflowException as error:
        if error.error_code in NOT_FOUND:
            return None
        raise
    run = client.get_run(found.run_id)
    return Version(
        number=str(found.version),
        trained_as_of=datetime.fromisoformat(found.tags["as_of"]),
        feature_version=found.tags["feature_version"],
        extract_id=found.tags["extract_id"],
        metrics=dict(run.data.metrics),
    )


def load(model: Model, number: str) -> Any:
    """The estimator of a registered version."""
    return mlflow.sklearn.load_model(f"models:/{model.name}/{number}")


def prepare() -> None:
    """Creates the tracking tables, so that the first tasks do not race for it."""
    MlflowClient().search_experiments(max_results=1)


def _use_experiment(name: str) -> None:
    location = os.environ.get("SKEWLESS_ARTIFACTS")
    if mlflow.get_experiment_by_name(name) is None:
        # A tracking server knows where artifacts go; with a bare database we say so.
        direct = not os.environ["MLFLOW_TRACKING_URI"].startswith("http")
        mlflow.create_experiment(name, artifact_location=Path(location).as_uri() if direct and location else None)
    mlflow.set_experiment(name)


def _tags(record: TrainingRecord) -> dict[str, str]:
    return {
        "as_of": record.as_of.isoformat(),
        "extract_id": record.extract_id,
        "feature_version": record.feature_version,
        "first_label_at": record.first_label_at.isoformat(),
        "last_label_at": record.last_label_at.isoformat(),
    }
