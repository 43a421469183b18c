"""Requests to a tracker, and what the log then holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple
from datetime import UTC, datetime
from typing import Any

from features import warehouse
from features.serving.log_writer import Statistics
from features.serving.tracker import ProductionInferenceTracker

AS_OF = datetime(2026, 3, 1, 12, tzinfo=UTC)
MILLISECONDS = 1e-3


def tracker(**settings: Any) -> ProductionInferenceTracker:
    """One that logs everything and writes when it is told to, unless the settings say otherwise."""
    settings = {"sample_rate": 1.0, "flush_every_seconds": 60, "close_timeout_seconds": 20} | settings
    return ProductionInferenceTracker("churn", "7", "abc", **settings)


def ask(
    tracked: ProductionInferenceTracker, request_id: str | None, probability: Any = 0.25, **changes: Any
) -> str | None:
    """A request with its prediction; gives the id it is logged under."""
    request: dict[str, Any] = {"entity_id": "u1", "features": {"sessions": 3}, "as_of": AS_OF} | changes
    with tracked.track_inference(request_id=request_id, **request) as inference:
        inference.log_prediction(probability)
    return inference.request_id


def logged() -> list[dict[str, Any]]:
    """The log."""
    return _rows("select * from monitoring.inference_log order by request_id")


def logged_ids() -> list[str]:
    """Of the requests in the log, in order."""
    return [row["request_id"] for row in logged()]


def rejected() -> list[dict[str, Any]]:
    """The quarantine."""
    return _rows("select * from monitoring.rejected_inferences order by request_id")


def _rows(query: str) -> list[dict[str, Any]]:
    with warehouse.connect() as connection:
        return connection.execute(query).fetchall()


def assert_adds_up(statistics: Statistics) -> None:
    """Each request is counted once."""
    seen, sampled, *_ = astuple(statistics)
    outcomes = (
        statistics.written
        + statistics.dropped
        + statistics.rejected
        + statistics.failed
        + statistics.without_prediction
        + statistics.buffered
    )
    assert seen == (seen - sampled) + outcomes, statistics


class Line:
    """A way to the warehouse that can be cut."""

    def __init__(self) -> None:
        self.is_cut = False
        self.attempts = 0

    @contextmanager
    def __call__(self) -> Iterator[warehouse.Connection]:
        self.attempts += 1
        if self.is_cut:
            raise warehouse.WarehouseUnavailable("The line is cut.")
        with warehouse.connect() as connection:
            yield connection
