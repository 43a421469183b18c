"""The services of docker-compose.yml side by side, from an empty folder: healthy, and good for the whole demo.

A password-protected PostgreSQL twice, over TCP; a real Redis, MLflow, Airflow. With LocalExecutor, then with Celery.
"""

import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from features import settings
from features.ingest import nycflights13
from features.local import demo
from tests.deployment.compose_file import SECRETS, new_variables
from tests.deployment.pod import CELERY, Pod, opened

# The demo is part of what the first test waits for, beside whatever else this machine does.
pytestmark = [pytest.mark.deployment, pytest.mark.timeout(1800)]

DEFAULT = [
    "warehouse",
    "metadata-db",
    "redis",
    "init",
    "mlflow",
    "api-server",
    "scheduler",
    "dag-processor",
    "triggerer",
]
STORY = [
    ("2013-07-02", "retrain"),
    ("2013-07-03", "hold"),
    ("2013-08-06", "retrain"),
    ("2013-11-05", "retrain"),
    ("2013-12-24", "hold"),
]
# One Dag once more, through whatever executes tasks now. That a worker computes what the scheduler does, a drill shows.
ONE_MORE = """
import os
from features.local import demo
from features.local.airflow_api import AirflowApi
api = AirflowApi(os.environ["AIRFLOW_API_URL"], os.environ["ADMIN_PASSWORD"])
demo.wait_for_dags(api)
run = demo.run_dag(api, "churn_scoring", "2013-12-24T00:00:00", demo.quiet())
print(run.dag_id, run.state)
"""
# Takes MLflow's tables back to those of the version before.
EARLIER_MLFLOW = """
import os
from pathlib import Path
import mlflow
from alembic import command
from alembic.config import Config
config = Config()
config.set_main_option("script_location", str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
config.set_main_option("sqlalchemy.url", os.environ["MLFLOW_BACKEND_STORE_URI"])
command.downgrade(config, "-1")
"""
PAGE = """
import os, requests
url = os.environ["AIRFLOW_API_URL"]
page = f"{url}/feature-health/overview.json"
print(requests.get(page).status_code)
login = {"username": "admin", "password": os.environ["ADMIN_PASSWORD"]}
token = requests.post(f"{url}/auth/token", json=login).json()["access_token"]
answer = requests.get(page, headers={"Authorization": f"Bearer {token}"})
print(answer.status_code, "user_session_features" in answer.text)
"""


class CommandLines:
    """What could be read from the process list while something ran."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "CommandLines":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(0.05):
            for process in psutil.process_iter(["cmdline"]):
                self.seen.add(" ".join(process.info["cmdline"] or []))


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `make secrets` writes, and that no hour of today is computed."""
    folder = tmp_path_factory.mktemp("deployment")
    schedules = ("SKEWLESS_MATERIALIZE_CRON", "SKEWLESS_DECAY_CRON", "SKEWLESS_SELF_TEST_CRON")
    hours = dict.fromkeys(schedules, demo.NEVER)
    events = nycflights13.session_events_file()
    return new_variables(folder) | hours | {"EVENTS_FOLDER": str(events.parent), "SERVICE_AT": "2013-12-24T01:00:00"}


@pytest.fixture(scope="module")
def command_lines() -> Iterator[CommandLines]:
    with CommandLines() as watched:
        yield watched


@pytest.fixture(scope="module")
def pod(variables: dict[str, str], command_lines: CommandLines) -> Iterator[Pod]:
    """`docker compose up --wait`."""
    with opened(settings.RUN_DIR / "pod", variables) as made:
        made.up(DEFAULT)
        yield made


@pytest.fixture(scope="module")
def story(pod: Pod) -> str:
    """`make demo-compose`: what it printed."""
    loaded = pod.run("loader", ["skewless", "load", nycflights13.SESSION_EVENTS])
    assert loaded.returncode == 0, loaded.stderr
    told = pod.run("cli", ["skewless", "demo", "--deployed"])
    assert told.returncode == 0, told.stdout + told.stderr + pod.end_of_log("scheduler")
    return told.stdout


@pytest.mark.parametrize("name", [name for name in DEFAULT if name != "init"])
def test_it_is_healthy(pod: Pod, name: str) -> None:
    assert pod.is_healthy(name)


def test_they_have_no_privileges(pod: Pod) -> None:
    for name in DEFAULT:
        if pid := pod.pid(name):
            status = Path(f"/proc/{pid}/status").read_text()
            assert re.search(r"^CapEff:\s+0+$", status, flags=re.MULTILINE)
            assert re.search(r"^CapBnd:\s+0+$", status, flags=re.MULTILINE)
            assert re.search(r"^NoNewPrivs:\s+1$", status, flags=re.MULTILINE)
            assert psutil.Process(pid).uids().real != 0


def test_the_whole_story_is_told(story: str) -> None:
    found = re.findall(r"(\d{4}-\d\d-\d\d) 00:00\S*\s+│\s+(retrain|hold)", story)
    assert found == STORY, story


def test_it_is_told_once(pod: Pod, story: str) -> None:
    again = pod.run("cli", ["skewless", "demo", "--deployed"])
    assert again.returncode == 1
    assert "This warehouse has been in use" in again.stderr


def test_feature_health_is_for_those_who_may_see_it(pod: Pod, story: str) -> None:
    """As api-server reads it, whose login may read nothing else."""
    assert pod.run("cli", ["python", "-c", PAGE]).stdout.split() == ["401", "200", "True"]


def test_a_service_predicts_from_redis_as_a_login_that_reads_features_only(pod: Pod, story: str) -> None:
    pod.start("service")
    pod.wait("service")
    ask = "import requests; print(requests.get('http://service:8000/predict/N14228').text)"
    said = pod.run("cli", ["python", "-c", ask]).stdout
    assert '"served_from":"redis"' in said.replace(" ", ""), said
    assert pod.signal("service", signal.SIGTERM) in {0, -signal.SIGTERM, 128 + signal.SIGTERM}


def test_preparing_again_changes_nothing(pod: Pod, story: str) -> None:
    before = dump(pod, "warehouse")
    again = pod.run("init", pod.services["init"].command)
    assert again.returncode == 0, again.stderr
    assert dump(pod, "warehouse") == before


def dump(pod: Pod, server: str, command: str = "pg_dumpall --no-role-passwords") -> str:
    """All that a server holds, as SQL; without what is random in a dump."""
    done = pod.execute(server, ["sh", "-c", f'{command} --host /var/run/postgresql --username "$POSTGRES_USER"'])
    assert done.stdout, done.stderr
    return re.sub(r"^\\(un)?restrict .*\n", "", done.stdout, flags=re.MULTILINE)


def test_the_registry_of_an_earlier_mlflow_is_brought_up_to_date(pod: Pod, story: str) -> None:
    before = dump(pod, "metadata-db", "pg_dump mlflow")
    pod.stop("mlflow")
    earlier = pod.run("mlflow", ["python", "-c", EARLIER_MLFLOW])
    assert earlier.returncode == 0, earlier.stderr
    assert dump(pod, "metadata-db", "pg_dump mlflow") != before
    upgraded = pod.run("init", pod.services["init"].command)
    assert upgraded.returncode == 0, upgraded.stderr
    assert dump(pod, "metadata-db", "pg_dump mlflow") == before
    pod.start("mlflow")
    pod.wait("mlflow")


def test_with_celery_a_worker_does_the_work(pod: Pod, story: str, variables: dict[str, str]) -> None:
    pod.change_executor({**variables, **CELERY})
    done = pod.run("cli", ["python", "-c", ONE_MORE])
    assert done.returncode == 0, done.stderr + pod.end_of_log("worker")
    assert "churn_scoring success" in done.stdout
    assert "churn_scoring" in pod.log("worker").read_text()


def test_no_secret_is_anywhere_but_where_it_belongs(
    pod: Pod, story: str, variables: dict[str, str], command_lines: CommandLines
) -> None:
    """Last: after everything. Not in a log, a process list, XCom, MLflow, nor in what a run leaves behind."""
    secrets = {variables[name]: name for name in SECRETS}
    places = {f"the output of {path.stem}": path.read_bytes() for path in pod.folder.glob("*.log")}
    for volume in ("airflow-logs", "manifest", "mlflow"):
        files = [path for path in pod.volume(volume).rglob("*") if path.is_file()]
        assert files or volume == "mlflow", volume
        places |= {f"{volume}/{path.name}": path.read_bytes() for path in files}
    places |= {server: dump(pod, server).encode() for server in ("warehouse", "metadata-db")}
    places["the process list"] = "\n".join(command_lines.seen).encode()
    assert b"airflow" in places["the process list"]
    assert b"xcom" in places["metadata-db"]
    assert b"dag_run" in places["metadata-db"]
    found = {
        (secrets[secret], place) for place, text in places.items() for secret in secrets if secret.encode() in text
    }
    assert found == set()


def test_what_is_stopped_is_not_healthy(pod: Pod, story: str) -> None:
    """The checks can fail: each service is frozen in turn."""
    for name in ("warehouse", "metadata-db", "redis", "mlflow"):
        pod.freeze(name)
        try:
            assert not pod.is_healthy(name), name
        finally:
            pod.thaw(name)
        pod.wait(name, 60)
