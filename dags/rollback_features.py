"""Serves an earlier publication again, by hand."""

from typing import Any

from airflow.sdk import Param, dag, task

from features.orchestration import CONTRACT, DEFAULT_ARGS, GIVEN, Params, Tag

DOCS = """
### rollback_features

Makes an earlier publication of a feature view the live one again. Nothing is copied or deleted:
`serving.publications` gets a row that points at it, and readers see it at once: those of PostgreSQL when the row is
there, those of Redis when `push_online` is done.

* **Reads** the ledger `serving.publications`. **Writes** one row to it.
* **Starts** by hand only: choose the view and the as_of to return to. `make rollback AS_OF=...` does the same.
* It holds until the next publication: **pause `materialize_features`** while you mend what was wrong.

#### When this is red
* "was never published": the log lists the instants that were published last.
* "the others were thinned out": run `materialize_features` with that partition key, then this again.
* `push_online`: PostgreSQL serves the earlier publication, Redis still the later one. See whether Redis runs, then
  clear it.

#### Meanwhile
When `roll_back` is red, what was live still is. Nothing else waits for this Dag; models are scored again with the next
publication.

#### Safe to re-run
All of it: the same publication is live again, and the ledger has one row more.

#### Look next
`serving.publications` for what was live when; Feature health, *Parity*, for why one would go back.
"""


@dag(
    schedule=None,
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    doc_md=DOCS,
    tags=[Tag.FEATURES],
    params={
        "view": Param(next(iter(CONTRACT.feature_views)), enum=list(CONTRACT.feature_views), title="Feature view"),
        "as_of": Param(
            type="string",
            title="Published as_of to return to",
            description_md="Such as `2013-07-02T00:00:00`, in UTC; `serving.publications` lists what was published.",
        ),
        "because": Param(None, type=["null", "string"], title="Why", description_md="Kept in the ledger."),
    },
)
def rollback_features() -> None:
    @task
    def roll_back(*, params: Params = GIVEN) -> dict[str, Any]:
        from features.partition import parse_as_of
        from features.steps import roll_back as step

        (facts,) = step.roll_back(
            [CONTRACT.feature_view(params["view"])], parse_as_of(params["as_of"]), params["because"]
        )
        return facts

    @task
    def push_online(*, params: Params = GIVEN) -> list[dict[str, Any]]:
        from features.steps import push_online as step

        return step.push_online([CONTRACT.feature_view(params["view"])])

    roll_back() >> push_online()


rollback_features()
