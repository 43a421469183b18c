"""The features of a model: the worst finding of each, the worst first, and how far each strayed in 30 days."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from features import warehouse
from features.contract import Contract, Feature
from features.errors import SkewlessError
from features.health.features import MOST_FLOORS, TREND_DAYS, FeaturesPage, WatchedFeature, features_page
from features.health.reading import read
from tests.health.reporting import AS_OF, BLIND, OK, SICK, insert, report
from tests.steps.drift_warehouse import start_over, with_feature

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def connection(drift_tables: None) -> Iterator[warehouse.Connection]:
    start_over()
    with warehouse.connect(autocommit=True) as opened:
        yield opened


def page(contract: Contract, **asked: Any) -> FeaturesPage:
    with read() as reading:
        return features_page(reading, contract, "churn", **asked)


def row(found: FeaturesPage, name: str) -> WatchedFeature:
    return next(each for each in (*found.features, *found.others) if each.feature == name)


def statuses(found: FeaturesPage) -> dict[str, str]:
    return {each.feature: each.finding.status for each in found.features}


def test_before_any_report_every_feature_is_there_and_none_was_reported(
    contract: Contract, connection: warehouse.Connection
) -> None:
    found = page(contract)
    assert (found.as_of, found.newest_as_of, found.models) == (None, None, tuple(contract.models))
    assert {each.feature for each in found.features} == set(contract.model("churn").feature_names)
    assert {each.finding.status for each in (*found.features, *found.others)} == {"not_reported"}
    assert row(found, "session_count").trend == (None,) * TREND_DAYS


def test_the_worst_of_windows_baselines_and_segments_speaks_for_a_feature(
    contract: Contract, connection: warehouse.Connection
) -> None:
    report(connection, window_hours=1)
    report(connection, window_hours=6, baseline="serving", status="warning", effect=0.06, effect_low=0.05)
    insert(connection, "drift_reports", SICK | {"window_hours": 168, "segment": "frequent", "missing_rate": 0.25})
    insert(connection, "drift_reports", BLIND | {"window_hours": 24})
    finding = row(page(contract), "session_count").finding
    assert (finding.status, finding.effect, finding.effect_low, finding.effect_high) == ("critical", 0.3, 0.2, 0.4)
    assert (finding.window_hours, finding.segment, finding.baseline) == (168, "frequent", "training")
    assert (finding.effect_floor, finding.missing_rate, finding.baseline_missing_rate) == (0.04, 0.25, 0.01)


def test_ok_speaks_before_windows_that_saw_too_little(contract: Contract, connection: warehouse.Connection) -> None:
    report(connection, window_hours=168)
    insert(connection, "drift_reports", *(BLIND | {"window_hours": window} for window in (1, 6, 24)))
    assert row(page(contract), "session_count").finding.status == "ok"


def test_the_worst_feature_comes_first(contract: Contract, connection: warehouse.Connection) -> None:
    report(connection, feature="session_count", effect=0.01)
    report(connection, feature="sessions_last_7_days", effect=0.03)
    insert(
        connection,
        "drift_reports",
        BLIND | {"feature": "sessions_last_30_days"},
        SICK | {"feature": "days_since_last_session", "status": "warning"},
        SICK | {"feature": "(prediction)"},
    )
    found = page(contract)
    assert list(statuses(found).items()) == [
        ("days_since_last_session", "warning"),
        ("avg_session_duration_minutes", "not_reported"),
        ("sessions_last_30_days", "insufficient_data"),
        ("sessions_last_7_days", "ok"),
        ("session_count", "ok"),
    ]
    assert [each.feature for each in found.others] == ["(prediction)", "(label)"]


def test_the_number_of_rows_and_what_dbt_does_not_know_are_shown_where_they_were_reported(
    contract: Contract, connection: warehouse.Connection
) -> None:
    report(connection, feature="(rows)")
    insert(connection, "drift_reports", BLIND | {"feature": "<b>new</b>", "status": "unexpected_feature"})
    found = page(contract)
    assert row(found, "(rows)") in found.others
    assert found.features[0].feature == "<b>new</b>"
    assert not found.features[0].is_declared


def test_what_nobody_watches_comes_last_and_says_so(contract: Contract, connection: warehouse.Connection) -> None:
    churn = with_feature(contract.model("churn"), "session_count", drift=Feature.model_validate(UNWATCHED).drift)
    insert(connection, "drift_reports", OK | {"feature": "sessions_last_7_days"})
    found = page(contract.model_copy(update={"models": {"churn": churn}}))
    assert found.features[-1].feature == "session_count"
    assert found.features[-1].finding.status == "off"
    assert "drift: off" in found.features[-1].finding.detail


UNWATCHED = {"name": "session_count", "description": "", "data_type": "bigint", "drift": "off"}


def test_the_reports_of_one_instant_can_be_asked_for(contract: Contract, connection: warehouse.Connection) -> None:
    insert(connection, "drift_reports", SICK | {"as_of": AS_OF - HOUR}, OK)
    assert row(page(contract), "session_count").finding.status == "ok"
    earlier = page(contract, as_of=AS_OF - HOUR)
    assert (earlier.as_of, earlier.newest_as_of) == (AS_OF - HOUR, AS_OF)
    assert row(earlier, "session_count").finding.status == "critical"
    assert row(page(contract, as_of=AS_OF - DAY), "session_count").finding.status == "not_reported"


def test_of_two_versions_the_one_that_was_looked_at_last_speaks(
    contract: Contract, connection: warehouse.Connection
) -> None:
    report(connection, model_version="2", reported_at=AS_OF + HOUR)
    insert(connection, "drift_reports", SICK | {"model_version": "1", "reported_at": AS_OF})
    finding = row(page(contract), "session_count").finding
    assert (finding.status, finding.model_version) == ("ok", "2")


def test_another_model_has_reports_of_its_own(contract: Contract, connection: warehouse.Connection) -> None:
    insert(connection, "drift_reports", SICK | {"model_name": "another", "as_of": AS_OF + DAY})
    assert page(contract).as_of is None


def test_a_model_that_does_not_exist_is_named(contract: Contract, connection: warehouse.Connection) -> None:
    with read() as reading, pytest.raises(SkewlessError, match=r"'chrun'.*churn"):
        features_page(reading, contract, "chrun")
    with read() as reading, pytest.raises(SkewlessError, match="exposure of type ml"):
        features_page(reading, contract.model_copy(update={"models": {}}), None)


# Trends


def test_a_trend_says_of_each_day_how_many_floors_the_largest_judged_effect_is(
    contract: Contract, connection: warehouse.Connection
) -> None:
    report(connection, effect=0.02)
    report(connection, effect=0.06, baseline="serving", status="warning")
    insert(connection, "drift_reports", BLIND | {"window_hours": 1, "effect": 0.9, "effect_floor": 0.04})
    report(connection, as_of=AS_OF - DAY, effect=0.03, effect_floor=0.01, window_hours=1)
    report(connection, as_of=AS_OF - 29 * DAY, effect=0.01, effect_floor=0.0, decided_by="invalid")
    report(connection, as_of=AS_OF - 30 * DAY, effect=0.04)
    trend = row(page(contract), "session_count").trend
    expected: list[float | None] = [None] * TREND_DAYS
    expected[29], expected[28], expected[0] = 0.06 / 0.04, 3.0, MOST_FLOORS
    assert trend == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_trends_are_those_of_a_naive_reading_of_random_reports(
    contract: Contract, connection: warehouse.Connection, seed: int
) -> None:
    rows = random_reports(seed)
    insert(connection, "drift_reports", *rows)
    found = page(contract)
    for name in ("session_count", "sessions_last_7_days"):
        assert row(found, name).trend == pytest.approx(naive_trend(rows, name))


def random_reports(seed: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    instants = [AS_OF, *(AS_OF - timedelta(minutes=int(at)) for at in random.integers(1, 35 * 24 * 60, 150))]
    return [
        OK
        | {
            "as_of": at,
            "feature": name,
            "window_hours": window,
            "status": str(random.choice(["ok", "critical", "insufficient_data"])),
            "effect": float(random.choice([0.0, 0.02, random.random()])),
            "effect_floor": float(random.choice([0.0, 0.04])),
        }
        for at in sorted(set(instants))
        for name in ("session_count", "sessions_last_7_days")
        for window in (1, 24)
    ]


def naive_trend(rows: list[dict[str, Any]], name: str) -> list[float | None]:
    """Of each day the newest instant; of its reports the most floors."""
    newest = max(each["as_of"] for each in rows)
    days: list[list[float]] = [[] for _ in range(TREND_DAYS)]
    for place in range(TREND_DAYS):
        end = newest - place * DAY
        instants = [each["as_of"] for each in rows if end - DAY < each["as_of"] <= end]
        for each in rows:
            is_looked_at = instants and each["as_of"] == max(instants) and each["feature"] == name
            if is_looked_at and each["status"] in {"ok", "critical"}:
                days[-1 - place].append(naive_floors(each["effect"], each["effect_floor"]))
    return [max(day, default=None) for day in days]


def naive_floors(effect: float, floor: float) -> float:
    if floor:
        return min(effect / floor, MOST_FLOORS)
    return MOST_FLOORS if effect else 0.0
