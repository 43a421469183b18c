"""Loads a file of session events into raw.session_events, all of it or nothing.

Chunks go by COPY into a buffer table and are committed one by one, so an interrupted load resumes where it stopped. When the last one is
in, a single transaction moves the whole file to raw.session_events and raw.rejected_rows. The file's content names the
load: loading the same file again changes nothing.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from features import warehouse
from features.errors import SkewlessError
from features.ingest.reading import COLUMNS, read_chunks

BUFFER_COLUMNS = ("content_sha256", "source_file", "source_row", *COLUMNS, "reason", "row_as_it_came")


@dataclass(frozen=True)
class LoadResult:
    """What came of a file: rows now in raw.session_events, and rows in raw.rejected_rows."""

    loaded: int
    rejected: int
    was_already_loaded: bool


def load_file(path: Path, *, assume_utc: bool = False, on_progress: Callable[[float], None] = lambda share: None) -> LoadResult:
    """Loads a CSV or Parquet file.

    Args:
        assume_utc: read timestamps without an offset as UTC instead of quarantining their rows.
        on_progress: called with the share of the file that is read, 0 to 1.

    Raises:
        SkewlessError: when the file as a whole cannot be used; then nothing is loaded.
    """
    if not path.is_file():
        raise SkewlessError(f"{path} is not a file.")
    content = _sha256(path)
    with warehouse.connect() as connection:
        # Two loads of one file at once: the second waits, then finds it done.
        connection.execute("select pg_advisory_lock(hashtext(%s))", [content])
        known = connection.execute("select * from raw.loads where content_sha256 = %s", [content]).fetchone()
        connection.commit()
        if known and known["is_complete"]:
            return LoadResult(0, 0, was_already_loaded=True)
        done = known["rows_done"] if known else 0
        for chunk in read_chunks(path, skip_rows=done, assume_utc=assume_utc):
            _buffer(connection, content, path.name, chunk.rows)
            done += len(chunk.rows)
            connection.execute(
                """
                insert into raw.loads (content_sha256, source_file, rows_done, is_complete)
                values (%s, %s, %s, false)
                on conflict (content_sha256) do update set rows_done = excluded.rows_done, updated_at = now()
                """,
                [content, path.name, done],
            )
            connection.commit()
            on_progress(chunk.progress)
        if not done:
            raise SkewlessError(f"{path.name} has a header and no rows. Nothing was loaded.")
        return _finish(connection, content)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _buffer(connection: warehouse.Connection, content: str, source_file: str, rows: pd.DataFrame) -> None:
    rows = rows.assign(content_sha256=content, source_file=source_file)[list(BUFFER_COLUMNS)]
    readable = rows["reason"].isna()
    for name in COLUMNS:
        if name != "is_deleted":
            rows[name] = rows[name].where(readable, None)
    text = io.StringIO()
    rows.to_csv(text, index=False, header=False, date_format="%Y-%m-%dT%H:%M:%S.%f%z")
    columns = ", ".join(BUFFER_COLUMNS)
    with connection.cursor().copy(f"copy raw.load_buffer ({columns}) from stdin (format csv)") as copy:
        copy.write(text.getvalue())


# Of several rows with one (event_id, ingested_at), the first counts; the others are quarantined with what they repeat.
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
                then format('repeats event_id %%s at the same ingested_at as row %%s', candidates.event_id, first_row)
            else format(
                'event_id %%s at this ingested_at is already loaded, from row %%s of %%s',
                candidates.event_id, loaded.source_row, loaded.source_file
            )
        end as reason
    from candidates
    left join lateral (
        select present.event_id, present.source_file, present.source_row
        from raw.session_events as present
        where present.event_id = candidates.event_id and present.ingested_at = candidates.ingested_at
        limit 1
    ) as loaded on true
    where first_row < candidates.source_row or loaded.event_id is not null
)

update raw.load_buffer as buffered
set
    reason = repeated.reason,
    row_as_it_came = to_jsonb(buffered) - array['content_sha256', 'source_file', 'source_row', 'reason', 'row_as_it_came']
from repeated
where buffered.content_sha256 = %(content)s and buffered.source_row = repeated.source_row
"""

MOVE = f"""
insert into raw.session_events ({", ".join(COLUMNS)}, source_file, source_row)
select {", ".join(COLUMNS)}, source_file, source_row
from raw.load_buffer
where content_sha256 = %(content)s and reason is null
"""

QUARANTINE = """
insert into raw.rejected_rows (content_sha256, source_file, source_row, reason, row_as_it_came)
select content_sha256, source_file, source_row, reason, row_as_it_came
from raw.load_buffer
where content_sha256 = %(content)s and reason is not null
"""


def _finish(connection: warehouse.Connection, content: str) -> LoadResult:
    """Moves the buffered file to its place in one transaction."""
    these = {"content": content}
    connection.execute("analyze raw.load_buffer")
    connection.execute(QUARANTINE_REPEATED, these)
    loaded = connection.execute(MOVE, these).rowcount
    rejected = connection.execute(QUARANTINE, these).rowcount
    connection.execute("delete from raw.load_buffer where content_sha256 = %(content)s", these)
    connection.execute("update raw.loads set is_complete = true, updated_at = now() where content_sha256 = %(content)s", these)
    connection.commit()
    return LoadResult(loaded, rejected, was_already_loaded=False)
