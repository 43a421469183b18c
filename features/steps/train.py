"""Training: extract, fit, evaluate, register as challenger."""

import logging
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from features import provenance, tracking, warehouse
from features.contract import Model
from features.extracts import TrainingExtract, training_extract
from features.steps.read import segments
from features.training import plots
from features.training.data import Split, outcomes, split_in_time
from features.training.estimator import scores
from features.training.evaluation import Evaluation, evaluate
from features.training.fitting import Fitted, fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

# The part of the holdout that no training row has told anything about.
NEW_ENTITIES = "new_entities"
NOT_JUDGED_YET = "The gate has not judged it yet."


def train(model: Model, as_of: datetime) -> str:
    """Fits the model on the labels that had matured by as_of and registers it as challenger.

    Returns:
        the challenger's version.

    Raises:
        TrainingRefused: when the labels cannot make a model; the champion stays.
    """
    extract = training_extract(model, as_of)
    split = split_of(model, extract)
    log.info(
        "Extract %s: %s rows to train on, %s held out.",
        extract.extract_id,
        f"{len(split.train):,}",
        f"{len(split.holdout):,}",
    )
    fitted = fit(split, model.feature_names, model.label, model.label_horizon, model.training)
    with warehouse.connect() as connection:
        slices = slices_of(connection, model, split)
        invocation = provenance.dbt_invocation(connection, model.feature_view, extract.feature_version, as_of)
    log.info("Evaluating on the holdout, on %s slices, beside %s simple models.", len(slices), len(fitted.simple))
    evaluation = _evaluate(model, fitted, split, slices)
    _log_evaluation(evaluation)
    record = tracking.TrainingRecord(
        as_of=as_of,
        extract_id=extract.extract_id,
        extract_checksum=extract.checksum,
        feature_version=extract.feature_version,
        dbt_invocation_id=invocation,
        git_commit=provenance.git_commit(),
        first_label_at=split.train["label_at"].min(),
        last_label_at=split.train["label_at"].max(),
    )
    training = tracking.Training(fitted, evaluation, split, record, _plots(model, fitted, split, evaluation))
    version = tracking.register(model, training)
    with warehouse.connect() as connection:
        _write(connection, model, version, training)
    log.info("Registered %s v%s as challenger.", model.name, version.number)
    return version.number


def split_of(model: Model, extract: TrainingExtract) -> Split:
    """What a version of this extract was fitted on and is judged on."""
    return split_in_time(extract.rows, model.label_horizon, model.training.holdout_label_times)


def slices_of(connection: warehouse.Connection, model: Model, split: Split) -> dict[str, npt.NDArray[np.bool_]]:
    """Parts of the holdout that are judged by themselves: the segments of the YAML, and entities never seen before."""
    known = split.train.set_index(list(model.entity)).index
    unseen = ~split.holdout.set_index(list(model.entity)).index.isin(known)
    return {**segments(connection, model, split.holdout), NEW_ENTITIES: unseen}


def _evaluate(model: Model, fitted: Fitted, split: Split, slices: dict[str, npt.NDArray[np.bool_]]) -> Evaluation:
    return evaluate(
        fitted.estimator,
        fitted.simple,
        split.holdout,
        model.feature_names,
        model.label,
        model.entity,
        slices,
        metric=model.promotion.metric,
        confidence=model.promotion.confidence,
        seed=model.training.seed,
    )


def _log_evaluation(evaluation: Evaluation) -> None:
    for name, found in evaluation.metrics.items():
        log.info("Holdout: %s %.4f (%.4f to %.4f).", name, found.estimate, found.low, found.high)
    for name, found in evaluation.simple.items():
        log.info("Beside it, %s: %s %.4f.", name.replace("_", " "), evaluation.metric, found.estimate)
    for part in evaluation.slices:
        log.info("Slice %s: %s %.4f on %s rows.", part.name, evaluation.metric, part.metric.estimate, f"{part.rows:,}")
    rests_on = ", ".join(f"{each.feature} {each.drop:.4f}" for each in evaluation.importance)
    log.info("What it rests on, by how much %s drops without: %s.", evaluation.metric, rests_on)


def _plots(model: Model, fitted: Fitted, split: Split, evaluation: Evaluation) -> dict[str, "Figure"]:
    truth = outcomes(split.holdout, model.label)
    score = scores(fitted.estimator, split.holdout, model.feature_names)
    simple = {name: scores(each, split.holdout, model.feature_names) for name, each in fitted.simple.items()}
    return {
        "roc.png": plots.roc_plot(truth, score, simple),
        "calibration.png": plots.calibration_plot(evaluation),
        "importance.png": plots.importance_plot(evaluation),
        "scores.png": plots.score_plot(truth, score),
    }


def _write(
    connection: warehouse.Connection, model: Model, version: tracking.Version, training: tracking.Training
) -> None:
    """The row that the gate completes."""
    fitted, evaluation = training.fitted, training.evaluation
    commit = training.record.git_commit
    about = {
        "parameters": fitted.parameters,
        "search": _search(fitted),
        "code": {"commit": commit, "reviewed_by": provenance.reviewers(commit)},
    }
    row = {
        "model_name": model.name,
        "model_version": version.number,
        "as_of": version.trained_as_of,
        "metrics": warehouse.json_text({name: found.estimate for name, found in evaluation.metrics.items()}),
        "evaluation": warehouse.json_text(about | asdict(evaluation)),
        "train_rows": len(training.split.train),
        "holdout_rows": len(training.split.holdout),
        "extract_id": version.extract_id,
        "promoted": False,
        "reason": NOT_JUDGED_YET,
    }
    warehouse.insert(connection, "monitoring.model_evaluations", row, "on conflict do nothing")


def _search(fitted: Fitted) -> dict[str, Any] | None:
    """How the parameters were chosen; None when nothing was searched."""
    if not fitted.tried:
        return None
    (declared,) = [each for each in fitted.tried if not each.parameters]
    return {
        "candidates": len(fitted.tried),
        "best_log_loss": fitted.tried[0].log_loss,
        "declared_log_loss": declared.log_loss,
    }
