"""What happens to a deployment while it computes, and that nothing comes of it: with Celery, then with LocalExecutor.

Each drill computes an hour of its own, in which one thing goes wrong after the other. Afterwards every table is what it
is where nothing happened.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from features.local import demo
from features.partition import parse_as_of
from tests.deployment.pod import CELERY, LOCAL
from tests.drills.drill import MATERIALIZE, SERVICES, Drill, deployed
from tests.drills.leap_day_history import FIRST, LAST, hour

pytestmark = [pytest.mark.drills, pytest.mark.timeout(1800)]

# Where an hour's rows are the same whenever they are computed. What is live, and what was watched over days, is not.
OF_AN_HOUR = ["raw", "features", "training", "serving.predictions", "monitoring.inference_log"]
ONLINE = """
import os
from features import settings, warehouse
from features.contract import read_contract
from features.serving.store import FeatureStore

view = read_contract(settings.MANIFEST).feature_view("user_session_features")
with warehouse.connect() as connection:
    live = connection.execute("select * from serving.user_features").fetchall()
# A service would not wait for long on a busy machine, and ask PostgreSQL; here it is about what Redis has.
with FeatureStore(view, feature_version=None, redis_url=os.environ["REDIS_URL"], redis_timeout_seconds=30) as store:
    read = store.read_user_features_batch([row["user_id"] for row in live], at=live[0]["as_of"])
print({row.served_from for row in read}, live[0]["as_of"])
print(all(row.as_of == was["as_of"] and row.features.items() <= was.items() for row, was in zip(read, live)))
"""


@pytest.fixture(scope="module")
def drill(server: None, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    """The deployment, whose worker has computed the first hour and trained its first champion."""
    with deployed(tmp_path_factory.mktemp("drills"), manifest, (*SERVICES, "worker"), **CELERY) as made:
        made.begin(FIRST)
        made.finish(FIRST)
        yield made


def test_undisturbed_it_is_what_the_steps_give_one_by_one(drill: Drill) -> None:
    drill.is_as_if_nothing_had_happened()
    assert drill.rows("select model_version from monitoring.champions") == [("1",)]


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("update serving.publications set retired_at = now()", "serving.publications"),
        ("delete from monitoring.drift_reports where feature = 'session_count'", "monitoring.drift_reports"),
        ("delete from features.user_session_features where user_id = 'u001'", "features.user_session_features"),
        ("update raw.session_events set duration_seconds = 1 where event_id = 'e1-1'", "raw.session_events"),
    ],
)
def test_a_difference_would_be_seen(drill: Drill, statement: str, table: str) -> None:
    assert drill.tables_that_differ_after(statement) == {table}


def test_with_celery_its_broker_crashes_and_then_the_worker(drill: Drill) -> None:
    """Tasks run in a worker, and hear of their work through the broker; afterwards the scheduler runs them itself."""
    run = drill.begin(hour(1))
    drill.wait_for(run, "dbt.stg_session_events_model_build", "running")
    drill.pod.kill("redis")
    drill.wait_for(run, "dbt.stg_session_events_model_build", "success")
    with drill.holding("features.builds", "insert into features.builds"):
        drill.pod.kill("worker")
    drill.finish(hour(1))
    drill.is_as_if_nothing_had_happened()
    assert any("features_model_build" in task for task in drill.tried_again(run))
    assert drill.said("scheduler", "heartbeat")
    assert drill.said("worker", "Connection to broker lost")
    drill.pod.change_executor({**drill.variables, **LOCAL})


def test_each_store_is_away_when_it_is_wanted(drill: Drill) -> None:
    """The warehouse while models write, Redis at the push, MLflow at scoring, Airflow's database during the watch."""
    # The lock goes with its server.
    with suppress(psycopg.OperationalError), drill.writing(hour(2)) as run:
        drill.pod.kill("warehouse")
    drill.until(lambda: drill.rows("select 1"), "the warehouse's return")

    drill.pod.kill("redis")
    drill.pod.kill("mlflow")
    with drill.pod.left_alone():
        drill.wait_for(run, "push_online", "up_for_retry")
        pushed = drill.task_log(run, "push_online", 1)
        drill.pod.start("redis")
        scoring = drill.until(lambda: drill.run_of("churn_scoring", hour(2)), "scoring")
        drill.until(lambda: "Connection refused" in drill.task_log(scoring, "score", 1), "a word of it in the log")

    refused = 'connection to server at "metadata-db"'
    assert not drill.said("scheduler", refused)
    with drill.holding("monitoring.drift_reports", "delete from monitoring.drift_reports"), drill.pod.left_alone():
        drill.pod.kill("metadata-db")
        drill.until(lambda: drill.said("scheduler", refused), "a word of the scheduler's")

    drill.finish(hour(2))
    drill.is_as_if_nothing_had_happened()
    hit = [task for task in drill.tried_again(run) if task.startswith("dbt.")]
    assert hit
    for task in hit:
        assert "server closed the connection unexpectedly" in drill.task_log(run, task, 1)
    assert "NotPushed" in pushed
    assert "Connection refused" in pushed
    assert "/api/2.0/mlflow/registered-models/alias" in drill.task_log(scoring, "score", 1)
    online = drill.pod.run("cli", ["python", "-c", ONLINE]).stdout
    assert online.splitlines() == [f"{{'redis'}} {parse_as_of(hour(2))}", "True"]


def test_the_disk_of_the_logs_is_full_and_the_clock_is_wrong(drill: Drill) -> None:
    """No room while models write, then a clock that was fast while they try again; later a machine that slept."""
    with drill.writing(hour(3)) as run:
        ballast = drill.fill_disk("airflow-logs")
    drill.wait_for(run, "dbt.user_session_features_model_build", "up_for_retry")
    ballast.unlink()
    with drill.holding("features.builds", "insert into features.builds"):
        drill.pod.jump(drill.pod.jumped - 60)
    with drill.holding("serving.predictions", "into serving.predictions"):
        drill.pod.jump(drill.pod.jumped + 3 * 3600)
    drill.finish(hour(3))
    drill.is_as_if_nothing_had_happened()
    assert drill.said("scheduler", "No space left on device")


def test_two_schedulers_share_partitions_that_come_twice_and_out_of_order(drill: Drill) -> None:
    """The newer one is live already when the older one comes; then it comes again."""
    port = {"AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": "8975"}  # here they share one address
    drill.pod.scale("scheduler", "second", **port)
    drill.pod.start("second")
    drill.until(lambda: drill.said("second", "Starting the scheduler"), "a second scheduler")
    runs = [drill.begin(key) for key in (hour(5), hour(4), hour(5))]
    drill.finish(hour(4), hour(5))
    drill.pod.stop("second")
    drill.is_as_if_nothing_had_happened()
    names = ", ".join(f"'{run.run_id}'" for run in runs)
    query = f"select distinct hostname from task_instance where run_id in ({names})"
    assert sorted(drill.rows(query, "metadata-db", "airflow")) == [("scheduler",), ("second",)]
    assert [drill.tried_again(run) for run in runs] == [[], [], []]
    assert drill.rows(f"select as_of from serving.publications where as_of = '{hour(4)}Z'") == []


def test_the_deployment_dies_when_a_version_has_just_been_registered(drill: Drill) -> None:
    """The scheduler with all its tasks, in the moment between registering a model and saying where it comes from."""
    versions = "select count(*) from model_versions"
    drill.begin(LAST)
    drill.until(lambda: drill.rows(versions, "metadata-db", "mlflow") == [(2,)], "a second version")
    drill.pod.kill("scheduler")
    drill.finish(LAST)
    drill.is_as_if_nothing_had_happened()
    assert drill.rows(versions, "metadata-db", "mlflow") == [(2,)]
    assert drill.rows("select distinct status from runs", "metadata-db", "mlflow") == [("FINISHED",)]


def test_a_backfill_runs_beside_the_hourly_run(drill: Drill) -> None:
    """Older hours, two at a time, by the README's command, while a newer one is being computed.

    Then the schedule's own newest hour begins, which is years later: its source is stale, and it comes to nothing.
    """
    with drill.writing(hour(8)):
        command = ["airflow", "backfill", "create", "--dag-id", MATERIALIZE, "--max-active-runs", "2"]
        done = drill.pod.run("cli", [*command, "--from-date", hour(6), "--to-date", hour(7)])
        assert done.returncode == 0, done.stderr
        drill.until(lambda: drill.run_of(MATERIALIZE, hour(6)), "the backfill")
    drill.begun_by_itself(hour(6), hour(7))
    drill.finish(*map(hour, range(6, 9)))
    drill.is_as_if_nothing_had_happened(only=OF_AN_HOUR)
    assert set(demo.CHAIN[:-1]) == {run.dag_id for run in drill.runs() if run.partition_key == hour(6)}
