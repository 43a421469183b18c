"""Whatever happens to the warehouse or the process, a row is written once, or counted as dropped."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from typing import Any

import psutil
import psycopg
import pytest

from features import warehouse
from features.serving import log_writer
from features.serving.inference_log import LoggedInference, write_rows
from features.serving.log_writer import LogWriter
from tests.places import ROOT
from tests.serving.requests import AS_OF, MILLISECONDS, Line, ask, assert_adds_up, logged, logged_ids, rejected, tracker

OURS = """
from pg_stat_activity
where datname = current_database() and application_name = 'skewless' and pid <> pg_backend_pid()
"""


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "LONGEST_PAUSE_SECONDS", 0.2)


def wait_for(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(5 * MILLISECONDS)


def inference(request_id: str, **changes: Any) -> LoggedInference:
    row: dict[str, Any] = {
        "model_name": "churn",
        "model_version": "7",
        "feature_version": "abc",
        "entity_id": "u1",
        "as_of": AS_OF,
        "features": {},
        "prediction": 0.5,
        "logged_at": AS_OF,
    }
    return LoggedInference(request_id=request_id, **(row | changes))


def test_rows_are_written_without_being_asked_for(empty_warehouse: str) -> None:
    with tracker(flush_every_seconds=0.05) as in_time, tracker(batch_rows=3) as in_number:
        ask(in_time, "r1")
        wait_for(lambda: in_time.statistics().written == 1)
        ask(in_number, "r2")
        ask(in_number, "r3")
        time.sleep(100 * MILLISECONDS)
        assert in_number.statistics().written == 0
        ask(in_number, "r4")
        wait_for(lambda: in_number.statistics().written == 3)
    assert logged_ids() == ["r1", "r2", "r3", "r4"]


def test_threads_may_share_a_tracker(empty_warehouse: str) -> None:
    with tracker(batch_rows=100) as tracked:

        def serve(name: int) -> None:
            for number in range(500):
                ask(tracked, f"{name}-{number:03}")

        threads = [threading.Thread(target=serve, args=[name]) for name in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert logged_ids() == sorted(f"{name}-{number:03}" for name in range(8) for number in range(500))
    assert tracked.statistics().seen == 4_000
    assert_adds_up(tracked.statistics())


def test_an_outage_is_waited_for_and_told_of_once(empty_warehouse: str, caplog: pytest.LogCaptureFixture) -> None:
    line = Line()
    line.is_cut = True
    with tracker(connect=line, flush_every_seconds=0.01, buffer_rows=5) as tracked:
        for number in range(8):
            ask(tracked, f"r{number}")
        wait_for(lambda: tracked.statistics().write_failures >= 3)
        statistics = tracked.statistics()
        assert (statistics.buffered, statistics.dropped, statistics.written) == (5, 3, 0)
        assert_adds_up(statistics)
        assert caplog.text.count("The line is cut.") == 1
        line.is_cut = False
        assert tracked.flush() == 0
        assert_adds_up(tracked.statistics())
        wait_for(lambda: "3 requests were dropped" in caplog.text)
    assert logged_ids() == [f"r{number}" for number in range(5)]


def test_flush_and_close_give_up_in_time_and_say_how_much_is_left(
    empty_warehouse: str, caplog: pytest.LogCaptureFixture
) -> None:
    line = Line()
    line.is_cut = True
    tracked = tracker(connect=line)
    ask(tracked, "r1")
    ask(tracked, "r2")
    began = time.monotonic()
    assert tracked.flush(0.1) == 2
    assert tracked.close(0.1) == 2
    assert time.monotonic() - began < 2
    assert "2 rows of the inference log were not written" in caplog.text
    line.is_cut = False
    assert tracked.close() == 0
    assert logged_ids() == ["r1", "r2"]


def test_a_closed_tracker_serves_on(empty_warehouse: str) -> None:
    tracked = tracker()
    assert tracked.close() == 0  # nothing yet, not even a thread
    ask(tracked, "r1")
    assert tracked.close() == 0
    ask(tracked, "r2")
    assert tracked.close() == 0
    assert logged_ids() == ["r1", "r2"]


def test_terminated_connections_lose_nothing(empty_warehouse: str) -> None:
    with tracker(flush_every_seconds=0.002, batch_rows=20) as tracked, warehouse.connect(autocommit=True) as admin:
        done = threading.Event()

        def serve() -> None:
            for number in range(2_000):
                ask(tracked, f"r{number:04}")
                time.sleep(0.2 * MILLISECONDS)
            done.set()

        thread = threading.Thread(target=serve)
        thread.start()
        terminated = 0
        while not done.is_set():
            terminated += len(admin.execute(f"select pg_terminate_backend(pid) {OURS}").fetchall())
            time.sleep(20 * MILLISECONDS)
        thread.join()
        assert tracked.flush() == 0
        statistics = tracked.statistics()
    assert terminated > 3
    assert statistics.write_failures > 3
    assert statistics.written == 2_000
    assert_adds_up(statistics)
    assert logged_ids() == [f"r{number:04}" for number in range(2_000)]


def test_a_commit_whose_answer_was_lost_is_harmless(empty_warehouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settle = LogWriter._settle
    lost: list[int] = []

    def lose_the_first(writer: LogWriter, count: int, rejected: int) -> None:
        if not lost:
            lost.append(count)
            raise psycopg.OperationalError("the connection was lost after the commit")
        settle(writer, count, rejected)

    monkeypatch.setattr(LogWriter, "_settle", lose_the_first)
    with tracker() as tracked:
        ask(tracked, "r1")
        ask(tracked, "r2")
    assert lost == [2]
    assert logged_ids() == ["r1", "r2"]
    assert (tracked.statistics().written, tracked.statistics().write_failures) == (2, 1)


def test_a_locked_table_is_waited_for_in_bounds(empty_warehouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "STATEMENT_SECONDS", 0.1)
    with tracker() as tracked:
        with warehouse.connect() as other:
            other.execute("lock table monitoring.inference_log in access exclusive mode")
            ask(tracked, "r1")
            assert tracked.flush(0.5) == 1
            assert tracked.statistics().write_failures > 0
        assert tracked.flush() == 0


def test_a_frozen_server_is_hung_up_on(empty_warehouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "BATCH_SECONDS", 0.3)
    with tracker() as tracked, warehouse.connect(autocommit=True) as admin:
        ask(tracked, "r1")
        assert tracked.flush() == 0
        (backend,) = admin.execute(f"select pid {OURS}").fetchall()
        frozen = psutil.Process(backend["pid"])
        frozen.suspend()
        try:
            ask(tracked, "r2")
            assert tracked.flush() == 0
            assert tracked.statistics().write_failures == 1
        finally:
            frozen.resume()
    assert logged_ids() == ["r1", "r2"]


def test_a_missing_table_is_an_outage_and_no_poison(empty_warehouse: str) -> None:
    with tracker() as tracked:
        with warehouse.connect() as connection:
            connection.execute("alter table monitoring.inference_log rename to away")
        ask(tracked, "r1")
        assert tracked.flush(0.3) == 1
        with warehouse.connect() as connection:
            connection.execute("alter table monitoring.away rename to inference_log")
        assert tracked.flush() == 0
    assert rejected() == []
    assert logged_ids() == ["r1"]


def test_a_connection_without_work_is_given_back(empty_warehouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "IDLE_SECONDS", 0.1)
    with tracker(flush_every_seconds=0.02) as tracked, warehouse.connect(autocommit=True) as admin:
        ask(tracked, "r1")
        wait_for(lambda: tracked.statistics().written == 1)
        wait_for(lambda: not admin.execute(f"select pid {OURS}").fetchall())
        ask(tracked, "r2")
        wait_for(lambda: tracked.statistics().written == 2)


def test_a_forgotten_tracker_is_collected_and_its_rows_are_written(empty_warehouse: str) -> None:
    tracked = tracker()
    ask(tracked, "r1")
    forgotten, thread = weakref.ref(tracked), tracked._writer._thread
    del tracked
    gc.collect()
    assert forgotten() is None
    assert thread
    thread.join(10)
    assert not thread.is_alive()
    assert logged_ids() == ["r1"]


def test_no_thread_to_be_had_is_no_error_of_the_service(empty_warehouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with tracker() as tracked:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            ask(tracked, "r1")
            assert tracked.close(0.1) == 1
        ask(tracked, "r2")
    assert logged_ids() == ["r1", "r2"]


def test_batch_scoring_writes_in_its_own_transaction(empty_warehouse: str) -> None:
    with warehouse.connect() as connection:
        assert write_rows(connection, [inference("r1"), inference("r2")]) == 2
        assert write_rows(connection, [inference("r2"), inference("r3"), inference("r3")]) == 1
        assert write_rows(connection, []) == 0
        connection.rollback()
        assert write_rows(connection, (inference(each) for each in ["r4"])) == 1
    assert logged_ids() == ["r4"]


# --- processes ---

PREAMBLE = """
import asyncio, os, signal, sys, threading, time
from tests.serving.requests import ask, tracker
"""


def process(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + script],
        env=dict(os.environ),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(script: str) -> None:
    started = process(script)
    try:
        output, errors = started.communicate(timeout=40)
    finally:
        with suppress(ProcessLookupError):  # nothing is left of it, unless it hangs
            os.killpg(started.pid, signal.SIGKILL)
    assert started.returncode == 0, output + errors
    assert errors == ""


def test_a_process_that_ends_has_everything_written(empty_warehouse: str) -> None:
    run("""
one, other = tracker(), tracker()
for number in range(3_000):
    ask(one, f"one{number:04}")
ask(other, "other")
""")
    assert logged_ids() == [f"one{number:04}" for number in range(3_000)] + ["other"]


def test_a_process_ends_in_time_when_the_warehouse_is_away(empty_warehouse: str) -> None:
    started = process("""
from tests.serving.requests import Line
line = Line()
line.is_cut = True
tracked = tracker(connect=line, close_timeout_seconds=2)
ask(tracked, "r1")
print("ready", flush=True)
""")
    assert started.stdout
    assert started.stdout.readline() == "ready\n"
    began = time.monotonic()
    _, errors = started.communicate(timeout=60)
    assert started.returncode == 0
    assert 1.5 < time.monotonic() - began < 15
    assert "1 rows of the inference log were not written" in errors


FORK = """
tracked = tracker()
ask(tracked, "a parent, written before")
assert tracked.flush() == 0
ask(tracked, "b parent, buffered")
held, release = threading.Event(), threading.Event()

def hold():
    with tracked._writer._changed:
        held.set()
        release.wait()

threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if not child:
    assert tracked.statistics().seen == 0
    ask(tracked, "c child")
    {child_ends}
release.set()
ask(tracked, "d parent, after the fork")
_, status = os.waitpid(child, 0)
assert status == 0, status
ask(tracked, "e parent, after the child")
assert tracked.close() == 0
assert tracked.statistics().write_failures == 0, tracked.statistics()
assert tracked.statistics().written == 4
"""


@pytest.mark.parametrize("child_ends", ["os._exit(tracked.close())", "sys.exit()"])
def test_parent_and_child_write_their_own_rows(empty_warehouse: str, child_ends: str) -> None:
    run(FORK.format(child_ends=child_ends))
    assert [each.split()[0] for each in logged_ids()] == ["a", "b", "c", "d", "e"]


SERVICE = """
async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with tracker() as tracked:
        for number in range(100):
            ask(tracked, f"r{number:02}")
        print("ready", flush=True)
        await stop.wait()

asyncio.run(main())
"""

SIGNAL_HANDLER = """
tracked = tracker()
signal.signal(signal.SIGTERM, lambda *_: os._exit(tracked.close()))
for number in range(100):
    ask(tracked, f"r{number:02}")
with tracked._writer._changed:  # the worst moment for a signal
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("script", [SERVICE, SIGNAL_HANDLER])
def test_a_service_that_handles_sigterm_has_everything_written(empty_warehouse: str, script: str) -> None:
    started = process(script)
    assert started.stdout
    assert started.stdout.readline() == "ready\n"
    assert logged() == []
    started.send_signal(signal.SIGTERM)
    assert started.wait(timeout=30) == 0
    assert len(logged()) == 100
