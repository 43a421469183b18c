"""What an alarm looks like: a fault leaves the mark by which it is known, and a world that moves leaves none."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from features.contract import DriftSettings, Valid
from features.drift.cause import DATA_INCIDENTS, FACTORS, Cause, Diagnosis, Evidence, diagnose
from features.drift.counting import QUANTILES
from features.drift.decision import judge
from features.drift.profile import Profile
from features.drift.sketch import Floats, Grid, Sketch

ALPHA = 1.8e-5
BASELINE, CURRENT = 16_000, 8000
SEEDS = st.integers(0, 10**6)
# What chance does to a sample is part of these: the same examples each time.
FEW = hypothesis_settings(max_examples=30, derandomize=True)


def evidence(
    was: npt.ArrayLike, now: npt.ArrayLike, usual: npt.ArrayLike | None = None, valid: Valid | None = None
) -> Evidence:
    """What is known when an hour's values come after a baseline's, and after hours of usual ones."""
    grid = Grid.of(was)
    before, current = Sketch.of(was, grid, valid), Sketch.of(now, grid, valid)
    expected, profile = Profile.of(before), Profile.of(current)
    return Evidence(
        grid=grid,
        current=profile,
        expected=expected,
        alarms=judge(profile, expected, grid, DriftSettings(), ALPHA).alarms,
        quantiles=quantiles(now) if grid.kind.is_ordered else np.empty(0),
        usual=np.empty(0) if usual is None else Sketch.of(usual, grid).counts.astype(float),
        present=current.counts.astype(float),
    )


def quantiles(values: npt.ArrayLike) -> Floats:
    known = np.array([np.nan if value is None else value for value in np.asarray(values).tolist()], dtype=float)
    known = known[np.isfinite(known)]
    return np.asarray(np.quantile(known, QUANTILES, method="inverted_cdf")) if len(known) else np.empty(0)


def cause_of(was: npt.ArrayLike, now: npt.ArrayLike, **more: Any) -> Diagnosis:
    """The diagnosis of what does alarm."""
    found = evidence(was, now, **more)
    assert found.alarms
    return diagnose(found)


MARGINALS = {
    "normal": lambda rng, n: rng.normal(30, 5, n),
    "gamma": lambda rng, n: rng.gamma(2, 10, n),
    "lognormal": lambda rng, n: rng.lognormal(4, 1, n),
    "uniform": lambda rng, n: rng.uniform(0, 60, n),
    "few counts": lambda rng, n: rng.poisson(3, n).astype(float),
    "many counts": lambda rng, n: rng.poisson(12, n).astype(float),
}
POSITIVE = ("normal", "lognormal")
COUNTS = {"few counts", "many counts"}


def sample(name: str, seed: int, n: int) -> Floats:
    return np.asarray(MARGINALS[name](np.random.default_rng([seed, n]), n))


# Units

CLEAR = st.sampled_from(FACTORS)
UPWARDS = st.booleans()


def named(factor: float) -> str:
    return f"x {factor:g}" if factor >= 1 else f"x 1/{1 / factor:g}"


@FEW
@given(seed=SEEDS, name=st.sampled_from(POSITIVE), factor=CLEAR, upwards=UPWARDS)
def test_all_values_in_another_unit_are_a_unit_change_of_that_factor(
    seed: int, name: str, factor: float, upwards: bool
) -> None:
    ratio = factor if upwards else 1 / factor
    found = cause_of(sample(name, seed, BASELINE), sample(name, seed, CURRENT) * ratio)
    assert found.cause is Cause.UNIT_CHANGE
    assert factor in {1000, 1024} or found.because == f"all values are as before {named(ratio)}"


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", POSITIVE)
def test_each_factor_is_named(name: str, factor: float) -> None:
    for ratio in (factor, 1 / factor):
        found = cause_of(sample(name, 1, BASELINE), sample(name, 1, CURRENT) * ratio)
        assert found.cause is Cause.UNIT_CHANGE
        # A kilo and a kibi are too close to be told apart by a wide distribution.
        assert found.because.endswith(named(ratio)) or factor in {1000, 1024}


@FEW
@given(seed=SEEDS, name=st.sampled_from(POSITIVE), factor=CLEAR, share=st.floats(0.1, 0.6))
def test_some_values_in_another_unit_are_a_unit_change(seed: int, name: str, factor: float, share: float) -> None:
    now = sample(name, seed, CURRENT)
    part = now[: int(share * CURRENT)]
    part *= factor
    found = cause_of(sample(name, seed, BASELINE), now)
    assert found.cause is Cause.UNIT_CHANGE
    assert "about" in found.because


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_how_many_values_are_in_another_unit_is_told(share: float) -> None:
    now = sample("lognormal", 1, CURRENT)
    now[: int(share * CURRENT)] *= 60
    found = cause_of(sample("lognormal", 1, BASELINE), now)
    told, rest = found.because.removeprefix("about ").split("%")
    assert int(told) == pytest.approx(100 * share, abs=3)
    assert rest == " of the values are as before x 60"


def test_zeros_have_no_unit() -> None:
    rng = np.random.default_rng(2)
    was = np.where(rng.random(BASELINE) < 0.6, 0.0, rng.lognormal(3, 1, BASELINE))
    now = np.where(rng.random(CURRENT) < 0.6, 0.0, rng.lognormal(3, 1, CURRENT)) * 60
    found = cause_of(was, now)
    assert found.cause is Cause.UNIT_CHANGE
    assert found.because.endswith("as before x 60")


# Fills


@FEW
@given(
    seed=SEEDS,
    name=st.sampled_from(["normal", "lognormal", "uniform"]),
    share=st.floats(0.1, 0.3),
    value=st.sampled_from([0.0, -1.0, -999.0]),
)
def test_a_default_that_no_value_ever_had_is_a_default_fill(seed: int, name: str, share: float, value: float) -> None:
    now = sample(name, seed, CURRENT)
    now[: int(share * CURRENT)] = value
    found = cause_of(sample(name, seed, BASELINE), now)
    assert found.cause is Cause.DEFAULT_FILL
    assert found.because.endswith(f"of the values became {value:g}")


@FEW
@given(
    seed=SEEDS,
    name=st.sampled_from(["normal", "gamma", "uniform"]),
    share=st.floats(0.1, 0.3),
    place=st.floats(0.1, 0.9),
)
def test_a_default_amid_the_values_is_a_default_fill(seed: int, name: str, share: float, place: float) -> None:
    was, now = sample(name, seed, BASELINE), sample(name, seed, CURRENT)
    value = float(np.quantile(was, place).round(2))
    now[: int(share * CURRENT)] = value
    found = cause_of(was, now)
    assert found.cause is Cause.DEFAULT_FILL
    assert found.because.endswith(f"became {value:g}")


@pytest.mark.parametrize("share", [0.03, 0.05])
def test_a_few_defaults_are_found_among_many_values(share: float) -> None:
    was, now = sample("normal", 1, 50_000), sample("normal", 1, 40_000)
    for value in (0.0, 30.0):
        filled = now.copy()
        filled[: int(share * len(now))] = value
        found = cause_of(was, filled)
        assert found.cause is Cause.DEFAULT_FILL
        assert found.because == f"{share:.1%} of the values became {value:g}"


@pytest.mark.parametrize("value", [999.0, 9999.0, 1e9])
def test_a_default_above_all_values_is_a_default_fill_too(value: float) -> None:
    now = sample("normal", 1, CURRENT)
    now[: CURRENT // 5] = value
    found = cause_of(sample("normal", 1, BASELINE), now)
    assert found == Diagnosis(Cause.DEFAULT_FILL, f"20.0% of the values became {value:g}")


def test_a_fill_in_place_of_missing_values_names_its_mirror() -> None:
    rng = np.random.default_rng(4)
    was = np.where(rng.random(BASELINE) < 0.2, np.nan, rng.normal(30, 5, BASELINE))
    now = np.where(rng.random(CURRENT) < 0.2, 0.0, rng.normal(30, 5, CURRENT))
    found = cause_of(was, now)
    assert found.cause is Cause.DEFAULT_FILL
    assert ", and missing values fell from 2" in found.because
    assert found.because.endswith("to 0.0%")


# Missing, invalid, new


def test_what_is_not_finite_breaks_the_contract_whatever_else_there_is() -> None:
    now = sample("normal", 1, CURRENT) * 60
    now[0] = np.inf
    assert cause_of(sample("normal", 1, BASELINE), now).cause is Cause.CONTRACT_BREAK


def test_what_is_not_valid_breaks_the_contract() -> None:
    now = sample("normal", 1, CURRENT)
    now[: CURRENT // 100] = -1
    found = cause_of(sample("normal", 1, BASELINE), now, valid=Valid(minimum=0))
    assert found == Diagnosis(Cause.CONTRACT_BREAK, "1.00% of the values are outside of what is valid")


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_more_missing_values_than_usual_are_a_null_burst(share: float) -> None:
    now = sample("normal", 1, CURRENT)
    now[: int(share * CURRENT)] = np.nan
    found = diagnose(evidence(sample("normal", 1, BASELINE), now))
    assert found == Diagnosis(Cause.NULL_BURST, f"{share:.1%} of the values are missing, usually 0.0%")


def test_as_many_missing_values_as_usual_are_none() -> None:
    was, now = sample("normal", 1, BASELINE), sample("normal", 1, CURRENT)
    was[: BASELINE // 5] = now[: CURRENT // 5] = np.nan
    assert not evidence(was, now).alarms


def words(*counts: tuple[str, int]) -> npt.NDArray[Any]:
    return np.array([word for word, n in counts for _ in range(n)], dtype=object)


def test_categories_never_seen_are_new() -> None:
    found = cause_of(words(("a", 3000), ("b", 1000)), words(("a", 1400), ("b", 500), ("c", 100)))
    assert found == Diagnosis(Cause.NEW_CATEGORY, "5.0% of the values were never seen before")
    assert not found.cause.is_data_incident


def test_one_category_in_place_of_parts_of_all_others_is_a_default_fill() -> None:
    was = words(("a", 1000), ("b", 1000), ("c", 1000), ("d", 1000))
    found = cause_of(was, words(("a", 800), ("b", 400), ("c", 400), ("d", 400)))
    assert found == Diagnosis(Cause.DEFAULT_FILL, "20.0% of the values became 'a'")


def test_categories_that_trade_places_are_genuine() -> None:
    was = words(("a", 1000), ("b", 1000), ("c", 1000), ("d", 1000))
    assert cause_of(was, words(("a", 900), ("b", 700), ("c", 300), ("d", 100))).cause is Cause.GENUINE


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_more_of_one_of_two_values_is_genuine(share: float) -> None:
    """As when fewer or more customers leave."""
    was, now = np.arange(BASELINE) < 0.5 * BASELINE, np.arange(CURRENT) < share * CURRENT
    assert cause_of(was, now).cause is Cause.GENUINE


# Rows that are gone


@FEW
@given(
    seed=SEEDS,
    name=st.sampled_from(sorted(MARGINALS.keys() - {"uniform"})),
    lost=st.floats(0.25, 0.5),
    top=st.booleans(),
)
def test_entities_of_one_kind_that_are_gone_are_a_dropped_slice(seed: int, name: str, lost: float, top: bool) -> None:
    usual = np.sort(sample(name, seed, CURRENT))
    gone = int(lost * CURRENT)
    now = usual[:-gone] if top else usual[gone:]
    found = cause_of(sample(name, seed, BASELINE), now, usual=usual)
    assert found.cause is Cause.DROPPED_SLICE
    assert int(found.because.split("%")[0]) == pytest.approx(100 * lost, abs=1)
    assert "% of the rows are gone, most of them from " in found.because


def test_the_larger_values_of_a_uniform_distribution_that_are_gone_are_a_dropped_slice_too() -> None:
    usual = np.sort(sample("uniform", 1, CURRENT))
    found = cause_of(sample("uniform", 1, BASELINE), usual[: int(CURRENT / 1.6)], usual=usual)
    assert found.cause is Cause.DROPPED_SLICE


@FEW
@given(seed=SEEDS, name=st.sampled_from(sorted(MARGINALS)))
def test_half_of_the_entities_gone_at_random_is_no_alarm_of_the_distribution(seed: int, name: str) -> None:
    usual = sample(name, seed, CURRENT)
    assert not evidence(sample(name, seed, BASELINE), usual[: CURRENT // 2], usual=usual).alarms


def test_a_category_that_is_gone_is_named() -> None:
    usual = words(("a", 1000), ("b", 600), ("c", 400))
    found = cause_of(words(("a", 2000), ("b", 1200), ("c", 800)), words(("a", 1000), ("c", 400)), usual=usual)
    assert found == Diagnosis(Cause.DROPPED_SLICE, "30% of the rows are gone, most of them from b")


def test_where_no_hour_is_known_to_compare_with_no_slice_is_said_to_be_gone() -> None:
    usual = np.sort(sample("normal", 1, CURRENT))
    assert cause_of(sample("normal", 1, BASELINE), usual[:1400]).cause is Cause.GENUINE


# The world


def moved(values: Floats, how: str, by: float) -> Floats:
    """Values a share of their standard deviation larger or smaller, or further apart or closer together."""
    mean, std = float(values.mean()), float(values.std())
    return {
        "larger": lambda: values + by * std,
        "smaller": lambda: values - by * std,
        "wider": lambda: mean + (values - mean) * (1 + by),
        "narrower": lambda: mean + (values - mean) / (1 + by),
    }[how]()


HOW = ("larger", "smaller", "wider", "narrower")


@FEW
@given(seed=SEEDS, name=st.sampled_from(sorted(MARGINALS)), how=st.sampled_from(HOW), by=st.floats(0.25, 1))
def test_a_world_that_moves_is_genuine(seed: int, name: str, how: str, by: float) -> None:
    usual = sample(name, seed, CURRENT)
    now = moved(sample(name, seed + 1, CURRENT), how, by)
    found = evidence(sample(name, seed, BASELINE), now if name not in COUNTS else now.round(), usual=usual)
    assume(found.alarms)
    assert diagnose(found).cause is Cause.GENUINE


@pytest.mark.parametrize("name", sorted(MARGINALS))
def test_hardly_any_world_that_moves_is_taken_for_a_fault(name: str) -> None:
    alarms, faults = 0, []
    for seed in range(15):
        was, usual = sample(name, seed, BASELINE), sample(name, seed, CURRENT)
        for how in HOW:
            by = float(np.random.default_rng(seed).uniform(0.25, 1))
            now = moved(sample(name, seed + 1, CURRENT), how, by)
            found = evidence(was, now if name not in COUNTS else now.round(), usual=usual)
            if found.alarms:
                alarms += 1
                diagnosis = diagnose(found)
                faults += [(seed, how, by, diagnosis)] if diagnosis.cause.is_data_incident else []
    assert alarms > 40
    assert len(faults) <= 0.02 * alarms, faults


@pytest.mark.parametrize("rate", [4.0, 5.0])
def test_more_events_of_a_kind_are_genuine(rate: float) -> None:
    rng = np.random.default_rng(8)
    was, now = rng.poisson(3, BASELINE).astype(float), rng.poisson(rate, CURRENT).astype(float)
    assert cause_of(was, now, usual=was[:CURRENT]).cause is Cause.GENUINE


def test_growth_by_half_is_genuine_although_miles_are_not_far() -> None:
    for growth in (1.3, 1.4, 1.5, 1.8, 2.0):
        found = cause_of(sample("lognormal", 1, 20_000), sample("lognormal", 2, 20_000) * growth)
        assert found.cause is Cause.GENUINE, growth


def test_the_causes_that_block_retraining_are_those_of_a_sick_pipeline() -> None:
    assert {cause for cause in Cause if not cause.is_data_incident} == {
        Cause.NEW_CATEGORY,
        Cause.VOLUME,
        Cause.GENUINE,
    }
    assert len(DATA_INCIDENTS) == 7


def test_an_alarm_of_nothing_known_is_still_diagnosed() -> None:
    found: Sequence[Diagnosis] = [
        diagnose(evidence(sample("normal", 1, BASELINE), np.full(10, np.nan))),
        diagnose(evidence(words(("a", 10)), words())),
    ]
    assert [one.cause for one in found] == [Cause.NULL_BURST, Cause.NULL_BURST]
