"""The environment that every local process runs in, so that Airflow, dbt, MLflow and psql agree on where things are.

Addresses of databases carry no password: libpq's variables (PGHOST, PGPASSWORD, ...) are in the environment, and every
driver in use reads them.
"""

import json
import os
import secrets
import sys
from pathlib import Path

from features import settings, warehouse
from features.local import redis

AIRFLOW_HOME = settings.RUN_DIR / "airflow"
ARTIFACTS = Path(os.environ.get("SKEWLESS_ARTIFACTS", settings.RUN_DIR / "mlflow" / "artifacts"))
CACHES = settings.RUN_DIR / "cache"
# How long Airflow waits, in seconds; a variable that is set already stays as it is.
AIRFLOW_WAITS = {
    # Parsing all Dags takes seconds of a core, and what they are made of changes with dbt's manifest only.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "180",
    # After how long the tasks of a scheduler that is gone are run again.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "90",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "60",
}
# Bytes; Airflow signs tokens by an algorithm that wants as many.
LENGTHS = {"jwt_secret": 64}


def airflow_port() -> int:
    """Where Airflow's UI and API listen."""
    return int(os.environ.get("AIRFLOW_PORT", "8080"))


def mlflow_port() -> int:
    """Where MLflow's UI listens."""
    return int(os.environ.get("MLFLOW_PORT", "5000"))


def postgres() -> dict[str, str]:
    """libpq's variables for the warehouse."""
    return {
        "PGHOST": warehouse.host(),
        "PGPORT": os.environ.get("PGPORT", "5432"),
        "PGUSER": warehouse.user(),
        "PGDATABASE": settings.WAREHOUSE_DATABASE,
    }


def online() -> dict[str, str]:
    """Where online reads go: REDIS_URL, when there is a Redis."""
    url = redis.url()
    return {"REDIS_URL": url} if url else {}


def dbt() -> dict[str, str]:
    """For dbt run by hand. Airflow's tasks go without: there each dbt process has folders of its own."""
    return {
        "DBT_PROJECT_DIR": str(settings.DBT_PROJECT),
        "DBT_PROFILES_DIR": str(settings.DBT_PROJECT),
        "DBT_TARGET_PATH": str(settings.MANIFEST.parent),
        "DBT_LOG_PATH": str(settings.RUN_DIR / "dbt" / "logs"),
    }


def tools() -> dict[str, str]:
    """Where MLflow and others keep what they write, all of it under .run/."""
    return {
        "SKEWLESS_HOME": str(settings.HOME),
        "SKEWLESS_RUN_DIR": str(settings.RUN_DIR),
        "MLFLOW_TRACKING_URI": os.environ.get(
            "MLFLOW_TRACKING_URI", f"postgresql+psycopg2:///{settings.MLFLOW_DATABASE}"
        ),
        "SKEWLESS_MLFLOW_UI": os.environ.get("SKEWLESS_MLFLOW_UI", f"http://127.0.0.1:{mlflow_port()}"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # in a log, each step of it is a line
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes for evaluations of LLMs
        "SKEWLESS_ARTIFACTS": str(ARTIFACTS),
        # Threads that wait give their core to whatever else runs here, instead of spinning on it.
        "OMP_WAIT_POLICY": "PASSIVE",
        "MPLCONFIGDIR": str(CACHES / "matplotlib"),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(CACHES / "hypothesis"),
        "PYTHONPYCACHEPREFIX": os.environ.get("PYTHONPYCACHEPREFIX", str(CACHES / "python")),
    }


def airflow() -> dict[str, str]:
    """Airflow's settings: PostgreSQL metadata, LocalExecutor, everything on loopback."""
    port = airflow_port()
    api = f"http://127.0.0.1:{port}"
    return {
        "AIRFLOW_HOME": str(AIRFLOW_HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(settings.DAGS_FOLDER),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(settings.PLUGINS_FOLDER),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": os.environ.get("AIRFLOW__CORE__PARALLELISM", "4"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{api}/execution/",
        **{name: os.environ.get(name) or seconds for name, seconds in AIRFLOW_WAITS.items()},
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(AIRFLOW_HOME / "passwords.json"),
        "AIRFLOW__CORE__FERNET_KEY": secret("fernet_key"),
        "AIRFLOW__API_AUTH__JWT_SECRET": secret("jwt_secret"),
        "AIRFLOW__API__SECRET_KEY": secret("api_secret_key"),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": api,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2:///{settings.AIRFLOW_DATABASE}",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg:///{settings.AIRFLOW_DATABASE}",
        "AIRFLOW__COSMOS__CACHE_DIR": str(CACHES / "cosmos"),
        "AIRFLOW__COSMOS__ENABLE_TELEMETRY": "False",
        "AIRFLOW__COSMOS__ENABLE_MEMORY_OPTIMISED_IMPORTS": "True",
        "AIRFLOW_CONN_WAREHOUSE": json.dumps({
            "conn_type": "postgres",
            "host": warehouse.host(),
            "port": int(os.environ.get("PGPORT", "5432")),
            "login": warehouse.user(),
            "password": os.environ.get("PGPASSWORD", ""),
            "schema": settings.WAREHOUSE_DATABASE,
        }),
    }


def everything() -> dict[str, str]:
    """The whole environment of Airflow, MLflow and what they start."""
    temporary = settings.RUN_DIR / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, **postgres(), **online(), **tools(), **airflow(), "TMPDIR": str(temporary), "PATH": path}


def secret(name: str) -> str:
    """A secret of this checkout, made once and readable by its owner only."""
    path = settings.RUN_DIR / "secrets" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_private(path, _fernet_key() if name == "fernet_key" else secrets.token_urlsafe(LENGTHS.get(name, 16)))
    return path.read_text()


def write_login() -> None:
    """Writes the file in which Airflow's SimpleAuthManager keeps the password of `admin`."""
    path = AIRFLOW_HOME / "passwords.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_private(path, json.dumps({"admin": secret("admin_password")}))


def _fernet_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
