"""Experiments and the model registry: MLflow. The alias `champion` names the version in production."""

import logging
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow import MlflowClient
from mlflow.db import upgrade
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

from features.contract import Model
from features.errors import SkewlessError
from features.training.data import Split, inputs
from features.training.estimator import scores
from features.training.evaluation import Evaluation
from features.training.fitting import Fitted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

# It warns of each pickle, and those are meant: what a checkout trains, it loads itself; the registry is as trusted as
# the warehouse.
logging.getLogger("mlflow.sklearn").setLevel(logging.ERROR)

CHAMPION = "champion"
CHALLENGER = "challenger"
NOT_FOUND = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
# The tag `kind` of the run that collects what a version was asked, beside the run that trained it.
SERVING = "serving"
MOST_METRICS = 1000  # that MLflow takes at once


@dataclass(frozen=True)
class Version:
    """A registered version of a model.

    Attributes:
        trained_as_of: the instant whose knowledge it was trained on.
        feature_version: the definition of the features it was trained on.
        metrics: on its holdout.
        run_id: of the run that trained it.
    """

    number: str
    trained_as_of: datetime
    feature_version: str
    extract_id: str
    metrics: dict[str, float]
    run_id: str


@dataclass(frozen=True)
class TrainingRecord:
    """Where a training comes from; every field is a tag of the run and of the version.

    Attributes:
        extract_checksum: of the extract's rows.
        first_label_at, last_label_at: the window of label times that it was fitted on.
    """

    as_of: datetime
    extract_id: str
    extract_checksum: str
    feature_version: str
    dbt_invocation_id: str
    git_commit: str
    first_label_at: datetime
    last_label_at: datetime

    def tags(self) -> dict[str, str]:
        """The fields as text."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else str(value) for name, value in vars(self).items()
        }


@dataclass(frozen=True)
class Training:
    """A training that is done.

    Attributes:
        plots: figures by file name.
    """

    fitted: Fitted
    evaluation: Evaluation
    split: Split
    record: TrainingRecord
    plots: Mapping[str, "Figure"]


def register(model: Model, training: Training) -> Version:
    """Logs the training as a run and registers the estimator as the model's challenger.

    What an earlier attempt, or another run of the same partition, has registered is not registered again: the same
    record and the same parameters are the same model.
    """
    experiment = _use_experiment(model.name)
    client = MlflowClient()
    record = training.record
    run_id, number = _registered_before(client, experiment, model, training) or _log_training(model, training)
    for key, value in record.tags().items():
        client.set_model_version_tag(model.name, number, key, value)
    if str(client.get_registered_model(model.name).aliases.get(CHAMPION)) != number:
        client.set_registered_model_alias(model.name, CHALLENGER, number)
    return Version(
        number=number,
        trained_as_of=record.as_of,
        feature_version=record.feature_version,
        extract_id=record.extract_id,
        metrics=_metrics(training),
        run_id=run_id,
    )


def _registered_before(
    client: MlflowClient, experiment: str, model: Model, training: Training
) -> tuple[str, str] | None:
    """The run and the version of a training that is this one; runs that were cut off before that are marked as such."""
    same = " and ".join(f"tags.{key} = '{value}'" for key, value in training.record.tags().items())
    parameters = {key: str(value) for key, value in _parameters(model, training).items()}
    for run in client.search_runs([experiment], filter_string=same, order_by=["attributes.start_time asc"]):
        # A version comes last, so all that belongs to it is there.
        versions = client.search_model_versions(f"run_id = '{run.info.run_id}'")
        if run.info.status == "RUNNING":
            client.set_terminated(run.info.run_id, "FINISHED" if versions else "KILLED")
        if versions and run.data.params == parameters:
            log.info("%s v%s is this training already.", model.name, versions[0].version)
            return run.info.run_id, str(versions[0].version)
    return None


def _log_training(model: Model, training: Training) -> tuple[str, str]:
    """Logs all there is of a training, the registered estimator last. Returns the run and the version."""
    fitted, record = training.fitted, training.record
    with mlflow.start_run(run_name=f"{model.name} as of {record.as_of:%Y-%m-%d %H:%M}") as run:
        mlflow.set_tags(record.tags())
        mlflow.log_params(_parameters(model, training))
        mlflow.log_metrics(_metrics(training))
        mlflow.log_dict(asdict(training.evaluation), "evaluation.json")
        if fitted.tried:
            mlflow.log_dict([asdict(candidate) for candidate in fitted.tried], "search.json")
        for name, figure in training.plots.items():
            mlflow.log_figure(figure, f"plots/{name}")
        for name, simple in fitted.simple.items():
            _log_estimator(simple, name, None)
        example = inputs(training.split.holdout.head(5), model.feature_names)
        number = _log_estimator(fitted.estimator, "model", model, example)
    return run.info.run_id, number


def _log_estimator(estimator: Any, name: str, registered: Model | None, example: Any = None) -> str:
    """Logs an estimator with the run; a registered one gets signature, example and a version, which is returned."""
    features = list(example.columns) if example is not None else []
    logged = mlflow.sklearn.log_model(
        estimator,
        name=name,
        signature=infer_signature(example, scores(estimator, example, features)) if registered else None,
        input_example=example,
        # Named, because inferring them starts a Python process that imports everything once more.
        pip_requirements=[f"{package}=={version(package)}" for package in ("scikit-learn", "pandas", "numpy")],
        registered_model_name=registered.name if registered else None,
        pyfunc_predict_fn="predict_proba",
        serialization_format="cloudpickle",
    )
    return str(logged.registered_model_version)


def _parameters(model: Model, training: Training) -> dict[str, Any]:
    settings, fitted, split = model.training, training.fitted, training.split
    return {
        "estimator": settings.estimator,
        **fitted.parameters,
        "calibration": settings.calibration,
        "seed": settings.seed,
        "candidates_tried": len(fitted.tried),
        "train_rows": len(split.train),
        "holdout_rows": len(split.holdout),
    }


def _metrics(training: Training) -> dict[str, float]:
    """Every number of the evaluation that is one; intervals as `_low` and `_high`, parts as folders."""
    fitted, evaluation = training.fitted, training.evaluation
    found = {"calibration_error": evaluation.calibration_error}
    for name, interval in evaluation.metrics.items():
        found |= {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
    for part in evaluation.slices:
        found[f"slice/{part.name}/{evaluation.metric}"] = part.metric.estimate
    for name, interval in evaluation.simple.items():
        found[f"simple/{name}/{evaluation.metric}"] = interval.estimate
    for importance in evaluation.importance:
        found[f"importance/{importance.feature}"] = importance.drop
    if fitted.tried:
        found["search/log_loss"] = fitted.tried[0].log_loss
    return {name: value for name, value in found.items() if math.isfinite(value)}


def attach(version: Version, document: Mapping[str, Any], name: str) -> None:
    """Adds a JSON file to the run that trained a version."""
    MlflowClient().log_dict(version.run_id, dict(document), name)


def promote(model: Model, number: str) -> None:
    """Makes a version the champion; it is a challenger no longer."""
    client = MlflowClient()
    client.set_registered_model_alias(model.name, CHAMPION, number)
    # MLflow gives the versions behind aliases as numbers.
    if str(client.get_registered_model(model.name).aliases.get(CHALLENGER)) == number:
        client.delete_registered_model_alias(model.name, CHALLENGER)


def champion(model: Model) -> Version | None:
    """The version in production, or None when there is none yet."""
    client = MlflowClient()
    try:
        found = client.get_model_version_by_alias(model.name, CHAMPION)
    except MlflowException as error:
        if error.error_code in NOT_FOUND:
            return None
        raise
    return _version(client, found)


def registered(model: Model, number: str) -> Version:
    """A version by its number.

    Raises:
        SkewlessError: when there is no such version.
    """
    client = MlflowClient()
    try:
        return _version(client, client.get_model_version(model.name, number))
    except MlflowException as error:
        if error.error_code in NOT_FOUND:
            raise SkewlessError(f"MLflow knows no version {number} of {model.name}.") from error
        raise


def _version(client: MlflowClient, found: Any) -> Version:
    return Version(
        number=str(found.version),
        trained_as_of=datetime.fromisoformat(found.tags["as_of"]),
        feature_version=found.tags["feature_version"],
        extract_id=found.tags["extract_id"],
        metrics=dict(client.get_run(found.run_id).data.metrics),
        run_id=str(found.run_id),
    )


def load_simple(version: Version, names: Iterable[str]) -> dict[str, Any]:
    """The simple models that were fitted beside a version."""
    return {name: _loaded(f"runs:/{version.run_id}/{name}") for name in names}


def load(model: Model, number: str) -> Any:
    """The estimator of a registered version."""
    return _loaded(f"models:/{model.name}/{number}")


def _loaded(address: str) -> Any:
    """The estimator at an address. MLflow would leave what it fetches in the folder of temporary files."""
    with TemporaryDirectory(prefix="skewless-") as folder:
        return mlflow.sklearn.load_model(address, dst_path=folder)


def input_names(model: Model, number: str) -> tuple[str, ...]:
    """The inputs of a registered version, by its signature."""
    signature = mlflow.models.get_model_info(f"models:/{model.name}/{number}").signature
    return tuple(signature.inputs.input_names())


def log_served(model: Model, number: str, hour: datetime, metrics: Mapping[str, float | None]) -> None:
    """Adds an hour to the run of what a version was asked and said: one run for each version, one step for each hour.

    Args:
        hour: its end. The step is the number of hours since 1970.
        metrics: by name; what is missing or not finite is left out.
    """
    client = MlflowClient()
    timestamp = int(hour.timestamp() * 1000)
    step = int(hour.timestamp() // 3600)
    points = [
        Metric(name, float(value), timestamp, step)
        for name, value in metrics.items()
        if value is not None and math.isfinite(value)
    ]
    run_id = _serving_run(client, model, number)
    for start in range(0, len(points), MOST_METRICS):
        client.log_batch(run_id, metrics=points[start : start + MOST_METRICS])


def _serving_run(client: MlflowClient, model: Model, number: str) -> str:
    experiment_id = _use_experiment(model.name)
    found = client.search_runs(
        [experiment_id],
        filter_string=f"tags.kind = '{SERVING}' and tags.model_version = '{number}'",
        max_results=1,
        # Were two created at once, all go on with the same one.
        order_by=["attributes.start_time asc"],
    )
    if found:
        return str(found[0].info.run_id)
    tags = {"kind": SERVING, "model_version": number}
    run = client.create_run(experiment_id, run_name=f"{model.name} v{number} served", tags=tags)
    # It takes points all the same, and is not shown as a training that never ends.
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def prepare() -> None:
    """Creates MLflow's tables, so that the first tasks do not race for it; those of an earlier MLflow are upgraded.

    Needs the database itself as MLFLOW_TRACKING_URI, not a tracking server.
    """
    upgrade.main([os.environ["MLFLOW_TRACKING_URI"]], standalone_mode=False)


def _use_experiment(name: str) -> str:
    """Makes it the experiment of the next runs, and gives its id."""
    location = os.environ.get("SKEWLESS_ARTIFACTS")
    if mlflow.get_experiment_by_name(name) is None:
        # A tracking server knows where artifacts go; with a bare database we say so.
        direct = not os.environ["MLFLOW_TRACKING_URI"].startswith("http")
        mlflow.create_experiment(name, artifact_location=Path(location).as_uri() if direct and location else None)
    return str(mlflow.set_experiment(name).experiment_id)
