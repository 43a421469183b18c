"""The suites have every test once, and what a run leaves out is said."""

import re
import subprocess
from collections import Counter
from typing import Any

import pytest

from tests import suites, times
from tests.places import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()


class Marked:
    """As much of a test as its suite depends on."""

    def __init__(self, *marks: str, fixtures: tuple[str, ...] = ()) -> None:
        self._marks, self.fixturenames = marks, fixtures

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self._marks else None


FAST = Marked()
SERVED = Marked(fixtures=("server",))
STARTING = Marked("starts")
DRILL = Marked("drills", fixtures=("server",))
SMALL_DRILL = Marked("drills", "short")
EVERY: list[Any] = [FAST, SERVED, STARTING, DRILL, SMALL_DRILL]


@pytest.mark.parametrize(
    ("suite", "chosen"),
    [
        ("fast", [FAST]),
        ("short", [FAST, SERVED, STARTING, SMALL_DRILL]),
        ("drills", [DRILL]),
        ("long", [DRILL]),
        ("pages", []),
    ],
)
def test_a_suite_has_what_belongs_to_it(suite: str, chosen: list[Any]) -> None:
    found, others = suites.select(EVERY, suite)
    assert found == chosen
    assert others.total() == len(EVERY) - len(chosen)


def test_make_test_and_the_long_suites_are_everything() -> None:
    short, _ = suites.select(EVERY, "short")
    long, _ = suites.select(EVERY, "long")
    assert {*short, *long} == set(EVERY)
    assert len(short) + len(long) == len(EVERY)


def test_each_long_suite_has_a_command() -> None:
    (listed,) = re.findall(r"^LONG_SUITES := (.*)$", MAKEFILE, flags=re.MULTILINE)
    assert listed.split() == list(suites.LONG)
    described = re.findall(r"^test-(\w+): ## ", MAKEFILE, flags=re.MULTILINE)
    assert [name for name in described if name != "all"] == list(suites.LONG)


def test_what_is_left_out_is_counted_and_its_command_named() -> None:
    assert suites.what_was_left_out(Counter(drills=2, pages=31)) == (
        "Not in this run: 31 pages, 2 drills. `make test-all` runs them too."
    )
    assert "`make test`" in suites.what_was_left_out(Counter(short=3, drills=2))


@pytest.mark.parametrize("event", sorted(suites.PROCESSES))
def test_a_fast_test_that_starts_a_process_is_told_how_to_be_marked(event: str) -> None:
    with pytest.raises(suites.StartedByFastTest, match=r"@pytest.mark.starts"):
        suites.refuse_processes(event, ("git", ["git", "log"]))
    suites.refuse_processes("open", ("file",))


def test_a_fast_test_starts_no_process() -> None:
    with pytest.raises(suites.StartedByFastTest):
        subprocess.run(["true"], check=True)


@pytest.mark.starts
def test_a_test_that_says_so_starts_one() -> None:
    subprocess.run(["true"], check=True)


def test_a_second_counts_for_the_innermost_phase() -> None:
    phases = times.Phases(iter([0.0, 10.0, 13.0, 20.0]).__next__)
    phases.enter("dbt")
    phases.enter("migrations")
    phases.leave()
    phases.leave()
    assert phases.seconds == {"dbt": 17.0, "migrations": 3.0}


def test_the_table_begins_with_what_takes_longest() -> None:
    whens = dict.fromkeys(times.WHENS, 1.0)
    lines = list(
        times.table({
            "seconds": 60.0,
            "files": {"tests/a.py": whens, "tests/b.py": whens | {"call": 40.0}},
            "phases": {"dbt": 2.0, "migrations": 5.0},
        })
    )
    assert lines[0] == "60 s from start to end; 45 s of all workers together."
    assert [line.split()[-1] for line in lines if "tests/" in line] == ["tests/b.py", "tests/a.py"]
    assert [line.split()[-1] for line in lines[-2:]] == ["migrations", "dbt"]
