"""One approval Dag for each model whose retraining a person has to agree to."""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import PartitionedAssetTimetable, dag, task

from features.contract import ApprovalSettings, Model
from features.orchestration import (
    CONTRACT,
    DEFAULT_ARGS,
    GIVEN,
    DagRun,
    OutletEvents,
    Tag,
    approved,
    as_of_of,
    emit,
    retraining_wanted,
)

DOCS = """
### {name}_approval

Asks a person before **{name}** is retrained. The question, with the policy's reason, is under *Required actions* of the
run. It is a Dag of its own, so that a question that waits holds up nothing but its own training.

* **Reads** `monitoring.retraining_decisions`. **Writes** nothing. **Starts** when the policy decides to retrain.
* **Leads to** `{name}_training` after a yes, if no data incident has opened meanwhile. A no, or no answer within
  {hours} hours, ends it; the policy asks again once its cooldown is over.

Settings: `retraining.approval` in the exposure's `config.meta`.

#### When this is red
* `ask`, `reason`: Airflow could not ask, or found no decision to ask about.
* `is_still_allowed`, `start_training`: somebody said yes, and nothing has started; clear that task, and the yes counts.

#### Meanwhile
The champion stays, and goes on scoring. While a question waits, the policy starts no other training.

#### Safe to re-run
All of it; clearing `ask` asks again.

#### Look next
*Required actions* of the run for who was asked; `monitoring.retraining_decisions` for why; `{name}_retraining`, which
decides.
"""


def approval_dag(model: Model, approval: ApprovalSettings) -> None:
    @dag(
        dag_id=f"{model.name}_approval",
        schedule=PartitionedAssetTimetable(assets=retraining_wanted(model)),
        catchup=False,
        is_paused_upon_creation=False,
        default_args=DEFAULT_ARGS,
        doc_md=DOCS.format(name=model.name, hours=approval.timeout_hours),
        tags=[Tag.RETRAINING],
    )
    def approve() -> None:
        @task
        def reason(*, dag_run: DagRun = GIVEN) -> str:
            from features.steps import decide as step

            return step.reason_of(model, as_of_of(dag_run))

        @task.short_circuit
        def is_still_allowed(*, dag_run: DagRun = GIVEN) -> bool:
            from features.steps import decide as step

            return step.is_still_allowed(model, as_of_of(dag_run))

        @task(outlets=[approved(model)])
        def start_training(*, dag_run: DagRun = GIVEN, outlet_events: OutletEvents = GIVEN) -> None:
            emit(outlet_events, approved(model), as_of_of(dag_run), {})

        ask = ApprovalOperator(
            task_id="ask",
            subject=f"Retrain {model.name} as of {{{{ dag_run.partition_key }}}}?",
            body="{{ ti.xcom_pull(task_ids='reason') }}",
            defaults=ApprovalOperator.REJECT,
            response_timeout=timedelta(hours=approval.timeout_hours),
            assigned_users=[{"id": user, "name": user} for user in approval.approvers] or None,
        )
        reason() >> ask >> is_still_allowed() >> start_training()

    approve()


for declared in CONTRACT.models.values():
    if declared.retraining.approval:
        approval_dag(declared, declared.retraining.approval)
