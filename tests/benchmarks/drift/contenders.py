"""The article's rule, and the packages in environments of their own, on the same arrays.

A package's program reads a folder: job.json, reference.npy of [rows, columns], and of each set <set>.npy of
[hours, rows, columns], categories as their numbers and missing values as NaN. It prints, by set, the statistic and the
alarm of each hour and column, and how many seconds it took.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from features.drift.sketch import Floats
from tests.benchmarks import measure, peer_venv
from tests.benchmarks.contest import Bench, Sizes
from tests.benchmarks.drift import settings

HERE = Path(__file__).parent
EVIDENTLY = ["evidently==0.7.23", "pandas<3"]  # it does not start with pandas 3
NANNYML = ["nannyml==0.13.1", "statsmodels"]  # which it imports without asking for it
QUIET = {"DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1"}


@dataclass(frozen=True)
class Judged:
    """What a contender said of a set.

    Attributes:
        statistic: of [hours, columns]; NaN where it gave none or was no longer asked.
        alarm: of [hours, columns], at its defaults.
        seconds: it took.
    """

    statistic: Floats
    alarm: np.ndarray
    seconds: float


def bench(run_dir: Path) -> Bench:
    """The place that peers' environments are made in."""
    return Bench(run_dir, Sizes(0, 0, 0, 0, 0, 0), repeats=1, threads=1, server_pid=0)


def article(reference: Floats, sets: Mapping[str, Floats]) -> dict[str, Judged]:
    """KS of each hour against the training sample, p < 0.05 a warning; a NaN makes p a NaN, which is below nothing.

    Categories are compared by their numbers, as the article knows no other way.
    """
    return {name: _article(reference, hours) for name, hours in sets.items()}


def _article(reference: Floats, hours: Floats) -> Judged:
    start = time.perf_counter()
    tests = [
        [stats.ks_2samp(reference[:, column], hour[:, column]) for column in range(hour.shape[1])] for hour in hours
    ]
    statistic = np.array([[test.statistic for test in row] for row in tests])
    alarm = np.array([[test.pvalue < settings.ARTICLE_WARNING for test in row] for row in tests])
    return Judged(statistic, alarm, time.perf_counter() - start)


def package(
    program: str,
    python: Path,
    folder: Path,
    reference: Floats,
    sets: Mapping[str, Floats],
    categories: Sequence[bool],
    report_hours: int = 0,
) -> dict[str, Judged]:
    """What a package says of each set, in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "reference.npy", reference)
    for place, hours in enumerate(sets.values()):
        np.save(folder / f"set{place}.npy", hours)
    job = {"sets": len(sets), "categories": list(categories), "report_hours": report_hours}
    (folder / "job.json").write_text(json.dumps(job))
    printed = run(program, python, folder)
    for file in folder.glob("*.npy"):
        file.unlink()
    found = json.loads(printed.splitlines()[-1])
    return {
        name: Judged(np.array(each["statistic"], dtype=float), np.array(each["alarm"], dtype=bool), each["seconds"])
        for name, each in zip(sets, found, strict=True)
    }


def run(program: str, python: Path, folder: Path) -> str:
    """Runs one of the programs beside this on a folder; what it printed."""
    command = [str(python), "-W", "ignore", str(HERE / f"{program}_process.py"), str(folder)]
    return measure.process(command, env=peer_venv.environment() | QUIET)[0]
