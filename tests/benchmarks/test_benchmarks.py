"""The benchmark's own promises: the same rows each time, naive answers that agree, and a comparison that can fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from features import warehouse
from tests.benchmarks import (
    answers,
    data,
    growth,
    latest_row,
    ledger_join,
    measure,
    python_loop,
    report,
    serving,
    skewless,
)
from tests.benchmarks import project as dbt
from tests.benchmarks.contest import Bench, Curve, Outcome, Sizes, Table, Task
from tests.places import ROOT

pytestmark = pytest.mark.benchmarks

SIZES = Sizes(events=3_000, entities=40, spine=300, feature_rows=400, feature_entities=20, labels=100)
FINGERPRINTS = """
select
    (select md5(string_agg((e.*)::text, ' ' order by e.event_id)) from raw.session_events as e) as events,
    (select md5(string_agg((l.*)::text, ' ' order by l.user_id, l.label_at)) from raw.bench_labels as l) as spine,
    (select md5(string_agg((f.*)::text, '' order by f.user_id, f.event_timestamp)) from bench.feature_rows as f) as f
"""


@pytest.fixture
def bench(empty_warehouse: str, tmp_path: Path) -> Bench:
    """A tiny benchmark whose rows are generated and exported."""
    made = Bench(tmp_path, SIZES, repeats=1, threads=1, server_pid=0)
    with warehouse.connect() as connection:
        data.generate(connection, SIZES)
        data.export(connection, made)
    return made


def test_the_rows_are_the_same_each_time(bench: Bench) -> None:
    with warehouse.connect() as connection:
        first = connection.execute(FINGERPRINTS).fetchone()
        data.generate(connection, SIZES)
        assert connection.execute(FINGERPRINTS).fetchone() == first


def test_events_are_valid_late_and_skewed(bench: Bench) -> None:
    with warehouse.connect() as connection:
        found = connection.execute(
            """
            with events as (
                select *, ingested_at - started_at - duration_seconds * interval '1 second' as delay
                from raw.session_events
            ),
            counts as (select count(*) as n from events group by user_id)
            select
                count(*) as events,
                avg((delay > interval '5 minutes')::int) as late,
                max(ingested_at - started_at) < interval '3 days' as at_most_three_days,
                min(delay) >= interval '0' as after_their_end,
                (select max(n) > 5 * min(n) from counts) as skewed
            from events
            """
        ).fetchone()
    assert found is not None
    assert found["events"] == SIZES.events
    assert 0.03 < found["late"] < 0.07
    assert found["at_most_three_days"]
    assert found["after_their_end"]
    assert found["skewed"]


def test_the_loops_agree_with_naive_sql(bench: Bench) -> None:
    with warehouse.connect() as connection:
        right = answers.naive(connection, SIZES.spine)
    assert len(right) == SIZES.spine
    for outcome in python_loop.run(bench):
        assert outcome.answer is not None
        assert answers.require_equal(answers.read(outcome.answer), right, outcome.name) > 0


def test_our_models_agree_with_naive_sql(bench: Bench) -> None:
    with warehouse.connect() as connection:
        right = answers.naive(connection, SIZES.spine)
    model, statement = skewless.run(bench)
    for outcome in (model, statement):
        assert outcome.answer is not None
        found = answers.read(outcome.answer)
        assert len(found) == answers.require_equal(right, found, outcome.name) == SIZES.spine
    assert model.seconds[0] > 0


def test_the_ledger_finds_the_latest_row(bench: Bench) -> None:
    outcomes = latest_row.judged([*ledger_join.run(bench), *latest_row.run(bench)])
    compared = int(outcomes[0].check.split()[-2])
    assert outcomes[0].check == f"equals plain SQL on {compared} rows"
    assert 0.8 * SIZES.labels < compared < SIZES.labels  # some labels come before the first snapshot


def test_a_wrong_and_a_missing_row_are_found(bench: Bench) -> None:
    with warehouse.connect() as connection:
        right = answers.naive(connection, 10)
    wrong = right.copy()
    wrong["session_count"] += wrong.index == 3
    with pytest.raises(answers.AnswersDiffer, match="differs on 1 of 10 rows"):
        answers.require_equal(right, wrong, "wrong")
    with pytest.raises(answers.AnswersDiffer, match="differs on 1 of 10 rows"):
        answers.require_equal(right, right.drop(index=3), "missing")


def test_a_wrong_latest_row_is_found(bench: Bench, tmp_path: Path) -> None:
    (judge,) = latest_row.run(bench)
    assert judge.answer is not None
    other = answers.read(judge.answer)
    other["session_count"] += other.index == other["session_count"].first_valid_index()
    other.to_parquet(tmp_path / "other.parquet")
    with pytest.raises(answers.AnswersDiffer, match="differs on 1 of"):
        latest_row.judged([judge, Outcome("other", (1.0,), SIZES.labels, answer=tmp_path / "other.parquet")])


def test_too_many_pairs_are_refused(empty_warehouse: str) -> None:
    impossible = Sizes(events=10, entities=1, spine=10_000, feature_rows=1, feature_entities=1, labels=1)
    with warehouse.connect() as connection, pytest.raises(ValueError, match="10000 distinct instants"):
        data.generate(connection, impossible)


def test_half_a_snapshot_is_refused(empty_warehouse: str) -> None:
    halved = Sizes(events=1, entities=1, spine=1, feature_rows=30, feature_entities=20, labels=1)
    with warehouse.connect() as connection, pytest.raises(ValueError, match="no whole number of snapshots of 20 users"):
        data.generate_lookups(connection, halved)


def test_features_are_added_to_model_and_contract(tmp_path: Path) -> None:
    project = dbt.copy(tmp_path / "project", server_pid=0)
    growth.add_features(project, 15)
    folder = tmp_path / "project" / "models" / "features"
    model, described = ((folder / f"user_session_features.{end}").read_text() for end in ("sql", "yml"))
    names = [line.split(" as ")[1].rstrip(",") for line in model.splitlines() if "sessions_last_" in line]
    assert len(names) == len(set(names)) == 17
    assert [f"name: {name}\n" in described for name in names] == [True] * 17


def test_exponents_are_slopes() -> None:
    curve = Curve("rows", (10, 20, 40), ((1.0, 9.0, 1.0), (2.0,), (8.0,)))
    assert curve.steps == [1.0, 2.0]
    assert curve.exponent == 1.5
    assert growth.table([curve]).rows == [("rows", "10, 20, 40", "1.00 s, 2.00 s, 8.00 s", "1.50", "1.00, 2.00")]


def test_readers_find_every_user(empty_warehouse: str) -> None:
    with warehouse.connect() as connection:
        connection.execute(
            "create view serving.user_features as select 'u' || n as user_id from generate_series(1, 9) as n"
        )
    (row,) = serving.point_reads(readers=2, reads=20).rows
    assert [cell.endswith(" ms") for cell in row] == [True, True, True, False]


def test_memory_and_time_of_a_process_are_measured() -> None:
    import sys

    block = "import time; block = bytearray(b'x') * 80_000_000; time.sleep(0.5); print('done')"
    printed, run = measure.process([sys.executable, "-c", block])
    assert printed.strip() == "done"
    assert run.seconds > 0.5
    assert 80_000_000 < run.peak_bytes[0] < 200_000_000


def test_the_report_shows_medians_and_ratios(tmp_path: Path) -> None:
    task = Task(
        "Race", "From here to there.", "ours", [Outcome("ours", (1.0, 3.0, 2.0), 5), Outcome("peer", (8.0,), 5)]
    )
    table = Table("Reads", "How many.", ("p50", "p99"), [("1 ms", "2 ms")])
    curves = [Curve("rows", (1, 2), ((1.0,), (2.0,)))]
    page = report.write([task], {"date": "2026-01-01"}, tmp_path, [table], curves).read_text()
    assert report.ratios(task) == [1.0, 4.0]
    assert "| ours | 2 s | 1 s, 3 s, 2 s | 1.00 |" in page
    assert "| peer | 8 s | 8 s | 4.00 |" in page
    assert "| p50 | p99 |\n|---|---|\n| 1 ms | 2 ms |" in page
    assert str(tmp_path) not in page
    ends = (".md", ".json", ".png", "_growth.png")
    assert {file.name for file in tmp_path.iterdir()} == {f"bench_features{end}" for end in ends}


WHERE = "import {module}; from features import settings; print(settings.RUN_DIR, settings.WAREHOUSE_DATABASE)"


@pytest.mark.parametrize("module", ["bench_features", "bench_health", "bench_serving", "drift.__main__"])
def test_it_works_in_a_folder_and_a_database_of_its_own(module: str, tmp_path: Path) -> None:
    """For it drops that database."""
    variables = {name: value for name, value in os.environ.items() if name not in {"SKEWLESS_RUN_DIR", "PGDATABASE"}}
    done = subprocess.run(
        [sys.executable, "-c", WHERE.format(module=f"tests.benchmarks.{module}")],
        env=variables | {"SKEWLESS_BENCH_RUN_DIR": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    folder, database = done.stdout.split()
    assert folder == str(tmp_path)
    assert database != "skewless"
