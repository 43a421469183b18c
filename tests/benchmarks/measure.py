"""Wall time and peak memory.

Memory is the proportional set size (Pss) of a process tree: a page that n processes map counts 1/n in each, so the
sum over a tree is what the tree occupies. Resident set size (RSS) would count PostgreSQL's shared buffers once for
every backend that touched them, and RSS minus shared would leave them out. Where the system has no Pss (it is Linux's),
RSS stands in and a server's number is too high. The system's page cache counts nowhere.

A sampler can miss a peak that is shorter than its interval.
"""

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

import psutil

INTERVAL_SECONDS = 0.1


@dataclass(frozen=True)
class Run:
    """One measured run: wall seconds, and the most bytes that the watched trees held, one number per tree."""

    seconds: float
    peak_bytes: tuple[int, ...]


class PeakMemory:
    """Samples process trees in a thread for as long as its block runs."""

    def __init__(self, roots: Iterable[int]) -> None:
        """Watches the processes with these ids and all that descend from them."""
        self.roots = tuple(roots)
        self.peaks = [0] * len(self.roots)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            for place, root in enumerate(self.roots):
                self.peaks[place] = max(self.peaks[place], tree_bytes(root))
            if self._done.wait(INTERVAL_SECONDS):
                return


def tree_bytes(root: int) -> int:
    """What the process and its descendants occupy now; 0 when it is gone."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(root)
        for member in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += _process_bytes(member)
    return total


def _process_bytes(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    return int(getattr(full, "pss", full.rss))


def repeat(work: Callable[[], object], repeats: int, *, roots: Sequence[int]) -> list[Run]:
    """Runs `work` so many times, watching the trees under `roots`."""
    runs = []
    for _ in range(repeats):
        with PeakMemory(roots) as memory:
            start = time.perf_counter()
            work()
            seconds = time.perf_counter() - start
        runs.append(Run(seconds, tuple(memory.peaks)))
    return runs


def process(command: Sequence[str], *, also: Sequence[int] = (), env: dict[str, str] | None = None) -> tuple[str, Run]:
    """Runs a command to its end, watching its tree first and then those under `also`.

    Returns:
        what it printed, and the run.

    Raises:
        RuntimeError: with the last of what it wrote to standard error, when it fails.
    """
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as child:
        with PeakMemory([child.pid, *also]) as memory:
            printed, complaints = child.communicate()
        seconds = time.perf_counter() - start
    if child.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:3])} ended with {child.returncode}:\n{complaints[-4000:]}")
    sys.stderr.write(complaints)
    return printed, Run(seconds, tuple(memory.peaks))


def median(seconds: Iterable[float]) -> float:
    """The middle of the repeats."""
    return statistics.median(seconds)


def duration(seconds: float) -> str:
    """Seconds for a reader: three digits that count, hours when they are many."""
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:,.1f} h"
    if seconds >= 100:
        return f"{seconds:,.0f} s"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def size(number: int | None) -> str:
    """Bytes for a reader."""
    return "" if number is None else f"{number / 2**20:,.0f} MiB"
