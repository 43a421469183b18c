"""One training Dag for each model that dbt declares."""

from typing import Any

from airflow.sdk import PartitionedAssetTimetable, dag, task

from features.contract import Model
from features.orchestration import (
    CONTRACT,
    DEFAULT_ARGS,
    GIVEN,
    DagRun,
    OutletEvents,
    Passed,
    Tag,
    as_of_of,
    emit,
    trained,
    training_wanted,
)

DOCS = """
### {name}_training

Trains **{name}** on the labels that had matured by as_of, each with the features that were live at its instant, beside
simple models that it has to beat, and registers the result in MLflow as `challenger`. The gate makes it `champion` when
every check passes: against the champion on the same holdout (the lower bound of the paired difference), on each slice,
against the simple models, and on the last snapshot, scored in the champion's shadow. Otherwise it stays challenger.

* **Reads** `{training_set}`. **Writes** MLflow (parameters, metrics, plots, where it comes from),
  `monitoring.model_evaluations` with every check, the new champion's drift baseline, `monitoring.champions`.
* **Starts** when the policy decides to retrain{after_approval}. By hand: trigger it with a partition key such as
  `2013-07-02T00:00:00`; that skips the policy and its guards.
* A challenger that was not promoted is a green run: its `reason` says which check failed.

Settings: `training` and `promotion` in the exposure's `config.meta` (dbt_project/models/exposures.yml).

#### When this is red
* `train`: the data cannot make a model (too few rows, one class only, a constant or empty feature: the log names it),
  or MLflow does not answer. Clearing it helps with the latter only.
* `promote`: the challenger is registered and not yet judged; clear this task alone.

#### Meanwhile
The champion stays, and goes on scoring. `{name}_retraining` takes this training for asked for, and asks for the next
one when its cooldown (`retraining.cooldown_hours`) is over.

#### Safe to re-run
All of it. Training again gives the same metrics and registers another version of the same extract; judging again says
the same.

#### Look next
`monitoring.model_evaluations`, or Feature health, *Model*: every check of the gate. The run in MLflow has parameters
and plots. Labels that are missing: `materialize_features`. Is a promoted model wrong all the same? `{name}_rollback`.
"""


def training_dag(model: Model) -> None:
    @dag(
        dag_id=f"{model.name}_training",
        schedule=PartitionedAssetTimetable(assets=training_wanted(model)),
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGS,
        doc_md=DOCS.format(
            name=model.name,
            training_set=".".join(model.training_set),
            after_approval=" and somebody approves" if model.retraining.approval else "",
        ),
        tags=[Tag.TRAINING],
    )
    def training() -> None:
        @task
        def train(*, dag_run: DagRun = GIVEN) -> str:
            from features.steps import train as step

            return step.train(model, as_of_of(dag_run))

        @task(outlets=[trained(model)])
        def promote(version: Passed, *, dag_run: DagRun = GIVEN, outlet_events: OutletEvents = GIVEN) -> dict[str, Any]:
            from features.steps import promote as step

            facts = step.promote(model, version, as_of_of(dag_run))
            emit(outlet_events, trained(model), as_of_of(dag_run), facts)
            return facts

        promote(train())

    training()


for declared in CONTRACT.models.values():
    training_dag(declared)
