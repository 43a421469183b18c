"""A file is loaded whole, once, or not at all; what cannot be loaded from it is in raw.rejected_rows."""

import csv
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from features import settings, warehouse
from features.errors import SkewlessError
from features.ingest import reading
from features.ingest.loading import LoadResult, load_file
from features.ingest.reading import COLUMNS
from features.migrations import migrate
from tests import databases

HEADER = "event_id,user_id,started_at,duration_seconds,ingested_at,is_deleted"
FIRST = "e1,u1,2024-01-01T10:00:00Z,600,2024-01-01T10:15:00Z,"
SECOND = "e2,u2,2024-01-02T10:00:00Z,600,2024-01-02T10:15:00Z,"
BAD = "e3,u3,yesterday,600,2024-01-03T10:15:00Z,"
NAIVE = "e4,u4,2024-01-04T10:00:00,600,2024-01-04T10:15:00Z,"
TYPED_HEADER = f"{HEADER},event_type"
ALREADY_LOADED = "event_id {} at this ingested_at is already loaded{}"

TABLES = ("raw.session_events", "raw.rejected_rows", "raw.load_buffer", "raw.loads")
EVENTS = f"""
select {", ".join(COLUMNS)}, source_file, source_row
from raw.session_events
order by source_file, source_row
"""
REJECTED = """
select source_file, source_row, reason, row_as_it_came
from raw.rejected_rows
order by source_file, source_row
"""


@pytest.fixture(scope="module")
def migrated(server: None) -> Iterator[None]:
    """One warehouse for this module, so that each test only has to empty it."""
    with databases.migrated("skewless_loading") as name, databases.using(name):
        yield


@pytest.fixture(autouse=True)
def _empty(migrated: None) -> None:
    empty()


def empty() -> None:
    with warehouse.connect() as connection:
        connection.execute(f"truncate {', '.join(TABLES)}")


def rows(query: str) -> list[tuple[Any, ...]]:
    with warehouse.connect() as connection:
        return [tuple(row.values()) for row in connection.execute(query)]


def contents() -> dict[str, list[tuple[Any, ...]]]:
    """Everything a load leaves, but for the times at which it did."""
    return {
        "events": rows(EVENTS),
        "rejected": rows(REJECTED),
        "buffer": rows("select * from raw.load_buffer"),
        "loads": rows("select content_sha256, source_file, rows_done, is_complete from raw.loads order by 1"),
    }


def event_ids() -> list[str]:
    return [row[0] for row in rows(EVENTS)]


def event_types() -> list[tuple[Any, ...]]:
    return rows("select event_id, event_type from raw.session_events order by source_file, source_row")


def reasons() -> list[tuple[str, int, str]]:
    return [row[:3] for row in rows(REJECTED)]


NOTHING: dict[str, list[tuple[Any, ...]]] = {"events": [], "rejected": [], "buffer": [], "loads": []}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes lines after the usual header."""
    return partial(_write, tmp_path, HEADER)


@pytest.fixture
def write_typed(tmp_path: Path) -> Write:
    """Writes lines that end in an event_type, after a header that says so."""
    return partial(_write, tmp_path, TYPED_HEADER)


def _write(folder: Path, header: str, name: str, *lines: str) -> Path:
    path = folder / name
    content = "\n".join((header, *lines)) + "\n"
    path.write_text(content, encoding="utf-8", errors="surrogateescape", newline="")
    return path


class InterruptedLoadError(Exception):
    """Stands for a crash between two chunks."""


def interrupt_after(chunks: int) -> Callable[[float], None]:
    reports: list[float] = []

    def on_progress(share: float) -> None:
        reports.append(share)
        if len(reports) == chunks:
            raise InterruptedLoadError

    return on_progress


def wait_for_locks(count: int) -> None:
    """Until so many sessions of this warehouse wait for a lock."""
    waiting = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    deadline = time.monotonic() + 120
    while len(rows(waiting)) < count:
        assert time.monotonic() < deadline, f"no {count} sessions wait for a lock"
        time.sleep(0.02)


class TestRefusedFiles:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("events.csv", ""),
            ("events.csv", f"{HEADER}\n"),
            ("events.csv", f"{HEADER}\n\n\n"),
            ("events.csv", f"{HEADER},event_id\n{FIRST},e1\n"),
            ("events.csv", f"{HEADER.replace('user_id', 'user')}\n{FIRST}\n"),
            ("events.csv", f'{HEADER}\n{FIRST}\n{SECOND}\n"e3,u3\n{SECOND}\n'),
            ("events.csv", f"{HEADER}\n{FIRST}\n{SECOND}\n{'x' * 140_000}\n"),
            ("events.json", f"{HEADER}\n{FIRST}\n"),
            ("events.parquet", f"{HEADER}\n{FIRST}\n"),
        ],
        ids=[
            "empty",
            "header only",
            "header and blank lines",
            "repeated column",
            "missing column",
            "broken quoting in a later chunk",
            "over-long field in a later chunk",
            "unknown suffix",
            "unreadable parquet",
        ],
    )
    def test_leave_nothing_and_load_once_they_are_mended(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write, name: str, content: str
    ) -> None:
        monkeypatch.setattr(reading, "CHUNK_ROWS", 1)
        path = tmp_path / name
        path.write_text(content)
        with pytest.raises(SkewlessError, match=rf"^{name}: .+\. Nothing was loaded; .+\.$"):
            load_file(path)
        assert contents() == NOTHING
        assert load_file(write("events.csv", FIRST)) == LoadResult(1, 0, was_already_loaded=False)

    def test_without_rows_are_refused_in_parquet_too(self, tmp_path: Path) -> None:
        path = tmp_path / "events.parquet"
        pq.write_table(pa.table({name: pa.array([], pa.string()) for name in COLUMNS}), path)
        with pytest.raises(SkewlessError, match=r"^events.parquet: it has a header and no rows\. Nothing"):
            load_file(path)
        assert contents() == NOTHING

    def test_that_cannot_be_opened_are_named_with_their_path(self, tmp_path: Path) -> None:
        with pytest.raises(SkewlessError, match=rf"^{tmp_path}/nowhere.csv cannot be opened \(No such file"):
            load_file(tmp_path / "nowhere.csv")
        with pytest.raises(SkewlessError, match=rf"^{tmp_path} cannot be opened \(Is a directory"):
            load_file(tmp_path)

    def test_leave_other_loads_alone(self, monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
        monkeypatch.setattr(reading, "CHUNK_ROWS", 1)
        load_file(write("complete.csv", FIRST, BAD))
        with pytest.raises(InterruptedLoadError):
            load_file(write("interrupted.csv", SECOND, BAD), on_progress=interrupt_after(1))
        before = contents()
        with pytest.raises(SkewlessError):
            load_file(write("broken.csv", SECOND, '"'))
        assert contents() == before


class TestRows:
    def test_that_are_readable_are_loaded_and_the_others_quarantined(self, write: Write) -> None:
        lines = (
            FIRST,
            BAD,
            "",
            SECOND,
            "e5,u5",
            "e6,Andr\udce9,2024-01-06T10:00:00Z,1,2024-01-06T10:15:00Z,",
        )
        assert load_file(write("events.csv", *lines)) == LoadResult(2, 3, was_already_loaded=False)
        first = datetime(2024, 1, 1, 10, tzinfo=UTC)
        day, quarter = timedelta(days=1), timedelta(minutes=15)
        assert rows(EVENTS) == [
            ("e1", "u1", first, 600, first + quarter, False, None, "events.csv", 1),
            ("e2", "u2", first + day, 600, first + day + quarter, False, None, "events.csv", 4),
        ]
        assert reasons() == [
            ("events.csv", 2, "started_at 'yesterday' is not an ISO 8601 date and time"),
            ("events.csv", 5, "has 2 fields where the header has 6"),
            ("events.csv", 6, r"user_id 'Andr\udce9' holds a NUL or bytes that are not UTF-8"),
        ]
        came = [row[3] for row in rows(REJECTED)]
        assert came[0] == dict(zip(HEADER.split(","), BAD.split(","), strict=True))
        assert came[1] == {"event_id": "e5", "user_id": "u5"}
        assert came[2]["user_id"] == r"Andr\udce9"

    def test_may_all_be_unreadable(self, write: Write) -> None:
        assert load_file(write("events.csv", BAD)) == LoadResult(0, 1, was_already_loaded=False)

    def test_that_make_no_sense_are_loaded_for_dbt_to_judge(self, write: Write) -> None:
        lines = (
            ",u1,2024-01-01T10:00:00Z,600,2024-01-01T10:15:00Z,",
            "e2,,2024-01-01T10:00:00Z,600,2024-01-01T10:15:00Z,",
            "e3,u3,,600,2024-01-01T10:15:00Z,",
            "e4,u4,2024-01-01T10:00:00Z,,2024-01-01T10:15:00Z,",
            "e5,u5,2024-01-01T10:00:00Z,600,,",
            "e6,u6,2024-01-01T10:00:00Z,-600,2024-01-01T10:15:00Z,",
            "e7,u7,2024-01-01T10:00:00Z,600,2023-01-01T10:15:00Z,",
            "e8,,,,2024-01-01T10:15:00Z,true",
            ",,,,,",
        )
        assert load_file(write("events.csv", *lines)) == LoadResult(9, 0, was_already_loaded=False)
        found = rows(EVENTS)
        columns = HEADER.split(",")
        assert [[name for name, value in zip(columns, row, strict=False) if value is None] for row in found] == [
            ["event_id"],
            ["user_id"],
            ["started_at"],
            ["duration_seconds"],
            ["ingested_at"],
            [],
            [],
            ["user_id", "started_at", "duration_seconds"],
            ["event_id", "user_id", "started_at", "duration_seconds", "ingested_at"],
        ]
        assert found[5][3] == -600
        assert [row[5] for row in found] == [False] * 7 + [True, False]
        assert [row[-2:] for row in found] == [("events.csv", number) for number in range(1, 10)]

    def test_with_the_longest_ids_are_stored(self, write: Write) -> None:
        longest = "".join(chr(0x10000 + 37 * number) for number in range(250))
        load_file(write("events.csv", FIRST.replace("e1", longest).replace("u1", longest)))
        assert rows(EVENTS)[0][:2] == (longest, longest)

    def test_name_a_file_even_if_its_name_is_not_text(self, tmp_path: Path, write: Write) -> None:
        path = write("events.csv", FIRST).rename(tmp_path / "caf\udce9.csv")
        load_file(path)
        assert rows(EVENTS)[0][-2] == r"caf\udce9.csv"

    def test_are_the_same_from_parquet(self, tmp_path: Path, write: Write) -> None:
        path = write("events.csv", FIRST, SECOND, ",,,,,")
        load_file(path)
        from_csv = rows(EVENTS)
        empty()
        instant = pa.timestamp("us", "UTC")
        kinds = {"started_at": instant, "ingested_at": instant, "is_deleted": pa.bool_()}
        options = pyarrow.csv.ConvertOptions(column_types=kinds, strings_can_be_null=True)
        pq.write_table(pyarrow.csv.read_csv(path, convert_options=options), tmp_path / "events.parquet")
        load_file(tmp_path / "events.parquet")
        assert [(*row[:-2], "events.csv", row[-1]) for row in rows(EVENTS)] == from_csv


class TestEventTypes:
    def test_are_stored_to_the_letter_and_blank_ones_as_null(self, write_typed: Write) -> None:
        lines = (f"{FIRST},JFK-LAX", f"{SECOND},", FIRST.replace("e1", "e3") + '," a,""b""\r\n; \u2192\U0001f6eb\t"')
        assert load_file(write_typed("events.csv", *lines)).loaded == 3
        assert event_types() == [("e1", "JFK-LAX"), ("e2", None), ("e3", ' a,"b"\r\n; \u2192\U0001f6eb\t')]

    def test_are_null_for_a_file_without_them(self, write: Write) -> None:
        load_file(write("events.csv", FIRST, SECOND))
        assert event_types() == [("e1", None), ("e2", None)]

    def test_that_are_too_long_put_their_row_in_quarantine(self, write_typed: Write) -> None:
        path = write_typed("events.csv", f"{FIRST},{'x' * 1000}", f"{SECOND},{'x' * 1001}")
        assert load_file(path) == LoadResult(1, 1, was_already_loaded=False)
        assert event_types() == [("e1", "x" * 1000)]
        assert reasons() == [("events.csv", 2, f"event_type '{'x' * 100}...' is longer than 1,000 bytes")]
        assert rows(REJECTED)[0][3]["event_type"] == "x" * 1001

    def test_may_be_indexed_however_long(self, write_typed: Write) -> None:
        longest = "".join(chr(0x10000 + 37 * number) for number in range(250))
        load_file(write_typed("events.csv", f"{FIRST},{longest}"))
        with warehouse.connect() as connection:
            connection.execute("create index on raw.session_events (event_type, started_at)")
            connection.rollback()

    def test_of_repeated_rows_are_in_quarantine_too(self, write_typed: Write) -> None:
        load_file(write_typed("events.csv", f"{FIRST},JFK-LAX", f"{FIRST},JFK-SFO"))
        assert event_types() == [("e1", "JFK-LAX")]
        assert reasons() == [("events.csv", 2, "repeats event_id e1 at the same ingested_at as row 1")]
        assert rows(REJECTED)[0][3]["event_type"] == "JFK-SFO"

    def test_survive_an_interruption(self, monkeypatch: pytest.MonkeyPatch, write_typed: Write) -> None:
        monkeypatch.setattr(reading, "CHUNK_ROWS", 1)
        path = write_typed("events.csv", f"{FIRST},JFK-LAX", f"{SECOND},EWR-ORD")
        with pytest.raises(InterruptedLoadError):
            load_file(path, on_progress=interrupt_after(1))
        load_file(path)
        assert event_types() == [("e1", "JFK-LAX"), ("e2", "EWR-ORD")]

    def test_are_the_same_from_parquet(self, tmp_path: Path, write_typed: Write) -> None:
        path = write_typed(
            "events.csv", f"{FIRST},JFK-LAX", f"{SECOND},", FIRST.replace("e1", "e3") + '," a,""b""\u2192"'
        )
        load_file(path)
        from_csv = event_types()
        empty()
        kinds = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(TYPED_HEADER.split(","), pa.string()))
        pq.write_table(pyarrow.csv.read_csv(path, convert_options=kinds), tmp_path / "events.parquet")
        load_file(tmp_path / "events.parquet")
        assert event_types() == from_csv
        assert len(from_csv) == 3

    def test_are_null_for_events_from_before_there_were_types(
        self, monkeypatch: pytest.MonkeyPatch, write: Write
    ) -> None:
        monkeypatch.setattr(settings, "WAREHOUSE_DATABASE", "skewless_older")
        databases.drop_database("skewless_older")
        migrate("0001")
        with warehouse.connect() as connection:
            connection.execute("insert into raw.session_events (event_id) values ('e0')")
        migrate()
        load_file(write("events.csv", FIRST))
        assert sorted(event_types()) == [("e0", None), ("e1", None)]
        databases.drop_database("skewless_older")


class TestRepeatedRows:
    def test_of_one_file_count_once(self, write: Write) -> None:
        assert load_file(write("events.csv", FIRST, SECOND, FIRST.replace("600", "700"), FIRST)) == LoadResult(
            2, 2, was_already_loaded=False
        )
        assert event_ids() == ["e1", "e2"]
        assert reasons() == [
            ("events.csv", 3, "repeats event_id e1 at the same ingested_at as row 1"),
            ("events.csv", 4, "repeats event_id e1 at the same ingested_at as row 1"),
        ]
        assert rows(REJECTED)[0][3] == {
            "event_id": "e1",
            "user_id": "u1",
            "started_at": "2024-01-01T10:00:00+00:00",
            "duration_seconds": 700,
            "ingested_at": "2024-01-01T10:15:00+00:00",
            "is_deleted": False,
            "event_type": None,
        }

    def test_across_files_count_once(self, write: Write) -> None:
        load_file(write("monday.csv", SECOND, FIRST))
        other_offset = FIRST.replace("10:15:00Z", "11:15:00+01:00")
        assert load_file(write("tuesday.csv", other_offset)) == LoadResult(0, 1, was_already_loaded=False)
        assert reasons() == [("tuesday.csv", 1, ALREADY_LOADED.format("e1", ", from row 2 of monday.csv"))]

    def test_of_events_that_came_by_another_way_count_once(self, write: Write) -> None:
        with warehouse.connect() as connection:
            connection.execute(
                "insert into raw.session_events (event_id, ingested_at) values ('e1', '2024-01-01T10:15:00Z')"
            )
        load_file(write("events.csv", FIRST))
        assert reasons() == [("events.csv", 1, ALREADY_LOADED.format("e1", ""))]

    def test_with_another_ingested_at_are_corrections(self, write: Write) -> None:
        correction = FIRST.replace("10:15:00Z", "10:15:00.000001Z")
        deletion = "e1,,,,2024-01-02T00:00:00Z,true"
        load_file(write("events.csv", FIRST, correction))
        assert load_file(write("later.csv", deletion)) == LoadResult(1, 0, was_already_loaded=False)
        assert event_ids() == ["e1", "e1", "e1"]
        assert reasons() == []

    def test_are_told_by_both_ids_only_if_they_have_them(self, write: Write) -> None:
        lines = (FIRST.replace("e1", ""), "e1,u1,,,,")
        assert load_file(write("events.csv", *lines, *lines)).loaded == 4

    def test_of_an_unreadable_row_are_loaded(self, write: Write) -> None:
        mended = BAD.replace("yesterday", "2024-01-03T10:00:00Z")
        assert load_file(write("events.csv", BAD, mended)) == LoadResult(1, 1, was_already_loaded=False)

    def test_in_two_files_loaded_at_once_count_once(self, write: Write) -> None:
        one, other = write("one.csv", FIRST, SECOND), write("other.csv", SECOND, FIRST)
        with ThreadPoolExecutor(2) as pool:
            with warehouse.connect() as gate:
                gate.execute("lock table raw.rejected_rows in exclusive mode")
                loads = [pool.submit(load_file, path) for path in (one, other)]
                wait_for_locks(2)
            results = [load.result(timeout=30) for load in loads]
        assert sorted((result.loaded, result.rejected) for result in results) == [(0, 2), (2, 0)]
        assert sorted(event_ids()) == ["e1", "e2"]


class TestTheSameFileAgain:
    @pytest.mark.parametrize("name", ["events.csv", "renamed.csv"])
    def test_changes_nothing(self, write: Write, name: str) -> None:
        load_file(write("events.csv", FIRST, BAD, FIRST))
        before = contents()
        again = load_file(write(name, FIRST, BAD, FIRST))
        assert again == LoadResult(0, 0, was_already_loaded=True)
        assert contents() == before
        assert load_file(write(name, FIRST, BAD, FIRST), assume_utc=True).was_already_loaded
        assert contents() == before

    def test_at_the_same_time_is_loaded_once(self, monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
        monkeypatch.setattr(reading, "CHUNK_ROWS", 1)
        path = write("events.csv", FIRST, BAD, SECOND)
        others: list[Future[LoadResult]] = []
        with ThreadPoolExecutor(1) as pool:

            def start_another(share: float) -> None:
                if not others:
                    others.append(pool.submit(load_file, path))
                    wait_for_locks(1)

            assert load_file(path, on_progress=start_another) == LoadResult(2, 1, was_already_loaded=False)
            assert others[0].result(timeout=30) == LoadResult(0, 0, was_already_loaded=True)
        assert event_ids() == ["e1", "e2"]
        assert len(reasons()) == 1

    def test_with_assume_utc_adds_what_only_lacked_an_offset(
        self, monkeypatch: pytest.MonkeyPatch, write: Write
    ) -> None:
        monkeypatch.setattr(reading, "CHUNK_ROWS", 1)
        still_bad = NAIVE.replace("600", "long")
        path = write("events.csv", FIRST, NAIVE, BAD, still_bad, SECOND)
        assert load_file(path) == LoadResult(2, 3, was_already_loaded=False)
        assert reasons()[0] == ("events.csv", 2, "started_at '2024-01-04T10:00:00' has no UTC offset")
        with pytest.raises(InterruptedLoadError):
            load_file(path, assume_utc=True, on_progress=interrupt_after(3))
        assert event_ids() == ["e1", "e2"]
        assert load_file(path, assume_utc=True) == LoadResult(1, 1, was_already_loaded=False)
        assert event_ids() == ["e1", "e4", "e2"]
        assert rows(EVENTS)[1][2] == datetime(2024, 1, 4, 10, tzinfo=UTC)
        assert [reason[1:] for reason in reasons()] == [
            (3, "started_at 'yesterday' is not an ISO 8601 date and time"),
            (4, "duration_seconds 'long' is not a whole number of at most 64 bits"),
        ]
        before = contents()
        assert before["buffer"] == []
        assert load_file(path, assume_utc=True).was_already_loaded
        assert load_file(path).was_already_loaded
        assert contents() == before

    def test_with_assume_utc_is_left_alone_when_it_cannot_be_read_any_more(self, write: Write) -> None:
        path = write("events.csv", FIRST, NAIVE)
        load_file(path)
        before = contents()
        usual_limit = csv.field_size_limit(10)
        try:
            with pytest.raises(SkewlessError, match="field limit"):
                load_file(path, assume_utc=True)
        finally:
            csv.field_size_limit(usual_limit)
        assert contents() == before


class TestInterruptedLoads:
    LINES = (
        FIRST,
        BAD,
        SECOND,
        "",
        "e5,u5",
        FIRST,
        NAIVE,
        "e7,u7,2024-01-07T10:00:00Z,1,2024-01-07T10:15:00Z,",
    )

    @pytest.mark.parametrize("chunk_rows", [1, 2, 3])
    @pytest.mark.parametrize("chunks", [1, 2, 3])
    def test_resume_and_end_as_if_undisturbed(
        self, monkeypatch: pytest.MonkeyPatch, write: Write, chunk_rows: int, chunks: int
    ) -> None:
        path = write("events.csv", *self.LINES)
        expected = load_file(path), contents()
        empty()
        monkeypatch.setattr(reading, "CHUNK_ROWS", chunk_rows)
        with pytest.raises(InterruptedLoadError):
            load_file(path, on_progress=interrupt_after(chunks))
        assert len(rows("select * from raw.load_buffer")) == min(chunk_rows * chunks, 7)
        assert rows(EVENTS) + rows(REJECTED) == []
        shares: list[float] = []
        assert (load_file(path, on_progress=shares.append), contents()) == expected
        assert len(shares) == max(-(-7 // chunk_rows) - chunks, 0)

    def test_do_so_in_parquet(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "events.parquet"
        good = dict(zip(HEADER.split(","), FIRST.split(","), strict=True))
        columns: dict[str, Any] = {name: [value] * 7 for name, value in good.items()}
        pq.write_table(pa.table(columns | {"event_id": range(7)}), path, row_group_size=3)
        monkeypatch.setattr(reading, "CHUNK_ROWS", 2)
        for _ in range(2):
            with pytest.raises(InterruptedLoadError):
                load_file(path, on_progress=interrupt_after(1))
        assert load_file(path) == LoadResult(7, 0, was_already_loaded=False)
        assert [(row[0], row[-1]) for row in rows(EVENTS)] == [(str(number), number + 1) for number in range(7)]

    def test_resume_under_another_name_and_keep_the_first(self, monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
        monkeypatch.setattr(reading, "CHUNK_ROWS", 1)
        with pytest.raises(InterruptedLoadError):
            load_file(write("events.csv", FIRST, SECOND), on_progress=interrupt_after(1))
        load_file(write("renamed.csv", FIRST, SECOND))
        assert [row[-2] for row in rows(EVENTS)] == ["events.csv", "events.csv"]

    def test_of_one_file_do_not_disturb_another(self, monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
        monkeypatch.setattr(reading, "CHUNK_ROWS", 2)
        interrupted = write("interrupted.csv", FIRST, SECOND, BAD)
        with pytest.raises(InterruptedLoadError):
            load_file(interrupted, on_progress=interrupt_after(1))
        assert load_file(write("events.csv", FIRST, FIRST)) == LoadResult(1, 1, was_already_loaded=False)
        assert load_file(interrupted) == LoadResult(1, 2, was_already_loaded=False)
        assert reasons() == [
            ("events.csv", 2, "repeats event_id e1 at the same ingested_at as row 1"),
            ("interrupted.csv", 1, ALREADY_LOADED.format("e1", ", from row 1 of events.csv")),
            ("interrupted.csv", 3, "started_at 'yesterday' is not an ISO 8601 date and time"),
        ]


characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
ids = st.text(characters, min_size=1, max_size=20).filter(lambda text: not text.isspace())
offsets = st.integers(-24 * 60 + 1, 24 * 60 - 1).map(lambda minutes: timezone(timedelta(minutes=minutes)))
instants = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=offsets)  # noqa: DTZ001
durations = st.integers(-(2**63) + 1, 2**63 - 1)
events = st.tuples(ids, ids, instants, durations, instants, st.booleans(), st.none() | ids)


class TestRoundTrip:
    @given(st.lists(events, min_size=1, max_size=30, unique_by=lambda event: (event[0], event[4])))
    @hypothesis_settings(max_examples=20, deadline=None)
    def test_what_is_written_is_in_the_warehouse(self, written: list[tuple[Any, ...]]) -> None:
        empty()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "events.csv")
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(COLUMNS)
                for event_id, user_id, started_at, duration, ingested_at, *others in written:
                    instants = started_at.isoformat(), ingested_at.isoformat()
                    writer.writerow((event_id, user_id, instants[0], duration, instants[1], *others))
            load_file(path)
        assert [row[:-2] for row in rows(EVENTS)] == written
        assert all(row[2].utcoffset() == timedelta(0) for row in rows(EVENTS))
