"""A small client of the running Airflow's REST API: trigger a partition and follow what it sets off."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from features.errors import SkewlessError
from features.local import environment, stack

DONE = frozenset({"success", "failed"})


@dataclass(frozen=True)
class DagRun:
    """One run of a Dag for a partition."""

    dag_id: str
    run_id: str
    state: str
    partition_key: str | None
    seconds: float


class AirflowApi:
    """Speaks to an Airflow as admin; by default to this checkout's."""

    def __init__(self, url: str | None = None, password: str | None = None) -> None:
        url = url or stack.airflow_url()
        self._url = f"{url}/api/v2"
        self._session = requests.Session()
        login = {"username": "admin", "password": password or environment.secret("admin_password")}
        try:
            answer = self._session.post(f"{url}/auth/token", json=login, timeout=30)
            answer.raise_for_status()
        except requests.RequestException as error:
            raise SkewlessError(f"Airflow at {url} does not let admin in: {error}.") from error
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def get(self, path: str, **parameters: Any) -> Any:
        """GET under /api/v2."""
        answer = self._session.get(f"{self._url}/{path}", params=parameters, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def dags(self) -> dict[str, bool]:
        """Every Dag that was parsed, and whether it is paused."""
        return {dag["dag_id"]: dag["is_paused"] for dag in self.get("dags", limit=100)["dags"]}

    def import_errors(self) -> list[str]:
        """What Airflow could not parse."""
        return [f"{error['filename']}: {error['stack_trace']}" for error in self.get("importErrors")["import_errors"]]

    def set_paused(self, dag_id: str, paused: bool) -> None:
        """Pauses a Dag, or lets it run."""
        self._patch(f"dags/{dag_id}", {"is_paused": paused})

    def answer(self, run: DagRun, task_id: str, option: str) -> None:
        """Answers the question that a task of a run asks a person."""
        path = f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/-1/hitlDetails"
        self._patch(path, {"chosen_options": [option], "params_input": {}})

    def _patch(self, path: str, body: Mapping[str, Any]) -> None:
        answer = self._session.patch(f"{self._url}/{path}", json=body, timeout=30)
        answer.raise_for_status()

    def trigger(
        self, dag_id: str, partition_key: str | None, run_id: str, conf: Mapping[str, Any] | None = None
    ) -> None:
        """Starts a run, of a partition unless the key is None.

        Args:
            conf: values of the Dag's params.

        Raises:
            SkewlessError: with Airflow's answer when it refuses.
        """
        body = {"dag_run_id": run_id, "logical_date": None, "partition_key": partition_key, "conf": dict(conf or {})}
        answer = self._session.post(f"{self._url}/dags/{dag_id}/dagRuns", json=body, timeout=30)
        if not answer.ok:
            raise SkewlessError(f"Airflow refused to run {dag_id} for {partition_key}: {answer.text}")

    def runs(self, partition_key: str, since: str) -> list[DagRun]:
        """The runs of a partition that were queued at or after `since`, oldest first."""
        found = self.get("dags/~/dagRuns", order_by="id", limit=100, run_after_gte=since)["dag_runs"]
        return [_dag_run(run) for run in found if run["partition_key"] == partition_key]

    def run(self, dag_id: str, run_id: str) -> DagRun:
        """One run as it is now."""
        return _dag_run(self.get(f"dags/{dag_id}/dagRuns/{run_id}"))

    def failed_tasks(self, run: DagRun) -> list[str]:
        """The failed tasks of a run, each with the place of its log."""
        tasks = self.get(f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances", limit=100)["task_instances"]
        logs = os.environ.get("AIRFLOW__LOGGING__BASE_LOG_FOLDER") or environment.AIRFLOW_HOME / "logs"
        return [
            f"{task['task_id']} (log: {logs}/dag_id={run.dag_id}/run_id={run.run_id}/task_id={task['task_id']}/"
            + (f"map_index={task['map_index']}/" if task["map_index"] >= 0 else "")
            + f"attempt={task['try_number']}.log)"
            for task in tasks
            if task["state"] == "failed"
        ]

    def task_states(self, run: DagRun) -> dict[str, str]:
        """State by task of a run."""
        tasks = self.get(f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances", limit=100)["task_instances"]
        return {task["task_id"]: task["state"] for task in tasks}


def _dag_run(run: dict[str, Any]) -> DagRun:
    return DagRun(run["dag_id"], run["dag_run_id"], run["state"], run["partition_key"], run["duration"] or 0.0)
