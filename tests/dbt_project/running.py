"""Ways to run dbt without waiting for a process of its own to start, which takes longer than most of what dbt does."""

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from features import settings
from features.local import environment
from tests.databases import AS_OF
from tests.times import phase


def folders_of(project: Path, database: str) -> dict[str, str]:
    """dbt's variables for its folders.

    What it has parsed holds for one database only, so that each has a folder of its own and is parsed for once.
    """
    own = project if project != settings.DBT_PROJECT else settings.RUN_DIR / "dbt" / database
    return {
        "DBT_PROJECT_DIR": str(project),
        "DBT_PROFILES_DIR": str(project),
        "DBT_TARGET_PATH": str(own / "target"),
        "DBT_LOG_PATH": str(own / "logs"),
    }


@phase("dbt")
def invoke(arguments: Sequence[str]) -> Any:
    """Runs dbt in this process, with this process's variables; gives dbt's result."""
    from dbt.cli.main import dbtRunner
    from dbt_common.behavior_flags import BehaviorFlagRendered

    with pytest.MonkeyPatch.context() as patch:
        # Which module asked for a flag is only told in a warning. To find out takes dbt a third of a short run, since
        # it reads the source of everything that calls it.
        patch.setattr(BehaviorFlagRendered, "_default_source", staticmethod(lambda: "dbt.adapters"))
        return dbtRunner().invoke([*arguments])


def _invoke(arguments: Sequence[str], project: Path, database: str, as_of: str | None) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**folders_of(project, database), "PGDATABASE": database}.items():
            patch.setenv(name, value)
        patch.setenv("SKEWLESS_AS_OF", as_of) if as_of else patch.delenv("SKEWLESS_AS_OF", raising=False)
        return invoke(arguments)


def dbt(
    arguments: Sequence[str],
    database: str,
    *,
    as_of: str | None = None,
    project: Path = settings.DBT_PROJECT,
    expect_failure: bool = False,
) -> str:
    """Runs dbt on a database of the test server, as its command line does but in this process.

    Returns:
        what it printed, and the error that it ended with.
    """
    printed = io.StringIO()
    with redirect_stdout(printed):
        done = _invoke(["--no-use-colors", *arguments], project, database, as_of)
    output = f"{printed.getvalue()}{done.exception or ''}"
    assert done.success != expect_failure, output
    return output


def start_dbt(
    arguments: Sequence[str], database: str, as_of: str = AS_OF, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts dbt in a process group of its own, with folders of its own: to run two at once, or to kill one.

    Args:
        env: variables that it has beside the usual ones.
    """
    target = tempfile.mkdtemp(prefix="dbt-", dir=settings.RUN_DIR)
    variables = {**os.environ, **environment.dbt(), **(env or {}), "PGDATABASE": database, "SKEWLESS_AS_OF": as_of}
    variables |= {"DBT_TARGET_PATH": target, "DBT_LOG_PATH": target}
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("dbt")), "--quiet", *arguments],
        env=variables,
        cwd=settings.DBT_PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def dbt_in_this_process(arguments: Sequence[str], project: Path) -> Any:
    """Runs dbt on a copy of the project, and gives its result."""
    folders = ["--project-dir", project, "--profiles-dir", project]
    folders += ["--target-path", project / "target", "--log-path", project / "logs"]
    return invoke([*arguments, "--quiet", *map(str, folders)])


def run_dbt(as_of: datetime, *models: str, project: Path = settings.DBT_PROJECT) -> None:
    """`dbt run` at an instant, of all models or of some, on the warehouse in use."""
    command = ["run", "--quiet", "--no-write-json", *(["--select", *models] if models else [])]
    done = _invoke(command, project, settings.WAREHOUSE_DATABASE, as_of.isoformat())
    assert done.success, done.exception or [(result.node.name, result.message) for result in done.result]
