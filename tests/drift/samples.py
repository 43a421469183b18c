"""Values of every kind that a feature may have, for the tests of this folder."""

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from features.drift.profile import Profile
from features.drift.sketch import Floats, Grid, Kind, Sketch

# Whatever floats there are: NaN, both infinities, zeros of both signs, denormals, the largest.
ANY_NUMBERS = st.lists(st.floats(), max_size=60)
TIES = st.lists(st.integers(-3, 3).map(float), max_size=120)
CONSTANTS = st.builds(lambda value, n: [value] * n, st.floats(-1e12, 1e12), st.integers(1, 80))
NARROW_AROUND_LARGE = st.lists(st.integers(0, 200).map(lambda k: 1e9 + k / 1024), max_size=80)
LARGE = st.lists(st.floats(-1e150, 1e150), max_size=40)
WITH_GAPS = st.lists(st.none() | st.integers(-3, 3) | st.floats(-5, 5), max_size=60).map(
    lambda values: np.array(values, dtype=object)
)
NUMBERS = ANY_NUMBERS | TIES | CONSTANTS | NARROW_AROUND_LARGE | LARGE | WITH_GAPS

TEXTS = st.lists(st.none() | st.sampled_from("abcdefgh") | st.text(max_size=3), max_size=80)
BOOLEANS = st.lists(st.none() | st.booleans(), max_size=80)
CATEGORIES = (TEXTS | BOOLEANS).map(lambda values: np.array(values, dtype=object))


@st.composite
def finite_samples(draw: st.DrawFn, smallest: int = 1) -> Floats:
    """Numbers that can be computed with: continuous, rounded, counts, with a spike, skewed, far from zero."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(smallest, 400))
    shift, scale = draw(st.sampled_from([0.0, 0.1, 1.0, -2.0])), draw(st.sampled_from([0.5, 1.0, 2.0]))
    noise = rng.normal(shift, scale, n)
    kinds = {
        "normal": noise,
        "rounded": np.round(noise, 1),
        "counts": rng.poisson(3 + shift, n).astype(float),
        "spiked": np.where(rng.random(n) < 0.3, 0.5, noise),
        "skewed": np.exp(noise),
        "far": 1e6 + noise,
        "constant": np.full(n, shift),
    }
    return kinds[draw(st.sampled_from(sorted(kinds)))]


def grid_of(values: npt.ArrayLike, *, categorical: bool = False) -> Grid:
    """Cells for the values as numbers, also when an object array holds them; one cell edge at 0 when there are none."""
    array = np.asarray(values)
    if not categorical:
        array = np.array([np.nan if value is None else value for value in array.tolist()], dtype=float)
    try:
        return Grid.of(array, categorical=categorical)
    except ValueError:
        return Grid.of(np.array(["a"]), categorical=True) if categorical else Grid.numeric((0.0,), ())


def cells_between_integers(cells: int) -> Grid:
    """Cells that are below 1, from 1 to 2, and so on."""
    return Grid(Kind.NUMERIC, tuple(map(float, range(1, cells))))


def profile_of(values: npt.ArrayLike, grid: Grid, size: float | None = None) -> Profile:
    """The distribution of an array, resting on `size` entities."""
    return Profile.of(Sketch.of(values, grid), size)


def normal(n: int, mean: float = 0.0, seed: int = 7) -> Floats:
    """A sample of the normal distribution."""
    return np.random.default_rng(seed).normal(mean, 1.0, n)


def perfect_normal(n: int, mean: float = 0.0) -> Floats:
    """The sample of n values that is closest to the normal distribution: its quantiles."""
    from scipy import stats

    return np.asarray(mean + stats.norm.ppf((np.arange(n) + 0.5) / n))


def with_shares(shares: Any, size: float, **rates: float) -> Profile:
    """A profile of given shares whose cells hold the values 0, 1, 2, ... ."""
    shares = np.asarray(shares, dtype=float)
    places = np.arange(len(shares))
    none = {"missing": 0.0, "not_finite": 0.0, "invalid": 0.0}
    return Profile(
        shares, shares * places, float(shares @ places.astype(float) ** 2), **none | rates, size=size, seen=size
    )
