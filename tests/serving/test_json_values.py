"""What is written as JSON comes back from PostgreSQL as it was; what could not is refused by name."""

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features import warehouse
from features.errors import SkewlessError
from features.serving.json_values import json_array, json_text

against_postgres = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


# Of `timestamp` columns, which have no zone.
LOCAL = datetime(2026, 2, 28, 1, 2, 3, 123_456)  # noqa: DTZ001
# Days from what Python can tell, for it has to be told in UTC.
EARLIEST, LATEST = datetime(1, 1, 3), datetime(9999, 12, 29)  # noqa: DTZ001


class Plan(StrEnum):
    FREE = "free"


@pytest.fixture(scope="module")
def connection(server: None) -> Iterator[warehouse.Connection]:
    with warehouse.connect("postgres", autocommit=True) as opened:
        yield opened


def read_back(connection: warehouse.Connection, value: Any, declared: str) -> Any:
    """The feature as jsonb_populate_record reads it into a column of that type."""
    query = f"select x from jsonb_to_record(%s::jsonb) as row (x {declared})"
    found = connection.execute(query, [json_text({"x": value})]).fetchone()
    assert found
    return found["x"]


@against_postgres
@given(st.floats())
def test_doubles_are_exact(connection: warehouse.Connection, value: float) -> None:
    found = read_back(connection, value, "double precision")
    assert found == value or (math.isnan(found) and math.isnan(value))
    assert read_back(connection, np.float64(value), "double precision") == found or math.isnan(value)


@against_postgres
@given(st.floats(width=32))
def test_single_precision_is_exact(connection: warehouse.Connection, value: float) -> None:
    single = np.float32(value)
    for declared in ("real", "double precision"):
        found = read_back(connection, single, declared)
        assert np.float32(found) == single or (math.isnan(found) and math.isnan(value))


@against_postgres
@given(st.integers(-(2**200), 2**200))
def test_whole_numbers_are_exact(connection: warehouse.Connection, value: int) -> None:
    assert read_back(connection, value, "numeric") == value


@against_postgres
@given(st.integers(-(2**63), 2**63 - 1))
def test_numpys_whole_numbers_are_exact(connection: warehouse.Connection, value: int) -> None:
    assert read_back(connection, np.int64(value), "bigint") == value


@against_postgres
@given(st.decimals(-(10**30), 10**30))
def test_decimals_are_exact(connection: warehouse.Connection, value: Decimal) -> None:
    found = read_back(connection, value, "numeric")
    assert found == value or (found.is_nan() and value.is_nan())


@against_postgres
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_text_is_exact(connection: warehouse.Connection, value: str) -> None:
    assert read_back(connection, value, "text") == value
    assert connection.execute("select %s::jsonb ->> %s as x", [json_text({value: "named"}), value]).fetchone() == {
        "x": "named"
    }


@against_postgres
@given(st.timedeltas())
def test_intervals_are_exact(connection: warehouse.Connection, value: timedelta) -> None:
    assert read_back(connection, value, "interval") == value


@against_postgres
@given(st.datetimes(EARLIEST, LATEST, timezones=st.timezones()))
def test_instants_are_exact(connection: warehouse.Connection, value: datetime) -> None:
    assert read_back(connection, value, "timestamptz") == value.astimezone(UTC)


@pytest.mark.parametrize(
    ("value", "declared", "expected"),
    [
        (None, "text", None),
        (pd.NA, "bigint", None),
        (pd.NaT, "timestamptz", None),
        (np.datetime64("NaT"), "timestamptz", None),
        (np.timedelta64("NaT"), "interval", None),
        (True, "boolean", True),
        (np.bool_(False), "boolean", False),
        (np.uint64(2**64 - 1), "numeric", 2**64 - 1),
        (np.float16(0.1), "double precision", float(np.float16(0.1))),
        (np.str_("text"), "text", "text"),
        (Plan.FREE, "text", "free"),
        (date(2026, 2, 28), "date", date(2026, 2, 28)),
        (LOCAL, "timestamp", LOCAL),
        (pd.Timestamp("2026-02-28 01:02:03.5+02"), "timestamptz", datetime(2026, 2, 27, 23, 2, 3, 500_000, tzinfo=UTC)),
        (np.datetime64("2026-02-28T01:02:03.123456789"), "timestamp", LOCAL),
        (np.timedelta64(90, "m"), "interval", timedelta(minutes=90)),
        (pd.Timedelta("-1 days"), "interval", timedelta(days=-1)),
        (Decimal("-Infinity"), "double precision", -math.inf),
    ],
)
def test_what_services_have_comes_back(
    connection: warehouse.Connection, value: Any, declared: str, expected: Any
) -> None:
    assert read_back(connection, value, declared) == expected


def test_what_is_no_number_is_the_string_that_double_precision_reads() -> None:
    assert json_text({"a": math.nan, "b": math.inf, "c": -math.inf}) == (
        '{"a": "NaN", "b": "Infinity", "c": "-Infinity"}'
    )


def test_no_feature_is_an_empty_object() -> None:
    assert json_text({}) == "{}"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1, 2], "Feature 'x' of type list"),
        ({"a": 1}, "Feature 'x' of type dict"),
        (b"bytes", "Feature 'x' of type bytes"),
        (object(), "Feature 'x' of type object"),
        (np.array([1.0]), "Feature 'x' of type ndarray"),
        (1j, "Feature 'x' of type complex"),
        (np.complex128(1j), "Feature 'x' of type complex128"),
        (np.longdouble(1), "Feature 'x' of type longdouble"),
        (np.datetime64("30000-01-01"), "Feature 'x' of type datetime64.*range"),
        ("a\0b", "Feature 'x' of type str.*NUL"),
        ("\ud800", "Feature 'x' of type str.*surrogates"),
        (10**5000, "Feature 'x' of type int"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_come_back_is_refused_by_name(value: Any, reason: str) -> None:
    with pytest.raises(SkewlessError, match=reason):
        json_text({"fine": 1, "x": value})


@pytest.mark.parametrize("name", [5, None, "a\0b"])
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(SkewlessError, match="name"):
        json_text({name: 1})


@against_postgres
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.integers(-(2**63), 2**63 - 1), st.dates())
def test_a_key_of_several_columns_is_what_postgresql_writes(
    connection: warehouse.Connection, text: str, number: int, day: date
) -> None:
    query = "select jsonb_build_array(%s::text, %s::bigint, %s::date, null)::text as key"
    assert connection.execute(query, [text, number, day]).fetchone() == {"key": json_array((text, number, day, None))}
