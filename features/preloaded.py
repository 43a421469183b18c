"""Airflow's scheduler, or its Celery worker, with the tasks' libraries imported beforehand.

    python -m features.preloaded scheduler
    python -m features.preloaded celery worker

LocalExecutor forks each task from the scheduler, Celery from the worker, so what is imported here is paid once instead
of in every task: on two cores a dbt model takes about one second instead of five. Any other way to run them works too,
only slower. A change of the Dags or of the dbt project is seen by the next task, a change of `features/` only after a
restart.

And nothing that a scheduler has forked outlives it. A process of LocalExecutor has a copy of its connection to
Airflow's database: were the scheduler killed, that would keep its locks for as long as the process waits for work, and
no other scheduler could go on with the runs that it was about to schedule.
"""

import ctypes
import importlib
import os
import pkgutil
import signal
import sys

import dbt.cli.main
import mlflow.sklearn
import pandas
import scipy.stats
import sklearn.ensemble
import sklearn.metrics
from airflow.__main__ import main

from features import dbt_tasks, steps

PRELOADED = (
    dbt.cli.main,
    dbt_tasks,
    mlflow.sklearn,
    pandas,
    scipy.stats,
    sklearn.ensemble,
    sklearn.metrics,
    *(importlib.import_module(f"{steps.__name__}.{step.name}") for step in pkgutil.iter_modules(steps.__path__)),
)

PR_SET_PDEATHSIG = 1


class _Parent:
    """The process from which the next one is forked."""

    pid = os.getpid()


def _end_with_parent() -> None:
    """In a process that was just forked: has it killed when its parent ends, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != _Parent.pid:  # it ended before that was said
        os._exit(1)
    _Parent.pid = os.getpid()


if __name__ == "__main__":
    if sys.platform == "linux" and sys.argv[1:2] == ["scheduler"]:
        os.register_at_fork(after_in_child=_end_with_parent)
    sys.argv[0] = "airflow"
    main()
