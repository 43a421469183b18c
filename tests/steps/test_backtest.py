"""Backtests on labels in the warehouse: the curve and the age are kept, the policy reads them, commands show them."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from features import cli, settings, warehouse
from features.contract import CostSettings, Model, TrainingSettings
from features.errors import SkewlessError
from features.retraining.cadence import TooFewLabelTimes
from features.steps.backtest import backtest_decay, backtest_policy, decay_plot, last_matured
from features.steps.decide import gather
from tests.databases import execute, rows
from tests.steps import drift_warehouse
from tests.steps.drift_warehouse import copy_in, start_over

FIRST = datetime(2013, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
WEEKS, USERS = 34, 120
MATURES_AFTER = timedelta(days=15)
LAST_MATURED = FIRST + (WEEKS - 1) * WEEK + MATURES_AFTER


@pytest.fixture(scope="module")
def model(churn: Model) -> Model:
    """Quick to train, and cheap to retrain."""
    training = TrainingSettings(estimator="sklearn.linear_model.LogisticRegression", holdout_label_times=2)
    retraining = churn.retraining.model_copy(
        update={"costs": CostSettings(training=1, loss_per_day=2), "max_model_age": "auto", "min_new_labels": 10**6}
    )
    return churn.model_copy(update={"training": training, "retraining": retraining})


@pytest.fixture(scope="module", autouse=True)
def _labels(drift_tables: None) -> Iterator[None]:
    """Users of whom first the frequent leave and in the end the rare: a world that turns slowly."""
    start_over()
    rng = np.random.default_rng(0)
    for week in range(WEEKS):
        at = FIRST + week * WEEK
        count = rng.normal(0, 10, USERS).round()
        turned = np.pi * week / WEEKS
        other = rng.normal(0, 10, USERS).round()
        leaves = np.cos(turned) * count + np.sin(turned) * other + rng.normal(0, 5, USERS) > 0
        copy_in(
            "training.churn_training_set",
            pd.DataFrame({
                "user_id": drift_warehouse.users(USERS),
                "as_of": at,
                "label_at": at,
                "matured_at": at + MATURES_AFTER,
                "session_count": count,
                "avg_session_duration_minutes": rng.normal(30, 5, USERS),
                "days_since_last_session": rng.integers(0, 60, USERS),
                "sessions_last_7_days": rng.integers(0, 9, USERS),
                "sessions_last_30_days": other,
                "feature_version": "v1",
                "churned": leaves,
            }),
        )
    yield
    execute("delete from monitoring.decay_backtests")
    start_over()


@pytest.fixture(scope="module")
def measured(model: Model) -> dict[str, Any]:
    steps: list[tuple[int, int]] = []
    facts = backtest_decay(model, LAST_MATURED, lambda done, total: steps.append((done, total)))
    assert steps == [(done, WEEKS) for done in range(1, WEEKS + 1)]
    return facts


def test_the_age_and_the_curve_it_follows_from_are_kept(measured: dict[str, Any]) -> None:
    ((age, low, high, method, reason, slope, trainings, version),) = rows(
        "select max_age_days, max_age_low_days, max_age_high_days, method, reason, slope_per_day, trainings,"
        " feature_version from monitoring.decay_backtests"
    )
    assert age == measured["max_age_days"]
    assert 1 <= low <= age <= high
    assert (method, version, reason) == ("costs", "v1", measured["reason"])
    assert slope > 0, "the world turns"
    # Twelve weeks of history come first.
    assert 0 < trainings <= WEEKS - 12
    curve = rows("select age_days, excess_loss, excess_low, excess_high, pairs from monitoring.decay_curves order by 1")
    assert [int(point[0]) for point in curve] == [7 * week for week in range(1, len(curve) + 1)]
    assert all(low <= excess <= high and pairs >= 3 for _, excess, low, high, pairs in curve)
    assert curve[-1][1] > curve[0][1]


def test_measuring_again_replaces_it(model: Model, measured: dict[str, Any]) -> None:
    query = "select to_jsonb(t) - 'made_at' from monitoring.{} as t order by 1"
    before = [rows(query.format(table)) for table in ("decay_backtests", "decay_curves")]
    assert backtest_decay(model, LAST_MATURED) == measured
    assert [rows(query.format(table)) for table in ("decay_backtests", "decay_curves")] == before


def test_the_policy_reads_the_last_one_of_its_time(model: Model, measured: dict[str, Any]) -> None:
    with warehouse.connect() as connection:
        known = gather(connection, model, None, LAST_MATURED + WEEK).cadence
        assert known is not None
        assert (known.max_age_days, known.as_of) == (measured["max_age_days"], LAST_MATURED)
        ((oldest,),) = rows("select max(age_days)::integer as days from monitoring.decay_curves")
        assert known.measured_days == oldest
        assert gather(connection, model, None, LAST_MATURED - WEEK).cadence is None


def test_labels_that_matured_later_have_no_part_in_it(model: Model, measured: dict[str, Any]) -> None:
    earlier = LAST_MATURED - 6 * WEEK
    backtest_decay(model, earlier)
    query = f"select trainings, label_rows from monitoring.decay_backtests where as_of = '{earlier}'"
    before = rows(query)
    execute("update training.churn_training_set set churned = not churned where matured_at > %s", earlier)
    try:
        backtest_decay(model, earlier)
    finally:
        execute("update training.churn_training_set set churned = not churned where matured_at > %s", earlier)
    assert rows(query) == before
    assert before[0][1] == (WEEKS - 6) * USERS


def test_a_short_history_is_refused_and_nothing_is_written(model: Model) -> None:
    early = FIRST + 8 * WEEK
    with pytest.raises(TooFewLabelTimes):
        backtest_decay(model, early)
    assert rows(f"select count(*) from monitoring.decay_backtests where as_of = '{early}'") == [(0,)]


def test_before_any_label_matured_there_is_nothing_to_measure(model: Model) -> None:
    with pytest.raises(SkewlessError, match="No label of churn had matured by 2012-01-01: run materialize_features"):
        backtest_decay(model, datetime(2012, 1, 1, tzinfo=UTC))


def test_it_trains_with_what_the_last_search_chose(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from features.steps import backtest as step

    chosen: list[dict[str, Any]] = []

    def stop(labels: Any, recipe: Any, **options: Any) -> None:
        chosen.append(recipe.settings.parameters)
        raise SkewlessError("seen enough")

    monkeypatch.setattr(step, "train_at_many_instants", stop)
    evaluation = (
        "insert into monitoring.model_evaluations (model_name, model_version, as_of, metrics, evaluation, train_rows,"
        " holdout_rows, extract_id, promoted, reason) values ('churn', %s, %s, '{}', %s, 1, 1, '', false, '')"
    )
    execute(evaluation, "1", FIRST, '{"parameters": {"C": 0.5}}')
    execute(evaluation, "2", LAST_MATURED + WEEK, '{"parameters": {"C": 7}}')  # not known yet
    try:
        with pytest.raises(SkewlessError, match="seen enough"):
            backtest_decay(model, LAST_MATURED)
    finally:
        execute("delete from monitoring.model_evaluations")
    assert chosen == [{"C": 0.5}]


def test_a_replay_writes_nothing_and_knows_hindsight(model: Model) -> None:
    counts = "select (select count(*) from monitoring.retraining_decisions), (select count(*) from training.extracts)"
    before = rows(counts)
    found = backtest_policy(model, LAST_MATURED, period_days=28)
    assert rows(counts) == before
    assert [one.policy for one in found.policies] == ["current", "never", "always", "periodic", "oracle"]
    assert found["never"].retrainings == ()
    assert found["oracle"].regret == 0
    assert all(one.regret >= 0 for one in found.policies)
    assert found["current"].log_loss < found["never"].log_loss, "the world turns, and the policy follows"


def run(*arguments: str) -> Result:
    """A command on these tables, with the contract's own model replaced by the quick one."""
    # A command sets variables of its process, which is this one.
    with mock.patch.dict(os.environ, PGDATABASE=settings.WAREHOUSE_DATABASE):
        return CliRunner().invoke(cli.main, arguments)


@pytest.fixture
def _quick(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    class Declared:
        def model(self, name: str) -> Model:
            assert name == "churn"
            return model

    monkeypatch.setattr(cli, "read_contract", lambda path: Declared())


@pytest.mark.usefixtures("_quick")
def test_the_command_shows_the_curve_and_writes_the_plot(tmp_path: Path, measured: dict[str, Any]) -> None:
    plot = tmp_path / "decay.svg"
    result = run("backtest-decay", "--output", str(plot))
    assert result.exit_code == 0, result.output
    assert f"churn may become {measured['max_age_days']} days old." in result.output
    assert plot.read_text() == decay_plot_of(LAST_MATURED)
    assert plot.read_text().lstrip().startswith("<?xml")


def decay_plot_of(as_of: datetime) -> str:
    ((svg,),) = rows(f"select plot_svg from monitoring.decay_backtests where as_of = '{as_of}'")
    return str(svg)


@pytest.mark.usefixtures("_quick")
def test_the_command_replays_policies_side_by_side(tmp_path: Path) -> None:
    plot = tmp_path / "policy.svg"
    result = run("backtest-policy", "--every", "28", "--output", str(plot))
    assert result.exit_code == 0, result.output
    for policy in ("current", "never", "always", "periodic", "oracle"):
        assert policy in result.output
    assert "<svg" in plot.read_text()


@pytest.mark.usefixtures("_quick")
def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    result = run("backtest-policy", "--output", str(tmp_path / "nowhere" / "policy.svg"))
    assert result.exit_code == 1
    assert "cannot be written" in result.output


def test_there_is_no_plot_of_what_was_not_measured(model: Model) -> None:
    with pytest.raises(SkewlessError, match="no decay backtest of churn at 2012-01-01"):
        decay_plot(model, datetime(2012, 1, 1, tzinfo=UTC))


def test_by_default_it_is_measured_on_all_that_has_matured(model: Model) -> None:
    assert last_matured(model) == LAST_MATURED
