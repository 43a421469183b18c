"""A backfill through a real scheduler, by the commands that the README gives; and a month of it, step by step."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from features.contract import Model, read_contract
from features.local import demo
from features.local.airflow_api import DONE, AirflowApi
from features.migrations import migrate
from features.steps.publish import publish
from features.steps.retain import thin
from tests.databases import drop_database, execute, migrated, use, using
from tests.dbt_project.oracle import HOUR, read
from tests.dbt_project.running import run_dbt
from tests.operations.deployment import SKEWLESS
from tests.steps.small_warehouse import HISTORY, LATER, hours, load, session

# Half a dozen runs of a dozen tasks, on a machine that may have other things to do.
pytestmark = [pytest.mark.operations, pytest.mark.timeout(1800)]

FIRST, LAST = "2013-07-02T00:00:00", "2013-07-02T02:00:00"
PARTITIONS = hours(LATER, 3)
# The hours of that day, every year.
CRON = "0 0-23 2 7 *"
BACKFILLED, HOURLY = "skewless_backfill", "skewless_hourly"
EVERY_ROW = """
select 'u', md5(whole::text) from features.user_session_features as whole
union all select 'v', md5(whole::text) from features.user_variety_features as whole
union all select 't', md5(whole::text) from features.event_type_features as whole
union all select 'p', md5(whole::text) from serving.publications as whole
order by 1, 2
"""
ROWS_OF_THE_HOURS = (
    "select whole::text from features.user_session_features as whole"
    f" where as_of between '{PARTITIONS[0]}' and '{PARTITIONS[-1]}' order by 1"
)
# So that the source has not stopped delivering by then.
FRESH = session("u02", LATER - 4 * HOUR, LATER - 3 * HOUR, "fresh")
# Begun before all partitions, and known to the last only.
LATE = session("u01", LATER - HOUR, LATER + HOUR + HOUR / 2, "late")


@pytest.fixture(scope="module")
def hourly(server: None) -> Iterator[list[tuple[Any, ...]]]:
    """What the hourly runs would have written, each at its own time: the late event comes between them."""
    with migrated(HOURLY), using(HOURLY):
        execute(HISTORY)
        load(FRESH)
        for as_of in PARTITIONS:
            if as_of == PARTITIONS[-1]:
                load(LATE)
            run_dbt(as_of, "staging", "features", "training")
        yield read(HOURLY, ROWS_OF_THE_HOURS)


@pytest.fixture(scope="module")
def variables() -> dict[str, str]:
    return {
        "PGDATABASE": BACKFILLED,
        "SKEWLESS_MATERIALIZE_CRON": CRON,
        "SKEWLESS_DECAY_CRON": demo.NEVER,
        "SKEWLESS_SELF_TEST_CRON": demo.NEVER,
        "AIRFLOW_HOME": os.environ["AIRFLOW_HOME"],
    }


@pytest.fixture(scope="module")
def airflow(server: None, variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowApi]:
    """`skewless up` on a warehouse that has all events and no feature; only features and scores are computed."""
    names = (BACKFILLED, f"{BACKFILLED}_airflow", f"{BACKFILLED}_mlflow")
    for name in names:
        drop_database(name)
    with pytest.MonkeyPatch.context() as patch:
        use(BACKFILLED, patch)
        migrate()
        execute(HISTORY)
        load(FRESH, LATE)
    output = tmp_path_factory.mktemp("up") / "output.txt"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW__", "MLFLOW_"))}
    with output.open("w") as file:
        process = subprocess.Popen([SKEWLESS, "up"], env=env | variables, stdout=file, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "Ctrl-C" in output.read_text() or process.poll() is not None, 240)
        assert process.poll() is None, output.read_text()
        api = AirflowApi()
        wait_until(lambda: set(demo.CHAIN) <= set(api.dags()), 120)
        for dag_id in demo.CHAIN:
            api.set_paused(dag_id, dag_id not in demo.CHAIN[:2])
        yield api
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(90)
        for name in names:
            drop_database(name)


def stop_scheduled_runs(api: AirflowApi) -> None:
    """The newest hour there is, of which no event tells; it would only take time."""
    for run in api.get(f"dags/{demo.CHAIN[0]}/dagRuns")["dag_runs"]:
        if run["run_type"] == "scheduled" and run["state"] not in DONE:
            api._patch(f"dags/{demo.CHAIN[0]}/dagRuns/{run['dag_run_id']}", {"state": "failed"})


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.fixture(scope="module")
def backfill(airflow: AirflowApi, variables: dict[str, str]) -> Callable[..., str]:
    """Runs the README's command, and waits until every run of it is done."""

    def run(*options: str, key: str = FIRST, until: str = LAST) -> str:
        command = (
            f'eval "$({SKEWLESS} env)"; {Path(sys.executable).with_name("airflow")} backfill create'
            f" --dag-id materialize_features --from-date {key} --to-date {until}"
            f" --max-active-runs 1 {' '.join(options)}"
        )
        env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW__", "MLFLOW_"))}
        done = subprocess.run(
            ["bash", "-euc", command], env=env | variables, capture_output=True, text=True, check=False
        )
        if done.returncode == 0 and "--dry-run" not in options:
            wait_until(lambda: is_over(airflow), 700)
        return done.stdout + done.stderr

    return run


def is_over(api: AirflowApi) -> bool:
    stop_scheduled_runs(api)
    return all(one["completed_at"] for one in backfills(api))


def backfills(api: AirflowApi) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get("backfills", dag_id="materialize_features")["backfills"]
    return found


def runs(api: AirflowApi, dag_id: str) -> list[dict[str, Any]]:
    """The runs of a Dag but those that its schedule started, as they came."""
    found: list[dict[str, Any]] = api.get(f"dags/{dag_id}/dagRuns", limit=100, order_by="start_date")["dag_runs"]
    return [run for run in found if run["run_type"] != "scheduled"]


@pytest.fixture(scope="module")
def first(airflow: AirflowApi, backfill: Callable[..., str]) -> list[dict[str, Any]]:
    """The runs of a backfill from the newest partition to the oldest."""
    backfill("--run-backwards")
    found = runs(airflow, demo.CHAIN[0])
    wait_until(lambda: [run["state"] in DONE for run in runs(airflow, demo.CHAIN[1])] == [True] * 3, 120)
    return found


def test_each_run_has_its_partition(first: list[dict[str, Any]]) -> None:
    keys = [run["partition_key"] for run in first]
    assert sorted(keys) == [FIRST, "2013-07-02T01:00:00", LAST]
    assert {(run["run_type"], run["state"]) for run in first} == {("backfill", "success")}


def test_one_run_is_active_at_a_time(first: list[dict[str, Any]]) -> None:
    for before, after in pairwise(first):
        assert before["end_date"] <= after["start_date"]


def test_the_dags_that_wait_for_a_partition_follow(airflow: AirflowApi, first: list[dict[str, Any]]) -> None:
    scoring = runs(airflow, demo.CHAIN[1])
    assert sorted((run["partition_key"], run["state"]) for run in scoring) == [
        (as_of.strftime("%Y-%m-%dT%H:%M:%S"), "success") for as_of in PARTITIONS
    ]


def test_its_rows_are_those_of_the_hourly_runs(first: list[dict[str, Any]], hourly: list[tuple[Any, ...]]) -> None:
    assert read(BACKFILLED, ROWS_OF_THE_HOURS) == hourly
    assert len(hourly) == 36


def test_the_newest_instant_is_live_though_the_older_ones_came_after_it(first: list[dict[str, Any]]) -> None:
    live = "select as_of, retired_at from serving.publications where feature_view = 'user_session_features'"
    assert read(BACKFILLED, live) == [(PARTITIONS[-1], None)]


def test_what_is_there_is_not_computed_again_unless_that_is_said(
    airflow: AirflowApi, backfill: Callable[..., str], first: list[dict[str, Any]]
) -> None:
    before = read(BACKFILLED, EVERY_ROW)
    backfill("--reprocess-behavior", "none")
    assert len(runs(airflow, demo.CHAIN[0])) == len(first)
    assert read(BACKFILLED, EVERY_ROW) == before


def test_a_second_backfill_changes_no_row_beside_a_run_by_hand_and_what_is_paused_does_not_follow(
    airflow: AirflowApi, backfill: Callable[..., str], first: list[dict[str, Any]]
) -> None:
    before = read(BACKFILLED, EVERY_ROW)
    scorings = len(runs(airflow, demo.CHAIN[1]))
    airflow.set_paused(demo.CHAIN[1], True)
    airflow.trigger(demo.CHAIN[0], FIRST, "by_hand")
    backfill("--reprocess-behavior", "completed", key=LAST)
    wait_until(lambda: airflow.run(demo.CHAIN[0], "by_hand").state in DONE, 240)
    assert airflow.run(demo.CHAIN[0], "by_hand").state == "success"
    assert [run["state"] for run in runs(airflow, demo.CHAIN[0])] == ["success"] * 5
    assert read(BACKFILLED, EVERY_ROW) == before
    assert len(runs(airflow, demo.CHAIN[1])) == scorings


def test_a_dry_run_lists_the_partitions_that_never_ran(
    backfill: Callable[..., str], first: list[dict[str, Any]]
) -> None:
    said = backfill("--dry-run", key="2013-06-01T00:00:00", until="2013-07-02T23:00:00")
    assert "2013-07-02T03:00:00" in said
    assert "2013-07-02T23:00:00" in said
    assert LAST not in said


# A month, without waiting for a scheduler: what each run does to the warehouse


@pytest.fixture(scope="module")
def model(manifest: Path) -> Model:
    return read_contract(manifest).model("churn")


def test_a_month_in_any_order_gives_the_same_rows_and_the_newest_goes_live(
    server: None, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [datetime(2013, 6, day, tzinfo=UTC) for day in (1, 10, 20, 30)]
    written: dict[str, list[tuple[Any, ...]]] = {}
    for name, order in {"forwards": days, "backwards": days[::-1], "twice": [*days, *days]}.items():
        drop_database("skewless_month")
        use("skewless_month", monkeypatch)
        migrate()
        execute(HISTORY)
        for as_of in order:
            run_dbt(as_of)
            publish(model.feature_view, as_of)
        written[name] = read(
            "skewless_month", "select whole::text from features.user_session_features as whole order by 1"
        )
        assert read("skewless_month", "select as_of from serving.publications where retired_at is null") == [
            (days[-1],)
        ]
    assert written["forwards"] == written["backwards"] == written["twice"]
    # The next run thins out what a backfill filled, as if it had been there all the time: midnights stay for 90 days.
    assert thin(model.feature_view, days[-1])["snapshots"] == 0
    drop_database("skewless_month")
