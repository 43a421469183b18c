"""What is done to a stream, and whether it should be found."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from features.drift.sketch import Floats
from tests.benchmarks.drift.streams import LEVELS, Marginal

DEFAULT = 0.0

# An hour's values from its latent ones; the hours since the shift began are counted from 1.
Change = Callable[[Marginal, Floats, int, np.random.Generator], Floats]


@dataclass(frozen=True)
class Shift:
    """A change that begins at some hour and stays.

    Attributes:
        is_benign: too small to matter, so that an alarm is a false one.
        of: numbers or categories.
    """

    name: str
    change: Change
    of: str = "numbers"
    is_benign: bool = False

    def fits(self, marginal: Marginal) -> bool:
        """Whether the marginal can suffer it."""
        return self.of == "all" or (self.of == "categories") == bool(marginal.names)


def _moved(by: float) -> Change:
    return lambda marginal, latent, hour, rng: marginal.at(latent + by)


def _replaced(share: float, value: float) -> Change:
    def change(marginal: Marginal, latent: Floats, hour: int, rng: np.random.Generator) -> Floats:
        return np.where(rng.random(len(latent)) < share, value, marginal.at(latent))

    return change


def _scaled(marginal: Marginal, latent: Floats, hour: int, rng: np.random.Generator) -> Floats:
    return marginal.at(latent * 1.5)


def _multiplied(marginal: Marginal, latent: Floats, hour: int, rng: np.random.Generator) -> Floats:
    return marginal.at(latent) * np.where(rng.random(len(latent)) < 0.1, 60.0, 1.0)


def _sliced(marginal: Marginal, latent: Floats, hour: int, rng: np.random.Generator) -> Floats:
    return marginal.at(np.sort(latent)[: int(0.8 * len(latent))])


def _rounded(decimals: int) -> Change:
    return lambda marginal, latent, hour, rng: np.round(marginal.at(latent), decimals)


def _rising(marginal: Marginal, latent: Floats, hour: int, rng: np.random.Generator) -> Floats:
    return marginal.at(latent + 0.005 * hour)


SHIFTS = (
    Shift("+0.05 sigma", _moved(0.05), is_benign=True),
    Shift("rounded to hundredths", _rounded(2), is_benign=True),
    Shift("0.5 % of rows are the default", _replaced(0.005, DEFAULT), is_benign=True),
    Shift("+0.15 sigma", _moved(0.15)),
    Shift("+0.25 sigma", _moved(0.25)),
    Shift("+0.5 sigma", _moved(0.5)),
    Shift("scale x 1.5", _scaled),
    Shift("5 % of rows are the default", _replaced(0.05, DEFAULT)),
    Shift("10 % of rows are the default", _replaced(0.1, DEFAULT)),
    Shift("5 % of rows are NULL", _replaced(0.05, np.nan), of="all"),
    Shift("10 % of rows x 60", _multiplied),
    Shift("5 % of rows are a new category", _replaced(0.05, LEVELS), of="categories"),
    Shift("the top 20 % of rows are gone", _sliced),
    Shift("rounded to tenths", _rounded(1)),
    Shift("+0.005 sigma an hour", _rising),
)
QUARTER_SIGMA = "+0.25 sigma"
SPIKES = ("5 % of rows are the default", "5 % of rows are NULL", "5 % of rows are a new category")
