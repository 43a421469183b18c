"""Pages read as a role that can only read, one consistent state, and never for long; what fails says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import errors

from features import warehouse
from features.health import reading
from features.health.reading import Busy, CannotRead, read
from features.warehouse import WarehouseUnavailable

pytestmark = pytest.mark.usefixtures("empty_warehouse")


def test_it_reads_as_the_role_in_utc() -> None:
    with read() as connection:
        row = connection.execute(
            "select current_user as who, current_setting('TimeZone') as zone,"
            " current_setting('transaction_read_only') as read_only,"
            " current_setting('transaction_isolation') as isolation, current_setting('statement_timeout') as timeout"
        ).fetchone()
    assert row == {
        "who": reading.ROLE,
        "zone": "UTC",
        "read_only": "on",
        "isolation": "repeatable read",
        "timeout": "5s",
    }


@pytest.mark.parametrize(
    "statement",
    [
        "delete from monitoring.drift_incidents",
        "create table monitoring.mine (a int)",
        "create temporary table mine (a int)",
    ],
)
def test_it_cannot_write(statement: str) -> None:
    with pytest.raises((CannotRead, errors.ReadOnlySqlTransaction)), read() as connection:
        connection.execute(statement)


def test_being_allowed_to_write_would_not_help_it() -> None:
    """Leaving the read-only transaction is possible; the role's grants still hold."""
    statements = "set transaction read write; delete from monitoring.drift_incidents"
    with pytest.raises(CannotRead), read() as connection:
        connection.execute(statements)


@pytest.mark.parametrize(
    "relation", ["serving.predictions", "monitoring.inference_log", "raw.session_events", "serving.written_features"]
)
def test_it_sees_no_data_of_entities(relation: str) -> None:
    with pytest.raises(CannotRead, match="make warehouse"), read() as connection:
        connection.execute(f"select * from {relation}")


def test_it_sees_of_an_extract_all_but_who_is_in_it() -> None:
    with read() as connection:
        connection.execute("select extract_id, row_checksum from training.extracts")
    with pytest.raises(CannotRead), read() as connection:
        connection.execute("select spine from training.extracts")


def test_one_page_sees_one_state() -> None:
    with read() as connection:
        count = "select count(*) as n from monitoring.champions"
        assert connection.execute(count).fetchone() == {"n": 0}
        with warehouse.connect() as other:
            other.execute(
                "insert into monitoring.champions (model_name, model_version, feature_version, kind, because)"
                " values ('churn', '1', 'v', 'promotion', 'test')"
            )
        assert connection.execute(count).fetchone() == {"n": 0}


def test_a_question_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "OPTIONS", reading.OPTIONS.replace("statement_timeout=5s", "statement_timeout=50ms"))
    with pytest.raises(Busy, match="did not answer within"), read() as connection:
        connection.execute("select pg_sleep(5)")


def test_there_are_only_so_many_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "WAIT_SECONDS", 0.01)
    with read():
        for _ in range(reading.MOST_READERS - 1):
            assert reading._readers.acquire(blocking=False)
        with pytest.raises(Busy, match="already"), read():
            pass
        for _ in range(reading.MOST_READERS - 1):
            reading._readers.release()
    with read() as connection:  # they gave their places back
        connection.execute("select 1")


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """For less than a test: the fixtures have to clean up as themselves."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


def test_a_warehouse_that_is_away_is_named() -> None:
    with (
        environment(PGHOST="127.0.0.1", PGPORT="1"),
        pytest.raises(WarehouseUnavailable, match=r"PGHOST=127\.0\.0\.1"),
        read(),
    ):
        pass


def test_older_tables_are_told_of() -> None:
    with pytest.raises(CannotRead, match="older than these pages"), read() as connection:
        connection.execute("select * from monitoring.no_such_table")


@pytest.fixture
def stranger() -> Iterator[str]:
    """A login that nobody made a reader."""
    with warehouse.connect("postgres", autocommit=True) as connection:
        connection.execute("drop role if exists stranger")
        connection.execute("create role stranger login")
    yield "stranger"
    with warehouse.connect("postgres", autocommit=True) as connection:
        connection.execute("drop role stranger")


def test_a_login_that_is_no_reader_hears_what_to_ask_for(stranger: str) -> None:
    refused = pytest.raises(CannotRead, match="grant monitor_reader to stranger")
    with environment(PGUSER=stranger), refused, read():
        pass


def test_a_login_that_may_do_nothing_else_reads(stranger: str) -> None:
    with warehouse.connect(autocommit=True) as connection:
        connection.execute(f"grant {reading.ROLE} to {stranger}")
    with environment(PGUSER=stranger), read() as connection:
        connection.execute("select * from monitoring.drift_incidents")


def test_a_mistake_of_ours_is_not_explained_away() -> None:
    with pytest.raises(psycopg.errors.SyntaxError), read() as connection:
        connection.execute("selekt 1")
