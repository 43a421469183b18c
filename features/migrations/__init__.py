"""Versioned migrations of the tables that the application writes. dbt owns every other relation."""

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config

from features import settings, warehouse


def config() -> Config:
    """Alembic's configuration; there is no alembic.ini."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent))
    made.attributes["configure_logger"] = False
    return made


def migrate(revision: str = "head") -> None:
    """Creates the warehouse database when it is missing and brings its tables to `revision`, keeping their data."""
    create_database(settings.WAREHOUSE_DATABASE)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    command.upgrade(config(), revision)


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
