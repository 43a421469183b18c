"""Backup: each database as it was at one moment, and the models' files, in a folder that exists once it is complete."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from psycopg import sql

from features import warehouse
from features.errors import SkewlessError
from features.operations import artefacts, manifest, registry, roles
from features.operations.databases import Database, Kind, refuse_a_newer_server, run, server_version
from features.operations.manifest import DumpedDatabase, Manifest

log = logging.getLogger(__name__)

ARTEFACTS = "artefacts.tar"

# Where a database says which migration it is at: ours, then Airflow's and MLflow's.
REVISIONS = ("public.schema_version", "public.alembic_version")
TABLES = """
select format('%I.%I', nspname, relname) as name
from pg_class
inner join pg_namespace on pg_namespace.oid = relnamespace
where relkind = 'r' and nspname not in ('pg_catalog', 'information_schema') and relpersistence <> 't'
order by 1
"""


def back_up(target: Path, databases: Sequence[Database], folder: Path, now: datetime) -> Manifest:
    """Writes a backup into a new folder that only its owner may read.

    A database that does not exist is left out. The databases' moments lie milliseconds apart, the warehouse's first:
    whatever it says of MLflow is there, too, and whatever MLflow says of files is in the folder when that is copied.

    Args:
        folder: of the models' files.

    Raises:
        SkewlessError: when it cannot be written to its end. Then there is no folder.
    """
    with _whole_or_nothing(target) as unfinished, ExitStack() as stack:
        snapshots = {}
        for database in databases:
            if database.exists():
                connection = stack.enter_context(database.connect())
                refuse_a_newer_server(database, connection)
                snapshots[database] = (connection, _snapshot(connection))
        dumped = {}
        for database, (connection, snapshot) in snapshots.items():
            dumped[database.kind] = _describe(database, connection)
            log.info("Dumping %s.", database)
            dump = unfinished / file_name(database.kind)
            run("pg_dump", database, "--format=custom", f"--snapshot={snapshot}", f"--file={dump}")
        locations = _locations(snapshots)
        elsewhere = registry.outside(locations, folder)
        has_files = len(locations) > len(elsewhere)
        if has_files:
            _pack(folder, unfinished / ARTEFACTS)
        made = Manifest(
            made_at=now,
            skewless_version=version("skewless"),
            databases=dumped,
            artefacts=str(folder) if has_files else None,
            elsewhere=elsewhere,
            files={path.name: manifest.describe(path) for path in sorted(unfinished.iterdir())},
        )
        manifest.write(unfinished, made)
    return made


def file_name(kind: Kind) -> str:
    """The file of a database's dump."""
    return f"{kind}.dump"


@contextmanager
def _whole_or_nothing(target: Path) -> Iterator[Path]:
    """A folder beside the target that gets its name in the end, and is gone when something fails."""
    if target.exists():
        raise SkewlessError(f"{target} exists already, and a backup never replaces another. Name another folder.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}.unfinished-", dir=target.parent))
        try:
            yield unfinished
            _sync(unfinished)
            unfinished.rename(target)
            _sync(target.parent)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise SkewlessError(
            f"The backup cannot be written to {target}: {error.strerror} ({error.filename or 'while writing'}). "
            "Free some room there, or name another folder."
        ) from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _snapshot(connection: warehouse.Connection) -> str:
    """Fixes what is seen from now on, and names it for pg_dump; it counts while the transaction lasts."""
    connection.execute("set transaction isolation level repeatable read, read only")
    connection.execute("set idle_in_transaction_session_timeout = 0")
    row = connection.execute("select pg_export_snapshot() as name").fetchone()
    assert row is not None
    return str(row["name"])


def _describe(database: Database, connection: warehouse.Connection) -> DumpedDatabase:
    taken = connection.execute("select now() as at").fetchone()
    assert taken is not None
    return DumpedDatabase(
        name=database.name,
        server_version=server_version(connection),
        revision=revision(connection),
        taken_at=taken["at"],
        rows=count_rows(connection),
        roles=roles.roles(connection),
        owned=roles.owned(connection),
    )


def revision(connection: warehouse.Connection) -> str | None:
    """The migration that a database is at."""
    for table in REVISIONS:
        if warehouse.has_relation(connection, table):
            at = connection.execute(sql.SQL("select version_num from {}").format(sql.Identifier(*table.split("."))))
            return "+".join(sorted(str(each["version_num"]) for each in at)) or None
    return None


def count_rows(connection: warehouse.Connection) -> dict[str, int]:
    """The number of rows of each table, by schema and name."""
    counted = {}
    for table in connection.execute(TABLES).fetchall():
        row = connection.execute(f"select count(*) as n from {table['name']}").fetchone()
        assert row is not None
        counted[str(table["name"])] = int(row["n"])
    return counted


def _locations(snapshots: dict[Database, tuple[warehouse.Connection, str]]) -> list[str]:
    for database, (connection, _) in snapshots.items():
        if database.kind == "mlflow" and registry.is_prepared(connection):
            return registry.locations(connection)
    return []


def _pack(folder: Path, target: Path) -> None:
    if artefacts.is_empty(folder):
        raise SkewlessError(
            f"MLflow has models, and {folder} has no file of theirs. Where MLflow runs elsewhere, mount its folder of "
            "artefacts there (SKEWLESS_RUN_DIR/mlflow/artifacts), or leave the registry out: --skip mlflow."
        )
    log.info("Packing %s.", folder)
    artefacts.pack(folder, target)
