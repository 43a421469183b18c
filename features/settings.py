"""Where things are. Everything else about a deployment is in libpq's, MLflow's and Airflow's own variables."""

import os
import re
from pathlib import Path

from features.errors import SkewlessError

HOME = Path(os.environ.get("SKEWLESS_HOME", Path(__file__).resolve().parents[1]))
RUN_DIR = Path(os.environ.get("SKEWLESS_RUN_DIR", HOME / ".run"))
DBT_PROJECT = HOME / "dbt_project"
DAGS_FOLDER = HOME / "dags"
PLUGINS_FOLDER = HOME / "plugins"

EMBEDDED_POSTGRES = RUN_DIR / "postgres"

WAREHOUSE_DATABASE = os.environ.get("PGDATABASE", "skewless")
AIRFLOW_DATABASE = os.environ.get("SKEWLESS_AIRFLOW_DATABASE", f"{WAREHOUSE_DATABASE}_airflow")
MLFLOW_DATABASE = os.environ.get("SKEWLESS_MLFLOW_DATABASE", f"{WAREHOUSE_DATABASE}_mlflow")


# dbt's manifest, which the Dags and the contract read. Written by `make manifest`.
MANIFEST = Path(os.environ.get("SKEWLESS_MANIFEST", RUN_DIR / "dbt" / "target" / "manifest.json"))


def online_namespace() -> str:
    """What stands in front of every key in Redis, so that warehouses can share one."""
    return os.environ.get("SKEWLESS_ONLINE_NAMESPACE") or WAREHOUSE_DATABASE


# The Airflow pool of every task. Airflow's own has room for 128 at once; a deployment may name a smaller one.
POOL = os.environ.get("SKEWLESS_POOL", "default_pool")

# When materialize_features starts by itself. Feature rows for training assume what this says: hourly, on the hour.
MATERIALIZE_CRON = os.environ.get("SKEWLESS_MATERIALIZE_CRON", "0 * * * *")

# When it is measured how fast models age.
DECAY_CRON = os.environ.get("SKEWLESS_DECAY_CRON", "0 5 1 * *")

# When the drift monitor tests itself.
SELF_TEST_CRON = os.environ.get("SKEWLESS_SELF_TEST_CRON", "30 3 * * *")


def mlflow_ui() -> str | None:
    """Where a browser finds MLflow: SKEWLESS_MLFLOW_UI, else the tracking server, where it is one. None: nowhere."""
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    found = os.environ.get("SKEWLESS_MLFLOW_UI") or (tracking if tracking.startswith(("http://", "https://")) else "")
    return found.rstrip("/") or None


def retries() -> int:
    """How often a task is tried again: SKEWLESS_RETRIES, else twice."""
    return int(_number("SKEWLESS_RETRIES", "2", r"\d+", "a whole number"))


def retry_seconds() -> float:
    """After how many seconds a task is tried again: SKEWLESS_RETRY_SECONDS, else 30."""
    return float(_number("SKEWLESS_RETRY_SECONDS", "30", r"\d+(\.\d+)?", "a number"))


def _number(variable: str, default: str, pattern: str, what: str) -> str:
    text = os.environ.get(variable) or default
    if not re.fullmatch(pattern, text):
        raise SkewlessError(f"{variable} is '{text}', and has to be {what} of 0 or more, such as {variable}={default}.")
    return text
