"""Pictures: each shows the numbers of the evaluation, and its title says what was found."""

import io
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch
from scipy import stats
from sklearn import metrics

from features.training.evaluation import CalibrationBin, Evaluation, Importance, calibration_bins, calibration_error
from features.training.plots import MOST_FEATURES, calibration_plot, importance_plot, roc_plot, score_plot

RNG = np.random.default_rng(0)
SCORE = RNG.uniform(0, 0.8, 2000)
TRUTH = RNG.random(2000) < SCORE
WORSE = np.clip(SCORE + RNG.normal(0, 0.2, 2000), 0, 1)
RECENCY = np.clip(SCORE + RNG.normal(0, 0.6, 2000), 0, 1)
IMPORTANCE = (Importance("visits", 0.12, 0.01), Importance("age", 0.03, 0.005), Importance("noise", -0.001, 0.002))


def evaluation(
    bins: tuple[CalibrationBin, ...] = calibration_bins(TRUTH, SCORE),
    importance: tuple[Importance, ...] = IMPORTANCE,
    metric: str = "roc_auc",
) -> Evaluation:
    """An evaluation of which only what is drawn is given."""
    return Evaluation(metric, 2000, {}, bins, calibration_error(bins), importance, (), {})


def title(figure: Figure) -> str:
    """The first line of the picture."""
    return figure.texts[0].get_text()


def said(figure: Figure) -> str:
    """Everything that is written within the axes."""
    return " ".join(text.get_text() for text in figure.axes[0].texts)


PICTURES: dict[str, Callable[[], Figure]] = {
    "roc": lambda: roc_plot(TRUTH, SCORE, {"recency_only": RECENCY}, WORSE),
    "calibration": lambda: calibration_plot(evaluation()),
    "importance": lambda: importance_plot(evaluation()),
    "score": lambda: score_plot(TRUTH, SCORE),
}


@pytest.fixture(params=list(PICTURES.values()), ids=list(PICTURES))
def picture(request: pytest.FixtureRequest) -> Figure:
    """Each of them, drawn."""
    drawn: Figure = request.param()
    return drawn


# All of them


def test_a_picture_can_be_saved_and_everything_written_lies_within_it(picture: Figure) -> None:
    file = io.BytesIO()
    picture.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")
    for text in [*picture.texts, *picture.axes[0].texts, picture.axes[0].xaxis.label]:
        box = text.get_window_extent()
        assert picture.bbox.x0 <= box.x0, text.get_text()
        assert box.x1 <= picture.bbox.x1, text.get_text()


def test_a_picture_names_its_rows_and_its_axes(picture: Figure) -> None:
    assert "2,000 holdout rows" in picture.texts[1].get_text()
    assert picture.axes[0].get_xlabel()


def test_pictures_leave_nothing_behind() -> None:
    settings = dict(mpl.rcParams)
    for draw in PICTURES.values():
        draw().savefig(io.BytesIO())
    assert not _pylab_helpers.Gcf.figs
    assert dict(mpl.rcParams) == settings


# The ROC curve


@pytest.mark.parametrize(
    ("score", "champion", "verdict"),
    [(SCORE, WORSE, "above the champion"), (WORSE, SCORE, "below the champion"), (SCORE, SCORE, "equals the champion")],
)
def test_the_challenger_is_compared_with_the_champion(score: np.ndarray, champion: np.ndarray, verdict: str) -> None:
    found = title(roc_plot(TRUTH, score, {"recency_only": RECENCY}, champion))
    assert found.startswith(f"ROC AUC {metrics.roc_auc_score(TRUTH, score):.3f}: ")
    assert found.endswith(verdict)


def test_without_a_champion_it_is_compared_with_the_best_simple_model() -> None:
    gap = metrics.roc_auc_score(TRUTH, SCORE) - metrics.roc_auc_score(TRUTH, WORSE)
    found = title(roc_plot(TRUTH, SCORE, {"recency_only": RECENCY, "logistic_regression": WORSE}))
    assert found.endswith(f": {gap:.3f} above logistic regression")


def test_alone_it_is_compared_with_nothing() -> None:
    area = metrics.roc_auc_score(TRUTH, SCORE)
    assert title(roc_plot(TRUTH, SCORE, {})) == f"The challenger's ROC AUC is {area:.3f}"


def test_models_are_named_with_their_areas_from_the_best() -> None:
    figure = roc_plot(TRUTH, WORSE, {"recency_only": RECENCY}, SCORE)
    expected = [("champion", SCORE), ("challenger", WORSE), ("recency only", RECENCY)]
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        f"{metrics.roc_auc_score(TRUTH, score):.3f}  {name}" for name, score in expected
    ]


def test_each_curve_is_that_of_its_scores() -> None:
    curves = {line.get_label(): line for line in roc_plot(TRUTH, SCORE, {"recency_only": RECENCY}).axes[0].lines}
    for name, score in (("challenger", SCORE), ("recency only", RECENCY)):
        drawn = metrics.auc(curves[name].get_xdata(), curves[name].get_ydata())
        assert drawn == pytest.approx(metrics.roc_auc_score(TRUTH, score))


def test_curves_can_be_told_apart_without_colour() -> None:
    lines = roc_plot(TRUTH, SCORE, {"recency_only": RECENCY, "logistic_regression": WORSE}, WORSE).axes[0].lines[1:]
    assert len({(line.get_linewidth(), str(line._unscaled_dash_pattern)) for line in lines}) == 4  # type: ignore[attr-defined]


# Calibration


def test_the_calibration_error_is_in_the_title() -> None:
    error = evaluation().calibration_error
    assert title(calibration_plot(evaluation())).startswith(
        f"Scores are {100 * error:.1f} points off on average (ECE {error:.3f}); "
    )


def test_bins_agree_where_the_wilson_interval_has_their_score() -> None:
    bins = (CalibrationBin(0.1, 0.1, 200), CalibrationBin(0.5, 0.55, 200), CalibrationBin(0.8, 0.7, 200))
    assert title(calibration_plot(evaluation(bins))).endswith("2 of 3 bins agree")
    low, high = stats.binomtest(140, 200).proportion_ci(0.95, method="wilson")
    assert not low <= 0.8 <= high


def test_bins_are_drawn_where_they_are_and_marked_where_they_are_off() -> None:
    bins = (CalibrationBin(0.1, 0.1, 200), CalibrationBin(0.8, 0.7, 200))
    _, agreeing, off = calibration_plot(evaluation(bins)).axes[0].lines
    assert np.asarray(agreeing.get_xydata()).tolist() == [[0.1, 0.1]]
    assert np.asarray(off.get_xydata()).tolist() == [[0.8, 0.7]]
    assert agreeing.get_markerfacecolor() != off.get_markerfacecolor()


def test_shares_of_nought_and_one_are_drawn_too() -> None:
    bins = (CalibrationBin(0.001, 0.0, 50), CalibrationBin(0.999, 1.0, 50))
    assert title(calibration_plot(evaluation(bins))).endswith("2 of 2 bins agree")


# Importance


def test_the_most_important_feature_is_in_the_title() -> None:
    assert title(importance_plot(evaluation())) == "visits matters most: shuffled, ROC AUC drops by 0.120"
    assert "average precision drops" in title(importance_plot(evaluation(metric="average_precision")))


def test_where_the_largest_drop_is_noise_no_feature_matters() -> None:
    found = title(importance_plot(evaluation(importance=(Importance("noise", 0.001, 0.002),))))
    assert found == "No feature matters: shuffled, ROC AUC drops by 0.001 at most"


def test_each_feature_has_a_bar_with_its_number() -> None:
    axes = importance_plot(evaluation()).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["visits", "age", "noise"]
    assert [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)] == [0.12, 0.03, -0.001]
    assert [text.get_text() for text in axes.texts] == ["0.120", "0.030", "-0.001"]


def test_of_many_features_the_largest_are_shown_and_the_rest_is_counted() -> None:
    many = tuple(Importance(f"feature_{n}", 1 / (n + 1), 0.0) for n in range(MOST_FEATURES + 3))
    figure = importance_plot(evaluation(importance=many))
    assert len(figure.axes[0].patches) == MOST_FEATURES
    assert figure.texts[1].get_text().endswith("; 3 smaller ones left out")


# Scores


def test_the_mean_scores_of_both_outcomes_are_in_the_title() -> None:
    true, false = SCORE[TRUTH].mean(), SCORE[~TRUTH].mean()
    assert title(score_plot(TRUTH, SCORE)) == f"Rows that came true score {true:.2f} on average, the others {false:.2f}"


def test_outcomes_are_named_with_their_rows() -> None:
    assert said(score_plot(TRUTH, SCORE)) == f"true: {TRUTH.sum():,} rows false: {(~TRUTH).sum():,} rows"


def test_each_outcome_makes_up_a_whole() -> None:
    for stairs in score_plot(TRUTH, SCORE).axes[0].patches:
        assert isinstance(stairs, StepPatch)
        assert stairs.get_data()[0].sum() == pytest.approx(1)
