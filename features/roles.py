"""Who may do what in the warehouse: roles, made by a migration, and the logins that are members of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors, sql

from features.errors import SkewlessError, first_line

if TYPE_CHECKING:
    from features.warehouse import Connection

# Nobody logs in as a role: a login is a member of one or several, so that who does the work can change without a grant.
ROLES = {
    "loader": "inserts events into raw",
    "transformer": "runs dbt and publishes; owns what dbt makes",
    "trainer": "scores, watches, decides and trains, on what dbt made",
    "serving_reader": "reads the serving views, and nothing else",
    "feature_server": "is what a service needs: live features, and the log of its requests",
    "monitor_reader": "reads what Feature health shows",
}
SHORTEST_PASSWORD = 12
HELD = """
select held.rolname as role from pg_catalog.pg_auth_members
inner join pg_catalog.pg_roles as held on held.oid = roleid
inner join pg_catalog.pg_roles as login on login.oid = member
where login.rolname = %s
"""


def ensure_login(connection: "Connection", name: str, roles: Sequence[str], password: str) -> None:
    """Makes a login a member of exactly these of our roles, with this password; creates it when it is missing.

    Only a hash of the password is sent, so that it is in no log of the server.

    Args:
        connection: of somebody who may create roles, and grant these.

    Raises:
        SkewlessError: when a role is none of ours, the login cannot log in by design, or the password is too short.
    """
    _check(name, roles, password)
    login = sql.Identifier(name)
    try:
        with connection.transaction():
            set_password(connection, name, password)
            held = {row["role"] for row in connection.execute(HELD, [name])}
            for role in ROLES:
                if (role in roles) != (role in held):
                    change = "grant {} to {}" if role in roles else "revoke {} from {}"
                    connection.execute(sql.SQL(change).format(sql.Identifier(role), login))
    except errors.InsufficientPrivilege as error:
        raise SkewlessError(
            f"The login {name} cannot be made: {first_line(error)}. Log in as the PGUSER that runs "
            "the migrations, or as an administrator."
        ) from error
    except errors.UndefinedObject as error:
        raise SkewlessError(
            f"The login {name} cannot be made: {first_line(error)}. Run `make warehouse` first; its "
            "migrations make the roles."
        ) from error


def set_password(connection: psycopg.Connection[Any], name: str, password: str) -> None:
    """Lets a role log in with a password; creates it when it is missing. Only a hash of the password is sent."""
    hashed = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    known = connection.execute("select 1 from pg_catalog.pg_roles where rolname = %s", [name]).fetchone()
    statement = "alter role {} login password {}" if known else "create role {} login password {}"
    connection.execute(sql.SQL(statement).format(sql.Identifier(name), sql.Literal(hashed)))


def _check(name: str, roles: Sequence[str], password: str) -> None:
    unknown = sorted(set(roles) - set(ROLES))
    if unknown or not roles:
        raise SkewlessError(f"{', '.join(unknown) or 'Nothing'} is no role of ours; there are {', '.join(ROLES)}.")
    if name in ROLES:
        raise SkewlessError(f"{name} is a role, and nobody logs in as one. Give the login a name of its own.")
    if len(password) < SHORTEST_PASSWORD:
        raise SkewlessError(f"The password of {name} is too short: {SHORTEST_PASSWORD} characters at least.")
