"""The part of the NannyML contestant that runs in its own virtual environment; see contenders for what it reads."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from nannyml import UnivariateDriftCalculator

START = "2024-01-01"
LATER = "2024-06-03"


def frame(hours: np.ndarray, categories: list[bool], start: str) -> pd.DataFrame:
    """All rows of some hours, each with its hour; categories as text."""
    columns = {}
    for place, is_category in enumerate(categories):
        values = hours[:, :, place].ravel()
        columns[f"c{place}"] = texts(values) if is_category else values
    at = pd.date_range(start, periods=len(hours), freq="h")
    return pd.DataFrame(columns | {"at": np.repeat(at, hours.shape[1])})


def texts(values: np.ndarray) -> pd.Series:
    """Category numbers as names, None where missing."""
    names = np.array([*(f"level {number:02d}" for number in range(64)), None], dtype=object)
    return pd.Series(names[np.where(np.isnan(values), 64, values).astype(int)])


def judge(calculator: Any, hours: np.ndarray, categories: list[bool]) -> dict[str, object]:
    """Each hour of a set as a chunk, at the package's defaults."""
    current = frame(hours, categories, LATER)
    start = time.perf_counter()
    found = calculator.calculate(current).filter(period="analysis").to_df()
    seconds = time.perf_counter() - start
    names = [f"c{place}" for place in range(len(categories))]
    values = np.column_stack([found[name, "jensen_shannon", "value"].astype(float) for name in names])
    alarms = np.column_stack([found[name, "jensen_shannon", "alert"].astype(bool) for name in names])
    return {"statistic": values.tolist(), "alarm": alarms.tolist(), "seconds": seconds}


def fitted(reference: np.ndarray, categories: list[bool]) -> Any:
    """The calculator with its reference of [hours, rows, columns]."""
    calculator = UnivariateDriftCalculator(
        column_names=[f"c{place}" for place in range(len(categories))], timestamp_column_name="at", chunk_period="h"
    )
    return calculator.fit(frame(reference, categories, START))


def cost(folder: Path, repeats: int) -> list[float]:
    """Seconds of each calculation on current.npy as one chunk, the calculator being fitted and the frame there."""
    reference, current = np.load(folder / "reference.npy"), np.load(folder / "current.npy")
    categories = [False] * reference.shape[1]
    hours = reference[: len(reference) // 100 * 100].reshape(100, -1, reference.shape[1])
    calculator, rows = fitted(hours, categories), frame(current[np.newaxis], categories, LATER)
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        calculator.calculate(rows)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def main() -> None:
    """Does what the folder's job.json says; the last line printed is JSON."""
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text())
    if "repeats" in job:
        print(json.dumps(cost(folder, job["repeats"])))
        return
    calculator = fitted(np.load(folder / "reference.npy"), job["categories"])
    sets = (np.load(folder / f"set{place}.npy", mmap_mode="r") for place in range(job["sets"]))
    print(json.dumps([judge(calculator, hours, job["categories"]) for hours in sets]))


if __name__ == "__main__":
    main()
