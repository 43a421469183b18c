"""The project's real dbt models on the benchmark's rows, run by dbt as users run it: as a process.

They run in a copy of dbt_project in which only the label model is another: its labels are the benchmark's, so that the
spine reaches the feature view the way labels always do (the ledger, the rows that are there already, batches, the
as-of function, the append-only table).
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from features import settings, warehouse
from features.contract import FeatureView, read_contract
from features.local import environment
from tests.benchmarks import data, measure
from tests.databases import migrated, using

VIEW = "user_session_features"
STAGING = "stg_session_events"
LABELS = "churn_labels"
# After the last label, and after the last event has arrived.
AS_OF = datetime.fromisoformat(data.ANCHOR) + timedelta(days=data.DAYS + data.LATE_DAYS + 1)

SPINE_LABELS = "select user_id, label_at, matured_at, churned from raw.bench_labels"
LABEL_MODEL = """
{{{{ config(materialized='table', indexes=[{{'columns': ['user_id', 'label_at'], 'unique': true}}]) }}}}
{select}
"""


@dataclass(frozen=True)
class DbtRun:
    """One `dbt run`.

    Attributes:
        seconds: of each model, by its name: what dbt's run_results.json calls execution_time.
        wall_seconds: of the whole process, in which dbt starts and parses the project.
        server_bytes: the most that PostgreSQL's processes held at once.
    """

    seconds: Mapping[str, float]
    wall_seconds: float
    server_bytes: int


@dataclass(frozen=True)
class Project:
    """A copy of the dbt project in a folder of its own."""

    folder: Path
    server_pid: int

    def run(self, *models: str, as_of: datetime = AS_OF) -> DbtRun:
        """`dbt run` of these models at an instant, in the warehouse that settings name.

        Raises:
            RuntimeError: with what dbt printed, when a model fails.
        """
        dbt = str(Path(sys.executable).with_name("dbt"))
        command = [dbt, "--no-use-colors", "--quiet", "run", "--project-dir", str(self.folder), "--select", *models]
        # dbt says what failed on standard output, and a shell turns it round.
        printed = ["sh", "-c", 'exec "$@" >&2', "sh", *command]
        _, used = measure.process(printed, also=[self.server_pid], env={**self._environment(), **_instant(as_of)})
        results = json.loads((self.folder / "target" / "run_results.json").read_text())["results"]
        seconds = {result["unique_id"].split(".")[-1]: float(result["execution_time"]) for result in results}
        return DbtRun(seconds, used.seconds, used.peak_bytes[1])

    def view(self) -> FeatureView:
        """The contract of user_session_features, once dbt has run."""
        return read_contract(self.folder / "target" / "manifest.json").feature_view(VIEW)

    def _environment(self) -> dict[str, str]:
        return os.environ | environment.postgres() | {
            "DBT_PROJECT_DIR": str(self.folder),
            "DBT_PROFILES_DIR": str(self.folder),
            "DBT_TARGET_PATH": str(self.folder / "target"),
            "DBT_LOG_PATH": str(self.folder / "logs"),
        }  # fmt: skip


def _instant(as_of: datetime) -> dict[str, str]:
    return {"SKEWLESS_AS_OF": as_of.isoformat()}


def copy(folder: Path, server_pid: int, labels: str | None = SPINE_LABELS) -> Project:
    """A fresh copy of the dbt project.

    Args:
        labels: a query of user_id, label_at, matured_at, churned; None keeps the project's own labels.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(settings.DBT_PROJECT, folder, ignore=shutil.ignore_patterns("target", "logs"))
    if labels is not None:
        (folder / "models" / "features" / f"{LABELS}.sql").write_text(LABEL_MODEL.format(select=labels))
    return Project(folder, server_pid)


def forget_features() -> None:
    """Drops user_session_features and what was built on it, and writes all of that to disk."""
    with warehouse.connect(autocommit=True) as connection:
        connection.execute(f"drop table if exists features.{VIEW} cascade")
        for table in ("builds", "feature_versions"):
            connection.execute(f"delete from features.{table} where feature_view = %s", [VIEW])
        connection.execute("checkpoint")


def current_version(connection: warehouse.Connection) -> str:
    """The feature_version that dbt built last."""
    return str(_last_built(connection)["feature_version"])


def definition() -> str:
    """The feature view's compiled SQL as dbt recorded it, without a spine."""
    with warehouse.connect() as connection:
        return str(_last_built(connection)["definition"])


def _last_built(connection: warehouse.Connection) -> dict[str, Any]:
    row = connection.execute(
        "select * from features.feature_versions where feature_view = %s order by last_built_at desc limit 1", [VIEW]
    ).fetchone()
    assert row is not None, "dbt has not built the view"
    return row


def build_repeatedly(project: Project, repeats: int) -> list[DbtRun]:
    """Builds the feature view so many times, into an empty table each time."""
    runs = []
    for _ in range(repeats):
        forget_features()
        runs.append(project.run(VIEW))
    return runs


@contextmanager
def another_database(name: str) -> Iterator[None]:
    """A migrated database without a row as the warehouse, for as long as the block runs."""
    with migrated(name), using(name):
        yield


def vacuum(*tables: str) -> None:
    """Vacuums and analyzes tables, or everything, as autovacuum will have done on a server that runs."""
    with warehouse.connect(autocommit=True) as connection:
        for table in tables or ("",):
            connection.execute(f"vacuum (analyze) {table}")
        connection.execute("checkpoint")
