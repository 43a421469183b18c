"""Skewless: the project's own training set, which joins labels to feature rows by the as_of that was live.

Timed: reading `training.churn_training_set`, built by dbt, as a frame. For each label it looks up in the ledger which
snapshot was live at that instant, and joins that snapshot's row by equality. Not timed: dbt, the feature rows, and
their ledger rows.

It is another question than the latest row at or before a label, and here it has the same answer: each snapshot holds
all users and was published at its as_of. Where a publication came late, failed or was rolled back, the latest row is
not the one that was served, and only the ledger knows.
"""

from importlib.metadata import version

from features import warehouse
from tests.benchmarks import project as dbt
from tests.benchmarks.contest import FEATURES, Bench, Outcome
from tests.benchmarks.latest_row import timed_query

NAME = "Skewless, ledger and equality join"
TRAINING_SET = "churn_training_set"
LABELS = """
select
    user_id, event_timestamp as label_at, event_timestamp + interval '15 days' as matured_at, false as churned
from bench.labels
"""
QUERY = f"select user_id, label_at as as_of, {', '.join(FEATURES)} from training.{TRAINING_SET}"

# In the order in which snapshots are appended.
FILL = f"""
insert into features.{dbt.VIEW} (user_id, as_of, {", ".join(FEATURES)}, feature_version)
select user_id, event_timestamp, {", ".join(FEATURES)}, %(version)s
from bench.feature_rows
order by event_timestamp, user_id
"""
PUBLISH = f"""
insert into serving.publications (feature_view, as_of, feature_version, row_count, published_at, retired_at)
select
    '{dbt.VIEW}', event_timestamp, %(version)s, count(*), event_timestamp,
    lead(event_timestamp) over (order by event_timestamp)
from bench.feature_rows
group by event_timestamp
order by event_timestamp
"""


def run(bench: Bench) -> list[Outcome]:
    """The training set over bench.labels and bench.feature_rows; nulls where a label has no feature row."""
    prepare(bench)
    runs, answer = timed_query(bench, QUERY, "ledger_join")
    return [
        Outcome(
            name=NAME,
            seconds=tuple(run.seconds for run in runs),
            rows=bench.sizes.labels,
            server_bytes=max(run.peak_bytes[0] for run in runs),
            answer=answer,
            versions={name: version(name) for name in ("dbt-core", "dbt-postgres")},
            note=f"training.{TRAINING_SET}; the row that was live at the label, not the latest",
        )
    ]


def prepare(bench: Bench) -> None:
    """Lets dbt build the relations, and fills the feature table and the ledger as scheduled runs would have."""
    project = dbt.copy(bench.run_dir / "dbt" / "ledger", bench.server_pid, LABELS)
    project.run(dbt.STAGING, dbt.LABELS, dbt.VIEW, TRAINING_SET)
    with warehouse.connect() as connection:
        connection.execute(f"truncate features.{dbt.VIEW}, serving.publications")
        parameters = {"version": dbt.current_version(connection)}
        connection.execute(FILL, parameters)
        connection.execute(PUBLISH, parameters)
    dbt.vacuum(f"features.{dbt.VIEW}", f"features.{dbt.LABELS}", "serving.publications")
