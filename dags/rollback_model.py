"""For each model that dbt declares, the way back to an earlier champion."""

from typing import Any

from airflow.sdk import Param, dag, task

from features.contract import Model
from features.orchestration import CONTRACT, DEFAULT_ARGS, GIVEN, DagRun, Params, Tag

DOCS = """
### {name}_rollback

Makes an earlier version of **{name}** the champion again: the one before, or the one you name. The next partition is
scored by it and compared with the data that it was trained on.

* **Reads** `monitoring.champions`. **Writes** a row to it, and the registry's alias `champion`.
* **Starts** by hand only. `skewless rollback-model` does the same.
* The policy goes on, and may soon ask for a retraining, since the earlier model is older: **pause `{name}_retraining`**
  while you find out what was wrong. Whatever is trained has to pass the gate against the version you went back to.

#### When this is red
* "there is no earlier champion": nothing was changed.
* "was trained on another definition": that version cannot score the features as they are now defined.
* "never was champion": the log lists those that were.
* MLflow does not answer: nothing was changed, neither the ledger nor the alias.

#### Meanwhile
The champion stays, and goes on scoring.

#### Safe to re-run
All of it: the run goes back once, however often it is cleared.

#### Look next
`monitoring.champions` for who was champion when and why; `monitoring.model_evaluations` for how they were judged.
"""


def rollback_dag(model: Model) -> None:
    @dag(
        dag_id=f"{model.name}_rollback",
        schedule=None,
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGS,
        doc_md=DOCS.format(name=model.name),
        tags=[Tag.TRAINING],
        params={
            "version": Param(
                None,
                type=["null", "string"],
                title="Version to return to",
                description_md="Leave empty for the champion before this one; `monitoring.champions` lists them.",
            ),
            "because": Param(
                None, type=["null", "string"], title="Why", description_md="Kept in `monitoring.champions`."
            ),
        },
    )
    def rollback() -> None:
        @task
        def roll_back(*, params: Params = GIVEN, dag_run: DagRun = GIVEN) -> dict[str, Any]:
            from features.steps import roll_back_model as step

            return step.roll_back_model(model, params["version"], params["because"], dag_run.run_id)

        roll_back()

    rollback()


for declared in CONTRACT.models.values():
    rollback_dag(declared)
