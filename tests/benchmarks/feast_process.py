"""The part of the Feast contestant that runs in its own virtual environment; it knows Feast and what Feast brings."""

import json
import os
import sys
import time
from datetime import timedelta
from typing import Any

import pandas as pd

os.environ["FEAST_USAGE"] = "False"

from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig, ValueType
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource
from feast.types import Float64, Int64

WHOLE = ("session_count", "days_since_last_session", "sessions_last_7_days", "sessions_last_30_days")
FEATURES = ("session_count", "avg_session_duration_minutes", *WHOLE[1:])
VIEW = "user_session_features"


def store(folder: str, postgres: dict[str, Any], entity_select_mode: str) -> FeatureStore:
    """A feature store whose offline store is the benchmark's PostgreSQL; its registry is a file in `folder`."""
    return FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=f"{folder}/registry.db",
            online_store={"type": "sqlite", "path": f"{folder}/online.db"},
            offline_store={"type": "postgres", "entity_select_mode": entity_select_mode, **postgres},
            entity_key_serialization_version=3,
        )
    )


def define(feast: FeatureStore, relation: str, ttl_days: int) -> None:
    """Registers one feature view over the relation. A ttl of 0 days is none."""
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name=VIEW,
        entities=[user],
        ttl=timedelta(days=ttl_days),
        schema=[
            *(Field(name=name, dtype=Int64) for name in WHOLE),
            Field(name="avg_session_duration_minutes", dtype=Float64),
        ],
        source=PostgreSQLSource(name="feature_rows", table=relation, timestamp_field="event_timestamp"),
        online=False,
    )
    feast.apply([user, view])


def retrieve(feast: FeatureStore, entities: pd.DataFrame | str) -> tuple[float, pd.DataFrame]:
    """Features for the entities: a frame or a query of user_id and event_timestamp. Seconds are those of to_df."""
    job = feast.get_historical_features(entity_df=entities, features=[f"{VIEW}:{name}" for name in FEATURES])
    start = time.perf_counter()
    found = job.to_df()
    return time.perf_counter() - start, found


def main() -> None:
    """Reads what to do as JSON from the first argument; prints the seconds of each repeat as JSON."""
    given = json.loads(sys.argv[1])
    feast = store(given["folder"], given["postgres"], given["entity_select_mode"])
    define(feast, given["relation"], given["ttl_days"])
    entities = given["entity_query"]
    if given["entity_select_mode"] == "temp_table":
        entities = pd.read_csv(given["labels_csv"], dtype={"user_id": str})
        entities["event_timestamp"] = pd.to_datetime(entities.pop("event_us"), unit="us", utc=True)
    seconds = []
    for _ in range(given["repeats"]):
        took, found = retrieve(feast, entities)
        seconds.append(took)
    found.rename(columns={"event_timestamp": "as_of"}).to_parquet(given["answer"])
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
