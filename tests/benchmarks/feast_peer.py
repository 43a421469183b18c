"""Feast with its PostgreSQL offline store: the latest feature row at or before each label.

Timed: `to_df` of get_historical_features, that is Feast's upload of the labels, its query, and its result as a frame.
Not timed: making the environment, the registry, the feature rows and their index on (user_id, event_timestamp).
The feature rows have one row per key and no created timestamp, so Feast needs none of its deduplication;
filter_by_created_timestamp is off, its default. PostgreSQL runs with the settings that all contestants have.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features import settings, warehouse
from tests.benchmarks import data, measure, peer_venv
from tests.benchmarks.contest import Bench, Outcome

REQUIREMENTS = ["feast[postgres]==0.67.0"]
DISTRIBUTIONS = ("feast", "psycopg", "pandas", "pyarrow")
PROCESS = Path(__file__).with_name("feast_process.py")
RELATION = "bench.feature_rows"
ENTITY_QUERY = "select user_id, event_timestamp from bench.labels"

LABELS_EXPORT = """
select user_id, (extract(epoch from event_timestamp) * 1000000)::bigint as event_us from bench.labels
"""


@dataclass(frozen=True)
class Setting:
    """How Feast is asked: its time to live in days (0 is none) and how the labels reach it."""

    name: str
    ttl_days: int
    entity_select_mode: str
    note: str


SETTINGS = (
    Setting("Feast, labels as a DataFrame", 0, "temp_table", "no ttl; temp_table, the default"),
    Setting("Feast, labels as a query", 0, "embed_query", "no ttl; embed_query"),
    Setting("Feast, short ttl", 30, "temp_table", "ttl 30 days, which loses older rows; temp_table"),
)


def run(bench: Bench) -> list[Outcome]:
    """Feast in each setting, on bench.labels and bench.feature_rows."""
    python = peer_venv.ensure(bench, "feast", REQUIREMENTS)
    versions = peer_venv.versions(python, DISTRIBUTIONS)
    with warehouse.connect() as connection:
        data.write_csv(connection, LABELS_EXPORT, bench.folder("exports") / "labels.csv")
    return [_outcome(bench, python, setting, versions) for setting in SETTINGS]


def _outcome(bench: Bench, python: Path, setting: Setting, versions: dict[str, str]) -> Outcome:
    answer = bench.folder("answers") / f"feast_{setting.entity_select_mode}_{setting.ttl_days}.parquet"
    given = {
        "folder": str(bench.folder("feast")),
        "postgres": _connection_settings(),
        "entity_select_mode": setting.entity_select_mode,
        "relation": RELATION,
        "ttl_days": setting.ttl_days,
        "entity_query": ENTITY_QUERY,
        "labels_csv": str(bench.folder("exports") / "labels.csv"),
        "repeats": bench.repeats,
        "answer": str(answer),
    }
    printed, used = measure.process(
        [str(python), "-W", "ignore", str(PROCESS), json.dumps(given)],
        also=[bench.server_pid],
        env=peer_venv.environment(),
    )
    return Outcome(
        name=setting.name,
        seconds=tuple(json.loads(printed.splitlines()[-1])),
        rows=bench.sizes.labels,
        peak_bytes=used.peak_bytes[0],
        server_bytes=used.peak_bytes[1],
        answer=answer,
        versions=versions,
        note=setting.note,
        may_lose=setting.ttl_days > 0,
    )


def _connection_settings() -> dict[str, Any]:
    """Feast's own names for libpq's settings. A host that is a folder is a Unix socket, as in libpq."""
    return {
        "host": warehouse.host(),
        "port": int(os.environ.get("PGPORT", "5432")),
        "database": settings.WAREHOUSE_DATABASE,
        "db_schema": "public",
        "user": warehouse.user(),
        "password": os.environ.get("PGPASSWORD", ""),
        "sslmode": "disable",
    }
