"""Our side: a feature store as a service has it, in a process of its own.

Its first argument is JSON: store, feature_version, redis_url. The warehouse and dbt's manifest are in the environment.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

from features import settings
from features.serving.push import forget, push
from features.serving.row import FeatureRow
from features.serving.store import AsyncFeatureStore, FeatureStore
from tests.benchmarks.contest import FEATURES
from tests.benchmarks.serving_bench import child

VIEW = "user_session_features"
Answer = Sequence[FeatureRow | None]


class Skewless:
    """The two stores, and how their answers read."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._name, self._url = given["store"], given["redis_url"]
        # A pause of the machine must not turn into a read from the other store, whose time it would not be.
        options = {"feature_version": given["feature_version"], "redis_url": self._url, "redis_timeout_seconds": 5.0}
        self._store, self._async_store = FeatureStore(VIEW, **options), AsyncFeatureStore(VIEW, **options)

    def empty(self) -> None:
        """Takes every key of the namespace out of Redis."""
        if self._url:
            forget(self._url, settings.online_namespace())

    def push(self) -> int:
        """By features.serving.push; in PostgreSQL the rows are there already."""
        if not self._url:
            return 0
        return int(push(self._store.view, self._url, settings.online_namespace())["rows"])

    def read(self, ids: child.Ids) -> Answer:
        """By FeatureStore."""
        return self._store.read_user_features_batch(ids)

    async def read_async(self, ids: child.Ids) -> Answer:
        """By AsyncFeatureStore."""
        return await self._async_store.read_user_features_batch(ids)

    def for_several(self) -> "Skewless":
        """The same: it has a pool of connections anyway."""
        return self

    def values(self, answer: Answer) -> list[list[Any]]:
        """A row for each entity, in FEATURES' order."""
        assert all(answer)
        return [[row.features[name] for name in FEATURES] for row in answer if row]

    def count(self, answer: Answer) -> int:
        """Those that came from this store: a fallback to PostgreSQL would be found here."""
        return sum(row is not None and row.served_from == self._name for row in answer)


if __name__ == "__main__":
    child.serve(Skewless(json.loads(sys.argv[1])))
