"""A run computes what is missing and nothing else; two at once, or one that is killed, leave what one alone leaves."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from features import settings, warehouse
from features.contract import read_contract
from features.migrations import migrate
from features.partition import parse_as_of
from features.steps.publish import publish
from tests.databases import AS_OF, copy_of, drop_database
from tests.dbt_project.oracle import copy_raw, read, write
from tests.dbt_project.running import dbt, start_dbt

pytestmark = pytest.mark.features

LATER = "2013-07-02T01:00:00"
SERVER = warehouse.host()
TABLES = (
    "staging.stg_session_events",
    "features.user_session_features",
    "features.user_variety_features",
    "features.event_type_features",
    "features.churn_labels",
    "training.churn_training_set",
)
# Enough that a build takes a while, few enough for several builds.
SOME = "mod(abs(hashtext(user_id)), 5) = 0"


def contents(database: str) -> dict[str, object]:
    """A checksum of each table's rows."""
    row = "md5(t::text)"
    return {
        table: read(database, f"select count(*), md5(string_agg({row}, '' order by {row})) from {table} as t")
        for table in TABLES
    }


def leftovers(database: str) -> list[tuple[object, ...]]:
    """What a build uses on its way."""
    return read(database, "select relname from pg_class where relname ~ '__(batches|computed|dbt_tmp)'")


@pytest.fixture(scope="module")
def undisturbed(sample_database: str) -> Iterator[str]:
    """A fifth of the sample's users, built in peace."""
    name = "skewless_undisturbed"
    with fresh(sample_database, name) as database:
        dbt(["run"], database, as_of=AS_OF)
        yield database


@contextmanager
def fresh(sample_database: str, name: str) -> Iterator[str]:
    """A migrated database with a fifth of the sample's events and nothing built, dropped afterwards."""
    drop_database(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "WAREHOUSE_DATABASE", name)
        migrate()
    copy_raw(sample_database, name, SOME)
    yield name
    drop_database(name)


def test_only_what_is_missing_is_computed(undisturbed: str) -> None:
    with copy_of(undisturbed, "skewless_missing") as database:
        before = read(database, "select ctid::text, xmin::text, t.* from features.user_session_features as t")
        write(database, "delete from features.user_session_features where user_id = 'N14228'")
        write(database, "delete from features.user_session_features where as_of = '2013-06-11'")
        output = dbt(["run", "--select", "user_session_features"], database, as_of=AS_OF)
        after = read(database, "select ctid::text, xmin::text, t.* from features.user_session_features as t")
        kept = [row for row in before if row[2] != "N14228" and f"{row[3]:%m-%d}" != "06-11"]
        assert 0 < len(kept) < len(before)
        assert set(kept) <= set(after)
        assert sorted(row[2:] for row in after) == sorted(row[2:] for row in before)
        assert f"INSERT 0 {len(before) - len(kept)} " in output.replace("]", " ").replace("m", " ")


def test_a_run_again_computes_nothing(undisturbed: str) -> None:
    with copy_of(undisturbed, "skewless_again") as database:
        before = contents(database)
        output = dbt(["run"], database, as_of=AS_OF)
        assert output.count("INSERT 0 0") >= 3
        assert contents(database) == before


def test_two_runs_of_one_partition_at_once_are_one(undisturbed: str) -> None:
    with copy_of(undisturbed, "skewless_alone") as alone, copy_of(undisturbed, "skewless_both") as both:
        dbt(["run"], alone, as_of=LATER)
        processes = [start_dbt(["run"], both, LATER), start_dbt(["run"], both, LATER)]
        assert [process.wait(120) for process in processes] == [0, 0]
        assert contents(both) == contents(alone)
        assert leftovers(both) == []


def test_runs_out_of_order_and_far_apart_give_what_each_would_alone(undisturbed: str) -> None:
    """Nothing remembers how far it got: an early partition after a late one is complete all the same."""
    instants = ["2014-01-05T00:00:00", "2013-02-01T00:00:00"]
    with copy_of(undisturbed, "skewless_order") as one, copy_of(undisturbed, "skewless_reverse") as other:
        for as_of in instants:
            dbt(["run"], one, as_of=as_of)
        for as_of in reversed(instants):
            dbt(["run"], other, as_of=as_of)
        query = "table features.user_session_features order by as_of, user_id"
        assert read(one, query) == read(other, query)
        assert {row[1].isoformat()[:19] for row in read(one, query)} >= set(instants)


def test_a_full_refresh_leaves_the_events_with_their_indexes(empty_warehouse: str) -> None:
    """The table that is replaced has indexes of the same names."""
    dbt(["run", "--select", "stg_session_events"], empty_warehouse, as_of=AS_OF)
    before = covering_indexes(empty_warehouse)
    assert len(before) == 2
    dbt(["run", "--full-refresh", "--select", "stg_session_events"], empty_warehouse, as_of=AS_OF)
    assert covering_indexes(empty_warehouse) == before


def covering_indexes(database: str) -> list[tuple[str]]:
    return read(
        database,
        "select indexname from pg_indexes where tablename = 'stg_session_events' and indexdef like '% INCLUDE %'"
        " order by 1",
    )


def test_the_future_is_refused(undisturbed: str) -> None:
    """Rows that were written for an instant to come would lack what will be known by then, and never change."""
    output = dbt(["run"], undisturbed, as_of="2099-01-01T00:00:00", expect_failure=True)
    assert "as_of '2099-01-01T00:00:00' is in the future" in output


def wait_for_dbt(database: str, process: subprocess.Popen[bytes]) -> None:
    """Until the process has begun to build in the database."""
    query = "select 1 from pg_stat_activity where datname = %s and application_name = 'dbt' and state <> 'idle'"
    while process.poll() is None:
        with suppress(psycopg.OperationalError), warehouse.connect("postgres") as connection:
            if connection.execute(query, [database]).fetchone():
                return
        time.sleep(0.02)


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_build_leaves_nothing_half_done(undisturbed: str, sample_database: str, seed: int) -> None:
    """Kill -9 of dbt at a random moment of its work; the next run ends where an undisturbed one does."""
    with fresh(sample_database, f"skewless_killed_{seed}") as database:
        process = start_dbt(["run"], database)
        wait_for_dbt(database, process)
        time.sleep(random.Random(seed).uniform(0, 1.5))
        was_running = process.poll() is None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(10) in (0, -signal.SIGKILL)
        assert was_running or process.returncode == 0
        assert read(database, "select count(*) from serving.publications") == [(0,)]
        dbt(["run"], database, as_of=AS_OF)
        assert contents(database) == contents(undisturbed)
        assert leftovers(database) == []


@pytest.fixture
def doomed_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A PostgreSQL of its own, to be killed. Its path has to be short."""
    with tempfile.TemporaryDirectory(prefix="skewless-") as name:
        folder = Path(name) / "postgres"
        monkeypatch.setattr(settings, "RUN_DIR", Path(name))
        monkeypatch.setattr(settings, "EMBEDDED_POSTGRES", folder)
        monkeypatch.setenv("PGHOST", str(folder))
        monkeypatch.setenv("SKEWLESS_RUN_DIR", name)
        start_server()
        yield folder
        skewless("stop-warehouse")  # which stops the Redis that came with it, too


def start_server() -> None:
    """As a person does, who finds it dead: in a process that knows nothing of the one before."""
    skewless("start-warehouse")


def skewless(command: str) -> None:
    program = Path(sys.executable).with_name("skewless")
    done = subprocess.run([program, command], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def kill_server(folder: Path) -> None:
    """Kill -9 of the postmaster, as a power cut would; its children end by themselves."""
    psutil.Process(int((folder / "postmaster.pid").read_text().splitlines()[0])).kill()
    deadline = time.monotonic() + 120
    while any(works_in(process, folder) for process in psutil.process_iter()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def works_in(process: psutil.Process, folder: Path) -> bool:
    """Whether the process is alive and belongs to the server of this folder."""
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
        is_alive = process.status() != psutil.STATUS_ZOMBIE
        return is_alive and process.name() == "postgres" and Path(process.cwd()) == folder.resolve()
    return False


def test_a_killed_server_loses_nothing_that_was_published(
    undisturbed: str, sample_database: str, manifest: Path, doomed_server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At random moments of a build, twice; what was live stays live, and the next run completes the rows."""
    database = "skewless_doomed"
    monkeypatch.setattr(settings, "WAREHOUSE_DATABASE", database)
    migrate()
    _deliver_across(sample_database, database, doomed_server)
    dbt(["run"], database, as_of="2013-06-01T00:00:00")
    view = read_contract(manifest).feature_view("user_session_features")
    publish(view, parse_as_of("2013-06-01T00:00:00"))
    served = read(database, "table serving.user_features order by 1")
    for seed in range(2):
        process = start_dbt(["run"], database)
        wait_for_dbt(database, process)
        time.sleep(random.Random(seed).uniform(0, 1.0))
        kill_server(doomed_server)
        process.wait(60)
        start_server()
        assert read(database, "table serving.user_features order by 1") == served
        assert leftovers(database) == []
    dbt(["run"], database, as_of=AS_OF)
    publish(view, parse_as_of(AS_OF))
    found = read(database, "select * from features.user_session_features where as_of <> '2013-06-01' order by 1, 2")
    monkeypatch.setenv("PGHOST", SERVER)
    assert found == read(undisturbed, "select * from features.user_session_features order by 1, 2")


def _deliver_across(source: str, target: str, folder: Path) -> None:
    """copy_raw between two servers."""
    columns = "event_id, user_id, event_type, started_at, duration_seconds, ingested_at, is_deleted, loaded_at"
    query = f"copy (select {columns} from raw.session_events where {SOME}) to stdout"
    giving = psycopg.connect(host=SERVER, user="postgres", dbname=source)
    with giving, warehouse.connect(target) as taking, taking.cursor() as cursor:
        into = cursor.copy(f"copy raw.session_events ({columns}) from stdin")
        with giving.cursor().copy(query) as copy, into as delivery:
            for block in copy:
                delivery.write(block)
