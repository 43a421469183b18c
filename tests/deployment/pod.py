"""The services of docker-compose.yml without a container engine: each in namespaces of its own, as its container is.

They share a network of their own, in which a service's name is its address, and where only they are. Each sees the
machine's files read-only, with its own /tmp and its own volumes, runs as the user that the file names, without a
capability and without a way to get one. The command, the environment, the mounts and the health check are those of the
file, to the letter. Only what the image would bring comes from the checkout, and what the images of PostgreSQL and
Redis would bring from their packages.

Needs root and util-linux.
"""

import ctypes
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from features.local import postgres, redis
from tests import processes
from tests.deployment.compose_file import FILE, Service, load
from tests.places import ROOT
from tests.times import phase

Result = TypeVar("Result")

CLONE_NEWNET = 0x40000000
USERS = {"50000:0": (50000, 0), "postgres": (70001, 70001), "redis": (70002, 70002)}
POSTGRES_DATA = "/var/lib/postgresql/18/docker"
READY_SECONDS = 600
BYTECODE = ROOT / ".run" / "cache" / "bytecode-of-pods"
# What .env says of where tasks run: in processes of the scheduler's own, or in a worker.
LOCAL = {"AIRFLOW_EXECUTOR": "LocalExecutor", "COMPOSE_PROFILES": "warehouse,online"}
CELERY = {"AIRFLOW_EXECUTOR": "CeleryExecutor", "COMPOSE_PROFILES": "warehouse,online,celery"}
# What the network's hosts are called, each at a loopback address of its own.
ADDRESS = "127.0.1.{}"

# The root that every container begins with: this machine's files, with the checkout where the image has the project.
SET_UP = """
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$SCRATCH"
mkdir "$SCRATCH/upper" "$SCRATCH/work" "$SCRATCH/root" "$SCRATCH/volumes"
mount -t overlay overlay -o "lowerdir=/,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work" "$SCRATCH/root"
cd "$SCRATCH/root"
mount --rbind /dev dev
mount --rbind /sys sys
mount -t proc proc proc
mkdir -p "./$CHECKOUT" opt/skewless var/lib/skewless var/lib/postgresql var/lib/mlflow var/lib/dbt var/log/airflow \
    data events backups volumes run/postgresql
mount --rbind "$CHECKOUT" "./$CHECKOUT"
mount --rbind "$CHECKOUT" opt/skewless
mount --rbind "$SCRATCH/volumes" volumes
for disk in $DISKS; do
    install -d "volumes/${disk%%:*}"
    mount -t tmpfs -o "size=${disk##*:},uid=50000,mode=0775" tmpfs "volumes/${disk%%:*}"
done
install -d volumes/bytecode
mount --rbind "$BYTECODE" volumes/bytecode
install -d volumes/clock
rm -f etc/hosts
printf '%s' "$HOSTS" > etc/hosts
printf '%s\n' skewless:x:50000:0::/var/lib/skewless:/bin/sh database:x:70001:70001::/:/bin/sh >> etc/passwd
# Whose interpreter is in root's home: in the image it is where everybody finds it.
for folder in $ABOVE_PYTHON; do chmod a+x ".$folder"; done
ip link set lo up
exec chroot . sleep infinity
"""


class Failed(AssertionError):
    """A service that ended or did not become healthy, with the end of its log."""


class Pod:
    """The network and the machine that services share.

    Args:
        folder: for logs; on a short path.
        services: by name, as docker-compose.yml declares them.
        image: the variables that the image sets.
        disks: volumes that have a disk of their own, and its size.
    """

    def __init__(
        self, folder: Path, services: Mapping[str, Service], image: Mapping[str, str], disks: Mapping[str, str]
    ) -> None:
        self.folder, self.services, self._image = folder, services, image
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._inside: ThreadPoolExecutor | None = None
        self._clock: dict[str, str] = {}
        self._is_left_alone = False
        self.jumped = 0
        folder.mkdir(parents=True)
        (folder / "scratch").mkdir()
        # Kept from pod to pod, and for the next run; whoever a service runs as writes to it.
        BYTECODE.mkdir(parents=True, exist_ok=True)
        BYTECODE.chmod(0o777)
        hosts = ["127.0.0.1 localhost"]
        hosts += [f"{ADDRESS.format(number)} {name}" for number, name in enumerate(services, start=1)]
        self._addresses = {line.split()[1]: line.split()[0] for line in hosts}
        self._init = self._spawn_init("\n".join(hosts) + "\n", disks)

    def _spawn_init(self, hosts: str, disks: Mapping[str, str]) -> subprocess.Popen[bytes]:
        env = {
            "PATH": os.environ["PATH"],
            "SCRATCH": str(self.folder / "scratch"),
            "CHECKOUT": str(ROOT),
            "BYTECODE": str(BYTECODE),
            "HOSTS": hosts,
            "DISKS": " ".join(f"{name}:{size}" for name, size in disks.items()),
            "ABOVE_PYTHON": " ".join(str(folder) for folder in Path(sys.executable).resolve().parents if folder.name),
        }
        namespaces = ["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
        command = ["unshare", *namespaces, "sh", "-c", SET_UP]
        with (self.folder / "pod.log").open("wb") as log:
            init = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert init.poll() is None, (self.folder / "pod.log").read_text()
            if any("sleep" in line for line in processes.each(processes.children(init.pid), psutil.Process.cmdline)):
                return init
            time.sleep(0.05)
        raise Failed("the pod did not start")

    def close(self) -> None:
        """Ends everything in it, whatever it is doing."""
        if self._inside:
            self._inside.shutdown()
        self._init.kill()  # its child goes with it, and with that everything in its process namespace
        self._init.wait(20)
        for process in self._running.values():
            process.wait(20)
        shutil.rmtree(self.folder / "scratch")

    # Services

    def start(self, name: str) -> None:
        """Starts a service; it need not be healthy yet."""
        service = self.services[name]
        command = service.command
        if service.declared["image"].startswith("postgres:"):
            self._create_cluster(service)
            command = [*command, "-D", POSTGRES_DATA, "-c", f"listen_addresses={self._addresses[name]}"]
            command += ["-c", "unix_socket_directories=/var/run/postgresql"]
        if name == "redis":
            bound = f"redis-server /tmp/redis.conf --bind {self._addresses[name]} 127.0.0.1"
            command = [part.replace("redis-server /tmp/redis.conf", bound) for part in command]
        command, env = self._enter(service, command), self.variables(service)
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @phase("services of the pod start")
    def up(self, names: Sequence[str]) -> None:
        """Starts services in the order of their dependencies, as `docker compose up --wait` does."""
        left = [name for name in self.services if name in names]
        while left:
            ready = [name for name in left if all(self._is_met(*each) for each in self._dependencies(name))]
            assert ready, f"nothing can start: {left}"
            for name in ready:
                self.start(name)
            for name in ready:
                self.wait(name)
            left = [name for name in left if name not in ready]

    def _dependencies(self, name: str) -> list[tuple[str, str]]:
        depends = self.services[name].declared.get("depends_on", {})
        return [(other, wanted["condition"]) for other, wanted in depends.items()]

    def _is_met(self, other: str, condition: str) -> bool:
        process = self._running.get(other)
        if process is None:
            return False
        return process.poll() == 0 if condition == "service_completed_successfully" else process.poll() is None

    def wait(self, name: str, seconds: float = READY_SECONDS) -> None:
        """Waits until a service is healthy; until it has ended, when it is one that does.

        Raises:
            Failed: with the end of its log.
        """
        deadline = time.monotonic() + seconds
        ends = self.services[name].health is None
        while time.monotonic() < deadline:
            code = self._running[name].poll()
            if ends and code == 0:
                return
            if code is not None:
                raise Failed(f"{name} ended with {code}:\n{self.end_of_log(name)}")
            if not ends and self.is_healthy(name):
                return
            time.sleep(0.5)
        raise Failed(f"{name} is not healthy after {seconds} s:\n{self.end_of_log(name)}")

    def is_healthy(self, name: str) -> bool:
        """What the file's own check says, in the time that it has."""
        health = self.services[name].health
        assert health is not None
        seconds = int(self.services[name].declared["healthcheck"]["timeout"].removesuffix("s"))
        # Two services have the same port, and what is local to a container is at its address here.
        command = [part.replace("127.0.0.1", self._addresses[name]) for part in health]
        try:
            return self.execute(name, command, seconds).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def freeze(self, name: str) -> None:
        """Stops a service without ending it, as a machine that has no time for it does."""
        list(processes.each(self._processes(name), psutil.Process.suspend))

    def thaw(self, name: str) -> None:
        """Lets a frozen service go on. Who started it stopped as well, as a shell's job does."""
        list(processes.each(self._processes(name), psutil.Process.resume))
        psutil.Process(self._running[name].pid).resume()

    def _processes(self, name: str) -> list[psutil.Process]:
        pid = self.pid(name)
        assert pid is not None, f"{name} does not run"
        return processes.family(pid)

    def execute(
        self, name: str, command: Sequence[str], timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in a running service, as `docker compose exec` does.

        Args:
            timeout: in seconds, after which it raises subprocess.TimeoutExpired.
        """
        pid = self.pid(name)
        if pid is None:
            return subprocess.CompletedProcess([], 1, "", "it does not run")
        service = self.services[name]
        enter = ["nsenter", "--target", str(pid), "--net", "--mount", "--pid", "--uts", "--root", "--wd"]
        return self._run([*enter, *self._as_user(service), *command], service, timeout)

    def run(self, name: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Runs a command as a service of its own, as `docker compose run --rm` does."""
        service = self.services[name]
        return self._run(self._enter(service, command), service)

    def _run(
        self, command: Sequence[str], service: Service, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        env = self.variables(service)
        return subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        )

    def pid(self, name: str) -> int | None:
        """The service's process, as this machine counts."""
        process = self._running.get(name)
        if process is None or process.poll() is not None:
            return None
        started = processes.children(process.pid)
        return started[0].pid if started else None

    def signal(self, name: str, number: int) -> int:
        """Sends a signal to a service and waits for its end. Returns how it ended."""
        pid = self.pid(name)
        assert pid is not None, f"{name} does not run"
        os.kill(pid, number)
        return self._running[name].wait(120)

    def kill(self, name: str) -> None:
        """Ends a container as a machine that fails does: all of it at once, and nothing is told beforehand."""
        pid = self.pid(name)
        assert pid is not None, f"{name} does not run"
        own = os.readlink(f"/proc/{pid}/ns/mnt")
        while inside := [each for each in psutil.pids() if _mounts_of(each) == own]:
            for each in inside:
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            time.sleep(0.02)
        self._running[name].wait(20)

    def stop(self, name: str) -> None:
        """Stops a container for good, as `docker stop` does."""
        self.signal(name, signal.SIGTERM)
        del self._running[name]

    def change_executor(self, variables: Mapping[str, str]) -> None:
        """Stops what runs tasks, and starts what runs them with these variables of .env."""
        for name in {"scheduler", "worker"} & set(self._running):
            self.stop(name)
        self.services = load(FILE, variables)
        names = ["scheduler", "worker"] if CELERY.items() <= variables.items() else ["scheduler"]
        for name in names:
            self.start(name)
        for name in names:
            self.wait(name)

    @contextmanager
    def left_alone(self) -> Iterator[None]:
        """Until the block ends, what has ended stays so."""
        self._is_left_alone = True
        try:
            yield
        finally:
            self._is_left_alone = False

    def revive(self) -> None:
        """Starts again what has ended although it should run, as its restart policy has it."""
        if self._is_left_alone:
            return
        ended = [
            name
            for name, process in self._running.items()
            if process.poll() is not None and self.services[name].declared["restart"] == "unless-stopped"
        ]
        for name in ended:
            self.start(name)

    def own_clock(self) -> None:
        """Gives what starts from now on a clock of the pod's own, which `jump` sets."""
        folder = self.volume("clock")
        source, library = Path(__file__).with_name("clock.c"), folder / "clock.so"
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        self.jump(0)
        self._clock = {"LD_PRELOAD": "/volumes/clock/clock.so", "POD_CLOCK": "/volumes/clock/seconds"}

    def jump(self, seconds: int) -> None:
        """Sets that clock so far off the machine's, for all that has it."""
        path = self.volume("clock") / "seconds"
        path.touch()
        with path.open("r+b") as file:  # others have it in their memory, so that it must not be cut off
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))
        self.jumped = seconds

    def scale(self, name: str, second: str, **variables: str) -> None:
        """Declares another container of a service, as `docker compose up --scale` does, under a name of its own."""
        declared = dict(self.services[name].declared)
        declared["environment"] = {**self.services[name].environment, **variables}
        self.services = {**self.services, second: replace(self.services[name], name=second, declared=declared)}

    def inside(self, work: Callable[[], Result]) -> Result:
        """Does something in the network that the services share; everything else stays where it is."""
        if self._inside is None:
            self._inside = ThreadPoolExecutor(max_workers=1, initializer=self._enter_network)
        return self._inside.submit(work).result()

    def _enter_network(self) -> None:
        """Moves the thread that calls it, and no other."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(f"/proc/{self._root()}/ns/net").open() as network:
            if libc.setns(network.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def address(self, name: str) -> str:
        """The address of a service in that network, whose names only its services know."""
        return self._addresses[name]

    def socket_folder(self, name: str) -> str:
        """Where a PostgreSQL's socket is, as this machine sees it; who comes this way is trusted."""
        return f"/proc/{self.pid(name)}/root/run/postgresql"  # /var/run is a link, which would lead out

    def log(self, name: str) -> Path:
        """Where its output goes."""
        return self.folder / f"{name}.log"

    def end_of_log(self, name: str) -> str:
        """The last lines of its output."""
        return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-40:])

    def volume(self, name: str) -> Path:
        """The folder of a volume, as this machine sees it."""
        return Path(f"/proc/{self._root()}/root/volumes/{name}")

    def _root(self) -> int:
        """The process whose namespaces every container begins with."""
        return psutil.Process(self._init.pid).children()[0].pid

    def variables(self, service: Service) -> dict[str, str]:
        """A service's whole environment."""
        programs = f"{postgres.psql().parent}:{_redis_programs()}"
        path = f"/opt/skewless/.venv/bin:{programs}:/usr/local/bin:/usr/bin:/bin"
        # The image has bytecode beside its sources; here the first process that needs a module compiles it for all.
        here = {"PATH": path, "PYTHONPYCACHEPREFIX": "/volumes/bytecode", "PYTHONDONTWRITEBYTECODE": ""}
        return {**self._image, **here, **self._clock, **service.environment}

    # Their containers

    def _enter(self, service: Service, command: Sequence[str]) -> list[str]:
        """The command line that puts a command into a container of its own."""
        folder = service.declared.get("working_dir", "/")
        inside = f'{self._mounts(service)}\ncd {shlex.quote(folder)}\nexec "$@"'
        return [
            "nsenter", "--target", str(self._root()), "--net", "--mount", "--pid", "--uts", "--ipc", "--root", "--wd",
            "unshare", "--mount", "--uts", "sh", "-euc", inside, "sh", *self._as_user(service), *command,
        ]  # fmt: skip

    def _mounts(self, service: Service) -> str:
        uid, gid = USERS[service.declared["user"]]
        lines = ["mount --make-rprivate /", f"hostname {service.name}"]
        # As root, and so with the rights of the image's folder: what a container engine does with a new volume.
        for target, source in service.mounts.items():
            path, _, mode = target.partition(":")
            if source.startswith(("/", ".")):
                lines.append(f"mount --rbind {shlex.quote(str((ROOT / source).resolve()))} {path}")
            else:
                lines.append(f"[ -d /volumes/{source} ] || install -d -o {uid} -g {gid} -m 0775 /volumes/{source}")
                lines.append(f"mount --bind /volumes/{source} {path}")
            if mode == "ro":
                lines.append(f"mount -o remount,bind,ro {path}")
        lines += ["mount -o remount,bind,ro /"] if service.declared["read_only"] else []
        for wanted in service.declared.get("tmpfs", []):
            path, _, options = wanted.partition(":")
            lines.append(f"mount -t tmpfs {f'-o {options}' if options else '-o mode=1777'} tmpfs {path}")
            if str(ROOT).startswith(f"{path}/"):  # a checkout in /tmp, whose path is in the scripts of its .venv
                lines.append(f"mkdir -p {ROOT}; mount --rbind /opt/skewless {ROOT}")
        return "\n".join(lines)

    def _as_user(self, service: Service) -> list[str]:
        uid, gid = USERS[service.declared["user"]]
        assert service.declared["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service.declared["security_opt"]
        return [
            "setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs", "--bounding-set=-all",
            "--inh-caps=-all", "--ambient-caps=-all",
        ]  # fmt: skip

    def _create_cluster(self, service: Service) -> None:
        """What the image of PostgreSQL does at its first start."""
        variables = service.environment
        script = f"""
            [ -s {POSTGRES_DATA}/PG_VERSION ] && exit 0
            printf '%s' "$POSTGRES_PASSWORD" > /tmp/password
            initdb -D {POSTGRES_DATA} -U "$POSTGRES_USER" --pwfile /tmp/password --auth-local=trust -E UTF8 --no-sync \
                --auth-host="$POSTGRES_HOST_AUTH_METHOD" > /tmp/initdb.log 2>&1 || {{ cat /tmp/initdb.log; exit 1; }}
            echo 'host all all all {variables["POSTGRES_HOST_AUTH_METHOD"]}' >> {POSTGRES_DATA}/pg_hba.conf
            [ "$POSTGRES_DB" = postgres ] ||
                echo "create database \\"$POSTGRES_DB\\"" | postgres --single -D {POSTGRES_DATA} postgres > /dev/null
        """
        done = self.run(service.name, ["sh", "-euc", script])
        if done.returncode:
            raise Failed(f"{service.name}: {done.stdout}{done.stderr}")


def _mounts_of(pid: int) -> str | None:
    """The mount namespace of a process; None when it has ended meanwhile."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return None


@contextmanager
def opened(folder: Path, variables: Mapping[str, str], **disks: str) -> Iterator[Pod]:
    """A pod for the services of docker-compose.yml, none of which runs yet; all of them end with it.

    Args:
        variables: what stands in .env.
        disks: as for Pod.
    """
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.fail("these tests make namespaces, which needs root and util-linux")
    shutil.rmtree(folder, ignore_errors=True)
    image = image_variables((ROOT / "Dockerfile").read_text())
    pod = Pod(folder, load(FILE, variables), image, disks)
    try:
        yield pod
    finally:
        pod.close()


def _redis_programs() -> Path:
    program = redis.program()
    assert program is not None, "the package of Redis is not there"
    return program.parent


def image_variables(dockerfile: str) -> dict[str, str]:
    """The variables that the last stage of a Dockerfile sets."""
    stage = re.split(r"^FROM .*$", dockerfile, flags=re.MULTILINE)[-1]
    without_comments = "\n".join(line for line in stage.splitlines() if not line.lstrip().startswith("#"))
    joined = without_comments.replace("\\\n", " ")
    found: dict[str, str] = {}
    for line in re.findall(r"^ENV (.*)$", joined, flags=re.MULTILINE):
        found |= dict(part.split("=", 1) for part in shlex.split(line))
    return {name: value for name, value in found.items() if "$" not in value}
