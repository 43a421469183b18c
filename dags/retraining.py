"""One retraining Dag for each model that dbt declares."""

from typing import Any

from airflow.sdk import Param, PartitionedAssetTimetable, TriggerRule, dag, task

from features.contract import Model
from features.orchestration import (
    CONTRACT,
    DEFAULT_ARGS,
    GIVEN,
    DagRun,
    OutletEvents,
    Params,
    Passed,
    Tag,
    TaskInstance,
    as_of_of,
    dags_in_flight,
    emit,
    retraining_wanted,
    watched,
)

DOCS = """
### {name}_retraining

Evaluates the retraining policy of **{name}** and keeps the decision, whatever it is, with every trigger and its
evidence. `score_tests` then writes down what the warehouse says of each test of the ML Test Score; nothing waits for
it.

* **Reads** `monitoring.drift_reports`, open incidents, matured labels, earlier decisions, the decay backtest, the
  registry. **Writes** one row per partition to `monitoring.retraining_decisions`, and
  `monitoring.scorecard_evidence`.
* **Starts** when a partition's drift reports are written; the partition key is as_of. **By hand** with a partition key
  and the field `because`: that asks for a retraining whatever the triggers say; only an open data incident, a missing
  feature or a training under way still forbid it.
* **Leads to** a `{next}` run when the decision is to retrain. Otherwise `start_training` is skipped, and the
  decision's `reason` says why not.

`outcome` is `retrain`, `blocked` (something fired, and a guard forbids it), `hold` (everything was judged, nothing
fired) or `unknown` (nothing fired, but something could not be judged: look at what is missing).

Settings: `retraining` in the exposure's `config.meta` (dbt_project/models/exposures.yml).

#### When this is red
* `decide`: the policy could not be evaluated; nothing was decided. The log says what it could not read.
* `score_tests`: the decision stands; evidence of before counts until it expires. The log says what it could not read.

#### Meanwhile
The champion stays, and goes on scoring. No training starts for this hour; the next hour decides by itself.

#### Safe to re-run
All of it: a decision replaces the one before, and so does what was seen. Once for each champion, and every month,
`score_tests` trains it a second time to see whether the same comes out; that takes as long as a training.

#### Look next
`monitoring.retraining_decisions`, or Feature health, *Retraining*: each decision with its triggers and guards. A
guard that names an incident: `skewless incidents`. Why a training came to nothing: `{name}_training`.
"""


def retraining_dag(model: Model) -> None:
    @dag(
        dag_id=f"{model.name}_retraining",
        schedule=PartitionedAssetTimetable(assets=watched(model)),
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGS,
        doc_md=DOCS.format(name=model.name, next=dags_in_flight(model)[-1]),
        tags=[Tag.RETRAINING],
        params={
            "because": Param(
                None,
                type=["null", "string"],
                title="Retrain, because",
                description_md="Leave empty to let the policy decide by itself. The reason is kept with the decision.",
            )
        },
    )
    def retraining() -> None:
        @task
        def decide(*, dag_run: DagRun = GIVEN, params: Params = GIVEN, ti: TaskInstance = GIVEN) -> dict[str, Any]:
            from features.steps import decide as step

            under_way = [ti.get_dr_count(dag, states=["queued", "running"]) for dag in dags_in_flight(model)]
            return step.decide(
                model, as_of_of(dag_run), dag_run.run_id, requested=params["because"], in_flight=sum(under_way)
            )

        @task.short_circuit
        def is_wanted(decision: Passed) -> bool:
            return bool(decision["should_retrain"])

        @task(outlets=[retraining_wanted(model)])
        def start_training(decision: Passed, *, dag_run: DagRun = GIVEN, outlet_events: OutletEvents = GIVEN) -> None:
            emit(outlet_events, retraining_wanted(model), as_of_of(dag_run), decision)

        # Whatever became of the decision. A red one shows all the same: start_training does not run.
        @task(trigger_rule=TriggerRule.ALL_DONE)
        def score_tests(*, dag_run: DagRun = GIVEN) -> dict[str, Any]:
            from features.steps import score_tests as step

            return step.score_tests(model, as_of_of(dag_run))

        decision = decide()
        is_wanted(decision) >> start_training(decision)
        decision >> score_tests()

    retraining()


for declared in CONTRACT.models.values():
    retraining_dag(declared)
