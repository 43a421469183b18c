"""The tool that changes the package finds what can be changed, and the tests of what it changed."""

from pathlib import Path

import pytest

from tests.mutants import PACKAGE, mutants, places_of_tests
from tests.places import ROOT


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("is_late = age > limit", ["is_late = (age >= limit)"]),
        ("rest = whole - part", ["rest = (whole + part)"]),
        ("both = a and b", ["both = (a or b)"]),
        ("other = not this", ["other = (this)"]),
        ("known = value is not None", ["known = (value is None)"]),
        ("many = 12", ["many = (13)"]),
        ("yes = True", ["yes = (False)"]),
        ("name = 'twelve'", []),
        ("def f(x: Literal[1]) -> Literal[2]: ...", []),
        ("name = f'{a + 1}'", []),
        ("inside = 1 < x < 3", ["inside = (2) < x < 3", "inside = 1 < x < (4)"]),
        ("ä = 'é' in x", ["ä = ('é' not in x)"]),
    ],
)
def test_operators_and_constants_are_changed(before: str, after: list[str], tmp_path: Path) -> None:
    path = tmp_path / "some.py"
    path.write_text(before)
    assert [mutant.text(path.read_bytes()).decode() for mutant in mutants(path)] == after


def test_every_change_of_the_package_can_be_compiled() -> None:
    path = PACKAGE / "drift" / "decision.py"
    source = path.read_bytes()
    found = [mutant.text(source) for mutant in mutants(path)]
    assert len(found) > 20
    for text in found:
        compile(text, path, "exec")


def test_a_file_has_tests_of_its_subject() -> None:
    assert places_of_tests(PACKAGE / "drift" / "decision.py") == [ROOT / "tests" / "drift"]
    assert places_of_tests(PACKAGE / "partition.py") == [ROOT / "tests" / "test_partition.py"]
    assert places_of_tests(PACKAGE / "orchestration.py") == []
