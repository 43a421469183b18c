"""`skewless init`: everything that has to be there before the services start. It may run as often as one likes.

What has a password gets the one that its variable names, so that a changed secret is taken over by running it again.
"""

import os
import subprocess
import sys
from collections.abc import Callable

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from features import warehouse
from features.errors import SkewlessError, first_line
from features.local import environment
from features.migrations import migrate
from features.roles import ensure_login, set_password

# Who logs in to the warehouse, as what. The password of each is in the variable NAME_PASSWORD.
LOGINS = {
    "pipeline": ["transformer", "trainer"],  # Airflow's tasks
    "health": ["monitor_reader"],  # Airflow's api-server, for the pages of Feature health
    "ingest": ["loader"],
    "service": ["serving_reader", "feature_server"],
}
METADATA = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
REGISTRY = "mlflow"
AIRFLOW_TIMEOUT_SECONDS = 600

Tell = Callable[[str], None]


def initialise(tell: Tell) -> None:
    """Brings the warehouse, the registry, Airflow's metadata and dbt's manifest up to date.

    Args:
        tell: is told what is done, step by step.

    Raises:
        SkewlessError: naming the variable that is missing, or with the output of the step that failed.
    """
    passwords = {name: required(f"{name.upper()}_PASSWORD") for name in (*LOGINS, REGISTRY, "admin")}
    migrate()
    tell(f"The warehouse's tables are up to date ({warehouse.host()}).")
    with warehouse.connect() as connection:
        for name, roles in LOGINS.items():
            ensure_login(connection, name, roles, passwords[name])
    tell("Logins: " + ", ".join(f"{name} ({', '.join(roles)})" for name, roles in LOGINS.items()) + ".")
    _ensure_registry(passwords[REGISTRY])
    _run([sys.executable, "-c", "from features import tracking; tracking.prepare()"], _registry(passwords[REGISTRY]))
    tell("The registry's tables are up to date.")
    _run([sys.executable, "-m", "airflow", "db", "migrate"])
    _run([sys.executable, "-m", "features.deployment.airflow_metadata"])
    tell("Airflow's tables are up to date; pool, connection and admin are there.")
    _run(["dbt", "parse", "--quiet"], environment.dbt())
    tell("dbt's manifest is written.")


def required(variable: str) -> str:
    """The value of an environment variable.

    Raises:
        SkewlessError: when it is not set.
    """
    value = os.environ.get(variable)
    if not value:
        raise SkewlessError(
            f"{variable} is not set. docker-compose.yml sets it, from what `make secrets` wrote to .env."
        )
    return value


def _ensure_registry(password: str) -> None:
    """MLflow's database and its owner, beside Airflow's metadata."""
    url = make_url(required(METADATA))
    login, database = sql.Identifier(REGISTRY), sql.Identifier(REGISTRY)
    try:
        address = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(address, autocommit=True) as connection:
            set_password(connection, REGISTRY, password)
            if not connection.execute("select 1 from pg_database where datname = %s", [REGISTRY]).fetchone():
                connection.execute(sql.SQL("grant {} to current_user").format(login))
                connection.execute(sql.SQL("create database {} owner {}").format(database, login))
    except psycopg.Error as error:
        raise SkewlessError(
            f"The registry's database on {url.host} cannot be prepared: {first_line(error)}. Check {METADATA}."
        ) from error


def _registry(password: str) -> dict[str, str]:
    """Where the registry's database is, for its owner."""
    url = make_url(required(METADATA)).set(
        drivername="postgresql+psycopg2", username=REGISTRY, password=password, database=REGISTRY
    )
    return {"MLFLOW_TRACKING_URI": url.render_as_string(hide_password=False)}


def _run(command: list[str], extra: dict[str, str] | None = None) -> None:
    done = subprocess.run(  # noqa: S603 - our own commands
        command,
        env={**os.environ, **(extra or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=AIRFLOW_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise SkewlessError(f"{' '.join(command[-3:])} failed:\n{said}")
