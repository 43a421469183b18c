"""A backup of a deployment that has events, and no model yet: MLflow has not even made its tables."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from features.migrations import create_database
from features.operations.backup import back_up
from features.operations.databases import all_databases
from features.operations.restore import restore
from tests.databases import drop_database, execute, rows
from tests.steps.small_warehouse import HISTORY

NOW = datetime(2026, 7, 14, 12, tzinfo=UTC)
EVENTS = "select * from raw.session_events order by event_id"


@pytest.fixture
def _new_registry(empty_warehouse: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    create_database("skewless_new_registry")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg2:///skewless_new_registry")
    yield
    drop_database("skewless_new_registry")


@pytest.mark.usefixtures("_new_registry")
def test_events_come_back_and_there_are_no_models_files(tmp_path: Path) -> None:
    execute(HISTORY)
    before = rows(EVENTS)
    databases = all_databases(skip=["airflow"])
    made = back_up(tmp_path / "backup", databases, tmp_path / "no files", NOW)
    assert set(made.databases) == {"warehouse", "mlflow"}
    assert made.databases["warehouse"].rows["raw.session_events"] == len(before) > 0
    assert made.databases["mlflow"].revision is None
    assert (made.artefacts, made.elsewhere) == (None, [])

    execute("delete from raw.session_events")
    restore(tmp_path / "backup", databases, tmp_path / "no files", replace=True)
    assert rows(EVENTS) == before
    assert not (tmp_path / "no files").exists()
