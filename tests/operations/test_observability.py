"""What somebody who runs this sees of it: logs as JSON, metrics, and lineage, each switched on by Airflow's variables.

One Airflow does all of it, on a warehouse of a dozen users: first with StatsD and lineage, then another scheduler with
OpenTelemetry, and a lineage receiver that does not answer.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from features import metrics, settings, warehouse
from features.contract import read_contract
from features.local import demo, environment, stack
from features.local.airflow_api import DONE, AirflowApi, DagRun
from features.migrations import migrate
from features.partition import parse_as_of
from tests.databases import drop_database
from tests.operations import receivers
from tests.operations.receivers import Packets, Posts
from tests.places import ROOT
from tests.steps.small_warehouse import HISTORY, load, session

# One Airflow is started for all of them, beside whatever else this machine does.
pytestmark = [pytest.mark.operations, pytest.mark.timeout(1800)]

AS_OF = "2013-07-02T00:00:00"
FEATURES, ROLLBACK = demo.CHAIN[0], "rollback_features"
VIEW = "user_session_features"
TIMEOUT_SECONDS = 600  # for a machine that does other things, too; a free one needs a tenth
# How long a task may wait for the lineage receiver, when it starts and again when it ends.
PATIENCE_SECONDS = 2
SLOW_MACHINE_SECONDS = 20


@dataclass(frozen=True)
class Stack:
    """A running Airflow, less its scheduler."""

    api: AirflowApi
    statsd: Packets
    lineage: Posts

    def run(self, dag_id: str, key: str | None, **conf: object) -> DagRun:
        """Triggers a Dag and waits for its end."""
        run_id = f"watched__{dag_id}"
        self.api.set_paused(dag_id, False)
        self.api.trigger(dag_id, key, run_id, conf)
        eventually(f"the end of {dag_id}", lambda: self.api.run(dag_id, run_id).state in DONE)
        return self.api.run(dag_id, run_id)


def eventually(what: str, found: Callable[[], Any]) -> Any:
    """The first answer that is not empty."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (answer := found()):
        assert time.monotonic() < deadline, f"{what}: not within {TIMEOUT_SECONDS} s; see {stack.LOGS}"
        time.sleep(0.2)
    return answer


@contextmanager
def running(name: str, command: list[str], *variables: Mapping[str, str]) -> Iterator[stack.Service]:
    """A service of Airflow that logs JSON and starts nothing by the clock, until the block ends."""
    never = dict.fromkeys(("SKEWLESS_MATERIALIZE_CRON", "SKEWLESS_DECAY_CRON", "SKEWLESS_SELF_TEST_CRON"), demo.NEVER)
    extra = {"AIRFLOW__LOGGING__JSON_LOGS": "True"} | never
    for each in variables:
        extra |= each
    service = stack.spawn(name, [sys.executable, "-m", *command], extra)
    try:
        yield service
        assert service.process(), f"{name} has died:\n{stack.end_of(service.log)}"
    finally:
        stack.end([service])


@pytest.fixture(scope="module")
def small_warehouse(server: None) -> Iterator[None]:
    """Sixty sessions of each of a dozen users, under the name that the local stack uses, and one of an hour ago."""
    names = (settings.WAREHOUSE_DATABASE, settings.AIRFLOW_DATABASE, settings.MLFLOW_DATABASE)
    for name in names:
        drop_database(name)
    migrate()
    with warehouse.connect() as connection:
        connection.execute(HISTORY)
    as_of = parse_as_of(AS_OF)
    load(session("u01", as_of - timedelta(hours=3), as_of - timedelta(hours=1)))
    stack.prepare()
    yield
    for name in names:
        drop_database(name)


@pytest.fixture(scope="module")
def airflow(small_warehouse: None) -> Iterator[Stack]:
    """api-server and Dag processor, with StatsD and lineage, and every Dag parsed."""
    with ExitStack() as opened:
        statsd = opened.enter_context(receivers.statsd())
        lineage = opened.enter_context(receivers.http())
        variables = (to_statsd(statsd), to_lineage(lineage.url))
        opened.enter_context(running("api-server", ["airflow", "api-server"], *variables))
        opened.enter_context(running("dag-processor", ["airflow", "dag-processor"], *variables))
        eventually("an api-server", lambda: stack.answers(f"{stack.airflow_url()}/api/v2/version"))
        api = AirflowApi()
        eventually("the Dags", lambda: {*demo.CHAIN, ROLLBACK} <= set(api.dags()))
        yield Stack(api, statsd, lineage)


def to_statsd(packets: Packets) -> dict[str, str]:
    return {
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(packets.port),
    }


def to_opentelemetry(url: str) -> dict[str, str]:
    # Once a minute by default, which this does not wait for.
    interval = {"OTEL_METRIC_EXPORT_INTERVAL": "1000"}
    return {"AIRFLOW__METRICS__OTEL_ON": "True", "OTEL_EXPORTER_OTLP_ENDPOINT": url, **interval}


def to_lineage(url: str) -> dict[str, str]:
    return {"OPENLINEAGE_URL": url}


@pytest.fixture(scope="module")
def published(airflow: Stack) -> DagRun:
    """A run of materialize_features, and one of churn_retraining, by a scheduler with StatsD and lineage."""
    for dag_id in demo.CHAIN[1:]:
        airflow.api.set_paused(dag_id, True)
    with running(
        "scheduler",
        ["features.preloaded", "scheduler", "--skip-serve-logs"],
        to_statsd(airflow.statsd),
        to_lineage(airflow.lineage.url),
    ):
        run = airflow.run(FEATURES, AS_OF)
        assert run.state == "success", airflow.api.failed_tasks(run)
        decision = airflow.run(demo.RETRAINING, AS_OF)
        assert decision.state == "success", airflow.api.failed_tasks(decision)
    return run


@dataclass(frozen=True)
class RolledBack:
    """What came of a run of rollback_features while nobody answered to lineage."""

    run: DagRun
    seconds: list[float]
    opentelemetry: Posts


@pytest.fixture(scope="module")
def rolled_back(airflow: Stack, published: DagRun) -> RolledBack:
    """A run by a scheduler with OpenTelemetry, and with a lineage receiver that never answers."""
    with receivers.http() as opentelemetry, receivers.deaf() as nobody:
        impatience = {"AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT": str(PATIENCE_SECONDS)}
        variables = (to_opentelemetry(opentelemetry.url), to_lineage(nobody), impatience)
        with running("scheduler-opentelemetry", ["features.preloaded", "scheduler", "--skip-serve-logs"], *variables):
            run = airflow.run(ROLLBACK, None, view=VIEW, as_of=AS_OF, because="a test")
            eventually("a heartbeat", lambda: "airflow.scheduler_heartbeat" in opentelemetry.metrics())
        tasks = airflow.api.get(f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances")["task_instances"]
        return RolledBack(run, [task["duration"] for task in tasks], opentelemetry)


def log_of(run: DagRun, task_id: str) -> Path:
    place = environment.AIRFLOW_HOME / "logs" / f"dag_id={run.dag_id}" / f"run_id={run.run_id}"
    return place / f"task_id={task_id}" / "attempt=1.log"


def lines(path: Path) -> list[dict[str, Any]]:
    """A log's lines; fails with the first that is no JSON object."""
    found = []
    for line in path.read_text().splitlines():
        assert line.startswith("{"), f"{path.name}: {line}"
        found.append(json.loads(line))
    return found


@pytest.mark.parametrize("name", ["api-server", "dag-processor", "scheduler", "scheduler-opentelemetry"])
def test_one_variable_makes_every_line_of_a_process_json(name: str, rolled_back: RolledBack) -> None:
    logged = lines(stack.LOGS / f"{name}.log")
    assert len(logged) > 10
    assert all({"event", "level"} <= set(line) for line in logged)


def test_requests_are_logged_as_json_too(published: DagRun) -> None:
    requests = [line for line in lines(stack.LOGS / "api-server.log") if line.get("path") == "/api/v2/version"]
    assert requests
    assert requests[-1]["status_code"] == 200


def test_what_our_own_code_logs_in_a_task_is_json(published: DagRun) -> None:
    ours = [line for line in lines(log_of(published, f"publish_{VIEW}")) if line["logger"] == "features.steps.publish"]
    assert [line["level"] for line in ours] == ["info"]
    assert ours[0]["event"].startswith(f"Published {VIEW} at 2013-07-02 00:00:00+00:00: 12 rows of definition ")


def test_what_dbt_says_in_a_task_is_json_without_colours(published: DagRun) -> None:
    said = lines(log_of(published, "dbt.stg_session_events_model_build"))
    dbt = [line["event"] for line in said if line["logger"] == "task.stdout"]
    assert any("OK created sql incremental model staging.stg_session_events" in event for event in dbt)
    assert not [event for event in dbt if "\x1b" in event]


def test_statsd_gets_the_metrics_of_our_dags(airflow: Stack, published: DagRun) -> None:
    names = {line.partition(":")[0] for line in airflow.statsd.lines}
    assert f"airflow.dagrun.duration.success.{FEATURES}" in names
    assert f"airflow.ti.finish.{FEATURES}.publish_{VIEW}.success" in names
    assert f"airflow.dag.{FEATURES}.publish_{VIEW}.duration" in names
    assert {"airflow.scheduler_heartbeat", "airflow.dag_processing.import_errors"} <= names


def test_statsd_gets_what_went_live_and_what_was_decided(airflow: Stack, published: DagRun) -> None:
    assert airflow.statsd.values(f"airflow.skewless.live_rows.{VIEW}") == [12]
    (age,) = airflow.statsd.values(f"airflow.skewless.live_age_seconds.{VIEW}")
    assert age == pytest.approx(time.time() - parse_as_of(AS_OF).timestamp(), abs=TIMEOUT_SECONDS * 3)
    assert airflow.statsd.values("airflow.skewless.decisions.churn.retrain") == [1]


def test_opentelemetry_gets_the_same(rolled_back: RolledBack) -> None:
    found = rolled_back.opentelemetry.metrics()
    points = [point for metric in found["airflow.ti.finish"] for point in metric.sum.data_points]
    dags = {tag.value.string_value for point in points for tag in point.attributes if tag.key == "dag_id"}
    assert ROLLBACK in dags
    assert "airflow.scheduler_heartbeat" in found
    rows = [
        point.as_double or point.as_int for point in found[f"airflow.skewless.live_rows.{VIEW}"][-1].gauge.data_points
    ]
    assert rows == [12]


def test_metrics_of_ours_that_no_run_above_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """By Airflow's own client, as a task has it."""
    from airflow.sdk.observability import stats
    from airflow.sdk.observability.metrics import statsd_logger

    contract = read_contract(settings.MANIFEST)
    model, view, as_of = contract.model("churn"), contract.feature_view(VIEW), parse_as_of(AS_OF)
    with receivers.statsd() as packets:
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_HOST", "127.0.0.1")
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_PORT", str(packets.port))
        stats.initialize(factory=statsd_logger.get_statsd_logger, export_legacy_names=True)  # type: ignore[arg-type]
        try:
            metrics.refused(view)
            metrics.watched(model, open_incidents=3, blocking=1)
            metrics.decided(model, "hold", as_of - timedelta(days=49), as_of)
            eventually("five metrics", lambda: len(packets.lines) >= 5)
        finally:
            stats.initialize(factory=stats_of_nobody(), export_legacy_names=True)
    assert packets.lines == [
        f"airflow.skewless.refused_publications.{VIEW}:1|c",
        "airflow.skewless.open_incidents.churn:3|g",
        "airflow.skewless.blocking_incidents.churn:1|g",
        "airflow.skewless.decisions.churn.hold:1|c",
        "airflow.skewless.champion_age_days.churn:49.0|g",
    ]


def stats_of_nobody() -> Callable[[], Any]:
    """What Airflow makes of settings without a receiver."""
    from airflow.sdk.observability.metrics import stats_utils

    return stats_utils.get_stats_factory()


def test_the_questions_in_the_readme_are_answered_to_the_role_that_may_only_look(published: DagRun) -> None:
    section = (ROOT / "README.md").read_text().partition("## Watching it")[2].partition("```sql")[2].partition("```")[0]
    questions = [question for question in section.split(";") if question.strip()]
    assert len(questions) >= 5
    with warehouse.connect() as connection:
        connection.execute("set role monitor_reader")
        answers = [connection.execute(question).fetchall() for question in questions]
    assert {row["feature_view"] for row in answers[0]} == set(read_contract(settings.MANIFEST).feature_views)
    assert [row["outcome"] for row in answers[3]] == ["retrain"]


def of_job(lineage: Posts, name: str) -> list[dict[str, Any]]:
    return [event for event in lineage.events() if event["job"]["name"] == name]


def test_lineage_has_an_event_when_a_task_starts_and_when_it_is_done(airflow: Stack, published: DagRun) -> None:
    states = [event["eventType"] for event in of_job(airflow.lineage, f"{FEATURES}.publish_{VIEW}")]
    assert states == ["START", "COMPLETE"]


def test_lineage_has_the_run_of_the_dag(airflow: Stack, published: DagRun) -> None:
    eventually("its end", lambda: "COMPLETE" in {event["eventType"] for event in of_job(airflow.lineage, FEATURES)})


def test_lineage_has_what_each_dbt_model_reads_and_writes(airflow: Stack, published: DagRun) -> None:
    def sets(task: str, side: str) -> set[str]:
        (done,) = [e for e in of_job(airflow.lineage, f"{FEATURES}.dbt.{task}") if e["eventType"] == "COMPLETE"]
        return {dataset["name"].partition(".")[2] for dataset in done[side]}

    # A model is among its own inputs, since its tests read it.
    own = "staging.stg_session_events"
    assert sets("stg_session_events_model_build", "inputs") == {"raw.session_events", own}
    assert sets("stg_session_events_model_build", "outputs") == {own}
    assert own in sets(f"{VIEW}_model_build", "inputs")
    assert sets(f"{VIEW}_model_build", "outputs") == {f"features.{VIEW}"}


def test_a_lineage_receiver_that_never_answers_fails_nothing_and_costs_what_it_may(rolled_back: RolledBack) -> None:
    assert rolled_back.run.state == "success"
    given_up = [
        line
        for line in lines(log_of(rolled_back.run, "roll_back"))
        if "expired and will be terminated by listener" in line["event"]
    ]
    assert len(given_up) == 2  # as it started, and as it ended
    # Airflow lets what it gives up end by itself for three seconds; the task's own work is less than one.
    assert max(rolled_back.seconds) < PATIENCE_SECONDS + 3 + SLOW_MACHINE_SECONDS


LISTENERS = """
import json, sys
from airflow.providers.openlineage.plugins.openlineage import OpenLineageProviderPlugin
print(json.dumps([len(OpenLineageProviderPlugin.listeners), "openlineage.client" in sys.modules]))
"""


@pytest.mark.parametrize(("variables", "listens"), [({}, False), (to_lineage("http://127.0.0.1:1"), True)])
def test_without_a_receiver_nothing_listens_and_the_client_is_not_even_imported(
    variables: dict[str, str], listens: bool
) -> None:
    env = {**environment.everything(), **variables}
    done = subprocess.run(
        [sys.executable, "-c", LISTENERS], env=env, capture_output=True, text=True, check=True, cwd=settings.RUN_DIR
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [int(listens), listens]
    assert "OPENLINEAGE_URL" not in os.environ
