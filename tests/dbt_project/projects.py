"""Copies of the dbt project that a test may edit."""

import shutil
from pathlib import Path

from features import settings
from tests.dbt_project.running import folders_of


def copy_of_project(parent: Path) -> Path:
    """A copy of the dbt project; of what dbt wrote it has what was parsed for the warehouse in use, if that was."""
    ignored = shutil.ignore_patterns("target", "logs")
    project = Path(shutil.copytree(settings.DBT_PROJECT, parent / "dbt_project", ignore=ignored))
    parsed = (
        Path(folders_of(settings.DBT_PROJECT, settings.WAREHOUSE_DATABASE)["DBT_TARGET_PATH"]) / "partial_parse.msgpack"
    )
    if parsed.exists():
        (project / "target").mkdir()
        shutil.copy(parsed, project / "target")
    return project


def replace(path: Path, old: str, new: str) -> None:
    """Edits a file."""
    text = path.read_text()
    assert old in text, path
    path.write_text(text.replace(old, new))


def with_another_definition(parent: Path) -> Path:
    """A copy of the dbt project in which a week of user_session_features has two days."""
    project = copy_of_project(parent)
    replace(project / "models/features/user_session_features.sql", "in_last(days=7)", "in_last(days=2)")
    return project
