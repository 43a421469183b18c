"""A value is counted once, in the cell that a person would put it into; parts add up to the whole."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from features.contract import Valid
from features.drift.sketch import LARGEST, Grid, Kind, Sketch
from tests.drift.samples import CATEGORIES, NUMBERS, finite_samples, grid_of, normal

RANGES = st.sampled_from([Valid(), Valid(minimum=0), Valid(maximum=2), Valid(minimum=-1, maximum=1)])


def assert_same(one: Sketch, other: Sketch) -> None:
    """Counts are equal; sums are to rounding, which grows with the numbers that were added."""
    np.testing.assert_array_equal(one.counts, other.counts)
    assert (one.missing, one.not_finite, one.invalid) == (other.missing, other.not_finite, other.invalid)
    assert one.squares == pytest.approx(other.squares, rel=1e-9, abs=1e-300)
    largest = max(1.0, float(np.abs(one.sums).max(initial=0)), math.sqrt(one.squares * max(one.given, 1)))
    np.testing.assert_allclose(one.sums, other.sums, rtol=1e-9, atol=1e-9 * largest)


def by_hand(values: Any, grid: Grid, valid: Valid) -> dict[str, Any]:
    """The same sketch by a loop over values and edges."""
    counts, sums = [0] * grid.cells, [0.0] * grid.cells
    squares, missing, not_finite, invalid = 0.0, 0, 0, 0
    for value in values:
        if value is None or math.isnan(value):
            missing += 1
        elif math.isinf(value) or abs(value) > LARGEST:
            not_finite += 1
        elif (valid.minimum is not None and value < valid.minimum) or (
            valid.maximum is not None and value > valid.maximum
        ):
            invalid += 1
        else:
            cell = 0
            for edge in grid.edges:
                cell += value >= edge
            counts[cell] += 1
            sums[cell] += value
            squares += (value - grid.centre) ** 2
    return {
        "counts": np.array(counts),
        "sums": np.array(sums),
        "squares": squares,
        "missing": missing,
        "not_finite": not_finite,
        "invalid": invalid,
    }


@given(NUMBERS, NUMBERS, RANGES)
def test_a_number_is_put_where_a_loop_over_the_edges_puts_it(baseline: Any, values: Any, valid: Valid) -> None:
    grid = grid_of(baseline)
    assert_same(Sketch.of(values, grid, valid), Sketch(**by_hand(values, grid, valid)))


@given(NUMBERS, NUMBERS, RANGES)
def test_every_number_is_counted_exactly_once(baseline: Any, values: Any, valid: Valid) -> None:
    sketch = Sketch.of(values, grid_of(baseline), valid)
    assert sketch.rows == len(values)
    assert sketch.given + sketch.missing + sketch.not_finite + sketch.invalid == sketch.rows
    assert len(sketch.counts) == len(sketch.sums)


@given(CATEGORIES, CATEGORIES, st.sampled_from([Valid(), Valid(values=("a", "b", "true"))]))
def test_every_category_is_counted_exactly_once(baseline: Any, values: Any, valid: Valid) -> None:
    grid = grid_of(baseline, categorical=True)
    sketch = Sketch.of(values, grid, valid)
    assert sketch.rows == len(values)
    assert sketch.missing == sum(value is None for value in values)
    assert len(sketch.counts) == grid.cells == len(sketch.sums)
    assert not sketch.sums.any()


@given(NUMBERS)
def test_nothing_of_a_baseline_is_lost_in_its_own_grid(values: Any) -> None:
    grid = grid_of(values)
    assert list(grid.edges) == sorted(set(grid.edges))
    assert grid.cells == len(grid.edges) + 1
    assert Sketch.of(values, grid).rows == len(values)


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_sketches_add_up_in_any_order_to_that_of_all_values(base: Any, one: Any, two: Any, three: Any) -> None:
    grid = grid_of(base)
    a, b, c = (Sketch.of(values, grid) for values in (one, two, three))
    together = Sketch.of(np.concatenate([np.asarray(values, dtype=object) for values in (one, two, three)]), grid)
    assert_same((a + b) + c, a + (b + c))
    assert_same(a + b, b + a)
    assert_same(a + b + c, together)
    assert_same(Sketch.total([c, a, b], grid), together)
    assert_same(a + Sketch.empty(grid), a)


@given(CATEGORIES, CATEGORIES, CATEGORIES)
def test_sketches_of_categories_add_up_too(base: Any, one: Any, two: Any) -> None:
    grid = grid_of(base, categorical=True)
    a, b = Sketch.of(one, grid), Sketch.of(two, grid)
    assert_same(a + b, Sketch.of(np.concatenate([one, two]), grid))
    assert_same(a + b, b + a)


@given(NUMBERS | CATEGORIES, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(values: Any, random: Any) -> None:
    categorical = any(isinstance(value, str | bool) for value in values)
    shuffled = list(values)
    random.shuffle(shuffled)
    shuffled_values = np.array(shuffled, dtype=object)
    grid = grid_of(values, categorical=categorical)
    assert grid == grid_of(shuffled_values, categorical=categorical)
    assert_same(Sketch.of(values, grid), Sketch.of(shuffled_values, grid))


@given(finite_samples(smallest=65))
def test_no_cell_of_many_values_holds_much_more_than_its_part(values: Any) -> None:
    grid = Grid.of(values)
    counts = Sketch.of(values, grid).counts
    frequent = np.unique(values, return_counts=True)[1].max()
    assert counts.max() <= math.ceil(len(values) / 64) + frequent


def test_a_value_that_fills_a_cell_by_itself_has_one_of_its_own() -> None:
    noise = normal(6400)
    values = np.concatenate([noise, np.zeros(200), np.full(200, 1.5)])
    grid = Grid.of(values)
    sketch = Sketch.of(values, grid)
    for atom in (0.0, 1.5):
        cell = int(np.searchsorted(grid.edges, atom, side="right"))
        assert (grid.edges[cell - 1], grid.edges[cell]) == (atom, np.nextafter(atom, np.inf))
        assert sketch.counts[cell] == 200
        assert sketch.sums[cell] == 200 * atom
    beside = Sketch.of([np.nextafter(1.5, 2), np.nextafter(1.5, 1)], grid)
    assert beside.counts[int(np.searchsorted(grid.edges, 1.5, side="right"))] == 0


@pytest.mark.parametrize(("copies", "is_atom"), [(100, True), (99, False)])
def test_an_atom_holds_at_least_a_64th(copies: int, is_atom: bool) -> None:
    values = np.concatenate([np.arange(6400.0 - copies), np.full(copies, -0.5)])
    grid = Grid.of(values)
    assert ({-0.5, float(np.nextafter(-0.5, np.inf))} <= set(grid.edges)) is is_atom


@pytest.mark.parametrize(("distinct", "kind"), [(1, Kind.DISCRETE), (64, Kind.DISCRETE), (65, Kind.NUMERIC)])
def test_up_to_64_values_have_a_cell_each(distinct: int, kind: Kind) -> None:
    values = np.tile(np.arange(float(distinct)), 3)
    grid = Grid.of(values)
    assert grid.kind is kind
    if kind is Kind.DISCRETE:
        # And so has what is between them, above and below.
        assert grid.edges[::2] == tuple(range(distinct))
        assert Sketch.of(values, grid).counts.tolist() == [0] + [3, 0] * distinct
        between = [-1, *(np.arange(distinct) + 0.5)]
        assert Sketch.of(between, grid).counts.tolist() == [1] + [0, 1] * distinct


def test_edges_are_quantiles_of_the_baseline() -> None:
    grid = Grid.of(np.arange(6400.0))
    assert grid.edges == tuple(np.arange(1, 64) * 100.0 - 1)


def test_a_grid_needs_a_value() -> None:
    for nothing in ([], [np.nan], [np.inf, -np.inf], [1e151]):
        with pytest.raises(ValueError, match="no value"):
            Grid.of(np.array(nothing, dtype=float))
    with pytest.raises(ValueError, match="no value"):
        Grid.of(np.array([None, None], dtype=object))


def test_named_categories_are_the_most_frequent_then_come_rare_and_new_ones() -> None:
    baseline = [f"c{k:02}" for k in range(70) for _ in range(100 - k)]
    grid = Grid.of(np.array(baseline))
    assert (grid.kind, grid.named, grid.cells) == (Kind.CATEGORICAL, 62, 64)
    assert grid.categories == tuple(f"c{k:02}" for k in range(70))
    counts = Sketch.of(["c00", "c00", "c61", "c62", "c69", "unheard of", "c", None], grid).counts
    assert counts[[0, 61, 62, 63]].tolist() == [2, 1, 2, 2]
    assert counts.sum() == 7
    assert [grid.label(cell) for cell in (0, 61, 62, 63)] == ["c00", "c61", "rare categories", "new categories"]


def test_equally_frequent_categories_are_in_the_order_of_their_names() -> None:
    assert Grid.of(np.array(["b", "c", "a", "c"])).categories == ("c", "a", "b")


def test_booleans_are_false_and_true_whatever_the_sample() -> None:
    for values in ([True] * 3, [False], [np.True_, np.False_], np.array([True, None], dtype=object)):
        grid = Grid.of(np.asarray(values))
        assert (grid.kind, grid.categories) == (Kind.BOOLEAN, ("false", "true"))
    assert Sketch.of([True, True, False], grid).counts.tolist() == [1, 2, 0, 0]
    assert Sketch.of(np.array([True, None, False], dtype=object), grid).missing == 1


def test_numbers_may_be_names() -> None:
    grid = Grid.of(np.array([3, 3, 7]), categorical=True)
    assert (grid.kind, grid.categories) == (Kind.CATEGORICAL, ("3", "7"))
    assert Sketch.of([3, 7, 7, 8], grid).counts.tolist() == [1, 2, 0, 1]


def test_bounds_of_what_is_valid_are_valid() -> None:
    grid = Grid.of([0.0, 1.0])
    values = [np.nextafter(0, -1), 0, 0.5, 1, np.nextafter(1, 2), np.inf, np.nan]
    sketch = Sketch.of(values, grid, Valid(minimum=0, maximum=1))
    assert (sketch.given, sketch.invalid, sketch.not_finite, sketch.missing) == (3, 2, 1, 1)
    assert Sketch.of(values, grid, Valid(minimum=0)).invalid == 1
    assert Sketch.of(values, grid, Valid(maximum=1)).invalid == 1
    assert Sketch.of(values, grid, Valid()).invalid == 0


def test_only_the_valid_categories_are_valid() -> None:
    grid = Grid.of(np.array(["a", "b"]))
    sketch = Sketch.of(np.array(["a", "c", "d", None], dtype=object), grid, Valid(values=("a", "c")))
    assert (sketch.counts.tolist(), sketch.invalid, sketch.missing) == ([1, 0, 0, 1], 1, 1)


@pytest.mark.parametrize(("value", "counted"), [(1e150, "given"), (-1e150, "given"), (1.001e150, "not_finite")])
def test_beyond_1e150_nothing_can_be_computed(value: float, counted: str) -> None:
    sketch = Sketch.of([value], Grid.numeric((0.0,), ()))
    assert getattr(sketch, counted) == 1
    assert np.isfinite(sketch.squares)


@given(NUMBERS)
def test_every_cell_has_a_name(values: Any) -> None:
    grid = grid_of(values)
    assert all(grid.label(cell) for cell in range(grid.cells))


@given(CATEGORIES)
def test_every_cell_of_categories_has_a_name(values: Any) -> None:
    grid = grid_of(values, categorical=True)
    labels = [grid.label(cell) for cell in range(grid.cells)]
    assert labels[-2:] == ["rare categories", "new categories"]
    assert tuple(labels[:-2]) == grid.categories[:62]


def test_names_of_cells_say_their_bounds() -> None:
    grid = Grid.numeric((-1.5, 20.0), (3.0,))
    assert [grid.label(cell) for cell in range(grid.cells)] == [
        "below -1.5",
        "-1.5 to 3",
        "3",
        "3 to 20",
        "20 or more",
    ]
    assert [Grid(Kind.NUMERIC).label(0), Grid(Kind.CATEGORICAL).label(1)]


@pytest.mark.parametrize("edges", [(0.1,), (0.1, 0.7), (0.1, 0.3, 0.7)])
def test_squares_are_measured_from_the_middle_edge(edges: tuple[float, ...]) -> None:
    grid = Grid(Kind.NUMERIC, edges)
    assert grid.centre == edges[len(edges) // 2]
    assert Sketch.of([grid.centre], grid).squares == 0
    assert Sketch.of([grid.centre + 2, grid.centre - 3], grid).squares == pytest.approx(13)
    assert Grid(Kind.CATEGORICAL).centre == 0


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
@hypothesis_settings(max_examples=50)
def test_integers_floats_and_objects_are_the_same_numbers(values: list[float]) -> None:
    whole = np.round(values)
    grid = Grid.of(whole)
    assert grid == Grid.of(whole.astype(np.int64))
    for same in (whole.astype(np.int64), whole.astype(object), whole.astype(np.int64).tolist()):
        assert_same(Sketch.of(same, grid), Sketch.of(whole, grid))
