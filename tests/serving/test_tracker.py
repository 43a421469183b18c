"""What a service tells the tracker is in the log as it was, and nothing of the tracker is felt by the service."""

import asyncio
import math
import random
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from features import warehouse
from features.contract import Model, read_contract
from features.errors import SkewlessError
from features.serving.inference_metrics import metrics_of
from features.serving.sampling import Sampler
from features.serving.tracker import SALT_VARIABLE, Inference, ProductionInferenceTracker, default_salt
from features.tracking import Version
from tests.serving.requests import (
    AS_OF,
    MILLISECONDS,
    Line,
    ask,
    assert_adds_up,
    logged,
    logged_ids,
    rejected,
    tracker,
)


class SlowToRead(Mapping[str, int]):
    """Features whose copy takes a while."""

    def __getitem__(self, name: str) -> int:
        time.sleep(100 * MILLISECONDS)
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter(["slow"])

    def __len__(self) -> int:
        return 1


class BreaksWhenRead(dict[str, Any]):
    """Features that cannot even be shown."""

    def keys(self) -> Any:
        raise RuntimeError("no")

    __iter__ = items = __repr__ = keys


class BadText:
    """What cannot become text."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def test_a_request_is_logged_with_everything_that_is_known_of_it(empty_warehouse: str) -> None:
    asked = datetime.now(UTC)
    with (
        tracker(sample_rate=0.999999999) as tracked,
        tracked.track_inference(
            request_id="r1", entity_id="u1", features={"a": 1.5, "b": None}, as_of=AS_OF, served_from="redis"
        ) as inference,
    ):
        inference.log_prediction(0.2, decision="offer")
    (row,) = logged()
    assert asked <= row.pop("logged_at") <= row.pop("written_at")
    assert row.pop("latency_ms") >= 0
    assert row == {
        "request_id": "r1",
        "model_name": "churn",
        "model_version": "7",
        "feature_version": "abc",
        "kind": "online",
        "entity_id": "u1",
        "as_of": AS_OF,
        "features": {"a": 1.5, "b": None},
        "prediction": 0.2,
        "confidence": 0.8,
        "inclusion_probability": Sampler(0.999999999, "").inclusion_probability,
        "served_from": "redis",
        "decision": "offer",
    }
    assert_adds_up(tracked.statistics())


def test_a_request_may_differ_from_its_tracker(empty_warehouse: str) -> None:
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    with tracker(kind="batch") as tracked:
        ask(tracked, "r1", feature_version="def", logged_at=midnight, entity_id=("u1", 'a "b" é'))
    (row,) = logged()
    assert (row["kind"], row["feature_version"], row["logged_at"]) == ("batch", "def", midnight)
    with warehouse.connect() as connection:
        key = connection.execute("select jsonb_build_array('u1', 'a \"b\" é')::text as key").fetchone()
    assert key == {"key": row["entity_id"]}


def test_a_request_without_an_id_gets_one(empty_warehouse: str) -> None:
    with tracker() as tracked:
        ids = [ask(tracked, None) for _ in range(3)]
    assert sorted(map(str, ids)) == logged_ids()
    assert len(set(ids)) == 3


@pytest.mark.parametrize("value", [0.1 + 0.2, 5e-324, 1.7976931348623157e308, np.float32(0.1), -1e-7, 2**53 + 1])
def test_numbers_are_logged_exactly(empty_warehouse: str, value: Any) -> None:
    with tracker() as tracked:
        ask(tracked, "r1", features={"x": value})
    with warehouse.connect() as connection:
        query = "select (features ->> 'x')::double precision as x from monitoring.inference_log"
        assert connection.execute(query).fetchone() == {"x": float(value)}


@pytest.mark.parametrize("probability", [np.float32(0.75), Decimal("0.75"), np.float64(0.75), 0.75])
def test_a_probability_is_any_number(empty_warehouse: str, probability: Any) -> None:
    with tracker() as tracked:
        ask(tracked, "r1", probability)
    assert [(row["prediction"], row["confidence"]) for row in logged()] == [(0.75, 0.75)]


def test_the_last_prediction_counts_with_the_features_of_its_moment(empty_warehouse: str) -> None:
    features = {"sessions": 3}
    with tracker() as tracked:
        with tracked.track_inference(request_id="r1", entity_id="u1", features=features, as_of=AS_OF) as inference:
            inference.log_prediction(0.9)
            features["sessions"] = 4
            inference.log_prediction(0.1, "keep")
            features["sessions"] = 5
        features["sessions"] = 6
    (row,) = logged()
    assert (row["prediction"], row["decision"], row["features"]) == (0.1, "keep", {"sessions": 4})


def test_latency_is_that_of_the_block_alone(empty_warehouse: str) -> None:
    @contextmanager
    def slow() -> Iterator[warehouse.Connection]:
        time.sleep(200 * MILLISECONDS)
        with warehouse.connect() as connection:
            yield connection

    with tracker(connect=slow, batch_rows=1) as tracked:
        inference = tracked.track_inference(request_id="r1", entity_id="u1", features=SlowToRead(), as_of=AS_OF)
        time.sleep(100 * MILLISECONDS)
        with inference:
            time.sleep(20 * MILLISECONDS)
            inference.log_prediction(0.5)
        began = time.perf_counter()
        ask(tracked, "r2")
        assert time.perf_counter() - began < 100 * MILLISECONDS
    slow_one, fast_one = (row["latency_ms"] for row in logged())
    assert 20 <= slow_one < 90
    assert fast_one < 20


def test_async_with_is_the_same(empty_warehouse: str) -> None:
    async def serve() -> None:
        async with tracker() as tracked:
            request: dict[str, Any] = {"entity_id": "u1", "features": {}, "as_of": AS_OF}
            async with tracked.track_inference(request_id="r1", **request) as inference:
                await asyncio.sleep(20 * MILLISECONDS)
                inference.log_prediction(0.5)
            with pytest.raises(KeyError):
                async with tracked.track_inference(request_id="r2", **request):
                    raise KeyError
            assert tracked.statistics().failed == 1

    asyncio.run(serve())
    (row,) = logged()
    assert row["latency_ms"] >= 20


def test_who_is_not_sampled_is_not_logged(empty_warehouse: str) -> None:
    ids = [f"r{number:03}" for number in range(400)]
    with tracker(sample_rate=0.3, salt="salt") as tracked:
        for request_id in ids:
            ask(tracked, request_id)
    expected = [each for each in ids if Sampler(0.3, "salt").samples(each)]
    assert logged_ids() == expected
    statistics = tracked.statistics()
    assert (statistics.seen, statistics.sampled, statistics.written) == (400, len(expected), len(expected))
    assert_adds_up(statistics)


def test_an_entity_is_sampled_with_all_its_requests_or_none(empty_warehouse: str) -> None:
    entities: list[Any] = [("u1", number) for number in range(50)]
    with tracker(sample_rate=0.3, sample_by="entity", salt="salt") as tracked:
        for entity_id in entities * 4:
            ask(tracked, None, entity_id=entity_id)
    expected = [f'["u1", {number}]' for _, number in entities if Sampler(0.3, "salt").samples(f'["u1", {number}]')]
    assert 0 < len(expected) < 50
    assert sorted(row["entity_id"] for row in logged()) == sorted(expected * 4)


def test_the_salt_is_a_secret_of_the_environment_and_another_for_each_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SALT_VARIABLE, raising=False)
    assert default_salt("churn") == "churn"
    monkeypatch.setenv(SALT_VARIABLE, "secret")
    assert default_salt("churn") == "secret/churn"
    assert tracker(sample_rate=0.5).sampler._key == b"secret/churn"
    assert tracker(sample_rate=0.5, salt="given").sampler._key == b"given"


def test_personal_features_never_reach_the_buffer(empty_warehouse: str) -> None:
    with tracker(pii={"email"}) as tracked:
        ask(tracked, "r1", features={"email": "a@example.org", "sessions": 3})
        ask(tracked, "r2", features={"email": "a@example.org", "sessions": object()})
        assert "example" not in str(tracked._writer._rows)
    assert [row["features"] for row in logged()] == [{"sessions": 3}]
    (row,) = rejected()
    assert "example" not in row["row_as_it_came"]


def answer_and_fail(inference: Inference) -> None:
    with inference:
        inference.log_prediction(0.5)
        raise ValueError("no such tail number")


def test_an_exception_of_the_block_is_the_services(empty_warehouse: str) -> None:
    request: dict[str, Any] = {"entity_id": "u1", "features": {}, "as_of": AS_OF}
    raised = ValueError("no such tail number")
    with tracker() as tracked:
        with pytest.raises(ValueError, match="tail number") as caught, tracked.track_inference(**request):
            raise raised
        assert caught.value is raised
        said = tracked.track_inference(request_id="said", **request)
        with pytest.raises(ValueError, match="tail number"):
            answer_and_fail(said)
        with tracked.track_inference(**request):
            pass
    assert logged_ids() == ["said"]
    statistics = tracked.statistics()
    assert (statistics.seen, statistics.written, statistics.failed, statistics.without_prediction) == (3, 1, 1, 1)
    assert_adds_up(statistics)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"probability": math.nan}, "prediction is nan"),
        ({"probability": 1.5}, "prediction is 1.5"),
        ({"probability": Decimal("sNaN")}, "prediction is sNaN"),
        ({"probability": True}, "of type bool"),
        ({"probability": np.bool_(True)}, "of type bool"),
        ({"probability": "0.5"}, "of type str"),
        ({"probability": None}, "of type NoneType"),
        ({"probability": np.array([0.1, 0.9])}, "of type ndarray"),
        ({"as_of": AS_OF.replace(tzinfo=None)}, "as_of is .* time zone"),
        ({"as_of": None}, "as_of is None"),
        ({"logged_at": AS_OF.replace(tzinfo=None)}, "logged_at is .* time zone"),
        ({"entity_id": None}, "names nobody"),
        ({"entity_id": ("u1", None)}, "names nobody"),
        ({"entity_id": ()}, "names nobody"),
        ({"entity_id": "a\0b"}, "entity_id .* NUL"),
        ({"entity_id": BadText()}, "cannot be converted: RuntimeError"),
        ({"served_from": "\ud800"}, "served_from .* surrogates"),
        ({"features": {"x": [1]}}, "Feature 'x' of type list"),
        ({"features": {"x": "a\0b"}}, "Feature 'x' of type str .* NUL"),
        ({"features": ["x"]}, "no mapping"),
        ({"features": None}, "no mapping"),
        ({"features": BreaksWhenRead()}, "no mapping"),
        ({"features": {"x": 10**140_000}}, "Feature 'x' of type int"),
        ({"features": {"x": Decimal("1e140000")}}, "numeric"),
        ({"request_id": "a\0b"}, "request_id .* NUL"),
        ({"request_id": "".join(random.Random(0).choices("0123456789abcdef", k=20_000))}, "index row"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_what_cannot_be_logged_is_in_quarantine(empty_warehouse: str, changes: dict[str, Any], reason: str) -> None:
    with tracker() as tracked:
        ask(tracked, "before")
        ask(tracked, **({"request_id": "poison"} | changes))
        ask(tracked, "later")
    assert logged_ids() == ["before", "later"]
    (row,) = rejected()
    assert row["model_name"] == "churn"
    assert re.search(reason, row["reason"])
    assert (tracked.statistics().written, tracked.statistics().rejected) == (2, 1)
    assert_adds_up(tracked.statistics())


def test_a_few_bad_rows_do_not_take_others_with_them(empty_warehouse: str) -> None:
    bad = {3, 500, 501, 999}
    with tracker() as tracked:
        for number in range(1_200):
            ask(tracked, f"r{number:04}", math.nan if number in bad else 0.5)
    assert logged_ids() == [f"r{number:04}" for number in range(1_200) if number not in bad]
    assert [row["request_id"] for row in rejected()] == [f"r{number:04}" for number in sorted(bad)]


def test_an_id_that_cannot_become_text_is_not_the_services_problem(empty_warehouse: str) -> None:
    with tracker() as tracked:
        ask(tracked, BadText())  # type: ignore[arg-type]
        ask(tracked, "r1")
    assert logged_ids() == ["r1"]
    assert tracked.statistics().dropped == 1
    assert_adds_up(tracked.statistics())


def test_a_request_id_is_one_row(empty_warehouse: str) -> None:
    with tracker() as tracked:
        ask(tracked, "r1", 0.1)
        ask(tracked, "r1", 0.2)
        tracked.flush()
        ask(tracked, "r1", 0.3)
    assert [(row["request_id"], row["prediction"]) for row in logged()] == [("r1", 0.1)]
    assert tracked.statistics().written == 3


def churn_version() -> Version:
    return Version("7", AS_OF, "abc", "extract", {}, "run")


def test_the_contract_says_what_is_logged(manifest: Any) -> None:
    model: Model = read_contract(manifest).model("churn")
    view = model.feature_view
    features = tuple(each.model_copy(update={"pii": each.name == view.feature_names[0]}) for each in view.features)
    inference = model.inference.model_copy(update={"log_share": 0.5, "batch_log_share": 0.25})
    model = model.model_copy(
        update={"inference": inference, "feature_view": view.model_copy(update={"features": features})}
    )
    online = ProductionInferenceTracker.for_model(model, churn_version())
    batch = ProductionInferenceTracker.for_model(model, churn_version(), kind="batch")
    overridden = ProductionInferenceTracker.for_model(model, churn_version(), sample_rate=0.125, pii={"other"})
    assert [each.sampler.inclusion_probability for each in (online, batch, overridden)] == [0.5, 0.25, 0.125]
    assert (online._pii, overridden._pii) == (frozenset({view.feature_names[0]}), frozenset({"other"}))
    assert (online.model_name, online.model_version, online._feature_version) == ("churn", "7", "abc")


@pytest.mark.parametrize(
    "mistake",
    [{"sample_by": "user"}, {"kind": "offline"}, {"sample_rate": 0}, {"buffer_rows": 0}, {"flush_every_seconds": 0}],
)
def test_a_mistaken_setting_is_refused(mistake: dict[str, Any]) -> None:
    with pytest.raises(SkewlessError):
        tracker(**mistake)


def test_prometheus_reads_the_statistics(empty_warehouse: str) -> None:
    line = Line()
    with tracker() as one, tracker(connect=line) as other:
        registry = CollectorRegistry()
        registry.register(metrics_of([one, other]))
        ask(one, "r1")
        one.flush()
        line.is_cut = True
        ask(other, "r2")
        ask(other, "r3")
        text = generate_latest(registry).decode()
        line.is_cut = False
    labels = '{model="churn",version="7"}'
    assert f"skewless_inference_seen_total{labels} 3.0" in text
    assert f"skewless_inference_written_total{labels} 1.0" in text
    assert f"skewless_inference_buffered{labels} 2.0" in text
    alone = CollectorRegistry()
    alone.register(one.collector())
    assert f"skewless_inference_seen_total{labels} 1.0" in generate_latest(alone).decode()
