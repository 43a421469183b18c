"""One training Dag for each model that dbt declares."""

from airflow.sdk import PartitionedAssetTimetable, dag, task

from features.contract import Model
from features.orchestration import CONTRACT, DEFAULT_ARGS, Tag, as_of_of, emit, retraining_wanted, trained

DOCS = """
### {name}_training

Trains **{name}** on the labels that had matured by as_of, each with the features that were live at its instant, and
registers the result in MLflow as `challenger`. The gate compares it with the champion on the same holdout and makes it
`champion` if it is good enough.

* **Reads** `{training_set}`. **Writes** MLflow, `monitoring.model_evaluations`, `monitoring.model_baselines`.
* **Starts** when the policy decides to retrain. By hand: trigger it with a partition key such as `2013-07-02T00:00:00`.

Settings: `training` and `promotion` in the exposure's `config.meta` (dbt_project/models/exposures.yml).

#### When this is red
The data cannot make a model (too few rows, one class only), or MLflow does not answer. The champion stays.
Safe to clear and re-run: training again registers another version of the same extract.
"""


def training_dag(model: Model) -> None:
    @dag(
        dag_id=f"{model.name}_training",
        schedule=PartitionedAssetTimetable(assets=retraining_wanted(model)),
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGS,
        doc_md=DOCS.format(name=model.name, training_set=".".join(model.training_set)),
        tags=[Tag.TRAINING],
    )
    def training() -> None:
        @task
        def train(*, dag_run) -> str:
            from features.steps import train as step

            return step.train(model, as_of_of(dag_run))

        @task(outlets=[trained(model)])
        def promote(version: str, *, dag_run, outlet_events) -> dict:
            from features.steps import train as step

            facts = step.promote(model, version, as_of_of(dag_run))
            emit(outlet_events, trained(model), as_of_of(dag_run), facts)
            return facts

        promote(train())

    training()


for declared in CONTRACT.models.values():
    training_dag(declared)
