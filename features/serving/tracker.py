"""The tracker: a service tells it of each request, and a sample of them arrives in monitoring.inference_log.

    tracker = ProductionInferenceTracker.for_model(model, version)

    with tracker.track_inference(request_id=..., entity_id=..., features=row, as_of=as_of) as inference:
        probability = estimator.predict_proba(...)[0, 1]
        inference.log_prediction(probability)

Serving never waits for it and never fails because of it: what it takes is the time to hash an id and to append to a
buffer. `log_writer` says what happens then.
"""

import asyncio
import logging
import os
import uuid
import weakref
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from time import perf_counter_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, SupportsFloat, get_args

from features import warehouse
from features.contract import Model
from features.errors import SkewlessError
from features.serving.inference_log import Kind, LoggedInference, entity_text
from features.serving.log_writer import Connect, LogWriter, Pace, Statistics
from features.serving.sampling import Sampler

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from features.tracking import Version

log = logging.getLogger(__name__)

SampleBy = Literal["request", "entity"]
SALT_VARIABLE = "SKEWLESS_SAMPLING_SALT"


def default_salt(model_name: str) -> str:
    """SKEWLESS_SAMPLING_SALT, with the model's name, so that the samples of two models are independent.

    Set that variable to a secret where clients choose request ids: whoever knows the salt can choose ids that are never
    logged. Without it the salt is the model's name, which is none.
    """
    secret = os.environ.get(SALT_VARIABLE)
    return f"{secret}/{model_name}" if secret else model_name


class Inference:
    """One request, to be used once, by `with` or `async with`. This one is not sampled and does nothing.

    Attributes:
        request_id: under which it is logged, to join its outcome by; None when it is not.
    """

    __slots__ = ()

    request_id: str | None = None

    def log_prediction(self, probability: SupportsFloat, decision: str | None = None) -> None:
        """Says what the model predicted; of several calls the last counts.

        Args:
            probability: that the label is true.
            decision: what the service makes of it.
        """

    def __enter__(self) -> Self:
        """Starts the clock."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops the clock. An exception is counted and goes on its way."""

    async def __aenter__(self) -> Self:
        """As `__enter__`."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As `__exit__`."""
        self.__exit__(kind, error, trace)


NOT_SAMPLED = Inference()


class SampledInference(Inference):
    """One request that is logged when its block ends, if it told of a prediction."""

    __slots__ = ("_details", "_has_prediction", "_own_ns", "_seen", "_started_ns", "_told", "_tracker", "request_id")

    def __init__(
        self,
        tracker: "ProductionInferenceTracker",
        request_id: str,
        features: Mapping[str, Any],
        details: dict[str, Any],
    ) -> None:
        """Is made by `track_inference`.

        Args:
            details: further fields of the row.
        """
        self.request_id: str = request_id
        self._tracker = tracker
        self._seen = features
        self._details = details
        self._has_prediction = False
        self._own_ns = 0

    def log_prediction(self, probability: SupportsFloat, decision: str | None = None) -> None:
        """As `Inference.log_prediction`. The features are logged as they are now."""
        began = perf_counter_ns()
        self._told = self._tracker._without_pii(self._seen), probability, decision
        self._has_prediction = True
        self._own_ns += perf_counter_ns() - began

    def __enter__(self) -> Self:
        """Starts the clock, last of all."""
        self._started_ns = perf_counter_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops the clock, first of all; the tracker's own work within the block does not count."""
        elapsed = perf_counter_ns() - self._started_ns - self._own_ns
        if self._has_prediction:
            features, prediction, decision = self._told
            self._details |= {"features": features, "prediction": prediction, "decision": decision}
            self._tracker._log(self.request_id, elapsed / 1e6, self._details)
        else:
            self._tracker._writer.count("without_prediction" if error is None else "failed")


class ProductionInferenceTracker:
    """Logs a sample of a model's requests: what it saw, what it said, how long it took.

    A process that ends normally has everything written, in up to close_timeout_seconds. One that is ended by a signal
    should handle it and `close`; so should children of multiprocessing's fork, which skip what Python does at exit. A
    child starts with an empty buffer; what its parent buffered, its parent writes.
    """

    def __init__(
        self,
        model_name: str,
        model_version: str,
        feature_version: str,
        sample_rate: float = 1.0,
        *,
        sample_by: SampleBy = "request",
        salt: str | bytes | None = None,
        pii: Collection[str] = frozenset(),
        kind: Kind = "online",
        buffer_rows: int = 10_000,
        flush_every_seconds: float = 1.0,
        batch_rows: int = 1_000,
        close_timeout_seconds: float = 5.0,
        connect: Connect = warehouse.connect,
    ) -> None:
        """Connects to nothing yet.

        Args:
            sample_by: entity, for all requests of an entity or none of them.
            salt: see `default_salt`.
            pii: features that are never logged.
            kind: what asks: services (online) or batch scoring.
            buffer_rows: that wait for the warehouse at most; more are dropped.
            flush_every_seconds: how long a row waits for others.
            batch_rows: how many rows are not made to wait.
            close_timeout_seconds: how long `flush` and `close` wait unless they are told, and the end of the process.
            connect: opens a connection to the warehouse, as `warehouse.connect`.

        Raises:
            SkewlessError: naming the argument that makes no sense.
        """
        for name, value, choices in (("sample_by", sample_by, SampleBy), ("kind", kind, Kind)):
            if value not in get_args(choices):
                raise SkewlessError(f"{name} is {' or '.join(get_args(choices))}, not {value!r}.")
        self.model_name, self.model_version = model_name, model_version
        self.sampler = Sampler(sample_rate, default_salt(model_name) if salt is None else salt)
        self._by_entity = sample_by == "entity"
        self._feature_version = feature_version
        self._pii = frozenset(pii)
        self._kind: Kind = kind
        pace = Pace(buffer_rows, batch_rows, flush_every_seconds, close_timeout_seconds)
        self._inclusion_probability = self.sampler.inclusion_probability
        self._writer = LogWriter(connect, pace)
        # Nobody can close it any more, so its thread writes what is left and ends by itself.
        weakref.finalize(self, self._writer.end)

    @classmethod
    def for_model(cls, model: Model, version: "Version", **overrides: Any) -> Self:
        """A tracker as the contract says: config.meta.inference of the exposure, and pii of the columns.

        Args:
            version: that predicts.
            overrides: of the constructor's arguments.
        """
        share = model.inference.batch_log_share if overrides.get("kind") == "batch" else model.inference.log_share
        arguments: dict[str, Any] = {
            "model_name": model.name,
            "model_version": version.number,
            "feature_version": version.feature_version,
            "sample_rate": share,
            "pii": frozenset(feature.name for feature in model.feature_view.features if feature.pii),
        }
        return cls(**(arguments | overrides))

    def track_inference(
        self,
        *,
        request_id: str | None = None,
        entity_id: str | tuple[Any, ...],
        features: Mapping[str, Any],
        as_of: datetime,
        served_from: str | None = None,
        feature_version: str | None = None,
        logged_at: datetime | None = None,
    ) -> Inference:
        """The context of one prediction, by `with` or `async with`; its latency is that of the block alone.

        Args:
            request_id: unique; a second request of the same id is not logged. By default a new UUID.
            entity_id: the key, or a tuple of a composite key's columns.
            features: what the model sees.
            as_of: the instant whose knowledge the features hold, with a time zone.
            served_from: redis, postgres, written, computed or snapshot.
            feature_version: when it is not the tracker's.
            logged_at: when the model is asked; by default now.
        """
        try:
            request_id = str(uuid.uuid4() if request_id is None else request_id)
            if not self._samples(request_id, entity_id):
                self._writer.count_unsampled()
                return NOT_SAMPLED
            details = {
                "entity_id": entity_id,
                "as_of": as_of,
                "served_from": served_from,
                "feature_version": self._feature_version if feature_version is None else feature_version,
                "logged_at": datetime.now(UTC) if logged_at is None else logged_at,
            }
            return SampledInference(self, request_id, features, details)
        except Exception:  # an id that cannot become text, say; never the service's problem
            log.warning("A request of %s could not be tracked.", self.model_name, exc_info=True)
            self._writer.count("dropped")
            return NOT_SAMPLED

    def _samples(self, request_id: str, entity_id: str | tuple[Any, ...]) -> bool:
        if self._by_entity:
            try:
                return self.sampler.samples(entity_text(entity_id))
            except SkewlessError:
                pass  # it will be rejected; as many of its kind as of the others are sampled
        return self.sampler.samples(request_id)

    def _without_pii(self, features: Mapping[str, Any]) -> dict[str, Any] | None:
        """A copy, because the service may go on to change its own; None of what is no mapping."""
        try:
            if not self._pii:
                return dict(features)
            return {name: value for name, value in features.items() if name not in self._pii}
        except Exception:  # any object can come in its place
            return None

    def _log(self, request_id: str, latency_ms: float, details: dict[str, Any]) -> None:
        row = LoggedInference(
            request_id=request_id,
            model_name=self.model_name,
            model_version=self.model_version,
            kind=self._kind,
            latency_ms=latency_ms,
            inclusion_probability=self._inclusion_probability,
            **details,
        )
        self._writer.append(row)

    def statistics(self) -> Statistics:
        """What became of the requests so far."""
        return self._writer.statistics()

    def collector(self) -> "Collector":
        """The statistics for Prometheus, to register where the service's own metrics are: see `metrics_of`."""
        from features.serving.inference_metrics import metrics_of

        return metrics_of([self])

    def flush(self, timeout: float | None = None) -> int:
        """Has everything written that was logged before, and waits for it.

        Args:
            timeout: in seconds; by default close_timeout_seconds.

        Returns:
            how many of those rows are not written.
        """
        return self._writer.flush(timeout)

    def close(self, timeout: float | None = None) -> int:
        """Has everything written, waits for it, and ends the thread. What is logged later starts it again.

        Args:
            timeout: in seconds; by default close_timeout_seconds.

        Returns:
            how many rows are not written; they are logged as an error.
        """
        return self._writer.close(timeout)

    async def aclose(self, timeout: float | None = None) -> int:
        """As `close`, while the event loop goes on."""
        return await asyncio.to_thread(self.close, timeout)

    def __enter__(self) -> Self:
        """The tracker, which is closed when the block ends."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""
        self.close()

    async def __aenter__(self) -> Self:
        """As `__enter__`."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it, while the event loop goes on."""
        await self.aclose()
