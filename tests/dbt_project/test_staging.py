"""Every raw row either counts, is superseded, withdraws a session, or is listed with the reason why it cannot."""

import datetime as dt
import random
from pathlib import Path

from features.ingest.loading import load_file
from tests.dbt_project.oracle import (
    DAY,
    HOUR,
    MICROSECOND,
    Event,
    differences,
    insert,
    is_good,
    raw_events,
    read,
    staged,
)
from tests.dbt_project.running import dbt

T = dt.datetime(2024, 3, 1, 12, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
STAGED = """
select event_id, user_id, started_at, duration_seconds, ingested_at, superseded_at, loaded_at
from staging.stg_session_events
"""
TOO_EARLY = "ingested_at is before the session ended"
REPEATED = "repeats an event_id at the same ingested_at"

# A row, and the reason it is rejected for; None for a row that is not.
GOOD = Event("good", "u", T, 60, T + MINUTE)
CASES = [
    (GOOD, REPEATED),
    (Event("instantaneous", "u", T, 0, T), None),
    (Event(None, "u", T, 60, T + MINUTE), "event_id is missing"),
    (Event("no arrival", "u", T, 60, None), "ingested_at is missing"),
    (Event("no user", None, T, 60, T + MINUTE), "user_id is missing"),
    (Event("no start", "u", None, 60, T + MINUTE), "started_at is missing"),
    (Event("no duration", "u", T, None, T + MINUTE), "duration_seconds is missing"),
    (Event("negative", "u", T, -1, T + MINUTE), "duration_seconds is negative"),
    (Event("most negative", "u", T, -(2**63), T + MINUTE), "duration_seconds is negative"),
    (Event("early", "u", T, 60, T + MINUTE - MICROSECOND), TOO_EARLY),
    (Event("arrived before it started", "u", T, 0, T - MICROSECOND), TOO_EARLY),
    (Event("endless", "u", T, 10**13, T + MINUTE), TOO_EARLY),
    (Event("longest", "u", T, 2**63 - 1, T + MINUTE), TOO_EARLY),
    (Event("never arrives", "u", T, 60, "infinity"), "ingested_at is infinite"),
    (Event("always was", "u", "-infinity", 60, T), "started_at is infinite"),
    (Event("two rules", None, T, 60, T), f"user_id is missing, {TOO_EARLY}"),
    (
        Event("three rules", None, None, -5, T),
        "user_id is missing, started_at is missing, duration_seconds is negative",
    ),
    (
        Event(),
        "event_id is missing, ingested_at is missing, user_id is missing, started_at is missing, "
        "duration_seconds is missing",
    ),
    (Event("bare tombstone", ingested_at=T, is_deleted=True), None),
    (Event("full tombstone", "u", T, 60, T, is_deleted=True), None),
    (Event("odd tombstone", "u", T, -60, T, is_deleted=True), None),
    (Event(is_deleted=True), "event_id is missing, ingested_at is missing"),
    # Of several rows for one version the first session to arrive counts; a rejected one is no version.
    (GOOD._replace(duration_seconds=59, loaded_at=T), None),
    (GOOD._replace(duration_seconds=-1), "duration_seconds is negative"),
    (GOOD._replace(is_deleted=True, loaded_at=T - DAY), REPEATED),
    (Event("mended", "u", T, -600, T + HOUR), "duration_seconds is negative"),
    (Event("mended", "u", T, 600, T + 2 * HOUR), None),
]

FILE = f"""event_id,user_id,started_at,duration_seconds,ingested_at
fine,u,2024-03-01T10:00:00Z,60,2024-03-01T10:01:00Z
unreadable,u,yesterday,60,2024-03-01T10:01:00Z
refused,u,2024-03-01T10:00:00Z,-60,2024-03-01T10:01:00Z
mended,u,2024-03-01T12:00:00Z,601,{(T + HOUR).isoformat()}
"""


def test_each_row_that_cannot_count_says_why(empty_warehouse: str, tmp_path: Path) -> None:
    insert(empty_warehouse, (row._replace(source_row=number) for number, (row, _) in enumerate(CASES)))
    file = tmp_path / "events.csv"
    file.write_text(FILE)
    load_file(file)
    dbt(["run", "--select", "stg_session_events", "rejected_session_events"], empty_warehouse)

    rejected = read(
        empty_warehouse,
        "select source_file, source_row, reason, event_id from staging.rejected_session_events order by 1, 2",
    )
    expected = {number: reason for number, (_, reason) in enumerate(CASES) if reason}
    assert {row: reason for file, row, reason, _ in rejected if file is None} == expected
    assert [row for row in rejected if row[0] is not None] == [
        ("events.csv", 2, "started_at 'yesterday' is not an ISO 8601 date and time", "unreadable"),
        ("events.csv", 3, "duration_seconds is negative", "refused"),
        ("events.csv", 4, "event_id mended at this ingested_at is already loaded", "mended"),
    ]

    counting = read(empty_warehouse, "select event_id, duration_seconds from staging.stg_session_events order by 1")
    assert counting == [("fine", 60), ("good", 59), ("instantaneous", 0), ("mended", 600)]

    # Nothing is lost: the rows that neither count nor are rejected are the three tombstones.
    assert len(CASES) + 4 == len(counting) + len(rejected) + 3
    assert all(row[3] == "mended" for row in rejected if row[1] == 25)
    as_it_came = read(
        empty_warehouse,
        "select row_as_it_came from staging.rejected_session_events where event_id = 'two rules'",
    )
    assert as_it_came == [
        (
            {
                "event_id": "two rules",
                "user_id": None,
                "event_type": None,
                "started_at": as_it_came[0][0]["started_at"],
                "duration_seconds": 60,
                "ingested_at": as_it_came[0][0]["ingested_at"],
                "is_deleted": False,
            },
        )
    ]
    assert dt.datetime.fromisoformat(as_it_came[0][0]["ingested_at"]) == T


def versions_of_many_events() -> list[Event]:
    """Corrections, withdrawals, second thoughts, changes of user, repeated versions and rows that cannot count."""
    draw = random.Random(7)
    rows = []
    for number in range(200):
        for version in range(draw.randint(1, 5)):
            ingested_at = T + draw.choice([DAY, HOUR, MICROSECOND]) * draw.randint(1, 5)
            row = Event(f"e{number}", f"u{draw.randint(1, 20)}", T - draw.randint(0, 9) * DAY, version, ingested_at)
            kind = draw.random()
            if kind < 0.2:
                row = Event(row.event_id, ingested_at=ingested_at, is_deleted=True)
            elif kind < 0.3:
                row = row._replace(duration_seconds=10**9)
            rows.append(row)
    draw.shuffle(rows)
    return rows


def test_versions_may_come_in_any_order_and_in_any_number_of_runs(empty_warehouse: str) -> None:
    """Each run leaves what one run over everything would; the first has nothing to stage at all."""
    rows = versions_of_many_events()
    now = dt.datetime.now(dt.UTC)
    # The later delivery was begun before the earlier one, as a long load is.
    deliveries = [
        [],
        [row._replace(loaded_at=now + MICROSECOND * number) for number, row in enumerate(rows[::2])],
        [row._replace(loaded_at=now - 5 * HOUR + MICROSECOND * number) for number, row in enumerate(rows[1::2])],
    ]
    run = ["run", "--select", "stg_session_events"]
    for delivery in deliveries:
        insert(empty_warehouse, delivery)
        dbt(run, empty_warehouse)
        assert not differences(read(empty_warehouse, STAGED), staged(raw_events(empty_warehouse)))

    in_steps = read(empty_warehouse, STAGED)
    assert len({row[0] for row in in_steps}) > 150
    assert sum(row[5] is not None for row in in_steps) > 100, "too few are superseded to prove anything"

    dbt([*run, "--full-refresh"], empty_warehouse)
    assert not differences(read(empty_warehouse, STAGED), in_steps), "in steps is not as at once"


def test_sample(sample_warehouse: str) -> None:
    raw = raw_events(sample_warehouse)
    assert len(raw) == 336_776
    assert read(sample_warehouse, "select count(*), count(distinct user_id) from staging.stg_session_events") == [
        (327_346, 4_037)
    ]
    assert not differences(read(sample_warehouse, STAGED), staged(raw))

    rejected = dict(
        read(sample_warehouse, "select source_row, reason from staging.rejected_session_events where source_file <> ''")
    )
    assert len(rejected) == 9_430
    assert not differences(rejected, (event.source_row for event in raw if not is_good(event)))
    reasons = {
        event.source_row: ", ".join(
            f"{name} is missing"
            for name in ("ingested_at", "user_id", "started_at", "duration_seconds")
            if getattr(event, name) is None
        )
        for event in raw
        if event.source_row in rejected
    }
    assert not differences(rejected.items(), reasons.items())
