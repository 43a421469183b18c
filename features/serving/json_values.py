"""Feature values as JSON that PostgreSQL's jsonb takes, and that casts back to what they were.

jsonb knows no NaN and no infinity; they become the strings that `double precision` reads. It knows no negative zero
either, which becomes 0.
"""

import json
import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import singledispatch
from typing import Any

import numpy as np

from features.errors import SkewlessError

LOGGABLE = "numbers, booleans, text, dates, times, intervals and None can be"
# Of pandas, which a service need not have.
MISSING = {"NAType", "NaTType"}


def json_text(features: Mapping[str, Any]) -> str:
    """A feature row as the text of a JSON object: what `jsonb_populate_record` makes the same row of.

    Numbers of Python, numpy and `decimal` stay exactly what they are; dates and times become ISO text, a timedelta what
    PostgreSQL reads as an interval; None, pandas' NA and NaT become null.

    >>> json_text({"sessions": np.int64(3), "price": Decimal("0.10"), "since": date(2013, 7, 1), "plan": None})
    '{"sessions": 3, "price": 0.10, "since": "2013-07-01", "plan": null}'

    Raises:
        SkewlessError: naming the feature and the type of what is none of these, or of text that PostgreSQL refuses.
    """
    members = (f"{_name(name)}: {_loggable(value, f'Feature {name!r}')}" for name, value in features.items())
    return "{" + ", ".join(members) + "}"


def json_array(values: Iterable[Any]) -> str:
    """Values as PostgreSQL writes `jsonb_build_array(...)::text` of them: one text for a key of several columns.

    Raises:
        SkewlessError: naming the value that cannot be written.
    """
    return "[" + ", ".join(_loggable(value, "A key's value") for value in values) + "]"


def storable(text: str) -> str:
    """The text itself.

    Raises:
        ValueError: when PostgreSQL does not store it: it has a NUL, or half a surrogate pair.
    """
    if "\0" in text:
        raise ValueError("PostgreSQL stores no text with a NUL character")
    text.encode()  # a UnicodeEncodeError is a ValueError
    return text


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise SkewlessError(f"Feature {name!r} has a name of type {type(name).__name__}; names are text.")
    return _loggable(name, f"The name of feature {name!r}")


def _loggable(value: Any, what: str) -> str:
    try:
        return _json(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise SkewlessError(f"{what} of type {type(value).__name__} cannot be logged: {error}.") from error


@singledispatch
def _json(value: Any) -> str:
    if type(value).__name__ in MISSING:
        return "null"
    raise TypeError(LOGGABLE)


@_json.register(type(None))
def _(value: None) -> str:
    return "null"


@_json.register
def _(value: bool) -> str:
    return "true" if value else "false"


@_json.register
def _(value: int) -> str:
    return int.__repr__(value)


@_json.register
def _(value: float) -> str:
    # The shortest text that reads as the same double.
    return float.__repr__(value) if math.isfinite(value) else _not_finite(value)


@_json.register
def _(value: Decimal) -> str:
    return str(value) if value.is_finite() else _not_finite(value)


@_json.register
def _(value: str) -> str:
    return json.dumps(storable(value), ensure_ascii=False)


@_json.register
def _(value: date) -> str:
    # A datetime is a date, and so is pandas' NaT.
    return "null" if type(value).__name__ in MISSING else f'"{value.isoformat()}"'


@_json.register
def _(value: timedelta) -> str:
    if type(value).__name__ in MISSING:
        return "null"
    # All but the days of a timedelta is positive.
    minutes, seconds = divmod(value.seconds, 60)
    return f'"{value.days} days +{minutes // 60:02}:{minutes % 60:02}:{seconds:02}.{value.microseconds:06}"'


@_json.register(np.datetime64)
@_json.register(np.timedelta64)
def _(value: np.datetime64 | np.timedelta64) -> str:
    if np.isnat(value):
        return "null"
    # By itself numpy makes an int of nanoseconds.
    name = "datetime64[us]" if isinstance(value, np.datetime64) else "timedelta64[us]"
    plain = value.astype(name).item()
    if not isinstance(plain, datetime | timedelta):
        raise ValueError("it is out of the range of datetime")
    return _json(plain)


@_json.register
def _(value: np.generic) -> str:
    plain = value.item()
    if isinstance(plain, np.generic):  # a longdouble, which is no double
        raise TypeError(LOGGABLE)
    return _json(plain)


def _not_finite(value: float | Decimal) -> str:
    if math.isnan(value):
        return '"NaN"'
    return '"Infinity"' if value > 0 else '"-Infinity"'
