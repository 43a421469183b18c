"""Which requests are logged: a share of them that depends on nothing but their ids and a salt."""

from fractions import Fraction
from hashlib import blake2b

from features.errors import SkewlessError

HASHES = 2**64
KEY_BYTES = 64  # of blake2b, at most


class Sampler:
    """Samples ids at a rate: each always or never, in any process, by a keyed 64-bit hash of it.

    With another salt another share is sampled, and independently so. Whoever knows the salt can choose ids that are
    never sampled.

    >>> one_in_ten = Sampler(0.1, salt="churn")
    >>> sum(one_in_ten.samples(f"request-{number}") for number in range(10_000))
    975
    """

    __slots__ = ("_key", "_threshold")

    def __init__(self, rate: float, salt: str | bytes) -> None:
        """Samples a share of `rate` of the ids.

        Args:
            rate: above 0, up to 1, which samples all.

        Raises:
            SkewlessError: when the rate is no such number, or so small that no hash would be below it.
        """
        if not isinstance(rate, int | float) or not 0 < rate <= 1:
            raise SkewlessError(f"A sampling rate is a number above 0 and at most 1, not {rate!r}.")
        self._threshold = round(Fraction(rate) * HASHES)
        if not self._threshold:
            raise SkewlessError(f"The sampling rate {rate!r} is below 2**-65 and samples nothing; raise it.")
        self._key = _encoded(salt)
        if len(self._key) > KEY_BYTES:
            self._key = blake2b(self._key, usedforsecurity=False).digest()

    @property
    def inclusion_probability(self) -> float:
        """Of any id, to be sampled. To weight a row by its inverse makes up for the others."""
        return self._threshold / HASHES

    def samples(self, identifier: str | bytes) -> bool:
        """Whether an id is among the sampled.

        Raises:
            SkewlessError: when it is neither text nor bytes.
        """
        digest = blake2b(_encoded(identifier), key=self._key, digest_size=8, usedforsecurity=False).digest()
        return int.from_bytes(digest) < self._threshold


def _encoded(text: str | bytes) -> bytes:
    if isinstance(text, str):
        return text.encode("utf-8", "surrogatepass")
    if isinstance(text, bytes):
        return text
    raise SkewlessError(f"Ids and salts are text or bytes, not {text!r}; convert it to the text that names it.")
