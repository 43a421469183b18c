"""Airflow and MLflow as local processes: started together, watched, and stopped together, with nothing left behind."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import requests

from features import settings
from features.errors import SkewlessError
from features.local import environment

STATE = settings.RUN_DIR / "stack.json"
LOGS = settings.RUN_DIR / "logs"
START_TIMEOUT_SECONDS = 180
STOP_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Service:
    """A process we started. `started` tells it from a later process that got the same number."""

    name: str
    pid: int
    started: float

    def process(self) -> psutil.Process | None:
        """The process, or None when it is gone or only its entry is left."""
        try:
            found = psutil.Process(self.pid)
            is_ours = abs(found.create_time() - self.started) < 2
            return found if is_ours and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return LOGS / f"{self.name}.log"


def airflow_url() -> str:
    """Airflow's UI."""
    return f"http://127.0.0.1:{environment.airflow_port()}"


def mlflow_url() -> str:
    """MLflow's UI."""
    return f"http://127.0.0.1:{environment.mlflow_port()}"


def prepare() -> None:
    """Brings Airflow's and MLflow's databases up to date, writes the login, and parses the dbt project.

    Raises:
        SkewlessError: with the output of the step that failed.
    """
    from features.migrations import create_database

    create_database(settings.AIRFLOW_DATABASE)
    create_database(settings.MLFLOW_DATABASE)
    environment.write_login()
    # Side by side: each spends its time importing.
    steps = {
        "dbt parse": [str(Path(sys.executable).with_name("dbt")), "parse", "--quiet"],
        "airflow db migrate": [sys.executable, "-m", "airflow", "db", "migrate"],
        "prepare the model registry": [sys.executable, "-c", "from features import tracking; tracking.prepare()"],
    }
    run_side_by_side(steps)


def run_side_by_side(steps: dict[str, list[str]]) -> None:
    """Runs commands at once; the first that fails is reported with the end of its output."""
    LOGS.mkdir(parents=True, exist_ok=True)
    env = {**environment.everything(), **environment.dbt()}
    running = []
    for name, command in steps.items():
        path = LOGS / f"{name.replace(' ', '_')}.log"
        with path.open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - our own commands
                command, env=env, stdout=log, stderr=subprocess.STDOUT, cwd=settings.HOME
            )
            running.append((name, path, process))
    for name, path, process in running:
        if process.wait():
            raise SkewlessError(f"`{name}` failed:\n{end_of(path)}")


def end_of(log: Path) -> str:
    """The last lines of a log, and where all of it is."""
    return "\n".join([*log.read_text(errors="replace").splitlines()[-15:], f"All of it: {log}"])


def start(*, with_mlflow: bool, extra: Mapping[str, str] | None = None) -> list[Service]:
    """Starts Airflow, and MLflow's server if wanted, and waits until Airflow is healthy.

    Args:
        extra: environment variables for the services beside the usual ones.

    Raises:
        SkewlessError: when it already runs, a port is taken, or a service dies while starting.
    """
    refuse_if_running()
    _check_ports(with_mlflow)
    LOGS.mkdir(parents=True, exist_ok=True)
    airflow = [sys.executable, "-m", "airflow"]
    # Nothing serves logs on a port of its own: the api-server reads the files.
    commands = {name: [*airflow, name] for name in ("api-server", "dag-processor")}
    commands["scheduler"] = [sys.executable, "-m", "features.preloaded", "scheduler", "--skip-serve-logs"]
    if with_mlflow:
        commands["triggerer"] = [*airflow, "triggerer", "--skip-serve-logs"]
        commands["mlflow"] = _mlflow_command()
    services = [spawn(name, command, extra or {}) for name, command in commands.items()]
    STATE.write_text(json.dumps([asdict(service) for service in services]))
    try:
        _wait_until_healthy(services, with_mlflow)
    except BaseException:
        stop()
        raise
    return services


def refuse_if_running() -> None:
    """Raises when this checkout's Airflow runs; two at a time would share one home."""
    if running():
        raise SkewlessError(f"Airflow is running in this checkout, at {airflow_url()}. Stop it with `make down`.")


def running() -> list[Service]:
    """The services of this checkout that are alive."""
    if not STATE.exists():
        return []
    return [service for service in (Service(**row) for row in json.loads(STATE.read_text())) if service.process()]


def stop() -> list[str]:
    """Stops every service and whatever it started. Returns the names of those that were running."""
    with _undisturbed():
        return _stop()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not leave half of them running; stopping takes STOP_TIMEOUT_SECONDS at most."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop() -> list[str]:
    services = running()
    end(services)
    STATE.unlink(missing_ok=True)
    return [service.name for service in services]


def end(services: Iterable[Service]) -> None:
    """Ends services and whatever they started: asks them to, and after STOP_TIMEOUT_SECONDS makes them."""
    mains = [process for service in services if (process := service.process())]
    # Looked up before the parents go: an orphan cannot be found by its parent any more.
    everyone = mains + [child for process in mains for child in _children(process)]
    for process in mains:
        _signal(process, "terminate")
    _, alive = psutil.wait_procs(everyone, timeout=STOP_TIMEOUT_SECONDS)
    for process in alive:
        _signal(process, "kill")
    psutil.wait_procs(alive, timeout=5)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _signal(process: psutil.Process, method: str) -> None:
    try:
        getattr(process, method)()
    except psutil.NoSuchProcess:
        return  # it went by itself, which is what we wanted


def spawn(name: str, command: list[str], extra: Mapping[str, str]) -> Service:
    """Starts a command in the usual environment.

    Args:
        name: of the service and its log.
        extra: environment variables beside the usual ones, or instead of them.
    """
    with (LOGS / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own commands
            command,
            env={**environment.everything(), **extra},
            cwd=settings.RUN_DIR,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us alone, and we stop them in order
        )
    return Service(name, process.pid, psutil.Process(process.pid).create_time())


def _mlflow_command() -> list[str]:
    return [
        sys.executable, "-m", "mlflow", "server",
        "--backend-store-uri", environment.tools()["MLFLOW_TRACKING_URI"],
        "--artifacts-destination", environment.ARTIFACTS.as_uri(),
        "--host", "127.0.0.1", "--port", str(environment.mlflow_port()), "--workers", "1",
    ]  # fmt: skip


def _check_ports(with_mlflow: bool) -> None:
    wanted = {environment.airflow_port(): "AIRFLOW_PORT"}
    if with_mlflow:
        wanted[environment.mlflow_port()] = "MLFLOW_PORT"
    for number, variable in wanted.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", number))
            except OSError:
                example = 18080 if variable == "AIRFLOW_PORT" else 15000
                raise SkewlessError(
                    f"Port {number} on 127.0.0.1 is in use. Choose another: make up {variable}={example}"
                ) from None


def _wait_until_healthy(services: Iterable[Service], with_mlflow: bool) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        for service in services:
            if service.process() is None:
                raise SkewlessError(f"{service.name} stopped while starting:\n{end_of(service.log)}")
        if _is_healthy() and (not with_mlflow or answers(f"{mlflow_url()}/health")):
            return
        time.sleep(0.5)
    raise SkewlessError(f"Airflow is not healthy after {START_TIMEOUT_SECONDS} s; the logs are in {LOGS}.")


def _is_healthy() -> bool:
    try:
        health = requests.get(f"{airflow_url()}/api/v2/monitor/health", timeout=5).json()
    except (requests.ConnectionError, requests.Timeout, requests.JSONDecodeError):
        return False
    return all(health[name]["status"] == "healthy" for name in ("metadatabase", "scheduler", "dag_processor"))


def answers(url: str) -> bool:
    """Whether something answers there, and approves."""
    try:
        return requests.get(url, timeout=5).ok
    except (requests.ConnectionError, requests.Timeout):
        return False
