"""How models age: each is fitted on what had matured, and scores only what it had not seen."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from features.retraining.losses import LossMatrix, log_losses, train_at_many_instants
from tests.retraining.loss_matrices import RECIPE, START, WEEK, trained, world

# At week 3 the labels of weeks 0 to 2 have matured: two are the holdout, and one, a week before it, is learnt.
FIRST_CUTOFF = 3
LABELS = world(weeks=12, degrees_per_day=0.5)


@pytest.fixture(scope="module")
def matrix() -> LossMatrix:
    return trained(LABELS, RECIPE)


# What each model learns from and scores.


def test_the_first_model_is_made_as_soon_as_enough_has_matured(matrix: LossMatrix) -> None:
    assert matrix.cutoffs.tolist() == list(range(FIRST_CUTOFF, 12))
    assert [one.at for one in matrix.skipped] == [START + week * WEEK for week in range(FIRST_CUTOFF)]
    assert "needed" in matrix.skipped[-1].reason


@pytest.mark.parametrize("model", [0, 3, 7])
def test_a_model_is_what_a_plain_loop_over_its_past_makes(matrix: LossMatrix, model: int) -> None:
    cutoff = START + int(matrix.cutoffs[model]) * WEEK
    past = [row for row in LABELS.to_dict("records") if row["matured_at"] <= cutoff]
    newest = sorted({row["label_at"] for row in past})[-2:]
    train = pd.DataFrame([row for row in past if row["label_at"] + WEEK <= newest[0]])
    holdout = pd.DataFrame([row for row in past if row["label_at"] in newest])
    expected = LogisticRegression().fit(train[["x", "y"]], train["churned"])

    unseen = (matrix.labels["matured_at"] > cutoff).to_numpy()
    scores = expected.predict_proba(matrix.labels.loc[unseen, ["x", "y"]])[:, 1]
    np.testing.assert_allclose(matrix.scores[model, unseen], scores, atol=1e-4)
    auc = roc_auc_score(holdout["churned"], expected.predict_proba(holdout[["x", "y"]])[:, 1])
    assert matrix.holdout_metrics[model] == pytest.approx(auc, abs=1e-4)


def test_a_model_scores_what_it_cannot_have_learnt_and_nothing_else() -> None:
    """Also rows of before it was trained, whose outcome came later: they say how the champion does."""
    matrix = trained(LABELS.assign(matured_at=LABELS["label_at"] + timedelta(days=17)), RECIPE)
    for model, cutoff in enumerate(matrix.cutoffs):
        known = (matrix.labels["matured_at"] <= matrix.label_times[cutoff]).to_numpy()
        assert np.isnan(matrix.scores[model, known]).all()
        assert np.isfinite(matrix.scores[model, ~known]).all()


def test_nothing_later_changes_a_model(matrix: LossMatrix) -> None:
    model, cutoff = 2, FIRST_CUTOFF + 2
    as_of = START + cutoff * WEEK
    other = LABELS[LABELS["label_at"] <= as_of].copy()
    other.loc[other["matured_at"] > as_of, "churned"] ^= True
    again = trained(other, RECIPE)
    np.testing.assert_array_equal(again.scores[: model + 1], matrix.scores[: model + 1, : len(other)])


def test_what_was_known_earlier_is_what_only_those_labels_make(matrix: LossMatrix) -> None:
    as_of = START + (FIRST_CUTOFF + 4) * WEEK
    found = matrix.until(as_of)
    alone = trained(LABELS[LABELS["matured_at"] <= as_of], RECIPE)
    assert list(found.label_times) == list(alone.label_times)
    for name in ("cutoffs", "times", "entities", "truth", "scores", "holdout_metrics"):
        np.testing.assert_array_equal(getattr(found, name), getattr(alone, name), err_msg=name)
    np.testing.assert_array_equal(found.mean_losses(), alone.mean_losses())


def test_before_anything_matured_nothing_was_known(matrix: LossMatrix) -> None:
    found = matrix.until(START)
    assert (len(found.label_times), len(found.cutoffs), len(found.rows)) == (0, 0, 0)


def test_the_order_of_the_rows_does_not_matter(matrix: LossMatrix) -> None:
    shuffled = trained(LABELS.sample(frac=1, random_state=1), RECIPE)
    np.testing.assert_array_equal(shuffled.scores, matrix.scores)
    np.testing.assert_array_equal(shuffled.entities, matrix.entities)


def test_a_window_forgets_what_is_older_and_has_to_be_full() -> None:
    rolling = replace(RECIPE, window=49)
    split = rolling.split(LABELS, START + 10 * WEEK)
    assert split.train["label_at"].min() == START + 3 * WEEK
    assert trained(LABELS, rolling).cutoffs[0] == 7
    assert RECIPE.split(LABELS, START + 10 * WEEK).train["label_at"].min() == START


def test_short_history_can_be_skipped() -> None:
    found = trained(LABELS, RECIPE, min_history=timedelta(days=63))
    assert found.cutoffs.tolist() == [9, 10, 11]
    assert "63 days are needed" in found.skipped[-1].reason


def test_by_default_a_model_has_twelve_weeks_of_history() -> None:
    found = train_at_many_instants(world(weeks=14), RECIPE)
    assert found.cutoffs.tolist() == [12, 13]


def test_it_says_how_far_it_is() -> None:
    told: list[tuple[int, int]] = []
    trained(LABELS[LABELS["label_at"] < START + 5 * WEEK], RECIPE, on_progress=lambda *n: told.append(n))
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_no_labels_make_no_models() -> None:
    found = trained(LABELS.iloc[:0], RECIPE)
    assert (found.scores.shape, found.entity_count, found.skipped) == ((0, 0), 0, ())


# A matrix that would be too large.


def test_of_too_many_rows_some_entities_are_scored_by_the_same_models(
    matrix: LossMatrix, caplog: pytest.LogCaptureFixture
) -> None:
    thin = trained(LABELS, RECIPE, max_cells=12 * 1000)
    assert 900 <= len(thin.rows) <= 1000
    assert "too many to score at once" in caplog.text
    users = set(matrix.labels["user_id"].iloc[thin.rows])
    assert thin.kept_share == len(users) / 250
    assert set(np.flatnonzero(matrix.labels["user_id"].isin(users))) == set(thin.rows)
    np.testing.assert_array_equal(thin.scores, matrix.scores[:, thin.rows])
    np.testing.assert_array_equal(thin.truth, matrix.truth[thin.rows])


def test_who_is_scored_does_not_depend_on_the_order_of_the_rows() -> None:
    labels = LABELS[LABELS["label_at"] < START + 5 * WEEK]
    thin = trained(labels, RECIPE, max_cells=3000)
    again = trained(labels.sample(frac=1, random_state=2), RECIPE, max_cells=3000)
    np.testing.assert_array_equal(thin.rows, again.rows)


def test_at_least_one_entity_is_scored() -> None:
    labels = LABELS[LABELS["label_at"] < START + 5 * WEEK]
    assert trained(labels, RECIPE, max_cells=1).entity_count == 1


# Losses.


@given(st.booleans(), st.floats(0, 1, width=32))
def test_a_log_loss_is_that_of_scikit_learn(truth: bool, score: float) -> None:
    single = np.array([score], dtype=np.float32)
    expected = log_loss([truth], single, labels=[False, True])
    assert log_losses(np.array([truth]), single)[0] == pytest.approx(expected, rel=1e-4, abs=2e-7)


def test_mean_losses_are_those_of_a_plain_loop(matrix: LossMatrix) -> None:
    means = matrix.mean_losses()
    for model, cutoff in enumerate(matrix.cutoffs):
        for time in range(len(matrix.label_times)):
            if time < cutoff:
                assert np.isnan(means[model, time])
                continue
            rows = matrix.times == time
            expected = log_loss(matrix.truth[rows], matrix.scores[model, rows].astype(float))
            assert means[model, time] == pytest.approx(expected, abs=1e-6)


def test_rows_of_a_label_time_stand_together(matrix: LossMatrix) -> None:
    for time, at in enumerate(matrix.label_times):
        assert (matrix.labels["label_at"].iloc[matrix.rows_at(time)] == at).all()
        assert matrix.row_counts()[time] == 250
