"""Tables: one description for the HTML, the CSV and the definitions that a reader sees on hover."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Any, Literal

from feature_health.definitions import DEFINITIONS, Definition

Kind = Literal[
    "text", "code", "status", "outcome", "count", "number", "metric", "share", "time", "age", "days", "interval", "list", "long"
]
# Right-aligned, so that digits line up.
NUMERIC = frozenset({"count", "number", "metric", "share", "days", "interval", "age"})
# A spreadsheet would run a cell that begins like this.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        key: of DEFINITIONS, which has its heading and what it means; and, unless `value` says otherwise, the attribute
            of the row.
        kind: how values are written.
        value: of a row.
        link: where a row's cell leads, relative to the page; None where it leads nowhere.
        note: said on hover of one cell, beside the definition.
        words: of an outcome, which is (how many are wrong, of how many): what they are when wrong, and when right.
    """

    key: str
    kind: Kind = "text"
    value: Callable[[Any], Any] | None = None
    link: Callable[[Any], str | None] | None = None
    note: Callable[[Any], str | None] | None = None
    words: tuple[str, str] = ("failed", "passed")

    def of(self, row: Any) -> Any:
        """The row's value."""
        return self.value(row) if self.value else attrgetter(self.key)(row)

    @property
    def definition(self) -> Definition:
        """Its heading and meaning."""
        return DEFINITIONS[self.key]

    @property
    def is_numeric(self) -> bool:
        """Whether digits should line up."""
        return self.kind in NUMERIC


@dataclass(frozen=True)
class Table:
    """Rows under a caption.

    Attributes:
        name: in the address of its CSV.
        empty: what is said instead of no row, naming what to run.
        anchor: of a row, so that a link can lead to it.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Any]
    empty: str
    anchor: Callable[[Any], str] | None = None
    classes: str = field(default="")

    def csv(self) -> str:
        """As a spreadsheet reads it: times in ISO 8601, numbers as they are, and no cell that would be run."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow([column.key for column in self.columns])
        writer.writerows(self._cells())
        return text.getvalue()

    def _cells(self) -> Iterator[list[str | float | None]]:
        for row in self.rows:
            yield [_cell(column.of(row)) for column in self.columns]


def _cell(value: Any) -> str | float | None:
    match value:
        case datetime():
            return value.isoformat()
        case bool():
            return str(value).lower()
        case None | int() | float():
            return value
        case tuple() | list():
            value = json.dumps(list(value), default=str, ensure_ascii=False)
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA) else text
