"""What the tracker adds to a request, in a process of its own that does nothing else.

A request is `with tracker.track_inference(...)` around `log_prediction`, timed from before the call to after the block.
The same loop with a tracker that does nothing, at the same pace, is taken off: what is left is the tracker's. Its
argument is JSON: requests, rounds, pace, feature_version. It prints JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np

from features import warehouse
from features.serving.tracker import ProductionInferenceTracker
from tests.benchmarks.contest import FEATURES
from tests.benchmarks.serving_bench.findings import Logged, Overhead

MODEL = "bench"
# So rare that none of a few thousand requests is sampled.
RARE = 1e-12
SEEN = dict(zip(FEATURES, (12, 43.25, 3, 2, 9), strict=True))
FLUSH_SECONDS = 60


class Idle:
    """A tracker and an inference that do nothing."""

    def track_inference(self, **_: Any) -> Self:
        """Itself."""
        return self

    def log_prediction(self, probability: float) -> None:
        """Nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def block(tracker: Any, name: str, requests: int, pace: int | None) -> np.ndarray:
    """Nanoseconds of each request.

    Args:
        name: what the request ids begin with.
        pace: requests in a second, at even intervals; None is back to back.
    """
    as_of = datetime.now(UTC)
    times = np.empty(requests)
    began = time.perf_counter()
    for number in range(requests):
        if pace:
            time.sleep(max(began + number / pace - time.perf_counter(), 0))
        request_id, entity_id = f"{name}/{number}", f"u{number:06d}"
        start = time.perf_counter_ns()
        with tracker.track_inference(
            request_id=request_id, entity_id=entity_id, features=SEEN, as_of=as_of, served_from="redis"
        ) as inference:
            inference.log_prediction(0.25)
        times[number] = time.perf_counter_ns() - start
    return times


def overheads(requests: int, rounds: int, pace: int, feature_version: str) -> tuple[list[Overhead], Logged]:
    """Of requests that are sampled and that are not, at the pace and back to back."""
    make = _maker(feature_version)
    with make(RARE) as rare, make(1) as all_of_them:
        found = [
            _overhead(tracker, requests, rounds, each)
            for each in (pace, None)
            for tracker in (rare, all_of_them)
        ]  # fmt: skip
        left = all_of_them.flush(FLUSH_SECONDS)
        statistics = all_of_them.statistics()
    assert not left, f"{left} rows are not written after {FLUSH_SECONDS} seconds"
    return found, Logged(
        sampled=statistics.sampled,
        written=statistics.written,
        dropped=statistics.dropped,
        rejected=statistics.rejected,
        in_the_log=_rows_in_the_log(),
    )


def _maker(feature_version: str) -> Callable[[float], ProductionInferenceTracker]:
    return lambda rate: ProductionInferenceTracker(
        model_name=MODEL, model_version="1", feature_version=feature_version, sample_rate=rate
    )


def _overhead(tracker: ProductionInferenceTracker, requests: int, rounds: int, pace: int | None) -> Overhead:
    """Rounds of a block with a tracker that does nothing and a block with this one; what is buffered is written."""
    is_sampled = tracker.sampler.inclusion_probability == 1
    block(tracker, f"warm up/{is_sampled}/{pace}", requests // 10, pace)
    differences = []
    for number in range(rounds):
        idle = np.percentile(block(Idle(), "idle", requests, pace), (50, 99))
        tracked = np.percentile(block(tracker, f"{is_sampled}/{pace}/{number}", requests, pace), (50, 99))
        differences.append((tracked - idle) / 1000)
        tracker.flush(FLUSH_SECONDS)
    p50, p99 = ([float(value) for value in column] for column in zip(*differences, strict=True))
    return Overhead(is_sampled, pace is not None, requests, p50, p99)


def _rows_in_the_log() -> int:
    with warehouse.connect() as connection:
        row = connection.execute(
            "select count(*) as n from monitoring.inference_log where model_name = %s", [MODEL]
        ).fetchone()
    assert row is not None
    return int(row["n"])


if __name__ == "__main__":
    measured, logged = overheads(**json.loads(sys.argv[1]))
    print(json.dumps({"overheads": [asdict(each) for each in measured], "logged": asdict(logged)}))
