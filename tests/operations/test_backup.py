"""Backup and restore: everything is lost, and everything comes back; whatever goes wrong, nothing is half done."""

import json
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from features import settings, warehouse
from features.contract import Model
from features.errors import SkewlessError
from features.operations import databases
from features.operations.backup import back_up
from features.operations.databases import all_databases
from features.operations.restore import restore
from features.serving.redis import Layout, Pointer, connect
from features.steps.publish import publish
from features.steps.push_online import push_online
from tests.databases import execute, rows
from tests.operations.deployment import Deployment, deployment, scores
from tests.steps.small_warehouse import EARLIER, LATER, live

pytestmark = pytest.mark.operations

NOW = datetime(2026, 7, 14, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def deployed(
    server: None, manifest: Path, churn: Model, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with deployment(tmp_path_factory.mktemp("deployed"), manifest, churn) as made:
        yield made


@pytest.fixture(scope="module")
def backup(deployed: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup, made as a person makes it."""
    folder = tmp_path_factory.mktemp("backups") / "first"
    deployed.skewless("backup", "--to", folder)
    return folder


@pytest.fixture
def copied(backup: Path, tmp_path: Path) -> Path:
    """A copy of the backup that a test may damage."""
    return Path(shutil.copytree(backup, tmp_path / "copied"))


@pytest.fixture
def unchanged(deployed: Deployment) -> Iterator[None]:
    """Checks that a test left databases and files as they were."""
    before = (deployed.picture(), deployed.files(), names())
    yield
    assert (deployed.picture(), deployed.files(), names()) == before


def names() -> set[str]:
    with warehouse.connect("postgres") as connection:
        return {row["datname"] for row in connection.execute("select datname from pg_database")}


def reproduced(deployed: Deployment, path: Path) -> bytes:
    ((extract,),) = rows("select extract_id from training.extracts")
    deployed.skewless("reproduce", extract, "-o", path)
    return path.read_bytes()


def connection_password(deployed: Deployment) -> str:
    done = deployed.run(
        sys.executable,
        "-m",
        "airflow",
        "connections",
        "get",
        "post",
        "-o",
        "json",
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
    )
    assert done.returncode == 0, done.stderr
    found: str = json.loads(done.stdout[done.stdout.index("[") :])[0]["password"]
    return found


# Everything is lost, and comes back


@pytest.fixture(scope="module")
def told(deployed: Deployment, backup: Path, churn: Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What there was, and what there is once all of it was destroyed and restored."""
    folder = tmp_path_factory.mktemp("reproduced")

    def look(name: str) -> dict[str, Any]:
        return {
            "picture": deployed.picture(),
            "files": deployed.files(),
            "scores": scores(churn),
            "extract": reproduced(deployed, folder / name),
            "password": connection_password(deployed),
        }

    before = look("before.csv")
    deployed.destroy()
    assert not {"skewless_ops", "skewless_ops_mlflow", "skewless_ops_airflow"} & names()
    said = deployed.skewless("restore", "--from", backup)
    return {"before": before, "after": look("after.csv"), "said": said}


@pytest.mark.parametrize("kind", ["warehouse", "mlflow", "airflow"])
def test_every_row_grant_owner_function_index_and_sequence_comes_back(told: dict[str, Any], kind: str) -> None:
    before, after = told["before"]["picture"][kind], told["after"]["picture"][kind]
    assert set(after) == set(before)
    assert {name for name in before if before[name] != after[name]} == set()
    assert len(before) > 40


def test_the_champion_loads_and_scores_as_before(told: dict[str, Any]) -> None:
    assert told["after"]["files"] == told["before"]["files"]
    assert told["after"]["scores"] == told["before"]["scores"]


def test_an_extract_is_reproduced_byte_for_byte(told: dict[str, Any]) -> None:
    assert told["after"]["extract"] == told["before"]["extract"]
    assert len(told["after"]["extract"].splitlines()) > 10


def test_airflow_decrypts_its_connections(told: dict[str, Any]) -> None:
    assert told["after"]["password"] == told["before"]["password"] == "hush-hush"


def test_a_sequence_goes_on_where_it_was(told: dict[str, Any]) -> None:
    assert rows("insert into added.notes (note) values ('one more') returning note_id") == [(42,)]


def test_who_could_log_in_is_named(told: dict[str, Any]) -> None:
    assert "Could log in before, and cannot now: ops_reader." in told["said"]


def test_nothing_else_is_left(told: dict[str, Any], deployed: Deployment) -> None:
    assert not [name for name in names() if name.endswith(("_restoring", "_replaced"))]
    assert not [name for name in deployed.files() if name.startswith(".")]


# What a backup is


def test_a_backup_is_its_owners_alone(backup: Path) -> None:
    assert stat.S_IMODE(backup.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in backup.iterdir()} == {0o600}


def test_its_manifest_says_what_is_in_it(backup: Path) -> None:
    manifest = json.loads((backup / "manifest.json").read_text())
    assert set(manifest["databases"]) == {"warehouse", "mlflow", "airflow"}
    of_warehouse = manifest["databases"]["warehouse"]
    assert (of_warehouse["server_version"], of_warehouse["rows"]["raw.session_events"]) == (18, 720)
    assert of_warehouse["revision"] == max(
        path.name[:4] for path in (settings.HOME / "features/migrations/versions").glob("0*")
    )
    assert {path.name for path in backup.iterdir()} == {*manifest["files"], "manifest.json"}
    assert set(manifest["files"]) == {"warehouse.dump", "mlflow.dump", "airflow.dump", "artefacts.tar"}


def test_what_is_written_meanwhile_is_not_in_it(
    deployed: Deployment, told: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dumping = databases.run

    def write_first(tool: str, database: databases.Database, *arguments: str) -> None:
        if database.kind == "warehouse":
            execute("insert into added.notes (note) values ('too late')")
        dumping(tool, database, *arguments)

    monkeypatch.setattr("features.operations.backup.run", write_first)
    made = back_up(tmp_path / "b", all_databases(), deployed.artefacts, NOW)
    monkeypatch.undo()
    before = rows("select count(*) from added.notes")
    restore(tmp_path / "b", all_databases(), deployed.artefacts, replace=True)
    assert rows("select count(*) from added.notes") == [(before[0][0] - 1,)]
    assert made.databases["warehouse"].rows["added.notes"] == before[0][0] - 1


def test_files_that_mlflow_keeps_elsewhere_are_named(
    deployed: Deployment, told: dict[str, Any], tmp_path: Path
) -> None:
    registry = all_databases()[1]
    insert = (
        "insert into experiments"
        " (experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time)"
        " values (77, 'far', 's3://models/77', 'active', 0, 0);"
        " insert into runs (run_uuid, experiment_id, status, start_time, lifecycle_stage, source_type, user_id)"
        " values ('far', 77, 'FINISHED', 0, 'active', 'LOCAL', 'ada')"
    )
    with registry.connect() as connection:
        connection.execute(insert)
    try:
        said = deployed.skewless("backup", "--to", tmp_path / "b")
    finally:
        with registry.connect() as connection:
            connection.execute(
                "delete from runs where run_uuid = 'far'; delete from experiments where experiment_id = 77"
            )
    assert "NOT in the backup: files of models in s3://models/77" in said


def test_no_command_line_has_a_password(deployed: Deployment, told: dict[str, Any], tmp_path: Path) -> None:
    url = "postgresql+psycopg2://postgres:hush-hush@/skewless_ops_airflow"
    watch = tmp_path / "watch.py"
    watch.write_text(
        "import subprocess, sys\n"
        "from features.operations import databases\n"
        "run = subprocess.run\n"
        "def watched(command, **options):\n"
        "    assert not [word for word in command if 'hush' in str(word)], command\n"
        "    if '--snapshot' in str(command) and 'airflow' in options['env']['PGDATABASE']:\n"
        "        assert options['env']['PGPASSWORD'] == 'hush-hush'\n"
        "    return run(command, **options)\n"
        "subprocess.run = watched\n"
        "from features.cli import main\n"
        "main()\n"
    )
    done = deployed.run(
        sys.executable, watch, "backup", "--to", tmp_path / "b", AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=url
    )
    assert done.returncode == 0, done.stderr
    assert not [path for path in (tmp_path / "b").iterdir() if b"hush-hush" in path.read_bytes()]


# What is damaged is refused, and nothing is changed


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a changed byte": (lambda folder: flip(folder / "mlflow.dump"), "mlflow.dump has another checksum"),
    "a missing file": (lambda folder: (folder / "artefacts.tar").unlink(), "artefacts.tar is missing"),
    "a cut off file": (lambda folder: (folder / "warehouse.dump").write_bytes(b"PGDMP"), "5 bytes instead of"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "no complete backup"),
    "half a manifest": (lambda folder: (folder / "manifest.json").write_text('{"format": 1'), "is not as this version"),
    "no folder": (shutil.rmtree, "no complete backup"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_is_refused(
    deployed: Deployment, told: dict[str, Any], copied: Path, unchanged: None, damage: str
) -> None:
    harm, message = DAMAGES[damage]
    harm(copied)
    with pytest.raises(SkewlessError, match=message):
        restore(copied, all_databases(), deployed.artefacts, replace=True)


def test_a_dump_that_cannot_be_restored_leaves_what_was_there(
    deployed: Deployment, told: dict[str, Any], copied: Path, unchanged: None
) -> None:
    """Its checksum is right, as of a backup that was made of something broken."""
    import hashlib

    flip(copied / "airflow.dump")
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["files"]["airflow.dump"]["sha256"] = hashlib.sha256((copied / "airflow.dump").read_bytes()).hexdigest()
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SkewlessError, match="airflow"):
        restore(copied, all_databases(), deployed.artefacts, replace=True)


def test_a_restore_that_fails_while_everything_takes_its_place_is_undone(
    deployed: Deployment, told: dict[str, Any], backup: Path, unchanged: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr("features.operations.artefacts.switch", full)
    with pytest.raises(SkewlessError, match="No space left on device"):
        restore(backup, all_databases(), deployed.artefacts, replace=True)


def test_what_is_there_is_not_replaced_unless_that_is_said(
    deployed: Deployment, told: dict[str, Any], backup: Path, unchanged: None
) -> None:
    said = deployed.refused("restore", "--from", backup)
    assert "would replace skewless_ops on" in said
    assert "--replace" in said


def test_what_is_in_use_is_not_replaced(
    deployed: Deployment, told: dict[str, Any], backup: Path, unchanged: None
) -> None:
    with (
        all_databases()[2].connect(),
        pytest.raises(SkewlessError, match=r"skewless_ops_airflow .* in use by skewless"),
    ):
        restore(backup, all_databases(), deployed.artefacts, replace=True)


def test_a_restore_that_was_cut_off_while_renaming_is_not_forgotten(
    deployed: Deployment, told: dict[str, Any], backup: Path
) -> None:
    airflow = all_databases()[2]
    airflow.rename(f"{airflow.name}_replaced")
    try:
        with pytest.raises(SkewlessError, match='alter database "skewless_ops_airflow_replaced" rename to'):
            restore(backup, all_databases(), deployed.artefacts, replace=True)
    finally:
        airflow.named(f"{airflow.name}_replaced").rename(airflow.name)


def test_a_backup_of_a_later_version_is_refused(
    deployed: Deployment, told: dict[str, Any], copied: Path, unchanged: None
) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["databases"]["warehouse"]["revision"] = "9999"
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SkewlessError, match=r"The backup is at migration 9999, .* a later version"):
        restore(copied, all_databases(), deployed.artefacts, replace=True)


def test_a_server_that_is_newer_than_the_tools_is_named(
    deployed: Deployment, told: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "tools_version", lambda: 17)
    with pytest.raises(SkewlessError, match=r"is PostgreSQL 18, and the pg_dump and pg_restore .* are 17"):
        back_up(tmp_path / "b", all_databases(), deployed.artefacts, NOW)
    assert list(tmp_path.iterdir()) == []


# A backup that cannot be written to its end is none


def test_a_full_disk_leaves_no_backup(deployed: Deployment, told: dict[str, Any], tmp_path: Path) -> None:
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    target = tmp_path / "b"
    done = subprocess.run(
        [sys.executable, "-m", "features.cli", "backup", "--to", str(target)],
        preexec_fn=little_room, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert "pg_dump of skewless_ops" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["a file", "a backup"])
def test_a_target_that_cannot_be_written_is_named(
    deployed: Deployment, told: dict[str, Any], backup: Path, tmp_path: Path, where: str
) -> None:
    (tmp_path / "file").write_text("")
    target, message = {
        "a file": (tmp_path / "file" / "b", "cannot be written to"),
        "a backup": (backup, "exists already, and a backup never replaces another"),
    }[where]
    assert message in deployed.refused("backup", "--to", target)


def test_a_backup_that_was_killed_is_not_taken_for_one(
    deployed: Deployment, told: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a power cut: nobody cleans up."""
    monkeypatch.setattr("shutil.rmtree", lambda *args, **options: None)
    monkeypatch.setattr("features.operations.artefacts.pack", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        back_up(tmp_path / "b", all_databases(), deployed.artefacts, NOW)
    monkeypatch.undo()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".b.unfinished-")
    with pytest.raises(SkewlessError, match="no complete backup"):
        restore(left, all_databases(), deployed.artefacts, replace=True)
    back_up(tmp_path / "b", all_databases(), deployed.artefacts, NOW)  # it is not in the way


# The three databases agree afterwards


def test_the_champion_of_the_ledger_is_champion_in_mlflow(
    deployed: Deployment, told: dict[str, Any], backup: Path, tmp_path: Path, churn: Model
) -> None:
    from mlflow import MlflowClient

    MlflowClient().set_registered_model_alias(
        churn.name, "champion", "2"
    )  # as if promoted just after the warehouse's moment
    back_up(tmp_path / "b", all_databases(), deployed.artefacts, NOW)
    said = restore(tmp_path / "b", all_databases(), deployed.artefacts, replace=True).said
    assert said == ["churn v1 is champion in MLflow again, as in monitoring.champions; it was v2."]
    assert str(MlflowClient().get_model_version_by_alias(churn.name, "champion").version) == "1"


def test_files_in_another_folder_are_found_there(
    deployed: Deployment, told: dict[str, Any], backup: Path, tmp_path: Path, churn: Model
) -> None:
    before = scores(churn)
    kept = deployed.artefacts.rename(tmp_path / "kept")
    elsewhere = tmp_path / "another checkout" / "artifacts"
    restore(backup, all_databases(), elsewhere, replace=True)
    assert scores(churn) == before
    shutil.rmtree(elsewhere)
    kept.rename(deployed.artefacts)
    restore(backup, all_databases(), deployed.artefacts, replace=True)
    assert scores(churn) == before


def test_redis_serves_what_the_backup_had_live(
    deployed: Deployment,
    told: dict[str, Any],
    churn: Model,
    redis_server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server)
    view = churn.feature_view
    push_online([view])
    back_up(tmp_path / "b", all_databases(), deployed.artefacts, NOW)
    publish(view, LATER)
    push_online([view])
    assert LATER in live()
    said = deployed.skewless("restore", "--from", tmp_path / "b", "--replace", REDIS_URL=redis_server)
    assert "user_session_features: 12 rows pushed to Redis." in said
    assert live() == [EARLIER]
    packed = connect(redis_server, 10).get(Layout(view, settings.online_namespace()).live_key)
    assert Pointer.of(packed).live.as_of == EARLIER  # type: ignore[arg-type]
