"""monitoring.inference_log: what a model was asked and said, one row per request; and what could not be logged."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from numbers import Real
from typing import Any, Literal

import numpy as np
import psycopg

from features import warehouse
from features.errors import SkewlessError
from features.serving.json_values import json_array, json_text, storable

Kind = Literal["online", "batch"]

COLUMNS = (
    "request_id, model_name, model_version, feature_version, kind, entity_id, as_of, features, prediction, confidence,"
    " latency_ms, inclusion_probability, served_from, decision, logged_at"
)
# What is wrong with a row, while any other error is about the server. That a text is too long for the index comes as
# an OperationalError.
REFUSED = (SkewlessError, psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)
LONGEST_QUARANTINED = 20_000  # characters


@dataclass(frozen=True, slots=True)
class LoggedInference:
    """A request as it came, which `write_rows` checks and converts.

    Attributes:
        entity_id: its key, or a tuple of a composite key's columns.
        as_of: the instant whose knowledge the features hold; with a time zone, as logged_at.
        features: what the model saw, by name; None when it could not be read.
        prediction: the probability that the label is true: any real number from 0 to 1.
        latency_ms: of the prediction.
        inclusion_probability: how likely it was that this request is logged.
        logged_at: when the model was asked.
        served_from: redis, postgres, written, computed or snapshot.
        decision: what the service made of the prediction.
    """

    request_id: str
    model_name: str
    model_version: str
    feature_version: str
    entity_id: str | tuple[Any, ...]
    as_of: datetime
    features: Mapping[str, Any] | None
    prediction: Any
    logged_at: datetime
    kind: Kind = "online"
    latency_ms: float | None = None
    inclusion_probability: float = 1.0
    served_from: str | None = None
    decision: str | None = None


def entity_text(entity_id: Any) -> str:
    """An entity's key as the log, serving.predictions and drift's SQL write it.

    Args:
        entity_id: the key; of several columns, a tuple of them, which becomes a JSON array.

    Raises:
        SkewlessError: when it, or a part of it, is missing.
    """
    parts = tuple(entity_id) if isinstance(entity_id, tuple | list) else (entity_id,)
    if not parts or any(part is None for part in parts):
        raise SkewlessError(f"The entity_id {entity_id!r} names nobody; pass the key, or a tuple of all its columns.")
    return str(parts[0]) if len(parts) == 1 else json_array(parts)


def write_rows(connection: warehouse.Connection, rows: Iterable[LoggedInference]) -> int:
    """Writes rows in the caller's transaction. One whose request_id is in the log already is left as it is there.

    Returns:
        how many are new.

    Raises:
        SkewlessError: naming a row that cannot be logged; then nothing is written.
        psycopg.DataError: when only the server noticed.
    """
    converted = [_converted(row) for row in rows]
    if not converted:
        return 0
    connection.execute(
        # Of the table's type, since who may write to the log need not be one who may read it.
        f"create temporary table fresh_inferences on commit drop as select {COLUMNS}"
        " from (select (null::monitoring.inference_log).*) as nothing with no data"
    )
    with connection.cursor().copy(f"copy fresh_inferences ({COLUMNS}) from stdin") as copy:
        for columns in converted:
            copy.write_row(columns)
    written = connection.execute(
        f"insert into monitoring.inference_log ({COLUMNS}) select {COLUMNS} from fresh_inferences"
        " on conflict (request_id) do nothing"
    )
    connection.execute("drop table fresh_inferences")  # there may be more rows in this transaction
    return written.rowcount


def write_or_reject(connection: warehouse.Connection, rows: Sequence[LoggedInference]) -> int:
    """Writes rows, and puts those that cannot be logged into quarantine, in the caller's transaction.

    The bad ones are found by halving, so that a few of them cost little.

    Returns:
        how many are in quarantine.
    """
    try:
        with connection.transaction():
            write_rows(connection, rows)
        return 0
    except REFUSED as error:
        if len(rows) == 1:
            reject(connection, rows[0], str(error))
            return 1
    middle = len(rows) // 2
    return write_or_reject(connection, rows[:middle]) + write_or_reject(connection, rows[middle:])


def reject(connection: warehouse.Connection, row: LoggedInference, reason: str) -> None:
    """Puts a row into monitoring.rejected_inferences, with what is wrong with it."""
    rejected = {
        "request_id": _printable(row.request_id),
        "model_name": _printable(row.model_name),
        "reason": _printable(reason),
        "row_as_it_came": _printable(_repr(row)),
    }
    warehouse.insert(connection, "monitoring.rejected_inferences", rejected)


def _converted(row: LoggedInference) -> tuple[Any, ...]:
    try:
        return _columns(row)
    except SkewlessError:
        raise
    except Exception as error:  # of the caller's objects, which may raise anything when they are read
        raise SkewlessError(f"It cannot be converted: {type(error).__name__}: {error}.") from error


def _columns(row: LoggedInference) -> tuple[Any, ...]:
    """The row's values in the order of COLUMNS."""
    if row.features is None:
        raise SkewlessError("Its features are no mapping of names to values that could be read.")
    probability = _probability(row.prediction)
    return (
        *_texts(row, "request_id", "model_name", "model_version", "feature_version", "kind"),
        _storable("entity_id", entity_text(row.entity_id)),
        _instant("as_of", row.as_of),
        json_text(row.features),
        probability,
        max(probability, 1 - probability),
        row.latency_ms,
        row.inclusion_probability,
        *_texts(row, "served_from", "decision"),
        _instant("logged_at", row.logged_at),
    )


def _texts(row: LoggedInference, *names: str) -> Iterable[str | None]:
    for name in names:
        value = getattr(row, name)
        yield None if value is None else _storable(name, str(value))


def _storable(name: str, text: str) -> str:
    try:
        return storable(text)
    except ValueError as error:
        raise SkewlessError(f"Its {name} cannot be logged: {error}.") from error


def _probability(value: Any) -> float:
    """The prediction as a number from 0 to 1. A truth value is none: it is what a model predicts as a class."""
    if isinstance(value, bool | np.bool) or not isinstance(value, Real | Decimal):
        raise SkewlessError(f"Its prediction is of type {type(value).__name__}; log the probability, a number.")
    try:
        probability = float(value)
    except (ValueError, OverflowError):
        probability = float("nan")
    if not 0 <= probability <= 1:
        raise SkewlessError(f"Its prediction is {value}; a probability is from 0 to 1.")
    return probability


def _instant(name: str, value: Any) -> datetime:
    """The time, in UTC."""
    if not isinstance(value, datetime) or value.tzinfo is None or value.utcoffset() is None:
        raise SkewlessError(f"Its {name} is {value!r}; pass a datetime with a time zone.")
    return value.astimezone(UTC)


def _printable(text: str) -> str:
    """Text that PostgreSQL stores: NULs and halves of surrogate pairs are spelled out."""
    return str(text).encode(errors="backslashreplace").decode().replace("\0", "\\x00")


def _repr(row: LoggedInference) -> str:
    try:
        return repr(row)[:LONGEST_QUARANTINED]
    except Exception as error:  # it is the caller's objects that describe themselves
        return f"not printable: {type(error).__name__}"
