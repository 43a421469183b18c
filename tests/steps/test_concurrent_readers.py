"""Readers see one complete snapshot at any moment and never an error, whatever is published, rolled back or rebuilt."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from threading import Event

import pytest

from features import warehouse
from features.contract import FeatureView
from features.steps.publish import publish
from features.steps.roll_back import roll_back
from tests.databases import copy_of, execute, use, using
from tests.dbt_project.oracle import HOUR, read
from tests.dbt_project.running import run_dbt
from tests.steps.small_warehouse import LATER, hours, load, session

READ = """
select
    count(*) as n,
    count(distinct as_of) as instants,
    min(as_of) as as_of,
    count(distinct published_at) as publications
from serving.user_features
"""
Seen = list[tuple[int, int, datetime, int]]


@pytest.fixture(scope="module")
def growing_database(built_database: str, view: FeatureView) -> Iterator[str]:
    """A user more at each instant, so that a mixture of two snapshots has a number of rows of its own."""
    with copy_of(built_database, "skewless_growing") as name:
        with using(name):
            new = [session(f"new {n}", at - HOUR, at, f"n{n}") for n, at in enumerate(hours(LATER + HOUR, 4))]
            load(*new)
            for as_of in hours(LATER + HOUR, 4):
                run_dbt(as_of, "stg_session_events", "user_session_features")
            publish(view, LATER)
        yield name


@pytest.fixture(autouse=True)
def growing(growing_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A copy of it, to write to."""
    with copy_of(growing_database, "skewless_growing_copy") as name:
        use(name, monkeypatch)
        yield name


def read_until(stop: Event) -> Seen:
    """What a reader sees, one transaction each time."""
    seen = []
    with warehouse.connect(autocommit=True) as connection:
        while not stop.is_set():
            row = connection.execute(READ).fetchone()
            assert row is not None
            seen.append(tuple(row.values()))
    return seen


@contextmanager
def readers(count: int) -> Iterator[list[Future[Seen]]]:
    """Readers that read as long as the block lasts. An error of theirs is raised by `result`."""
    stop = Event()
    with ThreadPoolExecutor(count) as pool:
        reading = [pool.submit(read_until, stop) for _ in range(count)]
        try:
            yield reading
        finally:
            stop.set()


def back_and_forth(view: FeatureView, rounds: int) -> None:
    for _ in range(rounds):
        for as_of in hours(LATER + HOUR, 4):
            publish(view, as_of)
        roll_back([view], LATER)


def test_readers_see_complete_snapshots_while_publications_come_and_go(view: FeatureView) -> None:
    with readers(2) as reading:
        back_and_forth(view, rounds=3)
    complete = {(12 + number, 1, as_of, 1) for number, as_of in enumerate(hours(LATER, 5))}
    for reader in reading:
        assert set(reader.result()) <= complete
    assert len({seen for reader in reading for seen in reader.result()}) > 1, "they saw nothing change"


def test_readers_do_not_notice_that_dbt_makes_their_view_again(view: FeatureView) -> None:
    with readers(2) as reading, ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(back_and_forth, view, rounds=2)
        for _ in range(3):
            run_dbt(LATER, "user_features")
        publishing.result()
    complete = {(12 + number, 1, as_of, 1) for number, as_of in enumerate(hours(LATER, 5))}
    for reader in reading:
        assert set(reader.result()) <= complete


def test_what_others_built_upon_the_view_survives_dbt(growing: str) -> None:
    execute("create view public.ours as select user_id, session_count from serving.user_features")
    run_dbt(LATER, "user_features")
    assert read(growing, "select count(*) from public.ours") == [(12,)]
