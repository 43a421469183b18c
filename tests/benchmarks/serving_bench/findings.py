"""What is measured, in the words of the report. Times are seconds unless a name says otherwise."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CALLS, COROUTINES = "calls", "coroutines"


@dataclass(frozen=True)
class Sizes:
    """How much is read, written and tracked.

    Attributes:
        users: in the smaller of two populations; the other has twice as many.
        reads: timed reads in each round, by the number of entities in one read.
        together: reads in each round from which reads per second follow.
        warm_up: reads before those of each block, which do not count.
        rounds: in each of which every contestant has a block of every kind.
        pushes: of each population.
        requests: tracked ones in each round.
        pace: of them in a second.
    """

    users: int
    reads: dict[int, int]
    together: int
    warm_up: int
    rounds: int
    pushes: int
    requests: int
    pace: int


@dataclass(frozen=True)
class Latency:
    """Of reads, one after the other, of one contestant.

    Attributes:
        how: calls, or coroutines that are awaited.
        entities: in one read.
        reads: in each round.
        p50, p99: of each round.
    """

    name: str
    store: str
    users: int
    how: str
    entities: int
    reads: int
    p50: Sequence[float]
    p99: Sequence[float]

    @property
    def median_p50(self) -> float:
        """Over the rounds."""
        return statistics.median(self.p50)

    @property
    def median_p99(self) -> float:
        """Over the rounds."""
        return statistics.median(self.p99)


@dataclass(frozen=True)
class Throughput:
    """Reads of one entity each that a contestant makes in a second.

    Attributes:
        at_once: threads or coroutines.
        per_second: of each round.
    """

    name: str
    store: str
    how: str
    at_once: int
    per_second: Sequence[float]

    @property
    def median(self) -> float:
        """Over the rounds."""
        return statistics.median(self.per_second)


@dataclass(frozen=True)
class Push:
    """How long it takes to fill a store.

    Attributes:
        seconds: of each time.
    """

    name: str
    store: str
    rows: int
    seconds: Sequence[float]

    @property
    def median(self) -> float:
        """Of the times."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Overhead:
    """What tracking adds to a request, in microseconds.

    Attributes:
        sampled: whether the requests are logged.
        paced: whether they come at a pace; back to back otherwise.
        p50, p99: of each round: that of tracked requests less that of requests with a tracker that does nothing.
    """

    sampled: bool
    paced: bool
    requests: int
    p50: Sequence[float]
    p99: Sequence[float]

    @property
    def median_p50(self) -> float:
        """Over the rounds."""
        return statistics.median(self.p50)

    @property
    def median_p99(self) -> float:
        """Over the rounds."""
        return statistics.median(self.p99)


@dataclass(frozen=True)
class Logged:
    """What became of the sampled requests: the tracker's counts, and the rows that are in the warehouse."""

    sampled: int
    written: int
    dropped: int
    rejected: int
    in_the_log: int


@dataclass(frozen=True)
class Scored:
    """A snapshot that was scored.

    Attributes:
        rows: of the snapshot.
        scored: of them, those of the model's population.
        logged: of those, the ones that are in the inference log.
        seconds: from the first read to the commit.
        peak_before, peak_after: the process' greatest resident set in bytes, before and after.
    """

    rows: int
    scored: int
    logged: int
    seconds: float
    peak_before: int
    peak_after: int


@dataclass(frozen=True)
class Findings:
    """Everything of a run.

    Attributes:
        compared: entities whose values were found equal everywhere.
    """

    latencies: Sequence[Latency] = ()
    throughputs: Sequence[Throughput] = ()
    pushes: Sequence[Push] = ()
    overheads: Sequence[Overhead] = ()
    logged: Logged | None = None
    scored: Sequence[Scored] = ()
    compared: int = 0
