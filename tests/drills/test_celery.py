"""The same with CeleryExecutor: tasks run in a worker, and hear of their work through a broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drills.drill import Drill, deployed
from tests.drills.leap_day_history import FIRST, hour

pytestmark = [pytest.mark.drills, pytest.mark.timeout(1200)]

SERVICES = [
    "warehouse", "metadata-db", "redis", "init", "mlflow", "api-server", "scheduler", "dag-processor", "triggerer",
    "worker",
]  # fmt: skip


@pytest.fixture(scope="module")
def drill(server: None, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    """The deployment, which has computed the first hour."""
    folder = tmp_path_factory.mktemp("drills")
    with deployed(folder, manifest, SERVICES, AIRFLOW_EXECUTOR="CeleryExecutor") as made:
        made.begin(FIRST)
        made.finish(FIRST)
        yield made


def test_the_worker_is_killed_in_the_middle_of_a_model(drill: Drill) -> None:
    with drill.writing(hour(1)) as run:
        drill.pod.kill("worker")
    drill.finish(hour(1))
    drill.is_as_if_nothing_had_happened()
    hit = drill.tried_again(run)
    assert hit
    assert drill.said("scheduler", "heartbeat")


def test_the_broker_crashes_while_there_is_work(drill: Drill) -> None:
    run = drill.begin(hour(2))
    drill.wait_for(run, "dbt.stg_session_events_model_build", "running")
    drill.pod.kill("redis")
    drill.finish(hour(2))
    drill.is_as_if_nothing_had_happened()
    assert drill.said("worker", "Connection to broker lost")
