"""One drift Dag for each model that dbt declares."""

from airflow.sdk import PartitionedAssetTimetable, dag, task

from features.contract import Model
from features.orchestration import CONTRACT, DEFAULT_ARGS, Tag, as_of_of, emit, scored, watched

DOCS = """
### {name}_drift

Compares each feature of the snapshot with the rows the champion of **{name}** was trained on. One mapped task per
feature, named after it, so one broken feature never hides the others.

* **Reads** `{view}` and the champion's training rows. **Writes** one row per feature to `monitoring.drift_reports`.
* **Starts** when a partition is scored; the partition key is as_of.
* A task is green whatever it *finds*: the finding is its report's `status`. Absence of data is one too, never `ok`.

#### When this is red
A task could not look. Its log says why; the other features have their reports.

Safe to clear and re-run: a report replaces the one before.
"""


def drift_dag(model: Model) -> None:
    @dag(
        dag_id=f"{model.name}_drift",
        schedule=PartitionedAssetTimetable(assets=scored(model)),
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGS,
        doc_md=DOCS.format(name=model.name, view=model.feature_view.name),
        tags=[Tag.MONITORING],
    )
    def drift() -> None:
        @task
        def find_champion() -> str | None:
            from features.steps import watch as step

            return step.champion_version(model)

        @task(map_index_template="{{ feature }}")
        def watch(feature: str, champion: str | None, *, dag_run) -> dict:
            from airflow.sdk import get_current_context

            from features.steps import watch as step

            get_current_context()["feature"] = feature
            return step.watch_feature(model, feature, champion, as_of_of(dag_run))

        @task(outlets=[watched(model)])
        def conclude(reports, *, dag_run, outlet_events) -> dict:
            facts = {report["feature"]: report["status"] for report in reports}
            emit(outlet_events, watched(model), as_of_of(dag_run), facts)
            return facts

        conclude(watch.partial(champion=find_champion()).expand(feature=list(model.feature_names)))

    drift()


for declared in CONTRACT.models.values():
    drift_dag(declared)
