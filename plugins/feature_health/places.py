"""From a Dag run or a task instance of Airflow to the page that says what it did."""

from dataclasses import dataclass, field
from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import RedirectResponse
from sqlalchemy import select

from feature_health import pages
from feature_health.links import Links
from feature_health.reader import Reader
from features.contract import Contract

router = APIRouter()

# What a Dag of a model is called, after the model's name and an underscore; and the page about what it does.
PAGES_OF_MODELS = {
    "scoring": "model",
    "inference": "model",
    "drift": "features",
    "drift_self_test": "features",
    "retraining": "retraining",
    "approval": "retraining",
    "decay_backtest": "retraining",
    "training": "model",
    "rollback": "model",
}
# Pages that can show one instant.
OF_AN_INSTANT = frozenset({"features", "retraining", "parity"})


@dataclass(frozen=True)
class Target:
    """A page and what its address says."""

    page: str
    parameters: dict[str, Any] = field(default_factory=dict)


@router.get("/run", dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.RUN))])
def run(request: Request, session: SessionDep, dag_id: str, run_id: str) -> RedirectResponse:
    """What a Dag run did."""
    return _to(request, _target(session, dag_id, run_id))


@router.get("/task", dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE))])
def task(
    request: Request, session: SessionDep, dag_id: str, run_id: str, task_id: str, map_index: str = "-1"
) -> RedirectResponse:
    """What a task instance did; of a mapped one, about which feature."""
    place = int(map_index) if map_index.lstrip("-").isdigit() else -1
    found = session.scalar(
        select(TaskInstance).where(
            TaskInstance.dag_id == dag_id,
            TaskInstance.run_id == run_id,
            TaskInstance.task_id == task_id,
            TaskInstance.map_index == place,
        )
    )
    subject = found.rendered_map_index if found is not None and place >= 0 else None
    return _to(request, _target(session, dag_id, run_id, task_id, subject))


def _target(session: Any, dag_id: str, run_id: str, task_id: str = "", subject: str | None = None) -> Target:
    as_of = session.scalar(select(DagRun.partition_key).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    target = target_of(pages.contract(), dag_id, as_of, task_id, subject)
    if target is None:
        raise HTTPException(404, f"{dag_id} is no Dag of Skewless, so there is nothing to say of its runs here.")
    return target


def _to(request: Request, target: Target) -> RedirectResponse:
    address = Links(Reader.of(request)).to(target.page, **target.parameters)
    as_of = target.parameters.get("as_of")
    return RedirectResponse(f"{address}#at-{as_of}" if as_of else address, 307)


def target_of(
    contract: Contract, dag_id: str, as_of: str | None, task_id: str = "", subject: str | None = None
) -> Target | None:
    """The page about a run or a task; None when the Dag is none of ours.

    Args:
        as_of: the run's partition key.
        task_id: empty for a whole run.
        subject: what a mapped task instance is about: a feature.
    """
    if dag_id in {"materialize_features", "rollback_features"}:
        named = next((view for view in contract.feature_views if view in task_id), pages.usual_view(contract))
        return Target("parity", {"view": named, "as_of": as_of})
    for model in contract.models:
        page = PAGES_OF_MODELS.get(dag_id.removeprefix(f"{model}_")) if dag_id.startswith(f"{model}_") else None
        if page is None:
            continue
        if page == "features" and subject:
            return Target("feature", {"model": model, "name": subject})
        return Target(page, {"model": model, "as_of": as_of if page in OF_AN_INSTANT else None})
    return None
