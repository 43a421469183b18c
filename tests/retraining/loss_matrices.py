"""Loss matrices of worlds that are made up, so that it is known how fast a model ages in them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.contract import TrainingSettings
from features.retraining.losses import LossMatrix, Recipe, train_at_many_instants

START = datetime(2013, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
RECIPE = Recipe(
    features=("x", "y"),
    label="churned",
    entity=("user_id",),
    horizon=WEEK,
    settings=TrainingSettings(estimator="sklearn.linear_model.LogisticRegression", holdout_label_times=2),
)
ROLLING = replace(RECIPE, window=42)


def world(
    *,
    weeks: int = 24,
    entities: int = 250,
    degrees_per_day: float = 0.0,
    flips_at: int | None = None,
    shifts_at: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Weekly labels of a linear concept in the plane, whose direction rotates, and may turn round.

    Args:
        flips_at: the week from which on the concept is the opposite one.
        shifts_at: the week from which on x is larger by two standard deviations, and the concept as it was.

    Returns:
        One row per entity and week, with the probability of the truth as a column.
    """
    rng = np.random.default_rng(seed)
    week = np.repeat(np.arange(weeks), entities)
    angle = np.radians(degrees_per_day * 7 * week) + (np.pi * (week >= flips_at) if flips_at is not None else 0)
    x, y = rng.normal(size=(2, weeks * entities))
    probability = 1 / (1 + np.exp(-3 * (x * np.cos(angle) + y * np.sin(angle))))
    label_at = pd.DatetimeIndex([START + int(one) * WEEK for one in week])
    return pd.DataFrame({
        "user_id": [f"u{one}" for one in np.tile(np.arange(entities), weeks)],
        "label_at": label_at,
        "matured_at": label_at + WEEK,
        "x": x + (2.0 * (week >= shifts_at) if shifts_at is not None else 0.0),
        "y": y,
        "probability": probability,
        "churned": rng.random(weeks * entities) < probability,
    })


def trained(labels: pd.DataFrame, recipe: Recipe, **options: Any) -> LossMatrix:
    """The models of all instants at which there can be one: these worlds are short."""
    return train_at_many_instants(labels, recipe, **{"min_history": timedelta(0), **options})


@cache
def rotating(degrees_per_day: float) -> LossMatrix:
    """The models of a rotating world, each of which has learnt the same length of time."""
    return trained(world(degrees_per_day=degrees_per_day), ROLLING)


def made(
    loss: Callable[[npt.NDArray[Any], int, int], npt.ArrayLike],
    *,
    instants: int = 20,
    entities: int = 10,
    without: tuple[int, ...] = (),
) -> LossMatrix:
    """A matrix whose log losses are known: of all entities, by the week of training and the week they are of.

    Every truth is true, so that a score of exp(-loss) has that loss. There are no features.

    Args:
        without: the weeks at which no model could be made.
    """
    cutoffs = np.array([one for one in range(instants) if one not in without])
    times = np.repeat(np.arange(instants), entities)
    codes = np.tile(np.arange(entities), instants)
    scores = np.full((len(cutoffs), len(times)), np.nan, dtype=np.float32)
    for model, cutoff in enumerate(cutoffs):
        for week in range(cutoff, instants):
            scores[model, times == week] = np.exp(-np.broadcast_to(loss(np.arange(entities), cutoff, week), entities))
    label_times = pd.DatetimeIndex([START + one * WEEK for one in range(instants)])
    labels = pd.DataFrame({
        "user_id": codes,
        "label_at": label_times[times],
        "matured_at": label_times[times] + WEEK,
        "churned": True,
    })
    return LossMatrix(
        labels=labels,
        recipe=replace(RECIPE, features=()),
        label_times=label_times,
        cutoffs=cutoffs,
        rows=np.arange(len(times)),
        times=times,
        entities=codes,
        truth=np.ones(len(times), dtype=bool),
        scores=scores,
        holdout_metrics=np.full(len(cutoffs), 0.8),
        skipped=(),
        kept_share=1.0,
    )
