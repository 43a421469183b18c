"""The overview: fresh or stale by the clock, equal or differing, drifting or not, and the worst first."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from features import warehouse
from features.contract import Contract
from features.health.overview import Overview, overview
from features.health.reading import read

NOON = datetime(2026, 6, 30, 12, tzinfo=UTC)
VIEW = "user_session_features"
HOUR = timedelta(hours=1)

pytestmark = pytest.mark.usefixtures("manifest", "empty_warehouse")


@pytest.fixture
def writer() -> Any:
    """Writes rows of a table, each given by column."""

    def write(table: str, *rows: dict[str, Any]) -> None:
        with warehouse.connect() as connection:
            for row in rows:
                warehouse.insert(connection, table, row)

    return write


def look(contract: Contract, at: datetime = NOON) -> Overview:
    with read() as connection:
        return overview(connection, contract, at)


def publication(as_of: datetime, retired: datetime | None = None, view: str = VIEW) -> dict[str, Any]:
    return {
        "feature_view": view,
        "as_of": as_of,
        "feature_version": "v1",
        "row_count": 42,
        "published_at": as_of + timedelta(minutes=5),
        "retired_at": retired,
    }


def report(feature: str, status: str, as_of: datetime, window: int = 24, **more: Any) -> dict[str, Any]:
    row = {
        "model_name": "churn",
        "model_version": "1",
        "feature": feature,
        "as_of": as_of,
        "status": status,
        "n": 10,
        "drift_detected": status in {"warning", "critical"},
        "detail": "seen",
        "window_hours": window,
    }
    return row | more


def test_an_empty_warehouse_has_everything_that_is_declared(contract: Contract) -> None:
    found = look(contract)
    assert {view.feature_view for view in found.feature_views} == set(contract.feature_views)
    assert {view.freshness for view in found.feature_views} == {"unpublished"}
    assert [(model.model, model.champion, model.age) for model in found.models] == [("churn", None, "none")]
    assert found.incidents == ()
    assert found.newest_as_of is None


@pytest.mark.parametrize(
    ("after", "freshness"), [(HOUR, "fresh"), (3 * HOUR - timedelta(seconds=1), "fresh"), (3 * HOUR, "stale")]
)
def test_a_snapshot_is_stale_from_its_expiry_on(
    contract: Contract, writer: Any, after: timedelta, freshness: str
) -> None:
    writer("serving.publications", publication(NOON - 2 * HOUR, NOON - HOUR), publication(NOON - HOUR))
    view = next(view for view in look(contract, NOON - HOUR + after).feature_views if view.feature_view == VIEW)
    assert (view.freshness, view.as_of, view.expires_at, view.rows) == (freshness, NOON - HOUR, NOON + 2 * HOUR, 42)


def test_what_is_worst_comes_first(contract: Contract, writer: Any) -> None:
    names = list(contract.feature_views)
    writer("serving.publications", *(publication(NOON, view=name) for name in names[1:]))
    assert look(contract).feature_views[0].feature_view == names[0]  # it is not published


def test_parity_is_that_of_what_is_live(contract: Contract, writer: Any) -> None:
    writer("serving.publications", publication(NOON - HOUR, NOON), publication(NOON))
    for number, (feature, mismatches) in enumerate([("a", 9), ("a", 2), ("b", 1)]):
        audit = {
            "publication_id": 1 if number == 0 else 2,
            "feature": feature,
            "feature_view": VIEW,
            "as_of": NOON,
            "feature_version": "v1",
            "rows_compared": 42,
            "mismatches": mismatches,
            "example_keys": "[]",
        }
        writer("monitoring.parity_audits", audit)
    # What was really served is another question.
    served = {"source": "inference_log", "model_name": "churn", "publication_id": 2, "feature": "a"}
    rest = {"feature_view": VIEW, "as_of": NOON, "feature_version": "v1", "example_keys": "[]"}
    writer("monitoring.parity_audits", served | rest | {"rows_compared": 5, "mismatches": 5})
    view = next(view for view in look(contract).feature_views if view.feature_view == VIEW)
    assert (view.cells_differing, view.cells_compared) == (3, 84)


def test_the_worst_drift_is_of_the_newest_reports(contract: Contract, writer: Any) -> None:
    writer(
        "monitoring.drift_reports",
        report("session_count", "critical", NOON - HOUR),
        report("session_count", "ok", NOON),
        report("days_since_last_session", "warning", NOON, 24),
        report("days_since_last_session", "ok", NOON, 1),
        report("(rows)", "critical", NOON),
    )
    view = next(view for view in look(contract).feature_views if view.feature_view == VIEW)
    assert (view.worst_drift, view.worst_feature, view.worst_model) == ("warning", "days_since_last_session", "churn")


def test_not_having_looked_is_worse_than_what_was_found(contract: Contract, writer: Any) -> None:
    writer(
        "monitoring.drift_reports",
        report("session_count", "critical", NOON),
        report("sessions_last_7_days", "error", NOON),
    )
    view = next(view for view in look(contract).feature_views if view.feature_view == VIEW)
    assert (view.worst_drift, view.worst_feature) == ("error", "sessions_last_7_days")


def test_tests_are_those_of_the_newest_as_of_as_they_ended_last(contract: Contract, writer: Any) -> None:
    def ran(invocation: str, name: str, status: str, as_of: datetime, minute: int) -> dict[str, Any]:
        return {
            "dbt_invocation_id": invocation,
            "unique_id": f"test.skewless.{name}",
            "resource_type": "test",
            "name": name,
            "dbt_model": VIEW,
            "status": status,
            "seconds": 0.1,
            "as_of": as_of,
            "ran_at": NOON + timedelta(minutes=minute),
        }

    writer(
        "monitoring.dbt_results",
        ran("1", "deleted", "fail", NOON - HOUR, 0),
        ran("2", "one", "fail", NOON, 1),
        ran("3", "one", "pass", NOON, 2),
        ran("3", "two", "error", NOON, 2),
        ran("3", "three", "skipped", NOON, 2),
        ran("3", "four", "warn", NOON, 2),
    )
    view = next(view for view in look(contract).feature_views if view.feature_view == VIEW)
    assert (view.tests_failed, view.tests_run) == (1, 3)


def incident(number: str, severity: str, *, data: bool, opened: datetime, **more: Any) -> dict[str, Any]:
    row = {
        "model_name": "churn",
        "upstream": number,
        "cause": "NULL burst" if data else "genuine",
        "is_data_incident": data,
        "severity": severity,
        "features": ["session_count"],
        "owner": "someone",
        "summary": f"summary of {number}",
        "findings": "[]",
        "opened_at": opened,
        "last_alarm_at": NOON,
    }
    return row | more


def test_open_incidents_come_by_severity_then_cause_then_age(contract: Contract, writer: Any) -> None:
    writer(
        "monitoring.drift_incidents",
        incident("young", "warning", data=False, opened=NOON),
        incident("old", "warning", data=False, opened=NOON - HOUR),
        incident("sick", "warning", data=True, opened=NOON),
        incident("grave", "critical", data=False, opened=NOON),
        incident("excused", "critical", data=True, opened=NOON, verdict="genuine"),
        incident("over", "critical", data=True, opened=NOON, closed_at=NOON),
    )
    found = look(contract)
    assert [one.upstream for one in found.incidents] == ["excused", "grave", "sick", "old", "young"]
    assert [one.upstream for one in found.incidents if one.blocks_retraining] == ["sick"]
    assert found.models[0].incidents == 5


def test_a_champion_is_due_by_the_clock(contract: Contract, writer: Any) -> None:
    evaluation = {
        "model_name": "churn",
        "model_version": "1",
        "as_of": NOON,
        "metrics": '{"roc_auc": 0.8}',
        "train_rows": 10,
        "holdout_rows": 5,
        "extract_id": "e",
        "promoted": True,
        "reason": "good",
    }
    reign = {"model_name": "churn", "model_version": "1", "feature_version": "v1", "kind": "promotion"}
    writer("monitoring.model_evaluations", evaluation)
    writer("monitoring.champions", reign | {"because": "good"})
    young, due = (look(contract, NOON + timedelta(days=days)).models[0] for days in (29.5, 30))
    assert (young.champion, young.age, young.age_days, young.max_age_days) == ("1", "young", 29.5, 30)
    assert (due.age, due.holdout) == ("due", 0.8)
