"""One self-test Dag for each model that dbt declares: is the drift monitor quiet when it should be, and awake?"""

from typing import Any

from airflow.sdk import CronPartitionTimetable, dag, task

from features import settings
from features.contract import Model
from features.orchestration import CONTRACT, DEFAULT_ARGS, GIVEN, DagRun, Passed, Tag, as_of_of

DOCS = """
### {name}_drift_self_test

Replays the served hours of the last two days through the drift monitor of **{name}**: the newer half against the older,
once as it was, then with shifts injected while the warehouse counts the values (a quarter of a standard deviation, 5 %
filled with a default, a tenth in another unit). One mapped task per feature, named after it.

* **Reads** the snapshots in `{view}`. **Writes** `monitoring.drift_self_tests`: false alarms, the delay until each
  shift was found, and `is_blind` where it was not. Nothing of the pipeline is touched.
* **Starts** every night, once you unpause it. By hand: trigger it with a partition key such as `2013-07-02T00:00:00`.

A feature that is *blind* to a shift has too few entities, or floors that are too high (`drift` in its column's
`config.meta`). A clean hour that alarms is a false alarm, if the pipeline was well in these two days.

#### When this is red
* `replay`: the feature named in the task could not be replayed; its log says why, and the others have their results.
* `plan`: nothing was replayed.

#### Meanwhile
Nothing waits for it. `{name}_drift` watches as before; what it would not see is as the last test said.

#### Safe to re-run
All of it: a test replaces the one before.

#### Look next
`monitoring.drift_self_tests`, or Feature health, *Features*: each feature's page says to what it is blind.
"""


def self_test_dag(model: Model) -> None:
    @dag(
        dag_id=f"{model.name}_drift_self_test",
        schedule=CronPartitionTimetable(settings.SELF_TEST_CRON, timezone="UTC"),
        catchup=False,
        is_paused_upon_creation=True,  # there is nothing to replay before the hourly runs began
        max_active_runs=1,
        default_args=DEFAULT_ARGS,
        doc_md=DOCS.format(name=model.name, view=model.feature_view.name),
        tags=[Tag.MONITORING],
    )
    def self_test() -> None:
        @task
        def plan(*, dag_run: DagRun = GIVEN) -> dict[str, Any]:
            from features.steps import watch as step

            return step.plan(model, as_of_of(dag_run))

        @task
        def list_features(planned: Passed) -> list[str]:
            return list(planned["features"])

        @task(map_index_template="{{ feature }}")
        def replay(feature: str, planned: Passed, *, dag_run: DagRun = GIVEN) -> list[dict[str, Any]]:
            from airflow.sdk import get_current_context

            from features.steps import self_test as step

            # Airflow lets a task add names for its map_index_template, which its types do not know.
            get_current_context()["feature"] = feature  # type: ignore[typeddict-unknown-key]
            return step.self_test(model, feature, planned, as_of_of(dag_run))

        planned = plan()
        replay.partial(planned=planned).expand(feature=list_features(planned))

    self_test()


for declared in CONTRACT.models.values():
    self_test_dag(declared)
