"""Rounds of reads: in each, every contestant has a block of every kind, with the same ids in the same order.

The contestants take turns at going first, so that whatever else the machine does meets all of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tests.benchmarks.serving_bench.contestants import FEAST, STORES, Contestant
from tests.benchmarks.serving_bench.findings import CALLS, COROUTINES, Latency, Push, Sizes, Throughput
from tests.benchmarks.serving_bench.population import user_id

AT_ONCE = ((CALLS, 1), (CALLS, 8), (COROUTINES, 16))
NANOSECONDS = 1e9
Reads = list[list[str]]


class AnswersDiffer(Exception):
    """Two contestants gave different values for an entity."""


@dataclass(frozen=True)
class Kind:
    """Blocks that are compared with each other.

    Attributes:
        users: whose ids are drawn.
        measure: one block of a contestant.
    """

    users: int
    contestants: Sequence[Contestant]
    entities: int
    reads: int
    measure: Callable[[Contestant, Reads], tuple[float, ...]]


def push(contestants: Sequence[Contestant], times: int) -> list[Push]:
    """Has the stores filled, as often as told; by Feast once, which the next time would find its rows there."""
    found = []
    for each in contestants:
        runs = [each.ask("push") for _ in range(1 if each.name == FEAST else times)]
        if runs[-1]["rows"]:
            found.append(Push(each.name, each.store, runs[-1]["rows"], [run["seconds"] for run in runs]))
    return found


def require_equal(contestants: Sequence[Contestant], sample: int) -> int:
    """Compares the values of a sample of entities, exactly. Returns how many were compared.

    Raises:
        AnswersDiffer: naming the contestants and the entity.
    """
    first, *others = contestants
    ids = [user_id(number) for number in np.random.default_rng(1).permutation(first.users)[:sample]]
    right = first.ask("values", ids=ids)
    for other in others:
        for each, expected, found in zip(ids, right, other.ask("values", ids=ids), strict=True):
            if found != expected:
                raise AnswersDiffer(
                    f"Of {each}, {first.name} on {first.store} says {expected}, {other.name} on {other.store} {found}."
                )
    return len(ids)


def latencies(smaller: Sequence[Contestant], larger: Sequence[Contestant], sizes: Sizes) -> list[Latency]:
    """Of each number of entities and of coroutines among the smaller population; of one entity among the larger."""
    wanted = [(smaller, CALLS, entities, reads) for entities, reads in sizes.reads.items()]
    wanted += [(smaller, COROUTINES, 1, sizes.reads[1])]
    found = []
    for store in STORES:
        for contestants, how, entities, reads in wanted:
            there = [each for each in contestants if each.store == store]
            # Growth is a comparison of ours with ours: a block of it belongs to the same rounds.
            if (how, entities) == (CALLS, 1):
                there += [each for each in larger if each.store == store]
            command = "times" if how == CALLS else "times_async"
            kind = Kind(smaller[0].users, there, entities, reads, _quantiles(command, sizes.warm_up))
            rounds = measured(kind, sizes)
            found += [
                Latency(each.name, store, each.users, how, entities, reads, *zip(*blocks, strict=True))
                for each, blocks in zip(there, rounds, strict=True)
            ]
    return found


def throughputs(contestants: Sequence[Contestant], sizes: Sizes) -> list[Throughput]:
    """Of one thread, several threads and several coroutines."""
    found = []
    for store in STORES:
        there = [each for each in contestants if each.store == store]
        for how, at_once in AT_ONCE:
            kind = Kind(there[0].users, there, 1, sizes.together, _per_second(how, at_once, sizes.warm_up))
            found += [
                Throughput(each.name, store, how, at_once, [rate for (rate,) in blocks])
                for each, blocks in zip(there, measured(kind, sizes), strict=True)
            ]
    return found


def measured(kind: Kind, sizes: Sizes) -> list[list[tuple[float, ...]]]:
    """What `measure` gave for each contestant in each round."""
    found: list[list[tuple[float, ...]]] = [[] for _ in kind.contestants]
    for reads, order in zip(_drawn(kind, sizes), _orders(len(kind.contestants)), strict=False):
        for place in order:
            found[place].append(kind.measure(kind.contestants[place], reads))
    return found


def _orders(number: int) -> Iterator[list[int]]:
    """There and back again, without end."""
    while True:
        yield list(range(number))
        yield list(reversed(range(number)))


def _drawn(kind: Kind, sizes: Sizes) -> Iterator[Reads]:
    """Ids of each round, the reads for warming up before the others; without an id twice in one read."""
    rng = np.random.default_rng(7)
    entities = min(kind.entities, kind.users)
    for _ in range(sizes.rounds):
        yield [
            [user_id(number) for number in rng.choice(kind.users, entities, replace=False, shuffle=False)]
            for _ in range(sizes.warm_up + kind.reads)
        ]


def _quantiles(command: str, warm_up: int) -> Callable[[Contestant, Reads], tuple[float, ...]]:
    def measure(contestant: Contestant, reads: Reads) -> tuple[float, ...]:
        times = np.asarray(contestant.ask(command, reads=reads, warm_up=warm_up)) / NANOSECONDS
        return tuple(float(value) for value in np.percentile(times, (50, 99)))

    return measure


def _per_second(how: str, at_once: int, warm_up: int) -> Callable[[Contestant, Reads], tuple[float, ...]]:
    def measure(contestant: Contestant, reads: Reads) -> tuple[float, ...]:
        command = "threads" if how == CALLS else "coroutines"
        seconds = contestant.ask(command, reads=reads, warm_up=warm_up, number=at_once)
        return ((len(reads) - warm_up) / seconds,)

    return measure
