"""One feature: what it is, how it looks beside its baseline, how it strayed, its incidents and its self-test."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from features import warehouse
from features.contract import Contract, DriftSettings, Model
from features.drift.decision import judge
from features.drift.profile import Profile
from features.drift.sketch import Grid, Sketch
from features.errors import SkewlessError
from features.health.feature import FeaturePage, feature_page
from features.health.reading import read
from features.health.strayed import COURSE, MOST_POINTS, Comparison, missing_floor
from features.steps.watch import WORST_FIRST
from tests.databases import execute
from tests.health.reporting import AS_OF, BLIND, INCIDENT, OK, SELF_TEST, SICK, insert, report
from tests.steps.drift_warehouse import (
    become_champion,
    by_default,
    changed,
    healthy,
    hours_before,
    serve,
    serve_again,
    start_over,
    train,
    watch,
    with_feature,
)

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NAME = "session_count"


@pytest.fixture
def connection(drift_tables: None) -> Iterator[warehouse.Connection]:
    start_over()
    execute("truncate monitoring.drift_self_tests")
    with warehouse.connect(autocommit=True) as opened:
        yield opened


def page(contract: Contract, name: str = NAME, **asked: Any) -> FeaturePage:
    with read() as reading:
        return feature_page(reading, contract, "churn", name, **asked)


def with_model(contract: Contract, model: Model) -> Contract:
    return contract.model_copy(update={"models": {model.name: model}})


# What it is


def test_a_feature_is_what_dbt_says(contract: Contract, connection: warehouse.Connection) -> None:
    found = page(contract, "days_since_last_session")
    declared = found.declared
    assert declared.description.startswith("Whole days from the start of the last session")
    assert (declared.data_type, declared.pii) == ("bigint", False)
    assert (declared.valid.minimum, declared.valid.maximum) == (0, 999)
    assert declared.settings == DriftSettings()
    assert "features@example.com" in declared.owner
    assert found.feature_view == "user_session_features"
    assert found.used_by.models == ("churn",)
    assert found.used_by.training_sets == ("training.churn_training_set",)
    assert found.used_by.serving == "serving.user_features"


def test_definitions_are_there_with_the_one_that_was_built_last_on_top(
    contract: Contract, connection: warehouse.Connection
) -> None:
    execute("delete from features.feature_versions")
    for version, view, first, last in (
        ("old", "user_session_features", AS_OF - 9 * DAY, AS_OF - 5 * DAY),
        ("new", "user_session_features", AS_OF - 5 * DAY, AS_OF),
        ("another", "user_variety_features", AS_OF, AS_OF + DAY),
    ):
        execute(
            "insert into features.feature_versions values (%s, %s, %s, %s, %s)",
            view,
            version,
            f"select {version}",
            first,
            last,
        )
    definitions = page(contract).definitions
    assert [(one.feature_version, one.sql) for one in definitions] == [("new", "select new"), ("old", "select old")]
    assert (definitions[0].first_built_at, definitions[0].last_built_at) == (AS_OF - 5 * DAY, AS_OF)


def test_scores_and_labels_are_watched_like_features_and_have_no_definition(
    contract: Contract, connection: warehouse.Connection
) -> None:
    report(connection, feature="(label)", source="labels", window_hours=168)
    label = page(contract, "(label)")
    assert (label.declared.data_type, label.definitions, label.shown.source) == ("boolean", (), "labels")
    prediction = page(contract, "(prediction)")
    assert (prediction.declared.valid.minimum, prediction.declared.valid.maximum) == (0, 1)
    assert prediction.declared.owner == contract.model("churn").owner


def test_a_name_that_is_no_feature_is_answered_with_those_there_are(
    contract: Contract, connection: warehouse.Connection
) -> None:
    with pytest.raises(SkewlessError, match=r"churn has no feature 'sesion_count'; it has session_count, .*\(label\)"):
        page(contract, "sesion_count")


def test_before_any_report_there_is_nothing_but_what_dbt_says(
    contract: Contract, connection: warehouse.Connection
) -> None:
    found = page(contract)
    assert (found.as_of, found.reports, found.report, found.course, found.incidents, found.self_tests) == (
        *(None, (), None),
        *((), (), ()),
    )
    assert found.distribution is None
    assert found.no_distribution == "There is no report of this comparison."


def test_what_nobody_watches_still_shows_what_was_reported_before(
    contract: Contract, connection: warehouse.Connection
) -> None:
    report(connection)
    unwatched = with_feature(contract.model("churn"), NAME, drift=DriftSettings(watch=False))
    found = page(with_model(contract, unwatched))
    assert not found.declared.settings.watch
    assert len(found.reports) == 1


# Which comparison


def test_the_day_is_shown_unless_another_window_is_the_one_that_could_be_judged(
    contract: Contract, connection: warehouse.Connection
) -> None:
    report(connection, window_hours=1)
    report(connection, window_hours=6)
    insert(connection, "drift_reports", BLIND)
    assert page(contract).shown == Comparison("snapshot", "all", 1, "training")
    report(connection, baseline="serving")
    assert page(contract).shown == Comparison("snapshot", "all", 24, "serving")
    report(connection, source="inference_log")
    assert page(contract).shown == Comparison("snapshot", "all", 24, "serving")


def test_what_is_asked_for_is_shown_and_the_rest_follows(contract: Contract, connection: warehouse.Connection) -> None:
    report(connection, window_hours=1)
    report(connection, window_hours=6, baseline="serving", segment="frequent", effect=0.07)
    found = page(contract, segment="frequent")
    assert found.shown == Comparison("snapshot", "frequent", 6, "serving")
    assert found.report is not None
    assert found.report.finding.effect == 0.07
    nothing = page(contract, window=168, baseline="serving")
    assert (nothing.shown, nothing.report) == (Comparison("snapshot", "all", 168, "serving"), None)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"window": 5}, "5 hours are no window of churn; there are 1, 6, 24, 168."),
        ({"segment": "nobody"}, "nobody is no segment of churn; there are all, frequent."),
        ({"source": "dreams"}, "dreams is no source of churn; there are snapshot, labels, inference_log."),
        ({"baseline": "none"}, "none is no baseline of churn; there are training, serving."),
    ],
)
def test_what_there_is_not_is_answered_with_what_there_is(
    contract: Contract, connection: warehouse.Connection, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(SkewlessError) as raised:
        page(contract, **asked)
    assert str(raised.value) == message


def test_newest_reports_are_those_of_the_version_looked_at_last(
    contract: Contract, connection: warehouse.Connection
) -> None:
    insert(connection, "drift_reports", SICK | {"reported_at": AS_OF}, SICK | {"as_of": AS_OF - HOUR})
    report(connection, model_version="2", reported_at=AS_OF + HOUR, psi=0.125, training_mean=2.5)
    (found,) = page(contract).reports
    assert (found.finding.model_version, found.finding.status, found.psi, found.training_mean) == (
        "2",
        "ok",
        0.125,
        2.5,
    )


# Over time


def test_a_course_is_the_worst_of_each_quarter_day(contract: Contract, connection: warehouse.Connection) -> None:
    report(connection, missing_rate=0.0)
    report(connection, as_of=AS_OF - 2 * HOUR, effect=0.09, effect_low=0.05, status="warning", missing_rate=0.02)
    report(connection, as_of=AS_OF - 5 * HOUR, effect=0.30, effect_low=0.0, effect_high=0.7, missing_rate=0.3)
    report(connection, as_of=AS_OF - 6 * HOUR)
    report(connection, as_of=AS_OF - 90 * DAY)
    report(connection, as_of=AS_OF - 3 * HOUR, window_hours=1, effect=0.8, status="critical")
    course = page(contract).course
    assert [(point.as_of, point.reports, point.status, point.effect, point.missing_rate) for point in course] == [
        (AS_OF - 6 * HOUR, 1, "ok", 0.02, 0.01),
        (AS_OF - 2 * HOUR, 3, "warning", 0.09, 0.3),
    ]
    assert course[0].missing_floor == pytest.approx(0.015)
    assert (course[1].effect_floor, course[1].critical_floor) == (0.04, 0.10)


@pytest.mark.parametrize("seed", range(3))
def test_a_course_is_that_of_a_naive_reading_of_random_reports(
    contract: Contract, connection: warehouse.Connection, seed: int
) -> None:
    rows = random_reports(seed)
    insert(connection, "drift_reports", *rows)
    found = page(contract, window=24, baseline="training", segment="all", source="snapshot").course
    assert len(found) <= MOST_POINTS
    assert [
        (point.as_of, point.reports, point.status, point.effect_low, point.missing_rate) for point in found
    ] == naive_course(rows)


def random_reports(seed: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    back = sorted({0, *(int(minutes) for minutes in random.integers(0, 100 * 24 * 60, 900))})
    rows = []
    for minutes in back:
        judged = bool(random.random() < 0.8)
        rows.append(
            OK
            | {
                "as_of": AS_OF - timedelta(minutes=minutes),
                "status": str(random.choice(["ok", "warning", "critical"])) if judged else "insufficient_data",
                "effect": float(random.random()) if judged else None,
                "effect_low": float(random.random()) if judged else None,
                "effect_floor": float(random.choice([0.04, 0.08])) if judged else None,
                "missing_rate": float(random.random()) if random.random() < 0.9 else None,
                "window_hours": int(random.choice([24, 24, 24, 1])),
                "segment": str(random.choice(["all", "all", "all", "frequent"])),
            }
        )
    return rows


def naive_course(rows: list[dict[str, Any]]) -> list[tuple[datetime, int, str, float | None, float | None]]:
    """Cut the 90 days before the newest report into 360 pieces, and of each take the worst."""
    newest = max(row["as_of"] for row in rows)
    found = []
    for place in range(MOST_POINTS):
        end = newest - place * COURSE / MOST_POINTS
        piece = [
            row
            for row in rows
            if end - COURSE / MOST_POINTS < row["as_of"] <= end and (row["window_hours"], row["segment"]) == (24, "all")
        ]
        if piece:
            worst = min(piece, key=naive_badness)
            missing = max((row["missing_rate"] for row in piece if row["missing_rate"] is not None), default=None)
            found.append((worst["as_of"], len(piece), worst["status"], worst["effect_low"], missing))
    return found[::-1]


def naive_badness(row: dict[str, Any]) -> tuple[int, float, float]:
    place = [str(status) for status in WORST_FIRST].index(row["status"])
    low = -np.inf if row["effect_low"] is None else row["effect_low"] / row["effect_floor"]
    return place, -low, -row["as_of"].timestamp()


@pytest.mark.parametrize("usual", [0.0, 0.004, 0.02, 0.3])
def test_the_floor_of_missing_values_is_that_of_the_monitor(usual: float) -> None:
    settings = DriftSettings(missing_warning=0.007)
    grid = Grid.of([0.5, 1.5])
    missing = round(usual * 1000)
    expected = Profile.of(Sketch.of([0.5] * (1000 - missing) + [np.nan] * missing, grid))
    now = Profile.of(Sketch.of([0.5] * 500 + [np.nan] * 500, grid))
    effect = judge(now, expected, grid, settings, 1e-6).effects["missing"]
    assert missing_floor(usual, settings) == pytest.approx(effect.warning)


# Incidents and self-tests


def test_incidents_of_the_feature_are_there_open_ones_first(
    contract: Contract, connection: warehouse.Connection
) -> None:
    closed = {"closed_at": AS_OF, "closed_because": "no alarm", "verdict": "benign"}
    insert(
        connection,
        "drift_incidents",
        INCIDENT | {"opened_at": AS_OF - 9 * DAY},
        INCIDENT | closed | {"opened_at": AS_OF - DAY},
        INCIDENT | closed | {"opened_at": AS_OF - 2 * DAY, "features": ["(rows)", NAME], "findings": []},
        INCIDENT | closed | {"features": ["sessions_last_7_days"]},
        INCIDENT | closed | {"model_name": "another"},
    )
    found = page(contract).incidents
    assert [(one.state, one.opened_at) for one in found] == [
        ("open", AS_OF - 9 * DAY),
        ("closed", AS_OF - DAY),
        ("closed", AS_OF - 2 * DAY),
    ]
    assert (found[0].sentence, found[0].because, found[0].verdict) == ("distance 0.3.", "all by 60", None)
    assert (found[2].features, found[2].sentence, found[2].verdict) == (("(rows)", NAME), "", "benign")


def test_the_newest_self_test_says_what_would_be_found(contract: Contract, connection: warehouse.Connection) -> None:
    insert(
        connection,
        "drift_self_tests",
        SELF_TEST | {"as_of": AS_OF - DAY, "injection": "x60 on 10%"},
        SELF_TEST,
        SELF_TEST | {"injection": "none", "alarms": 0, "found_after_hours": None},
        SELF_TEST | {"injection": "5% default fill", "alarms": 0, "found_after_hours": None, "is_blind": True},
        SELF_TEST | {"feature": "sessions_last_7_days", "as_of": AS_OF + DAY},
    )
    found = page(contract).self_tests
    assert [(one.injection, one.found_after_hours, one.is_blind) for one in found] == [
        ("none", None, False),
        ("0.25 sigma", 5, False),
        ("5% default fill", None, True),
    ]


# What it looks like


def test_the_distribution_is_that_of_the_rows_that_were_trained_on_and_served(
    contract: Contract, connection: warehouse.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    churn = by_default(contract.model("churn"))
    become_champion(monkeypatch, "1")
    train(churn)
    now = healthy()["avg_session_duration_minutes"] + 4
    served = changed(avg_session_duration_minutes=now)
    serve(AS_OF, served)
    serve_again(hours_before(5))
    watch(churn, AS_OF, "avg_session_duration_minutes")
    found = page(with_model(contract, churn), "avg_session_duration_minutes", window=6)
    assert found.report is not None
    assert found.report.finding.status == "critical"
    before, shown = healthy()["avg_session_duration_minutes"], found.distribution
    assert shown is not None
    for bar in shown.bars[1:-1]:
        assert bar.low is not None
        assert bar.high is not None
        assert bar.before == pytest.approx(np.mean((before >= bar.low) & (before < bar.high)), abs=1e-9)
        assert bar.now == pytest.approx(np.mean((now >= bar.low) & (now < bar.high)), abs=1e-9)
    assert found.report.serving_mean == pytest.approx(now.mean())


def test_a_categorical_feature_has_a_bar_for_each_category(
    contract: Contract, connection: warehouse.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    churn = with_feature(by_default(contract.model("churn")), "country", data_type="text")
    become_champion(monkeypatch, "1")
    train(churn)
    serve(AS_OF, changed(country=np.resize(["276", "276", "250", "<i>"], 2000)))
    watch(churn, AS_OF, "country")
    shown = page(with_model(contract, churn), "country", window=1).distribution
    assert shown is not None
    assert {bar.label: (bar.before, bar.now) for bar in shown.bars} == {
        "250": (0.25, 0.25),
        "276": (0.25, 0.5),
        "554": (0.25, 0.0),
        "840": (0.25, 0.0),
        "new categories": (0.0, 0.25),
    }


def test_counts_that_are_not_kept_any_more_are_said_to_be_gone(
    contract: Contract, connection: warehouse.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    churn = by_default(contract.model("churn"))
    become_champion(monkeypatch, "1")
    train(churn)
    serve(AS_OF, healthy())
    watch(churn, AS_OF, NAME)
    execute("delete from monitoring.sketches")
    found = page(with_model(contract, churn), window=1)
    assert found.distribution is None
    assert found.no_distribution == "The counts of this window are not kept any more, or it has none."


def test_without_a_baseline_the_report_says_why_there_is_no_picture(
    contract: Contract, connection: warehouse.Connection
) -> None:
    insert(connection, "drift_reports", BLIND | {"status": "baseline_missing", "detail": "There is no champion."})
    assert page(contract).no_distribution == "There is no champion."
