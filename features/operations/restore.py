"""Restore: everything is made ready beside what is there, and takes its place in the end, or not at all."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from features import migrations
from features.errors import SkewlessError
from features.operations import artefacts, manifest, registry, roles
from features.operations.backup import ARTEFACTS, count_rows, file_name
from features.operations.databases import Database, Kind, refuse_a_newer_server, run, server_version
from features.operations.manifest import DumpedDatabase, Manifest

log = logging.getLogger(__name__)

# Names of databases have 63 characters at most.
LONGEST = 50
NOT_EMPTY = """
select exists (
    select from pg_class
    inner join pg_namespace on pg_namespace.oid = relnamespace
    where relkind in ('r', 'p', 'v', 'm') and nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
) as found
"""
SESSIONS = """
select coalesce(nullif(application_name, ''), 'unnamed') as name, count(*) as n
from pg_stat_activity
where datname = %s and pid <> pg_backend_pid() and backend_type = 'client backend'
group by 1
order by 1
"""
CHAMPIONS = """
select distinct on (model_name) model_name, model_version
from monitoring.champions
order by model_name, champion_id desc
"""


@dataclass(frozen=True)
class Restored:
    """What became of a restore.

    Attributes:
        said: what a person should know of it, as sentences.
    """

    manifest: Manifest
    said: list[str]


def restore(source: Path, databases: Sequence[Database], folder: Path, *, replace: bool = False) -> Restored:
    """Brings back what a backup holds, into databases and a folder that need not be the same.

    Each database is restored under another name, brought up to date and checked; then they all take their places.
    Whatever goes wrong before leaves what was there as it was.

    Args:
        databases: into which; those that the backup does not have are left alone.
        folder: of the models' files.
        replace: take the place of databases and files that are there.

    Raises:
        SkewlessError: when the backup is damaged or too new, something is there or in use, or a step fails.
    """
    backup = manifest.read(source)
    targets = [database for database in databases if database.kind in backup.databases]
    for database in targets:
        _refuse_what_cannot_work(database, backup.databases[database.kind])
    has_files = ARTEFACTS in backup.files and any(database.kind == "mlflow" for database in targets)
    if has_files and artefacts.is_cut_off(folder):
        raise _cut_off(str(folder / artefacts.REPLACED), f"moving its files to {folder}")
    if not replace:
        _refuse_to_replace(targets, folder if has_files else None)
    manifest.verify(source, backup)

    said: list[str] = []
    with _made_ready(targets, folder if has_files else None):
        for database in targets:
            said += _restore_beside(database, source, backup.databases[database.kind])
        if has_files:
            artefacts.unpack(source / ARTEFACTS, folder)
        said += _agree({database.kind: _beside(database) for database in targets}, backup, folder)
        _switch(targets, folder if has_files else None)
    return Restored(backup, said)


def _refuse_what_cannot_work(database: Database, dumped: DumpedDatabase) -> None:
    with database.named("postgres").connect() as connection:
        refuse_a_newer_server(database, connection)
        server = server_version(connection)
        sessions = connection.execute(SESSIONS, [database.name]).fetchall()
    if _replaced(database).exists():
        raise _cut_off(
            f"database {_replaced(database)}",
            f'`alter database "{_replaced(database).name}" rename to "{database.name}"`',
        )
    if server < dumped.server_version:
        raise SkewlessError(
            f"{database} is PostgreSQL {server}, and the backup is of PostgreSQL {dumped.server_version}, which an "
            "older one may not understand. Restore it to a server that is as new."
        )
    if sessions:
        who = ", ".join(f"{each['name']} ({each['n']})" for each in sessions)
        raise SkewlessError(
            f"{database} is in use by {who}. Stop Airflow, MLflow and services first (`make down`, "
            "`docker compose stop`); nothing was changed."
        )
    if database.kind == "warehouse":
        migrations.refuse_unknown(dumped.revision, "The backup")


def _cut_off(there: str, back: str) -> SkewlessError:
    return SkewlessError(
        f"An earlier restore was cut off at its end: {there} is what was there before it. Bring it back by {back}, if "
        "nothing took its place; otherwise delete it. Then restore again."
    )


def _refuse_to_replace(targets: Sequence[Database], folder: Path | None) -> None:
    there = [str(database) for database in targets if _has_tables(database)]
    if folder and not artefacts.is_empty(folder):
        there.append(f"the files in {folder}")
    if there:
        raise SkewlessError(
            f"A restore would replace {', '.join(there)}. Say --replace (`make restore FROM=... REPLACE=1`) if that is "
            "meant, or restore beside them: PGDATABASE=another_name."
        )


def _has_tables(database: Database) -> bool:
    if not database.exists():
        return False
    with database.connect() as connection:
        row = connection.execute(NOT_EMPTY).fetchone()
    return bool(row and row["found"])


def _beside(database: Database) -> Database:
    return database.named(f"{database.name[:LONGEST]}_restoring")


def _replaced(database: Database) -> Database:
    return database.named(f"{database.name[:LONGEST]}_replaced")


@contextmanager
def _made_ready(targets: Sequence[Database], folder: Path | None) -> Iterator[None]:
    """Afterwards, nothing is left of what was made ready and not used, or of what was replaced."""
    try:
        yield
    except OSError as error:
        raise SkewlessError(f"{error.filename or folder}: {error.strerror}. What was there is still there.") from error
    finally:
        for database in targets:
            _beside(database).drop()
        if folder:
            artefacts.clear(folder)


def _restore_beside(database: Database, source: Path, dumped: DumpedDatabase) -> list[str]:
    """Restores a dump into a new database beside the one that it is to replace, and compares the numbers of rows."""
    beside = _beside(database)
    beside.drop()
    beside.create()
    with beside.connect() as connection:
        created = roles.create_missing(connection, dumped.roles)
    log.info("Restoring %s.", database)
    dump = str(source / file_name(database.kind))
    run("pg_restore", beside, "--exit-on-error", "--no-owner", f"--dbname={beside.name}", dump)
    with beside.connect() as connection:
        roles.hand_over(connection, dumped.owned)
        connection.execute("analyze")
        found = count_rows(connection)
    different = [
        f"{table} ({found.get(table)} of {n} rows)" for table, n in dumped.rows.items() if found.get(table) != n
    ]
    if different:
        raise SkewlessError(
            f"{database} did not come back whole: {', '.join(different)}. What was there is still there."
        )
    logins = [role.name for role in created if role.is_login]
    return [f"Could log in before, and cannot now: {', '.join(logins)}."] if logins else []


def _agree(beside: dict[Kind, Database], backup: Manifest, folder: Path) -> list[str]:
    """Brings the warehouse's tables up to date, and MLflow in line with it and with where its files are now."""
    champions: dict[str, str] = {}
    if "warehouse" in beside:
        migrations.migrate(database=beside["warehouse"].name)
        with beside["warehouse"].connect() as connection:
            champions = {row["model_name"]: row["model_version"] for row in connection.execute(CHAMPIONS)}
    if "mlflow" not in beside:
        return []
    with beside["mlflow"].connect() as connection:
        if not registry.is_prepared(connection):
            return []
        if backup.artefacts and Path(backup.artefacts) != folder:
            registry.move(connection, Path(backup.artefacts), folder)
        return registry.crown(connection, champions)


def _switch(targets: Sequence[Database], folder: Path | None) -> None:
    """Everything takes its place. What fails on the way is undone, so that all of it is as before."""
    undo: list[tuple[Database, str]] = []
    try:
        for database in targets:
            beside, replaced = _beside(database), _replaced(database)
            if database.exists():
                database.rename(replaced.name)
                undo.append((replaced, database.name))
            beside.rename(database.name)
            undo.append((database, beside.name))
        if folder:
            artefacts.switch(folder)
    except BaseException:
        for database, name in reversed(undo):
            database.rename(name)
        raise
    for database in targets:
        _replaced(database).drop()
