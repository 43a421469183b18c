"""The inference log by the hour, against an oracle in Python; its points in a real MLflow; what is deleted when."""

import json
import math
import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from features import tracking, warehouse
from features.contract import InferenceSettings, Model
from features.steps import retain
from features.steps.retain import thin_log
from features.steps.summarise_inference import summarise_inference
from tests.databases import execute, migrated, registry, rows, use
from tests.dbt_project.oracle import DAY, HOUR

AS_OF = datetime(2013, 7, 2, 12, tzinfo=UTC)
BEFORE = AS_OF - HOUR
MINUTE = timedelta(minutes=1)
QUANTILES = ("0.05", "0.25", "0.5", "0.75", "0.95")
LATENCY_QUANTILES = ("0.5", "0.95", "0.99")


@pytest.fixture(scope="module", autouse=True)
def _registry(server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with registry(tmp_path_factory.mktemp("artifacts")):
        yield


@pytest.fixture(scope="module")
def database(server: None) -> Iterator[str]:
    with migrated("skewless_served") as name:
        yield name


@pytest.fixture(autouse=True)
def _empty(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins without a row and without a run."""
    use(database, monkeypatch)
    execute(
        "truncate monitoring.inference_log, monitoring.inference_hours, monitoring.rejected_inferences,"
        " serving.written_features"
    )
    for run in runs():
        MlflowClient().delete_run(run.info.run_id)


def runs(model_name: str = "churn") -> list[Run]:
    """The runs of serving, oldest first."""
    client = MlflowClient()
    experiment = client.get_experiment_by_name(model_name)
    if experiment is None:
        return []
    return list(
        client.search_runs([experiment.experiment_id], "tags.kind = 'serving'", order_by=["attributes.start_time asc"])
    )


def points(run: Run, metric: str) -> list[tuple[int, float]]:
    """What was written of a metric, in the order of its steps."""
    history = MlflowClient().get_metric_history(run.info.run_id, metric)
    return sorted((point.step, point.value) for point in history)


def request(**columns: Any) -> dict[str, Any]:
    """A request as it is logged, one minute before AS_OF."""
    return {
        "model_name": "churn",
        "model_version": "1",
        "entity_id": "u01",
        "as_of": AS_OF - HOUR,
        "features": {},
        "feature_version": "v1",
        "kind": "online",
        "prediction": None,
        "confidence": None,
        "latency_ms": None,
        "inclusion_probability": 1.0,
        "logged_at": AS_OF - MINUTE,
        **columns,
    }


def log_requests(*requests: dict[str, Any]) -> None:
    ((known,),) = rows("select count(*) from monitoring.inference_log")
    with warehouse.connect() as connection:
        for number, row in enumerate(requests, start=known):
            features = {"features": json.dumps(row["features"])}
            warehouse.insert(
                connection, "monitoring.inference_log", {"request_id": f"request {number}", **row, **features}
            )


def hours() -> dict[tuple[str, str, datetime], dict[str, Any]]:
    """monitoring.inference_hours by version, kind and hour."""
    with warehouse.connect() as connection:
        found = connection.execute("select * from monitoring.inference_hours").fetchall()
    return {(row["model_version"], row["kind"], row["hour"]): row for row in found}


# The oracle


def expected(model: Model, requests: list[dict[str, Any]], as_of: datetime) -> dict[Any, dict[str, Any]]:
    """The rows of the two hours to as_of, one request at a time."""
    groups = defaultdict(list)
    for row in requests:
        for hour in (as_of - HOUR, as_of):
            if row["model_name"] == model.name and hour - HOUR < row["logged_at"] <= hour:
                groups[row["model_version"], row["kind"], hour].append(row)
    return {key: summary(model, group) for key, group in groups.items()}


def summary(model: Model, group: list[dict[str, Any]]) -> dict[str, Any]:
    total = sum(weight_of(row) for row in group)
    score, confidence, latency = (finite(group, name) for name in ("prediction", "confidence", "latency_ms"))
    return {
        "logged": len(group),
        "requests": total,
        "score_mean": mean(score),
        "score_quantiles": {share: quantile(score, share) for share in QUANTILES},
        "confidence_mean": mean(confidence),
        "confidence_quantiles": {share: quantile(confidence, share) for share in QUANTILES},
        "latency_quantiles_ms": {share: quantile(latency, share) for share in LATENCY_QUANTILES},
        "missing": {
            name: sum(weight_of(row) for row in group if row["features"].get(name) is None) / total
            for name in model.feature_names
        },
    }


def weight_of(row: dict[str, Any]) -> float:
    return 1 / row["inclusion_probability"]


def finite(group: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """Values and weights."""
    return [(row[name], weight_of(row)) for row in group if row[name] is not None and math.isfinite(row[name])]


def mean(values: list[tuple[float, float]]) -> float | None:
    return sum(value * weight for value, weight in values) / sum(weight for _, weight in values) if values else None


def quantile(values: list[tuple[float, float]], share: str) -> float | None:
    if not values:
        return None
    numbers, weights = zip(*values, strict=True)
    return float(np.quantile(numbers, float(share), weights=weights, method="inverted_cdf"))


def assert_as_expected(found: dict[Any, dict[str, Any]], wanted: dict[Any, dict[str, Any]]) -> None:
    """Sums may be off by their rounding; quantiles are values that were logged."""
    assert found.keys() == wanted.keys()
    for key, row in wanted.items():
        for column, value in row.items():
            close = value is not None and (column.endswith("mean") or column in {"requests", "missing"})
            assert found[key][column] == (pytest.approx(value, rel=1e-12) if close else value), (key, column)


def random_requests(model: Model, seed: int) -> list[dict[str, Any]]:
    """Requests of three hours, two versions and both kinds; some of another model, some cells lost."""
    chance = random.Random(seed)
    requests = []
    for _ in range(chance.choice([1, 5, 200])):
        names = [name for name in model.feature_names if chance.random() < 0.8]
        prediction = chance.choice([None, chance.random(), chance.random(), math.nan])
        requests.append(
            request(
                model_name=chance.choice(["churn", "churn", "churn", "another"]),
                model_version=chance.choice(["1", "2"]),
                kind=chance.choice(["online", "batch"]),
                features={name: chance.choice([1, 0.5, None, "NaN"]) for name in names},
                prediction=prediction,
                confidence=chance.choice([None, math.inf, chance.random()]),
                latency_ms=chance.choice([None, chance.expovariate(0.1)]),
                inclusion_probability=chance.choice([1.0, chance.uniform(0.01, 1)]),
                logged_at=AS_OF
                - chance.choice([0, 1, 59, 60, 61, 120, 121]) * MINUTE
                + chance.choice([0, 30]) * MINUTE,
            )
        )
    return requests


@pytest.mark.parametrize("seed", range(12))
def test_every_number_is_as_the_oracle_finds_it(churn: Model, seed: int) -> None:
    requests = random_requests(churn, seed)
    log_requests(*requests)
    summarise_inference(churn, AS_OF)
    assert_as_expected(hours(), expected(churn, requests, AS_OF))


def test_an_hour_ends_with_its_last_instant(churn: Model) -> None:
    instants = [BEFORE - HOUR, BEFORE - HOUR + MINUTE, BEFORE, BEFORE + MINUTE, AS_OF, AS_OF + MINUTE]
    log_requests(*(request(logged_at=at) for at in instants))
    summarise_inference(churn, AS_OF)
    assert {hour: row["logged"] for (_, _, hour), row in hours().items()} == {BEFORE: 2, AS_OF: 2}


def test_a_request_stands_for_those_that_were_not_logged(churn: Model) -> None:
    rare = request(prediction=1.0, features={"session_count": 1}, inclusion_probability=0.25)
    sure = request(prediction=0.0, inclusion_probability=1.0)
    log_requests(rare, sure)
    summarise_inference(churn, AS_OF)
    (row,) = hours().values()
    assert (row["logged"], row["requests"], row["score_mean"]) == (2, 5.0, 0.8)
    assert row["missing"]["session_count"] == 0.2
    assert row["score_quantiles"] == {"0.05": 0.0, "0.25": 1.0, "0.5": 1.0, "0.75": 1.0, "0.95": 1.0}


@pytest.mark.parametrize("probability", [1.0, 0.1, 0.3, 0.7])
def test_of_twenty_the_quantiles_are_the_1st_5th_10th_15th_and_19th(churn: Model, probability: float) -> None:
    """Whatever the rounding of equal weights makes of their sums."""
    log_requests(*(request(prediction=number / 20, inclusion_probability=probability) for number in range(1, 21)))
    summarise_inference(churn, AS_OF)
    (row,) = hours().values()
    assert [row["score_quantiles"][share] for share in QUANTILES] == [1 / 20, 5 / 20, 10 / 20, 15 / 20, 19 / 20]


def test_what_was_never_measured_is_null(churn: Model) -> None:
    log_requests(request(prediction=0.5, confidence=math.nan))
    summarise_inference(churn, AS_OF)
    (row,) = hours().values()
    assert row["latency_quantiles_ms"] == dict.fromkeys(LATENCY_QUANTILES)
    assert row["confidence_mean"] is None
    assert row["confidence_quantiles"] == dict.fromkeys(QUANTILES)


def test_features_that_tell_who_somebody_is_are_not_called_missing(churn: Model) -> None:
    view = churn.feature_view
    first, *others = view.features
    features = (first.model_copy(update={"pii": True}), *others)
    discreet = churn.model_copy(update={"feature_view": view.model_copy(update={"features": features})})
    log_requests(request())
    summarise_inference(discreet, AS_OF)
    (row,) = hours().values()
    assert row["missing"] == {feature.name: 1.0 for feature in others}


def test_without_a_feature_that_may_be_logged_the_rest_is_summarised(churn: Model) -> None:
    view = churn.feature_view.model_copy(
        update={"features": tuple(feature.model_copy(update={"pii": True}) for feature in churn.feature_view.features)}
    )
    log_requests(request(prediction=0.5))
    summarise_inference(churn.model_copy(update={"feature_view": view}), AS_OF)
    (row,) = hours().values()
    assert (row["missing"], row["score_mean"]) == ({}, 0.5)


def test_without_a_request_there_is_nothing(churn: Model) -> None:
    assert summarise_inference(churn, AS_OF) == {"as_of": AS_OF.isoformat(), "hours": []}
    assert hours() == {}
    assert runs() == []


def test_it_says_what_is_new(churn: Model) -> None:
    log_requests(request(inclusion_probability=0.5), request(kind="batch", logged_at=AS_OF, model_version="2"))
    facts = summarise_inference(churn, AS_OF)
    found = {(hour["model_version"], hour["kind"], hour["logged"], hour["requests"]) for hour in facts["hours"]}
    assert found == {("1", "online", 1, 2.0), ("2", "batch", 1, 1.0)}
    assert {hour["hour"] for hour in facts["hours"]} == {AS_OF.isoformat()}
    json.dumps(facts)


def test_requests_that_were_written_late_are_added_to_the_hour_before(churn: Model) -> None:
    log_requests(request(prediction=0.2))
    summarise_inference(churn, AS_OF)
    log_requests(request(prediction=0.4), request(logged_at=AS_OF + MINUTE))
    facts = summarise_inference(churn, AS_OF + HOUR)
    assert len(facts["hours"]) == 2
    late = hours()["1", "online", AS_OF]
    assert (late["logged"], late["score_mean"]) == (2, pytest.approx(0.3))


def test_summarising_again_changes_nothing(churn: Model) -> None:
    log_requests(*random_requests(churn, 3))
    summarise_inference(churn, AS_OF)
    before = hours()
    assert summarise_inference(churn, AS_OF)["hours"] == []
    assert hours() == before


# MLflow


def test_a_version_has_one_run_and_each_hour_is_a_step(churn: Model) -> None:
    log_requests(request(prediction=0.25), request(prediction=0.5, logged_at=BEFORE), request(model_version="2"))
    summarise_inference(churn, BEFORE)
    summarise_inference(churn, AS_OF)
    first, second = sorted(runs(), key=lambda run: run.data.tags["model_version"])
    assert (first.info.run_name, second.info.run_name) == ("churn v1 served", "churn v2 served")
    assert first.data.tags["kind"] == "serving"
    assert first.info.status == "FINISHED"
    step = int(AS_OF.timestamp()) // 3600
    assert points(first, "serving/score_mean") == [(step - 1, 0.5), (step, 0.25)]
    assert points(second, "serving/requests") == [(step, 1.0)]
    (point,) = MlflowClient().get_metric_history(second.info.run_id, "serving/requests")
    assert point.timestamp == AS_OF.timestamp() * 1000


def test_every_aggregate_is_a_metric_and_what_is_unknown_is_none(churn: Model) -> None:
    log_requests(request(prediction=0.5, confidence=0.75, latency_ms=12.0, features={"session_count": 1}))
    log_requests(request(kind="batch", logged_at=AS_OF, prediction=0.125, model_version="2"))
    summarise_inference(churn, AS_OF)
    online, batch = sorted(runs(), key=lambda run: run.data.tags["model_version"])
    percentiles = ("p05", "p25", "p50", "p75", "p95")
    assert online.data.metrics == {
        "serving/requests": 1.0,
        "serving/logged": 1.0,
        "serving/score_mean": 0.5,
        **{f"serving/score_{name}": 0.5 for name in percentiles},
        "serving/confidence_mean": 0.75,
        **{f"serving/confidence_{name}": 0.75 for name in percentiles},
        **{f"serving/latency_{name}_ms": 12.0 for name in ("p50", "p95", "p99")},
        **{f"serving/missing/{name}": float(name != "session_count") for name in churn.feature_names},
    }
    assert batch.data.metrics == {
        "serving/batch/requests": 1.0,
        "serving/batch/logged": 1.0,
        "serving/batch/score_mean": 0.125,
        **{f"serving/batch/score_{name}": 0.125 for name in percentiles},
        **{f"serving/batch/missing/{name}": 1.0 for name in churn.feature_names},
    }


def test_both_kinds_of_an_hour_keep_apart_in_one_run(churn: Model) -> None:
    log_requests(request(prediction=0.5), request(kind="batch", logged_at=AS_OF, prediction=0.125))
    summarise_inference(churn, AS_OF)
    (run,) = runs()
    assert (run.data.metrics["serving/score_p50"], run.data.metrics["serving/batch/score_p50"]) == (0.5, 0.125)


def test_what_did_not_change_is_not_written_again(churn: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    log_requests(*random_requests(churn, 3))
    summarise_inference(churn, AS_OF)
    before = [points(run, "serving/requests") for run in runs()]
    with monkeypatch.context() as patch:
        patch.setattr(tracking, "log_served", lambda *_: pytest.fail("it was written again"))
        summarise_inference(churn, AS_OF)
    summarise_inference(churn, AS_OF)
    assert [points(run, "serving/requests") for run in runs()] == before


def test_what_changed_is_written_again(churn: Model) -> None:
    log_requests(request())
    summarise_inference(churn, AS_OF)
    log_requests(request())
    summarise_inference(churn, AS_OF)
    (run,) = runs()
    step = int(AS_OF.timestamp()) // 3600
    assert points(run, "serving/requests") == [(step, 1.0), (step, 2.0)]


def test_what_mlflow_did_not_take_is_written_by_the_next_try(churn: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    log_requests(request(), request(model_version="2"))
    real, calls = tracking.log_served, []

    def down_the_second_time(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise ConnectionError("down")
        real(*arguments)

    monkeypatch.setattr(tracking, "log_served", down_the_second_time)
    with pytest.raises(ConnectionError):
        summarise_inference(churn, AS_OF)
    assert hours() == {}
    summarise_inference(churn, AS_OF)
    assert len(hours()) == 2
    step = int(AS_OF.timestamp()) // 3600
    assert [points(run, "serving/requests") for run in runs()] == [[(step, 1.0)]] * 2


def test_names_that_mlflow_refuses_and_thousands_of_metrics_are_no_trouble(churn: Model) -> None:
    view = churn.feature_view
    names = ['share in %, "ä"', *(f"f{number}" for number in range(1100))]
    features = tuple(view.features[0].model_copy(update={"name": name}) for name in names)
    wide = churn.model_copy(update={"feature_view": view.model_copy(update={"features": features})})
    log_requests(request())
    summarise_inference(wide, AS_OF)
    (run,) = runs()
    missing = {name for name in run.data.metrics if name.startswith("serving/missing/")}
    assert missing == {"serving/missing/share in __ _ä_", *(f"serving/missing/f{number}" for number in range(1100))}


# Retention


@pytest.fixture
def short(churn: Model) -> Model:
    """The model, with a log that is kept for 20 days."""
    return churn.model_copy(update={"inference": InferenceSettings(keep_log_days=20)})


def test_old_requests_go_and_no_others(short: Model) -> None:
    kept = [AS_OF, AS_OF - 20 * DAY]
    log_requests(*(request(logged_at=at) for at in [*kept, AS_OF - 20 * DAY - MINUTE, AS_OF - 400 * DAY]))
    log_requests(request(model_name="another", logged_at=AS_OF - 400 * DAY))
    assert thin_log(short, AS_OF) == 2
    assert rows("select model_name, logged_at from monitoring.inference_log order by request_id") == [
        *(("churn", at) for at in kept),
        ("another", AS_OF - 400 * DAY),
    ]


def test_the_hours_stay(short: Model) -> None:
    log_requests(request())
    summarise_inference(short, AS_OF)
    before = hours()
    thin_log(short, AS_OF + 30 * DAY)
    assert rows("select count(*) from monitoring.inference_log") == [(0,)]
    summarise_inference(short, AS_OF)
    assert hours() == before


def test_refused_requests_go_with_the_log(short: Model) -> None:
    for name, at in (("churn", AS_OF - 21 * DAY), ("churn", AS_OF - 19 * DAY), ("another", AS_OF - 21 * DAY)):
        execute("insert into monitoring.rejected_inferences values ('r', %s, 'why', 'row', %s)", name, at)
    assert thin_log(short, AS_OF) == 1
    assert len(rows("select * from monitoring.rejected_inferences")) == 2


def test_rows_that_a_service_wrote_go_after_two_days(short: Model) -> None:
    name = short.feature_view.name
    for view, user, days in ((name, "a", 2), (name, "b", 3), ("other_features", "b", 3)):
        row = {"feature_view": view, "feature_version": "v1", "entity_id": user, "as_of": AS_OF - days * DAY}
        with warehouse.connect() as connection:
            warehouse.insert(connection, "serving.written_features", {**row, "features": "{}", "was_computed": False})
    assert thin_log(short, AS_OF) == 1
    left = rows("select feature_view, entity_id from serving.written_features order by entity_id")
    assert left == [(name, "a"), ("other_features", "b")]


@pytest.mark.parametrize("count", [1, 5, 6, 7])
def test_many_rows_go_a_few_at_a_time(short: Model, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(retain, "CHUNK", 3)
    log_requests(*(request(logged_at=AS_OF - 100 * DAY) for _ in range(count)))
    assert thin_log(short, AS_OF) == count
    assert rows("select count(*) from monitoring.inference_log") == [(0,)]


def test_thinning_again_does_nothing(short: Model) -> None:
    log_requests(request(logged_at=AS_OF - 100 * DAY), request())
    thin_log(short, AS_OF)
    assert thin_log(short, AS_OF) == 0
    assert rows("select count(*) from monitoring.inference_log") == [(1,)]
