"""The figures say what was found, in text that can be read, and are the same each time."""

from collections.abc import Callable

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from features.contract import CostSettings, RetrainingSettings
from features.retraining.backtest import backtest
from features.retraining.cadence import decay_curve, recommended_age
from features.retraining.plots import decay_plot, policy_plot, svg
from tests.retraining.loss_matrices import made

COSTS = CostSettings(training=2, loss_per_day=1)
MATRIX = made(lambda _, cutoff, week: 0.4 + 0.002 * 7 * (week - cutoff))
SETTINGS = RetrainingSettings(max_model_age=20, costs=COSTS)


def texts(figure: Figure) -> str:
    return "\n".join(found.get_text() for found in figure.findobj(Text))


@pytest.fixture(params=[COSTS, None], ids=["with costs", "without costs"])
def costs(request: pytest.FixtureRequest) -> CostSettings | None:
    return request.param


def test_the_decay_plot_says_how_old_a_model_may_become(costs: CostSettings | None) -> None:
    curve = decay_curve(MATRIX, replicates=20)
    found = recommended_age(curve, costs, 0.2)
    said = texts(decay_plot(curve, found))
    assert f"A model may become {found.max_age_days} days old" in said
    assert f"({found.low} to {found.high})" in said
    assert f"{found.bound:.4f}" in said
    assert "Age of the model (days)" in said


def test_the_policy_plot_names_each_policy_and_what_it_cost(costs: CostSettings | None) -> None:
    found = backtest(MATRIX, SETTINGS.model_copy(update={"costs": costs}), replicates=10)
    said = texts(policy_plot(found))
    for one in found.policies:
        assert f"{one.policy}  {one.excess:.4f}" in said or f"{one.policy}  {one.cost:,.0f}" in said
    assert f"retrained {len(found['current'].retrainings)} times" in said
    assert "scheduled" in said


def test_what_dwarfs_all_others_is_off_the_scale() -> None:
    steep = made(lambda _, cutoff, week: 0.4 + 0.01 * (week - cutoff) ** 2)
    figure = policy_plot(backtest(steep, SETTINGS, period_days=14, replicates=10))
    assert "(off the scale)" in texts(figure)
    assert "(off the scale)" not in texts(policy_plot(backtest(MATRIX, SETTINGS, replicates=10)))


def test_the_same_figure_is_the_same_svg_and_no_setting_is_changed() -> None:
    before = dict(mpl.rcParams)
    curve = decay_curve(MATRIX, replicates=20)
    found = recommended_age(curve, COSTS, 0.02)
    replayed = backtest(MATRIX, SETTINGS, replicates=10)
    plots: list[Callable[[], Figure]] = [lambda: decay_plot(curve, found), lambda: policy_plot(replayed)]
    for plot in plots:
        text = svg(plot())
        assert text == svg(plot())
        assert text.lstrip().startswith("<?xml")
        assert "<dc:date>" not in text
    assert dict(mpl.rcParams) == before
