"""The rows: the holdout is later than what is learnt from, and data that cannot make a model is refused."""

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from features.training.data import (
    MIN_ROWS,
    Split,
    TrainingRefused,
    extremes,
    inputs,
    outcomes,
    refuse_unusable,
    split_in_time,
    time_folds,
)
from tests.training.samples import FEATURES, HORIZON, extract, sample_split

# The split


def test_the_newest_label_times_are_the_holdout() -> None:
    rows = extract(label_times=12)
    split = split_in_time(rows, HORIZON, 4)
    times = sorted(rows["label_at"].unique())
    assert sorted(split.holdout["label_at"].unique()) == times[-4:]
    assert len(split.holdout) == 4 * 250


def test_nothing_learnt_from_had_its_outcome_after_the_holdout_began() -> None:
    split = split_in_time(extract(label_times=12), HORIZON, 4)
    begin = split.holdout["label_at"].min()
    assert split.train["label_at"].max() + HORIZON == begin  # known exactly then: the last that may be used
    # With weekly labels and two weeks' horizon exactly one label time is on neither side.
    assert split.train["label_at"].nunique() == 12 - 4 - 1


@given(
    label_times=st.integers(1, 15),
    every_hours=st.integers(1, 24 * 30),
    horizon_hours=st.integers(1, 24 * 60),
    holdout=st.integers(1, 8),
)
@hypothesis_settings(deadline=None, max_examples=60)
def test_however_labels_are_spaced_the_two_parts_never_overlap(
    label_times: int, every_hours: int, horizon_hours: int, holdout: int
) -> None:
    rows = extract(label_times, MIN_ROWS, timedelta(hours=every_hours))
    horizon = timedelta(hours=horizon_hours)
    try:
        split = split_in_time(rows, horizon, holdout)
    except TrainingRefused:
        gap = timedelta(hours=every_hours * (label_times - holdout))
        assert label_times <= holdout or gap < horizon
        return
    assert split.train["label_at"].max() + horizon <= split.holdout["label_at"].min()
    assert not set(split.train.index) & set(split.holdout.index)
    left_out = rows.drop(index=[*split.train.index, *split.holdout.index])["label_at"]
    assert all(left_out + horizon > split.holdout["label_at"].min())
    assert split.holdout["label_at"].nunique() == holdout


@pytest.mark.parametrize("label_times", [1, 3, 4])
def test_too_few_label_times_are_refused_with_their_number(label_times: int) -> None:
    with pytest.raises(TrainingRefused, match=f"has {label_times} label times; 4 for the holdout and at least one"):
        split_in_time(extract(label_times), HORIZON, 4)


def test_an_empty_extract_is_refused_too() -> None:
    with pytest.raises(TrainingRefused, match="has 0 label times"):
        split_in_time(extract().head(0), HORIZON, 4)


def test_no_row_before_the_gap_is_refused() -> None:
    with pytest.raises(TrainingRefused, match="The training part has 0 rows; at least 200 are needed"):
        split_in_time(extract(label_times=5), HORIZON, 4)


def test_too_few_rows_are_refused_with_the_part_they_lack_in() -> None:
    with pytest.raises(TrainingRefused, match="The holdout part has 199 rows; at least 200 are needed"):
        split_in_time(extract(10, rows_each=199), HORIZON, 1)
    split_in_time(extract(10, rows_each=200), HORIZON, 1)


# What is refused


def test_good_rows_are_not_refused() -> None:
    refuse_unusable(sample_split(), FEATURES, "churned")


@pytest.mark.parametrize("part", ["training", "holdout"])
@pytest.mark.parametrize("value", [True, False])
def test_one_class_only_is_refused(part: str, value: bool) -> None:
    with pytest.raises(TrainingRefused, match=rf"All 1,\d00 {part} labels are {value}; nothing can be learnt"):
        refuse_unusable(_with(part, churned=value), FEATURES, "churned")


@pytest.mark.parametrize("nothing", [None, np.nan])
def test_a_feature_without_any_value_is_refused(nothing: float | None) -> None:
    with pytest.raises(TrainingRefused, match=r"^b has no value in any training row"):
        refuse_unusable(_with("training", b=nothing), FEATURES, "churned")


def test_a_feature_with_one_value_is_refused_with_both_explanations() -> None:
    with pytest.raises(TrainingRefused, match=r"^b has the same value in all 1,500 training rows: either the pipeline"):
        refuse_unusable(_with("training", b=7), FEATURES, "churned")


def test_all_features_that_are_constant_are_named() -> None:
    with pytest.raises(TrainingRefused, match=r"^a, b has the same value"):
        refuse_unusable(_with("training", a=0.5, b=7), FEATURES, "churned")


def test_a_feature_that_is_either_missing_or_one_value_says_something() -> None:
    split = _with("training", b=7)
    split.train.loc[split.train.index[:300], "b"] = np.nan
    refuse_unusable(split, FEATURES, "churned")


@pytest.mark.parametrize("part", ["training", "holdout"])
@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
def test_one_infinite_value_is_refused_with_the_part_it_is_in(part: str, infinite: float) -> None:
    split = _with(part)
    rows = split.train if part == "training" else split.holdout
    rows.loc[rows.index[17], "a"] = infinite
    with pytest.raises(TrainingRefused, match=f"^a has infinite values in {part} rows; the pipeline is sick"):
        refuse_unusable(split, FEATURES, "churned")


def test_what_is_no_feature_may_be_as_it_likes() -> None:
    split = _with("training", comment=np.inf, nothing=None)
    refuse_unusable(split, FEATURES, "churned")


def _with(part: str, **columns: Any) -> Split:
    split = sample_split()
    changed = (split.train if part == "training" else split.holdout).assign(**columns)
    return Split(changed, split.holdout) if part == "training" else Split(split.train, changed)


# Folds in time


@given(
    label_times=st.integers(1, 14),
    every_hours=st.integers(1, 24 * 20),
    horizon_hours=st.integers(1, 24 * 40),
    folds=st.integers(1, 6),
    seed=st.integers(0, 99),
)
@hypothesis_settings(deadline=None, max_examples=40)
def test_folds_are_those_of_a_loop_over_label_times(
    label_times: int, every_hours: int, horizon_hours: int, folds: int, seed: int
) -> None:
    rows = extract(label_times, MIN_ROWS, timedelta(hours=every_hours)).sample(frac=1, random_state=seed)
    horizon = timedelta(hours=horizon_hours)
    folds = min(folds, label_times)  # more: test_more_folds_than_label_times_are_not_judged_twice
    found = time_folds(rows, horizon, folds)
    assert [(fit.tolist(), test.tolist()) for fit, test in found] == _naive_folds(rows, horizon, folds)


def _naive_folds(rows: pd.DataFrame, horizon: timedelta, folds: int) -> list[tuple[list[int], list[int]]]:
    """The spans, cut from the newest label time backwards; each with every row that was known before it."""
    at = list(rows["label_at"])
    remaining = sorted(set(at))
    span = max(1, len(remaining) // (folds + 1))
    found: list[tuple[list[int], list[int]]] = []
    for _ in range(folds):
        judged, remaining = remaining[-span:], remaining[:-span]
        fit = [row for row, time in enumerate(at) if time + horizon <= judged[0]]
        test = [row for row, time in enumerate(at) if time in judged]
        if len(fit) >= MIN_ROWS and len(test) >= MIN_ROWS:
            found.insert(0, (fit, test))
    return found


@given(
    label_times=st.integers(2, 14),
    every_hours=st.integers(1, 24 * 20),
    horizon_hours=st.integers(1, 24 * 40),
    folds=st.integers(1, 6),
)
@hypothesis_settings(deadline=None, max_examples=40)
def test_folds_never_overlap_and_never_divide_a_label_time(
    label_times: int, every_hours: int, horizon_hours: int, folds: int
) -> None:
    rows = extract(label_times, MIN_ROWS, timedelta(hours=every_hours))
    horizon = timedelta(hours=horizon_hours)
    judged: set[pd.Timestamp] = set()
    for fit, test in time_folds(rows, horizon, min(folds, label_times)):
        known, unseen = rows.iloc[fit]["label_at"], rows.iloc[test]["label_at"]
        assert (known + horizon).max() <= unseen.min()
        assert not set(fit) & set(test)
        assert not judged & set(unseen)
        judged |= set(unseen)
        for side in (known, unseen):
            assert len(side) == side.nunique() * MIN_ROWS  # of each label time all rows


def test_the_newest_fold_ends_with_the_newest_label_time_and_the_gap_is_left_out() -> None:
    rows = extract(label_times=12)
    fit, test = time_folds(rows, HORIZON, 3)[-1]
    times = sorted(rows["label_at"].unique())
    assert sorted(rows["label_at"].iloc[test].unique()) == times[-3:]
    assert sorted(rows["label_at"].iloc[fit].unique()) == times[:-4]  # the tenth's outcome is known too late


def test_folds_without_enough_rows_before_them_are_left_out() -> None:
    assert len(time_folds(extract(label_times=5), HORIZON, 4)) == 3
    assert len(time_folds(extract(label_times=3), HORIZON, 4)) == 1
    assert time_folds(extract(label_times=2), HORIZON, 4) == []


def test_folds_of_too_few_rows_are_left_out() -> None:
    assert time_folds(extract(8, rows_each=MIN_ROWS - 1), HORIZON, 7) == [], "one label time is not enough to judge on"
    assert len(time_folds(extract(8, rows_each=MIN_ROWS), HORIZON, 7)) == 6


def test_more_folds_than_label_times_are_not_judged_twice() -> None:
    rows = extract(label_times=4)
    begins = [rows["label_at"].iloc[test].min() for _, test in time_folds(rows, timedelta(days=7), 6)]
    assert begins == sorted(rows["label_at"].unique())[1:]


# Extremes


def test_extremes_are_the_edges_and_ten_times_as_far_out_together_and_one_at_a_time() -> None:
    rows = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0, 10.0], "b": [5, 5, 5, 6, 7]})
    edges_of_a, edges_of_b = [0, 10, -100, 110], [5, 7, -15, 27]
    assert extremes(rows, FEATURES).to_numpy().tolist() == [
        *([a, b] for a, b in zip(edges_of_a, edges_of_b, strict=True)),
        *([a, 5] for a in edges_of_a),
        *([2, b] for b in edges_of_b),
    ]


@pytest.mark.parametrize("part", ["training", "holdout"])
def test_missing_labels_are_refused_and_not_taken_for_an_outcome(part: str) -> None:
    split = sample_split()
    rows = split.train if part == "training" else split.holdout
    holed = rows.astype({"churned": object})
    holed.loc[holed.index[:3], "churned"] = None
    one_sided = Split(holed, split.holdout) if part == "training" else Split(split.train, holed)
    with pytest.raises(TrainingRefused, match=f"3 of {len(rows):,} {part} labels are missing"):
        refuse_unusable(one_sided, FEATURES, "churned")


def test_extremes_have_a_missing_value_only_where_training_rows_have_one() -> None:
    rows = pd.DataFrame({"a": [0.0, 1.0, np.nan], "b": [5, 6, 7]})
    found = extremes(rows, FEATURES)
    assert found["a"].isna().sum() == 1
    assert not found["b"].isna().any()
    assert found[found["a"].isna()]["b"].tolist() == [6]


def test_extremes_are_inputs_of_the_model() -> None:
    found = extremes(sample_split().train, ["b", "a"])
    pd.testing.assert_frame_equal(found, inputs(found, ["b", "a"]))


# Inputs and outcomes


def test_inputs_are_floats_in_the_order_of_the_names() -> None:
    rows = pd.DataFrame({"c": ["x"], "b": pd.Series([None], dtype=object), "a": [3]})
    made = inputs(rows, FEATURES)
    assert list(made.columns) == FEATURES
    assert [str(dtype) for dtype in made.dtypes] == ["float64", "float64"]


def test_an_input_that_is_not_there_is_an_error_with_its_name() -> None:
    with pytest.raises(KeyError, match="b"):
        inputs(pd.DataFrame({"a": [1.0]}), FEATURES)


@pytest.mark.parametrize("kind", ["bool", "object", "int64", "boolean"])
def test_outcomes_are_plain_booleans_whatever_the_warehouse_gave(kind: str) -> None:
    found = outcomes(pd.DataFrame({"churned": pd.Series([True, False], dtype=kind)}), "churned")
    assert found.dtype == np.bool_
    assert found.tolist() == [True, False]
