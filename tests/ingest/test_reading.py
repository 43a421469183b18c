"""Which files are refused as a whole, which rows are refused alone, and what the others are read as."""

import codecs
import csv
import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import SkewlessError
from features.ingest import reading
from features.ingest.reading import COLUMNS, Row, read_chunks, type_text

HEADER = "event_id,user_id,started_at,duration_seconds,ingested_at"
GOOD = "e1,u1,2024-01-01T10:00:00Z,600,2024-01-01T10:15:00Z"
GOOD_TEXT = dict(zip(HEADER.split(","), GOOD.split(","), strict=True))
GOOD_VALUES: dict[str, Any] = {
    "event_id": "e1",
    "user_id": "u1",
    "started_at": datetime(2024, 1, 1, 10, tzinfo=UTC),
    "duration_seconds": 600,
    "ingested_at": datetime(2024, 1, 1, 10, 15, tzinfo=UTC),
}


def csv_file(folder: Path, *lines: str | bytes, newline: bytes = b"\n") -> Path:
    path = folder / "events.csv"
    path.write_bytes(newline.join(line.encode() if isinstance(line, str) else line for line in lines))
    return path


def parquet_file(folder: Path, **columns: pa.Array) -> Path:
    """A file of as many good rows as the given columns have."""
    length = len(next(iter(columns.values()), [None]))
    good = {name: pa.array([value] * length) for name, value in GOOD_VALUES.items()}
    path = folder / "events.parquet"
    pq.write_table(pa.table(good | columns), path)
    return path


def read(path: Path, *, after_row: int = 0, assume_utc: bool = False) -> list[Row]:
    return [row for chunk in read_chunks(path, after_row=after_row, assume_utc=assume_utc) for row in chunk.rows]


def refusal_of(path: Path) -> str:
    with pytest.raises(SkewlessError) as refused:
        read(path)
    return str(refused.value)


def as_it_came(row: Row) -> dict[str, Any]:
    assert row.row_as_it_came is not None
    came: dict[str, Any] = json.loads(row.row_as_it_came)
    return came


class TestFilesRefusedAsAWhole:
    @pytest.mark.parametrize(
        ("lines", "problem"),
        [
            (
                ["event_id,user_id,duration_seconds,ingested_at", "e1,u1,600,2024-01-01T10:15:00Z"],
                "lacks the column started_at; it has event_id, user_id, duration_seconds, ingested_at",
            ),
            ([HEADER.replace(",", ";")], "it has event_id;user_id;started_at"),
            ([], "lacks the column event_id, user_id, started_at, .*; it has none"),
            ([HEADER + ",user_id", GOOD + ",u1"], "has the column 'user_id' more than once"),
            ([HEADER + ", user_id", GOOD + ",u1"], "has the column 'user_id' more than once"),
            ([HEADER, GOOD, '"e2,u2', GOOD, GOOD], "starts in line 3 .*unexpected end of data"),
            ([HEADER, GOOD, '"e"2,u2', GOOD], "starts in line 3 .*',' expected after '\"'"),
            ([HEADER, GOOD, "e" * 140_000], "starts in line 3 .*field larger than field limit"),
            (["h" * 140_000], "starts in line 1 .*field larger than field limit"),
        ],
        ids=[
            "missing column",
            "other delimiter",
            "empty",
            "repeated column",
            "repeated but for a space",
            "quote never closed",
            "quote not doubled",
            "over-long field",
            "over-long header",
        ],
    )
    def test_csv(self, tmp_path: Path, lines: list[str], problem: str) -> None:
        with pytest.raises(SkewlessError, match=problem) as refused:
            read(csv_file(tmp_path, *lines))
        assert str(refused.value).startswith("events.csv: ")
        assert "Nothing was loaded; " in str(refused.value)
        assert "\n" not in str(refused.value)

    def test_a_csv_in_utf_16_whose_message_any_terminal_can_show(self, tmp_path: Path) -> None:
        path = csv_file(tmp_path, codecs.BOM_UTF16_LE + f"{HEADER}\n{GOOD}\n".encode("utf-16-le"))
        assert refusal_of(path).encode().startswith(b"events.csv: it lacks the column event_id")

    @pytest.mark.parametrize("name", ["events.xlsx", "events.csv.gz", "events"])
    def test_other_kinds_of_files(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        path.write_text(f"{HEADER}\n{GOOD}\n")
        assert refusal_of(path).startswith(f"{name}: its name ends neither in .csv nor in .parquet")

    def test_a_path_without_a_file(self, tmp_path: Path) -> None:
        assert refusal_of(tmp_path / "nowhere.csv").startswith(f"{tmp_path}/nowhere.csv is not a file")
        assert refusal_of(tmp_path).startswith(f"{tmp_path} is not a file")

    @pytest.mark.parametrize("share_kept", [0, 0.5, 0.99])
    def test_a_truncated_parquet_file(self, tmp_path: Path, share_kept: float) -> None:
        path = parquet_file(tmp_path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share_kept)])
        assert refusal_of(path).startswith("events.parquet: it is not readable Parquet (")

    def test_a_parquet_file_with_a_damaged_page(self, tmp_path: Path) -> None:
        path = parquet_file(tmp_path, user_id=pa.array([f"u{number}" for number in range(1000)]))
        content = bytearray(path.read_bytes())
        damaged = pq.ParquetFile(path).metadata.row_group(0).column(1)
        content[damaged.dictionary_page_offset : damaged.data_page_offset] = b"\xff" * (
            damaged.data_page_offset - damaged.dictionary_page_offset
        )
        path.write_bytes(content)
        assert refusal_of(path).startswith("events.parquet: it is not readable Parquet (")

    def test_a_parquet_file_that_lacks_or_repeats_a_column(self, tmp_path: Path) -> None:
        path = parquet_file(tmp_path)
        good = pq.read_table(path)
        pq.write_table(good.drop_columns("started_at"), path)
        assert "lacks the column started_at" in refusal_of(path)
        pq.write_table(good.append_column("user_id", good.column("user_id")), path)
        assert "column 'user_id' more than once" in refusal_of(path)

    @pytest.mark.parametrize(
        ("column", "values", "kind", "wanted"),
        [
            ("started_at", pa.array([date(2024, 1, 1)]), "date32[day]", "timestamps with a time zone"),
            ("started_at", pa.array([1704103200]), "int64", "timestamps with a time zone"),
            ("ingested_at", pa.array([1704103200.5]), "double", "timestamps with a time zone"),
            ("ingested_at", pa.array([time(10)]), "time64[us]", "timestamps with a time zone"),
            ("duration_seconds", pa.array([timedelta(seconds=1)]), "duration[us]", "integers"),
            ("user_id", pa.array([b"u1"]), "binary", "text or integers"),
            ("event_id", pa.array([1.0]), "double", "text or integers"),
            ("event_id", pa.array([[1]]), "list<element: int64>", "text or integers"),
            ("is_deleted", pa.array([1.0]), "double", "booleans"),
            ("event_type", pa.array([1.0]), "double", "text or integers"),
        ],
    )
    def test_a_parquet_column_of_a_type_that_says_something_else(
        self, tmp_path: Path, column: str, values: pa.Array, kind: str, wanted: str
    ) -> None:
        assert refusal_of(parquet_file(tmp_path, **{column: values})) == (
            f"events.parquet: its column {column} holds {kind}. Nothing was loaded; store {wanted} there."
        )

    def test_parquet_timestamps_without_a_time_zone_unless_they_are_said_to_be_utc(self, tmp_path: Path) -> None:
        naive = pa.array([datetime(2024, 1, 1, 10, 0, 0, 123456)])  # noqa: DTZ001 - that is the point
        path = parquet_file(tmp_path, started_at=naive)
        assert "its column started_at have no time zone. Nothing was loaded; store" in refusal_of(path)
        (row,) = read(path, assume_utc=True)
        assert row.started_at == datetime(2024, 1, 1, 10, 0, 0, 123456, tzinfo=UTC)


class TestRowsRefusedAlone:
    """They keep their number, say which value of which column is unreadable, and carry the row as it came."""

    @pytest.mark.parametrize(
        ("column", "value", "problem"),
        [
            ("started_at", "yesterday", "is not an ISO 8601 date and time"),
            ("started_at", "now", "is not an ISO 8601 date and time"),
            ("started_at", "NaT", "is not an ISO 8601 date and time"),
            ("started_at", "2024-01-05", "is not an ISO 8601 date and time"),
            ("started_at", "1704103200", "is not an ISO 8601 date and time"),
            ("started_at", "1712053112345", "is not an ISO 8601 date and time"),
            ("started_at", "01/05/2024 10:00:00Z", "is not an ISO 8601 date and time"),
            ("started_at", "2024-02-30T10:00:00Z", "is not an ISO 8601 date and time"),
            ("started_at", "2024-01-01T10:00:00 UTC", "is not an ISO 8601 date and time"),
            ("started_at", "2024-01-01T10:00:00+24:00", "is not an ISO 8601 date and time"),
            ("started_at", "0000-01-01T10:00:00Z", "is not an ISO 8601 date and time"),
            ("started_at", "2024-01-01T10:00:00", "has no UTC offset"),
            ("ingested_at", "2024-01-01 10:00", "has no UTC offset"),
            ("ingested_at", "9999-12-31T23:59:59-01:00", "is in UTC not within the years 1 to 9999"),
            ("ingested_at", "0001-01-01T00:00:00+01:00", "is in UTC not within the years 1 to 9999"),
            ("duration_seconds", "600.5", "is not a whole number of at most 64 bits"),
            ("duration_seconds", "1e3", "is not a whole number of at most 64 bits"),
            ("duration_seconds", "0x10", "is not a whole number of at most 64 bits"),
            ("duration_seconds", "1_000", "is not a whole number of at most 64 bits"),
            ("duration_seconds", "nan", "is not a whole number of at most 64 bits"),
            ("duration_seconds", "inf", "is not a whole number of at most 64 bits"),
            ("duration_seconds", "\u0663", "is not a whole number of at most 64 bits"),
            ("duration_seconds", str(2**63), "is not a whole number of at most 64 bits"),
            ("duration_seconds", str(-(2**63)), "is not a whole number of at most 64 bits"),
            ("is_deleted", "perhaps", "is neither true nor false"),
            ("is_deleted", "2", "is neither true nor false"),
            ("event_id", "e\x001", "holds a NUL or bytes that are not UTF-8"),
            ("user_id", "\udce9t\udce9", "holds a NUL or bytes that are not UTF-8"),
            ("event_type", "JFK\x00LAX", "holds a NUL or bytes that are not UTF-8"),
            ("event_type", "\udce9", "holds a NUL or bytes that are not UTF-8"),
        ],
    )
    def test_for_one_value(self, column: str, value: str, problem: str) -> None:
        row = type_text(7, GOOD_TEXT | {column: value})
        assert row.reason == f"{column} {value!r} {problem}"
        assert row.source_row == 7
        escaped = value.encode("utf-8", "surrogateescape").replace(b"\x00", rb"\x00").replace(b"\xe9", rb"\udce9")
        assert as_it_came(row) == GOOD_TEXT | {column: escaped.decode()}

    def test_for_several_values_at_once(self) -> None:
        row = type_text(1, GOOD_TEXT | {"started_at": "soon", "duration_seconds": "long"})
        assert row.reason == (
            "started_at 'soon' is not an ISO 8601 date and time, "
            "duration_seconds 'long' is not a whole number of at most 64 bits"
        )

    @pytest.mark.parametrize("column", ["event_id", "user_id", "event_type"])
    def test_for_a_text_that_is_too_long_to_be_indexed(self, column: str) -> None:
        two_bytes = "\u00e9"
        longest = {column: two_bytes * 500}
        assert type_text(1, GOOD_TEXT | longest) == Row(1, **GOOD_VALUES | longest)
        row = type_text(1, GOOD_TEXT | {column: two_bytes * 501})
        assert row.reason == f"{column} '{two_bytes * 100}...' is longer than 1,000 bytes"
        assert as_it_came(row) == GOOD_TEXT | {column: two_bytes * 501}

    def test_with_none_of_their_values_typed(self) -> None:
        assert type_text(1, GOOD_TEXT | {"started_at": "soon"})[1:-2] == Row(1)[1:-2]

    @pytest.mark.parametrize(
        ("line", "count", "came"),
        [
            ("e2,u2", 2, {"event_id": "e2", "user_id": "u2"}),
            (" ", 1, {"event_id": " "}),
            (GOOD + ",x,y", 7, GOOD_TEXT | {"surplus fields": ["x", "y"]}),
            (GOOD + ",", 6, GOOD_TEXT | {"surplus fields": [""]}),
            (GOOD + ",\x00", 6, GOOD_TEXT | {"surplus fields": ["\\x00"]}),
        ],
    )
    def test_for_too_few_or_too_many_fields(
        self, tmp_path: Path, line: str, count: int, came: dict[str, object]
    ) -> None:
        first, second, third = read(csv_file(tmp_path, HEADER, GOOD, line, GOOD))
        assert second.reason == f"has {count} fields where the header has 5"
        assert as_it_came(second) == came
        assert first == Row(1, **GOOD_VALUES)
        assert third == Row(3, **GOOD_VALUES)

    def test_for_bytes_that_are_not_utf_8(self, tmp_path: Path) -> None:
        latin_1 = GOOD.replace("u1", "Andr\u00e9").encode("latin-1")
        first, second, third = read(csv_file(tmp_path, HEADER, GOOD, latin_1, GOOD))
        assert second.reason == r"user_id 'Andr\udce9' holds a NUL or bytes that are not UTF-8"
        assert as_it_came(second) == GOOD_TEXT | {"user_id": r"Andr\udce9"}
        assert (first.reason, third.reason) == (None, None)

    def test_in_parquet_by_the_same_rules(self, tmp_path: Path) -> None:
        not_utf_8 = pa.array([b"u1", b"Andr\xe9", b"u\x003", b"u4", b"u5"]).view(pa.string())
        durations = pa.array([600.0, 600.0, 600.0, 600.5, None])
        rows = read(parquet_file(tmp_path, user_id=not_utf_8, duration_seconds=durations))
        assert [row.reason for row in rows] == [
            None,
            r"user_id 'Andr\udce9' holds a NUL or bytes that are not UTF-8",
            r"user_id 'u\x003' holds a NUL or bytes that are not UTF-8",
            "duration_seconds '600.5' is not a whole number of at most 64 bits",
            None,
        ]
        assert [row.source_row for row in rows] == [1, 2, 3, 4, 5]
        assert as_it_came(rows[3])["duration_seconds"] == "600.5"

    def test_for_parquet_timestamps_in_years_that_python_does_not_know(self, tmp_path: Path) -> None:
        far = pa.array([253402300799, 253402300800, -62135596801, 2**53], pa.timestamp("s", "UTC"))
        last, *others = read(parquet_file(tmp_path, started_at=far))
        assert last.started_at == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
        assert all(str(row.reason).endswith("is not an ISO 8601 date and time") for row in others)
        assert len(others) == 3


class TestRowsRead:
    @pytest.mark.parametrize(
        ("column", "text", "value"),
        [
            ("started_at", "2024-01-01T10:00:00Z", datetime(2024, 1, 1, 10, tzinfo=UTC)),
            ("started_at", " 2024-01-01 10:00:00+00 ", datetime(2024, 1, 1, 10, tzinfo=UTC)),
            ("started_at", "2024-01-01T10:00+05:30", datetime(2024, 1, 1, 4, 30, tzinfo=UTC)),
            ("started_at", "2024-01-01T01:00:00-0300", datetime(2024, 1, 1, 4, tzinfo=UTC)),
            ("started_at", "2024-01-01T10:00:00.000001Z", datetime(2024, 1, 1, 10, 0, 0, 1, tzinfo=UTC)),
            ("started_at", "2024-01-01T10:00:00.1Z", datetime(2024, 1, 1, 10, 0, 0, 100_000, tzinfo=UTC)),
            (
                "started_at",
                "2024-01-01T10:00:00.123456999Z",
                datetime(2024, 1, 1, 10, 0, 0, 123456, tzinfo=UTC),
            ),
            ("ingested_at", "0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
            ("duration_seconds", "0", 0),
            ("duration_seconds", " +600 ", 600),
            ("duration_seconds", "600.0", 600),
            ("duration_seconds", "600.", 600),
            ("duration_seconds", "00000000000000000000600", 600),
            ("duration_seconds", str(2**53 + 1), 2**53 + 1),
            ("duration_seconds", str(2**63 - 1), 2**63 - 1),
            ("is_deleted", "true", True),
            ("is_deleted", " T ", True),
            ("is_deleted", "1", True),
            ("is_deleted", "False", False),
            ("is_deleted", "0", False),
            ("is_deleted", "", False),
            ("user_id", " u1", " u1"),
            ("user_id", "NULL", "NULL"),
            ("user_id", "007", "007"),
            ("event_type", "JFK-LAX", "JFK-LAX"),
            ("event_type", " jfk ", " jfk "),
            ("event_type", "null", "null"),
            ("event_type", "\U0001f6eb caf\u00e9", "\U0001f6eb caf\u00e9"),
            ("event_type", "", None),
        ],
    )
    def test_a_value(self, column: str, text: str, value: object) -> None:
        assert type_text(1, GOOD_TEXT | {column: text}) == Row(1, **GOOD_VALUES | {column: value})

    @pytest.mark.parametrize("blank", ["", " ", "\t\u3000"])
    def test_a_blank_value_as_missing(self, blank: str) -> None:
        assert type_text(1, dict.fromkeys(COLUMNS, blank)) == Row(1)

    @pytest.mark.parametrize(
        "nonsense",
        [
            {"duration_seconds": "-600"},
            {"ingested_at": "2023-01-01T10:15:00Z"},
            {"event_id": ""},
            {"user_id": ""},
            {"started_at": ""},
        ],
    )
    def test_a_row_that_makes_no_sense_because_dbt_decides_about_that(self, nonsense: dict[str, str]) -> None:
        assert type_text(1, GOOD_TEXT | nonsense).reason is None

    def test_timestamps_without_an_offset_as_utc_if_so_told(self) -> None:
        naive = GOOD_TEXT | {"started_at": "2024-01-01T10:00:00", "ingested_at": "2024-01-01T11:15:00+01:00"}
        assert type_text(1, naive, assume_utc=True) == Row(1, **GOOD_VALUES)
        assert type_text(1, GOOD_TEXT | {"started_at": "2024-01-05"}, assume_utc=True).reason == (
            "started_at '2024-01-05' is not an ISO 8601 date and time"
        )

    def test_quoted_delimiters_quotes_and_line_ends(self, tmp_path: Path) -> None:
        (row,) = read(csv_file(tmp_path, HEADER, GOOD.replace("u1", '"a,b""c""\r\nd\ne"')))
        assert row == Row(1, **GOOD_VALUES | {"user_id": 'a,b"c"\r\nd\ne'})

    def test_an_event_type_that_is_there_blank_or_quoted_and_a_file_without_one(self, tmp_path: Path) -> None:
        lines = (f"{GOOD},JFK-LAX", f"{GOOD},", f"{GOOD}, ", GOOD + ',"a,b""c""\r\nd\ne; \u2192"')
        rows = read(csv_file(tmp_path, f"{HEADER},event_type", *lines))
        types = ["JFK-LAX", None, None, 'a,b"c"\r\nd\ne; \u2192']
        assert rows == [Row(number, **GOOD_VALUES, event_type=kind) for number, kind in enumerate(types, start=1)]
        assert read(csv_file(tmp_path, HEADER, GOOD)) == [Row(1, **GOOD_VALUES)]

    def test_an_event_type_in_parquet_that_is_there_blank_or_null(self, tmp_path: Path) -> None:
        rows = read(parquet_file(tmp_path, event_type=pa.array(["JFK-LAX", ' a,"b"\n', "", " ", None])))
        assert [row.event_type for row in rows] == ["JFK-LAX", ' a,"b"\n', None, None, None]
        assert [row.reason for row in rows] == [None] * 5

    @pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
    def test_any_line_end_with_or_without_one_at_the_end(self, tmp_path: Path, newline: bytes) -> None:
        expected = [Row(1, **GOOD_VALUES), Row(2, **GOOD_VALUES)]
        assert read(csv_file(tmp_path, HEADER, GOOD, GOOD, newline=newline)) == expected
        assert read(csv_file(tmp_path, HEADER, GOOD, GOOD, "", newline=newline)) == expected

    def test_columns_in_any_order_after_a_byte_order_mark_among_others_whatever_they_hold(self, tmp_path: Path) -> None:
        names, values = HEADER.split(","), GOOD.encode().split(b",")
        header = codecs.BOM_UTF8 + ", ".join(reversed(["note", *names])).encode()
        (row,) = read(csv_file(tmp_path, header, b",".join(reversed([b"caf\xe9 \x00", *values]))))
        assert row == Row(1, **GOOD_VALUES)

    def test_numbered_so_that_a_blank_line_counts_like_in_a_spreadsheet(self, tmp_path: Path) -> None:
        path = csv_file(tmp_path, HEADER, "", GOOD, "", "", "bad", GOOD, "")
        assert [row.source_row for row in read(path)] == [2, 5, 6]
        assert [row.source_row for row in read(path, after_row=2)] == [5, 6]

    @pytest.mark.parametrize("suffix", ["csv", "parquet"])
    def test_in_chunks_that_can_start_after_any_row(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
    ) -> None:
        ids = [f"u{number}" for number in range(1, 8)]
        if suffix == "csv":
            path = csv_file(tmp_path, HEADER, *(GOOD.replace("u1", user) for user in ids))
        else:
            path = parquet_file(tmp_path, user_id=pa.array(ids))
        monkeypatch.setattr(reading, "CHUNK_ROWS", 3)
        chunks = list(read_chunks(path))
        assert [len(chunk.rows) for chunk in chunks] == [3, 3, 1]
        assert 0 < chunks[0].progress <= chunks[1].progress <= chunks[2].progress == 1
        for after_row in range(8):
            rows = read(path, after_row=after_row)
            assert [(row.source_row, row.user_id) for row in rows] == list(enumerate(ids, start=1))[after_row:]


characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
ids = st.text(characters, min_size=1, max_size=50).filter(lambda text: not text.isspace())
offsets = st.integers(-24 * 60 + 1, 24 * 60 - 1).map(lambda minutes: timezone(timedelta(minutes=minutes)))
instants = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=offsets)  # noqa: DTZ001 - given one
durations = st.integers(-(2**63) + 1, 2**63 - 1)
events = st.tuples(
    st.none() | ids,
    st.none() | ids,
    st.none() | instants,
    st.none() | durations,
    st.none() | instants,
    st.booleans(),
    st.none() | ids,
)


def in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([value.isoformat() if isinstance(value, datetime) else value for value in row] for row in rows)


def write_parquet(path: Path, rows: Sequence[Sequence[object]]) -> None:
    instant = pa.timestamp("us", "UTC")
    kinds = (pa.string(), pa.string(), instant, pa.int64(), instant, pa.bool_(), pa.string())
    columns = zip(*rows, strict=True)
    arrays = [pa.array(map(in_utc, column), kind) for column, kind in zip(columns, kinds, strict=True)]
    pq.write_table(pa.table(arrays, names=COLUMNS), path)


class TestRoundTrips:
    @given(st.lists(events, min_size=1, max_size=10))
    @settings(deadline=None)
    def test_what_is_written_is_read_exactly_and_the_same_from_both_formats(
        self, written: list[tuple[Any, ...]]
    ) -> None:
        expected = [Row(number, *map(in_utc, row)) for number, row in enumerate(written, start=1)]
        with tempfile.TemporaryDirectory() as folder:
            write_csv(Path(folder, "events.csv"), written)
            write_parquet(Path(folder, "events.parquet"), written)
            assert read(Path(folder, "events.csv")) == expected
            assert read(Path(folder, "events.parquet")) == expected

    @given(st.dictionaries(st.sampled_from(COLUMNS), st.text(st.characters(), max_size=30)))
    def test_no_text_whatsoever_is_more_than_unreadable(self, text: dict[str, str]) -> None:
        row = type_text(1, text)
        assert (row.reason is None) == (row.row_as_it_came is None)
        assert "\0" not in f"{row.event_id}{row.user_id}{row.event_type}{row.reason}{row.row_as_it_came}"

    @pytest.mark.parametrize(
        ("column", "values"),
        [
            ("user_id", pa.array([1], pa.int32())),
            ("user_id", pa.array(["1"], pa.large_string())),
            ("user_id", pa.array(["1"]).dictionary_encode()),
            ("started_at", pa.array(["2024-01-01T10:00:00Z"])),
            ("started_at", pa.array([1704103200], pa.timestamp("s", "America/New_York"))),
            ("started_at", pa.array([1704103200_000], pa.timestamp("ms", "+05:30"))),
            ("started_at", pa.array([1704103200_000_000_999], pa.timestamp("ns", "UTC"))),
            ("duration_seconds", pa.array([600], pa.uint16())),
            ("duration_seconds", pa.array([600.0])),
            ("duration_seconds", pa.array([Decimal("600.00")])),
            ("duration_seconds", pa.array(["600"])),
            ("is_deleted", pa.array([False])),
            ("is_deleted", pa.array([0])),
            ("is_deleted", pa.nulls(1)),
            ("event_type", pa.nulls(1)),
        ],
    )
    def test_other_parquet_types_of_the_same_meaning(self, tmp_path: Path, column: str, values: pa.Array) -> None:
        (row,) = read(parquet_file(tmp_path, **{"user_id": pa.array(["1"]), column: values}))
        assert row == Row(1, **GOOD_VALUES | {"user_id": "1"})

    @pytest.mark.parametrize(
        "values",
        [
            pa.array([1], pa.int32()),
            pa.array(["1"], pa.large_string()),
            pa.array(["1"], pa.string_view()),
            pa.array(["1"]).dictionary_encode(),
        ],
        ids=lambda values: str(values.type),
    )
    def test_other_parquet_types_of_an_event_type(self, tmp_path: Path, values: pa.Array) -> None:
        (row,) = read(parquet_file(tmp_path, event_type=values))
        assert row == Row(1, **GOOD_VALUES, event_type="1")
