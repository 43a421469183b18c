"""Numbers and times as they are written."""

from datetime import UTC, datetime, timedelta

import pytest

from feature_health.formats import NOTHING, Formats
from tests.plugins.requests import NOON, reader


@pytest.fixture
def write() -> Formats:
    return Formats(reader())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8182367, "0.8182"),
        (1234.5678, "1,235"),
        (12.3456, "12.35"),
        (0.00012346, "0.0001235"),
        (0.0, "0"),
        (-0.5, "-0.5"),
        (3.0, "3"),
        (1e-12, "1E-12"),
        (1e15, "1E15"),
        (float("inf"), "∞"),
        (float("-inf"), "-∞"),
        (float("nan"), NOTHING),
        (None, NOTHING),
    ],
)
def test_numbers_have_four_digits(write: Formats, value: float | None, text: str) -> None:
    assert write.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0%"), (0.0001, "<0.1%"), (0.0005, "<0.1%"), (0.0006, "0.1%"), (0.256, "25.6%"), (1.0, "100.0%")],
)
def test_a_share_that_is_there_is_never_zero(write: Formats, value: float, text: str) -> None:
    assert write.share(value) == text


@pytest.mark.parametrize(
    ("gone", "text"),
    [
        (timedelta(seconds=35), "35 s ago"),
        (timedelta(hours=3, minutes=20, seconds=59), "3 h 20 min ago"),
        (timedelta(hours=2, seconds=30), "2 h ago"),
        (timedelta(days=12, hours=4, minutes=59), "12 d 4 h ago"),
        (timedelta(days=4771), "13 y 26 d ago"),
        (timedelta(), "0 s ago"),
        (-timedelta(hours=2), "in 2 h"),
    ],
)
def test_ages_have_two_units(write: Formats, gone: timedelta, text: str) -> None:
    assert write.age(NOON - gone) == text


def test_times_are_in_the_readers_zone() -> None:
    assert Formats(reader()).time(NOON) == "2026-06-30 12:00"
    assert Formats(reader(zone="Asia/Kolkata")).time(NOON) == "2026-06-30 17:30"
    assert Formats(reader()).time(datetime(2026, 1, 1, 0, 0, 7, tzinfo=UTC)) == "2026-01-01 00:00:07"


def test_numbers_are_in_the_readers_language() -> None:
    german = Formats(reader(language="de"))
    assert german.count(24206) == "24.206"
    assert german.estimate(0.824, 0.816, 0.833) == "0,824 (0,816 to 0,833)"


def test_what_is_not_known_is_a_dash(write: Formats) -> None:
    assert {write.count(None), write.metric(None), write.share(None), write.time(None), write.age(None)} == {NOTHING}
    assert {write.days(None), write.interval(None, 1.0), write.duration(None)} == {NOTHING}
    assert write.estimate(0.5, None, None) == "0.500"
