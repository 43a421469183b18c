"""The loop of a process that reads features. It needs Python alone, so that it runs in a peer's environment too.

Commands come as lines of JSON on standard input, and each gets a line of JSON as its answer. Whatever else the process
prints goes to standard error. It ends when its input does.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

Ids = Sequence[str]


class Reader(Protocol):
    """One contestant on one store. What `read` does is what is timed."""

    def empty(self) -> None:
        """Takes away what an earlier push would leave nothing to do for."""

    def push(self) -> int:
        """Fills the store. Returns how many entities were written; none where there is nothing to fill."""

    def read(self, ids: Ids) -> Any:
        """Reads the features of some entities in one call."""

    async def read_async(self, ids: Ids) -> Any:
        """The same by the contestant's other interface."""

    def for_several(self) -> "Reader":
        """The reader as a service has it that makes several reads at once."""

    def values(self, answer: Any) -> list[list[Any]]:
        """The features' values of each entity of an answer, in its order; fails when one is missing."""

    def count(self, answer: Any) -> int:
        """How many entities of an answer were found where they are to come from."""


class WrongAnswer(Exception):
    """A read that found less than it was asked for; its time would not count."""


class Child:
    """What the commands do, by their names."""

    def __init__(self, reader: Reader, loop: asyncio.Runner) -> None:
        self._reader = reader
        self._loop = loop

    def ready(self) -> bool:
        """True, once everything is imported."""
        return True

    def push(self) -> dict[str, float]:
        """Fills the store, and says how long it took."""
        self._reader.empty()
        start = time.perf_counter()
        rows = self._reader.push()
        return {"rows": rows, "seconds": time.perf_counter() - start}

    def values(self, ids: Ids) -> list[list[Any]]:
        """The features of some entities, for a comparison."""
        return self._reader.values(self._reader.read(ids))

    def times(self, reads: Sequence[Ids], warm_up: int) -> list[int]:
        """Nanoseconds of each read, one after the other; those of the first so many are left out."""
        found = []
        for ids in reads:
            start = time.perf_counter_ns()
            answer = self._reader.read(ids)
            found.append(time.perf_counter_ns() - start)
            self._check(answer, ids)
        return found[warm_up:]

    def times_async(self, reads: Sequence[Ids], warm_up: int) -> list[int]:
        """The same by coroutines, each awaited before the next."""
        return self._loop.run(self._times_async(reads))[warm_up:]

    async def _times_async(self, reads: Sequence[Ids]) -> list[int]:
        found = []
        for ids in reads:
            start = time.perf_counter_ns()
            answer = await self._reader.read_async(ids)
            found.append(time.perf_counter_ns() - start)
            self._check(answer, ids)
        return found

    def threads(self, reads: Sequence[Ids], warm_up: int, number: int) -> float:
        """Seconds that so many threads take for all reads but the first ones."""
        reader = self._reader if number == 1 else self._reader.for_several()

        def read_all(reads: Sequence[Ids]) -> None:
            for ids in reads:
                self._check(reader.read(ids), ids)

        shares = [reads[warm_up:][place::number] for place in range(number)]
        with ThreadPoolExecutor(number) as pool:
            list(pool.map(read_all, [reads[:warm_up]] * number))
            start = time.perf_counter()
            list(pool.map(read_all, shares))
            return time.perf_counter() - start

    def coroutines(self, reads: Sequence[Ids], warm_up: int, number: int) -> float:
        """The same of so many coroutines at once."""
        self._loop.run(self._read_together([*reads[:warm_up]] * number, number))
        start = time.perf_counter()
        self._loop.run(self._read_together(reads[warm_up:], number))
        return time.perf_counter() - start

    async def _read_together(self, reads: Sequence[Ids], number: int) -> None:
        reader, left = self._reader.for_several(), iter(reads)

        async def read_what_is_left() -> None:
            for ids in left:
                self._check(await reader.read_async(ids), ids)

        await asyncio.gather(*(read_what_is_left() for _ in range(number)))

    def _check(self, answer: Any, ids: Ids) -> None:
        found = self._reader.count(answer)
        if found != len(ids):
            raise WrongAnswer(f"{found} of {len(ids)} entities were found where they are to come from.")


COMMANDS = ("ready", "push", "values", "times", "times_async", "threads", "coroutines")


def serve(reader: Reader) -> None:
    """Answers commands until there are no more."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers, asyncio.Runner() as loop:
        child = Child(reader, loop)
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for line in sys.stdin:
            command = json.loads(line)
            assert command["do"] in COMMANDS, command["do"]
            answer = getattr(child, command.pop("do"))(**command)
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
