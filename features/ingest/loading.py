"""Loads a file of session events into raw.session_events, all of it or nothing.

Chunks go by COPY into a buffer table and are committed one by one, so an interrupted load resumes where it
stopped. When the last one is in, a single transaction moves the whole file to raw.session_events and
raw.rejected_rows. The file's content names the load: loading the same file again changes nothing, with one
exception. Rows that were quarantined for want of a UTC offset get a second chance when the file is loaded
again with `assume_utc`.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from features import warehouse
from features.errors import SkewlessError
from features.ingest.reading import COLUMNS, NO_OFFSET, Row, escaped, read_chunks, refusal

BUFFER_COLUMNS = ("content_sha256", "source_file", *Row._fields)


@dataclass(frozen=True)
class LoadResult:
    """What came of a file: rows now in raw.session_events, and rows in raw.rejected_rows."""

    loaded: int
    rejected: int
    was_already_loaded: bool


@dataclass(frozen=True)
class _Load:
    """A load to do.

    Attributes:
        source_file: the name under which the content was first seen.
        rows_done: the number of the last row in the buffer.
        second_chance: rows of a loaded file to try again; empty when the whole file is to be loaded.
    """

    content: str
    source_file: str
    rows_done: int
    second_chance: frozenset[int]


def load_file(
    path: Path, *, assume_utc: bool = False, on_progress: Callable[[float], None] = lambda share: None
) -> LoadResult:
    """Loads a CSV or Parquet file.

    Args:
        assume_utc: read timestamps without an offset as UTC instead of quarantining their rows.
        on_progress: called with the share of the file that is read, 0 to 1.

    Raises:
        SkewlessError: when the file as a whole cannot be used; then nothing is loaded.
    """
    content = _sha256(path)
    with warehouse.connect() as connection:
        # Two loads of one file at once: the second waits, then finds it done.
        connection.execute("select pg_advisory_lock(hashtext(%s))", [content])
        load = _begin(connection, content, path, assume_utc)
        connection.commit()
        if load is None:
            return LoadResult(0, 0, was_already_loaded=True)
        try:
            _fill_buffer(connection, load, path, assume_utc, on_progress)
        except SkewlessError:
            connection.rollback()
            _forget(connection, content)
            raise
        return _finish(connection, content)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SkewlessError(
            f"{path} cannot be opened ({error.strerror}). Nothing was loaded; check path and permissions."
        ) from error


def _begin(connection: warehouse.Connection, content: str, path: Path, assume_utc: bool) -> _Load | None:
    """What is left to do for a content; None when it is loaded."""
    known = connection.execute("select * from raw.loads where content_sha256 = %s", [content]).fetchone()
    if known is None:
        return _Load(content, escaped(path.name), 0, frozenset())
    if not known["is_complete"]:
        return _Load(content, known["source_file"], known["rows_done"], frozenset())
    if not assume_utc:
        return None
    without_offset = connection.execute(
        "select source_row from raw.rejected_rows where content_sha256 = %s and reason like %s",
        [content, f"%{NO_OFFSET}%"],
    )
    second_chance = frozenset(row["source_row"] for row in without_offset)
    return _Load(content, known["source_file"], 0, second_chance) if second_chance else None


def _fill_buffer(
    connection: warehouse.Connection,
    load: _Load,
    path: Path,
    assume_utc: bool,
    on_progress: Callable[[float], None],
) -> None:
    done = load.rows_done
    for chunk in read_chunks(path, after_row=done, assume_utc=assume_utc):
        done = chunk.rows[-1].source_row
        if load.second_chance:
            _buffer(connection, load, (row for row in chunk.rows if row.source_row in load.second_chance))
        else:
            _buffer(connection, load, chunk.rows)
            _note_progress(connection, load, done)
            connection.commit()
        on_progress(chunk.progress)
    if not done:
        raise refusal(path, "it has a header and no rows", "export it again")


def _buffer(connection: warehouse.Connection, load: _Load, rows: Iterable[Row]) -> None:
    columns = ", ".join(BUFFER_COLUMNS)
    with connection.cursor().copy(f"copy raw.load_buffer ({columns}) from stdin") as copy:
        for row in rows:
            copy.write_row((load.content, load.source_file, *row))


def _note_progress(connection: warehouse.Connection, load: _Load, rows_done: int) -> None:
    connection.execute(
        """
        insert into raw.loads (content_sha256, source_file, rows_done, is_complete)
        values (%s, %s, %s, false)
        on conflict (content_sha256) do update set rows_done = excluded.rows_done, updated_at = now()
        """,
        [load.content, load.source_file, rows_done],
    )


def _forget(connection: warehouse.Connection, content: str) -> None:
    """Undoes the chunks of a file that turned out to be unusable."""
    connection.execute(CLEAR_BUFFER, {"content": content})
    connection.execute("delete from raw.loads where content_sha256 = %s and not is_complete", [content])
    connection.commit()


# Of several rows with one (event_id, ingested_at), the first counts; the others are quarantined, as they were
# understood, with what they repeat.
QUARANTINE_REPEATED = """
with candidates as (
    select
        source_row,
        event_id,
        ingested_at,
        min(source_row) over (partition by event_id, ingested_at) as first_row
    from raw.load_buffer
    where content_sha256 = %(content)s and reason is null and event_id is not null and ingested_at is not null
),

repeated as (
    select
        candidates.source_row,
        case
            when first_row < candidates.source_row
                then format('repeats event_id %%s at the same ingested_at as row %%s', event_id, first_row)
            else format(
                'event_id %%s at this ingested_at is already loaded%%s',
                event_id, ', from row ' || present.source_row || ' of ' || present.source_file
            )
        end as reason
    from candidates
    left join lateral (
        select true as is_present, source_row, source_file
        from raw.session_events as loaded
        where loaded.event_id = candidates.event_id and loaded.ingested_at = candidates.ingested_at
        limit 1
    ) as present on true
    where first_row < candidates.source_row or is_present
)

update raw.load_buffer as buffered
set
    reason = repeated.reason,
    row_as_it_came = to_jsonb(buffered)
        - array['content_sha256', 'source_file', 'source_row', 'reason', 'row_as_it_came']
from repeated
where buffered.content_sha256 = %(content)s and buffered.source_row = repeated.source_row
"""

MOVE = f"""
insert into raw.session_events ({", ".join(COLUMNS)}, source_file, source_row)
select {", ".join(COLUMNS)}, source_file, source_row
from raw.load_buffer
where content_sha256 = %(content)s and reason is null
order by source_row
"""

QUARANTINE_NO_MORE = """
delete from raw.rejected_rows as rejected
using raw.load_buffer as buffered
where
    rejected.content_sha256 = %(content)s
    and buffered.content_sha256 = rejected.content_sha256
    and buffered.source_row = rejected.source_row
"""

QUARANTINE = """
insert into raw.rejected_rows (content_sha256, source_file, source_row, reason, row_as_it_came)
select content_sha256, source_file, source_row, reason, row_as_it_came
from raw.load_buffer
where content_sha256 = %(content)s and reason is not null
"""

CLEAR_BUFFER = "delete from raw.load_buffer where content_sha256 = %(content)s"

COMPLETE = "update raw.loads set is_complete = true, updated_at = now() where content_sha256 = %(content)s"


def _finish(connection: warehouse.Connection, content: str) -> LoadResult:
    """Moves the buffered file to its place in one transaction."""
    these = {"content": content}
    # One file at a time: of two that hold the same event, the second has to see it loaded.
    connection.execute("select pg_advisory_xact_lock(hashtext('skewless load'))")
    connection.execute("analyze raw.load_buffer")
    connection.execute(QUARANTINE_REPEATED, these)
    loaded = connection.execute(MOVE, these).rowcount
    connection.execute(QUARANTINE_NO_MORE, these)
    rejected = connection.execute(QUARANTINE, these).rowcount
    connection.execute(CLEAR_BUFFER, these)
    connection.execute(COMPLETE, these)
    connection.commit()
    return LoadResult(loaded, rejected, was_already_loaded=False)
