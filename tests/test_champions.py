"""Who is to go back to: every promotion adds a successor, and a rollback takes back what came since."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.champions import Reign, succession


def reigns(*words: str) -> list[Reign]:
    """`p3` is the promotion of version 3, `r1` a rollback to version 1."""
    kinds = {"p": "promotion", "r": "rollback"}
    return [Reign(word[1:], "definition", kinds[word[0]]) for word in words]  # type: ignore[arg-type]


SUCCESSIONS = {
    "nobody": ([], []),
    "the first": (["p1"], ["1"]),
    "promotions": (["p1", "p2", "p3"], ["1", "2", "3"]),
    "back by one": (["p1", "p2", "p3", "r2"], ["1", "2"]),
    "back by two at once": (["p1", "p2", "p3", "r1"], ["1"]),
    "back twice": (["p1", "p2", "p3", "r2", "r1"], ["1"]),
    "on after a rollback": (["p1", "p2", "r1", "p3"], ["1", "3"]),
    "back over a rollback": (["p1", "p2", "r1", "p3", "r1"], ["1"]),
    "forward again, by name": (["p1", "p2", "r1", "r2"], ["1", "2"]),
    "the same promoted again": (["p1", "p1"], ["1"]),
}


@pytest.mark.parametrize(("words", "line"), SUCCESSIONS.values(), ids=SUCCESSIONS)
def test_the_line_of_succession(words: list[str], line: list[str]) -> None:
    assert [reign.version for reign in succession(reigns(*words))] == line


@given(st.lists(st.tuples(st.sampled_from("pr"), st.sampled_from("1234")).map("".join)))
def test_the_last_to_become_champion_ends_the_line_and_nobody_follows_themselves(words: list[str]) -> None:
    line = [reign.version for reign in succession(reigns(*words))]
    assert line[-1:] == [word[1:] for word in words[-1:]]
    assert all(before != after for before, after in pairwise(line))
