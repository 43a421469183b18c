"""Who may do what: a role for each kind of work, and the relations of dbt in the hands of one of them."""

from alembic import op

revision = "0008"
down_revision = "0007"

ROLES = ("loader", "transformer", "trainer", "serving_reader", "feature_server")

# Roles belong to the server, not to the database, so that they may be there: from another warehouse, or because an
# administrator made them for a login that must not create any.
CREATE_ROLES = f"""
do $$
declare
    wanted name;
begin
    foreach wanted in array array{list(ROLES)}::name[] loop
        if not exists (select from pg_catalog.pg_roles where rolname = wanted) then
            begin
                execute format('create role %I nologin', wanted);
            exception
                when duplicate_object or unique_violation then
                    raise notice 'another migration has just created %', wanted;
                when insufficient_privilege then
                    raise exception '% may not create roles', current_user
                        using hint = 'Ask your administrator to run: '
                            || (
                                select string_agg(format(
                                    'create role %I nologin; grant %I to %I with admin option;',
                                    missing, missing, current_user
                                ), ' ')
                                from unnest(array{list(ROLES)}::name[]) as missing
                                where missing not in (select rolname from pg_catalog.pg_roles)
                            );
            end;
        end if;
        if not pg_has_role(current_user, wanted, 'member') then
            execute format('grant %I to %I', wanted, current_user);
        end if;
    end loop;
end
$$
"""

# Files of events come in; what is in stays as it is.
LOADER = """
grant usage on schema raw to loader;
grant select, insert on raw.session_events to loader;
grant select, insert, delete on raw.rejected_rows to loader;
grant select, insert, update, delete on raw.loads, raw.load_buffer to loader;
"""

# dbt, publishing and thinning out. What it makes it owns, and it makes nothing elsewhere.
TRANSFORMER = """
grant usage on schema raw, monitoring to transformer;
grant usage, create on schema staging, features, training, serving to transformer;
grant select on all tables in schema raw to transformer;
-- And what is put beside them, to be read by a model of somebody's own.
alter default privileges in schema raw grant select on tables to transformer;
grant select, insert, update on features.feature_versions, features.builds to transformer;
grant select, insert, update on serving.publications to transformer;
grant select on serving.predictions, training.extracts to transformer;
grant select, delete on serving.written_features to transformer;
grant select, insert, update, delete on monitoring.parity_audits, monitoring.dbt_results to transformer;
grant select on monitoring.inference_log to transformer;
"""

# Scores, watches, decides, trains: on what dbt made, which it only reads, and never on events.
TRAINER = """
grant usage on schema features, training, serving, monitoring to trainer;
grant select on features.feature_versions, features.builds, serving.publications to trainer;
grant select, insert, update on training.extracts to trainer;
grant select, insert, delete on serving.predictions to trainer;
grant select, delete on serving.written_features to trainer;
grant select, insert, update, delete on all tables in schema monitoring to trainer;
"""

# A service: the rows of features that are live, what it keeps of them, and what it says of its requests.
FEATURE_SERVER = """
grant usage on schema features, serving, monitoring to feature_server;
grant select on serving.publications to feature_server;
grant select, insert, update on serving.written_features to feature_server;
grant insert on monitoring.inference_log, monitoring.rejected_inferences to feature_server;
-- Not what was asked and answered: only whether a request is there already.
grant select (request_id) on monitoring.inference_log to feature_server;
"""

# dbt grants it each view of models/serving, and nothing else is for it.
SERVING_READER = "grant usage on schema serving to serving_reader"

# `analyze` of what a loader fills takes a right that PostgreSQL has since 17; before that it warns, and goes on.
MAY_ANALYZE = """
do $$
begin
    if current_setting('server_version_num')::int >= 170000 then
        grant maintain on raw.load_buffer to loader;
    end if;
end
$$
"""

# What dbt made before as somebody else: it replaces and alters only what is its own.
HAND_OVER = """
do $$
declare
    made record;
begin
    for made in
        select
            case relkind when 'v' then 'view' when 'm' then 'materialized view' else 'table' end as kind,
            format('%I.%I', nspname, relname) as name
        from pg_catalog.pg_class
        inner join pg_catalog.pg_namespace on pg_namespace.oid = relnamespace
        where
            nspname in ('staging', 'features', 'training', 'serving')
            and relkind in ('r', 'p', 'v', 'm')
            and (nspname, relname) not in (
                ('features', 'feature_versions'),
                ('features', 'builds'),
                ('training', 'extracts'),
                ('serving', 'publications'),
                ('serving', 'predictions'),
                ('serving', 'written_features')
            )
    loop
        execute format('alter %s %s owner to transformer', made.kind, made.name);
    end loop;
    for made in
        select oid::regprocedure::text as name
        from pg_catalog.pg_proc
        where pronamespace = 'features'::regnamespace
    loop
        execute format('alter function %s owner to transformer', made.name);
    end loop;
end
$$
"""


def upgrade() -> None:
    """Creates the roles, grants each what its work needs, and gives dbt's relations to `transformer`."""
    for statements in (
        CREATE_ROLES,
        LOADER,
        MAY_ANALYZE,
        TRANSFORMER,
        TRAINER,
        FEATURE_SERVER,
        SERVING_READER,
        HAND_OVER,
    ):
        op.execute(statements)
