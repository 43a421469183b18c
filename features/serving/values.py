"""Feature values on their way through a store: checked against the contract, and packed so that they come back exactly.

Packed by MessagePack, with extension types for what it does not know. Floats travel as their eight bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgpack

from features.contract import Feature, FeatureView
from features.errors import SkewlessError

INSTANT, LOCAL_TIME, DATE, INTERVAL, DECIMAL = range(1, 6)
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
    raise TypeError(f"{type(value).__name__} cannot be kept in a feature store")


def _text(value: object) -> bytes:
    return str(value).encode()


READERS: dict[int, Callable[[str], Any]] = {
    INSTANT: lambda text: EPOCH + int(text) * MICROSECOND,
    LOCAL_TIME: lambda text: LOCAL_EPOCH + int(text) * MICROSECOND,
    DATE: lambda text: date.fromordinal(int(text)),
    INTERVAL: lambda text: int(text) * MICROSECOND,
    DECIMAL: Decimal,
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
    plain = value.item() if hasattr(value, "item") and not isinstance(value, type) else value
    if plain is None:
        return None
    kinds, convert = _kind(feature.data_type)
    fits = isinstance(plain, tuple(kinds)) and (bool in kinds or not isinstance(plain, bool))
    if not fits or (isinstance(plain, datetime) and not _fits_zone(plain, feature.data_type)):
        raise SkewlessError(f"{view.name}.{feature.name} is {feature.data_type}, and {value!r} is not.")
    return convert(plain)


def _fits_zone(value: datetime, declared: str) -> bool:
    has_zone = declared.lower().startswith(("timestamptz", "timestamp with time zone"))
    return (value.tzinfo is not None) == has_zone and not declared.lower().startswith("date")


# By how a SQL type begins; the longer beginning first.
KINDS: Sequence[tuple[tuple[str, ...], tuple[type, ...], Callable[[Any], Any]]] = (
    (("timestamp",), (datetime,), lambda value: value),
    (("interval",), (timedelta,), lambda value: value),
    (("date",), (date,), lambda value: value),
    (("bool",), (bool,), lambda value: value),
    (("double precision", "float8", "float"), (float, int), float),
    (("numeric", "decimal"), (Decimal, int), Decimal),
    (("smallint", "integer", "int", "bigint"), (int,), lambda value: value),
    (("text", "varchar", "character", "char", "uuid"), (str,), lambda value: value),
)


def _kind(declared: str) -> tuple[tuple[type, ...], Callable[[Any], Any]]:
    for beginnings, kinds, convert in KINDS:
        if declared.lower().startswith(beginnings):
            return kinds, convert
    raise SkewlessError(f"Features of type {declared} can be read, and not written, through the store.")
