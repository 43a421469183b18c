"""Alembic's entry: migrations of the tables that the application writes, plain SQL over one connection."""

from alembic import context
from sqlalchemy import create_engine, pool
from sqlalchemy.engine import URL

from features import warehouse

# libpq takes the password and everything else from its own variables.
url = URL.create(
    "postgresql+psycopg",
    username=warehouse.user(),
    database=context.config.attributes["database"],
    query={"host": warehouse.host()},
)
engine = create_engine(url, poolclass=pool.NullPool)

with engine.connect() as connection:
    context.configure(
        connection=connection,
        version_table="schema_version",
        version_table_schema="public",
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        # One migration at a time, whoever starts it.
        connection.exec_driver_sql("select pg_advisory_xact_lock(hashtext('skewless migrations'))")
        context.run_migrations()
