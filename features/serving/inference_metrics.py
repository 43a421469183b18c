"""The trackers' counts for Prometheus, read when they are scraped, so that no request pays for them."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from features.serving.tracker import ProductionInferenceTracker

LABELS = ["model", "version"]
COUNTERS = {
    "seen": "Requests.",
    "sampled": "Requests that were chosen to be logged.",
    "dropped": "Sampled requests that found the buffer full.",
    "written": "Requests in the inference log.",
    "rejected": "Requests in monitoring.rejected_inferences.",
    "failed": "Sampled requests that raised before there was a prediction.",
    "without_prediction": "Sampled requests that ended without a prediction.",
    "write_failures": "Failed attempts to write to the inference log.",
}
GAUGES = {"buffered": "Requests that wait to be written."}


def metrics_of(trackers: Collection[ProductionInferenceTracker]) -> Collector:
    """A collector of skewless_inference_* for `REGISTRY.register`; trackers of the same version are added up."""
    return _InferenceCollector(trackers)


class _InferenceCollector(Collector):
    def __init__(self, trackers: Collection[ProductionInferenceTracker]) -> None:
        self._trackers = list(trackers)

    def collect(self) -> Iterable[Metric]:
        totals: dict[tuple[str, str], Counter[str]] = {}
        for tracker in self._trackers:
            labels = (tracker.model_name, tracker.model_version)
            totals.setdefault(labels, Counter()).update(asdict(tracker.statistics()))
        for name, text in COUNTERS.items():
            yield _family(CounterMetricFamily(f"skewless_inference_{name}", text, labels=LABELS), name, totals)
        for name, text in GAUGES.items():
            yield _family(GaugeMetricFamily(f"skewless_inference_{name}", text, labels=LABELS), name, totals)


def _family(
    family: CounterMetricFamily | GaugeMetricFamily, name: str, totals: dict[tuple[str, str], Counter[str]]
) -> Metric:
    for labels, counts in totals.items():
        family.add_metric(labels, counts[name])
    return family
