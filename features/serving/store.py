"""The feature store that services read from: Redis when there is one, PostgreSQL otherwise and whenever Redis cannot.

    store = FeatureStore("user_session_features", feature_version=champion.feature_version)
    row = store.read_user_features_or_compute("N14228")

What is to be read, from where, and what is refused is written once, as generators that yield calls; `FeatureStore`
makes those calls, `AsyncFeatureStore` awaits them.
"""

import logging
import os
import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from features import settings
from features.contract import FeatureView, Model, read_contract
from features.errors import SkewlessError
from features.serving import metrics
from features.serving.postgres import WRITTEN, AsyncPostgresRows, PostgresRows
from features.serving.redis import AsyncRedisRows, RedisRows, RedisUnusable
from features.serving.row import (
    Entity,
    FeatureRow,
    Found,
    Live,
    StoredRow,
    StoreUnavailable,
    as_served,
    refuse_stale,
    refuse_version,
)
from features.serving.values import checked

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
T = TypeVar("T")
# What a generator yields is called, or called and awaited; it gets the answer or the error back.
Steps = Generator[Callable[[], Any], Any, T]

REDIS_TIMEOUT_SECONDS = 0.25
POSTGRES_TIMEOUT_SECONDS = 5.0
# After Redis did not answer, it is left alone this long, so that not every read waits for it.
REDIS_REST_SECONDS = 1.0
# Between machines; an as_of further ahead is a mistake.
CLOCKS_DIFFER_BY = timedelta(minutes=1)


class _Store:
    """What both stores do, but for the calls themselves."""

    _redis: RedisRows | AsyncRedisRows | None
    _postgres: PostgresRows | AsyncPostgresRows

    def __init__(
        self,
        view: FeatureView | str,
        *,
        feature_version: str | None,
        redis_url: str | None = None,
        namespace: str | None = None,
        on_stale: Literal["refuse", "flag"] = "refuse",
        on_redis_down: Literal["fall back", "refuse"] = "fall back",
        redis_timeout_seconds: float = REDIS_TIMEOUT_SECONDS,
        postgres_timeout_seconds: float = POSTGRES_TIMEOUT_SECONDS,
        pool_size: int = 8,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Names what is read; connects when it is first used.

        Args:
            view: a feature view, or its name in dbt's manifest.
            feature_version: the definition that the reader was made for, as a model's version has it; rows of another
                are refused. None takes what is live; the row says which that is.
            redis_url: by default REDIS_URL; without either, PostgreSQL serves by itself.
            namespace: in front of Redis' keys; by default that of the warehouse.
            on_stale: refuse rows that are older than the view allows, or flag them by `is_stale`.
            on_redis_down: fall back to PostgreSQL, which a metric counts, or refuse.
            pool_size: connections to PostgreSQL at most.
            clock: what a read without `at` takes for now.
        """
        if on_stale not in {"refuse", "flag"}:
            raise SkewlessError(f"on_stale is 'refuse' or 'flag', not {on_stale!r}.")
        if on_redis_down not in {"fall back", "refuse"}:
            raise SkewlessError(f"on_redis_down is 'fall back' or 'refuse', not {on_redis_down!r}.")
        self.view = read_contract(settings.MANIFEST).feature_view(view) if isinstance(view, str) else view
        self.feature_version = feature_version
        self._refuses_stale = on_stale == "refuse"
        self._falls_back = on_redis_down == "fall back"
        self._clock = clock
        self._redis_rests_until = 0.0
        self._connect(
            redis_url or os.environ.get("REDIS_URL") or None,
            namespace or settings.online_namespace(),
            redis_timeout_seconds,
            postgres_timeout_seconds,
            pool_size,
        )

    def _connect(
        self, url: str | None, namespace: str, redis_timeout: float, postgres_timeout: float, pool_size: int
    ) -> None:
        raise NotImplementedError

    @classmethod
    def for_model(cls, model: Model, feature_version: str, **options: Any) -> Self:
        """The store of a model's feature view, for a version that was trained on this definition of it."""
        return cls(model.feature_view, feature_version=feature_version, **options)

    def _read_live(self) -> Steps[Live]:
        found: Found = yield partial(self._postgres.read, ())
        refuse_version(self.view, self.feature_version, found.live.feature_version)
        return found.live

    def _read(self, entities: Sequence[Entity], at: datetime | None) -> Steps[list[FeatureRow | None]]:
        found = yield from self._find(entities, self._instant(at))
        self._check(found)
        return found

    def _read_or_compute(self, entities: Sequence[Entity], at: datetime | None, keep: bool) -> Steps[list[FeatureRow]]:
        at = self._instant(at)
        found = yield from self._find(entities, at)
        missing = [place for place, row in enumerate(found) if row is None or row.is_stale]
        if missing:
            computed = yield from self._compute([entities[place] for place in missing], at, keep)
            for place, row in zip(missing, computed, strict=True):
                found[place] = row
        self._check(found)
        return [row for row in found if row is not None]

    def _compute(self, entities: Sequence[Entity], at: datetime, keep: bool) -> Steps[list[FeatureRow]]:
        """Rows by the as-of function, which is the view's own definition."""
        self._refuse_the_future(at, "at")
        live = yield from self._read_live()
        version, rows = yield partial(self._postgres.compute, entities, at)
        # Between a definition's build and its first publication the function is ahead of what is live.
        refuse_version(self.view, live.feature_version, version)
        if keep:
            yield from self._keep([(entity, version, row) for entity, row in zip(entities, rows, strict=True)])
        return [as_served(entity, row, live, at) for entity, row in zip(entities, rows, strict=True)]

    def _write(self, entity: Entity, features: Mapping[str, Any], as_of: datetime) -> Steps[bool]:
        _refuse_a_naive(as_of, "as_of")
        self._refuse_the_future(as_of, "as_of")
        row = StoredRow(as_of.astimezone(UTC), checked(self.view, features), WRITTEN)
        live = yield from self._read_live()
        kept: int = yield from self._keep([(entity, live.feature_version, row)])
        return kept == 1

    def _instant(self, at: datetime | None) -> datetime:
        """What a read's staleness is measured at."""
        if at is None:
            return self._clock()
        _refuse_a_naive(at, "at")
        return at

    def _refuse_the_future(self, instant: datetime, name: str) -> None:
        if instant > self._clock() + CLOCKS_DIFFER_BY:
            raise SkewlessError(
                f"{name} {instant.isoformat()} has not come yet; such a row would count as fresh too long."
            )

    def _keep(self, rows: Sequence[tuple[Entity, str, StoredRow]]) -> Steps[int]:
        """Writes to PostgreSQL, which never forgets, then to Redis, which may be refilled from there."""
        kept: int = yield partial(self._postgres.write, rows)
        if self._redis_is_wanted():
            assert self._redis is not None
            try:
                yield partial(self._redis.write, rows)
            except RedisUnusable as error:
                self._fall_back(error)
        return kept

    def _find(self, entities: Sequence[Entity], at: datetime) -> Steps[list[FeatureRow | None]]:
        """What Redis has that is fresh and of the right definition, and the rest from PostgreSQL."""
        rows: list[FeatureRow | None] = [None] * len(entities)
        online = yield from self._find_online(entities)
        if online is not None:
            rows = self._served(entities, online, at)
        wanted = [place for place, row in enumerate(rows) if row is None or row.is_stale]
        if online is not None and not wanted:
            return rows
        if online is not None:
            self._count_fallback("unknown or stale")
        found: Found = yield partial(self._postgres.read, [entities[place] for place in wanted])
        refuse_version(self.view, self.feature_version, found.live.feature_version)
        if online is not None and online.live.feature_version != found.live.feature_version:
            rows, wanted = [None] * len(entities), list(range(len(entities)))  # one answer is of one definition
            found = yield partial(self._postgres.read, entities)
        for place, row in zip(wanted, self._served([entities[place] for place in wanted], found, at), strict=True):
            rows[place] = row or rows[place]
        return rows

    def _find_online(self, entities: Sequence[Entity]) -> Steps[Found | None]:
        if not self._redis_is_wanted():
            return None
        assert self._redis is not None
        try:
            found: Found = yield partial(self._redis.read, entities)
        except RedisUnusable as error:
            self._fall_back(error)
            return None
        if self.feature_version not in (None, found.live.feature_version):
            self._count_fallback("another definition")  # PostgreSQL may be ahead of Redis
            return None
        return found

    def _redis_is_wanted(self) -> bool:
        if self._redis is None:
            return False
        if self._falls_back and time.monotonic() < self._redis_rests_until:
            self._count_fallback("down")
            return False
        return True

    def _fall_back(self, error: RedisUnusable) -> None:
        if not self._falls_back:
            raise StoreUnavailable(f"{error} This reader was told not to fall back to PostgreSQL.") from error
        if error.reason == "down":
            if time.monotonic() > self._redis_rests_until + REDIS_REST_SECONDS:
                log.warning("%s Features come from PostgreSQL.", error)
            self._redis_rests_until = time.monotonic() + REDIS_REST_SECONDS
        self._count_fallback(error.reason)

    def _count_fallback(self, reason: str) -> None:
        metrics.FALLBACKS.labels(self.view.name, reason).inc()

    def _served(self, entities: Sequence[Entity], found: Found, at: datetime) -> list[FeatureRow | None]:
        return [
            as_served(entity, row, found.live, at) if row else None
            for entity, row in zip(entities, found.rows, strict=True)
        ]

    def _check(self, rows: Sequence[FeatureRow | None]) -> None:
        """Counts what is served, and refuses what is stale."""
        counts: dict[str, int] = {}
        for row in rows:
            source = row.served_from if row else "nowhere"
            counts[source] = counts.get(source, 0) + 1
        for source, count in counts.items():
            metrics.ROWS.labels(self.view.name, source).inc(count)
        stale = [row for row in rows if row and row.is_stale]
        if stale:
            metrics.STALE.labels(self.view.name).inc(len(stale))
            if self._refuses_stale:
                refuse_stale(self.view, stale)


class FeatureStore(_Store):
    """The store for threads; safe to share among them, and to use after a fork."""

    _redis: RedisRows | None
    _postgres: PostgresRows

    def _connect(
        self, url: str | None, namespace: str, redis_timeout: float, postgres_timeout: float, pool_size: int
    ) -> None:
        self._redis = RedisRows(self.view, url, namespace, redis_timeout) if url else None
        self._postgres = PostgresRows(self.view, postgres_timeout, pool_size)

    def read_live(self) -> Live:
        """The publication that the ledger names as live.

        Raises:
            NothingPublished, FeatureVersionMismatch, StoreUnavailable: each with what to do.
        """
        return _run(self._read_live())

    def read_user_features(self, entity: Entity, *, at: datetime | None = None) -> FeatureRow | None:
        """An entity's features; None when it has none.

        Args:
            entity: the key, or a tuple of its columns.
            at: what staleness and age are measured at, now by default; what is read is live now, whatever it says.

        Raises:
            StaleFeatures, FeatureVersionMismatch, NothingPublished, StoreUnavailable: each with what to do.
        """
        return self.read_user_features_batch([entity], at=at)[0]

    def read_user_features_batch(
        self, entities: Sequence[Entity], *, at: datetime | None = None
    ) -> list[FeatureRow | None]:
        """The same of many entities, in their order and in one round trip."""
        return _run(self._read(entities, at))

    def read_user_features_or_compute(
        self, entity: Entity, *, at: datetime | None = None, keep: bool = True
    ) -> FeatureRow:
        """An entity's features; those of one without, or with stale ones, are computed as of `at`.

        By the same definition that fills the warehouse: the as-of function that dbt installs.

        Args:
            keep: whether what is computed is kept for the next reader, with its own as_of.
        """
        return self.read_user_features_batch_or_compute([entity], at=at, keep=keep)[0]

    def read_user_features_batch_or_compute(
        self, entities: Sequence[Entity], *, at: datetime | None = None, keep: bool = True
    ) -> list[FeatureRow]:
        """The same of many entities, in their order."""
        return _run(self._read_or_compute(entities, at, keep))

    def write_user_features(self, entity: Entity, features: Mapping[str, Any], *, as_of: datetime) -> bool:
        """Keeps a row that a service computed, by the live definition: until a publication knows more, or goes back.

        The hourly audit of served values recomputes it as any other.

        Returns:
            whether it was kept; an older row never takes the place of a newer one.

        Raises:
            SkewlessError: naming a feature that is missing, unknown or of another type.
        """
        return _run(self._write(entity, features, as_of))

    def stream_snapshot(
        self, as_of: datetime, *, where: str = "true", chunk_rows: int = 50_000
    ) -> Iterator["pd.DataFrame"]:
        """The rows of a whole snapshot, published or not, by the definition that the store is for; in key order.

        They come from the feature table through a cursor, so that memory holds one chunk, whatever there is.

        Args:
            where: a condition on the features, such as a model's population; trusted as a dbt model is.

        Yields:
            the key columns and the features, at most chunk_rows rows of them.
        """
        return self._postgres.stream(as_of, self.feature_version, where, chunk_rows)

    def close(self) -> None:
        """Gives the connections back; the store may be used again."""
        if self._redis:
            self._redis.close()
        self._postgres.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncFeatureStore(_Store):
    """The store for coroutines of one event loop; its methods do what those of `FeatureStore` do."""

    _redis: AsyncRedisRows | None
    _postgres: AsyncPostgresRows

    def _connect(
        self, url: str | None, namespace: str, redis_timeout: float, postgres_timeout: float, pool_size: int
    ) -> None:
        self._redis = AsyncRedisRows(self.view, url, namespace, redis_timeout) if url else None
        self._postgres = AsyncPostgresRows(self.view, postgres_timeout, pool_size)

    async def read_live(self) -> Live:
        """As `FeatureStore.read_live`."""
        return await _run_async(self._read_live())

    async def read_user_features(self, entity: Entity, *, at: datetime | None = None) -> FeatureRow | None:
        """As `FeatureStore.read_user_features`."""
        return (await self.read_user_features_batch([entity], at=at))[0]

    async def read_user_features_batch(
        self, entities: Sequence[Entity], *, at: datetime | None = None
    ) -> list[FeatureRow | None]:
        """As `FeatureStore.read_user_features_batch`."""
        return await _run_async(self._read(entities, at))

    async def read_user_features_or_compute(
        self, entity: Entity, *, at: datetime | None = None, keep: bool = True
    ) -> FeatureRow:
        """As `FeatureStore.read_user_features_or_compute`."""
        return (await self.read_user_features_batch_or_compute([entity], at=at, keep=keep))[0]

    async def read_user_features_batch_or_compute(
        self, entities: Sequence[Entity], *, at: datetime | None = None, keep: bool = True
    ) -> list[FeatureRow]:
        """As `FeatureStore.read_user_features_batch_or_compute`."""
        return await _run_async(self._read_or_compute(entities, at, keep))

    async def write_user_features(self, entity: Entity, features: Mapping[str, Any], *, as_of: datetime) -> bool:
        """As `FeatureStore.write_user_features`."""
        return await _run_async(self._write(entity, features, as_of))

    async def close(self) -> None:
        """As `FeatureStore.close`."""
        if self._redis:
            await self._redis.close()
        await self._postgres.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _refuse_a_naive(instant: datetime, name: str) -> None:
    if instant.tzinfo is None:
        raise SkewlessError(f"{name} {instant.isoformat()} has no time zone; write datetime(..., tzinfo=UTC).")


def _run(steps: Steps[T]) -> T:
    """Makes the calls that the steps yield."""
    try:
        call = next(steps)
        while True:
            try:
                answer = call()
            except Exception as error:
                call = steps.throw(error)
            else:
                call = steps.send(answer)
    except StopIteration as done:
        result: T = done.value
        return result


async def _run_async(steps: Generator[Callable[[], Awaitable[Any]], Any, T]) -> T:
    """Awaits the calls that the steps yield."""
    try:
        call = next(steps)
        while True:
            try:
                answer = await call()
            except Exception as error:
                call = steps.throw(error)
            else:
                call = steps.send(answer)
    except StopIteration as done:
        result: T = done.value
        return result
