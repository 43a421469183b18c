"""Rows into tables by COPY."""

from collections.abc import Iterable, Mapping
from typing import Any

from features import warehouse


def copy_rows(connection: warehouse.Connection, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Copies rows into a table; all have the columns of the first. Dicts, and lists of dicts, become jsonb."""
    listed = list(rows)
    if not listed:
        return
    with connection.cursor().copy(f"copy {table} ({', '.join(listed[0])}) from stdin") as copy:
        for row in listed:
            copy.write_row([_as_written(value) for value in row.values()])


def _as_written(value: Any) -> Any:
    is_document = isinstance(value, dict) or (isinstance(value, list) and all(isinstance(one, dict) for one in value))
    return warehouse.json_text(value) if is_document else value
