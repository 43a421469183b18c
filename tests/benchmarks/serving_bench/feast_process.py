"""Feast's side, in its own virtual environment; it knows Feast and what Feast brings, and nothing of ours but the loop.

One process has one online store. Its first argument is JSON: online and online_for_several, the settings of that store
for one read at a time and for several; folder, rows_csv, as_of, chunk_rows.
"""

import json
import os
import sys
from copy import copy
from datetime import timedelta
from typing import Any

os.environ["FEAST_USAGE"] = "False"

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, Int64

from tests.benchmarks.serving_bench import child

WHOLE = ("session_count", "days_since_last_session", "sessions_last_7_days", "sessions_last_30_days")
FEATURES = ("session_count", "avg_session_duration_minutes", *WHOLE[1:])
VIEW = "user_session_features"
WANTED = [f"{VIEW}:{name}" for name in FEATURES]


def feature_store(folder: str, online: dict[str, Any]) -> FeatureStore:
    """A feature store whose registry is a file in the folder."""
    return FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=f"{folder}/registry.db",
            online_store=online,
            entity_key_serialization_version=3,
        )
    )


def define(feast: FeatureStore, folder: str) -> None:
    """Registers one feature view without a time to live, which creates its table. Nobody reads its offline source."""
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name=VIEW,
        entities=[user],
        ttl=timedelta(0),
        schema=[
            *(Field(name=name, dtype=Int64) for name in WHOLE),
            Field(name="avg_session_duration_minutes", dtype=Float64),
        ],
        source=FileSource(path=f"{folder}/rows.parquet", timestamp_field="event_timestamp"),
    )
    feast.apply([user, view])


class Feast:
    """A store as a service has it, and how its answers read."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given
        frame = pd.read_csv(given["rows_csv"], dtype={"user_id": str}, float_precision="round_trip")
        self._frame = frame.assign(event_timestamp=pd.Timestamp(given["as_of"]))
        self._frame.head(1).to_parquet(f"{given['folder']}/rows.parquet")
        self._feast = feature_store(given["folder"], given["online"])
        define(self._feast, given["folder"])
        self._for_several: Feast | None = None

    def empty(self) -> None:
        """Does nothing, so a push that follows another finds its rows there."""

    def push(self) -> int:
        """By write_to_online_store, so many rows at a time."""
        step = self._given["chunk_rows"]
        for start in range(0, len(self._frame), step):
            self._feast.write_to_online_store(VIEW, df=self._frame.iloc[start : start + step])
        return len(self._frame)

    def read(self, ids: child.Ids) -> dict[str, list[Any]]:
        """By get_online_features, as a dict."""
        rows = [{"user_id": each} for each in ids]
        return self._feast.get_online_features(features=WANTED, entity_rows=rows).to_dict()

    async def read_async(self, ids: child.Ids) -> dict[str, list[Any]]:
        """By get_online_features_async, as a dict."""
        rows = [{"user_id": each} for each in ids]
        return (await self._feast.get_online_features_async(features=WANTED, entity_rows=rows)).to_dict()

    def for_several(self) -> "Feast":
        """One with the settings for that, on the same registry and the same rows."""
        if self._for_several is None:
            self._for_several = copy(self)
            self._for_several._feast = feature_store(self._given["folder"], self._given["online_for_several"])
        return self._for_several

    def values(self, answer: dict[str, list[Any]]) -> list[list[Any]]:
        """A row for each entity, in FEATURES' order."""
        return [list(row) for row in zip(*(answer[name] for name in FEATURES), strict=True)]

    def count(self, answer: dict[str, list[Any]]) -> int:
        """Those with a first feature."""
        return sum(value is not None for value in answer[FEATURES[0]])


if __name__ == "__main__":
    child.serve(Feast(json.loads(sys.argv[1])))
