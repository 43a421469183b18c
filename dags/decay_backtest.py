"""One decay backtest for each model that dbt declares: how fast does it age, and how old may it become?"""

from typing import Any

from airflow.sdk import CronPartitionTimetable, dag, task

from features import settings
from features.contract import Model
from features.orchestration import CONTRACT, DEFAULT_ARGS, GIVEN, DagRun, Tag, as_of_of

DOCS = """
### {name}_decay_backtest

Trains **{name}** at every label time on what had matured by then, scores all that came after, and measures the log loss
by model age beside a fresh model on the same rows. From the curve and the costs (or the tolerance) in the YAML follows
how old a model may become; `max_model_age: auto` makes the retraining policy use it.

* **Reads** `{training_set}`. **Writes** `monitoring.decay_backtests` (with the plot) and `monitoring.decay_curves`.
* **Starts** every month, once you unpause it. By hand: trigger it with a partition key such as `2013-11-05T00:00:00`.
  `skewless backtest-decay` does the same, and writes the plot to a file.

Settings: `retraining` (`costs`, `staleness_tolerance`) in the exposure's `config.meta`.

#### When this is red
"label times": the history is too short to say how the model ages; until it is not, the policy uses the cadence of the
last backtest, or 30 days.

#### Meanwhile
Nothing waits for it. `{name}_retraining` goes by the last backtest.

#### Safe to re-run
All of it: a backtest replaces the one before. It trains as many models as there are label times.

#### Look next
`monitoring.decay_backtests`, or Feature health, *Retraining*, for the last one; `{training_set}` for how far labels
go back.
"""


def decay_dag(model: Model) -> None:
    @dag(
        dag_id=f"{model.name}_decay_backtest",
        schedule=CronPartitionTimetable(settings.DECAY_CRON, timezone="UTC"),
        catchup=False,
        is_paused_upon_creation=True,  # there is nothing to learn from before labels have matured for some months
        max_active_runs=1,
        default_args=DEFAULT_ARGS,
        doc_md=DOCS.format(name=model.name, training_set=".".join(model.training_set)),
        tags=[Tag.RETRAINING],
    )
    def decay_backtest() -> None:
        @task
        def measure(*, dag_run: DagRun = GIVEN) -> dict[str, Any]:
            from features.steps import backtest as step

            return step.backtest_decay(model, as_of_of(dag_run))

        measure()

    decay_backtest()


for declared in CONTRACT.models.values():
    decay_dag(declared)
