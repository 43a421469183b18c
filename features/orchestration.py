"""What the Dag files share: the registry, tags, assets, retries, and how dbt runs. Nothing heavy is imported here.

The Dags form a chain of asset partitions whose key is as_of:

    materialize_features -> <model>_scoring -> <model>_inference -> <model>_drift -> <model>_retraining
        -> <model>_training

Where the exposure wants approvals, <model>_approval stands between the last two.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias

from airflow.sdk import Asset, ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.types import DagRunProtocol, OutletEventAccessorsProtocol, RuntimeTaskInstanceProtocol

from features import settings
from features.contract import Contract, FeatureView, Model, read_contract
from features.partition import format_key, parse_as_of


class Tag(StrEnum):
    """What a Dag is about; the only tags there are."""

    FEATURES = "features"
    SCORING = "scoring"
    MONITORING = "monitoring"
    RETRAINING = "retraining"
    TRAINING = "training"


# What a task gets from another: where the Dag is wired it is an XComArg, and the value when the task runs.
Passed: TypeAlias = Any
# What Airflow gives a task that has a parameter of such a name; None is the only default it allows.
GIVEN: Any = None
DagRun: TypeAlias = DagRunProtocol
OutletEvents: TypeAlias = OutletEventAccessorsProtocol
TaskInstance: TypeAlias = RuntimeTaskInstanceProtocol
Params: TypeAlias = Mapping[str, Any]

CONTRACT: Contract = read_contract(settings.MANIFEST)

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "skewless",
    "pool": settings.POOL,
    "retries": settings.retries(),
    "retry_delay": timedelta(seconds=settings.retry_seconds()),
    # A mistake stays one however often it is tried; a server that is away may come back.
    "retry_policy": ExceptionRetryPolicy(
        rules=[
            RetryRule(
                exception=[
                    "features.warehouse.WarehouseUnavailable",
                    "features.serving.push.NotPushed",
                    "features.serving.row.StoreUnavailable",
                    "features.steps.tell.NotTold",
                ],
                action=RetryAction.RETRY,
            ),
            RetryRule(
                exception="features.errors.SkewlessError",
                action=RetryAction.FAIL,
                reason="Trying again would not help.",
            ),
        ]
    ),
}


def published(view: FeatureView) -> Asset:
    """A snapshot of the view was published."""
    return Asset(name=f"{view.schema_name}/{view.name}")


def scored(model: Model) -> Asset:
    """A snapshot was scored by the champion, if there is one."""
    return Asset(name=f"{model.name}/predictions")


def measured(model: Model) -> Asset:
    """What the model did was looked at: its logged requests, and its predictions whose labels have matured."""
    return Asset(name=f"{model.name}/performance")


def watched(model: Model) -> Asset:
    """Every feature of the model has a drift report."""
    return Asset(name=f"{model.name}/drift_reports")


def retraining_wanted(model: Model) -> Asset:
    """The policy decided to retrain; nothing is emitted when it decided to hold."""
    return Asset(name=f"{model.name}/retraining_wanted")


def approved(model: Model) -> Asset:
    """Somebody said yes to a retraining that needs it."""
    return Asset(name=f"{model.name}/retraining_approved")


def training_wanted(model: Model) -> Asset:
    """What training waits for: the policy, or the person whom it asks."""
    return approved(model) if model.retraining.approval else retraining_wanted(model)


def dags_in_flight(model: Model) -> list[str]:
    """The Dags in which a retraining that was decided on is not finished yet."""
    return [f"{model.name}_training", *([f"{model.name}_approval"] if model.retraining.approval else [])]


def trained(model: Model) -> Asset:
    """A challenger was trained and went through the gate."""
    return Asset(name=f"{model.name}/model")


def as_of_of(dag_run: DagRun) -> datetime:
    """The instant a run computes: its partition key."""
    return parse_as_of(dag_run.partition_key)


def emit(outlet_events: OutletEvents, asset: Asset, as_of: datetime, facts: Mapping[str, Any]) -> None:
    """Tells the Dags that wait for this partition, with a few facts for Airflow's asset page."""
    outlet_events[asset].extra = dict(facts)
    outlet_events[asset].add_partitions(format_key(as_of))
