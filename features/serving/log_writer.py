"""Rows on their way to the inference log: a bounded buffer that services append to, and a thread that empties it.

A service never waits for the warehouse and never hears of it. What waits stays in the buffer until its transaction has
committed, so an outage loses nothing but what no longer fits; and since a request_id is written once, to try again
after a commit whose answer got lost is harmless.
"""

import atexit
import logging
import math
import os
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal
from weakref import WeakSet

from features import warehouse
from features.errors import SkewlessError
from features.serving.inference_log import LoggedInference, write_or_reject

log = logging.getLogger(__name__)

STATEMENT_SECONDS = 10.0  # after which the server gives up on a statement, a wait for a lock included
BATCH_SECONDS = 30.0  # after which we hang up on a server that says nothing
IDLE_SECONDS = 30.0  # for which a connection without work is kept
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0

Connect = Callable[[], AbstractContextManager[warehouse.Connection]]


@dataclass(slots=True)
class Statistics:
    """What became of the requests. A block that is still open is not among them.

    seen = unsampled + written + dropped + rejected + failed + without_prediction + buffered, unsampled being
    seen - sampled.

    Attributes:
        seen: requests.
        sampled: those that were chosen to be logged.
        dropped: because the buffer was full, or an id could not become text.
        written: those in the log; that a request_id was there already does not matter.
        rejected: those in monitoring.rejected_inferences.
        failed: blocks that raised before there was a prediction.
        without_prediction: blocks that ended without one.
        write_failures: attempts to write that failed, whatever the number of rows; they are repeated.
        buffered: those that wait to be written.
    """

    seen: int = 0
    sampled: int = 0
    dropped: int = 0
    written: int = 0
    rejected: int = 0
    failed: int = 0
    without_prediction: int = 0
    write_failures: int = 0
    buffered: int = 0


@dataclass(frozen=True)
class Pace:
    """How much is buffered, and when it is written.

    Attributes:
        buffer_rows: that wait at most; more are dropped, the newest first.
        batch_rows: that are written at once; as soon as there are as many they are.
        flush_every_seconds: how long a row waits for others.
        close_timeout_seconds: how long `flush`, `close` and the end of the process wait.
    """

    buffer_rows: int = 10_000
    batch_rows: int = 1_000
    flush_every_seconds: float = 1.0
    close_timeout_seconds: float = 5.0

    def __post_init__(self) -> None:
        """Refuses what would never write.

        Raises:
            SkewlessError: naming the setting.
        """
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value > 0):
                raise SkewlessError(f"{name} of the inference log is {value!r}; it has to be above 0.")


class LogWriter:
    """The buffer and its thread, which starts with the first row and ends when it is told to and nothing is left.

    All methods may be called by any thread, and by a signal handler.
    """

    def __init__(self, connect: Connect, pace: Pace) -> None:
        """Starts nothing yet."""
        self._connect = connect
        self._pace = pace
        self.start_over()
        _writers.add(self)

    def start_over(self) -> None:
        """Forgets everything. The child of a fork does: what was buffered is its parent's to write."""
        # A lock that a thread held while the process forked would stay locked in the child for ever. It is reentrant
        # because signal handlers and finalizers run in whichever thread holds it.
        self._changed = threading.Condition(threading.RLock())
        self._rows: deque[LoggedInference] = deque()
        self._counts = Statistics()
        self._thread: threading.Thread | None = None
        self._is_ending = False
        self._is_away = False
        self._settled = 0
        self._flush_until = 0
        self._failures_in_a_row = 0

    @property
    def close_timeout_seconds(self) -> float:
        """How long the end of the process waits."""
        return self._pace.close_timeout_seconds

    def append(self, row: LoggedInference) -> None:
        """Takes a sampled request, or drops it when the buffer is full."""
        with self._changed:
            self._counts.seen += 1
            self._counts.sampled += 1
            if len(self._rows) >= self._pace.buffer_rows:
                self._counts.dropped += 1
                return
            self._rows.append(row)
            if len(self._rows) == self._pace.batch_rows:
                self._changed.notify_all()
            if self._thread is None:
                self._start()

    def count_unsampled(self) -> None:
        """Counts a request that is not logged."""
        with self._changed:
            self._counts.seen += 1

    def count(self, outcome: Literal["dropped", "failed", "without_prediction"]) -> None:
        """Counts a sampled request of which there is nothing to log."""
        with self._changed:
            self._counts.seen += 1
            self._counts.sampled += 1
            setattr(self._counts, outcome, getattr(self._counts, outcome) + 1)

    def statistics(self) -> Statistics:
        """The counts as they are now."""
        with self._changed:
            return replace(self._counts, buffered=len(self._rows))

    def flush(self, timeout: float | None = None) -> int:
        """Has everything written that was appended before, and waits for it.

        Returns:
            how many of those rows are not written after `timeout` seconds.
        """
        timeout = self._pace.close_timeout_seconds if timeout is None else timeout
        with self._changed:
            target = self._settled + len(self._rows)
            self._flush_until = max(self._flush_until, target)
            self._hurry()
            self._changed.wait_for(lambda: self._settled >= target, timeout)
            return max(target - self._settled, 0)

    def end(self) -> None:
        """Has everything written, without waiting; then the thread ends. Another row would start a new one."""
        with self._changed:
            self._hurry()
            self._is_ending = self._thread is not None

    def close(self, timeout: float | None = None) -> int:
        """Has everything written, waits for it, and ends the thread.

        Returns:
            how many rows are not written after `timeout` seconds. As long as the process lives, attempts go on.
        """
        timeout = self._pace.close_timeout_seconds if timeout is None else timeout
        with self._changed:
            self.end()
            # Not by joining the thread: to wait gives up the lock, which a signal handler may have interrupted.
            # A service that serves on may start another one meanwhile.
            ending = self._thread
            self._changed.wait_for(lambda: ending is None or self._thread is not ending, timeout)
            left = len(self._rows)
        if left:
            log.error("%s rows of the inference log were not written within %g seconds.", f"{left:,}", timeout)
        return left

    def _hurry(self) -> None:
        """Ends the pause after a failure, and makes the next ones short again."""
        self._failures_in_a_row = 0
        if self._thread is None and self._rows:
            self._start()
        self._changed.notify_all()

    def _start(self) -> None:
        # A daemon, because Python would wait for any other for ever; `_close_all` does not.
        self._thread = threading.Thread(target=self._run, name="skewless-inference-log", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the system allows no more threads; the next row tries again
            self._thread = None

    def _run(self) -> None:
        while not self._retires():
            batch = self._next_batch()
            if batch:
                self._deliver(batch)

    def _retires(self) -> bool:
        """Whether the thread ends, which is decided under the lock: a row that comes later starts another one."""
        with self._changed:
            if not self._is_ending or self._rows:
                return False
            self._is_ending = False
            self._thread = None
            self._changed.notify_all()
            return True

    def _next_batch(self) -> list[LoggedInference]:
        """The oldest rows, which stay in the buffer; none when a wait of flush_every_seconds brought none."""
        with self._changed:
            self._changed.wait_for(self._is_due, self._pace.flush_every_seconds)
            return list(islice(self._rows, self._pace.batch_rows))

    def _is_due(self) -> bool:
        return len(self._rows) >= self._pace.batch_rows or self._is_ending or self._settled < self._flush_until

    def _deliver(self, batch: list[LoggedInference]) -> None:
        """Writes a batch and those that follow on the same connection, until there is no work for a while."""
        try:
            with self._connect() as connection:
                idle_since = time.monotonic()
                while batch or (not self._is_ending and time.monotonic() < idle_since + IDLE_SECONDS):
                    if batch:
                        self._write(connection, batch)
                        idle_since = time.monotonic()
                    batch = self._next_batch()
        except Exception as error:  # whatever it is, it must neither end the thread nor lose the rows
            self._pause_after(error)

    def _write(self, connection: warehouse.Connection, batch: list[LoggedInference]) -> None:
        with _at_most(BATCH_SECONDS, connection), connection.transaction():
            limit = f"{STATEMENT_SECONDS * 1000:.0f}ms"
            connection.execute("select set_config('statement_timeout', %s, true)", [limit])
            rejected = write_or_reject(connection, batch)
        self._settle(len(batch), rejected)

    def _settle(self, count: int, rejected: int) -> None:
        with self._changed:
            for _ in range(count):
                self._rows.popleft()
            self._settled += count
            self._counts.rejected += rejected
            self._counts.written += count - rejected
            self._failures_in_a_row = 0
            was_away, self._is_away = self._is_away, False
            self._changed.notify_all()
        if was_away:
            log.warning("The inference log is written again; %s requests were dropped so far.", self._counts.dropped)

    def _pause_after(self, error: Exception) -> None:
        """Waits, the longer the more attempts failed. Not by tenacity: `close` has to cut the wait short."""
        if not self._is_away:
            log.warning("The inference log cannot be written, what waits is kept and attempts go on: %s", error)
        with self._changed:
            self._is_away = True
            self._counts.write_failures += 1
            pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures_in_a_row, 20), LONGEST_PAUSE_SECONDS)
            self._failures_in_a_row += 1
            # Replicas that lost the same server do not come back at the same time.
            self._changed.wait(pause * random.uniform(0.5, 1))  # noqa: S311


@contextmanager
def _at_most(seconds: float, connection: warehouse.Connection) -> Iterator[None]:
    """Hangs up on a server that has not answered in time, which raises an OperationalError in the block.

    A statement timeout is up to the server; it does not help when that is frozen or the network is gone.
    """
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        timer = threading.Timer(seconds, _hang_up, [line])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _hang_up(line: socket.socket) -> None:
    with suppress(OSError):  # it has been closed meanwhile
        line.shutdown(socket.SHUT_RDWR)


# Weak: one whose tracker is gone lives on until its thread has written the rest.
_writers: WeakSet[LogWriter] = WeakSet()


def _close_all() -> None:
    """Waits, when the process exits, until everything is written; all write at the same time."""
    began, writers = time.monotonic(), list(_writers)
    for writer in writers:
        writer.end()
    for writer in writers:
        writer.close(max(began + writer.close_timeout_seconds - time.monotonic(), 0))


def _start_over_in_child() -> None:
    for writer in list(_writers):
        writer.start_over()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_start_over_in_child)
