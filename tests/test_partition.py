"""The partition key of a run is as_of; what is no hour is refused with the next step."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import SkewlessError
from features.partition import format_key, parse_as_of

HOURS = st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(minute=0, second=0, microsecond=0))
OFFSETS = st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))


@given(HOURS)
def test_what_is_formatted_is_parsed_to_the_same_instant(as_of: datetime) -> None:
    assert parse_as_of(format_key(as_of)) == as_of


@given(HOURS.filter(lambda as_of: 1 < as_of.year < 9999), OFFSETS)
def test_a_key_names_the_instant_whatever_its_offset(as_of: datetime, offset: timezone) -> None:
    local = as_of.astimezone(offset)
    parsed = parse_as_of(local.isoformat())
    assert parsed == as_of
    assert parsed.tzinfo is UTC
    assert format_key(local) == format_key(as_of)


@given(st.text(max_size=30))
def test_any_text_is_an_hour_in_utc_or_refused(key: str) -> None:
    try:
        as_of = parse_as_of(key)
    except SkewlessError:
        return
    assert as_of.tzinfo is UTC
    assert (as_of.minute, as_of.second, as_of.microsecond) == (0, 0, 0)


@pytest.mark.parametrize(
    ("key", "as_of"),
    [
        ("2013-07-01T00:00:00", datetime(2013, 7, 1, tzinfo=UTC)),
        ("2013-07-01T05:00:00Z", datetime(2013, 7, 1, 5, tzinfo=UTC)),
        ("2013-07-01T00:00:00+02:00", datetime(2013, 6, 30, 22, tzinfo=UTC)),
        ("2013-07-01T05:30:00+05:30", datetime(2013, 7, 1, tzinfo=UTC)),
        ("2013-07-01", datetime(2013, 7, 1, tzinfo=UTC)),
    ],
)
def test_without_an_offset_a_key_is_utc_and_with_one_it_is_converted(key: str, as_of: datetime) -> None:
    assert parse_as_of(key) == as_of


@pytest.mark.parametrize("key", [None, ""])
def test_a_run_without_a_key_is_told_how_to_be_triggered(key: str | None) -> None:
    with pytest.raises(
        SkewlessError, match=r"no partition key.*Trigger materialize_features with a partition key such"
    ):
        parse_as_of(key)


@pytest.mark.parametrize(
    "key",
    ["None", "yesterday", "2013-02-30T00:00:00", "2013-07-01T24:30:00", "1372636800", "0001-01-01T00:00:00+05:00"],
)
def test_what_is_no_instant_is_refused_with_an_example(key: str) -> None:
    with pytest.raises(SkewlessError) as error:
        parse_as_of(key)
    assert repr(key) in str(error.value)
    assert "2013-07-01T00:00:00" in str(error.value)


@pytest.mark.parametrize(
    "key", ["2013-07-01T00:01:00", "2013-07-01T00:00:01", "2013-07-01T00:00:00.5", "2013-07-01T00:00:00+05:30"]
)
def test_an_instant_between_hours_is_refused(key: str) -> None:
    with pytest.raises(SkewlessError, match="is not on the hour"):
        parse_as_of(key)
