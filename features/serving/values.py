"""Feature values on their way through a store: checked against the contract, and packed so that they come back exactly.

Packed by MessagePack, with extension types for what it does not know. Floats travel as their eight bytes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack

from features.contract import Feature, FeatureView
from features.errors import SkewlessError

INSTANT, LOCAL_TIME, DATE, INTERVAL, DECIMAL, UNIQUE_ID = range(1, 7)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOCAL_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - of `timestamp` columns, which have no zone
MICROSECOND = timedelta(microseconds=1)


def pack(value: Any) -> bytes:
    """A value, or a list or dict of values, as bytes."""
    packed: bytes = msgpack.packb(value, default=_as_extension)
    return packed


def unpack(packed: bytes) -> Any:
    """What was packed."""
    return msgpack.unpackb(packed, ext_hook=_from_extension, strict_map_key=False)


def microseconds(instant: datetime) -> int:
    """Since 1970, exactly."""
    return (instant - EPOCH) // MICROSECOND


def _as_extension(value: Any) -> msgpack.ExtType:
    match value:
        case datetime() if value.tzinfo:
            return msgpack.ExtType(INSTANT, _text(microseconds(value)))
        case datetime():
            return msgpack.ExtType(LOCAL_TIME, _text((value - LOCAL_EPOCH) // MICROSECOND))
        case date():
            return msgpack.ExtType(DATE, _text(value.toordinal()))
        case timedelta():
            return msgpack.ExtType(INTERVAL, _text(value // MICROSECOND))
        case Decimal():
            return msgpack.ExtType(DECIMAL, _text(value))
        case UUID():
            return msgpack.ExtType(UNIQUE_ID, _text(value))
    raise SkewlessError(f"{value!r} of type {type(value).__name__} cannot be kept in Redis; cast it to text in dbt.")


def _text(value: object) -> bytes:
    return str(value).encode()


READERS: dict[int, Callable[[str], Any]] = {
    INSTANT: lambda text: EPOCH + int(text) * MICROSECOND,
    LOCAL_TIME: lambda text: LOCAL_EPOCH + int(text) * MICROSECOND,
    DATE: lambda text: date.fromordinal(int(text)),
    INTERVAL: lambda text: int(text) * MICROSECOND,
    DECIMAL: Decimal,
    UNIQUE_ID: UUID,
}


def _from_extension(code: int, packed: bytes) -> Any:
    return READERS[code](packed.decode())


def checked(view: FeatureView, features: Mapping[str, Any]) -> dict[str, Any]:
    """Features as the view's columns hold them, in its order.

    Raises:
        SkewlessError: when a feature is missing or unknown, or a value is not of its feature's type.
    """
    missing = [name for name in view.feature_names if name not in features]
    unknown = [name for name in features if name not in view.feature_names]
    if missing or unknown:
        problems = [f"lacks {', '.join(missing)}"] if missing else []
        problems += [f"has {', '.join(map(str, unknown))}, which dbt does not declare"] if unknown else []
        raise SkewlessError(f"A row of {view.name} {' and '.join(problems)}.")
    return {feature.name: _checked(view, feature, features[feature.name]) for feature in view.features}


def _checked(view: FeatureView, feature: Feature, value: Any) -> Any:
    # numpy's scalars stand for Python's.
    plain = value.item() if getattr(value, "shape", None) == () else value
    if plain is None:
        return None
    kinds, convert = _kind(feature.data_type)
    is_of_kind = isinstance(plain, kinds) and (bool in kinds or not isinstance(plain, bool))
    if not is_of_kind or not _fits(plain, feature.data_type.lower()):
        raise SkewlessError(f"{view.name}.{feature.name} is {feature.data_type}, and {value!r} is not.")
    return convert(plain)


def _fits(value: Any, declared: str) -> bool:
    """Whether a value of the right kind is one that the type has: what is stored and cannot be read stops a view."""
    match value:
        case datetime():
            has_zone = declared.startswith(("timestamptz", "timestamp with time zone"))
            return (value.tzinfo is not None) == has_zone and not declared.startswith("date")
        case int():
            bits = next((bits for beginning, bits in BITS.items() if declared.startswith(beginning)), math.inf)
            return -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)
    return True


BITS = {"smallint": 16, "int2": 16, "bigint": 64, "int8": 64, "int": 32, "double": 1024, "float": 1024}

# By how a SQL type begins; the longer beginning first. `real` is not among them: its values would come back rounded.
KINDS: Sequence[tuple[tuple[str, ...], tuple[type, ...], Callable[[Any], Any]]] = (
    (("timestamp",), (datetime,), lambda value: value),
    (("interval",), (timedelta,), lambda value: value),
    (("date",), (date,), lambda value: value),
    (("bool",), (bool,), lambda value: value),
    (("double precision", "float8"), (float, int), float),
    (("numeric", "decimal"), (Decimal, int), Decimal),
    (("smallint", "integer", "int", "bigint"), (int,), lambda value: value),
    (("text", "varchar", "character", "char"), (str,), lambda value: value),
)


def _kind(declared: str) -> tuple[tuple[type, ...], Callable[[Any], Any]]:
    for beginnings, kinds, convert in KINDS:
        if declared.lower().startswith(beginnings):
            return kinds, convert
    raise SkewlessError(f"Features of type {declared} can be read, and not written, through the store.")
