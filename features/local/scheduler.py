"""Airflow's scheduler, with the tasks' libraries imported beforehand.

LocalExecutor forks each task from this process, so what is imported here is paid once instead of in every task: on two
cores a dbt model takes about one second instead of five. Any other way to run the scheduler works too, only slower.
"""

import sys

import dbt.cli.main
import mlflow.sklearn
import pandas
import scipy.stats
import sklearn.ensemble
import sklearn.metrics
from airflow.__main__ import main

PRELOADED = (dbt.cli.main, mlflow.sklearn, pandas, scipy.stats, sklearn.ensemble, sklearn.metrics)

if __name__ == "__main__":
    sys.argv = ["airflow", "scheduler", "--skip-serve-logs"]
    main()  # type: ignore[no-untyped-call]
