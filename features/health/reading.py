"""How the pages read the warehouse: as a role that can only read, one consistent state, and never for long."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from features import warehouse
from features.errors import SkewlessError, first_line

ROLE = "monitor_reader"
STATEMENT_TIMEOUT_SECONDS = 5
# So that reloading a page again and again does not take the warehouse's connections from the pipeline.
MOST_READERS = 8
WAIT_SECONDS = 5

_readers = threading.BoundedSemaphore(MOST_READERS)

# `role` makes everything that follows subject to what was granted to it, whoever logs in.
OPTIONS = (
    f"-c role={ROLE} -c default_transaction_read_only=on -c default_transaction_isolation=repeatable\\ read"
    f" -c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s -c lock_timeout=2s"
    f" -c idle_in_transaction_session_timeout={2 * STATEMENT_TIMEOUT_SECONDS}s"
)


class CannotRead(SkewlessError):
    """The warehouse is there, and does not tell: with the reason and what to do."""


class Busy(CannotRead):
    """Too many are reading, or one question takes too long; later it may work."""


@contextmanager
def read() -> Iterator[warehouse.Connection]:
    """A connection that sees one state of the warehouse, cannot change it, and is not asked for long.

    Raises:
        WarehouseUnavailable: when it does not answer.
        CannotRead: when tables or grants are missing.
        Busy: when a query takes more than STATEMENT_TIMEOUT_SECONDS, or MOST_READERS are reading.
    """
    if not _readers.acquire(timeout=WAIT_SECONDS):
        raise Busy(f"{MOST_READERS} pages are being read already. Try again in a moment.")
    try:
        with warehouse.connect(options=OPTIONS) as connection:
            yield connection
    except warehouse.NotAllowed as error:
        raise CannotRead(_no_role(first_line(error.__cause__))) from error
    except warehouse.WarehouseUnavailable as error:
        if ROLE in str(error) or "set role" in str(error):
            raise CannotRead(_no_role(str(error))) from error
        raise
    except psycopg.Error as error:
        raise _explained(error) from error
    finally:
        _readers.release()


def _explained(error: psycopg.Error) -> SkewlessError:
    said = first_line(error)
    match error:
        case errors.QueryCanceled() | errors.LockNotAvailable():
            return Busy(f"The warehouse did not answer within {STATEMENT_TIMEOUT_SECONDS} s. Try again in a moment.")
        case errors.UndefinedTable() | errors.UndefinedColumn() | errors.InvalidSchemaName():
            return CannotRead(f"The warehouse's tables are older than these pages ({said}). Run `make warehouse`.")
        case psycopg.OperationalError():
            return warehouse.WarehouseUnavailable(
                f"The connection to the warehouse broke: {said}. Load the page again."
            )
    raise error


def _no_role(said: str) -> str:
    return (
        f"{warehouse.user()} may not read this as {ROLE} ({said}). Run `make warehouse`, which grants it, or ask your "
        f"administrator to run `grant {ROLE} to {warehouse.user()}`."
    )
