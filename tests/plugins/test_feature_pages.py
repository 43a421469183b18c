"""The pages of features: where cells lead, what stands in charts, and that names are nothing but text."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from feature_health.formats import Formats
from feature_health.links import Links
from feature_health.pages import Page, values_of
from feature_health.rendering import render
from feature_health.views import feature, features
from feature_health.views.feature_charts import MOST_FLOORS, beside_baseline, density, effects, missing, outside
from features.contract import DriftSettings, Valid
from features.drift.profile import Profile
from features.drift.sketch import Grid, Sketch
from features.health.distribution import Distribution, distribution
from features.health.feature import Declared, Definition, FeaturePage, Report, UsedBy
from features.health.features import TREND_DAYS, FeaturesPage, Finding, WatchedFeature
from features.health.strayed import MOST_POINTS, Comparison, Incident, Point, SelfTest
from tests.plugins.requests import NOON, reader

HOSTILE = "\"><script>alert('%s')</script>{{ 7 * 7 }}"
SHOWN = Comparison("snapshot", "all", 24, "training")
FINDING = Finding("critical", "distance 0.3.", "shape", 0.3, 0.2, 0.4, 0.04, 0.1, 2000, 700, 0.02, 0.01)
FINDING = replace(FINDING, source="snapshot", segment="all", window_hours=24, baseline="training")


def watched(name: str, **changes: Any) -> WatchedFeature:
    return replace(WatchedFeature(name, True, FINDING, (None,) * (TREND_DAYS - 1) + (7.5,)), **changes)


def features_of(*rows: WatchedFeature) -> FeaturesPage:
    return FeaturesPage("churn", ("churn", HOSTILE), "user_session_features", NOON, NOON, rows, ())


def compared(before: Any, now: Any) -> Distribution:
    grid = Grid.of(before)
    return distribution(Profile.of(Sketch.of(before, grid)), Profile.of(Sketch.of(now, grid)), grid)


def point(hours_ago: float, **changes: Any) -> Point:
    at = NOON - timedelta(hours=hours_ago)
    return replace(Point(at, 6, "ok", "shape", 0.02, 0.0, 0.05, 0.04, 0.1, 0.01, 0.01, 0.015), **changes)


INCIDENT = Incident(
    incident_id=7,
    state="open",
    severity="critical",
    cause=HOSTILE,
    upstream=HOSTILE,
    features=(HOSTILE,),
    opened_at=NOON - timedelta(hours=8),
    last_alarm_at=NOON,
    closed_at=None,
    closed_because=None,
    verdict=None,
    verdict_note=None,
    sentence=HOSTILE,
    because=HOSTILE,
)
PAGE = FeaturePage(
    model="churn",
    models=("churn",),
    name=HOSTILE,
    feature_view=HOSTILE,
    declared=Declared(HOSTILE, HOSTILE, HOSTILE, DriftSettings(), Valid(values=(HOSTILE,)), pii=True),
    definitions=(Definition(HOSTILE, NOON, NOON, HOSTILE), Definition("earlier", NOON, NOON, "select 1")),
    used_by=UsedBy((HOSTILE,), (HOSTILE,), HOSTILE),
    as_of=NOON,
    reports=(Report(SHOWN, FINDING, 1.0, 2.0, 3.0, 4.0, 0.3, 0.31, 0.2, 1.5),),
    shown=SHOWN,
    report=Report(SHOWN, FINDING, 1.0, 2.0, 3.0, 4.0, 0.3, 0.31, 0.2, 1.5),
    windows=(1, 24),
    segments=("all", HOSTILE),
    sources=("snapshot",),
    distribution=compared([HOSTILE, "b"], [HOSTILE, "new"]),
    no_distribution=None,
    course=(point(6), point(0, status="critical", effect=0.3, effect_low=0.2, effect_high=0.4)),
    incidents=(INCIDENT,),
    self_tests=(SelfTest("x60 on 10%", 24, 0, None, True, HOSTILE, NOON),),
)


def html(page: Page, document: Any, **asked: Any) -> str:
    shown = page.shown(document, reader(), Links(reader()))
    return render(f"{page.name}.html", reader(), values_of(page, shown, page.asked(**asked)))


def marks(svg: str, cls: str) -> list[ElementTree.Element]:
    return [each for each in ElementTree.fromstring(svg).iter() if cls in each.get("class", "").split()]


# All features


def test_a_feature_leads_to_its_page_and_what_dbt_does_not_know_leads_nowhere() -> None:
    shown = html(features.PAGE, features_of(watched("a&b"), watched("unknown", is_declared=False)))
    assert 'href="feature?model=churn&amp;name=a%26b' in shown
    assert "name=unknown" not in shown


def test_names_of_features_are_text() -> None:
    shown = html(features.PAGE, features_of(watched(HOSTILE, finding=replace(FINDING, detail=HOSTILE))))
    assert "<script>alert" not in shown
    assert "{{ 7 * 7 }}" in shown


def test_before_the_first_report_the_page_names_the_dag_and_what_has_to_run_before() -> None:
    shown = html(features.PAGE, replace(features_of(), as_of=None, newest_as_of=None))
    for dag in ("churn_drift", "materialize_features", "churn_training", "churn_scoring", "churn_inference"):
        assert f'href="../dags/{dag}"' in shown


def test_reports_of_an_earlier_instant_say_where_the_newest_are() -> None:
    earlier = replace(features_of(watched("a")), as_of=NOON - timedelta(days=1))
    assert "The newest reports" in html(features.PAGE, earlier)
    assert "The newest reports" not in html(features.PAGE, features_of(watched("a")))


def test_a_model_is_chosen_where_there_are_several() -> None:
    assert '<select id="choose-model"' in html(features.PAGE, features_of(watched("a")))


def test_where_a_finding_was_seen_is_said_in_short() -> None:
    assert features.compared(FINDING) == "24 h, training"
    elsewhere = replace(FINDING, segment="frequent", source="inference_log", baseline="serving", window_hours=1)
    assert features.compared(elsewhere) == "1 h, serving, frequent, inference log"
    assert features.compared(Finding("off", "")) is None


def test_a_trend_of_one_day_is_a_dot_beside_the_floor() -> None:
    shown = features.PAGE.shown(features_of(watched("a")), reader(), Links(reader()))
    trend = next(column for column in shown.tables[0].columns if column.key == "trend")
    assert trend.draw is not None
    svg = str(trend.draw(watched("a")))
    (line,) = marks(svg, "line")
    assert line.get("d", "").endswith("h0")
    assert len(marks(svg, "rule")) == 1
    assert str(trend.draw(watched("a", trend=(None,) * TREND_DAYS))) == "–"  # noqa: RUF001


# One feature


def test_everything_about_a_feature_is_text() -> None:
    shown = html(feature.PAGE, PAGE, name=HOSTILE)
    assert "<script>alert" not in shown
    assert "49" not in shown.split("<main")[1].split("{{")[0]


def test_the_comparison_is_chosen_by_links_that_keep_the_others() -> None:
    shown = html(feature.PAGE, replace(PAGE, name="a", segments=("all", "frequent")), name="a")
    link = 'href="feature?model=churn&amp;name=a&amp;window=1&amp;baseline=training&amp;segment=all&amp;source=snapshot'
    assert link in shown
    assert "segment=frequent" in shown


def test_a_feature_that_nobody_watches_says_so() -> None:
    unwatched = replace(PAGE.declared, settings=DriftSettings(watch=False))
    assert "drift: off" in html(feature.PAGE, replace(PAGE, declared=unwatched), name="a")
    assert "drift: off" not in html(feature.PAGE, PAGE, name="a")


def test_a_feature_without_reports_names_the_dag() -> None:
    empty = replace(PAGE, as_of=None, reports=(), report=None, course=(), distribution=None, no_distribution="-")
    assert 'href="../dags/churn_drift"' in html(feature.PAGE, empty, name="a")


def test_only_the_newest_points_stand_in_the_page_and_all_in_the_csv() -> None:
    course = tuple(point(6 * place) for place in reversed(range(MOST_POINTS)))
    page = replace(PAGE, name="a", course=course)
    shown = feature.PAGE.shown(page, reader(), Links(reader()))
    table = next(table for table in shown.tables if table.name == "course")
    assert len(table.rows) == MOST_POINTS
    assert table.rows[0].as_of == NOON
    text = html(feature.PAGE, page, name="a")
    assert "all 360 as CSV" in text
    assert text.count('data-label="Reports"') == feature.SHOWN_POINTS


def test_self_tests_are_found_blind_or_of_clean_history() -> None:
    (test,) = PAGE.self_tests
    assert feature.result_of(test) == "blind"
    assert feature.result_of(replace(test, is_blind=False)) == "found"
    assert feature.result_of(replace(test, injection="none")) == "clean history"


# Charts


def test_areas_of_bars_are_shares() -> None:
    random = np.random.default_rng(1)
    shown = compared(random.normal(30, 5, 2000), random.normal(33, 5, 2000))
    figure = beside_baseline(replace(PAGE, name="a", distribution=shown), shown, Formats(reader()))
    boxes = marks(figure.svg, "bar")
    assert len(boxes) == len(shown.bars)
    area = sum(float(box.get("width", 0)) * float(box.get("height", 0)) for box in boxes)
    unit = (figure.x.end - figure.x.start) * (figure.y.start - figure.y.end)
    whole = (figure.x.high - figure.x.low) * (figure.y.high - figure.y.low)
    assert area / unit * whole == pytest.approx(sum(bar.before for bar in shown.bars), rel=0.02)
    assert sum(density(bar.now, bar) * (bar.width or 0) for bar in shown.bars) == pytest.approx(
        sum(bar.now for bar in shown.bars)
    )


def test_each_category_has_two_bars_and_long_names_are_cut() -> None:
    shown = compared(["a" * 500, "b"], ["b", "c"])
    svg = beside_baseline(replace(PAGE, distribution=shown), shown, Formats(reader())).svg
    assert (len(marks(svg, "before")), len(marks(svg, "now"))) == (len(shown.bars), len(shown.bars))
    assert max(len(text.text or "") for text in ElementTree.fromstring(svg).iter("text")) < 60


def test_what_is_not_drawn_is_said() -> None:
    before = np.random.default_rng(1).normal(30, 5, 2000)
    now = np.where(np.arange(2000) % 50 == 0, 60 * before, before)
    shown = compared(before, now)
    assert shown.high is not None
    beyond = f"{np.mean(now >= shown.high):.1%} now and {np.mean(before >= shown.high):.1%} before"
    (sentence,) = outside(shown, Formats(reader()))
    assert sentence == f"Not drawn, so that the bulk can be seen: {beyond} are above {shown.high:.4g}."
    (missing_values,) = outside(compared([1.5, 2.5], [1.5, np.nan]), Formats(reader()))
    assert missing_values == "Of all rows, 50.0% now and 0.0% before have no value."


def test_effects_are_drawn_in_floors_with_alarms_and_incidents() -> None:
    course = (
        point(12),
        point(6, status="warning", effect=0.06, effect_low=0.05, effect_high=0.07),
        point(3, status="missing_feature", effect=None, effect_low=None, effect_high=None, effect_floor=None),
        point(0, status="critical", decided_by="invalid", effect=0.001, effect_low=0.001, effect_floor=0.0),
    )
    figure = effects(replace(PAGE, course=course), Formats(reader()), reader())
    dots = {dot.get("class"): dot for dot in marks(figure.svg, "dot")}
    assert float(dots["dot warn"].get("cy", 0)) == figure.y(1.5)
    assert float(dots["dot now"].get("cy", 0)) == figure.y(0.5)
    assert [float(dot.get("cy", 0)) for dot in marks(figure.svg, "bad") if dot.tag == "circle"] == [
        figure.y(figure.y.high),
        figure.y(MOST_FLOORS),
    ]
    (shade,) = marks(figure.svg, "shade")
    assert float(shade.get("x", 0)) == figure.x(INCIDENT.opened_at)
    assert float(shade.get("x", 0)) + float(shade.get("width", 0)) == pytest.approx(figure.x.end, abs=0.2)
    assert "Cut off at 8 floors" in figure.subtitle


def test_an_incident_before_the_picture_is_not_in_it() -> None:
    past = replace(INCIDENT, opened_at=datetime(2000, 1, 1, tzinfo=UTC), last_alarm_at=datetime(2000, 1, 2, tzinfo=UTC))
    past = replace(past, state="closed", closed_at=datetime(2000, 1, 3, tzinfo=UTC))
    assert marks(effects(replace(PAGE, incidents=(past,)), Formats(reader()), reader()).svg, "shade") == []


def test_missing_values_are_drawn_against_their_floor() -> None:
    figure = missing(replace(PAGE, course=(point(6, missing_rate=0.3), point(0))), Formats(reader()), reader())
    heights = [float(dot.get("cy", 0)) for dot in marks(figure.svg, "dot")]
    assert heights == [figure.y(0.3), figure.y(0.01)]
    assert len(marks(figure.svg, "rule")) == 1
