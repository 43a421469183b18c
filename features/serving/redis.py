"""Reading and writing feature rows in Redis, where a publication is pushed to.

Keys, all of a view in one slot of a cluster (namespace and view stand in braces):

    {skewless:user_session_features}:live                             which publication is live
    {skewless:user_session_features}:<version>:<publication>:<entity> a row of that publication
    {skewless:user_session_features}:<version>:w<since>:<entity>      a row that was written since

A publication's rows have keys of their own, and `live` changes once all of them are there, so readers see one
publication or the other, never a mix. A read is one MGET of the rows' keys by the publication that was live at the
last read, and of `live`: an MGET is atomic, so when `live` still names that publication, the rows are its rows; else
the read is repeated with the new one. `<since>` is the last publication that went back in time: what was written
before a rollback is not found after it. A publication is named by its number and its moment, since in another
warehouse, or in one that was restored, the same number is another publication.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from features.contract import FeatureView
from features.serving.row import Entity, Found, Live, StoredRow, entity_id, newest
from features.serving.values import microseconds, pack, unpack

REDIS = "redis"
# A publication that goes live while it is read makes for one more try, and two in a row do not happen.
TRIES = 4
# Rows outlive their freshness, so that a reader can tell stale from missing. How much longer differs by row: those of
# one publication must not vanish at one moment and fall upon PostgreSQL together.
LIFETIMES = 2
JITTER = 0.1

# The instant stands in front of a written row, so that Redis itself can tell which of two knows more.
INSTANT_DIGITS = 20
WRITE_UNLESS_NEWER = f"""
local present = redis.call('get', KEYS[1])
if present and tonumber(string.sub(present, 1, {INSTANT_DIGITS})) > tonumber(string.sub(ARGV[1], 1, {INSTANT_DIGITS}))
then
    return 0
end
redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


class RedisUnusable(Exception):
    """Redis cannot answer; PostgreSQL can.

    Attributes:
        reason: down, empty or moving; what the metric says.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Pointer:
    """What the key `live` holds.

    Attributes:
        names: of the features, in the order in which the rows have them.
        since: the publication since which written rows count, as `name_of` names it.
        warehouse: whose publication it is.
    """

    live: Live
    names: tuple[str, ...]
    since: str
    warehouse: str

    def packed(self) -> bytes:
        """As bytes."""
        return pack([*astuple(self.live), list(self.names), self.since, self.warehouse])

    @classmethod
    def of(cls, packed: bytes) -> "Pointer":
        """What was packed."""
        *live, names, since, warehouse = unpack(packed)
        return cls(Live(*live), tuple(names), since, warehouse)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was live at a read; together, so that threads never mix two."""

    packed: bytes
    pointer: Pointer


def name_of(live: Live) -> str:
    """A publication's name in keys."""
    return f"{live.publication_id}.{microseconds(live.published_at):x}"


class Layout:
    """The view's keys, and how what they hold reads.

    Attributes:
        seen: what was live at the last read.
    """

    def __init__(self, view: FeatureView, namespace: str) -> None:
        self._view = view
        self.prefix = f"{{{namespace}:{view.name}}}"
        self.live_key = f"{self.prefix}:live"
        self.seen: Seen | None = None

    def row_prefix(self, live: Live) -> str:
        """What the keys of a publication's rows begin with."""
        return f"{self.prefix}:{live.feature_version}:{name_of(live)}:"

    def written_prefix(self, pointer: Pointer) -> str:
        """What the keys of written rows begin with."""
        return f"{self.prefix}:{pointer.live.feature_version}:w{pointer.since}:"

    def keys(self, entities: Sequence[Entity], seen: Seen | None) -> list[str]:
        """What to get: each entity's row, each entity's written row, and which publication is live."""
        if seen is None:
            return [self.live_key]
        ids = [entity_id(self._view, entity) for entity in entities]
        rows, written = self.row_prefix(seen.pointer.live), self.written_prefix(seen.pointer)
        return [*[rows + each for each in ids], *[written + each for each in ids], self.live_key]

    def found(self, values: Sequence[Any], seen: Seen | None) -> Found | None:
        """What the values of `keys` say; None when another publication is live by now, which is the one `seen` then.

        Raises:
            RedisUnusable: when nothing was pushed.
        """
        *rows, live = values
        if live is None:
            self.seen = None
            raise RedisUnusable("empty", f"{self.live_key} is not in Redis: nothing was pushed.")
        if seen is None or live != seen.packed:
            self.seen = Seen(live, Pointer.of(live))
            return None
        pointer, half = seen.pointer, len(rows) // 2
        return Found(
            pointer.live,
            [
                newest(snapshot_row(pointer, row) if row else None, written_row(written) if written else None)
                for row, written in zip(rows[:half], rows[half:], strict=True)
            ],
        )


def snapshot_row(pointer: Pointer, packed: bytes) -> StoredRow:
    """A row of the publication."""
    return StoredRow(pointer.live.as_of, dict(zip(pointer.names, unpack(packed), strict=True)), REDIS)


def written_row(packed: bytes) -> StoredRow:
    """A row that was written since."""
    return StoredRow(*unpack(packed[INSTANT_DIGITS:]))


def packed_written(row: StoredRow) -> bytes:
    """A row to be written."""
    instant = f"{microseconds(row.as_of):0{INSTANT_DIGITS}d}"
    return instant.encode() + pack([row.as_of, row.features, row.served_from])


def lifetime_ms(live: Live) -> int:
    """How long a row is kept, in milliseconds; for each row anew."""
    fresh = (live.expires_at - live.as_of).total_seconds()
    return int(fresh * LIFETIMES * (1 + random.uniform(0, JITTER)) * 1000)  # noqa: S311 - spreads load, keeps no secret


def _client_settings(timeout_seconds: float, retry: type[Retry | AsyncRetry]) -> dict[str, Any]:
    return {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        # A connection that the server closed is replaced at once; a server that does not answer is not asked again.
        "retry": retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        "client_name": "skewless",
    }


def connect(url: str, timeout_seconds: float) -> redis.Redis:
    """A client; it connects when it is first used, in each process by itself."""
    return redis.Redis.from_url(url, **_client_settings(timeout_seconds, Retry))


def _down(error: Exception) -> RedisUnusable:
    return RedisUnusable("down", f"Redis did not answer: {error}. Check that it runs, and REDIS_URL.")


class RedisRows:
    """Feature rows of a view in Redis, for threads."""

    def __init__(self, view: FeatureView, url: str, namespace: str, timeout_seconds: float) -> None:
        self.layout = Layout(view, namespace)
        self._view = view
        self._client = connect(url, timeout_seconds)
        self._write = self._client.register_script(WRITE_UNLESS_NEWER)

    def read(self, entities: Sequence[Entity]) -> Found:
        """What is live, and the rows of these entities.

        Raises:
            RedisUnusable: when it is down, or nothing was pushed.
        """
        try:
            for _ in range(TRIES):
                seen = self.layout.seen
                found = self.layout.found(self._client.mget(self.layout.keys(entities, seen)), seen)
                if found is not None:
                    return found
        except redis.RedisError as error:
            raise _down(error) from error
        raise RedisUnusable("moving", "Publications follow one another faster than they can be read.")

    def write(self, rows: Sequence[tuple[Entity, str, StoredRow]]) -> int:
        """Keeps rows of the live definition, unless newer ones are there. Returns how many were kept.

        Raises:
            RedisUnusable: when it is down, or nothing was pushed.
        """
        try:
            self.read(())
            commands = writes(self.layout, self._view, rows)
            return sum(int(self._write(keys=[key], args=[packed, lifetime])) for key, packed, lifetime in commands)
        except redis.RedisError as error:
            raise _down(error) from error

    def close(self) -> None:
        """Gives the connections back."""
        self._client.close()


class AsyncRedisRows:
    """Feature rows of a view in Redis, for coroutines of one event loop."""

    def __init__(self, view: FeatureView, url: str, namespace: str, timeout_seconds: float) -> None:
        self.layout = Layout(view, namespace)
        self._view = view
        self._client = redis.asyncio.Redis.from_url(url, **_client_settings(timeout_seconds, AsyncRetry))
        self._write = self._client.register_script(WRITE_UNLESS_NEWER)

    async def read(self, entities: Sequence[Entity]) -> Found:
        """As `RedisRows.read`."""
        try:
            for _ in range(TRIES):
                seen = self.layout.seen
                found = self.layout.found(await self._client.mget(self.layout.keys(entities, seen)), seen)
                if found is not None:
                    return found
        except redis.RedisError as error:
            raise _down(error) from error
        raise RedisUnusable("moving", "Publications follow one another faster than they can be read.")

    async def write(self, rows: Sequence[tuple[Entity, str, StoredRow]]) -> int:
        """As `RedisRows.write`."""
        try:
            await self.read(())
            commands = writes(self.layout, self._view, rows)
            return sum([
                int(await self._write(keys=[key], args=[packed, lifetime])) for key, packed, lifetime in commands
            ])
        except redis.RedisError as error:
            raise _down(error) from error

    async def close(self) -> None:
        """As `RedisRows.close`."""
        await self._client.aclose()


def writes(
    layout: Layout, view: FeatureView, rows: Iterable[tuple[Entity, str, StoredRow]]
) -> list[tuple[str, bytes, int]]:
    """Key, value and lifetime in milliseconds of each row that is of the live definition."""
    assert layout.seen is not None  # it was read just before
    pointer = layout.seen.pointer
    prefix = layout.written_prefix(pointer)
    return [
        (prefix + entity_id(view, entity), packed_written(row), lifetime_ms(pointer.live))
        for entity, version, row in rows
        if version == pointer.live.feature_version
    ]
