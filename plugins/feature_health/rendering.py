"""Documents as HTML. Everything that comes from the warehouse is escaped, by default and without exception."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from feature_health.definitions import DEFINITIONS, tone
from feature_health.formats import Formats
from feature_health.links import Links
from feature_health.reader import Reader
from feature_health.tables import Column

FOLDER = Path(__file__).parent

ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.globals |= {"tone": tone, "definitions": DEFINITIONS}


def render(template: str, reader: Reader, values: Mapping[str, Any]) -> str:
    """A template with the reader's formats and links."""
    formats = Formats(reader)
    return ENVIRONMENT.get_template(template).render(
        reader=reader,
        f=formats,
        links=Links(reader),
        show=Shower(formats),
        style=asset("style.css"),
        script=asset("page.js"),
        **values,
    )


@cache
def asset(name: str) -> str:
    """An asset's address, which changes with its content."""
    content = (FOLDER / "assets" / name).read_bytes()
    return f"assets/{name}?v={hashlib.blake2b(content, digest_size=6).hexdigest()}"


class Shower:
    """A table's value as text."""

    def __init__(self, formats: Formats) -> None:
        self._formats = formats

    def __call__(self, column: Column, row: Any) -> str:
        """What stands in the cell."""
        value = column.of(row)
        match column.kind:
            case "count" | "number" | "metric" | "share" | "time" | "age" | "days":
                return str(getattr(self._formats, column.kind)(value))
            case "interval":
                low, high = value
                return self._formats.interval(low, high)
            case "estimate":
                return self._formats.estimate(*value) if value is not None else "\u2013"
            case "list":
                return ", ".join(str(each) for each in value or ()) or "\u2013"
        return "\u2013" if value is None or value == "" else _words(value)

    def title(self, column: Column, row: Any) -> str:
        """What is said on hover: the definition, and what is exact where the cell is rounded."""
        value = column.of(row)
        said = column.note(row) if column.note else None
        exact = f"{value!r}" if isinstance(value, float) else self._exact(value)
        return " ".join(part for part in (column.definition.meaning, said, exact and f"Exactly: {exact}.") if part)

    def _exact(self, value: Any) -> str:
        return value.isoformat() if isinstance(value, datetime) else ""


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
