"""Looking at processes of others, each of which may end at any moment."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

import psutil

Answer = TypeVar("Answer")


def family(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it; none of those that have ended meanwhile."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def children(pid: int) -> list[psutil.Process]:
    """What a process has started; none when it has ended."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children()
    return []


def each(processes: list[psutil.Process], ask: Callable[[psutil.Process], Answer]) -> Iterator[Answer]:
    """What processes answer, less those that have ended."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            yield ask(process)
