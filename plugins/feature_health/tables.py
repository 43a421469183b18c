"""Tables: one description for the HTML, the CSV and the definitions that a reader sees on hover."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Literal

from markupsafe import Markup

from feature_health.definitions import DEFINITIONS, Definition

Kind = Literal[
    "text",
    "code",
    "status",
    "outcome",
    "count",
    "number",
    "metric",
    "share",
    "time",
    "age",
    "days",
    "interval",
    "estimate",
    "list",
    "long",
]
# Right-aligned, so that digits line up.
NUMERIC = frozenset({"count", "number", "metric", "share", "days", "interval", "estimate", "age"})
# Kinds whose values are several numbers, and what their columns are called in a CSV.
PARTS = {"outcome": ("_wrong", "_all"), "interval": ("_low", "_high"), "estimate": ("", "_low", "_high")}
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
        also: said in the same cell, behind the value; a column of its own in the CSV.
        words: of an outcome, a pair (how many are wrong, of how many): what they are when wrong, and when right.
        draw: a row's picture, in place of its value.
    """

    key: str
    kind: Kind = "text"
    value: Callable[[Any], Any] | None = None
    link: Callable[[Any], str | None] | None = None
    note: Callable[[Any], str | None] | None = None
    also: "Column | None" = None
    words: tuple[str, str] = ("failed", "passed")
    draw: Callable[[Any], Markup] | None = None

    def of(self, row: Any) -> Any:
        """The row's value."""
        return self.value(row) if self.value else attrgetter(self.key)(row)

    @property
    def csv_names(self) -> list[str]:
        """Its columns in a CSV."""
        own = [f"{self.key}{part}" for part in PARTS.get(self.kind, ("",))]
        return own + (self.also.csv_names if self.also else [])

    def csv_values(self, row: Any) -> list[Any]:
        """What stands in them."""
        value, parts = self.of(row), PARTS.get(self.kind)
        own = [value] if parts is None else list(value or [None] * len(parts))
        return own + (self.also.csv_values(row) if self.also else [])

    @property
    def definitions(self) -> "dict[str, Definition]":
        """What its cells say, by key."""
        return {self.key: self.definition} | (self.also.definitions if self.also else {})

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
        marked: whether a row is the one that was asked for.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Any]
    empty: str
    anchor: Callable[[Any], str] | None = None
    marked: Callable[[Any], bool] | None = None

    def csv(self) -> str:
        """As a spreadsheet reads it: times in ISO 8601, numbers as they are, and no cell that would be run."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow([name for column in self.columns for name in column.csv_names])
        writer.writerows(self._cells())
        return text.getvalue()

    def _cells(self) -> Iterator[list[str | float | None]]:
        for row in self.rows:
            yield [_cell(value) for column in self.columns for value in column.csv_values(row)]


def _cell(value: Any) -> str | float | None:
    match value:
        case datetime():
            return value.isoformat()
        case bool():
            return str(value).lower()
        case None | int():
            return value
        case float() if math.isfinite(value):
            return value
        case tuple() | list():
            value = json.dumps(list(value), default=str, ensure_ascii=False)
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA) else text
