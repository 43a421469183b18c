"""The baseline of a champion: the counts of its training rows, by segment and hour of the week, and of its scores."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features import warehouse
from features.contract import DriftSettings, Model, TrainingSettings
from features.drift import baselines
from features.drift.baselines import BaselineKey, StoredBaseline
from features.drift.profile import slot_of
from features.drift.report import WHOLE
from features.drift.sketch import Kind, Sketch
from features.drift.sources import LABEL, PREDICTION
from features.extracts import training_extract
from features.steps.baseline import write_baselines
from features.training.data import Split, split_in_time
from features.training.estimator import scores as scores_of
from features.training.fitting import fit
from tests.databases import execute, rows, use
from tests.steps import drift_warehouse
from tests.steps.drift_warehouse import monitored, with_feature

AS_OF = datetime(2013, 7, 2, tzinfo=UTC)
# By name: the SQL that the contract would declare, and the same on a frame.
SEGMENTS: dict[str, tuple[str, Callable[[pd.DataFrame], "pd.Series[bool]"]]] = {
    "recent": ("days_since_last_session <= 3", lambda rows: rows["days_since_last_session"] <= 3),
    "busy": ("mod(session_count, 7) > 2", lambda rows: rows["session_count"] % 7 > 2),
}
EVERYBODY: dict[str, Callable[[pd.DataFrame], "pd.Series[bool]"]] = {
    WHOLE: lambda rows: pd.Series(True, index=rows.index),
    **{name: holds for name, (_, holds) in SEGMENTS.items()},
}
NUMBER = "7"
LABEL_AT = datetime(2013, 5, 1, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True)
def _sample(sample_copy_database: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        use(sample_copy_database, patch)
        yield


@pytest.fixture(scope="module")
def model(churn: Model) -> Model:
    """A model of its own, since others share the sample, with two segments."""
    segments = {name: condition for name, (condition, _) in SEGMENTS.items()}
    return monitored(churn.model_copy(update={"name": "counted"}), segments=segments)


@pytest.fixture(scope="module")
def extract(_sample: None, model: Model) -> Any:
    return training_extract(model, AS_OF)


@pytest.fixture(scope="module")
def split(extract: Any, model: Model) -> Split:
    return split_in_time(extract.rows, model.label_horizon, model.training.holdout_label_times)


@pytest.fixture(scope="module")
def estimator(split: Split, model: Model) -> Any:
    quick = TrainingSettings(estimator="sklearn.naive_bayes.GaussianNB")
    return fit(split, model.feature_names, model.label, model.label_horizon, quick).estimator


@pytest.fixture(scope="module", autouse=True)
def _written(model: Model, split: Split, extract: Any, estimator: Any) -> None:
    """What promoting writes, beside the model itself."""
    write(model, split, extract, estimator)


def write(model: Model, split: Split, extract: Any, estimator: Any, number: str = NUMBER) -> None:
    with warehouse.connect() as connection:
        write_baselines(connection, model, number, split, extract.feature_version, estimator)


def baseline(model: Model, feature: str, segment: str = WHOLE, number: str = NUMBER) -> StoredBaseline:
    with warehouse.connect() as connection:
        key = BaselineKey("training", "training", segment, number)
        found = baselines.read_baseline(connection, model, feature, key)
    assert found is not None, (feature, segment)
    return found


def assert_same(found: Sketch, expected: Sketch) -> None:
    np.testing.assert_array_equal(found.counts, expected.counts)
    np.testing.assert_allclose(found.sums, expected.sums, rtol=1e-9)
    assert found.squares == pytest.approx(expected.squares, rel=1e-9)
    assert (found.missing, found.not_finite, found.invalid) == (
        expected.missing,
        expected.not_finite,
        expected.invalid,
    )


def test_each_feature_the_label_and_the_scores_have_one(model: Model) -> None:
    written = rows(
        "select feature, segment, kind, source, version from monitoring.feature_baselines where model_name = 'counted'"
    )
    expected = {(name, segment) for name in (*model.feature_names, LABEL) for segment in EVERYBODY}
    assert {row[:2] for row in written} == {*expected, (PREDICTION, WHOLE)}
    assert len(written) == len(expected) + 1
    assert {row[2:] for row in written} == {("training", "training", NUMBER)}


@pytest.mark.parametrize("segment", EVERYBODY)
def test_its_counts_are_those_of_the_rows_it_was_fitted_on(model: Model, split: Split, segment: str) -> None:
    part = split.train[EVERYBODY[segment](split.train)]
    assert len(part) > 0
    assert segment == WHOLE or len(part) < len(split.train)
    for feature in model.feature_names:
        found = baseline(model, feature, segment).baseline
        assert_same(found.whole, Sketch.of(part[feature].to_numpy(dtype=float), found.grid))
        assert found.whole.rows == len(part)


@pytest.mark.parametrize("segment", EVERYBODY)
def test_the_label_is_counted_in_the_same_rows(model: Model, split: Split, segment: str) -> None:
    part = split.train[EVERYBODY[segment](split.train)]
    found = baseline(model, LABEL, segment).baseline
    churned = int(part[model.label].astype(bool).sum())
    assert (found.grid.kind, found.grid.categories) == (Kind.BOOLEAN, ("false", "true"))
    assert found.whole.counts.tolist()[:2] == [len(part) - churned, churned]


def test_the_scores_are_those_of_the_holdout(model: Model, split: Split, estimator: Any) -> None:
    found = baseline(model, PREDICTION).baseline
    scores = scores_of(estimator, split.holdout, list(model.feature_names))
    assert_same(found.whole, Sketch.of(scores, found.grid))
    assert found.whole.given == len(split.holdout)
    assert found.profile.mean == pytest.approx(float(scores.mean()))
    assert found.entities == split.holdout["user_id"].nunique() < len(split.holdout)
    assert found.slots == {}


def test_mean_and_deviation_are_numpys(model: Model, split: Split) -> None:
    for feature in model.feature_names:
        found, values = baseline(model, feature).baseline, split.train[feature].to_numpy(dtype=float)
        assert found.profile.mean == pytest.approx(values.mean(), rel=1e-9)
        assert found.profile.std(found.grid) == pytest.approx(values.std(), rel=1e-6)


@pytest.mark.parametrize("segment", EVERYBODY)
def test_it_rests_on_distinct_users_and_not_on_rows(model: Model, split: Split, segment: str) -> None:
    part = split.train[EVERYBODY[segment](split.train)]
    for feature in (*model.feature_names, LABEL):
        found = baseline(model, feature, segment).baseline
        assert found.entities == part["user_id"].nunique()
        assert found.profile.size < found.whole.rows / 2


@pytest.mark.parametrize("segment", EVERYBODY)
def test_its_slots_are_the_hours_of_the_week_of_as_of(model: Model, split: Split, segment: str) -> None:
    part = split.train[EVERYBODY[segment](split.train)]
    slots = part["as_of"].map(slot_of)
    for feature in model.feature_names:
        found = baseline(model, feature, segment).baseline
        assert set(found.slots) == set(slots)
        for slot, (sketch, entities) in found.slots.items():
            inside = part[slots == slot]
            assert_same(sketch, Sketch.of(inside[feature].to_numpy(dtype=float), found.grid))
            assert entities == inside["user_id"].nunique()


def test_an_hour_of_the_week_is_that_of_as_of_and_not_of_the_label(churn: Model) -> None:
    random, n = np.random.default_rng(3), 600
    hours = pd.to_datetime([LABEL_AT - timedelta(hours=int(back)) for back in random.integers(1, 400, n)], utc=True)
    people = [f"u{number}" for number in random.integers(0, 200, n)]
    written = pd.DataFrame({
        "user_id": people,
        "as_of": hours,
        "label_at": LABEL_AT,
        "matured_at": LABEL_AT + timedelta(days=15),
        **drift_warehouse.healthy(n),
        "feature_version": "v1",
        "churned": np.arange(n) % 3 == 0,
    })
    written = written.drop_duplicates(["user_id", "as_of"])
    slots = written["as_of"].map(slot_of)
    with drift_warehouse.empty_tables():
        drift_warehouse.copy_in("training.churn_training_set", written)
        simple = drift_warehouse.by_default(churn)
        with warehouse.connect() as connection:
            write_baselines(connection, simple, "1", Split(written, written), "v1", drift_warehouse.ScoresItself())
        found = baseline(simple, "avg_session_duration_minutes", number="1").baseline
    assert set(found.slots) == set(slots)
    assert len(found.slots) > 150
    for slot, (sketch, entities) in found.slots.items():
        inside = written[slots == slot]
        assert_same(sketch, Sketch.of(inside["avg_session_duration_minutes"], found.grid))
        assert entities == inside["user_id"].nunique()
    assert found.entities == written["user_id"].nunique()


def test_its_slots_add_up_to_the_whole(model: Model) -> None:
    for feature in (*model.feature_names, LABEL):
        found = baseline(model, feature).baseline
        assert_same(Sketch.total([sketch for sketch, _ in found.slots.values()], found.grid), found.whole)


def test_no_cell_of_many_values_holds_much_more_than_its_share(model: Model, split: Split) -> None:
    for feature in model.feature_names:
        found = baseline(model, feature).baseline
        values = split.train[feature].to_numpy(dtype=float)
        _, times = np.unique(values, return_counts=True)
        assert found.whole.counts.max() <= max(times.max(), 2 * len(values) / 64)


def test_it_says_from_when_to_when_its_rows_are(model: Model, split: Split) -> None:
    ((first, last),) = rows(
        "select starts_at, ends_at from monitoring.feature_baselines where model_name = 'counted'"
        " and feature = 'session_count' and segment = 'all'"
    )
    assert (first, last) == (split.train["as_of"].min(), split.train["as_of"].max())


def test_promoting_again_replaces_it(model: Model, split: Split, extract: Any, estimator: Any) -> None:
    def kept() -> list[Any]:
        return rows(
            "select feature, segment, version, slot, entities, counts, missing from monitoring.feature_baselines"
            " inner join monitoring.baseline_slots using (baseline_id) where model_name = 'counted' order by 1, 2, 3, 4"
        )

    before = kept()
    write(model, split, extract, estimator)
    assert kept() == before


def test_promoting_again_makes_no_new_cells_for_a_feature_that_fits_them(
    model: Model, split: Split, extract: Any, estimator: Any
) -> None:
    before = {feature: baseline(model, feature).grid_id for feature in (*model.feature_names, LABEL)}
    write(model, split, extract, estimator)
    assert {feature: baseline(model, feature).grid_id for feature in before} == before


def test_each_version_has_one_of_its_own(model: Model, split: Split, extract: Any, estimator: Any) -> None:
    half = Split(split.train[split.train["label_at"] <= split.train["label_at"].median()], split.holdout)
    before = baseline(model, "session_count").baseline.whole
    try:
        write(model, half, extract, estimator, number="8")
        later = baseline(model, "session_count", number="8")
        assert later.baseline.whole.rows == len(half.train) < len(split.train)
        assert later.grid_id == baseline(model, "session_count").grid_id
        assert_same(baseline(model, "session_count").baseline.whole, before)
    finally:
        execute("delete from monitoring.feature_baselines where model_name = 'counted' and version = '8'")


def test_a_feature_whose_drift_is_off_has_none(model: Model, split: Split, extract: Any, estimator: Any) -> None:
    quiet = with_feature(model.model_copy(update={"name": "quiet"}), "session_count", drift=DriftSettings(watch=False))
    write(quiet, split, extract, estimator)
    named = {name for (name,) in rows("select feature from monitoring.feature_baselines where model_name = 'quiet'")}
    assert named == {*model.feature_names[1:], LABEL, PREDICTION}
