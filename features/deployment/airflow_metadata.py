"""What Airflow's metadata has to hold: the pool of the warehouse, the connection to it, and who administers Airflow.

In Python, and not by Airflow's commands, because those take passwords on their command line, where every process of the
machine may read them.
"""

import os

from features import settings
from features.deployment.initialise import required

ADMIN = "admin"


def ensure_pool(slots: int) -> None:
    """The pool that bounds how many tasks are at the warehouse at once."""
    from airflow.models.pool import Pool

    Pool.create_or_update_pool(
        name=settings.POOL, slots=slots, description="Tasks at the warehouse at once.", include_deferred=False
    )


def ensure_connection(login: str, password: str) -> None:
    """The connection `warehouse`, for tasks and operators of your own; encrypted by the Fernet key."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import select

    wanted = {
        "conn_type": "postgres",
        "host": os.environ["PGHOST"],
        "port": int(os.environ.get("PGPORT", "5432")),
        "login": login,
        "password": password,
        "schema": settings.WAREHOUSE_DATABASE,
    }
    with create_session() as session:
        found = session.scalar(select(Connection).where(Connection.conn_id == "warehouse"))
        connection = found or Connection(conn_id="warehouse")
        for name, value in wanted.items():
            setattr(connection, name, value)
        session.add(connection)


def ensure_admin(password: str) -> None:
    """The user `admin` of Airflow's pages and API."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
    from werkzeug.security import check_password_hash

    with get_application_builder() as builder:
        manager = builder.sm
        user = manager.find_user(ADMIN)
        if user is None:
            manager.add_user(ADMIN, "Skewless", "Admin", "admin@localhost", manager.find_role("Admin"), password)
        elif not check_password_hash(user.password, password):
            manager.reset_password(user.id, password)  # and everybody logged in as admin has to do so again


if __name__ == "__main__":
    ensure_pool(int(os.environ.get("WAREHOUSE_SLOTS", "4")))
    ensure_connection("pipeline", required("PIPELINE_PASSWORD"))
    ensure_admin(required("ADMIN_PASSWORD"))
