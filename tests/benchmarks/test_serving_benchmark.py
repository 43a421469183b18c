"""The serving benchmark's own promises: answers that are compared, blocks that are fair, a page that adds up."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.contest import Bench
from tests.benchmarks.contest import Sizes as NoSizes
from tests.benchmarks.serving_bench import child, contestants, reads, report, run
from tests.benchmarks.serving_bench.contestants import POSTGRES, REDIS, SKEWLESS, Contestant
from tests.benchmarks.serving_bench.findings import CALLS, COROUTINES, Findings, Latency, Sizes

pytestmark = pytest.mark.benchmarks

SIZES = Sizes(
    users=60, reads={1: 8, 10: 2}, together=16, warm_up=2, rounds=2, pushes=2, requests=40, pace=4_000
)  # fmt: skip
OTHER = "Stand-in"


@pytest.fixture(scope="module")
def bench(server: None, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A place to work in."""
    return Bench(tmp_path_factory.mktemp("bench"), NoSizes(0, 0, 0, 0, 0, 0), repeats=2, threads=1, server_pid=0)


@pytest.fixture(scope="module")
def found(bench: Bench, redis_server: str) -> Findings:
    """What a tiny run finds, in which we stand in for the peer."""
    peers = [partial(contestants.skewless, name=OTHER)]
    *_, last = run.measured(bench, SIZES, redis_server, peers, run.PARTS)
    return last


def test_every_kind_of_read_is_measured_for_everybody(found: Findings) -> None:
    measured = {(each.name, each.store, each.users, each.how, each.entities) for each in found.latencies}
    kinds = [(CALLS, 1), (CALLS, 10), (COROUTINES, 1)]
    both = {
        (name, store, 60, *kind) for name in (SKEWLESS, OTHER) for store in (REDIS, POSTGRES) for kind in kinds
    }  # fmt: skip
    assert measured == both | {(SKEWLESS, store, 120, CALLS, 1) for store in (REDIS, POSTGRES)}
    for each in found.latencies:
        assert len(each.p50) == len(each.p99) == SIZES.rounds
        assert all(0 < middle <= high for middle, high in zip(each.p50, each.p99, strict=True))
    assert len(found.throughputs) == 2 * 2 * len(reads.AT_ONCE)
    assert all(rate > 0 for each in found.throughputs for rate in each.per_second)


def test_stores_are_filled_and_compared(found: Findings) -> None:
    pushed = [(each.name, each.store, each.rows, len(each.seconds)) for each in found.pushes]
    assert pushed == [(SKEWLESS, REDIS, 60, 2), (OTHER, REDIS, 60, 2), (SKEWLESS, REDIS, 120, 2)]
    assert found.compared == 60


def test_every_sampled_request_is_in_the_log(found: Findings) -> None:
    assert [(each.sampled, each.paced) for each in found.overheads] == [
        (False, True), (True, True), (False, False), (True, False),
    ]  # fmt: skip
    assert found.logged is not None
    # Those for warming up, too, at the pace and back to back.
    assert found.logged.sampled == 2 * (SIZES.requests // 10 + SIZES.rounds * SIZES.requests)
    assert found.logged.sampled == found.logged.written == found.logged.in_the_log
    assert (found.logged.dropped, found.logged.rejected) == (0, 0)


def test_snapshots_are_scored(found: Findings) -> None:
    assert [each.rows for each in found.scored] == [60, 120]
    for each in found.scored:
        assert 0 < each.logged < each.scored < each.rows
        assert each.peak_after >= each.peak_before > 0


def test_the_page_shows_what_was_found(found: Findings, tmp_path: Path) -> None:
    page = report.write(found, {"date": "today", "machine": "this one"}, tmp_path).read_text()
    assert json.loads((tmp_path / "bench_serving.json").read_text())["compared"] == 60
    assert (tmp_path / "bench_serving.svg").stat().st_size > 10_000
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Reads, one after the other",
        "## Reads per second",
        "## Filling the stores",
        "## Twice the users",
        "## What tracking adds to a request",
        "## Scoring a snapshot",
    ]
    assert f"| entities in a read | reads in a round | {SKEWLESS} p50 | {OTHER} p50 | {OTHER} / {SKEWLESS} |" in page
    assert page.count("| 1, coroutines |") == 2


def test_a_part_alone_has_a_page(found: Findings, tmp_path: Path) -> None:
    page = report.write(Findings(scored=found.scored), {}, tmp_path).read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")] == ["## Scoring a snapshot"]
    assert not (tmp_path / "bench_serving.svg").exists()


def latency(name: str, users: int = 100, **changes: Any) -> Latency:
    made = Latency(name, REDIS, users, CALLS, 1, 50, p50=(0.001, 0.003, 0.002), p99=(0.01, 0.01, 0.04))
    return replace(made, **changes)


def test_ratios_are_of_medians_over_the_rounds() -> None:
    slower = latency("Feast", p50=(0.004, 0.006, 0.005), p99=(0.005, 0.005, 0.9))
    among_more = latency(SKEWLESS, users=200)
    table = report._latency_table([latency(SKEWLESS), slower, among_more], REDIS)
    assert table == [
        [
            "entities in a read", "reads in a round", "Skewless p50", "Feast p50", "Feast / Skewless",
            "Skewless p99", "Feast p99", "Feast / Skewless",
        ],
        ["1", "50", "2 ms", "5 ms", "2.50", "10 ms", "5 ms", "0.50"],
    ]  # fmt: skip


def test_growth_is_shown_beside_twice_the_users() -> None:
    page = list(report.markdown(Findings(latencies=[latency(SKEWLESS), latency(SKEWLESS, 200, p50=(0.003,))]), {}))
    assert "| p50 of a read, Redis | 100 | 2 ms | 200 | 3 ms | 1.50 |" in page


class Asked:
    """In place of a process: it writes down who is asked what, and answers."""

    def __init__(self, name: str, asked: list[tuple[str, Any]], values: Sequence[Sequence[float]] = ()) -> None:
        self.name, self.store, self.users = name, REDIS, 50
        self._asked, self._values = asked, values

    def ask(self, command: str, **arguments: Any) -> Any:
        self._asked.append((self.name, arguments))
        if command == "values":
            return self._values
        return [1e6] * 5


def test_all_read_the_same_ids_and_take_turns_at_going_first() -> None:
    asked: list[tuple[str, Any]] = []
    both: list[Any] = [Asked("a", asked), Asked("b", asked)]
    kind = reads.Kind(50, both, entities=10, reads=5, measure=reads._quantiles("times", 2))
    assert reads.measured(kind, SIZES) == [[(0.001, 0.001)] * 2] * 2
    assert [name for name, _ in asked] == ["a", "b", "b", "a"]
    first, second, third, fourth = (arguments["reads"] for _, arguments in asked)
    assert first == second != third == fourth
    assert [len(ids) for ids in first] == [len(set(ids)) for ids in first] == [10] * 7


def test_a_different_value_is_found() -> None:
    ours, other = Asked("ours", [], [[1, 0.1], [2, 0.2]]), Asked("other", [], [[1, 0.1], [2, 0.30000000000000004]])
    both: list[Any] = [ours, other]
    assert reads.require_equal([both[0], both[0]], 2) == 2
    with pytest.raises(reads.AnswersDiffer, match=r"other on redis \[2, 0.30000000000000004\]"):
        reads.require_equal(both, 2)


class Forgetful:
    """A reader that does not find everybody."""

    def read(self, ids: Sequence[str]) -> Sequence[str]:
        return ids[:1]

    def count(self, answer: Sequence[str]) -> int:
        return len(answer)


def test_a_read_that_finds_too_little_has_no_time() -> None:
    reader: Any = Forgetful()
    loop: Any = None
    assert len(child.Child(reader, loop).times([["u1"], ["u2"], ["u3"]], warm_up=1)) == 2
    with pytest.raises(child.WrongAnswer, match="1 of 2 entities"):
        child.Child(reader, loop).times([["u1"], ["u1", "u2"]], warm_up=0)


@pytest.fixture
def failing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Contestant]:
    """A process that fails as soon as it starts, having nobody to read."""
    import os
    import sys

    population: Any = type("Population", (), {"users": 0})
    command = [sys.executable, "-c", "raise SystemExit('there is no store')"]
    with contestants._running(bench, "nobody", REDIS, population, command, dict(os.environ)) as contestant:
        yield contestant


def test_a_process_that_fails_says_why(failing: Contestant) -> None:
    with pytest.raises(contestants.ReaderFailed, match="nobody on redis ended at `push`:\nthere is no store"):
        failing.ask("push")
