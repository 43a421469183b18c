"""Distances from counts: exact where counts suffice, else bounds that hold; scipy and naive formulas judge."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from features.drift import distance
from features.drift.profile import Profile
from features.drift.sketch import Floats, Grid
from tests.drift.samples import finite_samples, normal, perfect_normal, profile_of, with_shares

ROUNDING = 1e-11
FEW_VALUES = st.lists(st.integers(-4, 4).map(lambda k: k / 10), min_size=1, max_size=150).map(np.array)
COUNTS = st.lists(st.integers(0, 40), min_size=2, max_size=12).filter(any)


def exact_ks(baseline: Floats, current: Floats) -> float:
    with np.errstate(divide="ignore"):  # in p, of which a single value has none
        return float(stats.ks_2samp(baseline, current, method="asymp").statistic)


def profiles(baseline: Floats, current: Floats) -> tuple[Profile, Profile, Grid]:
    grid = Grid.of(baseline)
    return profile_of(baseline, grid), profile_of(current, grid), grid


def two(counts: Any, other: Any) -> tuple[Profile, Profile]:
    """Profiles of two lists of counts, the shorter filled up with empty cells."""
    width = max(len(counts), len(other))
    padded = [np.pad(np.asarray(some, dtype=float), (0, width - len(some))) for some in (counts, other)]
    one, two = (with_shares(some / some.sum(), some.sum()) for some in padded)
    return one, two


@given(finite_samples(), finite_samples())
def test_the_bracket_holds_the_exact_distance(baseline: Floats, current: Floats) -> None:
    bracket = distance.ks(*profiles(baseline, current))
    exact = exact_ks(baseline, current)
    assert bracket.low <= exact + ROUNDING
    assert exact <= bracket.high + ROUNDING
    assert 0 <= bracket.low <= bracket.high + ROUNDING
    assert bracket.high <= 1


def test_a_distance_is_at_most_1_to_the_last_digit() -> None:
    for n in range(3, 400):
        bracket = distance.ks(*profiles(np.arange(n) % 61 / 10, np.array([1e6])))
        assert bracket.low <= bracket.high <= 1


@given(finite_samples(smallest=65), st.floats(-3, 3))
def test_also_for_a_sample_and_the_same_one_moved(baseline: Floats, by: float) -> None:
    bracket = distance.ks(*profiles(baseline, baseline + by))
    assert bracket.low - ROUNDING <= exact_ks(baseline, baseline + by) <= bracket.high + ROUNDING


@given(FEW_VALUES, FEW_VALUES)
def test_where_every_value_has_a_cell_the_distance_is_exact(baseline: Floats, current: Floats) -> None:
    current = current[np.isin(current, baseline)]
    assume(len(current))
    bracket = distance.ks(*profiles(baseline, current))
    assert bracket.low == bracket.high == pytest.approx(exact_ks(baseline, current), abs=ROUNDING)


@pytest.mark.parametrize("baseline", [[0, 1], [0, 1, 1, 1], [0, 0, 0, 1]])
@pytest.mark.parametrize("value", [-1, 0, 0.5, 1, 2])
def test_also_where_a_value_is_between_two_of_them_or_beyond(baseline: list[float], value: float) -> None:
    exact = exact_ks(np.array(baseline), np.array([value, value]))
    assert distance.ks(*profiles(np.array(baseline, dtype=float), np.array([value, value]))).low == exact


def test_the_bracket_is_as_wide_as_a_cell_where_it_has_to_be() -> None:
    bracket = distance.ks(*profiles(normal(20_000, seed=1), normal(20_000, mean=0.3, seed=2)))
    assert 0.11 < bracket.low < 0.13
    assert bracket.high - bracket.low <= 1 / 64 + 1e-3


def moved_within_cells(baseline: Floats) -> Floats:
    """Each value as far up as its cell goes: the edges see nothing of it."""
    edges = np.asarray(Grid.of(baseline).edges)
    cell = np.searchsorted(edges, baseline, side="right")
    just_below = np.nextafter(edges[np.minimum(cell, len(edges) - 1)], -np.inf)
    return np.asarray(np.where(cell < len(edges), just_below, baseline.max()))


def test_what_moves_within_the_cells_is_within_the_bracket() -> None:
    baseline = np.arange(6400.0)
    current = moved_within_cells(baseline)
    bracket = distance.ks(*profiles(baseline, current))
    assert bracket.low == pytest.approx(0, abs=ROUNDING)
    assert exact_ks(baseline, current) == pytest.approx(bracket.high, abs=0.001)


def test_also_when_values_differ_in_their_last_digits_only() -> None:
    baseline = 1e9 + np.arange(6400.0) * 2.0**-20
    current = moved_within_cells(baseline)
    assert exact_ks(baseline, current) <= distance.ks(*profiles(baseline, current)).high + ROUNDING


def test_a_million_times_the_same_value_is_one_atom() -> None:
    baseline, current = np.repeat([0.1, 0.7], [800_000, 200_000]), np.repeat([0.1, 0.7], [500_000, 500_000])
    bracket = distance.ks(*profiles(baseline, current))
    assert bracket.low == bracket.high == pytest.approx(0.3)


@given(finite_samples(), finite_samples())
def test_one_of_the_two_directions_is_the_distance(baseline: Floats, current: Floats) -> None:
    one, other, grid = profiles(baseline, current)
    up, down = (distance.one_sided_ks(one, other, upwards=upwards) for upwards in (True, False))
    assert max(up, down) == pytest.approx(distance.ks(one, other, grid).low, abs=ROUNDING)
    assert min(up, down) >= 0


@given(finite_samples(), st.floats(0, 5))
def test_larger_values_are_upwards(baseline: Floats, by: float) -> None:
    one, other, grid = profiles(baseline, baseline + by)
    assert distance.one_sided_ks(one, other, upwards=True) == pytest.approx(distance.ks(one, other, grid).low)
    assert distance.one_sided_ks(one, other, upwards=False) == pytest.approx(0, abs=ROUNDING)


def test_the_largest_cell_says_which_way() -> None:
    one, other = with_shares([0.5, 0.3, 0.2], 10), with_shares([0.55, 0.05, 0.4], 10)
    assert distance.largest_cell(one, other) == pytest.approx((1, -0.25))
    assert distance.largest_cell(other, one) == pytest.approx((1, 0.25))


@given(finite_samples(), finite_samples())
def test_wasserstein_is_a_lower_bound(baseline: Floats, current: Floats) -> None:
    found = distance.wasserstein(*profiles(baseline, current))
    largest = max(np.abs(baseline).max(), np.abs(current).max(), 1)
    assert 0 <= found <= stats.wasserstein_distance(baseline, current) + 1e-10 * largest


@given(FEW_VALUES, FEW_VALUES)
def test_wasserstein_is_exact_where_every_value_has_a_cell(baseline: Floats, current: Floats) -> None:
    current = current[np.isin(current, baseline)]
    assume(len(current))
    found = distance.wasserstein(*profiles(baseline, current))
    assert found == pytest.approx(stats.wasserstein_distance(baseline, current), abs=1e-9)


@given(finite_samples(), st.floats(0.01, 50), st.sampled_from([-1, 1]), st.floats(0, 2))
def test_wasserstein_is_exact_where_the_distributions_do_not_cross(
    baseline: Floats, by: float, sign: int, pull: float
) -> None:
    """Every value moves the same way, the large ones further: far into the open cells at both ends too."""
    current = baseline + sign * (by + pull * np.abs(baseline - baseline.min()))
    found = distance.wasserstein(*profiles(baseline, current))
    exact = stats.wasserstein_distance(baseline, current)
    assert found == pytest.approx(exact, rel=1e-9, abs=1e-9 * max(1, np.abs(baseline).max(), np.abs(current).max()))


def test_a_shift_is_as_far_as_it_goes() -> None:
    baseline = normal(5000)
    assert distance.wasserstein(*profiles(baseline, baseline + 0.25)) == pytest.approx(0.25)
    assert distance.wasserstein(*profiles(baseline, baseline - 1000)) == pytest.approx(1000)


@given(finite_samples())
def test_wasserstein_grows_with_the_unit(values: Floats) -> None:
    one = distance.wasserstein(*profiles(values, values + 1))
    assert distance.wasserstein(*profiles(values * 4, (values + 1) * 4)) == pytest.approx(4 * one, rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(20_000, 20_000), (5_000, 50_000), (40_000, 10_000)])
@pytest.mark.parametrize("shift", [0.0, 0.01, 0.03])
def test_p_is_scipys(n: int, m: int, shift: float) -> None:
    found = stats.ks_2samp(normal(n, seed=n), normal(m, mean=shift, seed=m + 1), method="asymp")
    p = distance.ks_p_value(found.statistic, n, m)
    assert p == pytest.approx(found.pvalue, rel=0.1, abs=1e-12)


@given(st.floats(0.001, 1), st.floats(1, 1e5), st.floats(1, 1e5))
def test_p_is_kolmogorovs_series(d: float, n: float, m: float) -> None:
    t = d * (n * m / (n + m)) ** 0.5
    assume(t > 0.2)  # below it the series needs many terms, and p is 1
    series = 2 * sum((-1) ** (k - 1) * np.exp(-2 * (k * t) ** 2) for k in range(1, 100))
    assert distance.ks_p_value(d, n, m) == pytest.approx(series, rel=1e-6, abs=1e-9)


def test_no_distance_is_no_surprise() -> None:
    assert distance.ks_p_value(0.0, 100, 100) == 1.0


def naive_psi(baseline: Profile, current: Profile) -> float:
    total, cells = 0.0, len(baseline.shares)
    for was, now in zip(baseline.shares, current.shares, strict=True):
        p = (was * baseline.size + 0.5) / (baseline.size + cells / 2)
        q = (now * current.size + 0.5) / (current.size + cells / 2)
        total += (q - p) * np.log(q / p)
    return total


@given(COUNTS, COUNTS)
def test_psi_is_the_formula_on_cells_with_half_an_entity_more(counts: list[int], other: list[int]) -> None:
    one, two_ = two(counts, other)
    found = distance.psi(one, two_)
    assert found == pytest.approx(naive_psi(one, two_), abs=1e-12)
    assert found >= 0
    assert np.isfinite(found)
    assert found == pytest.approx(distance.psi(two_, one), abs=1e-12)
    assert distance.psi(one, one) == 0


def test_a_quarter_sigma_is_a_psi_of_a_sixteenth() -> None:
    one, other, _ = profiles(perfect_normal(100_000), perfect_normal(100_000, 0.25))
    assert distance.psi(one, other) == pytest.approx(0.0625, rel=0.05)


def naive_cells(baseline: Profile, current: Profile) -> tuple[float, int]:
    """Chi-square by the book: a group is closed once it expects ten; what is left joins the last."""
    effective = 1 / (1 / baseline.size + 1 / current.size)
    groups: list[list[float]] = [[0.0, 0.0]]
    for was, now in zip(baseline.shares, current.shares, strict=True):
        if groups[-1][0] * effective >= 10:
            groups.append([0.0, 0.0])
        groups[-1][0] += was
        groups[-1][1] += now
    if groups[-1][0] * effective < 10 and len(groups) > 1:
        was, now = groups.pop()
        groups[-1][0] += was
        groups[-1][1] += now
    if len(groups) < 2:
        return 0.0, 0
    return sum(effective * (now - was) ** 2 / was for was, now in groups), len(groups) - 1


@given(COUNTS, COUNTS)
def test_chi_square_is_the_formula_on_merged_cells(counts: list[int], other: list[int]) -> None:
    one, two_ = two(counts, other)
    # A group that expects ten to the last bit may go either way.
    effective = 1 / (1 / one.size + 1 / two_.size)
    sums = np.subtract.outer(np.cumsum([0, *one.shares]), np.cumsum([0, *one.shares])) * effective
    assume(not np.isclose(sums, 10, rtol=1e-9).any())
    found = distance.cells(one, two_)
    statistic, degrees = naive_cells(one, two_)
    assert found.statistic == pytest.approx(statistic, abs=1e-9)
    assert found.degrees == degrees
    assert found.effective == pytest.approx(effective)
    assert found.w_squared >= 0
    assert 0 <= found.p_value <= 1


@given(st.lists(st.integers(0, 40), min_size=2, max_size=30), st.floats(1, 500))
def test_merged_cells_expect_ten(counts: list[int], entities: float) -> None:
    assume(sum(counts))
    shares = np.array(counts) / sum(counts)
    expected, actual = distance._merged(shares, shares[::-1], entities)
    assert expected.sum() == pytest.approx(1)
    assert actual.sum() == pytest.approx(1)
    if len(expected) > 1:
        assert expected.min() * entities >= 10 - 1e-9
        assert len(expected) <= entities / 10 + 1e-9


@given(st.lists(st.integers(10, 100), min_size=2, max_size=10), st.integers(0, 2**32))
def test_against_a_known_distribution_chi_square_is_scipys(weights: list[int], seed: int) -> None:
    shares = np.array(weights) / sum(weights)
    counts = np.random.default_rng(seed).multinomial(2000, shares)
    found = distance.cells(with_shares(shares, 1e15), with_shares(counts / 2000, 2000))
    expected = stats.chisquare(counts, 2000 * shares)
    assert found.degrees == len(weights) - 1
    assert found.statistic == pytest.approx(expected.statistic, rel=1e-6)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-5)


@pytest.mark.parametrize(("sizes", "degrees"), [((20, 20), 0), ((39.9, 39.9), 0), ((40.1, 40.1), 1), ((0, 1e6), 0)])
def test_too_few_entities_have_no_cells_to_compare(sizes: tuple[float, float], degrees: int) -> None:
    found = distance.cells(with_shares([0.5, 0.5], sizes[0]), with_shares([0.9, 0.1], sizes[1]))
    assert found.degrees == degrees
    if not degrees:
        assert (found.statistic, found.w_squared, found.p_value, found.exceeds(0.1)) == (0, 0, 1, 1)


def test_cohens_w_squared_is_what_chance_does_not_explain() -> None:
    found = distance.cells(with_shares([0.5, 0.5], 1e6), with_shares([0.6, 0.4], 1e6))
    assert found.statistic == pytest.approx(0.04 * 5e5)
    assert found.w_squared == pytest.approx(0.04 - 1 / 5e5)
    noise = distance.cells(with_shares([0.5, 0.5], 100), with_shares([0.51, 0.49], 100))
    assert noise.w_squared == 0


@given(COUNTS, COUNTS, st.floats(0, 2))
def test_the_more_is_allowed_the_less_of_a_surprise_it_is(counts: list[int], other: list[int], effect: float) -> None:
    found = distance.cells(*two(counts, other))
    assert found.exceeds(effect) <= found.exceeds(effect + 0.1) + 1e-9
    assert found.exceeds(0) == pytest.approx(found.p_value, rel=1e-6, abs=1e-12)


@given(finite_samples())
def test_a_sample_is_at_no_distance_from_itself(values: Floats) -> None:
    one, same, grid = profiles(values, values)
    assert distance.ks(one, same, grid).low == 0
    assert distance.wasserstein(one, same, grid) == 0
    assert distance.psi(one, same) == 0
    assert distance.cells(one, same).statistic == 0
    assert distance.cells(one, same).w_squared == 0
    assert distance.largest_cell(one, same)[1] == 0
