"""Charts: marks stand where the numbers are, and nothing in them can do harm."""

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.dates import num2date

from feature_health.charts import Figure, Scale, names_up, numbers_across, numbers_up, spark, times_across
from tests.plugins.requests import NOON, reader

HOSTILE = "\"><script>alert(1)</script>'&"


def figure(**words: str) -> Figure:
    return Figure(words.get("title", "A"), "b", numbers_across(0, 10, str), numbers_up([0, 4], str))


def elements(drawn: Figure, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(drawn.svg).iter(tag))


def test_a_scale_is_linear_and_stops_at_its_ends() -> None:
    scale = Scale(0, 10, 100, 200)
    assert [scale(value) for value in (0, 5, 10, 12, -3)] == [100, 150, 200, 200, 100]
    assert Scale(3, 3, 100, 200)(3) == 100


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20), st.booleans())
def test_there_is_room_for_all_values(values: list[float], zero: bool) -> None:
    scale = numbers_up(values, str, zero=zero)
    assert scale.low <= min(values) <= max(values) <= scale.high
    assert scale.low < scale.high
    assert all(scale.low - 1e-6 * abs(scale.low) <= at for at, _ in scale.ticks)


def test_bars_stand_on_the_axis() -> None:
    drawn = figure()
    drawn.bar(2, 4, 2, "now bar", "two")
    bar = elements(drawn, "rect")[0]
    place = {name: float(bar.attrib[name]) for name in ("x", "y", "width", "height")}
    assert place["x"] == drawn.x(2)
    assert place["x"] + place["width"] == pytest.approx(drawn.x(4), abs=0.2)
    assert place["y"] + place["height"] == pytest.approx(drawn.y(0), abs=0.2)
    assert bar.findtext("title") == "two"


def test_a_line_breaks_where_a_value_is_missing() -> None:
    drawn = figure()
    drawn.line([(0, 1.0), (1, 2.0), (2, None), (3, 1.0), (4, 1.0)], "now")
    assert [each.attrib["d"].count("L") for each in elements(drawn, "path") if "line" in each.attrib["class"]] == [1, 1]


def test_a_band_without_bounds_is_not_drawn() -> None:
    drawn = figure()
    drawn.band([(0, None, None), (1, 0.5, None)], "now")
    assert not [each for each in elements(drawn, "path") if "band" in each.attrib["class"]]


def test_names_stand_from_top_to_bottom() -> None:
    scale = names_up(["first", "second"])
    assert [name for _, name in scale.ticks] == ["first", "second"]
    assert scale(scale.ticks[0][0]) < scale(scale.ticks[1][0])


def test_times_are_written_in_the_readers_zone() -> None:
    midnight = datetime(2026, 6, 30, tzinfo=UTC)
    for zone, hour in (("UTC", "06:00"), ("Asia/Kolkata", "12:00")):
        scale = times_across(midnight, midnight + timedelta(hours=12), reader(zone=zone))
        place = {text: at for at, text in scale.ticks}[hour]
        offset = timedelta(hours=5.5) if zone != "UTC" else timedelta()
        wall = timedelta(hours=int(hour[:2]))
        assert num2date(place) == midnight + wall - offset


def test_one_instant_is_a_chart_too() -> None:
    scale = times_across(NOON, NOON, reader())
    assert scale(NOON) == scale.start


@pytest.mark.filterwarnings("error")
def test_words_that_want_to_do_harm_are_words() -> None:
    drawn = Figure(HOSTILE, HOSTILE, numbers_across(0, 1, lambda _: HOSTILE), names_up([HOSTILE]), HOSTILE, HOSTILE)
    drawn.dot(0.5, 1, "now", HOSTILE)
    drawn.across(0.5, 1, 3, "now bar", HOSTILE)
    found = ElementTree.fromstring(drawn.svg)
    assert {each.tag for each in found.iter()} <= {"svg", "text", "path", "circle", "rect", "title"}
    assert any(each.text == HOSTILE for each in found.iter("title"))


def test_nothing_brings_a_style_of_its_own() -> None:
    drawn = figure()
    drawn.line([(0, 1.0), (5, 2.0)], "now")
    drawn.steps([(0, 1.0), (5, 2.0)], "warn")
    drawn.rule(1, "bad")
    drawn.upright(1, "accent", "then")
    drawn.hit(1, 2, "here")
    drawn.whisker(1, 0, 2, "now")
    drawn.lying_whisker(1, 0, 2, "now")
    assert not re.search(r"\sstyle=|\son\w+=|href", str(drawn.svg))
    assert not re.search(r"\sstyle=", str(spark([0.1, None, 2.0], 1.0, "x")))
