"""Three ways to run dbt: as a process of its own, in this process, or to compute models at an instant."""

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from features import settings
from features.local import environment


def dbt(
    arguments: Sequence[str],
    database: str,
    *,
    as_of: str | None = None,
    project: Path = settings.DBT_PROJECT,
    expect_failure: bool = False,
) -> str:
    """Runs dbt as a process of its own on a database of the test server, and gives what it printed."""
    env = {**os.environ, **environment.dbt(), "PGDATABASE": database}
    if project != settings.DBT_PROJECT:
        env |= {"DBT_PROJECT_DIR": str(project), "DBT_PROFILES_DIR": str(project)}
        env |= {"DBT_TARGET_PATH": str(project / "target"), "DBT_LOG_PATH": str(project / "logs")}
    if as_of:
        env["SKEWLESS_AS_OF"] = as_of
    command = [str(Path(sys.executable).with_name("dbt")), "--no-use-colors", *arguments]
    done = subprocess.run(command, env=env, cwd=project, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert (done.returncode != 0) == expect_failure, output
    return output


def dbt_in_this_process(arguments: Sequence[str], project: Path) -> Any:
    """Runs dbt without waiting for a process of its own to start, and gives its result."""
    from dbt.cli.main import dbtRunner

    folders = ["--project-dir", project, "--profiles-dir", project]
    folders += ["--target-path", project / "target", "--log-path", project / "logs"]
    return dbtRunner().invoke([*arguments, "--quiet", *map(str, folders)])


def run_dbt(as_of: datetime, *models: str, project: Path = settings.DBT_PROJECT) -> None:
    """`dbt run` at an instant, of all models or of some, in this process and on the warehouse in use."""
    from dbt.cli.main import dbtRunner

    folders = environment.dbt()
    if project != settings.DBT_PROJECT:
        folders |= {"DBT_TARGET_PATH": str(project / "target"), "DBT_LOG_PATH": str(project / "logs")}
    command = ["run", "--quiet", "--project-dir", str(project), "--profiles-dir", str(project)]
    command += ["--target-path", folders["DBT_TARGET_PATH"], "--log-path", folders["DBT_LOG_PATH"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SKEWLESS_AS_OF", as_of.isoformat())
        done = dbtRunner().invoke([*command, *(["--select", *models] if models else [])])
    assert done.success, done.exception or [(result.node.name, result.message) for result in done.result]
