"""The search for hyper-parameters: within its budget, on time it has not seen, the same again every time."""

import logging
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss
from sklearn.tree import DecisionTreeClassifier

from features.contract import SearchSettings, TrainingSettings
from features.errors import SkewlessError
from features.training import search as search_module
from features.training.estimator import fitted
from features.training.search import Tried, search
from tests.training.samples import FEATURES, HORIZON, extract

GRID = {"max_depth": [1, 2, 4, 9], "min_samples_leaf": [1, 20, 100]}


def trees(grid: dict[str, list[Any]] = GRID, *, candidates: int = 5, folds: int = 2, seed: int = 0) -> TrainingSettings:
    """A decision tree of declared depth 3, searched."""
    return TrainingSettings(
        estimator="sklearn.tree.DecisionTreeClassifier",
        parameters={"max_depth": 3},
        search=SearchSettings(parameters=grid, candidates=candidates, folds=folds),
        seed=seed,
    )


def searched(settings: TrainingSettings, rows: pd.DataFrame | None = None) -> tuple[Tried, ...]:
    """The search over nine label times, of which two spans are judged."""
    return search(extract(label_times=9) if rows is None else rows, FEATURES, "churned", HORIZON, settings)


def test_without_settings_nothing_is_tried() -> None:
    assert searched(TrainingSettings()) == ()


@pytest.mark.parametrize("candidates", [2, 5, 9])
def test_the_budget_is_kept(candidates: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[None] = []

    def counted(*given: Any) -> Any:
        fits.append(None)
        return fitted(*given)

    monkeypatch.setattr(search_module, "fitted", counted)
    tried = searched(trees(candidates=candidates))
    assert len(tried) == candidates
    assert len(fits) == candidates * 2  # folds


def test_a_small_grid_is_tried_as_a_whole_and_no_combination_twice() -> None:
    tried = searched(trees({"max_depth": [1, 2], "min_samples_leaf": [1, 20]}, candidates=50))
    combinations = {tuple(sorted(each.parameters.items())) for each in tried}
    assert len(tried) == len(combinations) == 1 + 2 * 2


def test_candidates_are_combinations_of_the_grid_and_what_is_declared() -> None:
    tried = searched(trees(candidates=6))
    assert sum(each.parameters == {} for each in tried) == 1
    for each in tried:
        assert all(value in GRID[name] for name, value in each.parameters.items())


def test_the_declared_parameters_are_tried_first(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="features.training.search")
    searched(trees())
    assert "Hyper-parameters 1 of 5" in caplog.messages[0]
    assert "with what is declared" in caplog.messages[0]


def test_the_declared_parameters_win_a_tie() -> None:
    without_effect = {"ccp_alpha": 1e-12}
    tried = searched(trees({name: [value] for name, value in without_effect.items()}))
    assert [each.parameters for each in tried] == [{}, without_effect]
    assert tried[0].log_losses == tried[1].log_losses


def test_what_is_declared_is_not_tried_again_in_other_words() -> None:
    tried = searched(trees({"max_depth": [3, 4], "min_samples_leaf": [1]}))
    assert sorted(str(each.parameters.get("max_depth")) for each in tried) == ["4", "None"]


def test_what_is_better_than_declared_comes_first() -> None:
    tried = searched(trees({"min_samples_leaf": [1, 50]}).model_copy(update={"parameters": {}}), extract(label_times=9))
    # A tree without any limit has learnt every row by heart.
    assert tried[0].parameters == {"min_samples_leaf": 50}
    assert tried[0].log_loss < tried[1].log_loss / 4


def test_the_order_is_that_of_a_naive_loop() -> None:
    rows = extract(label_times=9)
    tried = searched(trees(), rows)
    naive = [(_naive_log_losses(rows, each.parameters), each.parameters) for each in tried]
    assert [losses for losses, _ in naive] == [pytest.approx(each.log_losses) for each in tried]
    assert [each.log_loss for each in tried] == sorted(each.log_loss for each in tried)
    assert tried[0].parameters == min(naive, key=lambda each: np.mean(each[0]))[1]


def _naive_log_losses(rows: pd.DataFrame, parameters: dict[str, Any]) -> list[float]:
    """Label times 3 to 5 and 6 to 8, by what was known two weeks before each: written down for nine label times."""
    times = sorted(rows["label_at"].unique())
    losses = []
    for first, last in ((3, 5), (6, 8)):
        fit = rows[rows["label_at"] + timedelta(days=14) <= times[first]]
        test = rows[(rows["label_at"] >= times[first]) & (rows["label_at"] <= times[last])]
        tree = DecisionTreeClassifier(**{"max_depth": 3, **parameters, "random_state": 0})
        tree.fit(fit[FEATURES].astype(float), fit["churned"])
        losses.append(log_loss(test["churned"], tree.predict_proba(test[FEATURES].astype(float))[:, 1]))
    return losses


def test_the_mean_over_folds_decides() -> None:
    assert Tried({}, (0.2, 0.4, 0.9)).log_loss == pytest.approx(0.5)


@pytest.mark.parametrize("label_times", [1, 2])
def test_too_little_history_is_no_error_but_a_warning(label_times: int, caplog: pytest.LogCaptureFixture) -> None:
    assert searched(trees(), extract(label_times)) == ()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "before the holdout there is too little history" in caplog.text


def test_a_fold_with_one_class_before_it_is_left_out() -> None:
    rows = extract(label_times=9)
    rows["churned"] &= rows["label_at"] > sorted(rows["label_at"].unique())[1]  # nobody churned at first
    assert {len(each.log_losses) for each in searched(trees(), rows)} == {1}


def test_a_fold_judged_on_one_class_counts() -> None:
    rows = extract(label_times=9)
    rows["churned"] &= rows["label_at"] < sorted(rows["label_at"].unique())[6]  # nobody churned lately
    tried = searched(trees(), rows)
    assert {len(each.log_losses) for each in tried} == {2}
    assert np.isfinite([each.log_loss for each in tried]).all()


def test_the_same_rows_and_seed_are_searched_the_same_way() -> None:
    assert searched(trees()) == searched(trees())


def test_another_seed_draws_other_candidates() -> None:
    drawn = [{str(each.parameters) for each in searched(trees(seed=seed))} for seed in (0, 1)]
    assert drawn[0] != drawn[1]


def test_progress_is_logged_with_the_best_so_far(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="features.training.search")
    tried = searched(trees())
    assert [message[:23] for message in caplog.messages] == [f"Hyper-parameters {n} of 5" for n in range(1, 6)]
    assert f"best so far {tried[0].log_loss:.5f}" in caplog.messages[-1]
    assert "on 2 folds" in caplog.messages[-1]


def test_a_parameter_that_there_is_not_is_refused() -> None:
    with pytest.raises(SkewlessError, match=r"refuses them .*depth_at_most"):
        searched(trees({"depth_at_most": [1]}))
