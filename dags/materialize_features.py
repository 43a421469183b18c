"""Materialises and publishes features, hour by hour."""

from typing import Any

from airflow.sdk import CronPartitionTimetable, Param, chain, dag, task

from features import settings
from features.dbt_tasks import dbt_models
from features.orchestration import (
    CONTRACT,
    DEFAULT_ARGS,
    GIVEN,
    DagRun,
    OutletEvents,
    Params,
    Tag,
    as_of_of,
    emit,
    published,
)

DOCS = """
### materialize_features

Computes every feature view at the run's **partition key, which is as_of**, and publishes the snapshot: one inserted row
in `serving.publications` makes it live. Each dbt model is a task that builds the model and runs its tests.

Before a snapshot goes live, the **parity gate** recomputes it, and the one that is live, and compares every cell.
Afterwards it is pushed to Redis, where there is one (`REDIS_URL`), all of it or nothing of it, and old snapshots are
thinned out as each view's `retention` says.

* **Reads** `raw.session_events`. **Writes** `staging.*`, `features.*`, `training.*`, `serving.publications`,
  `monitoring.parity_audits`.
* **Starts** on the hour. By hand: trigger it with a partition key such as `2013-07-02T00:00:00`.
* **Leads to** one `<model>_scoring` run for each model that uses the features.

#### When this is red
* "as_of 'None' is not an instant": the run has no partition key. Nothing was computed; trigger again with one.
* a `dbt` task: the log names the model or test. `fresh_at_as_of` means the source stopped delivering. The last
  published snapshot stays live until this is mended.
* `publish_*`: "is not published": the parity gate is closed, and the last good snapshot stays live. The log names the
  features, a few entities and the cause. *Changed logic*: rows, a function or a view were changed by hand; restore them
  and clear the task. *Backdated data*: events that claim to have been known at as_of were loaded after its rows had
  been computed. They cannot be unknown again: correct the `ingested_at` that their loader writes, and trigger the
  partition again with `accept_skew` saying why it may be published; that is kept with the audit.
* `publish_*`: "has no row": clear the dbt tasks.
* a `dbt` task, "tuple concurrently updated" or a deadlock: two runs of dbt replaced the same view. It is tried again.
* `push_online`: services go on reading the publication before from Redis until it is stale, and the new one from
  PostgreSQL after that. See whether Redis runs, then clear the task.
* `thin_snapshots`: nothing is lost; the next run tries again.

#### Meanwhile
Services go on reading what was published last, and refuse it (or flag it) once `expires_after` of the view is over. No
`<model>_scoring` run starts for a view that was not published, so nobody is scored, watched or retrained for this hour.
Other views, and the next hour, go on.

#### Safe to re-run
All of it. Rows, once written, never change, a partition that is live is not published again, and an older one never
replaces a newer one.

#### Look next
Feature health, *Overview* and *Parity*; `monitoring.dbt_results` for what failed before;
`staging.rejected_session_events` and `raw.rejected_rows` for what was delivered. Stale or backdated events: whoever
loads them. A view: its owner in the YAML. Is what is live wrong? `rollback_features` serves an earlier publication
again.

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
    params={
        "accept_skew": Param(
            None,
            type=["null", "string"],
            title="Publish although the parity gate is closed, because",
            description_md="Leave empty, unless you looked at `monitoring.parity_audits` and the difference is meant.",
        )
    },
)
def materialize_features() -> None:
    models = dbt_models(
        "dbt", select=["path:models/staging", "path:models/features", "path:models/training", "path:models/serving"]
    )

    @task
    def publish(
        view: str,
        *,
        dag_run: DagRun = GIVEN,
        params: Params = GIVEN,
        outlet_events: OutletEvents = GIVEN,
    ) -> dict[str, Any]:
        from features.steps import publish as step

        facts = step.publish(CONTRACT.feature_views[view], as_of_of(dag_run), params["accept_skew"])
        emit(outlet_events, published(CONTRACT.feature_views[view]), as_of_of(dag_run), facts)
        return facts

    @task
    def thin_snapshots(*, dag_run: DagRun = GIVEN) -> dict[str, Any]:
        from features.steps import retain as step

        return {view.name: step.thin(view, as_of_of(dag_run)) for view in VIEWS}

    # By itself: a Redis that is away must not look like a publication that failed.
    @task
    def push_online() -> list[dict[str, Any]]:
        from features.steps import push_online as step

        return step.push_online(VIEWS)

    publications = [
        publish.override(task_id=f"publish_{view.name}", outlets=[published(view)])(view.name) for view in VIEWS
    ]
    chain(models, publications)
    publications >> push_online()
    publications >> thin_snapshots()


materialize_features()
