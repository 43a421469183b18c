"""Fitting and judging: the holdout is later than what was learnt from, and data that cannot make a model is refused."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.ensemble import HistGradientBoostingClassifier

from features import training
from features.contract import TrainingSettings
from features.errors import SkewlessError
from features.training import Split, TrainingRefused

HORIZON = timedelta(days=14)
FIRST = datetime(2013, 3, 5, tzinfo=UTC)
FEATURES = ["a", "b"]
TREES = TrainingSettings(
    estimator="sklearn.ensemble.HistGradientBoostingClassifier", parameters={"random_state": 0, "max_iter": 20}
)
LOGISTIC = TrainingSettings(estimator="sklearn.linear_model.LogisticRegression")


def extract(label_times: int = 12, rows_each: int = 250, every: timedelta = timedelta(days=7)) -> pd.DataFrame:
    """Users with two features; the first one decides the label, with noise."""
    rng = np.random.default_rng(3)
    n = label_times * rows_each
    a = rng.normal(size=n)
    return pd.DataFrame({
        "user_id": [f"u{i % rows_each}" for i in range(n)],
        "label_at": pd.to_datetime([FIRST + i // rows_each * every for i in range(n)], utc=True),
        "a": a,
        "b": rng.integers(0, 9, n),
        "churned": a + rng.normal(size=n) > 0,
    })


@pytest.fixture
def split() -> Split:
    return training.split_in_time(extract(), HORIZON, 4)


class Flipped:
    """Says of the class True what its feature says, with its classes in an order that it was given."""

    def __init__(self, classes: list[Any]) -> None:
        self.classes_ = np.array(classes)

    def predict_proba(self, rows: pd.DataFrame) -> Any:
        probability = rows["a"].to_numpy()
        return np.column_stack([probability if bool(name) else 1 - probability for name in self.classes_])


def test_the_newest_label_times_are_the_holdout() -> None:
    rows = extract(label_times=12)
    split = training.split_in_time(rows, HORIZON, 4)
    times = sorted(rows["label_at"].unique())
    assert sorted(split.holdout["label_at"].unique()) == times[-4:]
    assert len(split.holdout) == 4 * 250


def test_nothing_learnt_from_had_its_outcome_after_the_holdout_began() -> None:
    split = training.split_in_time(extract(), HORIZON, 4)
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
    rows = extract(label_times, training.MIN_ROWS, timedelta(hours=every_hours))
    horizon = timedelta(hours=horizon_hours)
    try:
        split = training.split_in_time(rows, horizon, holdout)
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
        training.split_in_time(extract(label_times), HORIZON, 4)


def test_no_row_before_the_gap_is_refused() -> None:
    with pytest.raises(TrainingRefused, match="The training part has 0 rows; at least 200 are needed"):
        training.split_in_time(extract(label_times=5), HORIZON, 4)


def test_too_few_rows_are_refused_with_the_part_they_lack_in() -> None:
    with pytest.raises(TrainingRefused, match="The holdout part has 199 rows; at least 200 are needed"):
        training.split_in_time(extract(10, rows_each=199), HORIZON, 1)
    training.split_in_time(extract(10, rows_each=200), HORIZON, 1)


@pytest.mark.parametrize(("part", "value"), [("training", True), ("training", False), ("holdout", True)])
def test_one_class_only_is_refused(split: Split, part: str, value: bool) -> None:
    rows = split.train if part == "training" else split.holdout
    uniform = rows.assign(churned=value)
    one_sided = Split(uniform, split.holdout) if part == "training" else Split(split.train, uniform)
    with pytest.raises(TrainingRefused, match=f"All {len(rows):,} {part} labels are {value}; nothing can be learnt"):
        training.fit(one_sided, FEATURES, "churned", TREES)


@pytest.mark.parametrize("nothing", [None, np.nan])
def test_a_feature_without_any_value_is_refused(split: Split, nothing: float | None) -> None:
    empty = Split(split.train.assign(b=nothing), split.holdout)
    with pytest.raises(TrainingRefused, match="b has no value in any training row"):
        training.fit(empty, FEATURES, "churned", TREES)


def test_a_few_missing_values_are_no_obstacle(split: Split) -> None:
    split.train.loc[split.train.index[:100], "b"] = np.nan
    assert training.fit(split, FEATURES, "churned", TREES).metrics["roc_auc"] > 0.7


def test_what_the_warehouse_gives_as_objects_is_fitted_too(split: Split) -> None:
    as_objects = Split(split.train.astype({"b": object, "churned": object}), split.holdout.astype({"churned": object}))
    expected = training.fit(split, FEATURES, "churned", TREES).metrics
    assert training.fit(as_objects, FEATURES, "churned", TREES).metrics == expected


ESTIMATORS = {
    "no such module": ("sklearn.forest.Forest", {}, "training.estimator: sklearn.forest.Forest cannot be imported"),
    "no such class": ("sklearn.ensemble.Forest", {}, "training.estimator: sklearn.ensemble.Forest cannot be imported"),
    "no path at all": ("LogisticRegression", {}, "training.estimator: LogisticRegression cannot be imported"),
    "an unknown parameter": (
        "sklearn.linear_model.LogisticRegression",
        {"penalties": 3},
        "training.parameters: sklearn.linear_model.LogisticRegression refuses them (",
    ),
    "no probabilities": (
        "sklearn.linear_model.LinearRegression",
        {},
        "training.estimator: sklearn.linear_model.LinearRegression has no predict_proba",
    ),
}


@pytest.mark.parametrize(("path", "parameters", "message"), ESTIMATORS.values(), ids=ESTIMATORS)
def test_an_estimator_that_cannot_be_made_is_refused_by_its_name(
    path: str, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(SkewlessError) as error:
        training.make_estimator(TrainingSettings(estimator=path, parameters=parameters))
    assert str(error.value).startswith(message)


def test_the_declared_estimator_is_made_with_its_parameters() -> None:
    estimator = training.make_estimator(TREES)
    assert isinstance(estimator, HistGradientBoostingClassifier)
    assert (estimator.random_state, estimator.max_iter) == (0, 20)


@pytest.mark.parametrize("settings", [TREES, LOGISTIC], ids=lambda settings: settings.estimator.rpartition(".")[2])
def test_any_classifier_learns_what_there_is_to_learn(split: Split, settings: TrainingSettings) -> None:
    fitted = training.fit(split, FEATURES, "churned", settings)
    assert 0.75 < fitted.metrics["roc_auc"] < 0.9


def test_the_same_seed_gives_the_same_metrics(split: Split) -> None:
    forest = TrainingSettings(
        estimator="sklearn.ensemble.RandomForestClassifier", parameters={"random_state": 5, "n_estimators": 10}
    )
    first, second = (training.fit(split, FEATURES, "churned", forest).metrics for _ in range(2))
    assert first == second


def test_labels_that_have_nothing_to_do_with_the_features_cannot_be_predicted(split: Split) -> None:
    rng = np.random.default_rng(1)
    shuffled = Split(*(rows.assign(churned=rng.permutation(rows["churned"])) for rows in (split.train, split.holdout)))
    assert 0.42 < training.fit(shuffled, FEATURES, "churned", TREES).metrics["roc_auc"] < 0.58


@pytest.mark.parametrize("classes", [[False, True], [True, False], [0, 1], [1, 0]], ids=str)
def test_a_score_is_the_probability_of_true_whatever_the_order_of_classes(classes: list[Any]) -> None:
    rows = pd.DataFrame({"a": [0.1, 0.9], "b": [0, 0]})
    assert training.scores(Flipped(classes), rows, FEATURES).tolist() == pytest.approx([0.1, 0.9])


def test_inputs_are_chosen_by_name_not_by_position(split: Split) -> None:
    estimator = training.fit(split, FEATURES, "churned", TREES).estimator
    expected = training.scores(estimator, split.holdout, FEATURES)
    reordered = split.holdout[["churned", "b", "label_at", "a"]].assign(later_feature=1)
    np.testing.assert_array_equal(training.scores(estimator, reordered, FEATURES), expected)


def test_inputs_are_floats_in_the_order_of_the_names() -> None:
    rows = pd.DataFrame({"c": ["x"], "b": pd.Series([None], dtype=object), "a": [3]})
    made = training.inputs(rows, FEATURES)
    assert list(made.columns) == FEATURES
    assert [str(dtype) for dtype in made.dtypes] == ["float64", "float64"]


def test_an_input_that_is_not_there_is_an_error_with_its_name() -> None:
    with pytest.raises(KeyError, match="b"):
        training.inputs(pd.DataFrame({"a": [1.0]}), FEATURES)


def test_metrics_are_those_of_scikit_learn() -> None:
    rows = pd.DataFrame({"a": [0.1, 0.4, 0.35, 0.8], "b": 0, "churned": [False, False, True, True]})
    judged = training.judge(Flipped([False, True]), rows, FEATURES, "churned")
    assert judged == {
        "roc_auc": 0.75,
        "average_precision": pytest.approx(metrics.average_precision_score(rows["churned"], rows["a"])),
        "brier": pytest.approx(((rows["a"] - rows["churned"]) ** 2).mean()),
        "log_loss": pytest.approx(metrics.log_loss(rows["churned"], rows["a"])),
        "accuracy": 0.75,
    }
