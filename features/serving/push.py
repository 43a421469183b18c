"""Pushing: the live publication of a view goes to Redis, all of it or nothing of it.

Its rows are written under keys of their own, chunk by chunk from a cursor, and become what readers see by one changed
key. The rows of the publication before are then taken away; those of a push that broke off go by themselves in time.
"""

import logging
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import redis
from psycopg import sql
from psycopg.rows import tuple_row

from features import ledger, warehouse
from features.contract import FeatureView
from features.errors import SkewlessError
from features.ledger import Publication
from features.serving.postgres import COMPUTED, WRITTEN
from features.serving.redis import (
    WRITE_UNLESS_NEWER,
    Layout,
    Pointer,
    connect,
    lifetime_ms,
    name_of,
    packed_written,
)
from features.serving.row import Live, StoredRow, entity_id
from features.serving.values import pack

log = logging.getLogger(__name__)

CHUNK = 2_000
PROGRESS_SECONDS = 10
TIMEOUT_SECONDS = 30


class NotPushed(SkewlessError):
    """Redis did not take a publication; readers keep the one before, and PostgreSQL has this one."""


def push(view: FeatureView, url: str, namespace: str, *, take_over: bool = False) -> dict[str, Any]:
    """Pushes what is live in the ledger, unless Redis has it or something newer. Pushing again changes nothing.

    Args:
        url: of Redis.
        namespace: in front of every key; warehouses that share a Redis have one each.
        take_over: replace what another warehouse pushed under this namespace, or what is newer than the ledger, as
            after a restored backup.

    Returns:
        view, as_of (None when nothing is live), the rows that were pushed, and whether this publication is online.

    Raises:
        NotPushed: when Redis does not answer, or holds what is not this warehouse's.
    """
    client = connect(url, TIMEOUT_SECONDS)
    try:
        with warehouse.connect() as connection:
            connection.execute("set transaction isolation level repeatable read, read only")
            live = ledger.live(connection, view)
            if live is None:
                log.info("%s has no publication; nothing is pushed.", view.name)
                return {"view": view.name, "as_of": None, "rows": 0, "is_online": False}
            return _Push(connection, client, view, namespace, live, take_over).run()
    except redis.RedisError as error:
        raise NotPushed(
            f"{view.name} could not be pushed: Redis at {_without_password(url)} does not answer ({error}). Check that "
            "it runs, and REDIS_URL; then clear this task, or `make push-online`."
        ) from error
    finally:
        client.close()


def forget(url: str, namespace: str) -> int:
    """Takes everything of a namespace out of Redis. Returns how many keys there were."""
    client = connect(url, TIMEOUT_SECONDS)
    found = 0
    # `a` is where the keys of `a:b` begin, too; no view has a colon in its name.
    ours = re.compile(re.escape(f"{{{namespace}:".encode()) + rb"[^:}]*}:")
    with client:
        keys = client.scan_iter(match=f"{{{_literal(namespace)}:*", count=CHUNK)
        for chunk in _chunks(key for key in keys if ours.match(key)):
            found += client.unlink(*chunk)
    return found


class _Push:
    """One publication of a view on its way."""

    def __init__(
        self,
        connection: warehouse.Connection,
        client: redis.Redis,
        view: FeatureView,
        namespace: str,
        publication: Publication,
        take_over: bool,
    ) -> None:
        self._connection, self._client, self._view, self._take_over = connection, client, view, take_over
        self._layout = Layout(view, namespace)
        self._warehouse = _identity(connection)
        self._live = _live(connection, view, publication)

    def run(self) -> dict[str, Any]:
        """Pushes, and takes away what was there before."""
        facts = {"view": self._view.name, "as_of": self._live.as_of.isoformat()}
        before = self._present()
        if before and not self._replaces(before):
            log.info("%s: %s is online already.", self._view.name, before.live.as_of)
            return {**facts, "rows": 0, "is_online": name_of(before.live) == name_of(self._live)}
        rows = self._write_rows()
        replaced, online = self._switch()
        # Of two pushes of one publication the second finds its own rows online.
        for gone in (replaced, self._live):
            if gone and name_of(gone) != name_of(online):
                self._take_away(gone)
        if name_of(online) != name_of(self._live):
            log.info("%s: a newer publication went online meanwhile.", self._view.name)
            return {**facts, "rows": 0, "is_online": False}
        log.info("%s at %s is online: %s rows.", self._view.name, self._live.as_of, f"{rows:,}")
        return {**facts, "rows": rows, "is_online": True}

    def _present(self) -> Pointer | None:
        packed: Any = self._client.get(self._layout.live_key)
        return Pointer.of(packed) if packed else None

    def _replaces(self, before: Pointer) -> bool:
        """Whether this publication is to take the place of another."""
        if before.warehouse != self._warehouse and not self._take_over:
            raise NotPushed(
                f"Redis holds {self._view.name} of another warehouse under {self._layout.prefix}. Give this one a "
                "namespace of its own (SKEWLESS_ONLINE_NAMESPACE), or replace what is there, as after a restore: "
                "`skewless push-online --take-over`."
            )
        return self._take_over or before.live.publication_id < self._live.publication_id

    def _write_rows(self) -> int:
        """Writes the rows of the publication; returns how many it has."""
        written, told_at = 0, time.monotonic()
        prefix = self._layout.row_prefix(self._live)
        for chunk in self._rows():
            pipeline = self._client.pipeline(transaction=False)
            for row in chunk:
                entity, values = row[: len(self._view.entity)], row[len(self._view.entity) :]
                pipeline.set(prefix + entity_id(self._view, entity), pack(values), px=lifetime_ms(self._live))
            pipeline.execute()
            written += len(chunk)
            if time.monotonic() - told_at > PROGRESS_SECONDS:
                log.info("%s: %s rows pushed, %s at a time.", self._view.name, f"{written:,}", f"{CHUNK:,}")
                told_at = time.monotonic()
        return written

    def _rows(self) -> Iterator[Sequence[tuple[Any, ...]]]:
        """The publication's rows, key first, a chunk at a time."""
        query = sql.SQL("select {} from {} where as_of = %s and feature_version = %s").format(
            sql.SQL(", ").join(map(sql.Identifier, (*self._view.entity, *self._view.feature_names))),
            sql.Identifier(*self._view.relation),
        )
        with self._connection.cursor(name="pushed", row_factory=tuple_row) as cursor:
            cursor.itersize = CHUNK
            cursor.execute(query, [self._live.as_of, self._live.feature_version])
            while chunk := cursor.fetchmany(CHUNK):
                yield chunk

    def _switch(self) -> tuple[Live | None, Live]:
        """Makes the publication what readers see, unless a newer one has become it meanwhile.

        Returns:
            what they saw, and what they see.
        """

        def switch(pipeline: Any) -> tuple[Live | None, Live]:
            packed = pipeline.get(self._layout.live_key)
            present = Pointer.of(packed) if packed else None
            if present and not self._replaces(present):
                return None, present.live
            pointer = Pointer(self._live, self._view.feature_names, self._since(present), self._warehouse)
            pipeline.multi()
            pipeline.set(self._layout.live_key, pointer.packed())
            self._write_again(pipeline, pointer)
            return present.live if present else None, self._live

        # Its signature says None; it is what the callable returned.
        transaction: Any = self._client.transaction
        seen: tuple[Live | None, Live] = transaction(switch, self._layout.live_key, value_from_callable=True)
        return seen

    def _since(self, before: Pointer | None) -> str:
        """From which publication on written rows count: the last one that went back in time, or changed hands."""
        is_next = (
            before is not None
            and before.warehouse == self._warehouse
            and before.live.publication_id < self._live.publication_id
            and before.live.as_of <= self._live.as_of
        )
        return before.since if before and is_next else name_of(self._live)

    def _write_again(self, pipeline: Any, pointer: Pointer) -> None:
        """Rows that services wrote, which Redis may have lost."""
        query = sql.SQL(
            "select entity_id, written.as_of, was_computed, {} from serving.written_features as written"
            " cross join lateral jsonb_populate_record(null::{}, features) as typed"
            " where feature_view = %s and written.feature_version = %s and written.as_of > %s"
        ).format(
            sql.SQL(", ").join(sql.Identifier("typed", name) for name in self._view.feature_names),
            sql.Identifier(*self._view.relation),
        )
        with self._connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(query, [self._view.name, self._live.feature_version, self._live.as_of])
            for entity, as_of, was_computed, *values in cursor:
                features = dict(zip(self._view.feature_names, values, strict=True))
                row = StoredRow(as_of, features, COMPUTED if was_computed else WRITTEN)
                key = self._layout.written_prefix(pointer) + entity
                pipeline.eval(WRITE_UNLESS_NEWER, 1, key, packed_written(row), lifetime_ms(self._live))

    def _take_away(self, live: Live) -> None:
        """The rows of a publication that nobody reads any more."""
        prefix = self._layout.row_prefix(live)
        query = sql.SQL("select {} from {} where as_of = %s and feature_version = %s").format(
            sql.SQL(", ").join(map(sql.Identifier, self._view.entity)), sql.Identifier(*self._view.relation)
        )
        with self._connection.cursor(name="gone", row_factory=tuple_row) as cursor:
            cursor.execute(query, [live.as_of, live.feature_version])
            while chunk := cursor.fetchmany(CHUNK):
                self._client.unlink(*(prefix + entity_id(self._view, entity) for entity in chunk))


def _identity(connection: warehouse.Connection) -> str:
    """Which warehouse this is: of a copy or a restored backup it is another."""
    row = connection.execute(
        "select system_identifier || '/' || (select oid from pg_database where datname = current_database()) as id"
        " from pg_control_system()"
    ).fetchone()
    assert row is not None
    return str(row["id"])


def _live(connection: warehouse.Connection, view: FeatureView, publication: Publication) -> Live:
    row = connection.execute(
        "select publication_id, as_of, feature_version, published_at, as_of + %s::interval as expires_at"
        " from serving.publications where publication_id = %s",
        [view.expires_after, publication.publication_id],
    ).fetchone()
    assert row is not None
    return Live(**row)


def _chunks(keys: Iterator[bytes]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    for key in keys:
        chunk.append(key)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _literal(namespace: str) -> str:
    """A namespace as a pattern that matches itself."""
    return "".join(f"\\{letter}" if letter in "*?[]\\^" else letter for letter in namespace)


def _without_password(url: str) -> str:
    front, at, back = url.rpartition("@")
    return f"{front.split('://')[0]}://***@{back}" if at else url
