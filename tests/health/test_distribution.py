"""Bars: their shares are those of the raw values, the bulk is in the picture, and nothing is drawn over another."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from features.contract import Valid
from features.drift.profile import Profile
from features.drift.sketch import Grid, Sketch
from features.health.distribution import MOST_BARS, Bar, Distribution, distribution

N = 4000


def draw(kind: str, n: int = N, seed: int = 1) -> npt.NDArray[np.float64]:
    """Values of many shapes."""
    random = np.random.default_rng(seed)
    match kind:
        case "normal":
            return random.normal(30, 5, n)
        case "heavy":
            return random.standard_cauchy(n)
        case "counts":
            return random.lognormal(3, 1.2, n).round()
        case "few counts":
            return random.poisson(3, n).astype(float)
        case "tiny":
            return random.normal(1e9, 1e-3, n)
        case "negative counts":
            return random.normal(-50, 30, n).round()
    raise AssertionError(kind)


KINDS = ("normal", "heavy", "counts", "few counts", "tiny", "negative counts")
CHANGES = {
    "nothing": lambda values: values,
    "a shift": lambda values: values + 3,
    "a tenth by 60": lambda values: np.where(np.arange(len(values)) % 10 == 0, values * 60, values),
    "all by 60": lambda values: values * 60,
    "one value": lambda values: np.full_like(values, 7.0),
}


def compare(before: npt.ArrayLike, now: npt.ArrayLike, valid: Valid | None = None) -> Distribution:
    grid = Grid.of(before)
    one, other = (Profile.of(Sketch.of(values, grid, valid)) for values in (before, now))
    return distribution(one, other, grid, valid)


def share(values: npt.NDArray[np.float64], bar: Bar, *, is_first: bool, is_last: bool) -> float:
    """The naive way: counting. The outer cells have no end."""
    assert bar.low is not None
    assert bar.high is not None
    low = -np.inf if is_first and bar.label.startswith(("below", "up to")) else bar.low
    high = np.inf if is_last and bar.label.endswith("or more") else bar.high
    return float(np.mean((values >= low) & (values < high)))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_shares_are_those_of_the_raw_values(kind: str, change: object) -> None:
    before, now = draw(kind), CHANGES["nothing"](draw(kind, seed=2))
    now = change(now)  # type: ignore[operator]
    shown = compare(before, now)
    for place, bar in enumerate(shown.bars):
        ends = {"is_first": place == 0, "is_last": place == len(shown.bars) - 1}
        assert bar.before == pytest.approx(share(before, bar, **ends))
        assert bar.now == pytest.approx(share(now, bar, **ends))
    for name in ("before", "now"):
        drawn = sum(getattr(bar, name) for bar in shown.bars)
        assert drawn + getattr(shown.below, name) + getattr(shown.above, name) == pytest.approx(1.0)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_bulk_is_in_the_picture_and_bars_stand_beside_each_other(kind: str, change: object) -> None:
    before = draw(kind)
    shown = compare(before, change(draw(kind, seed=2)))  # type: ignore[operator]
    assert shown.low is not None
    assert shown.high is not None
    assert shown.low <= np.quantile(before, 0.1)
    assert shown.high >= np.quantile(before, 0.9)
    for bar in shown.bars:
        assert bar.low is not None
        assert bar.high is not None
        assert bar.width is not None
        assert shown.low <= bar.low < bar.high <= shown.high
        assert bar.width > 0
    for bar, following in pairwise(shown.bars):
        assert bar.high is not None
        assert following.low is not None
        assert bar.high <= following.low
    assert len(shown.bars) <= MOST_BARS + 1


def test_a_tail_does_not_squash_the_picture() -> None:
    before = draw("normal")
    now = np.where(np.arange(N) % 50 == 0, 60 * before, before)
    shown = compare(before, now)
    assert shown.high is not None
    assert shown.high < 70
    assert shown.above.now == pytest.approx(np.mean(now >= shown.high))
    assert shown.above.now > 0.019


def test_whole_numbers_are_drawn_from_half_to_half() -> None:
    shown = compare([0, 0, 1, 3], [0, 1, 1, 1])
    assert [(bar.label, bar.low, bar.high, bar.before, bar.now) for bar in shown.bars] == [
        ("0", -0.5, 0.5, 0.5, 0.25),
        ("1", 0.5, 1.5, 0.25, 0.75),
        ("2", 1.5, 2.5, 0.0, 0.0),
        ("3", 2.5, 3.5, 0.25, 0.0),
    ]
    assert (shown.kind, shown.is_whole, shown.low, shown.high) == ("discrete", True, -0.5, 3.5)


def test_a_value_that_stands_alone_is_a_thin_bar_with_all_of_its_share() -> None:
    before = np.where(np.arange(N) % 4 == 0, 0.0, draw("normal"))
    shown = compare(before, before)
    spike = next(bar for bar in shown.bars if bar.low == 0.0)
    assert spike.before == spike.now == 0.25
    assert shown.low is not None
    assert shown.high is not None
    assert spike.width == pytest.approx((shown.high - shown.low) / MOST_BARS, rel=0.1)


def test_a_feature_that_never_varies_has_a_picture() -> None:
    shown = compare([5.5] * 10, [5.5] * 9 + [6.5])
    assert [(bar.before, bar.now) for bar in shown.bars if bar.low == 5.5] == [(1.0, 0.9)]


def test_no_bar_is_drawn_where_the_contract_allows_nothing() -> None:
    before = np.abs(np.random.default_rng(3).normal(0, 1, N))
    shown = compare(before, before, Valid(minimum=0))
    assert shown.low == 0.0


def test_what_has_no_value_is_counted_beside_the_bars() -> None:
    grid = Grid.of([1.5, 2.5, 3.5])
    before = Profile.of(Sketch.of([1.5, 2.5, np.nan, 3.5], grid))
    now = Profile.of(Sketch.of([1.5, -1.0, np.inf, np.nan], grid, Valid(minimum=0)))
    shown = distribution(before, now, grid)
    assert (shown.missing.before, shown.missing.now) == (0.25, 0.25)
    assert (shown.not_finite.now, shown.invalid.now) == (0.25, 0.25)


def test_categories_are_bars_the_most_frequent_first_and_new_ones_are_never_hidden() -> None:
    before = [name for place in range(30) for name in [f"c{place:02}"] * (60 - place)]
    now = [*before, *["never seen"] * 5, *["c29"] * 900]
    shown = compare(before, now)
    labels = [bar.label for bar in shown.bars]
    assert labels[:2] == ["c00", "c01"]
    assert labels[-3:] == ["c29", "16 others", "new categories"]
    by_label = {bar.label: bar for bar in shown.bars}
    assert by_label["c29"].now == pytest.approx(931 / len(now))
    assert by_label["new categories"].before == 0.0
    assert by_label["new categories"].now == pytest.approx(5 / len(now))
    for name in ("before", "now"):
        assert sum(getattr(bar, name) for bar in shown.bars) == pytest.approx(1.0)


def test_a_boolean_has_two_bars() -> None:
    shown = compare([True, False, False, False], [True, True, False, False])
    assert [(bar.label, bar.before, bar.now) for bar in shown.bars] == [("false", 0.75, 0.5), ("true", 0.25, 0.5)]
