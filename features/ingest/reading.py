"""Reads session events from CSV and Parquet files, chunk by chunk, and types them.

A row that cannot be typed keeps its place and gets a `reason`; whether a typed row makes *sense* (negative
durations, arrivals before the end, missing ids) is decided in one place only, the dbt macro
`session_event_rejection`.

Ids and event types are kept to the letter; only a blank one counts as missing. Instants are kept to the
microsecond, in UTC; finer digits are cut off. Columns other than COLUMNS are not read.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import SkewlessError

REQUIRED_COLUMNS = ("event_id", "user_id", "started_at", "duration_seconds", "ingested_at")
OPTIONAL_COLUMNS = ("is_deleted", "event_type")
COLUMNS = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
TEXTS = ("event_id", "user_id", "event_type")
TIMESTAMPS = ("started_at", "ingested_at")

CHUNK_ROWS = 50_000
# Entities are looked up by these texts, and PostgreSQL cannot index one of more than about 2,700 bytes.
LONGEST_TEXT_BYTES = 1_000
LARGEST_BIGINT = 2**63 - 1

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
DATE_AND_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}")
WHOLE_NUMBER = re.compile(r"([+-]?)0*([0-9]{1,19})(?:\.0*)?")
NO_OFFSET = "has no UTC offset"
BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}

SHOWN_CHARACTERS = 100


class Row(NamedTuple):
    """A row of a file.

    Attributes:
        source_row: its number, the row after the header being 1; a blank line is no row, but counts.
        reason: why it could not be typed; None for a readable row.
        row_as_it_came: an unreadable row's text as a JSON object; None for the others.
    """

    source_row: int
    event_id: str | None = None
    user_id: str | None = None
    started_at: datetime | None = None
    duration_seconds: int | None = None
    ingested_at: datetime | None = None
    is_deleted: bool = False
    event_type: str | None = None
    reason: str | None = None
    row_as_it_came: str | None = None


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a file, at least one, and how much of the file is read, 0 to 1."""

    rows: list[Row]
    progress: float


def read_chunks(path: Path, *, after_row: int = 0, assume_utc: bool = False) -> Iterator[Chunk]:
    """The file's rows whose number is above `after_row`.

    Args:
        assume_utc: read timestamps without an offset as UTC instead of refusing them.

    Raises:
        SkewlessError: when the file as a whole cannot be used. A missing column shows before the first chunk,
            broken quoting or a damaged Parquet page only when it is reached.
    """
    if not path.is_file():
        raise SkewlessError(f"{path} is not a file. Nothing was loaded; check the path.")
    if path.suffix.lower() in {".parquet", ".pq"}:
        return _read_parquet(path, after_row, assume_utc)
    if path.suffix.lower() == ".csv":
        return _read_csv(path, after_row, assume_utc)
    raise refusal(path, "its name ends neither in .csv nor in .parquet", "convert it to one of these")


def refusal(path: Path, problem: str, next_step: str) -> SkewlessError:
    """Why a file as a whole cannot be loaded, in one line that any terminal can show."""
    line = " ".join(f"{path.name}: {problem}. Nothing was loaded; {next_step}.".split())
    return SkewlessError(escaped(line))


def escaped(text: str) -> str:
    """Shows what PostgreSQL's text cannot hold (NUL, undecoded bytes) as backslash escapes."""
    return UNSTORABLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


class _UnreadableError(ValueError):
    """Why a text cannot be typed, as the end of a sentence that starts with its column and value."""


def _text(text: str) -> str:
    if UNSTORABLE.search(text):
        raise _UnreadableError("holds a NUL or bytes that are not UTF-8")
    if len(text.encode()) > LONGEST_TEXT_BYTES:
        raise _UnreadableError(f"is longer than {LONGEST_TEXT_BYTES:,} bytes")
    return text


def _instant(text: str) -> datetime:
    moment = _date_and_time(text)
    if moment.tzinfo is None:
        raise _UnreadableError(NO_OFFSET)
    return _in_utc(moment)


def _instant_or_utc(text: str) -> datetime:
    moment = _date_and_time(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else _in_utc(moment)


def _date_and_time(text: str) -> datetime:
    text = text.strip()
    try:
        # Left to itself fromisoformat takes a bare date, and some integers too.
        moment = datetime.fromisoformat(text) if DATE_AND_TIME.match(text) else None
    except ValueError:
        moment = None
    if moment is None:
        raise _UnreadableError("is not an ISO 8601 date and time")
    return moment


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise _UnreadableError("is in UTC not within the years 1 to 9999") from error


def _whole_number(text: str) -> int:
    found = WHOLE_NUMBER.fullmatch(text.strip())
    number = int(found[1] + found[2]) if found else None
    if number is None or abs(number) > LARGEST_BIGINT:
        raise _UnreadableError("is not a whole number of at most 64 bits")
    return number


def _boolean(text: str) -> bool:
    try:
        return BOOLEANS[text.strip().lower()]
    except KeyError as error:
        raise _UnreadableError("is neither true nor false") from error


PARSERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(TEXTS, _text),
    **dict.fromkeys(TIMESTAMPS, _instant),
    "duration_seconds": _whole_number,
    "is_deleted": _boolean,
}
PARSERS_ASSUMING_UTC = PARSERS | dict.fromkeys(TIMESTAMPS, _instant_or_utc)


def type_text(source_row: int, text: Mapping[str, str], *, assume_utc: bool = False) -> Row:
    """Types a row of texts by column; a blank or absent text is a missing value."""
    values = {}
    problems = []
    for name, parse in (PARSERS_ASSUMING_UTC if assume_utc else PARSERS).items():
        value = text.get(name, "")
        if not value or value.isspace():
            continue
        try:
            values[name] = parse(value)
        except _UnreadableError as problem:
            problems.append(f"{name} {_shortened(value)!r} {problem}")
    return _refused(source_row, text, ", ".join(problems)) if problems else Row(source_row, **values)


def _refused(source_row: int, text: Mapping[str, str | list[str]], reason: str) -> Row:
    as_it_came = {
        escaped(name): escaped(value) if isinstance(value, str) else [escaped(one) for one in value]
        for name, value in text.items()
    }
    return Row(source_row, reason=reason, row_as_it_came=json.dumps(as_it_came))


def _check_header(path: Path, columns: list[str]) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if missing:
        present = _shortened(", ".join(columns)) or "none"
        raise refusal(path, f"it lacks the column {', '.join(missing)}; it has {present}", "add what is missing")
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        names = _shortened(", ".join(map(repr, repeated)))
        raise refusal(path, f"it has the column {names} more than once", "rename or remove one")


def _read_csv(path: Path, after_row: int, assume_utc: bool) -> Iterator[Chunk]:
    size = max(path.stat().st_size, 1)
    # Bytes that are not UTF-8 survive as lone surrogates, so that only their row is refused.
    with (
        path.open("rb") as raw,
        TextIOWrapper(raw, newline="", encoding="utf-8-sig", errors="surrogateescape") as file,
    ):
        records = _records(path, file)
        header = [name.strip() for name in next(records, [])]
        _check_header(path, header)
        rows: list[Row] = []
        for number, fields in enumerate(records, start=1):
            if number <= after_row or not fields:
                continue
            rows.append(_type_fields(number, header, fields, assume_utc))
            if len(rows) == CHUNK_ROWS:
                yield Chunk(rows, raw.tell() / size)
                rows = []
        if rows:
            yield Chunk(rows, 1.0)


def _records(path: Path, file: TextIOWrapper) -> Iterator[list[str]]:
    """The CSV's records. Strict: past a misplaced quote nobody can tell where fields and rows end."""
    reader = csv.reader(file, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"the row that starts in line {line} cannot be read ({error})"
            raise refusal(path, problem, "look for a quote in it that is not closed or not doubled") from error
        yield fields


def _type_fields(number: int, header: list[str], fields: list[str], assume_utc: bool) -> Row:
    text = dict(zip(header, fields, strict=False))
    if len(fields) == len(header):
        return type_text(number, text, assume_utc=assume_utc)
    surplus = {"surplus fields": fields[len(header) :]} if len(fields) > len(header) else {}
    return _refused(number, {**text, **surplus}, f"has {len(fields)} fields where the header has {len(header)}")


def _read_parquet(path: Path, after_row: int, assume_utc: bool) -> Iterator[Chunk]:
    try:
        with pq.ParquetFile(path) as file:
            _check_header(path, file.schema_arrow.names)
            _check_types(path, file.schema_arrow, assume_utc)
            names = [name for name in COLUMNS if name in file.schema_arrow.names]
            done = 0
            for batch in file.iter_batches(batch_size=CHUNK_ROWS, columns=names):
                first, done = max(after_row, done), done + batch.num_rows
                if first < done:
                    rows = _type_batch(batch.slice(batch.num_rows - (done - first)), first + 1, assume_utc)
                    yield Chunk(rows, done / file.metadata.num_rows)
    except (pa.ArrowException, OSError) as error:
        raise refusal(path, f"it is not readable Parquet ({error})", "write it again") from error


def _is_text(kind: pa.DataType) -> bool:
    return kind in {pa.string(), pa.large_string(), pa.string_view()}


def _check_types(path: Path, schema: pa.Schema, assume_utc: bool) -> None:
    is_number = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    expected = {
        **dict.fromkeys(TEXTS, ("text or integers", (pa.types.is_integer,))),
        **dict.fromkeys(TIMESTAMPS, ("timestamps with a time zone", (pa.types.is_timestamp,))),
        "duration_seconds": ("integers", is_number),
        "is_deleted": ("booleans", (pa.types.is_boolean, pa.types.is_integer)),
    }
    for name in set(COLUMNS) & set(schema.names):
        kind = schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        wanted, readable = expected[name]
        if not any(is_readable(kind) for is_readable in (*readable, _is_text, pa.types.is_null)):
            raise refusal(path, f"its column {name} holds {kind}", f"store {wanted} there")
        if pa.types.is_timestamp(kind) and kind.tz is None and not assume_utc:
            next_step = "store them with one, or pass --assume-utc if they are in UTC"
            raise refusal(path, f"the timestamps in its column {name} have no time zone", next_step)


def _type_batch(batch: pa.RecordBatch, first_row: int, assume_utc: bool) -> list[Row]:
    """Parquet values take the same road as CSV text, so that both formats obey the same rules."""
    names = batch.schema.names
    records = zip(*(_as_text(column) for column in batch.columns), strict=True)
    return [
        type_text(number, dict(zip(names, values, strict=True)), assume_utc=assume_utc)
        for number, values in enumerate(records, start=first_row)
    ]


def _as_text(column: pa.Array) -> list[str]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type):
        # All are in UTC: those that do not say so were refused, or are assumed to be.
        # Arrow, unlike Python, can write down any year.
        wall_clock = column.cast(pa.timestamp(column.type.unit)).cast(pa.string())
        return ["" if value is None else value + "Z" for value in wall_clock.to_pylist()]
    if _is_text(column.type):
        raw = column.cast(pa.large_binary()).to_pylist()
        return ["" if value is None else value.decode(errors="surrogateescape") for value in raw]
    return ["" if value is None else str(value) for value in column.to_pylist()]
