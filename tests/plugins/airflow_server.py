"""A real Airflow api-server with the project's plugins, as `make up` starts it, on a database of a test's choice."""

import json
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from features import settings
from features.local import environment, stack
from features.migrations import create_database
from tests.times import phase

USERS = {"admin": "admin", "viewer": "viewer"}
METADATA_DATABASE = "skewless_health_airflow"
START_TIMEOUT_SECONDS = 600
PREFIX = "feature-health"


@dataclass(frozen=True)
class ApiServer:
    """A running server.

    Attributes:
        url: its origin.
        log: where its output goes.
    """

    url: str
    log: Path

    def page(self, path: str) -> str:
        """The address of a page of the plugin, as the iframe loads it."""
        return f"{self.url}/{PREFIX}/{path}"

    def token(self, user: str) -> str:
        """A bearer token of a user."""
        login = {"username": user, "password": password(user)}
        answer = requests.post(f"{self.url}/auth/token", json=login, timeout=30)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def session(self, user: str | None, *, by_cookie: bool = False) -> requests.Session:
        """Requests of a user, or of nobody.

        Args:
            by_cookie: as the UI's pages make them, and not with a bearer token.
        """
        session = requests.Session()
        if user and by_cookie:
            session.cookies.set("_token", self.token(user))
        elif user:
            session.headers["Authorization"] = f"Bearer {self.token(user)}"
        return session


def password(user: str) -> str:
    """What a user logs in with."""
    return f"{user}-password"


def prepare() -> None:
    """Airflow's own tables, in a database of the test server.

    Raises:
        SkewlessError: with what `airflow db migrate` said.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "AIRFLOW_DATABASE", METADATA_DATABASE)
        patch.setattr(environment, "AIRFLOW_HOME", _home())
        create_database(METADATA_DATABASE)
        stack.run_side_by_side({"airflow db migrate": [sys.executable, "-m", "airflow", "db", "migrate"]})


@contextmanager
def api_server(name: str, database: str, manifest: Path) -> Iterator[ApiServer]:
    """Serves a warehouse database and a manifest for as long as its block runs. `prepare` comes first.

    Args:
        name: of its log.

    Raises:
        AssertionError: with the end of its log when it does not start, or has died by the end.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "WAREHOUSE_DATABASE", database)
        patch.setattr(settings, "AIRFLOW_DATABASE", METADATA_DATABASE)
        patch.setattr(environment, "AIRFLOW_HOME", _home())
        patch.setenv("AIRFLOW_PORT", str(_free_port()))
        url = stack.airflow_url()
        service = stack.spawn(name, [sys.executable, "-m", "airflow", "api-server"], _variables(manifest))
    try:
        _wait_for(service, url)
        yield ApiServer(url, service.log)
        assert service.process(), f"{name} has died:\n{stack.end_of(service.log)}"
    finally:
        stack.end([service])


def _home() -> Path:
    return settings.RUN_DIR / "health"


def _variables(manifest: Path) -> Mapping[str, str]:
    passwords = _home() / "passwords.json"
    passwords.parent.mkdir(parents=True, exist_ok=True)
    passwords.write_text(json.dumps({user: password(user) for user in USERS}))
    return {
        "SKEWLESS_MANIFEST": str(manifest),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@phase("Airflow starts")
def _wait_for(service: stack.Service, url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not stack.answers(f"{url}/api/v2/version"):
        assert service.process(), f"{service.name} stopped while starting:\n{stack.end_of(service.log)}"
        assert time.monotonic() < deadline, f"{service.name} does not answer:\n{stack.end_of(service.log)}"
        time.sleep(0.3)
