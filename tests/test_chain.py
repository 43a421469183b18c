"""The whole chain through a real scheduler and its workers, started the way `make up` starts it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from features import settings, tracking, warehouse
from features.contract import read_contract
from features.errors import SkewlessError
from features.local import demo, environment, stack
from features.local.airflow_api import DONE, AirflowApi, DagRun
from tests.conftest import drop_database

FIRST, SECOND = "2013-07-09T00:00:00", "2013-07-10T00:00:00"
SKEWLESS = Path(sys.executable).with_name("skewless")


@pytest.fixture(scope="module")
def chain_warehouse(sample_database: str) -> Iterator[None]:
    """A copy of the sample under the name that the local stack uses."""
    for name in (settings.WAREHOUSE_DATABASE, settings.AIRFLOW_DATABASE, settings.MLFLOW_DATABASE):
        drop_database(name)
    with warehouse.connect("postgres", autocommit=True) as connection:
        connection.execute(f'create database "{settings.WAREHOUSE_DATABASE}" template "{sample_database}"')
    yield
    drop_database(settings.WAREHOUSE_DATABASE)


@pytest.fixture(scope="module")
def up(chain_warehouse: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """`skewless up`, as a person starts it, until Ctrl-C."""
    output = tmp_path_factory.mktemp("up") / "output.txt"
    env = os.environ | {"SKEWLESS_MATERIALIZE_CRON": "0 0 29 2 *", "COLUMNS": "200"}
    with output.open("w") as file:
        process = subprocess.Popen([str(SKEWLESS), "up"], env=env, stdout=file, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 180
    while "Ctrl-C" not in output.read_text():
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.5)
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@pytest.fixture(scope="module")
def airflow(up: subprocess.Popen[str]) -> AirflowApi:
    """Airflow with every Dag parsed and unpaused."""
    api = AirflowApi()
    demo.wait_for_dags(api)
    return api


@pytest.fixture(scope="module")
def first(airflow: AirflowApi) -> list[DagRun]:
    """The runs of the first partition: there is no champion yet."""
    return demo.run_partition(airflow, FIRST, demo.quiet())


@pytest.fixture(scope="module")
def second(airflow: AirflowApi, first: list[DagRun]) -> list[DagRun]:
    """The runs of the day after: a young champion."""
    return demo.run_partition(airflow, SECOND, demo.quiet())


def rows(query: str) -> list[tuple[object, ...]]:
    with warehouse.connect() as connection:
        return [tuple(row.values()) for row in connection.execute(query)]


def test_everything_listens_on_loopback_only(up: subprocess.Popen[str]) -> None:
    ours = [psutil.Process(up.pid), *psutil.Process(up.pid).children(recursive=True)]
    addresses = {
        connection.laddr.ip
        for process in ours
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


def test_both_pages_answer(up: subprocess.Popen[str]) -> None:
    assert requests.get(stack.airflow_url(), timeout=10).ok
    assert requests.get(stack.mlflow_url(), timeout=10).ok


def test_a_second_start_says_that_it_runs(up: subprocess.Popen[str]) -> None:
    done = subprocess.run([str(SKEWLESS), "up"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "make down" in done.stderr
    assert up.poll() is None


def test_the_first_partition_leads_to_training(first: list[DagRun]) -> None:
    assert [(run.dag_id, run.state, run.partition_key) for run in first] == [
        (dag_id, "success", FIRST) for dag_id in demo.CHAIN
    ]


def test_each_dbt_model_is_a_task(airflow: AirflowApi, first: list[DagRun]) -> None:
    states = airflow.task_states(first[0])
    assert states == dict.fromkeys(
        [
            "dbt.churn_labels_model_build",
            "dbt.churn_predictions_model_build",
            "dbt.churn_training_set_model_build",
            "dbt.rejected_session_events_model_build",
            "dbt.stg_session_events_model_build",
            "dbt.user_features_model_build",
            "dbt.user_session_features_model_build",
            "publish_user_session_features",
        ],
        "success",
    )


def test_the_snapshot_is_published(second: list[DagRun]) -> None:
    assert rows("select to_char(as_of, 'MM-DD'), retired_at is null from serving.publications order by 1") == [
        ("07-09", False),
        ("07-10", True),
    ]
    assert rows(
        "select count(*) > 3000, count(distinct as_of), max(to_char(as_of, 'MM-DD')) from serving.user_features"
    ) == [(True, 1, "07-10")]


def test_without_a_champion_nothing_is_scored_and_drift_is_not_called_ok(first: list[DagRun]) -> None:
    assert rows(f"select count(*) from serving.predictions where as_of = '{FIRST}Z'") == [(0,)]
    assert rows(f"select distinct status from monitoring.drift_reports where as_of = '{FIRST}Z'") == [
        ("baseline_missing",)
    ]


def test_the_champion_scores_the_next_snapshot(second: list[DagRun]) -> None:
    assert rows(
        "select (select count(*) from serving.churn_predictions) = count(*) from serving.user_features"
        " where days_since_last_session < 60"
    ) == [(True,)]


def test_each_feature_has_a_report_against_the_champion(second: list[DagRun]) -> None:
    found = rows(
        f"select feature, model_version, ks_p_value is not null from monitoring.drift_reports where as_of = '{SECOND}Z'"
    )
    model = read_contract(settings.MANIFEST).model("churn")
    assert sorted(found) == sorted((feature, "1", True) for feature in model.feature_names)


def test_each_partition_has_its_decision(second: list[DagRun]) -> None:
    assert rows("select should_retrain, trigger, priority from monitoring.retraining_decisions order by as_of") == [
        (True, "no_model", "critical"),
        (False, None, "none"),
    ]
    assert [run.dag_id for run in second] == list(demo.CHAIN[:4]), "a decision to hold starts no training"


def test_the_champion_is_registered_and_as_good_as_the_data_allow(first: list[DagRun]) -> None:
    champion = tracking.champion(read_contract(settings.MANIFEST).model("churn"))
    assert champion is not None
    assert champion.number == "1"
    # Untuned models on these features reach about 0.82; much less is a bug, much more a leak.
    assert 0.79 < champion.metrics["roc_auc"] < 0.85


def test_running_a_partition_again_changes_nothing(airflow: AirflowApi, second: list[DagRun]) -> None:
    tables = {
        "features.user_session_features": "",
        "features.churn_labels": "",
        "serving.publications": "",
        "serving.predictions": "",
        "monitoring.drift_reports": " - 'reported_at'",
        "monitoring.retraining_decisions": " - 'decided_at' - 'dag_run_id'",
    }
    row = "(to_jsonb(t){without})::text"
    checksum = f"select '{{table}}', (select md5(string_agg({row}, '' order by {row})) from {{table}} as t)"
    query = " union all ".join(checksum.format(table=table, without=without) for table, without in tables.items())
    before = rows(query)
    demo.run_partition(airflow, SECOND, demo.quiet())
    assert rows(query) == before


def test_a_failure_names_dag_task_and_log_and_a_mistake_is_not_retried(
    airflow: AirflowApi, second: list[DagRun]
) -> None:
    airflow.trigger("churn_drift", None, "without_a_key")
    deadline = time.monotonic() + 60
    while (run := airflow.run("churn_drift", "without_a_key")).state not in DONE:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    with pytest.raises(SkewlessError, match="churn_drift failed") as error:
        demo.report(airflow, run, demo.quiet())
    message = str(error.value)
    assert "watch" in message
    log = Path(message.split("log: ")[1].split(")")[0])
    assert "attempt=1" in log.name
    assert "no partition key" in log.read_text()


def test_ctrl_c_leaves_no_process_behind(up: subprocess.Popen[str], second: list[DagRun]) -> None:
    children = psutil.Process(up.pid).children(recursive=True)
    services = stack.running()
    assert len(services) == 5
    up.send_signal(signal.SIGINT)
    assert up.wait(60) == 0
    _, alive = psutil.wait_procs([*children, *(p for s in services if (p := s.process()))], timeout=5)
    assert not alive
    assert environment.secret("admin_password") not in (stack.LOGS / "scheduler.log").read_text()
