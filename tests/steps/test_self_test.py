"""The self-test: quiet on clean history; a shift that was put there is found, or the feature is said to be blind."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from psycopg import sql

from features import warehouse
from features.contract import Contract, DriftSettings, Model, Valid
from features.drift import baselines, store
from features.drift.baselines import BaselineKey
from features.drift.counting import distinct_entities
from features.drift.profile import Wobble
from features.drift.report import WHOLE
from features.drift.sketch import Grid, Kind, Sketch
from features.drift.sources import snapshot_source
from features.steps.self_test import CLEAN, injections, self_test
from features.steps.watch import plan
from tests.databases import execute, rows
from tests.steps.drift_warehouse import (
    AS_OF,
    FEATURES,
    HOUR,
    become_champion,
    by_default,
    empty_tables,
    everything,
    healthy,
    hours_before,
    serve,
    train,
    users,
    watch,
    with_feature,
)

COUNT, MINUTES, DAYS, WEEKLY, MONTHLY = FEATURES
SHIFT, FILL, TIMES_SIXTY = "0.25 sigma", "5% default fill", "x60 on 10%"
HOURS = [*hours_before(47), AS_OF]
FIRST_OF_NEWER = HOURS[24]
# As early as there is enough history, for what does not depend on how much there is.
EARLY = HOURS[7]
# Each hour has other users, as where few come back: the more hours, the surer.
USERS_AN_HOUR = 500
# Beside the healthy ones: kinds of values, and `minutes` and `monthly` with a shift that is really there.
ADDED = f"""
alter table features.user_session_features
    add is_active boolean generated always as (sessions_last_7_days > 2) stored,
    add three bigint generated always as (3) stored,
    add zero double precision generated always as (0) stored,
    add half double precision generated always as (0.5) stored,
    add nothing double precision,
    add minutes_moved double precision generated always as (
        avg_session_duration_minutes + case when as_of >= timestamptz '{FIRST_OF_NEWER}' then 1.25 else 0 end
    ) stored,
    add monthly_moved double precision generated always as (
        sessions_last_30_days + case when as_of >= timestamptz '{FIRST_OF_NEWER}' then 1 else 0 end
    ) stored
"""


@pytest.fixture(scope="module", autouse=True)
def history(server: None) -> Iterator[None]:
    """Two days that are all well."""
    with empty_tables():
        execute(ADDED)
        columns = healthy(USERS_AN_HOUR * len(HOURS))
        columns[MINUTES] = np.random.default_rng(12).normal(30, 5, USERS_AN_HOUR * len(HOURS))
        for place, hour in enumerate(HOURS):
            first = place * USERS_AN_HOUR
            part = {name: values[first : first + USERS_AN_HOUR] for name, values in columns.items()}
            serve(hour, part, users(USERS_AN_HOUR, first))
        yield


@pytest.fixture(autouse=True)
def _no_champion(monkeypatch: pytest.MonkeyPatch) -> None:
    become_champion(monkeypatch, None)


@pytest.fixture(scope="module")
def churn(contract: Contract) -> Model:
    return by_default(contract.model("churn"))


def named(model: Model, name: str, population: str = "true") -> Model:
    """A model of its own on the same rows: what the monitor knows of another is nothing to it."""
    return model.model_copy(update={"name": name, "population": population})


def declaring(model: Model, name: str, data_type: str, **changes: Any) -> Model:
    """The model with one more feature."""
    return with_feature(model, name, data_type=data_type, **changes)


def trial(model: Model, feature: str, as_of: Any = AS_OF) -> dict[str, dict[str, Any]]:
    """The rows of a self-test by injection."""
    return {row["injection"]: row for row in self_test(model, feature, plan(model, as_of), as_of)}


def kept(model: Model, feature: str) -> list[dict[str, Any]]:
    """monitoring.drift_self_tests."""
    with warehouse.connect() as connection:
        return connection.execute(
            "select * from monitoring.drift_self_tests where model_name = %s and feature = %s"
            " order by as_of, injection",
            [model.name, feature],
        ).fetchall()


@pytest.fixture(scope="module")
def found(churn: Model) -> Mapping[str, Mapping[str, Any]]:
    """What is found on minutes, which are normal with a mean of 30 and a standard deviation of 5."""
    with pytest.MonkeyPatch.context() as patch:
        become_champion(patch, None)
        return trial(churn, MINUTES)


# Clean history


@pytest.mark.parametrize("feature", FEATURES)
def test_clean_hours_do_not_alarm(churn: Model, feature: str) -> None:
    clean = trial(churn, feature)[CLEAN]
    assert clean == {
        "injection": "none",
        "hours": 24,
        "alarms": 0,
        "found_after_hours": None,
        "is_blind": False,
        "detail": "0 of 24 clean hours alarm.",
    }


def test_history_that_is_not_clean_alarms_and_is_neither_found_nor_blind(churn: Model) -> None:
    model = named(declaring(churn, "minutes_moved", "double precision"), "moved")
    clean = trial(model, "minutes_moved")[CLEAN]
    assert clean["alarms"] > 12
    assert (clean["found_after_hours"], clean["is_blind"]) == (None, False)
    assert clean["detail"] == f"{clean['alarms']} of 24 clean hours alarm."


# What is found


def test_every_kind_of_fault_is_tried_once(found: Mapping[str, Any]) -> None:
    assert list(found) == [CLEAN, SHIFT, FILL, TIMES_SIXTY]
    assert {row["hours"] for row in found.values()} == {24}


def test_a_quarter_of_a_standard_deviation_is_found_by_the_windows_that_hold_enough_users(
    found: Mapping[str, Any],
) -> None:
    row = found[SHIFT]
    # An hour's 500 users cannot tell it; six hours' 3,000 can.
    assert 3 <= row["found_after_hours"] <= 8
    assert not row["is_blind"]
    assert row["detail"] == f"Found after {row['found_after_hours']} h."


def test_a_value_outside_of_the_usual_filled_into_one_row_of_twenty_is_found_within_hours(
    found: Mapping[str, Any],
) -> None:
    assert 1 <= found[FILL]["found_after_hours"] <= 8
    assert not found[FILL]["is_blind"]


def test_another_unit_in_one_row_of_ten_is_found_at_once(found: Mapping[str, Any]) -> None:
    assert found[TIMES_SIXTY]["found_after_hours"] == 1
    assert found[TIMES_SIXTY]["alarms"] == 24


def test_found_is_the_first_hour_that_alarms_and_later_ones_go_on(found: Mapping[str, Any]) -> None:
    for name in (SHIFT, FILL, TIMES_SIXTY):
        assert found[name]["alarms"] >= 24 - found[name]["found_after_hours"]


@pytest.mark.parametrize(
    ("feature", "really"), [(MINUTES, "minutes_moved"), (MONTHLY, "monthly_moved")], ids=["fractions", "whole numbers"]
)
def test_what_is_injected_while_counting_is_found_like_what_is_really_there(
    churn: Model, feature: str, really: str
) -> None:
    # The rows of the second feature are those of the first, shifted by 0.25 sigma from the middle on.
    model = named(declaring(churn, really, "double precision"), "real")
    assert trial(model, feature)[SHIFT]["alarms"] == pytest.approx(trial(model, really)[CLEAN]["alarms"], abs=1)


def test_a_value_that_the_contract_forbids_is_found_at_once(churn: Model) -> None:
    model = named(with_feature(churn, MINUTES, valid=Valid(maximum=60)), "strict")
    assert trial(model, MINUTES)[TIMES_SIXTY]["found_after_hours"] == 1
    assert trial(model, MINUTES)[CLEAN]["alarms"] == 0


def test_the_cells_are_those_that_the_feature_is_counted_in(churn: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    model = named(churn, "celled")
    with warehouse.connect() as connection:
        # One edge, far above all values: no shift moves anything across it.
        store.add_grid(connection, model, MINUTES, Grid(Kind.NUMERIC, edges=(1e6,)))
    assert trial(model, MINUTES)[SHIFT]["is_blind"]
    assert not trial(model, MONTHLY)[SHIFT]["is_blind"]


# What is injected


def injected(grid: Grid, deviation: float | None, name: str, values: npt.ArrayLike) -> list[Any]:
    """What becomes of values, each of another user."""
    (injection,) = [known for known in injections(grid, deviation) if known.name == name]
    kind = sql.SQL("double precision[]" if grid.kind.is_ordered else "text[]")
    query = sql.SQL(
        "select {} as value from unnest({}::{}, {}::text[]) with ordinality as read (value, _key, place) order by place"
    )
    listed = np.asarray(values).tolist()
    with warehouse.connect() as connection:
        found = connection.execute(
            query.format(injection.value, sql.Literal(listed), kind, sql.Literal(users(len(listed))))
        )
        return [row["value"] for row in found]


FRACTIONS = np.random.default_rng(3).normal(30, 5, 4000)
WHOLE_NUMBERS = np.random.default_rng(4).poisson(12, 4000).astype(float)


def test_fractions_are_shifted_by_a_quarter_of_their_deviation() -> None:
    assert injected(Grid.of(FRACTIONS), 5.0, SHIFT, FRACTIONS) == pytest.approx(list(FRACTIONS + 1.25))


@pytest.mark.parametrize(("deviation", "shift"), [(0.0, 1), (3.4, 1), (4.0, 1), (11.0, 3), (400.0, 100)])
def test_whole_numbers_are_shifted_by_a_whole_number_of_at_least_one(deviation: float, shift: int) -> None:
    assert injected(Grid.of(WHOLE_NUMBERS), deviation, SHIFT, WHOLE_NUMBERS) == list(WHOLE_NUMBERS + shift)


def test_whole_numbers_of_many_values_are_whole_numbers_too() -> None:
    many = healthy(4000)[COUNT]
    assert Grid.of(many).kind is Kind.NUMERIC
    assert injected(Grid.of(many), 10.1, SHIFT, many) == list(many + 3)


@pytest.mark.parametrize(("name", "share"), [(FILL, 0.05), (TIMES_SIXTY, 0.10)])
def test_a_share_of_the_users_is_hit_and_always_the_same_ones(name: str, share: float) -> None:
    grid = Grid.of(FRACTIONS)
    once, again = (np.array(injected(grid, 5.0, name, values)) for values in (FRACTIONS, FRACTIONS + 1))
    hit = once != FRACTIONS
    assert hit.mean() == pytest.approx(share, abs=0.015)
    np.testing.assert_array_equal(hit, again != FRACTIONS + 1)
    np.testing.assert_allclose(once[hit], 0 if name == FILL else FRACTIONS[hit] * 60)


def test_text_is_filled_with_what_it_never_was() -> None:
    values = np.resize(["276", "250"], 4000)
    filled = injected(Grid.of(values, categorical=True), None, FILL, values)
    assert filled.count("(filled in)") / 4000 == pytest.approx(0.05, abs=0.015)
    assert set(filled) == {"276", "250", "(filled in)"}


def test_of_two_values_one_is_filled_in_and_more_often_since_it_is_not_new() -> None:
    values = np.resize(["false", "true"], 4000)
    filled = injected(Grid(Kind.BOOLEAN, categories=("false", "true")), None, "25% default fill", values)
    assert filled.count("true") / 4000 == pytest.approx(0.5 + 0.5 * 0.25, abs=0.02)


# Other kinds of values


def test_a_truth_value_that_is_filled_in_is_found(churn: Model) -> None:
    model = named(declaring(churn, "is_active", "boolean"), "boolean")
    found = trial(model, "is_active")
    assert list(found) == [CLEAN, "25% default fill"]
    assert found[CLEAN]["alarms"] == 0
    assert found["25% default fill"]["found_after_hours"] <= 8


def test_a_category_that_never_was_is_found(churn: Model) -> None:
    model = named(declaring(churn, "country", "text"), "categorical")
    found = trial(model, "country")
    assert list(found) == [CLEAN, FILL]
    assert found[CLEAN]["alarms"] == 0
    assert found[FILL]["found_after_hours"] == 1


def test_numbers_that_name_things_are_categories(churn: Model) -> None:
    drift = DriftSettings(treat_as="categorical")
    found = trial(named(with_feature(churn, WEEKLY, drift=drift), "names"), WEEKLY)
    assert list(found) == [CLEAN, FILL]
    assert found[FILL]["found_after_hours"] == 1


def test_a_feature_of_one_whole_number_is_quiet_and_everything_is_found(churn: Model) -> None:
    model = named(declaring(churn, "three", "bigint"), "constant")
    found = trial(model, "three")
    assert found[CLEAN]["alarms"] == 0
    assert {name: row["found_after_hours"] for name, row in found.items() if name != CLEAN} == {
        SHIFT: 1,
        FILL: 1,
        TIMES_SIXTY: 1,
    }


def test_nothing_becomes_of_a_zero_that_is_filled_with_zeros_and_that_is_said(churn: Model) -> None:
    found = trial(named(declaring(churn, "zero", "double precision"), "zero"), "zero")
    assert found[SHIFT]["found_after_hours"] == 1
    assert found[FILL]["is_blind"]
    assert found[TIMES_SIXTY]["is_blind"]


def test_a_feature_of_one_fraction_has_no_deviation_to_be_shifted_by(churn: Model) -> None:
    found = trial(named(declaring(churn, "half", "double precision"), "half"), "half")
    assert found[FILL]["found_after_hours"] == 1
    assert SHIFT not in found


def test_a_feature_without_a_value_is_not_tested(churn: Model) -> None:
    model = named(declaring(churn, "nothing", "double precision"), "nothing")
    assert trial(model, "nothing") == {}
    assert kept(model, "nothing") == []


# What a feature is blind to


def test_a_feature_of_few_users_is_blind_to_a_small_shift_and_says_so(churn: Model) -> None:
    # Three in an hour, 72 in the older half.
    model = named(churn, "few", f"mod(right(user_id, 5)::int, {USERS_AN_HOUR}) < 3")
    found = trial(model, MINUTES)
    assert found[CLEAN]["alarms"] == 0
    assert found[SHIFT] == {
        "injection": SHIFT,
        "hours": 24,
        "alarms": 0,
        "found_after_hours": None,
        "is_blind": True,
        "detail": "Blind: not found in 24 h.",
    }
    assert [row["is_blind"] for row in kept(model, MINUTES) if row["injection"] == SHIFT] == [True]


def test_a_feature_that_strays_by_itself_is_blind_to_shifts_that_are_no_larger(churn: Model) -> None:
    model = named(churn, "restless")
    seen = trial(model, MINUTES)
    assert not any(row["is_blind"] for row in seen.values())
    strays(model, MINUTES, Wobble(distance=0.2, cells=2.0, days=28))
    blind = trial(model, MINUTES)
    assert [name for name, row in blind.items() if row["is_blind"]] == [SHIFT, FILL, TIMES_SIXTY]
    assert blind[SHIFT]["detail"] == "Blind: not found in 24 h."


def test_a_feature_that_hardly_strays_is_not(churn: Model) -> None:
    model = named(churn, "calm")
    strays(model, MINUTES, Wobble(distance=0.0, cells=0.0, days=28))
    assert not trial(model, MINUTES)[SHIFT]["is_blind"]


def test_higher_floors_make_it_blind(churn: Model) -> None:
    drift = DriftSettings(warning_floor=0.3, critical_floor=0.4)
    assert trial(named(with_feature(churn, MINUTES, drift=drift), "deaf"), MINUTES)[SHIFT]["is_blind"]


def strays(model: Model, feature: str, wobble: Wobble) -> None:
    """A serving baseline from which the monitor has learnt how far the feature strays in each window."""
    grid = Grid.of(FRACTIONS)
    with warehouse.connect() as connection:
        source = snapshot_source(model, "v1")
        stored = store.add_grid(connection, model, feature, grid)
        baselines.write_baseline(
            connection,
            model,
            feature,
            BaselineKey("serving", source.name, WHOLE, source.version),
            stored,
            {baselines.WHOLE_SLOT: (Sketch.of(FRACTIONS, grid), 4000.0)},
            (HOURS[0], AS_OF),
            dict.fromkeys(model.monitoring.windows_hours, wobble),
        )


# What is kept


def test_what_was_found_is_kept_and_testing_again_replaces_it(churn: Model) -> None:
    model = named(churn, "again")
    first = trial(model, MINUTES, EARLY)
    rows = kept(model, MINUTES)
    assert [row["injection"] for row in rows] == sorted(first, key=lambda name: name)
    for row in rows:
        assert row["as_of"] == EARLY
        assert {name: row[name] for name in first[row["injection"]]} == first[row["injection"]]
    higher = with_feature(model, MINUTES, drift=DriftSettings(warning_floor=0.3, critical_floor=0.4))
    second = trial(higher, MINUTES, EARLY)
    assert second != first
    again = kept(model, MINUTES)
    assert len(again) == len(rows)
    for row in again:
        assert {name: row[name] for name in second[row["injection"]]} == second[row["injection"]]


def test_each_instant_and_each_feature_has_rows_of_its_own(churn: Model) -> None:
    model = named(churn, "own")
    trial(model, MINUTES, EARLY)
    trial(model, MONTHLY, EARLY)
    trial(model, MINUTES, EARLY + HOUR)
    assert [row["as_of"] for row in kept(model, MINUTES)] == [EARLY] * 4 + [EARLY + HOUR] * 4
    assert {row["as_of"] for row in kept(model, MONTHLY)} == {EARLY}


def test_nothing_else_in_the_warehouse_changes(churn: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    become_champion(monkeypatch, "1")
    train(churn)
    watch(churn, EARLY)
    planned = plan(churn, EARLY)
    served = "select md5(string_agg(t::text, '|' order by t::text)) from features.user_session_features as t"
    publications = "select md5(string_agg(t::text, '|' order by t::text)) from serving.publications as t"
    before = everything(), rows(served), rows(publications)
    assert before[0]["sketches"]
    assert before[0]["drift_reports"]
    for feature in (MINUTES, WEEKLY):
        assert self_test(churn, feature, planned, EARLY)
    assert (everything(), rows(served), rows(publications)) == before
    assert all(sequences_unmoved(planned, churn))


def sequences_unmoved(planned: Mapping[str, Any], model: Model) -> list[bool]:
    """Whether a test draws no number from the sequences that grids and baselines are numbered by."""
    query = "select last_value from monitoring.{}_{}_id_seq"
    names = [("sketch_grids", "grid"), ("feature_baselines", "baseline")]
    before = [rows(query.format(*name)) for name in names]
    self_test(model, MINUTES, planned, EARLY)
    return [rows(query.format(*name)) == known for name, known in zip(names, before, strict=True)]


# How much history it takes


def test_seven_hours_are_too_few(churn: Model) -> None:
    model = named(churn, "young")
    assert trial(model, MINUTES, HOURS[6]) == {}
    assert kept(model, MINUTES) == []


def test_eight_hours_are_enough_and_half_of_them_are_replayed(churn: Model) -> None:
    found = trial(named(churn, "older"), MINUTES, EARLY)
    assert {row["hours"] for row in found.values()} == {4}


def test_of_a_longer_history_the_last_two_days_count(churn: Model) -> None:
    # The oldest hour is left out, and so is what is only there.
    broken = f"as_of > timestamptz '{HOURS[0]}' or mod(right(user_id, 1)::int, 2) = 0"
    assert {row["hours"] for row in trial(named(churn, "longer", broken), WEEKLY, AS_OF).values()} == {24}


def test_a_feature_that_is_not_declared_is_not_tested(churn: Model) -> None:
    assert trial(churn, "shoe_size") == {}


def test_the_hours_of_the_older_half_rest_on_their_distinct_users(churn: Model) -> None:
    model = named(churn, "counted")
    plan(model, AS_OF)
    source = snapshot_source(model, "v1")
    with warehouse.connect() as connection:
        parts = store.read_populations(connection, model, source.name, source.version, HOURS[0] - HOUR, HOURS[23])
    assert distinct_entities(list(parts[WHOLE].values())) == pytest.approx(24 * USERS_AN_HOUR, rel=0.2)
