"""A backup in containers, and what it brings back."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from features import settings
from tests.deployment.compose_file import new_variables
from tests.deployment.pod import Pod, opened

pytestmark = pytest.mark.deployment

EVENT = """
insert into raw.session_events (event_id, user_id, started_at, duration_seconds, ingested_at)
values ('a', 'u1', '2013-07-01 10:00+00', 60, '2013-07-01 11:00+00')
"""


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    """The databases, prepared; nothing that would hold a connection to them."""
    folder = tmp_path_factory.mktemp("deployment")
    backups = settings.RUN_DIR / "backups"
    shutil.rmtree(backups, ignore_errors=True)
    backups.mkdir(mode=0o700, parents=True)
    os.chown(backups, 50000, 0)
    with opened(settings.RUN_DIR / "pod", new_variables(folder) | {"BACKUP_FOLDER": str(backups)}) as made:
        made.up(["warehouse", "metadata-db", "redis", "init"])
        yield made


@pytest.fixture(scope="module")
def backed_up(pod: Pod) -> Path:
    """The folder of a backup with one event."""
    ask(pod, EVENT)
    done = pod.run("admin", ["skewless", "backup", "--to", "/backups/one"])
    assert done.returncode == 0, done.stderr
    return settings.RUN_DIR / "backups" / "one"


def ask(pod: Pod, statement: str) -> str:
    """What the warehouse's first login gets."""
    command = ["psql", "-h", "/var/run/postgresql", "-U", "skewless", "-At", "-c", statement, "skewless"]
    done = pod.execute("warehouse", command)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_was_lost_comes_back_and_everybody_may_do_what_they_could(pod: Pod, backed_up: Path) -> None:
    ask(pod, "truncate raw.session_events")
    restored = pod.run("admin", ["skewless", "restore", "--from", "/backups/one", "--replace"])
    assert restored.returncode == 0, restored.stderr
    assert ask(pod, "select event_id from raw.session_events") == "a"
    again = pod.run("init", pod.services["init"].command)
    assert again.returncode == 0, again.stderr
    assert pod.run("cli", ["skewless", "incidents"]).returncode == 0
    assert ask(pod, "select rolname from pg_roles where rolname = 'pipeline' and rolcanlogin") == "pipeline"


def test_a_backup_is_for_its_owner_only(backed_up: Path) -> None:
    files = list(backed_up.iterdir())
    assert {file.name for file in files} >= {"manifest.json", "warehouse.dump", "airflow.dump", "mlflow.dump"}
    assert {(file.stat().st_mode & 0o777, file.stat().st_uid) for file in files} == {(0o600, 50000)}


def test_there_is_no_secret_in_the_manifest(pod: Pod, backed_up: Path) -> None:
    text = (backed_up / "manifest.json").read_text()
    held = [value for name, value in pod.variables(pod.services["admin"]).items() if name.endswith("PASSWORD")]
    assert held
    assert [secret for secret in held if secret in text] == []
