"""One scoring Dag for each model that dbt declares."""

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
    published,
    scored,
)

DOCS = """
### {name}_scoring

The champion of **{name}** scores its population (`{population}`) in the snapshot that was just published.

* **Reads** `{view}`, the registry's alias `champion`. **Writes** `serving.predictions`, which
  is read as `serving.{name}_predictions`.
* **Starts** when the features of a partition are published; the partition key is as_of.
* While there is no champion it scores nothing, says so, and lets the chain go on: the policy will ask for one.

#### When this is red
* `somebody_was_scored`, "was trained on definition ...": the features changed, and nobody is scored by a model that
  does not know them. `{name}_retraining` asks for a new champion by itself; the next partition is scored again.
* the registry does not answer: check MLflow, then clear the task.
* `score`, "has no row where": the snapshot has nobody of the population; see whether `materialize_features` computed
  what it should.

#### Meanwhile
The scores of the hour before are the newest in `serving.predictions`; services that ask the champion themselves are
not concerned. When `score` is red, `{name}_inference`, `{name}_drift` and `{name}_retraining` do not run for this
hour; when only `somebody_was_scored` is, they do.

#### Safe to re-run
All of it: a score, once written, stays.

#### Look next
Feature health, *Model*; `monitoring.champions` for who should be champion; the last run of `{name}_training`.
"""


def scoring_dag(model: Model) -> None:
    @dag(
        dag_id=f"{model.name}_scoring",
        schedule=PartitionedAssetTimetable(assets=published(model.feature_view)),
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGS,
        doc_md=DOCS.format(name=model.name, population=model.population, view=model.feature_view.name),
        tags=[Tag.SCORING],
    )
    def scoring() -> None:
        @task(outlets=[scored(model)])
        def score(*, dag_run: DagRun = GIVEN, outlet_events: OutletEvents = GIVEN) -> dict[str, Any]:
            from features.steps import score as step

            facts = step.score(model, as_of_of(dag_run))
            emit(outlet_events, scored(model), as_of_of(dag_run), facts)
            return facts

        # Red when nobody was; the chain has gone on, since the policy is what asks for a champion that can.
        @task
        def somebody_was_scored(facts: Passed) -> None:
            from features.steps import score as step

            step.refuse_unscored(facts)

        somebody_was_scored(score())

    scoring()


for declared in CONTRACT.models.values():
    scoring_dag(declared)
