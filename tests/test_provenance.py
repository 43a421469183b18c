"""Who reviewed a commit is what its message says."""

import subprocess
from pathlib import Path

import pytest

from features import provenance, settings

pytestmark = pytest.mark.starts

MESSAGE = """A feature more

It counts long sessions.

Reviewed-by: Ada Lovelace <ada@example.com>
Signed-off-by: Grace Hopper <grace@example.com>
Reviewed-by: Mary Somerville <mary@example.com>
"""


@pytest.fixture
def commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The only commit of a repository that is the project."""
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com"}
    who |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com"}
    for name, value in who.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(settings, "HOME", tmp_path)
    for command in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message", MESSAGE]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    return provenance.git_commit()


def test_its_trailers_name_them(commit: str) -> None:
    assert len(commit) == 40
    assert provenance.reviewers(commit) == [
        "Ada Lovelace <ada@example.com>",
        "Mary Somerville <mary@example.com>",
    ]


@pytest.mark.parametrize("unknown", [provenance.UNKNOWN, "0" * 40, "--output=file", "HEAD and uncommitted changes"])
def test_of_what_git_does_not_know_nobody(commit: str, unknown: str, tmp_path: Path) -> None:
    assert provenance.reviewers(unknown) == []
    assert [path.name for path in tmp_path.iterdir()] == [".git"]
