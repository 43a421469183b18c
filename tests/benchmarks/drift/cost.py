"""What one look at ten columns costs: seconds, memory, and the bytes that leave the warehouse.

Everybody compares the same rows with the same reference of 20,000, which is read and prepared before the clock starts
wherever the package allows it. Ours is timed twice: on arrays, and as SQL that counts in PostgreSQL.
"""

import io
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from psycopg import sql

from features import warehouse
from features.drift import counting
from features.drift.profile import Baseline, Profile
from features.drift.report import Subject, compare
from features.drift.sketch import Floats, Grid, Kind, Sketch
from features.drift.sources import Column, Source
from tests.benchmarks import measure, peer_venv
from tests.benchmarks.drift import contenders, ours, settings
from tests.benchmarks.drift.duel import EVIDENTLY, NANNYML, OURS

COLUMNS = 10
HOUR = datetime(2024, 1, 1, tzinfo=UTC)
IN_ARRAYS, IN_SQL = f"{OURS}, arrays", f"{OURS}, PostgreSQL"
READING = "reading the rows"
RELATION = "bench.drift_values"
BYTES_OF_A_VALUE = 8
# What count() fetches for a cell: segment, instant, cell, count, sum, squares.
BYTES_OF_A_CELL = 6 * 8


@dataclass
class Cost:
    """What one contender needs for one look.

    Attributes:
        rows: of each of ten columns.
        seconds: of each repeat.
        peak_bytes: of its process, imports and data included; of PostgreSQL's processes where they do the work.
        moved_bytes: out of the warehouse, as binary; a text protocol moves more.
    """

    contender: str
    rows: int
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    moved_bytes: int = 0

    @property
    def per_million(self) -> float:
        """Median seconds for a million values."""
        return measure.median(self.seconds) / (self.rows * COLUMNS) * 1e6


def values(rows: int, seed: int) -> Floats:
    """Ten columns: half of them normal, half with heavy tails."""
    found = np.random.default_rng([settings.SEED, 5, seed]).standard_normal((rows, COLUMNS))
    found[:, ::2] = np.exp(found[:, ::2])
    return found


def compared(rows: int, repeats: int, run_dir: Path, server: int, say: Callable[[str], None]) -> list[Cost]:
    """Everybody in turn, as often as wanted, so that a slow minute of the machine hits all of them."""
    place = contenders.bench(run_dir)
    folder = place.folder(f"drift_cost_{rows}")
    np.save(folder / "reference.npy", values(settings.REFERENCE_ROWS, 1))
    np.save(folder / "current.npy", values(rows, 2))
    (folder / "job.json").write_text(json.dumps({"repeats": 1}))
    processes = {
        IN_ARRAYS: ("ours", Path(sys.executable)),
        EVIDENTLY: ("evidently", peer_venv.ensure(place, "evidently", contenders.EVIDENTLY)),
        NANNYML: ("nannyml", peer_venv.ensure(place, "nannyml", contenders.NANNYML)),
    }
    costs = {name: Cost(name, rows, moved_bytes=rows * COLUMNS * BYTES_OF_A_VALUE) for name in processes}
    costs |= {name: Cost(name, rows) for name in (IN_SQL, READING)}
    load(values(rows, 2))
    for repeat in range(repeats):
        for name, (program, python) in processes.items():
            _process(costs[name], program, python, folder)
        _in_sql(costs[IN_SQL], values(settings.REFERENCE_ROWS, 1), server)
        _reading(costs[READING])
        say(f"cost of {rows:,} rows: repeat {repeat + 1} of {repeats}")
    return list(costs.values())


def _process(cost: Cost, program: str, python: Path, folder: Path) -> None:
    env = peer_venv.environment() | contenders.QUIET
    if program == "ours":
        env |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path) or "."}
    command = [str(python), "-W", "ignore", str(contenders.HERE / f"{program}_process.py"), str(folder)]
    printed, used = measure.process(command, env=env)
    cost.seconds += json.loads(printed.splitlines()[-1])
    cost.peak_bytes = max(cost.peak_bytes, *used.peak_bytes)


def load(current: Floats) -> None:
    """Puts the rows into a table, all of one hour, each of an entity of its own."""
    names = ", ".join(f"c{place} double precision" for place in range(COLUMNS))
    with warehouse.connect() as connection:
        connection.execute("create schema if not exists bench")
        connection.execute(f"drop table if exists {RELATION}")
        connection.execute(f"create unlogged table {RELATION} (_at timestamptz, _key text, {names})")
        with connection.cursor() as cursor, cursor.copy(f"copy {RELATION} from stdin") as copy:
            for number, row in enumerate(current.tolist()):
                copy.write_row((HOUR, str(number), *row))
        connection.execute(f"analyze {RELATION}")
        connection.commit()


def _rows(hours: Sequence[datetime]) -> sql.Composed:
    """The source's rows of some hours, as the monitor reads its own."""
    query = sql.SQL("select * from {} where _at = any({}::timestamptz[])")
    return query.format(sql.Identifier(*RELATION.split(".")), sql.Literal(list(hours)))


def _in_sql(cost: Cost, reference: Floats, server: int) -> None:
    """Counting in PostgreSQL and comparing the counts, all columns, with its memory."""
    source = Source("bench", "", _rows, {})
    baselines = [_baseline(reference[:, place]) for place in range(COLUMNS)]
    moved = 0

    def look() -> None:
        nonlocal moved
        moved = 0
        with warehouse.connect() as connection:
            for place, baseline in enumerate(baselines):
                column = Column(f"c{place}", sql.Identifier(f"c{place}"), Kind.NUMERIC)
                found = counting.count(connection, source, column, baseline.grid, [HOUR])
                moved += sum(_cells(sketch) for sketch in found.values()) * BYTES_OF_A_CELL
                _compare(next(iter(found.values())), baseline)

    (run,) = measure.repeat(look, 1, roots=[server])
    cost.seconds.append(run.seconds)
    cost.peak_bytes, cost.moved_bytes = max(cost.peak_bytes, *run.peak_bytes), moved


def _reading(cost: Cost) -> None:
    """Out of PostgreSQL into a frame, as whoever compares arrays has to do first."""
    names = ", ".join(f"c{place}" for place in range(COLUMNS))
    start = time.perf_counter()
    query = f"copy (select {names} from {RELATION}) to stdout with (format csv)"
    with warehouse.connect() as connection, connection.cursor() as cursor, cursor.copy(query) as copy:
        text = b"".join(bytes(part) for part in copy)
    pd.read_csv(io.BytesIO(text), header=None)
    cost.seconds.append(time.perf_counter() - start)
    cost.moved_bytes = len(text)


def _cells(sketch: Sketch) -> int:
    return int(np.count_nonzero(sketch.counts))


def _baseline(reference: Floats) -> Baseline:
    grid = Grid.of(reference)
    return Baseline(grid, Sketch.of(reference, grid), len(reference))


def _compare(sketch: Sketch, baseline: Baseline) -> None:
    expected = baseline.expected([(HOUR, sketch.given)])
    report = compare(Subject("column", HOUR), Profile.of(sketch), baseline, expected, ours.DEFAULTS, ours.BUDGET.alpha)
    assert not report.drift_detected, report.detail
