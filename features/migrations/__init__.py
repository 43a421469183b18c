"""Versioned migrations of the tables that the application writes. dbt owns every other relation."""

import logging
from importlib.metadata import version
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from features import settings, warehouse
from features.errors import SkewlessError, first_line

# Of the first migration: where it is, and nothing says which one was last, somebody took that away.
FIRST_TABLE = "raw.session_events"


def config(database: str | None = None) -> Config:
    """Alembic's configuration; there is no alembic.ini."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent))
    made.attributes["configure_logger"] = False
    made.attributes["database"] = database or settings.WAREHOUSE_DATABASE
    return made


def migrate(revision: str = "head", *, database: str | None = None) -> None:
    """Creates the warehouse database when it is missing and brings its tables to `revision`, keeping their data.

    Args:
        database: another one than the warehouse.

    Raises:
        SkewlessError: when a later version of Skewless made the tables, or nobody knows which one did.
    """
    name = database or settings.WAREHOUSE_DATABASE
    create_database(name)
    with warehouse.connect(name) as connection:
        present = current_revision(connection)
        if present is None and warehouse.has_relation(connection, FIRST_TABLE):
            raise SkewlessError(
                f"Database {name} has tables of Skewless, and public.schema_version, which says how new they are, is "
                "missing or empty. Restore it from a backup; or use another database: PGDATABASE=another_name."
            )
    refuse_unknown(present, f"Database {name}")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    command.upgrade(config(name), revision)


def current_revision(connection: warehouse.Connection) -> str | None:
    """The last migration of the warehouse that a connection leads to; None when it has had none."""
    if not warehouse.has_relation(connection, "public.schema_version"):
        return None
    row = connection.execute("select max(version_num) as revision from public.schema_version").fetchone()
    return row["revision"] if row else None


def newest_revision() -> str:
    """The last migration that this version of Skewless has."""
    return str(ScriptDirectory.from_config(config()).get_current_head())


def refuse_unknown(revision: str | None, whose: str) -> None:
    """Raises when tables are at a migration that this version of Skewless does not have.

    Args:
        whose: the subject of the sentence, such as "Database skewless".
    """
    known = {script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise SkewlessError(
            f"{whose} is at migration {revision}, and Skewless {version('skewless')} knows those up to "
            f"{newest_revision()}: a later version has upgraded it. Use that version; or, to go back, restore the "
            "backup that was made before the upgrade."
        )


def refuse_outdated(error: Exception) -> None:
    """Raises when something that a command did not find in the warehouse is there after a migration.

    Args:
        error: what the server said.
    """
    with warehouse.connect() as connection:
        present = current_revision(connection)
    if present != newest_revision():
        raise SkewlessError(
            f"Database {settings.WAREHOUSE_DATABASE} is at migration {present or 'none'}, and this version of Skewless "
            f"wants {newest_revision()} ({first_line(error)}). Bring it up to date: `make warehouse`."
        ) from error


def create_database(name: str) -> None:
    """Creates a database unless it is there. Connects to `postgres`, which every server has."""
    from psycopg import errors, sql

    with warehouse.connect("postgres", autocommit=True) as connection:
        if connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
            return
        try:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        except errors.InsufficientPrivilege as error:
            raise warehouse.WarehouseUnavailable(
                f"Database {name} does not exist and {warehouse.user()} may not create it: ask your administrator to "
                f"run `create database {name} owner {warehouse.user()}`."
            ) from error
        except errors.DuplicateDatabase:
            return  # another command created it between our look and our attempt
