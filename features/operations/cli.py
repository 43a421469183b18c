"""`skewless backup` and `skewless restore`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from features.errors import SkewlessError

SKIP = click.option(
    "--skip",
    type=click.Choice(["airflow", "mlflow"]),
    multiple=True,
    help="Leave a database out, as one that others look after; the models' files go with mlflow.",
)


@click.command()
@click.option("--to", "target", type=click.Path(path_type=Path), help="A new folder; by default one in backups/.")
@SKIP
def backup(target: Path | None, skip: tuple[str, ...]) -> None:
    """Back up the warehouse, Airflow's and MLflow's databases, and the models' files. Airflow may go on meanwhile."""
    from features.local import environment
    from features.operations.backup import back_up
    from features.operations.databases import all_databases

    now = datetime.now(UTC)
    target = (target or Path("backups") / f"{now:%Y-%m-%dT%H%M%SZ}").resolve()
    databases = all_databases(skip)
    with _server():
        made = back_up(target, databases, environment.ARTIFACTS, now)
    for kind, dumped in made.databases.items():
        click.echo(f"{kind}: {dumped.name}, {sum(dumped.rows.values()):,} rows in {len(dumped.rows)} tables.")
    for database in databases:
        if database.kind not in made.databases:
            click.echo(f"{database.kind}: there is no database {database}, so the backup has none.")
    for location in made.elsewhere:
        click.secho(f"NOT in the backup: files of models in {location}. Back them up where they are.", fg="yellow")
    size = sum(file.bytes for file in made.files.values())
    click.echo(f"{target}: {size / 1e6:,.1f} MB.")


@click.command()
@click.option("--from", "source", required=True, type=click.Path(path_type=Path), help="A folder that backup wrote.")
@click.option("--replace", is_flag=True, help="Take the place of databases and files that are there.")
@SKIP
def restore(source: Path, replace: bool, skip: tuple[str, ...]) -> None:
    """Restore a backup, bring its tables up to date, and push what is live to Redis. Airflow must not run."""
    from features.local import environment, stack
    from features.operations.databases import all_databases
    from features.operations.restore import restore as bring_back

    stack.refuse_if_running()
    with _server():
        restored = bring_back(source.resolve(), all_databases(skip), environment.ARTIFACTS, replace=replace)
        for kind, dumped in restored.manifest.databases.items():
            if kind not in skip:
                click.echo(f"{kind}: {sum(dumped.rows.values()):,} rows as of {dumped.taken_at:%Y-%m-%d %H:%M:%S}Z.")
        for sentence in restored.said:
            click.secho(sentence, fg="yellow")
        for location in restored.manifest.elsewhere:
            click.secho(f"NOT in the backup: files of models in {location}.", fg="yellow")
        _push()


@contextmanager
def _server() -> Iterator[None]:
    """The embedded PostgreSQL, if it is the one that is meant, for as long as this takes."""
    from features.local import postgres

    started = postgres.start()
    try:
        yield
    finally:
        if started:
            postgres.stop()


def _push() -> None:
    """What is live goes to Redis again, which may hold what was published after the backup."""
    from features import settings
    from features.contract import read_contract
    from features.steps.push_online import push_online

    if not os.environ.get("REDIS_URL"):
        return
    try:
        views = list(read_contract(settings.MANIFEST).feature_views.values())
        for facts in push_online(views, take_over=True):
            click.echo(f"{facts['view']}: {facts['rows']:,} rows pushed to Redis.")
    except SkewlessError as error:
        click.secho(f"Restored, but not pushed to Redis: {error} Then: `make push-online TAKE_OVER=1`.", fg="yellow")
