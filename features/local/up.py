"""`make up`: everything running for a person, until Ctrl-C."""

import time

from rich.console import Console

from features.local import environment, postgres, stack
from features.migrations import migrate


def run(console: Console) -> None:
    """Starts PostgreSQL, Airflow and MLflow, prints where they are, and stops them when asked to."""
    try:
        with console.status("Starting PostgreSQL, Airflow and MLflow"):
            postgres.start()
            migrate()
            stack.prepare()
            stack.start(with_mlflow=True)
        console.print(
            f"Airflow  {stack.airflow_url()}   "
            f"user [b]admin[/b], password [b]{environment.secret('admin_password')}[/b]"
        )
        console.print(f"MLflow   {stack.mlflow_url()}")
        console.print("Stop with Ctrl-C here, or `make down`.")
        while stack.running():
            time.sleep(1)
    except KeyboardInterrupt:
        console.print("Stopping.")
    finally:
        stack.stop()
        postgres.stop()
