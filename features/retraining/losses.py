"""How models age: trained at every label time as production would have been, and scored on all that came after.

One matrix of scores serves both the decay curve (`features.retraining.cadence`) and the replay of policies
(`features.retraining.backtest`). Nothing of it knows the future: the model of an instant is fitted on labels that had
matured by then, and scores only rows that it cannot have learnt.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.contract import Model, TrainingSettings
from features.training.data import Split, TrainingRefused, outcomes, refuse_unusable, split_in_time
from features.training.estimator import scores
from features.training.fitting import fit_calibrated
from features.training.resampling import unweighted

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.intp]
Booleans = npt.NDArray[np.bool_]

# Models of the first weeks gain by every further week of labels, whatever the world does, and that looks like ageing:
# on the flights, models from the eighth week on more than double the slope of the decay curve.
MIN_HISTORY = timedelta(days=84)
# A cell is four bytes, so that this is 200 MB.
MAX_CELLS = 50_000_000


@dataclass(frozen=True)
class Recipe:
    """How production trains, apart from the search: that was made once, and its choice is among the parameters.

    Attributes:
        entity: the key columns.
        horizon: from label_at until the outcome.
        metric: what the holdout is judged by.
        window: "expanding" learns from all that has matured, a number from labels of the last so many days only.
    """

    features: tuple[str, ...]
    label: str
    entity: tuple[str, ...]
    horizon: timedelta
    settings: TrainingSettings
    metric: str = "roc_auc"
    window: Literal["expanding"] | int = "expanding"

    @classmethod
    def of(
        cls, model: Model, parameters: Mapping[str, Any] | None = None, window: Literal["expanding"] | int = "expanding"
    ) -> Self:
        """The recipe of a declared model.

        Args:
            parameters: those chosen by the search that made the champion.
        """
        declared = model.training
        return cls(
            features=model.feature_names,
            label=model.label,
            entity=model.entity,
            horizon=model.label_horizon,
            settings=declared.model_copy(
                update={"search": None, "parameters": {**declared.parameters, **(parameters or {})}}
            ),
            metric=model.promotion.metric,
            window=window,
        )

    def split(self, labels: pd.DataFrame, as_of: datetime) -> Split:
        """The rows that production would fit on and judge on at as_of.

        Raises:
            TrainingRefused: when too few had matured.
        """
        known = labels[labels["matured_at"] <= as_of]
        if self.window != "expanding":
            known = known[known["label_at"] >= as_of - timedelta(days=self.window)]
        return split_in_time(known, self.horizon, self.settings.holdout_label_times)

    def fit(self, split: Split) -> Any:
        """The fitted estimator.

        Raises:
            TrainingRefused: when the rows cannot make a model.
        """
        refuse_unusable(split, self.features, self.label)
        return fit_calibrated(split.train, self.features, self.label, self.horizon, self.settings)

    def holdout_metric(self, estimator: Any, split: Split) -> float:
        """What the registry would have kept beside the model."""
        truth, score = outcomes(split.holdout, self.label), scores(estimator, split.holdout, self.features)
        return unweighted(self.metric, truth, score)


@dataclass(frozen=True)
class Skipped:
    """An instant at which no model could be made, and why."""

    at: datetime
    reason: str


@dataclass(frozen=True, eq=False)
class LossMatrix:
    """The scores that the model of each instant gives to what it had not seen.

    m is the number of models, n that of the rows that are scored, in the order of their label times.

    Attributes:
        labels: all labels it was made of, by label time and entity.
        label_times: the distinct ones, ascending.
        cutoffs: (m) of each model, the position among the label times of the instant it was trained at; ascending.
        rows: (n) positions of the scored rows among the labels.
        times: (n) of each scored row, the position of its label time.
        entities: (n) codes from 0.
        truth: (n)
        scores: (m, n) probabilities; NaN where the outcome was known when the model was trained.
        holdout_metrics: (m) as the registry would have kept them; by the recipe's metric.
        skipped: the label times at which no model could be made.
        kept_share: of the entities, how many are scored; below 1 when the matrix would have been too large.
    """

    labels: pd.DataFrame
    recipe: Recipe
    label_times: pd.DatetimeIndex
    cutoffs: Positions
    rows: Positions
    times: Positions
    entities: Positions
    truth: Booleans
    scores: npt.NDArray[np.float32]
    holdout_metrics: Floats
    skipped: tuple[Skipped, ...]
    kept_share: float

    @property
    def entity_count(self) -> int:
        """How many distinct entities are scored."""
        return int(self.entities.max()) + 1 if len(self.entities) else 0

    @property
    def days(self) -> Floats:
        """Of each label time, the days since the first."""
        since: Floats = ((self.label_times - self.label_times[0]) / timedelta(days=1)).to_numpy()
        return since

    def until(self, as_of: datetime) -> Self:
        """What was known at as_of: the labels that had matured, and the models of their label times."""
        known = np.flatnonzero((self.labels["matured_at"].iloc[self.rows] <= as_of).to_numpy())
        label_times = self.label_times[: int(self.times[known].max()) + 1 if len(known) else 0]
        models = self.cutoffs < len(label_times)
        return replace(
            self,
            label_times=label_times,
            cutoffs=self.cutoffs[models],
            rows=self.rows[known],
            times=self.times[known],
            entities=np.unique(self.entities[known], return_inverse=True)[1],
            truth=self.truth[known],
            scores=self.scores[np.ix_(models, known)],
            holdout_metrics=self.holdout_metrics[models],
        )

    def rows_at(self, time: int) -> slice:
        """Where the rows of a label time, given by its position, stand among the scored rows."""
        first, last = np.searchsorted(self.times, [time, time + 1])
        return slice(int(first), int(last))

    def losses_at(self, time: int) -> Floats:
        """The log loss of each row of a label time: (models trained by then, rows). Age 0 is the last model, if any."""
        rows = self.rows_at(time)
        models = int(np.searchsorted(self.cutoffs, time, side="right"))
        return log_losses(self.truth[rows], self.scores[:models, rows])

    def mean_losses(self) -> Floats:
        """The mean log loss: (models, label times); NaN at label times before the model was trained."""
        means = np.full((len(self.cutoffs), len(self.label_times)), np.nan)
        for time in range(len(self.label_times)):
            losses = self.losses_at(time)
            if losses.size:
                means[: len(losses), time] = losses.mean(axis=1)
        return means

    def row_counts(self) -> Positions:
        """How many rows of each label time are scored."""
        counts: Positions = np.bincount(self.times, minlength=len(self.label_times))
        return counts


def log_losses(truth: Booleans, score: npt.NDArray[np.float32]) -> Floats:
    """Of each row, minus the logarithm of the probability that the score gave to the truth.

    A score keeps the distance of single precision from 0 and 1, as scikit-learn's log_loss has it for such scores.
    """
    smallest = float(np.finfo(np.float32).eps)
    of_truth = np.where(truth, score.astype(np.float64), 1 - score.astype(np.float64))
    losses: Floats = -np.log(np.clip(of_truth, smallest, 1 - smallest))
    return losses


def train_at_many_instants(
    labels: pd.DataFrame,
    recipe: Recipe,
    *,
    min_history: timedelta = MIN_HISTORY,
    max_cells: int = MAX_CELLS,
    on_progress: Callable[[int, int], None] | None = None,
) -> LossMatrix:
    """Trains at each label time on what had matured by then, and scores every row whose outcome was not known yet.

    The same labels give the same matrix, whatever their order. Takes one training per label time.

    Args:
        labels: one row per label, with the recipe's entity, features and label, and label_at and matured_at
            (timezone-aware); of any length of time, of one definition of the features.
        min_history: instants with less of it, from the first label time on, are skipped. A window of days always has to
            be full.
        max_cells: of the matrix (label times x rows), four bytes each. Of more rows, only those of some entities are
            scored, chosen by a hash of their key; every model is trained on all.
        on_progress: called after each instant with how many are done, and how many there are.
    """
    labels = labels.sort_values(["label_at", *recipe.entity], kind="stable", ignore_index=True)
    label_times = pd.DatetimeIndex(labels["label_at"].unique())
    rows = _rows_that_fit(labels, recipe.entity, max_cells // max(1, len(label_times)))
    kept = labels.iloc[rows]
    found = np.full((len(label_times), len(rows)), np.nan, dtype=np.float32)
    window = timedelta(0) if recipe.window == "expanding" else timedelta(days=recipe.window)
    cutoffs: list[int] = []
    metrics: list[float] = []
    skipped: list[Skipped] = []
    for time, at in enumerate(label_times):
        try:
            _refuse_short_history(at - label_times[0], max(window, min_history))
            split = recipe.split(labels, at)
            estimator = recipe.fit(split)
        except TrainingRefused as refusal:
            skipped.append(Skipped(at, str(refusal)))
        else:
            unseen = np.flatnonzero(kept["matured_at"] > at)
            found[len(cutoffs), unseen] = scores(estimator, kept.iloc[unseen], recipe.features)
            cutoffs.append(time)
            metrics.append(recipe.holdout_metric(estimator, split))
        log.info("Trained at %s of %s instants (%s).", time + 1, len(label_times), f"{at:%Y-%m-%d %H:%M}Z")
        if on_progress:
            on_progress(time + 1, len(label_times))
    return LossMatrix(
        labels=labels,
        recipe=recipe,
        label_times=label_times,
        cutoffs=np.array(cutoffs, dtype=np.intp),
        rows=rows,
        times=label_times.get_indexer(pd.DatetimeIndex(kept["label_at"])),
        entities=_codes(kept, recipe.entity),
        truth=outcomes(kept, recipe.label),
        scores=found[: len(cutoffs)],
        holdout_metrics=np.array(metrics, dtype=np.float64),
        skipped=tuple(skipped),
        kept_share=_count(kept, recipe.entity) / max(1, _count(labels, recipe.entity)),
    )


def _refuse_short_history(history: timedelta, needed: timedelta) -> None:
    if history < needed:
        raise TrainingRefused(f"The labels begin {history.days} days before; {needed.days} days are needed.")


def _rows_that_fit(labels: pd.DataFrame, entity: Sequence[str], most: int) -> Positions:
    """Positions of at most so many rows, those of an entity all or none; at least one entity's."""
    if len(labels) <= most:
        return np.arange(len(labels))
    # A hash keeps the same entities when rows are added or come in another order, which a draw would not.
    hashes = pd.util.hash_pandas_object(labels[list(entity)], index=False).to_numpy()
    distinct, counts = np.unique(hashes, return_counts=True)
    fitting = max(1, int(np.searchsorted(np.cumsum(counts), most, side="right")))
    log.warning(
        "%s rows at %s are too many to score at once; %s of %s entities are.",
        f"{len(labels):,}",
        f"{labels['label_at'].nunique()} label times",
        f"{fitting:,}",
        f"{len(distinct):,}",
    )
    return np.flatnonzero(hashes <= distinct[fitting - 1])


def _codes(rows: pd.DataFrame, entity: Sequence[str]) -> Positions:
    return np.asarray(rows.groupby(list(entity), dropna=False).ngroup(), dtype=np.intp)


def _count(rows: pd.DataFrame, entity: Sequence[str]) -> int:
    return len(rows[list(entity)].drop_duplicates())
