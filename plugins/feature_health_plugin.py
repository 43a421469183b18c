"""Adds "Feature health" to Airflow's menu, and a tab to every Dag run and task instance that opens the right page."""

from airflow.plugins_manager import AirflowPlugin

from feature_health.app import PREFIX, app

NAME = "Feature health"
# Relative, so that it also works where Airflow is served under a path.
ROOT = f"{PREFIX.strip('/')}/"


APPS = [{"app": app, "url_prefix": PREFIX, "name": NAME}]
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
