"""The monitor on arrays in a process of its own, so that its time and memory are measured as the packages' are."""

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from features.drift import FeatureDriftMonitor


def main() -> None:
    """Prints the seconds of each check of the folder's current.npy against its reference.npy as JSON."""
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text())
    reference, current = np.load(folder / "reference.npy"), np.load(folder / "current.npy")
    names = [f"c{place}" for place in range(reference.shape[1])]
    monitor = FeatureDriftMonitor({name: reference[:, place] for place, name in enumerate(names)})
    values = {name: np.ascontiguousarray(current[:, place]) for place, name in enumerate(names)}
    seconds = []
    for _ in range(job["repeats"] + 1):
        start = time.perf_counter()
        monitor.check_all(values, datetime(2024, 1, 1, tzinfo=UTC))
        seconds.append(time.perf_counter() - start)
    print(json.dumps(seconds[1:]))


if __name__ == "__main__":
    main()
