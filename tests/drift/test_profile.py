"""What to expect of a window: the baseline's hours of the week, in the proportions in which the window has them."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.contract import Valid
from features.drift import distance
from features.drift.profile import BORROWED_ROWS, Baseline, Profile, mix, slot_of
from features.drift.sketch import Floats, Grid, Sketch
from tests.drift.samples import cells_between_integers, finite_samples, grid_of, normal, profile_of, with_shares

MONDAY = datetime(2013, 7, 1, tzinfo=UTC)
GRID = cells_between_integers(5)
SHARES = st.lists(st.integers(0, 50), min_size=5, max_size=5).filter(any).map(lambda n: np.array(n) / sum(n))
SIZES = st.floats(1, 1e6)
WEIGHTS = st.lists(st.integers(0, 20), min_size=3, max_size=3).filter(any).map(lambda n: np.array(n) / sum(n))


def hour(slot: int) -> datetime:
    return MONDAY + timedelta(hours=slot)


def sketch_with(counts: Any, missing: int = 0) -> Sketch:
    counts = np.asarray(counts, dtype=np.int64)
    places = np.arange(len(counts), dtype=float)
    return Sketch(counts, counts * places, float(counts @ (places - GRID.centre) ** 2), missing)


def baseline_of(slots: Mapping[int, Any], entities: float | None = None) -> Baseline:
    """A baseline with the given counts (or sketches) in its hours of the week, a row each an entity."""
    parts = {slot: part if isinstance(part, Sketch) else sketch_with(part) for slot, part in slots.items()}
    whole = Sketch.total(list(parts.values()), GRID)
    return Baseline(GRID, whole, entities or whole.rows, {slot: (part, part.rows) for slot, part in parts.items()})


def naive_shares(baseline: Baseline, rows: Mapping[int, int]) -> Floats:
    """The weighted mean over slots, each with 50 rows of its hour of day, and that with 50 of the whole."""
    total = sum(rows.values())
    result = np.zeros(GRID.cells)
    whole = baseline.whole.counts / baseline.whole.rows
    for slot, count in rows.items():
        same_hour = [part for other, (part, _) in baseline.slots.items() if other % 24 == slot % 24]
        day_counts = np.sum([part.counts for part in same_hour], axis=0) if same_hour else np.zeros(GRID.cells)
        day = (day_counts + BORROWED_ROWS * whole) / (day_counts.sum() + BORROWED_ROWS)
        own = baseline.slots[slot][0].counts if slot in baseline.slots else np.zeros(GRID.cells)
        result += count / total * (own + BORROWED_ROWS * day) / (own.sum() + BORROWED_ROWS)
    return result


@given(finite_samples(), st.sampled_from([None, 1, 10, 1000]))
def test_mean_and_standard_deviation_are_numpys(values: Floats, entities: int | None) -> None:
    grid = Grid.of(values)
    profile = profile_of(values, grid, entities)
    # What squaring costs: half of the digits of the distance from the centre.
    lost = 1e-7 * np.sqrt(np.mean((values - grid.centre) ** 2)) + 1e-12 * np.abs(values).max()
    assert profile.mean == pytest.approx(values.mean(), rel=1e-12, abs=1e-12 * np.abs(values).max())
    assert profile.std(grid) == pytest.approx(values.std(), rel=1e-6, abs=lost)


@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e6])
def test_a_small_spread_around_a_large_mean_is_seen(spread: float) -> None:
    values = 1e9 + spread * normal(5000)
    grid = Grid.of(values)
    assert profile_of(values, grid).std(grid) == pytest.approx(values.std(), rel=1e-5)


def test_a_constant_does_not_spread_and_nothing_has_no_mean() -> None:
    grid = Grid.of(np.full(7, 0.1))
    assert profile_of(np.full(7, 0.1), grid).std(grid) == pytest.approx(0, abs=1e-9)
    nothing = profile_of([np.nan], grid)
    assert (nothing.mean, nothing.std(grid), nothing.size, nothing.missing) == (None, None, 0, 1)
    assert Profile.of(Sketch.empty(grid)).seen == 0


def test_shares_are_of_values_and_rates_are_of_rows() -> None:
    values = [1, 1, 2, 3, np.nan, np.nan, np.inf, -5, -5, -5]
    profile = Profile.of(Sketch.of(values, GRID, Valid(minimum=0)))
    assert profile.shares.tolist() == [0, 0.5, 0.25, 0.25, 0]
    assert profile.shares.sum() == 1
    assert (profile.missing, profile.not_finite, profile.invalid) == (0.2, 0.1, 0.3)
    assert (profile.seen, profile.size) == (10, 4)


@pytest.mark.parametrize(("entities", "seen", "size"), [(None, 10, 8), (5, 5, 4), (10, 10, 8), (99, 10, 8)])
def test_rows_of_one_entity_are_one_piece_of_evidence(entities: float | None, seen: float, size: float) -> None:
    profile = Profile.of(Sketch.of([1] * 8 + [np.nan] * 2, GRID), entities)
    assert (profile.seen, profile.size) == (seen, size)


@given(st.lists(st.tuples(SHARES, SIZES), min_size=3, max_size=3), WEIGHTS)
def test_a_mixture_is_the_weighted_mean_of_everything(parts: list[tuple[Floats, float]], weights: Floats) -> None:
    profiles = [with_shares(shares, size, missing=size / 2e6, invalid=0.1) for shares, size in parts]
    mixture = mix(list(zip(profiles, weights, strict=True)))
    for field in fields(Profile):
        if field.name not in {"size", "seen"}:
            naive = sum(
                weight * getattr(profile, field.name) for profile, weight in zip(profiles, weights, strict=True)
            )
            np.testing.assert_allclose(getattr(mixture, field.name), naive, rtol=1e-9, atol=1e-12)
    assert mixture.shares.sum() == pytest.approx(1)


@given(st.lists(SIZES, min_size=3, max_size=3), WEIGHTS)
def test_the_size_of_a_mixture_is_that_of_the_variance_of_the_weighted_mean(
    sizes: list[float], weights: Floats
) -> None:
    mixture = mix([(with_shares([1.0, 0.0], size), weight) for size, weight in zip(sizes, weights, strict=True)])
    variance = sum(weight**2 / size for size, weight in zip(sizes, weights, strict=True))
    assert mixture.size == pytest.approx(1 / variance)
    assert mixture.seen == pytest.approx(1 / variance)
    assert mixture.size <= sum(sizes) * (1 + 1e-9)


def test_and_a_simulation_agrees() -> None:
    rng = np.random.default_rng(3)
    sizes, weights = np.array([40, 200, 1000]), np.array([0.5, 0.3, 0.2])
    mixtures = (rng.binomial(sizes, 0.3, size=(20_000, 3)) / sizes) @ weights
    size = mix([(with_shares([0.3, 0.7], n), weight) for n, weight in zip(sizes, weights, strict=True)]).size
    assert mixtures.var() == pytest.approx(0.3 * 0.7 / size, rel=0.05)


def test_equal_parts_in_their_proportions_are_as_good_as_the_whole() -> None:
    parts = [(with_shares([0.2, 0.8], size), size / 100) for size in (10.0, 30.0, 60.0)]
    assert mix(parts).size == pytest.approx(100)


def test_of_a_part_without_evidence_nothing_is_known_unless_it_has_no_weight() -> None:
    known, unknown = with_shares([1.0, 0.0], 10), with_shares([0.0, 0.0], 0)
    assert mix([(known, 0.5), (unknown, 0.5)]).size == 0
    assert mix([(known, 1.0), (unknown, 0.0)]).size == pytest.approx(10)


@pytest.mark.parametrize(
    ("as_of", "slot"),
    [
        (MONDAY, 0),
        (MONDAY + timedelta(minutes=59), 0),
        (MONDAY + timedelta(hours=25), 25),
        (MONDAY + timedelta(hours=167), 167),
        (MONDAY + timedelta(weeks=5, hours=3), 3),
    ],
)
def test_hours_of_the_week_count_from_monday(as_of: datetime, slot: int) -> None:
    assert slot_of(as_of) == slot


SLOTS = st.dictionaries(
    st.integers(0, 167), st.lists(st.integers(0, 300), min_size=5, max_size=5).filter(any), min_size=1, max_size=8
)
WINDOW = st.dictionaries(st.integers(0, 167), st.integers(1, 500), min_size=1, max_size=8)


@given(SLOTS, WINDOW)
def test_the_expectation_is_the_naive_weighted_mean(slots: dict[int, list[int]], rows: dict[int, int]) -> None:
    baseline = baseline_of(slots)
    expected = baseline.expected([(hour(slot), count) for slot, count in rows.items()])
    np.testing.assert_allclose(expected.shares, naive_shares(baseline, rows), rtol=1e-9, atol=1e-12)
    assert expected.mean == pytest.approx(float(naive_shares(baseline, rows) @ np.arange(5)))


@given(SLOTS, WINDOW)
def test_an_expectation_is_never_surer_than_the_whole_baseline(
    slots: dict[int, list[int]], rows: dict[int, int]
) -> None:
    baseline = baseline_of(slots)
    expected = baseline.expected([(hour(slot), count) for slot, count in rows.items()])
    assert 0 < expected.size <= baseline.profile.size
    assert 0 < expected.seen <= baseline.profile.seen


@given(SLOTS, WINDOW, st.integers(1, 5))
def test_hours_of_other_weeks_and_split_hours_are_the_same(
    slots: dict[int, list[int]], rows: dict[int, int], weeks: int
) -> None:
    baseline = baseline_of(slots)
    once = baseline.expected([(hour(slot), 2 * count) for slot, count in rows.items()])
    split = baseline.expected([
        (hour(slot) + timedelta(weeks=week), count) for slot, count in rows.items() for week in (0, weeks)
    ])
    np.testing.assert_allclose(once.shares, split.shares, rtol=1e-12)
    assert once.size == pytest.approx(split.size)


def test_an_hour_without_rows_has_no_say() -> None:
    baseline = baseline_of({0: [0, 1000, 0, 0, 0], 1: [0, 0, 1000, 0, 0]})
    with_empty = baseline.expected([(hour(0), 10), (hour(1), 0)])
    np.testing.assert_array_equal(with_empty.shares, baseline.expected([(hour(0), 10)]).shares)


def test_an_hour_of_the_week_never_seen_is_as_its_hour_of_the_day() -> None:
    # Mondays at 3 are 1, at 5 are 2; nobody has seen a Thursday.
    baseline = baseline_of({3: [0, 10**6, 0, 0, 0], 5: [0, 0, 10**6, 0, 0]})
    thursday_at_3 = baseline.expected([(hour(3 * 24 + 3), 10)])
    assert thursday_at_3.shares[1] > 0.9999
    assert baseline.expected([(hour(3 * 24 + 5), 10)]).shares[2] > 0.9999


def test_and_an_hour_of_the_day_never_seen_is_as_the_whole() -> None:
    baseline = baseline_of({3: [0, 700, 0, 0, 0], 5: [0, 0, 300, 0, 0]})
    never = baseline.expected([(hour(4), 10)])
    assert never.shares.tolist() == [0, 0.7, 0.3, 0, 0]
    assert never.size == 1000


def test_an_hour_seen_rarely_borrows_50_rows() -> None:
    baseline = baseline_of({3: [0, 50, 0, 0, 0], 24 + 3: [0, 0, 10**9, 0, 0]})
    rare = baseline.expected([(hour(3), 10)])
    assert rare.shares[1:3] == pytest.approx([0.5, 0.5], abs=1e-6)


def test_the_same_entities_each_day_are_not_counted_again() -> None:
    # 1,000 users, each seen every hour of the week: 168,000 rows and 1,000 pieces of evidence.
    part = sketch_with([0, 500, 500, 0, 0])
    whole = Sketch.total([part] * 168, GRID)
    baseline = Baseline(GRID, whole, 1000, dict.fromkeys(range(168), (part, 1000.0)))
    assert baseline.profile.size == 1000
    for hours in ([3], range(24), range(168)):
        assert baseline.expected([(hour(slot), 1000) for slot in hours]).size <= 1000
    # A single hour shows them all; what it borrows adds little.
    assert baseline.expected([(hour(3), 1000)]).size == pytest.approx(1000, rel=0.1)


def test_an_hour_of_the_day_rests_on_the_entities_of_its_fullest_day() -> None:
    # 100 users at 3 on Monday, and on Tuesday 80 who may be the same: they are 100 pieces of evidence, not 180.
    baseline = baseline_of({3: [0, 100, 0, 0, 0], 24 + 3: [0, 80, 0, 0, 0], 5: [0, 0, 10_000, 0, 0]})
    own = 180 / 230
    wednesday = baseline.expected([(hour(2 * 24 + 3), 10)])
    assert wednesday.size == pytest.approx(1 / (own**2 / 100 + (1 - own) ** 2 / 10_180))


def test_without_slots_or_rows_everything_is_expected() -> None:
    baseline = baseline_of({3: [0, 700, 0, 0, 0], 5: [0, 0, 300, 0, 0]})
    assert baseline.expected([]) is baseline.profile
    assert baseline.expected([(hour(3), 0)]) is baseline.profile
    whole = Baseline(GRID, baseline.whole, 10)
    assert whole.expected([(hour(3), 5)]) is whole.profile
    assert whole.profile.size == 10


def test_a_change_of_traffic_over_the_day_is_not_drift() -> None:
    rng = np.random.default_rng(5)
    grid = Grid.of(np.concatenate([rng.normal(0, 1, 20_000), rng.normal(2, 1, 20_000)]))
    nights = {day * 24 + 2: Sketch.of(rng.normal(0, 1, 9000), grid) for day in range(7)}
    days = {day * 24 + 14: Sketch.of(rng.normal(2, 1, 9000), grid) for day in range(7)}
    slots = nights | days
    baseline = Baseline(
        grid,
        Sketch.total(list(slots.values()), grid),
        9000 * 14,
        {slot: (part, float(part.rows)) for slot, part in slots.items()},
    )
    # The baseline had as many by night as by day; this window has nine times as many by day.
    night, day = Sketch.of(rng.normal(0, 1, 10_000), grid), Sketch.of(rng.normal(2, 1, 90_000), grid)
    expected = baseline.expected([(hour(2), night.given), (hour(14), day.given)])
    current = Profile.of(night + day)
    assert distance.ks(expected, current, grid).low < 0.015
    assert distance.cells(expected, current).w_squared < 0.002
    assert distance.ks(baseline.profile, current, grid).low > 0.25


def test_missing_values_that_come_by_night_are_expected_by_night() -> None:
    day, night = sketch_with([0, 500, 500, 0, 0], missing=0), sketch_with([0, 50, 50, 0, 0], missing=900)
    slots = {at: night if at < 12 else day for at in range(24)}
    baseline = baseline_of({at + 24 * weekday: part for at, part in slots.items() for weekday in range(7)})
    by_night = baseline.expected([(hour(2), night.given)])
    assert by_night.missing == pytest.approx(0.9, abs=0.05)
    assert baseline.expected([(hour(14), day.given)]).missing == pytest.approx(0, abs=0.05)


def test_a_day_of_which_half_is_missing_as_always_is_expected() -> None:
    day, night = sketch_with([0, 500, 500, 0, 0], missing=0), sketch_with([0, 50, 50, 0, 0], missing=900)
    slots = {at: night if at < 12 else day for at in range(24)}
    baseline = baseline_of({at + 24 * weekday: part for at, part in slots.items() for weekday in range(7)})
    whole_day = Sketch.total(list(slots.values()), GRID)
    expected = baseline.expected(
        [(hour(at), part.given) for at, part in slots.items()], [(hour(at), part.rows) for at, part in slots.items()]
    )
    assert Profile.of(whole_day).missing == pytest.approx(0.45)
    assert expected.missing == pytest.approx(0.45, abs=0.02)


@given(finite_samples())
def test_a_grid_without_slots_expects_the_sample_itself(values: Floats) -> None:
    grid = grid_of(values)
    sketch = Sketch.of(values, grid)
    expected = Baseline(grid, sketch, sketch.rows).expected([(MONDAY, 10)])
    np.testing.assert_array_equal(expected.shares, sketch.counts / len(values))
