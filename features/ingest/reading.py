"""Reads session events from CSV and Parquet files, chunk by chunk, and types them.

A row that cannot be typed keeps its place in the chunk and gets a `reason`; whether a typed row makes *sense* (negative
durations, arrivals before the end, missing ids) is decided in one place only, the dbt macro `session_event_rejection`.
"""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import SkewlessError

REQUIRED_COLUMNS = ("event_id", "user_id", "started_at", "duration_seconds", "ingested_at")
OPTIONAL_COLUMNS = ("is_deleted",)
COLUMNS = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
TIMESTAMPS = ("started_at", "ingested_at")

CHUNK_ROWS = 50_000
LARGEST_EXACT_INTEGER = 2**53
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
HAS_OFFSET = r"(?:Z|[+-]\d\d(?::?\d\d)?)$"
BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False, "": False}


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a file.

    Attributes:
        rows: COLUMNS typed, plus source_row, reason (None for a readable row) and row_as_it_came (JSON, for the others).
        progress: how much of the file is read, 0 to 1.
    """

    rows: pd.DataFrame
    progress: float


def read_chunks(path: Path, *, skip_rows: int = 0, assume_utc: bool = False) -> Iterator[Chunk]:
    """The file's rows after the first `skip_rows`.

    Args:
        assume_utc: read timestamps without an offset as UTC instead of refusing them.

    Raises:
        SkewlessError: when the file as a whole cannot be used, such as a missing column. Raised before the first chunk.
    """
    if not path.is_file():
        raise SkewlessError(f"{path} is not a file.")
    if path.suffix.lower() in {".parquet", ".pq"}:
        return _read_parquet(path, skip_rows, assume_utc)
    if path.suffix.lower() == ".csv":
        return _read_csv(path, skip_rows, assume_utc)
    raise SkewlessError(f"{path.name}: only .csv and .parquet files can be loaded.")


def _check_header(path: Path, columns: list[str]) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if missing:
        raise SkewlessError(
            f"{path.name} lacks the column {', '.join(missing)}; it has {', '.join(columns) or 'none'}. Nothing was loaded."
        )
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise SkewlessError(f"{path.name} has the column {', '.join(repeated)} twice. Nothing was loaded.")


def _read_csv(path: Path, skip_rows: int, assume_utc: bool) -> Iterator[Chunk]:
    size = max(path.stat().st_size, 1)
    # Bytes that are not UTF-8 survive as lone surrogates, so that only their row is refused.
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        read_bytes = 0

        def lines() -> Iterator[str]:
            nonlocal read_bytes
            for line in file:
                read_bytes += len(line)
                yield line

        reader = csv.reader(lines())
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header)
        chunk: list[list[str]] = []
        first_row = skip_rows + 1
        try:
            for number, row in enumerate((row for row in reader if row), start=1):
                if number <= skip_rows:
                    continue
                chunk.append(row)
                if len(chunk) == CHUNK_ROWS:
                    yield Chunk(_type_csv_rows(chunk, header, first_row, assume_utc), min(read_bytes / size, 1.0))
                    first_row += len(chunk)
                    chunk = []
        except csv.Error as error:
            raise SkewlessError(f"{path.name}, line {reader.line_num}: {error}. Nothing was loaded.") from error
        if chunk:
            yield Chunk(_type_csv_rows(chunk, header, first_row, assume_utc), 1.0)


def _type_csv_rows(rows: list[list[str]], header: list[str], first_row: int, assume_utc: bool) -> pd.DataFrame:
    width = len(header)
    problems: dict[int, str] = {}
    for position, row in enumerate(rows):
        if len(row) != width:
            problems[position] = f"has {len(row)} fields where the header has {width}"
            rows[position] = (row + [""] * width)[:width]
    return _type_rows(rows, header, problems, first_row, assume_utc)


def _type_rows(
    rows: list[list[str]], header: list[str], problems: dict[int, str], first_row: int, assume_utc: bool
) -> pd.DataFrame:
    """Types rows of text of one width; `problems` are those already found, by position."""
    if any(UNSTORABLE.search(value) for value in ("".join(row) for row in rows)):
        for position, row in enumerate(rows):
            if any(UNSTORABLE.search(value) for value in row):
                problems[position] = "holds bytes that are not UTF-8 text"
                rows[position] = [_escape(value) for value in row]
    text = pd.DataFrame(rows, columns=header, dtype="str")
    typed, reasons = type_text(text, assume_utc=assume_utc)
    for position, problem in problems.items():
        reasons[position].insert(0, problem)
    return _finish(typed, reasons, text, first_row)


def _escape(text: str) -> str:
    """Shows what PostgreSQL's text cannot hold (NUL, undecoded bytes) as backslash escapes."""
    return UNSTORABLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def type_text(text: pd.DataFrame, *, assume_utc: bool) -> tuple[pd.DataFrame, list[list[str]]]:
    """Types a frame of strings; an empty string is a missing value.

    Returns:
        the typed COLUMNS, and for each row the list of what could not be read in it.
    """
    reasons: list[list[str]] = [[] for _ in range(len(text))]
    stripped = {name: text[name].str.strip() for name in COLUMNS if name in text}
    typed = pd.DataFrame(index=text.index)
    for name in ("event_id", "user_id"):
        typed[name] = stripped[name].where(stripped[name] != "", None)
    for name in TIMESTAMPS:
        typed[name] = _type_timestamps(name, stripped[name], reasons, assume_utc)
    typed["duration_seconds"] = _type_whole_numbers("duration_seconds", stripped["duration_seconds"], reasons)
    deleted = stripped.get("is_deleted", pd.Series("", index=text.index, dtype="str")).str.lower()
    known = deleted.isin(list(BOOLEANS))
    _note(reasons, ~known, deleted, "is_deleted {!r} is neither true nor false")
    typed["is_deleted"] = deleted.map(BOOLEANS).where(known, False).astype(bool)
    return typed, reasons


def _note(reasons: list[list[str]], bad: pd.Series, values: pd.Series, message: str) -> None:
    for position in bad.to_numpy().nonzero()[0]:
        reasons[position].append(message.format(values.iloc[position]))


def _type_timestamps(name: str, text: pd.Series, reasons: list[list[str]], assume_utc: bool) -> pd.Series:
    given = text != ""
    parsed = pd.to_datetime(text.where(given, None), utc=True, errors="coerce", format="ISO8601")
    unreadable = given & parsed.isna()
    _note(reasons, unreadable, text, name + " {!r} is not an ISO 8601 timestamp")
    if not assume_utc:
        naive = given & ~unreadable & ~text.str.contains(HAS_OFFSET, regex=True)
        _note(reasons, naive, text, name + " {!r} has no UTC offset")
        parsed = parsed.mask(naive)
    return parsed


def _type_whole_numbers(name: str, text: pd.Series, reasons: list[list[str]]) -> pd.Series:
    given = text != ""
    parsed = pd.to_numeric(text.where(given, None), errors="coerce").astype("float64")
    whole = (parsed % 1 == 0) & (parsed.abs() < LARGEST_EXACT_INTEGER)
    _note(reasons, given & ~whole, text, name + " {!r} is not a whole number")
    return parsed.where(whole).astype("Int64")


def _read_parquet(path: Path, skip_rows: int, assume_utc: bool) -> Iterator[Chunk]:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise SkewlessError(f"{path.name} is not a readable Parquet file: {error}. Nothing was loaded.") from error
    with file:
        _check_header(path, file.schema_arrow.names)
        _check_parquet_types(path, file.schema_arrow, assume_utc)
        total = max(file.metadata.num_rows, 1)
        columns = [name for name in COLUMNS if name in file.schema_arrow.names]
        done = 0
        for batch in file.iter_batches(batch_size=CHUNK_ROWS, columns=columns):
            start = max(skip_rows - done, 0)
            done += batch.num_rows
            if start >= batch.num_rows:
                continue
            rows = pa.Table.from_batches([batch.slice(start)])
            yield Chunk(_type_parquet_rows(rows, done - rows.num_rows + 1, assume_utc), done / total)


def _check_parquet_types(path: Path, schema: pa.Schema, assume_utc: bool) -> None:
    for name in TIMESTAMPS:
        kind = schema.field(name).type
        if pa.types.is_timestamp(kind) and kind.tz is None and not assume_utc:
            raise SkewlessError(
                f"{path.name}: the timestamps of column {name} have no time zone. Store them with one, or pass "
                "--assume-utc if they are UTC. Nothing was loaded."
            )


def _type_parquet_rows(rows: pa.Table, first_row: int, assume_utc: bool) -> pd.DataFrame:
    """Parquet values take the same road as CSV text, so that both formats obey the same rules."""
    text = [list(row) for row in zip(*(_as_text(column) for column in rows.columns), strict=True)]
    return _type_rows(text, rows.column_names, {}, first_row, assume_utc)


def _as_text(column: pa.ChunkedArray) -> list[str]:
    if pa.types.is_timestamp(column.type):
        return ["" if value is None else value.isoformat() for value in column.to_pylist()]
    return ["" if value is None else str(value) for value in column.to_pylist()]


def _finish(typed: pd.DataFrame, reasons: list[list[str]], text: pd.DataFrame, first_row: int) -> pd.DataFrame:
    typed["source_row"] = range(first_row, first_row + len(typed))
    typed["reason"] = [", ".join(row) or None for row in reasons]
    typed["row_as_it_came"] = None
    for position, row in enumerate(reasons):
        if row:
            typed.iat[position, typed.columns.get_loc("row_as_it_came")] = _as_json(text.iloc[position])
    return typed


def _as_json(row: pd.Series) -> str:
    return json.dumps({str(name): value for name, value in row.items()})
