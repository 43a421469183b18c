"""Materialises and publishes features, hour by hour."""

from airflow.sdk import CronPartitionTimetable, chain, dag, task

from features import settings
from features.dbt_tasks import dbt_models
from features.orchestration import CONTRACT, DEFAULT_ARGS, Tag, as_of_of, emit, published

DOCS = """
### materialize_features

Computes every feature view at the run's **partition key, which is as_of**, and publishes the snapshot: one inserted row
in `serving.publications` makes it live. Each dbt model is a task that builds the model and runs its tests.

* **Reads** `raw.session_events`. **Writes** `staging.*`, `features.*`, `training.*`, `serving.publications`.
* **Starts** on the hour. By hand: trigger it with a partition key such as `2013-07-02T00:00:00`.
* **Leads to** one `<model>_scoring` run for each model that uses the features.

#### When this is red
* "as_of 'None' is not an instant": the run has no partition key. Nothing was computed; trigger again with one.
* a `dbt` task: the log names the model or test. `fresh_at_as_of` means the source stopped delivering. The last
  published snapshot stays live until this is mended.
* `publish_*`: there were no rows to publish.

Everything is safe to clear and re-run: rows that were written stay as they are, and only missing ones are computed.
"""

VIEWS = list(CONTRACT.feature_views.values())


@dag(
    schedule=CronPartitionTimetable(settings.MATERIALIZE_CRON, timezone="UTC"),
    catchup=False,
    is_paused_upon_creation=True,  # a person says when the hourly runs begin
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    doc_md=DOCS,
    tags=[Tag.FEATURES],
)
def materialize_features() -> None:
    models = dbt_models(
        "dbt", select=["path:models/staging", "path:models/features", "path:models/training", "path:models/serving"]
    )

    @task
    def publish(view: str, *, dag_run, outlet_events) -> dict:
        from features.steps import publish as step

        facts = step.publish(CONTRACT.feature_views[view], as_of_of(dag_run))
        emit(outlet_events, published(CONTRACT.feature_views[view]), as_of_of(dag_run), facts)
        return facts

    publications = [
        publish.override(task_id=f"publish_{view.name}", outlets=[published(view)])(view.name) for view in VIEWS
    ]
    chain(models, publications)


materialize_features()
