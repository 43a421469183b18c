"""The audit: the exact test from the rows is what scipy says of them, and the cells' bracket holds it."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from scipy import stats

from features.contract import DriftSettings, Model, Valid, read_contract
from features.drift.audit import audit
from features.drift.sketch import Floats
from features.errors import SkewlessError
from tests.databases import execute, rows
from tests.steps.drift_warehouse import (
    AS_OF,
    FEATURES,
    HOUR,
    TRAINED,
    ScoresItself,
    become_champion,
    by_default,
    changed,
    healthy,
    predict,
    publish,
    serve,
    train,
    users,
    with_feature,
)

pytestmark = pytest.mark.usefixtures("first_champion")

COUNT, MINUTES, DAYS, WEEKLY, MONTHLY = FEATURES


@pytest.fixture(scope="module")
def churn(manifest: Any) -> Model:
    return by_default(read_contract(manifest).model("churn"))


def learn(model: Model, **columns: Any) -> None:
    """A champion that was trained on these rows, as promoting one writes it down."""
    train(model, "1", changed(**columns))
    execute(
        "insert into monitoring.model_baselines (model_name, model_version, training_set, feature_version,"
        " first_label_at, last_label_at, row_count)"
        " values ('churn', '1', 'training.churn_training_set', 'v1', %s, %s, 1) on conflict do nothing",
        TRAINED,
        TRAINED,
    )


def by_scipy(feature: str) -> Any:
    """The test on what the tables hold, read without any of the audit's code."""
    trained = rows(f"select {feature}::float8 from training.churn_training_set where {feature} is not null")
    served = rows(
        f"select {feature}::float8 from features.user_session_features where as_of = '{AS_OF}'"
        f" and {feature} is not null"
    )
    return stats.ks_2samp([value for (value,) in trained], [value for (value,) in served], method="asymp")


SHIFTED: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    COUNT: lambda values, random: (values * random.uniform(0.5, 2)).round(),
    MINUTES: lambda values, random: values + random.normal(0, 3, len(values)) + random.uniform(-4, 4),
    DAYS: lambda values, random: np.minimum(values + random.integers(0, 8, len(values)), 59),
    WEEKLY: lambda values, random: random.poisson(random.uniform(2, 5), len(values)).astype(float),
    MONTHLY: lambda values, random: random.poisson(random.uniform(9, 15), len(values)).astype(float),
}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_is_what_scipy_says_and_within_what_the_cells_say(churn: Model, seed: int) -> None:
    random = np.random.default_rng(seed)
    moved = {name: change(healthy()[name], random) for name, change in SHIFTED.items()}
    learn(churn)
    serve(AS_OF, changed(**moved))
    for feature in FEATURES:
        found, exact = audit(churn, feature, AS_OF), by_scipy(feature)
        assert found.statistic == pytest.approx(exact.statistic, rel=1e-12)
        assert found.p_value == pytest.approx(exact.pvalue, rel=1e-9)
        assert found.at_least - 1e-12 <= found.statistic <= found.at_most + 1e-12, feature
        # No cell holds more than about 1 / 64 of the training rows, unless it is a single value.
        assert found.at_most - found.at_least < 0.05, feature
        assert (found.served, found.trained) == (2000, 2000)


def test_values_that_are_few_are_told_exactly_by_their_cells(churn: Model) -> None:
    learn(churn)
    serve(AS_OF, changed(**{WEEKLY: np.random.default_rng(5).permutation(healthy()[WEEKLY]) // 2}))
    found = audit(churn, WEEKLY, AS_OF)
    assert found.at_least == pytest.approx(found.statistic, abs=1e-12)
    assert found.at_most == pytest.approx(found.statistic, abs=1e-12)


def test_rows_as_they_were_have_no_distance(churn: Model) -> None:
    learn(churn)
    serve(AS_OF, healthy())
    found = audit(churn, MINUTES, AS_OF)
    assert (found.statistic, found.p_value) == (0, 1)
    assert found.at_least == pytest.approx(0, abs=1e-12)


def test_what_no_cell_counts_is_left_out_of_both(churn: Model) -> None:
    strict = with_feature(churn, MINUTES, valid=Valid(minimum=0))
    minutes = healthy()[MINUTES] + 2
    spoiled: list[Any] = minutes.tolist()
    spoiled[:4] = [None, float("nan"), float("inf"), -1.0]
    learn(strict)
    serve(AS_OF, changed(**{MINUTES: np.array(spoiled, dtype=object)}))
    found = audit(strict, MINUTES, AS_OF)
    assert (found.served, found.trained) == (1996, 2000)
    assert found.statistic == pytest.approx(
        stats.ks_2samp(healthy()[MINUTES], minutes[4:], method="asymp").statistic, rel=1e-12
    )


def test_only_the_population_and_the_definition_of_today_are_compared(churn: Model) -> None:
    learn(churn)
    serve(AS_OF, healthy())
    # Nobody who was away for 60 days is scored.
    serve(AS_OF, healthy(500) | {MINUTES: np.full(500, 1e6), DAYS: np.full(500, 60)}, users(500, first=5000))
    execute(
        "insert into features.user_session_features (user_id, as_of, avg_session_duration_minutes,"
        " days_since_last_session, feature_version) values ('u1', %s, 1e6, 1, 'earlier')",
        AS_OF,
    )
    found = audit(churn, MINUTES, AS_OF)
    assert (found.served, found.statistic) == (2000, 0)


def test_training_rows_are_those_of_the_champions_label_times(churn: Model) -> None:
    learn(churn)
    execute(
        "insert into training.churn_training_set (user_id, as_of, avg_session_duration_minutes, feature_version,"
        " label_at, matured_at, churned) select 'later' || i, %s, 1e6, 'v1', %s, %s, true"
        " from generate_series(1, 500) as i",
        TRAINED + HOUR,
        TRAINED + HOUR,
        TRAINED + HOUR,
    )
    serve(AS_OF, healthy())
    found = audit(churn, MINUTES, AS_OF)
    assert (found.trained, found.statistic) == (2000, 0)


def test_nothing_is_written(churn: Model) -> None:
    learn(churn)
    serve(AS_OF, healthy())
    tables = ("sketch_grids", "sketches", "feature_baselines", "baseline_slots", "drift_reports")
    before = [
        rows(f"select md5(string_agg(t::text, '|' order by t::text)) from monitoring.{name} t") for name in tables
    ]
    audit(churn, MINUTES, AS_OF)
    assert before == [
        rows(f"select md5(string_agg(t::text, '|' order by t::text)) from monitoring.{name} t") for name in tables
    ]


# What cannot be audited


def test_without_a_champion_there_is_nothing_to_compare_with(churn: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    become_champion(monkeypatch, None)
    with pytest.raises(SkewlessError, match=r"^churn has no champion yet, so there is nothing to compare with\.$"):
        audit(churn, MINUTES, AS_OF)


NO_NUMBER = r"^{} is no numeric feature with a baseline of churn v1\.$"


def test_text_has_no_kolmogorov_smirnov_test(churn: Model) -> None:
    model = with_feature(churn, "country")
    learn(model)
    serve(AS_OF, healthy())
    with pytest.raises(SkewlessError, match=NO_NUMBER.format("country")):
        audit(model, "country", AS_OF)


def test_numbers_that_name_things_have_none_either(churn: Model) -> None:
    model = with_feature(churn, WEEKLY, drift=DriftSettings(treat_as="categorical"))
    learn(model)
    serve(AS_OF, healthy())
    with pytest.raises(SkewlessError, match=NO_NUMBER.format(WEEKLY)):
        audit(model, WEEKLY, AS_OF)


@pytest.mark.parametrize("feature", ["shoe_size", "(label)"])
def test_what_is_no_numeric_feature_is_refused_by_name(churn: Model, feature: str) -> None:
    learn(churn)
    serve(AS_OF, healthy())
    with pytest.raises(SkewlessError) as error:
        audit(churn, feature, AS_OF)
    assert str(error.value) == f"{feature} is no numeric feature with a baseline of churn v1."


def test_the_scores_are_refused_since_no_training_row_has_one(churn: Model) -> None:
    learn(churn)
    serve(AS_OF, healthy())
    predict(AS_OF, ScoresItself.score(healthy()[MINUTES]))
    with pytest.raises(SkewlessError, match="prediction"):
        audit(churn, "(prediction)", AS_OF)


def test_an_instant_without_rows_is_refused(churn: Model) -> None:
    learn(churn)
    serve(AS_OF, healthy())
    later = datetime(2013, 8, 1, tzinfo=UTC)
    with pytest.raises(SkewlessError, match=r"avg_session_duration_minutes has 0 values at 2013-08-01 .* and 2000 in"):
        audit(churn, MINUTES, later)


def test_an_instant_without_a_value_is_refused(churn: Model) -> None:
    learn(churn)
    serve(AS_OF, changed(**{MINUTES: np.full(2000, None)}))
    publish("v1", AS_OF)
    with pytest.raises(SkewlessError, match="has 0 values at"):
        audit(churn, MINUTES, AS_OF)


def test_training_rows_that_are_gone_are_refused(churn: Model) -> None:
    learn(churn)
    serve(AS_OF, healthy())
    execute("delete from training.churn_training_set")
    with pytest.raises(SkewlessError, match="and 0 in the training rows"):
        audit(churn, MINUTES, AS_OF)
