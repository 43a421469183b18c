"""`make demo`: the whole pipeline on a year of real flights, through a real scheduler, and what came of it."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from psycopg import sql
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from features import settings, warehouse
from features.errors import SkewlessError
from features.ingest import nycflights13
from features.ingest.loading import load_file
from features.local import redis, servers, stack, summary
from features.local.airflow_api import DONE, AirflowApi, DagRun
from features.migrations import migrate
from features.serving.push import forget

# Tuesdays, on which the labels of the sample fall. First there is no model; a day later nothing calls for another;
# then the champion is too old; then it is old again and many labels are new. Now it is measured how fast it ages, and
# by that the last is decided.
STORY = (
    "2013-07-02T00:00:00",
    "2013-07-03T00:00:00",
    "2013-08-06T00:00:00",
    "2013-11-05T00:00:00",
    "2013-12-24T00:00:00",
)
AGEING_IS_MEASURED_AFTER = STORY[3]

MODEL = "churn"
DECAY_BACKTEST = f"{MODEL}_decay_backtest"
RETRAINING, TRAINING = f"{MODEL}_retraining", f"{MODEL}_training"
CHAIN = (
    "materialize_features",
    f"{MODEL}_scoring",
    f"{MODEL}_inference",
    f"{MODEL}_drift",
    RETRAINING,
    TRAINING,
)
PARTITION_TIMEOUT_SECONDS = 600
# But for leap days.
NEVER = "0 0 29 2 *"


def run(console: Console) -> None:
    """Runs the demo from the start; an earlier demo's results are replaced, its downloads are kept.

    Raises:
        SkewlessError: naming the Dag, the task and its log when a run fails.
    """
    began = time.monotonic()
    stack.refuse_if_running()
    started: list[str] = []
    try:
        started += servers.start()
        _prepare(console)
        try:
            _tell_the_story(AirflowApi(), console)
        finally:
            stack.stop()
        with warehouse.connect() as connection:
            summary.show(connection, MODEL, console)
    finally:
        servers.stop(started)
    console.print(
        f"\nDone in {time.monotonic() - began:.0f} s. "
        "Look around: [b]make up[/b] (Airflow, MLflow), [b]make psql[/b] (SQL)."
    )


def run_deployed(url: str, password: str, console: Console) -> None:
    """Tells the same story on an Airflow that runs already, such as that of docker-compose.yml.

    Nothing is started over: the warehouse has to be new, with the sample loaded.

    Args:
        url: of Airflow.
        password: of its user `admin`.

    Raises:
        SkewlessError: when the warehouse is not new, or as `run`.
    """
    began = time.monotonic()
    _refuse_unless_new()
    _tell_the_story(AirflowApi(url, password), console)
    with warehouse.connect() as connection:
        summary.show(connection, MODEL, console)
    console.print(f"\nDone in {time.monotonic() - began:.0f} s. Airflow goes on running; its hourly Dag is paused.")


def _refuse_unless_new() -> None:
    with warehouse.connect() as connection:
        has_events = connection.execute("select 1 from raw.session_events limit 1").fetchone()
        has_published = connection.execute("select 1 from serving.publications limit 1").fetchone()
    if not has_events:
        raise SkewlessError("There are no events yet: docker compose run --rm loader skewless load-sample")
    if has_published or not _holds_only_the_sample():
        raise SkewlessError(
            "This warehouse has been in use, and the demo leaves it alone. To start over, all data lost: "
            "docker compose down --volumes"
        )


def _prepare(console: Console) -> None:
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as progress:

        def step(text: str) -> None:
            progress.print(f"  {text}") if not console.is_terminal else None
            progress.update(task, description=text)

        task = progress.add_task("Starting over")
        _start_over()
        migrate()
        step("Loading 336,776 flights of 2013, preparing Airflow and MLflow")
        with ThreadPoolExecutor(max_workers=1) as pool:
            prepared = pool.submit(stack.prepare)
            load_file(nycflights13.session_events_file())
            prepared.result()
        step("Starting Airflow")
        # 2013 is replayed by hand: an hourly run of today would only find the source stale.
        stack.start(with_mlflow=False, extra=dict.fromkeys(("SKEWLESS_MATERIALIZE_CRON", "SKEWLESS_DECAY_CRON"), NEVER))


def _tell_the_story(api: AirflowApi, console: Console) -> None:
    with console.status("Waiting for Airflow to read the Dags") as status:
        wait_for_dags(api)
        for number, key in enumerate(STORY, start=1):
            status.update(f"Partition {number} of {len(STORY)}: {key}")
            run_partition(api, key, console)
            if key == AGEING_IS_MEASURED_AFTER:
                status.update(f"Measuring how fast {MODEL} ages")
                run_dag(api, DECAY_BACKTEST, key, console)
        for dag_id in (CHAIN[0], DECAY_BACKTEST):
            api.set_paused(dag_id, True)


def _start_over() -> None:
    """Drops what an earlier demo left; refuses to touch databases that hold anything else."""
    names = (settings.WAREHOUSE_DATABASE, settings.AIRFLOW_DATABASE, settings.MLFLOW_DATABASE)
    with warehouse.connect("postgres", autocommit=True) as connection:
        present = {row["datname"] for row in connection.execute("select datname from pg_database")} & set(names)
        if present and not (settings.WAREHOUSE_DATABASE in present and _holds_only_the_sample()):
            raise SkewlessError(
                f"The demo starts over, and {', '.join(sorted(present))} may hold more than an earlier demo's results. "
                "Give it databases of its own: make demo PGDATABASE=skewless_demo"
            )
        for name in names:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
    if url := redis.url():
        forget(url, settings.online_namespace())


def _holds_only_the_sample() -> bool:
    """Whether the warehouse has our tables, and no event but the sample's."""
    with warehouse.connect() as connection:
        if not warehouse.has_relation(connection, "raw.session_events"):
            return False
        other = connection.execute(
            "select 1 from raw.session_events where source_file is distinct from %s limit 1",
            [nycflights13.SESSION_EVENTS],
        ).fetchone()
        return other is None


def quiet() -> Console:
    """A console that says nothing."""
    return Console(quiet=True)


def wait_for_dags(api: AirflowApi) -> None:
    """Waits until every Dag of the chain is parsed, and unpauses them.

    Raises:
        SkewlessError: with the import errors, if there are any.
    """
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if errors := api.import_errors():
            raise SkewlessError("Airflow cannot read the Dags:\n" + "\n".join(errors))
        if set(CHAIN) <= set(api.dags()):
            for dag_id in CHAIN:
                api.set_paused(dag_id, False)
            return
        time.sleep(0.5)
    raise SkewlessError(f"Airflow has not parsed the Dags after 120 s; see {stack.LOGS}/dag-processor.log.")


def run_partition(api: AirflowApi, key: str, console: Console) -> list[DagRun]:
    """Runs materialize_features for a partition and follows the chain to its end."""
    now = datetime.now(UTC)
    since = now.isoformat()
    api.trigger(CHAIN[0], key, f"demo__{key}__{now:%Y%m%dT%H%M%S}")
    reported: set[str] = set()
    deadline = time.monotonic() + PARTITION_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        runs = api.runs(key, since)
        for run in runs:
            if run.state in DONE and run.run_id not in reported:
                reported.add(run.run_id)
                report(api, run, console)
        if is_over(api, runs):
            return runs
        time.sleep(0.5)
    raise SkewlessError(f"The runs of {key} are not done after {PARTITION_TIMEOUT_SECONDS} s; see {stack.LOGS}.")


def run_dag(api: AirflowApi, dag_id: str, key: str, console: Console) -> DagRun:
    """Runs one Dag for a partition to its end, whether or not its own schedule is paused."""
    run_id = f"demo__{key}__{datetime.now(UTC):%Y%m%dT%H%M%S}"
    api.set_paused(dag_id, False)
    api.trigger(dag_id, key, run_id)
    deadline = time.monotonic() + PARTITION_TIMEOUT_SECONDS
    while (run := api.run(dag_id, run_id)).state not in DONE:
        if time.monotonic() > deadline:
            raise SkewlessError(f"{dag_id} of {key} is not done after {PARTITION_TIMEOUT_SECONDS} s; see {stack.LOGS}.")
        time.sleep(0.5)
    report(api, run, console)
    return run


def report(api: AirflowApi, run: DagRun, console: Console) -> None:
    """Prints how long a finished run took.

    Raises:
        SkewlessError: when it failed, naming the Dag, its failed tasks and their logs.
    """
    if run.state == "failed":
        tasks = "\n  ".join(api.failed_tasks(run)) or "no task ran"
        raise SkewlessError(f"{run.dag_id} failed for {run.partition_key}:\n  {tasks}")
    console.print(f"  {run.partition_key}  {run.dag_id:<22} {run.seconds:5.1f} s")


def is_over(api: AirflowApi, runs: list[DagRun]) -> bool:
    """The chain ends with training, or with a retraining run that decided to hold."""
    done = {run.dag_id: run for run in runs if run.state == "success"}
    if TRAINING in done:
        return True
    return RETRAINING in done and api.task_states(done[RETRAINING]).get("start_training") == "skipped"
