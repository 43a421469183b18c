"""A sample is what it says: a share of the ids, the same in every process, independent of any other salt's."""

import math
import os
import subprocess
import sys
from fractions import Fraction
from hashlib import blake2b

import numpy as np
import pytest

from features.errors import SkewlessError
from features.serving.sampling import Sampler

IDS = [f"request-{number}" for number in range(40_000)]


def share(sampler: Sampler) -> float:
    return sum(map(sampler.samples, IDS)) / len(IDS)


def first_bytes_hash(identifier: str, salt: bytes) -> int:
    """The naive oracle: BLAKE2's first parameter block differs by digest size, so it has to be asked for 8 bytes."""
    return int(blake2b(identifier.encode(), key=salt, digest_size=8).hexdigest(), 16)


@pytest.mark.parametrize("rate", [0.001, 0.07, 0.1, 0.5, 0.93, 0.999])
def test_the_share_is_the_rate_within_binomial_bounds(rate: float) -> None:
    five_standard_errors = 5 * math.sqrt(rate * (1 - rate) / len(IDS))
    assert abs(share(Sampler(rate, "salt")) - rate) < five_standard_errors


@pytest.mark.parametrize("rate", [2**-64, 5e-5, 1.5e-4, 0.07, 0.1, 1 / 3, 1 - 2**-53, 1.0])
def test_the_threshold_is_exact(rate: float) -> None:
    sampler = Sampler(rate, "salt")
    assert sampler._threshold == round(Fraction(rate) * 2**64)
    assert sampler.inclusion_probability == float(Fraction(sampler._threshold, 2**64))
    assert abs(Fraction(sampler._threshold, 2**64) - Fraction(rate)) <= Fraction(1, 2**65)


def test_a_hash_is_sampled_when_it_is_below_the_threshold() -> None:
    sampler, hashes = Sampler(0.25, b"salt"), [first_bytes_hash(each, b"salt") for each in IDS]
    assert [sampler.samples(each) for each in IDS] == [each < 2**62 for each in hashes]
    sampler._threshold = hashes[0]
    assert not sampler.samples(IDS[0])
    sampler._threshold = hashes[0] + 1
    assert sampler.samples(IDS[0])


def test_a_rate_of_one_samples_everything_and_the_largest_hash_too() -> None:
    sampler = Sampler(1, "salt")
    assert share(sampler) == 1
    assert sampler._threshold > 2**64 - 1


def test_a_tiny_rate_samples_next_to_nothing() -> None:
    assert share(Sampler(1e-9, "salt")) == 0


def test_the_sample_of_a_lower_rate_is_part_of_that_of_a_higher() -> None:
    lower, higher = Sampler(0.1, "salt"), Sampler(0.2, "salt")
    assert all(higher.samples(each) for each in IDS if lower.samples(each))


def test_other_salts_sample_independently() -> None:
    one, other = Sampler(0.3, "churn"), Sampler(0.3, "ltv")
    both = sum(one.samples(each) and other.samples(each) for each in IDS) / len(IDS)
    assert abs(both - 0.09) < 5 * math.sqrt(0.09 * 0.91 / len(IDS))


def test_salts_of_any_length_count_to_their_last_byte() -> None:
    long = "x" * 100
    assert [Sampler(0.5, long + "a").samples(each) for each in IDS[:64]] != [
        Sampler(0.5, long + "b").samples(each) for each in IDS[:64]
    ]
    assert share(Sampler(0.5, long)) == pytest.approx(0.5, abs=0.02)


def test_text_and_its_bytes_are_one_id() -> None:
    sampler = Sampler(0.5, b"salt")
    assert all(sampler.samples(each) == sampler.samples(each.encode()) for each in IDS[:100])
    assert all(Sampler(0.5, "salt").samples(each) == sampler.samples(each) for each in IDS[:100])


@pytest.mark.starts
@pytest.mark.parametrize("seed", ["0", "1"])
def test_every_process_decides_alike(seed: str) -> None:
    script = (
        "from features.serving.sampling import Sampler; sampler = Sampler(0.3, 'salt');"
        "print(*(int(sampler.samples(f'request-{number}')) for number in range(200)))"
    )
    env = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    sampler = Sampler(0.3, "salt")
    assert done.stdout.split() == [str(int(sampler.samples(each))) for each in IDS[:200]]


@pytest.mark.parametrize("rate", [0, -0.1, 1.0000001, math.nan, math.inf, "0.1", None, 2**-66])
def test_what_is_no_rate_is_refused(rate: float) -> None:
    with pytest.raises(SkewlessError, match="sampling rate"):
        Sampler(rate, "salt")


@pytest.mark.parametrize("identifier", [None, 5, ("a", "b")])
def test_what_is_no_id_is_refused(identifier: str) -> None:
    with pytest.raises(SkewlessError, match="text or bytes"):
        Sampler(0.5, "salt").samples(identifier)


def test_numpys_doubles_are_rates() -> None:
    assert Sampler(np.float64(0.5), "salt").inclusion_probability == 0.5
