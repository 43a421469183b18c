"""What two warehouses have to have in common: every row, but for when and by which attempt it was written."""

from typing import Any

import psycopg
from psycopg import sql

SCHEMAS = ["raw", "staging", "features", "training", "serving", "monitoring"]
# What each attempt adds to: how long dbt took and what it said, and when a person or CI saw what.
OF_ATTEMPTS = {"monitoring.dbt_results", "monitoring.scorecard_evidence"}
# When something was written, by what, and numbers that a sequence gave, of which an attempt that failed uses up some.
OF_WRITING = {
    "built_at", "first_built_at", "last_built_at", "published_at", "retired_at", "scored_at", "written_at", "loaded_at",
    "superseded_loaded_at", "evaluated_at", "decided_at", "created_at", "made_at", "measured_at", "summarised_at",
    "audited_at", "reported_at", "told_at", "since", "events_loaded_through", "knowledge_watermark",
    "dbt_invocation_id", "dag_run_id", "publication_id", "champion_id", "baseline_id", "grid_id", "incident_id",
}  # fmt: skip
COLUMNS = """
select table_schema || '.' || table_name as relation, array_agg(column_name::text order by ordinal_position)
from information_schema.columns inner join information_schema.tables using (table_schema, table_name)
where table_type = 'BASE TABLE' and table_schema = any(%s)
group by 1 order by 1
"""

Connection = psycopg.Connection[Any]


def compared(connection: Connection) -> dict[str, list[str]]:
    """The columns of each table that two warehouses have in common."""
    found = connection.execute(COLUMNS, [SCHEMAS]).fetchall()
    return {
        relation: [column for column in columns if column not in OF_WRITING]
        for relation, columns in found
        if relation not in OF_ATTEMPTS
    }


def contents(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, in an order of their own, as text; of publications also which are live."""
    # Ten digits: the last ones of a sum depend on the order in which a table has its rows.
    connection.execute("set extra_float_digits = -5")
    extra = {"serving.publications": ["retired_at is null"]}
    return {
        relation: connection.execute(_query(relation, columns, extra.get(relation, []))).fetchall()
        for relation, columns in compared(connection).items()
    }


def _query(relation: str, columns: list[str], extra: list[str]) -> sql.Composed:
    # Which commit trained a model is known where there is a checkout; the image has a file.
    shown = {"evaluation": sql.SQL("(evaluation - 'code')::text")} if relation == "monitoring.model_evaluations" else {}
    named = [shown.get(column, sql.SQL("{}::text").format(sql.Identifier(column))) for column in columns]
    return sql.SQL("select {} from {} order by {}").format(
        sql.SQL(", ").join([*named, *map(sql.SQL, extra)]),
        sql.Identifier(*relation.split(".")),
        sql.SQL(", ").join(sql.SQL(str(number)) for number in range(1, len(columns) + 1)),
    )


def differences(ours: Connection, theirs: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """The tables whose rows differ, with the first rows that only one of them has."""
    mine, others = contents(ours), contents(theirs)
    assert mine.keys() == others.keys()
    return {
        relation: sorted(set(mine[relation]) ^ set(others[relation]), key=repr)[:4]
        or [("rows", len(mine[relation]), len(others[relation]))]
        for relation in mine
        if mine[relation] != others[relation]
    }
