"""The baseline of a new champion: what it was trained on, counted in the warehouse; its scores, counted here."""

import logging
from typing import Any

from features import warehouse
from features.contract import Model
from features.drift import baselines, store
from features.drift.baselines import WHOLE_SLOT, BaselineKey
from features.drift.looks import label_column
from features.drift.report import WHOLE
from features.drift.sketch import Grid, Sketch
from features.drift.sources import PREDICTION, column_of, training_source
from features.training.data import Split
from features.training.estimator import scores as scores_of

log = logging.getLogger(__name__)


def write_baselines(
    connection: warehouse.Connection,
    model: Model,
    number: str,
    split: Split,
    feature_version: str,
    estimator: Any,
) -> None:
    """Stores what version `number` will be compared with: each feature and the label in its training rows, and its
    scores of the holdout, since a model is too sure of rows it has learnt."""
    first, last = split.train["label_at"].min(), split.train["label_at"].max()
    source = training_source(model, feature_version, first, last)
    columns = [column_of(feature) for feature in model.feature_view.features if feature.drift.watch]
    for column in [*columns, label_column(model)]:
        if baselines.write_training_baseline(connection, model, number, source, column) is None:
            log.warning("%s has no value in any training row, so it has no baseline.", column.name)
    scores = scores_of(estimator, split.holdout, list(model.feature_names))
    grid = Grid.of(scores)
    entities = len(split.holdout.groupby(list(model.entity)))
    baselines.write_baseline(
        connection,
        model,
        PREDICTION,
        BaselineKey("training", "training", WHOLE, number),
        store.add_grid(connection, model, PREDICTION, grid),
        {WHOLE_SLOT: (Sketch.of(scores, grid), float(entities))},
        (split.holdout["label_at"].min(), split.holdout["label_at"].max()),
    )
