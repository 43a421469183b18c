"""One drift Dag for each model that dbt declares."""

from typing import Any

from airflow.sdk import PartitionedAssetTimetable, TriggerRule, dag, task

from features.contract import Model
from features.orchestration import (
    CONTRACT,
    DEFAULT_ARGS,
    GIVEN,
    DagRun,
    OutletEvents,
    Passed,
    Tag,
    TaskInstance,
    as_of_of,
    emit,
    measured,
    watched,
)
from features.steps.tell import channels

DOCS = """
### {name}_drift

Counts each feature of the snapshot (and of the inference log, when there is one), the scores and the labels, and
compares the last 1, 6, 24 and 168 hours with the rows the champion of **{name}** was trained on and with the first four
healthy weeks. One mapped task per feature, named after it, so one broken feature never hides the others. `conclude`
opens and closes incidents, of what `{name}_inference` found differing in served values, too, and logs the hour on half
a page.

* **Reads** `{view}`, predictions, labels, `monitoring.inference_log`. **Writes** `monitoring.drift_reports`,
  `monitoring.drift_incidents`, and the counts in `monitoring.sketches`.
* **Starts** when `{name}_inference` has looked at what was served; the partition key is as_of.
* A task is green whatever it *finds*: the finding is its report's `status`. Absence of data is one too, never `ok`.

#### When this is red
A task could not look: its feature has the status `error`, its log says why, and the other features have their reports.
`every_feature_was_watched` is red because of it, so that the run is. If `plan` is red, nothing was watched.

If it is `tell_slack` or `tell_email`, somebody was not told of an incident: its log names the connection to mend.
Retraining does not wait for it.

#### Meanwhile
Services and scores are not concerned. `{name}_retraining` decides by the reports there are, and calls what could not be
judged `unknown`. When `plan` or `conclude` is red, it does not run for this hour; incidents stay as they are.

#### Safe to re-run
All of it: a report replaces the one before. Only `tell_slack` and `tell_email` tell again.

#### Look next
`skewless incidents` lists what is wrong, since when and whom to ask; Feature health, *Features*, shows how far each
strays. An incident of the pipeline is mended where it comes from; `skewless resolve-incident` is for a person who
knows better.
"""


def drift_dag(model: Model) -> None:
    @dag(
        dag_id=f"{model.name}_drift",
        schedule=PartitionedAssetTimetable(assets=measured(model)),
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGS,
        doc_md=DOCS.format(name=model.name, view=model.feature_view.name),
        tags=[Tag.MONITORING],
    )
    def drift() -> None:
        @task
        def plan(*, dag_run: DagRun = GIVEN) -> dict[str, Any]:
            from features.steps import watch as step

            return step.plan(model, as_of_of(dag_run))

        @task
        def list_features(planned: Passed) -> list[str]:
            return list(planned["features"])

        @task(map_index_template="{{ feature }}")
        def watch(feature: str, planned: Passed, *, dag_run: DagRun = GIVEN) -> dict[str, Any]:
            from airflow.sdk import get_current_context

            from features.steps import watch as step

            # Airflow lets a task add names for its map_index_template, which its types do not know.
            get_current_context()["feature"] = feature  # type: ignore[typeddict-unknown-key]
            return step.watch_feature(model, feature, planned, as_of_of(dag_run))

        # Whatever became of some features, the others are concluded from.
        @task(outlets=[watched(model)], trigger_rule=TriggerRule.ALL_DONE)
        def conclude(
            planned: Passed,
            findings: Passed,
            *,
            dag_run: DagRun = GIVEN,
            outlet_events: OutletEvents = GIVEN,
        ) -> dict[str, Any]:
            from features.steps import conclude as step

            concluded = step.conclude(model, planned, [found for found in findings or [] if found], as_of_of(dag_run))
            emit(outlet_events, watched(model), as_of_of(dag_run), concluded)
            return concluded

        # One task per channel, so that trying one again repeats no other. Nothing waits for them.
        @task
        def tell(concluded: Passed, channel: str, *, dag_run: DagRun = GIVEN, ti: TaskInstance = GIVEN) -> list[str]:
            from features.steps import tell as step

            log_of_conclude = f"{ti.log_url.rpartition('/tasks/')[0]}/tasks/conclude"
            return step.tell(model, concluded["events"], as_of_of(dag_run), log_of_conclude, channel)

        @task
        def every_feature_was_watched() -> None:
            """Fails with the features whose tasks did, so that the run is red."""

        planned = plan()
        findings = watch.partial(planned=planned).expand(feature=list_features(planned))
        concluded = conclude(planned, findings)
        for channel in channels(model):
            tell.override(task_id=f"tell_{channel}")(concluded, channel)
        findings >> every_feature_was_watched()

    drift()


for declared in CONTRACT.models.values():
    drift_dag(declared)
