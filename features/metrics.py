"""Metrics of ours beside Airflow's: sent to where Airflow sends its own, StatsD or OpenTelemetry, and nowhere without.

A name has the feature view or the model in it, since plain StatsD has no tags. Only tasks send anything: Airflow sets
its client up in them, so the same step, run by `skewless`, sends nothing.
"""

import sys
from datetime import datetime

from features.contract import FeatureView, Model


def went_live(view: FeatureView, row_count: int, as_of: datetime, now: datetime) -> None:
    """A snapshot of a view is live: how many rows it has, and how many seconds ago its as_of was."""
    _gauge(f"skewless.live_rows.{view.name}", row_count)
    _gauge(f"skewless.live_age_seconds.{view.name}", (now - as_of).total_seconds())


def refused(view: FeatureView) -> None:
    """The parity gate kept a snapshot from going live."""
    _count(f"skewless.refused_publications.{view.name}")


def watched(model: Model, open_incidents: int, blocking: int) -> None:
    """How many incidents of a model are open, and how many of those forbid to retrain it."""
    _gauge(f"skewless.open_incidents.{model.name}", open_incidents)
    _gauge(f"skewless.blocking_incidents.{model.name}", blocking)


def decided(model: Model, outcome: str, trained_as_of: datetime | None, as_of: datetime) -> None:
    """The policy said `retrain`, `blocked`, `hold` or `unknown`, of a champion of such an age, if there is one."""
    _count(f"skewless.decisions.{model.name}.{outcome}")
    if trained_as_of:
        _gauge(f"skewless.champion_age_days.{model.name}", (as_of - trained_as_of).total_seconds() / 86400)


def _gauge(name: str, value: float) -> None:
    if _is_within_airflow():
        from airflow.sdk.observability import stats

        stats.gauge(name, value)


def _count(name: str) -> None:
    if _is_within_airflow():
        from airflow.sdk.observability import stats

        stats.incr(name)


def _is_within_airflow() -> bool:
    """A task has imported Airflow already. The command line has not: importing takes seconds and makes folders."""
    return "airflow.sdk" in sys.modules
