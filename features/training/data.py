"""The rows a model learns from and is judged on.

The split is in time: the newest label times are the holdout, and the rows in the label horizon before it are left out,
because their outcomes overlap it. Rows of one label time are never divided.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.errors import SkewlessError

MIN_ROWS = 200


class TrainingRefused(SkewlessError):
    """The data cannot make a model; the champion stays."""


@dataclass(frozen=True)
class Split:
    """Rows to fit on and rows to judge on."""

    train: pd.DataFrame
    holdout: pd.DataFrame


def split_in_time(extract: pd.DataFrame, horizon: timedelta, holdout_label_times: int) -> Split:
    """The newest `holdout_label_times` label times against all rows whose outcome was known before the first of them.

    Args:
        extract: one row per label, with label_at (timezone-aware).
        horizon: from label_at until the outcome.

    Raises:
        TrainingRefused: when one side would be too small.
    """
    times = sorted(extract["label_at"].unique())
    if len(times) <= holdout_label_times:
        raise TrainingRefused(
            f"The extract has {len(times)} label times; "
            f"{holdout_label_times} for the holdout and at least one to train on are needed."
        )
    first_holdout = times[-holdout_label_times]
    train = extract[extract["label_at"] <= first_holdout - horizon]
    holdout = extract[extract["label_at"] >= first_holdout]
    for name, rows in (("training", train), ("holdout", holdout)):
        if len(rows) < MIN_ROWS:
            raise TrainingRefused(f"The {name} part has {len(rows)} rows; at least {MIN_ROWS} are needed.")
    return Split(train, holdout)


def refuse_unusable(split: Split, features: Sequence[str], label: str) -> None:
    """Raises what makes a model impossible or pointless.

    Raises:
        TrainingRefused: when a label is missing, a part has one class only, or a feature has no value, one value, or
            an infinite one.
    """
    for name, rows in (("training", split.train), ("holdout", split.holdout)):
        if missing := int(rows[label].isna().sum()):
            raise TrainingRefused(f"{missing:,} of {len(rows):,} {name} labels are missing.")
        if rows[label].nunique() < 2:
            raise TrainingRefused(f"All {len(rows):,} {name} labels are {rows[label].iloc[0]}; nothing can be learnt.")
    for name, rows in (("training", split.train), ("holdout", split.holdout)):
        if infinite := [feature for feature in features if np.isinf(inputs(rows, [feature])).any(axis=None)]:
            raise TrainingRefused(f"{', '.join(infinite)} has infinite values in {name} rows; the pipeline is sick.")
    values = inputs(split.train, features)
    if empty := [feature for feature in features if values[feature].isna().all()]:
        raise TrainingRefused(f"{', '.join(empty)} has no value in any training row.")
    if constant := [feature for feature in features if values[feature].nunique(dropna=False) == 1]:
        raise TrainingRefused(
            f"{', '.join(constant)} has the same value in all {len(values):,} training rows: either the pipeline is "
            "sick, or it is no feature; then take it out of the feature view."
        )


def time_folds(
    rows: pd.DataFrame, horizon: timedelta, folds: int
) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Positions to fit on and to judge on: the newest spans of label times, each with all that was known before it.

    Fewer folds come back when there are too few label times or rows, none when there is not enough for one.
    """
    times = np.sort(rows["label_at"].unique())
    span = max(1, len(times) // (folds + 1))
    known_at = (rows["label_at"] + horizon).to_numpy()
    at = rows["label_at"].to_numpy()
    found = []
    for fold in range(min(folds, len(times) // span), 0, -1):
        judged = times[len(times) - fold * span : len(times) - (fold - 1) * span]
        fit = np.flatnonzero(known_at <= judged[0])
        test = np.flatnonzero((at >= judged[0]) & (at <= judged[-1]))
        if min(len(fit), len(test)) >= MIN_ROWS:
            found.append((fit, test))
    return found


def extremes(train: pd.DataFrame, features: Sequence[str]) -> pd.DataFrame:
    """Inputs at the edges of what was seen and ten times as far out, one feature at a time and all at once.

    Missing values are among them where the training rows have some.
    """
    values = inputs(train, features)
    low, middle, high = values.min(), values.median(), values.max()
    rows = [low, high, low - 10 * (high - low), high + 10 * (high - low)]
    for feature in features:
        edges = [row[feature] for row in rows[:4]]
        edges += [np.nan] if values[feature].isna().any() else []
        rows += [middle.where(middle.index != feature, edge) for edge in edges]
    return pd.DataFrame(rows, columns=list(features))


def inputs(rows: pd.DataFrame, features: Sequence[str]) -> pd.DataFrame:
    """The model's inputs by name, as float64: an integer may be missing one day, and the signature must not change."""
    return rows[list(features)].astype("float64")


def outcomes(rows: pd.DataFrame, label: str) -> npt.NDArray[np.bool_]:
    """The label as plain booleans, whatever the warehouse gave."""
    truth: npt.NDArray[np.bool_] = rows[label].astype(bool).to_numpy()
    return truth
