"""Adds "Feature health" to Airflow's menu, and a tab to every Dag run and task instance that opens the right page."""

import asyncio
from functools import cache
from typing import TYPE_CHECKING

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

NAME = "Feature health"
PREFIX = "/feature-health"
# Relative, so that it also works where Airflow is served under a path.
ROOT = f"{PREFIX.strip('/')}/"


class FirstAsked:
    """The application, imported when the first page is asked for.

    Airflow imports plugins in every process, and in that of each task; only the api-server has a use for the pages.
    """

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answers as the application does."""
        application = await asyncio.to_thread(_application)  # importing takes seconds, in which others are answered
        await application(scope, receive, send)


@cache
def _application() -> "FastAPI":
    from feature_health.app import app

    return app


APPS = [{"app": FirstAsked(), "url_prefix": PREFIX, "name": NAME}]
VIEWS = [
    {
        "name": NAME,
        "href": ROOT,
        "destination": "nav",
        "category": "browse",
        "url_route": "feature-health",
    },
    {
        "name": NAME,
        "href": f"{ROOT}run?dag_id={{DAG_ID}}&run_id={{RUN_ID}}",
        "destination": "dag_run",
        "url_route": "feature-health-of-run",
    },
    {
        "name": NAME,
        "href": f"{ROOT}task?dag_id={{DAG_ID}}&run_id={{RUN_ID}}&task_id={{TASK_ID}}&map_index={{MAP_INDEX}}",
        "destination": "task_instance",
        "url_route": "feature-health-of-task",
    },
]


class FeatureHealthPlugin(AirflowPlugin):
    """The pages, and where Airflow shows them."""

    name = "feature_health"
    fastapi_apps = APPS
    external_views = VIEWS
