"""What a drill does: computes a partition on the deployment, and does something to it meanwhile."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import requests

from features import settings
from features.errors import SkewlessError
from features.local import demo
from features.local.airflow_api import DONE, AirflowApi, DagRun
from features.partition import parse_as_of
from tests.deployment.compose_file import new_variables
from tests.deployment.pod import Pod, opened
from tests.drills import leap_day_history
from tests.drills.tables import SCHEMAS, differences
from tests.drills.undisturbed import Undisturbed, undisturbed
from tests.times import phase

MATERIALIZE = demo.CHAIN[0]
SERVICES = (
    "warehouse", "metadata-db", "redis", "init", "mlflow", "api-server", "scheduler", "dag-processor", "triggerer",
)  # fmt: skip
# A machine that tests has other things to do.
DRILL_SECONDS = 600
LOG_DISK = "48m"
# What takes minutes in production takes seconds here, by the settings that production has; more tries make up for it.
IMPATIENT = {
    "TASK_RETRIES": "6",
    "TASK_RETRY_SECONDS": "5",
    "TASK_LOST_AFTER_SECONDS": "25",
    "LOST_TASKS_SOUGHT_EVERY_SECONDS": "3",
    "SCHEDULER_LOST_AFTER_SECONDS": "15",
    "ORPHANED_TASKS_SOUGHT_EVERY_SECONDS": "5",
    "MLFLOW_RETRIES": "2",
}


class NotInTime(AssertionError):
    """Something that did not happen while it was waited for."""


class Drill:
    """A deployment to which things happen.

    Args:
        undisturbed: what is computed beside it, where nothing happens.
    """

    def __init__(self, pod: Pod, variables: Mapping[str, str], undisturbed: Undisturbed) -> None:
        self.pod, self.variables, self._undisturbed = pod, variables, undisturbed
        self._begun: list[str] = []
        self._api: AirflowApi | None = None
        with self.connect() as connection:
            for statement in leap_day_history.statements():
                connection.execute(statement)
        self.ask(demo.wait_for_dags)

    # What there is to ask

    def connect(self, server: str = "warehouse", database: str = "skewless") -> psycopg.Connection[Any]:
        """A connection of a server's first login."""
        login = {"warehouse": "skewless", "metadata-db": "airflow"}[server]
        return psycopg.connect(host=self.pod.socket_folder(server), user=login, dbname=database, autocommit=True)

    def rows(self, query: str, server: str = "warehouse", database: str = "skewless") -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self.connect(server, database) as connection:
            return connection.execute(query).fetchall()

    def ask(self, question: Callable[[AirflowApi], Any]) -> Any:
        """Asks Airflow, from within its network."""
        return self.pod.inside(lambda: question(self._airflow()))

    def _airflow(self) -> AirflowApi:
        if self._api is None:
            address = f"http://{self.pod.address('api-server')}:8080"
            self._api = AirflowApi(address, self.variables["ADMIN_PASSWORD"])
        return self._api

    def states(self, dag_id: str, run_id: str) -> dict[str, list[tuple[str, int]]]:
        """State and number of tries of each task of a run, all mapped ones together."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        found: dict[str, list[tuple[str, int]]] = {}
        for task in self.ask(lambda api: api.get(path, limit=100))["task_instances"]:
            found.setdefault(task["task_id"], []).append((task["state"], task["try_number"]))
        return found

    def tried_again(self, run: DagRun) -> list[str]:
        """The tasks of a run that needed more than one try."""
        states = self.states(run.dag_id, run.run_id)
        return [task for task, tries in states.items() if any(number > 1 for _, number in tries)]

    def task_log(self, run: DagRun, task_id: str, attempt: int) -> str:
        """What a try of a task logged."""
        place = f"dag_id={run.dag_id}/run_id={run.run_id}/task_id={task_id}/attempt={attempt}.log"
        path = self.pod.volume("airflow-logs") / place
        return path.read_text(errors="replace") if path.exists() else ""

    # What happens

    @phase("waiting for Dags")
    def until(self, condition: Callable[[], Any], what: str, seconds: float = DRILL_SECONDS, every: float = 0.3) -> Any:
        """Waits until something is so, while what crashed is started again as its restart policy has it.

        An Airflow that does not answer is asked again.

        Raises:
            NotInTime: saying what was waited for.
        """
        deadline = time.monotonic() + seconds
        said = ""
        while time.monotonic() < deadline:
            self.pod.revive()
            try:
                if found := condition():
                    return found
            except (requests.RequestException, SkewlessError, psycopg.OperationalError) as error:
                said, self._api = str(error), None
            time.sleep(every)
        raise NotInTime(f"{what} did not happen within {seconds} s. {said}\n{self.pod.end_of_log('scheduler')}")

    def begin(self, key: str) -> DagRun:
        """Starts a run of a partition's features."""
        run_id = f"drill__{key}__{datetime.now(UTC):%H%M%S%f}"

        def trigger() -> bool:
            self.ask(lambda api: api.trigger(MATERIALIZE, key, run_id))
            return True

        self.until(trigger, f"a run of {key}")
        self._begun.append(key)
        return DagRun(MATERIALIZE, run_id, "queued", key, 0.0)

    def begun_by_itself(self, *keys: str) -> None:
        """Partitions that something else than `begin` has begun."""
        self._begun += keys

    def run_of(self, dag_id: str, key: str) -> DagRun | None:
        """The newest run of a Dag for a partition."""
        found = [run for run in self.runs() if (run.dag_id, run.partition_key) == (dag_id, key)]
        return found[-1] if found else None

    def said(self, name: str, text: str) -> bool:
        """Whether a service has logged this."""
        return text in self.pod.log(name).read_text(errors="replace")

    def wait_for(self, run: DagRun, task_id: str, *states: str) -> None:
        """Waits until a task of a run is in one of these states."""
        self.until(
            lambda: any(state in states for state, _ in self.states(run.dag_id, run.run_id).get(task_id, [])),
            f"{task_id} of {run.run_id} being {' or '.join(states)}",
        )

    @contextmanager
    def holding(self, relation: str, waiting: str) -> Iterator[None]:
        """Lets nobody write to a table, from when it can until the block ends; begins when somebody waits for it.

        So that what happens, happens in the middle of a statement, however fast that is.

        Args:
            waiting: what the statement of whoever waits contains.
        """
        with self.connect() as connection, connection.transaction():
            connection.execute(f"lock table {relation} in exclusive mode")
            self.until(lambda: self._is_waiting(waiting), f"{waiting} waiting for {relation}")
            yield

    @contextmanager
    def writing(self, key: str) -> Iterator[DagRun]:
        """Begins a partition, whose feature models have written and cannot commit until the block ends."""
        run = self.begin(key)
        self.wait_for(run, "dbt.stg_session_events_model_build", "success")
        with self.holding("features.builds", "insert into features.builds"):
            yield run

    def _is_waiting(self, statement: str) -> bool:
        query = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and position(%s in query) > 0"
        with self.connect() as connection:
            return connection.execute(query, [statement]).fetchone() is not None

    def fill_disk(self, volume: str) -> Path:
        """Writes to a volume until nothing more fits. Returns the file that has to go for there to be room."""
        ballast = self.pod.volume(volume) / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        assert shutil.disk_usage(ballast.parent).free == 0
        return ballast

    def finish(self, *keys: str) -> list[DagRun]:
        """Waits until the chains of partitions are over; every run of theirs has to have succeeded."""
        for key in keys:
            self.until(partial(self._is_over, key), f"the end of {key}", every=1)
        runs = [run for run in self.runs() if run.partition_key in keys]
        assert {run.state for run in runs} == {"success"}, [run for run in runs if run.state != "success"]
        return runs

    def runs(self) -> list[DagRun]:
        """The newest runs, which those of a drill are; oldest first."""
        found = self.ask(lambda api: api.get("dags/~/dagRuns", order_by="-id", limit=100))["dag_runs"]
        fields = ("dag_id", "dag_run_id", "state", "partition_key", "duration")
        return [DagRun(*(run[name] for name in fields)) for run in reversed(found)]

    def _is_over(self, key: str) -> bool:
        runs = [run for run in self.runs() if run.partition_key == key]
        if any(run.state not in DONE for run in runs):
            return False
        if failed := [run for run in runs if run.state == "failed"]:
            told = "\n".join(line for run in failed for line in self.ask(partial(AirflowApi.failed_tasks, run=run)))
            raise NotInTime(f"{key} failed:\n{told}")
        return self.ask(lambda api: demo.is_over(api, runs))

    # What has to be true in the end

    def is_as_if_nothing_had_happened(self, only: Sequence[str] = tuple(SCHEMAS)) -> None:
        """Every table is what it is where the same partitions are computed, in the order in which they began.

        Args:
            only: the schemas and tables that have to be so.
        """
        self._compute_undisturbed()
        with self.connect() as ours, self._undisturbed.connect() as theirs:
            found = differences(ours, theirs)
        found = {table: rows for table, rows in found.items() if table in only or table.partition(".")[0] in only}
        assert not found, found
        self.nothing_is_published_twice()

    def _compute_undisturbed(self) -> None:
        for key in self._begun:
            self._undisturbed.compute(parse_as_of(key))
        self._begun.clear()

    def tables_that_differ_after(self, statement: str) -> set[str]:
        """What would be noticed of a change, which is undone."""
        self._compute_undisturbed()
        with self.connect() as ours, self._undisturbed.connect() as theirs, ours.transaction(force_rollback=True):
            ours.execute(statement)
            return set(differences(ours, theirs))

    def nothing_is_published_twice(self) -> None:
        """One publication of each view and instant, one of each view is live; one version of each training."""
        assert (
            self.rows(
                "select feature_view, as_of, count(*) from serving.publications group by 1, 2 having count(*) > 1"
            )
            == []
        )
        assert (
            self.rows(
                "select feature_view, count(*) from serving.publications where retired_at is null group by 1"
                " having count(*) <> 1"
            )
            == []
        )
        trained = "select value, count(*) from model_version_tags where key = 'as_of' group by 1 having count(*) > 1"
        assert self.rows(trained, "metadata-db", "mlflow") == []


@contextmanager
def deployed(folder: Path, manifest: Path, services: Sequence[str], **variables: str) -> Iterator[Drill]:
    """Services of docker-compose.yml, healthy, with a disk of their own for logs and a clock that can be set.

    Args:
        variables: of the .env.
    """
    schedules = ("SKEWLESS_DECAY_CRON", "SKEWLESS_SELF_TEST_CRON")
    values = {
        **new_variables(folder),
        **IMPATIENT,
        **dict.fromkeys(schedules, demo.NEVER),
        "SKEWLESS_MATERIALIZE_CRON": leap_day_history.CRON,
        **variables,
    }
    with (
        undisturbed(manifest, folder / "artifacts", values["SAMPLING_SALT"]) as reference,
        opened(settings.RUN_DIR / "pod", values, **{"airflow-logs": LOG_DISK}) as pod,
    ):
        pod.own_clock()
        pod.up(services)
        yield Drill(pod, values, reference)
