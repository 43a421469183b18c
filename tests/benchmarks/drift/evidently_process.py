"""The part of the Evidently contestant that runs in its own virtual environment; see contenders for what it reads."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.legacy.calculations.stattests import get_stattest
from evidently.legacy.core import ColumnType
from evidently.presets import DataDriftPreset


def frame(values: np.ndarray, categories: list[bool]) -> pd.DataFrame:
    """Columns named by number; categories as text."""
    return pd.DataFrame({
        f"c{place}": pd.Series(values[:, place]).map(lambda x: None if np.isnan(x) else f"level {int(x):02d}")
        if is_category
        else values[:, place]
        for place, is_category in enumerate(categories)
    })


def definition(categories: list[bool]) -> DataDefinition:
    """Which columns are numbers and which are categories."""
    names = [[f"c{place}" for place, each in enumerate(categories) if each is wanted] for wanted in (False, True)]
    return DataDefinition(numerical_columns=names[0], categorical_columns=names[1])


def report(reference: Dataset, current: pd.DataFrame, categories: list[bool]) -> tuple[list[float], list[bool]]:
    """The preset's report at its defaults: each column's distance, and whether it is called drift."""
    found = Report([DataDriftPreset()]).run(
        Dataset.from_pandas(current, data_definition=definition(categories)), reference
    )
    values, alarms = {}, {}
    for metric in found.dict()["metrics"]:
        config = metric["config"]
        if "column" in config:
            values[config["column"]] = float(metric["value"])
            is_distance = "distance" in config["method"]
            alarms[config["column"]] = (metric["value"] >= config["threshold"]) == is_distance
    names = [f"c{place}" for place in range(len(categories))]
    return [values[name] for name in names], [bool(alarms[name]) for name in names]


def test(reference: pd.DataFrame, current: pd.DataFrame, categories: list[bool]) -> tuple[list[float], list[bool]]:
    """The same by asking the package for each column's default test, which costs a tenth."""
    values, alarms = [], []
    for name, is_category in zip(reference, categories, strict=True):
        kind = ColumnType.Categorical if is_category else ColumnType.Numerical
        before, now = reference[name].dropna(), current[name].dropna()
        found = get_stattest(before, now, kind, None)(before, now, kind, None)
        values.append(float(found.drift_score))
        alarms.append(bool(found.drifted))
    return values, alarms


def judge(reference: pd.DataFrame, hours: np.ndarray, categories: list[bool], report_hours: int) -> dict[str, object]:
    """Each hour of a set; the first hours by the report too, which has to say the same."""
    start = time.perf_counter()
    found = [test(reference, frame(hour, categories), categories) for hour in hours]
    seconds = time.perf_counter() - start
    whole = Dataset.from_pandas(reference, data_definition=definition(categories))
    for place, hour in enumerate(hours[:report_hours]):
        values, alarms = report(whole, frame(hour, categories), categories)
        if alarms != found[place][1] or not np.allclose(values, found[place][0]):
            raise RuntimeError(f"Hour {place}: the report says {values}, the tests say {found[place][0]}")
    return {"statistic": [row[0] for row in found], "alarm": [row[1] for row in found], "seconds": seconds}


def cost(folder: Path, repeats: int) -> list[float]:
    """Seconds of each report of current.npy against reference.npy, frames being there already."""
    given = np.load(folder / "reference.npy"), np.load(folder / "current.npy")
    categories = [False] * given[0].shape[1]
    reference, current = (
        Dataset.from_pandas(frame(values, categories), data_definition=definition(categories)) for values in given
    )
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        Report([DataDriftPreset()]).run(current, reference).dict()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]  # the first one also imports


def main() -> None:
    """Does what the folder's job.json says; the last line printed is JSON."""
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text())
    if "repeats" in job:
        print(json.dumps(cost(folder, job["repeats"])))
        return
    reference = frame(np.load(folder / "reference.npy"), job["categories"])
    sets = (np.load(folder / f"set{place}.npy", mmap_mode="r") for place in range(job["sets"]))
    print(json.dumps([judge(reference, hours, job["categories"], job["report_hours"]) for hours in sets]))


if __name__ == "__main__":
    main()
