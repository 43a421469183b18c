"""Where a trained model comes from: which code, and which run of dbt."""

import os
import subprocess
from datetime import datetime

from features import settings, warehouse
from features.contract import FeatureView

UNKNOWN = "unknown"


def git_commit() -> str:
    """The commit that runs, marked when files were changed since; an image without git names it in
    SKEWLESS_GIT_COMMIT. `unknown` where nobody can tell."""
    if named := os.environ.get("SKEWLESS_GIT_COMMIT"):
        return named
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return UNKNOWN
    return f"{commit} and uncommitted changes" if _git("status", "--porcelain", "--untracked-files=no") else commit


def reviewers(commit: str) -> list[str]:
    """Who reviewed a commit, as the trailers `Reviewed-by` of its message say; nobody where git does not know it."""
    said = _git("show", "--no-patch", "--format=%(trailers:key=Reviewed-by,valueonly)", "--end-of-options", commit)
    return [line.strip() for line in (said or "").splitlines() if line.strip()]


def _git(*arguments: str) -> str | None:
    """What git says of the project; None when there is no git, or no repository."""
    command = ["git", "-C", str(settings.HOME), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)  # noqa: S603 - ours
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def dbt_invocation(connection: warehouse.Connection, view: FeatureView, version: str, as_of: datetime) -> str:
    """Which run of dbt computed the view last, at or before as_of."""
    row = connection.execute(
        "select dbt_invocation_id from features.builds where feature_view = %s and feature_version = %s"
        " and as_of <= %s and dbt_invocation_id is not null order by as_of desc limit 1",
        [view.name, version, as_of],
    ).fetchone()
    return str(row["dbt_invocation_id"]) if row else UNKNOWN
