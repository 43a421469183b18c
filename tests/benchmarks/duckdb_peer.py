"""DuckDB at the feature view's join, from its own native table, by two formulations that give the same answer.

Timed: the query and writing its answer into a table of DuckDB's file. Not timed: making the environment, loading,
sorting, writing the Parquet file for the comparison. Memory is of the process that answers: Python, DuckDB, its tables.

Not in it, because it was slower than the range join in trials: lists of each user's events, filtered per spine row.
"""

import json
from pathlib import Path
from typing import Any

from tests.benchmarks import measure, peer_venv
from tests.benchmarks.contest import Bench, Outcome

REQUIREMENTS = ["duckdb==2.0.0"]
NAMES = {"range_join": "DuckDB, range join", "cumulative": "DuckDB, running totals and ASOF joins"}
PROCESS = Path(__file__).with_name("duckdb_process.py")


def run(bench: Bench) -> list[Outcome]:
    """Both formulations over bench.events_csv and bench.spine_csv."""
    python = peer_venv.ensure(bench, "duckdb", REQUIREMENTS)
    database = bench.folder("duckdb") / "bench.duckdb"
    _step(python, "load", database, events=str(bench.events_csv), spine=str(bench.spine_csv))
    versions = peer_venv.versions(python, ("duckdb",))
    return [_outcome(bench, python, database, formulation, versions) for formulation in NAMES]


def _outcome(bench: Bench, python: Path, database: Path, formulation: str, versions: dict[str, str]) -> Outcome:
    printed, used = _step(
        python, "answer", database, formulation=formulation, repeats=bench.repeats, threads=bench.threads
    )
    path = bench.folder("answers") / f"duckdb_{formulation}.parquet"
    _step(python, "export", database, path=str(path))
    return Outcome(
        name=NAMES[formulation],
        seconds=tuple(json.loads(printed)),
        rows=bench.sizes.spine,
        peak_bytes=used.peak_bytes[0],
        answer=path,
        versions=versions,
        note=f"{bench.threads} threads",
    )


def _step(python: Path, step: str, database: Path, **given: Any) -> tuple[str, measure.Run]:
    command = [str(python), str(PROCESS), step, json.dumps({"database": str(database), **given})]
    return measure.process(command, env=peer_venv.environment())
