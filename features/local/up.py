"""`make up`: everything running for a person, until Ctrl-C."""

import time

from rich.console import Console

from features.errors import SkewlessError
from features.local import environment, servers, stack
from features.migrations import migrate


def run(console: Console) -> None:
    """Starts PostgreSQL, Airflow and MLflow, prints where they are, and stops them when asked to."""
    stack.refuse_if_running()
    started: list[str] = []
    try:
        with console.status("Starting PostgreSQL, Redis, Airflow and MLflow"):
            started = servers.start()
            migrate()
            stack.prepare()
            services = stack.start(with_mlflow=True)
        console.print(
            f"Airflow  {stack.airflow_url()}   "
            f"user [b]admin[/b], password [b]{environment.secret('admin_password')}[/b]",
            soft_wrap=True,
        )
        console.print(f"         {stack.airflow_url()}/plugin/feature-health   how everything is doing")
        console.print(f"MLflow   {stack.mlflow_url()}")
        console.print("Stop with Ctrl-C here, or `make down`.")
        while len(stack.running()) == len(services):
            time.sleep(1)
        if stack.STATE.exists():  # `make down` takes it away
            gone = next(service for service in services if service.process() is None)
            raise SkewlessError(f"{gone.name} stopped by itself, so the others were stopped:\n{stack.end_of(gone.log)}")
    except KeyboardInterrupt:
        console.print("Stopping.")
    finally:
        stack.stop()
        servers.stop(started)
