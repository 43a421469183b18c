"""The words of a contest: its sizes, the place it works in, its tasks, and what each contestant achieved."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

# The five features, in the order of every answer. An answer has user_id and as_of before them.
FEATURES = (
    "session_count",
    "avg_session_duration_minutes",
    "days_since_last_session",
    "sessions_last_7_days",
    "sessions_last_30_days",
)


@dataclass(frozen=True)
class Sizes:
    """Row counts.

    Attributes:
        events: session events over one year, for `entities` users.
        entities: users of the events and of the spine.
        spine: (user_id, as_of) pairs for which features are wanted.
        feature_rows: finished feature rows from which the latest before a label is wanted, in snapshots of all users.
        feature_entities: users of those rows. Feast's cost grows with rows per user, so it is a size of its own.
        labels: (user_id, event_timestamp) pairs that want a feature row.
    """

    events: int
    entities: int
    spine: int
    feature_rows: int
    feature_entities: int
    labels: int


@dataclass(frozen=True)
class Bench:
    """Where and how often the contestants run.

    Attributes:
        run_dir: everything is written below it: the server, the peers' virtual environments, exports, answers.
        sizes: row counts.
        repeats: timed runs of each contestant.
        threads: what a peer may use at most.
        server_pid: the postmaster, whose process tree counts as the server's memory.
    """

    run_dir: Path
    sizes: Sizes
    repeats: int
    threads: int
    server_pid: int

    @property
    def events_csv(self) -> Path:
        """All events, written by data.export."""
        return self.run_dir / "exports" / "events.csv"

    @property
    def spine_csv(self) -> Path:
        """The spine, written by data.export."""
        return self.run_dir / "exports" / "spine.csv"

    def folder(self, name: str) -> Path:
        """A folder below the run folder, made when it is missing."""
        path = self.run_dir / name
        path.mkdir(parents=True, exist_ok=True)
        return path


@dataclass(frozen=True)
class Outcome:
    """What one contestant achieved at one task.

    Attributes:
        name: who, and in which formulation.
        seconds: wall time of each repeat.
        rows: rows of the answer, or the rows for which an extrapolated time holds.
        peak_bytes: the most memory its own processes held at once, all repeats; see measure.
        server_bytes: the same for PostgreSQL where it did the work, else None.
        answer: a Parquet file with user_id, as_of and FEATURES, for the comparison.
        check: what the answer was compared with, and on how many rows.
        versions: distribution name -> version.
        note: what a reader has to know to read the number.
        may_lose: True when the contestant is allowed to miss rows, as with a time to live.
    """

    name: str
    seconds: tuple[float, ...]
    rows: int
    peak_bytes: int | None = None
    server_bytes: int | None = None
    answer: Path | None = None
    check: str = "not compared"
    versions: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    may_lose: bool = False

    def checked(self, what: str) -> "Outcome":
        """This outcome, saying what its answer agreed with."""
        return replace(self, check=what)


# A contestant sets itself up, runs `bench.repeats` times with only the work timed, and gives an outcome for each of
# its formulations.
Contestant = Callable[[Bench], list[Outcome]]


@dataclass(frozen=True)
class Task:
    """Outcomes that may be compared with each other.

    Attributes:
        title: one line for the table and the plot.
        text: what is timed and what is not.
        reference: the name of the outcome that ratios are taken against.
        outcomes: in the order of the table.
    """

    title: str
    text: str
    reference: str
    outcomes: list[Outcome]


@dataclass(frozen=True)
class Table:
    """Measurements of ours that nobody competes in.

    Attributes:
        title: one line.
        text: what is measured and how.
        header: names of the columns.
        rows: texts, as many in each as the header has.
    """

    title: str
    text: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Curve:
    """How time grows with a size.

    Attributes:
        what: of the growing size, and of what was timed.
        sizes: ascending, each usually twice the one before.
        seconds: of each size, its repeats.
    """

    what: str
    sizes: Sequence[int]
    seconds: Sequence[Sequence[float]]

    @property
    def medians(self) -> list[float]:
        """Of each size."""
        return [statistics.median(repeats) for repeats in self.seconds]

    @property
    def exponent(self) -> float:
        """b of seconds = a * size**b through the first and the last size; 1 is proportional."""
        return _exponent(self.sizes[0], self.sizes[-1], self.medians[0], self.medians[-1])

    @property
    def steps(self) -> list[float]:
        """The exponent from each size to the next."""
        found = zip(self.sizes, self.sizes[1:], self.medians, self.medians[1:], strict=False)
        return [_exponent(*step) for step in found]


def _exponent(small: int, large: int, seconds_small: float, seconds_large: float) -> float:
    return math.log(seconds_large / seconds_small) / math.log(large / small)
