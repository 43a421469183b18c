"""Whom relations belong to and who may read them. Roles are the server's, and another server may not have them."""

from collections.abc import Iterable

from psycopg import errors, sql

from features import warehouse
from features.errors import SkewlessError
from features.operations.manifest import Owned, Role

# All that grants and ownership in this database name, but for the server's first superuser, who is everywhere.
ROLES = """
select distinct rolname as name, rolcanlogin as is_login
from pg_shdepend
inner join pg_roles on pg_roles.oid = refobjid
where
    refclassid = 'pg_authid'::regclass
    and dbid = (select oid from pg_database where datname = current_database())
    and (deptype in ('a', 'r') or rolname <> current_user)
order by 1
"""
# Tables first: sequences follow them.
OWNED = """
select object.type, object.identity, rolname as owner
from pg_shdepend
inner join pg_roles on pg_roles.oid = refobjid
cross join lateral pg_identify_object(classid, objid, objsubid) as object
where
    refclassid = 'pg_authid'::regclass
    and dbid = (select oid from pg_database where datname = current_database())
    and deptype = 'o'
    and rolname <> current_user
    and object.type = any(%s)
order by array_position(%s, object.type), object.identity
"""
TYPES = ["schema", "table", "view", "materialized view", "sequence", "function", "procedure", "aggregate", "type"]


def roles(connection: warehouse.Connection) -> list[Role]:
    """The roles without which a database cannot be restored."""
    return [Role.model_validate(row) for row in connection.execute(ROLES)]


def owned(connection: warehouse.Connection) -> list[Owned]:
    """What belongs to others than the one who asks. What is theirs will be the restorer's."""
    return [Owned.model_validate(row) for row in connection.execute(OWNED, [TYPES, TYPES])]


def create_missing(connection: warehouse.Connection, wanted: Iterable[Role]) -> list[Role]:
    """Creates the roles that the server does not have, none of which can log in. Returns those.

    Raises:
        SkewlessError: with what an administrator has to run, when the one who restores may not.
    """
    present = {row["rolname"] for row in connection.execute("select rolname from pg_roles")}
    missing = [role for role in wanted if role.name not in present]
    statements = [
        sql.SQL("create role {0} nologin; grant {0} to current_user").format(sql.Identifier(role.name))
        for role in missing
    ]
    try:
        for statement in statements:
            connection.execute(statement)
    except errors.InsufficientPrivilege as error:
        raise SkewlessError(
            f"{connection.info.user} may not create roles, and the backup has grants to roles that are missing here. "
            f"Ask your administrator to run: {'; '.join(each.as_string(connection) for each in statements)}; "
            f"with {connection.info.user} for current_user."
        ) from error
    return missing


def hand_over(connection: warehouse.Connection, things: Iterable[Owned]) -> None:
    """Gives back to other roles what was theirs."""
    for thing in things:
        # Type and identity are as PostgreSQL itself quoted them.
        statement = f"alter {thing.type} {thing.identity} owner to {{}}"
        connection.execute(sql.SQL(statement).format(sql.Identifier(thing.owner)))
