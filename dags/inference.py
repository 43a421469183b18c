"""One Dag for each model that dbt declares: what it was asked, what it saw, and how right it was."""

from typing import Any

from airflow.sdk import PartitionedAssetTimetable, TriggerRule, dag, task

from features.contract import Model
from features.orchestration import (
    CONTRACT,
    DEFAULT_ARGS,
    GIVEN,
    DagRun,
    OutletEvents,
    Tag,
    as_of_of,
    emit,
    measured,
    scored,
)

DOCS = """
### {name}_inference

Looks at what **{name}** really did, in four independent tasks:

* `compare_served` recomputes the features of logged requests at their own as_of, cell by cell, and tells late data from
  changed logic. What differs becomes an incident in `{name}_drift`.
* `measure_performance`: labels come home. Each cohort of predictions is measured once its labels have matured, and
  estimated from calibrated confidence (CBPE) before. The retraining policy reads it.
* `summarise_inference` adds the hour up, for SQL in `monitoring.inference_hours` and as metrics in MLflow.
* `thin_log` deletes logged requests that are older than the exposure's `keep_log_days`, and predictions that are older
  than `keep_predictions_days` and have been measured.

* **Reads** `monitoring.inference_log`, `serving.predictions`, labels. **Writes** `monitoring.parity_audits`,
  `monitoring.model_performance`, `monitoring.inference_hours`.
* **Starts** when a partition is scored; the partition key is as_of. **Leads to** `{name}_drift`, whatever was found.

#### When this is red
* `compare_served`, `measure_performance`: nothing new is known of this hour's requests or labels, and the policy goes
  by what it knew before. The log names the table, or says that the registry does not answer.
* `summarise_inference`: the hour is missing in `monitoring.inference_hours` and in MLflow; the next hour adds it up,
  too.
* `thin_log`: nothing is lost; the next hour tries again.

#### Meanwhile
Services are not concerned. `{name}_drift` and `{name}_retraining` follow whatever is red here.

#### Safe to re-run
All of it: each replaces what it wrote before.

#### Look next
`monitoring.rejected_inferences` for requests that could not be logged; Feature health, *Parity*, for cells that differ;
MLflow, when the log says that the registry does not answer.
"""


def inference_dag(model: Model) -> None:
    @dag(
        dag_id=f"{model.name}_inference",
        schedule=PartitionedAssetTimetable(assets=scored(model)),
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGS,
        doc_md=DOCS.format(name=model.name),
        tags=[Tag.MONITORING],
    )
    def inference() -> None:
        @task
        def compare_served(*, dag_run: DagRun = GIVEN) -> dict[str, Any]:
            from features.steps import compare_served as step

            return step.compare_served(model, as_of_of(dag_run))

        @task
        def measure_performance(*, dag_run: DagRun = GIVEN) -> dict[str, Any]:
            from features.steps import measure as step

            return step.measure(model, as_of_of(dag_run))

        @task
        def summarise_inference(*, dag_run: DagRun = GIVEN) -> dict[str, Any]:
            from features.steps import summarise_inference as step

            return step.summarise_inference(model, as_of_of(dag_run))

        @task
        def thin_log(*, dag_run: DagRun = GIVEN) -> int:
            from features.steps import retain as step

            return step.thin_log(model, as_of_of(dag_run))

        # Whatever became of these, drift is watched and the policy asked.
        @task(outlets=[measured(model)], trigger_rule=TriggerRule.ALL_DONE)
        def hand_on(*, dag_run: DagRun = GIVEN, outlet_events: OutletEvents = GIVEN) -> None:
            emit(outlet_events, measured(model), as_of_of(dag_run), {})

        # A Dag run is as its last tasks are: without this one, hand_on would hide a red task.
        @task
        def everything_was_looked_at() -> None:
            """Does not run when a task before it failed, so that the run is red."""

        looks = [compare_served(), measure_performance(), summarise_inference(), thin_log()]
        looks >> hand_on()
        looks >> everything_was_looked_at()

    inference()


for declared in CONTRACT.models.values():
    inference_dag(declared)
