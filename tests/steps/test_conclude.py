"""Concluding: what breaks together is one incident, told once, again ever more rarely, and closed when it is quiet."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from features import warehouse
from features.contract import Contract, Model, Severity
from features.drift import DriftStatus
from features.drift.cause import STALE_HOURS
from features.drift.counting import Population
from features.drift.incident import QUIET_HOURS, Incident
from features.drift.incidents import open_incidents, resolve
from features.drift.report import FeatureDriftReport, Subject
from features.drift.sources import LABEL, PREDICTION
from features.drift.store import write_reports
from features.errors import SkewlessError
from features.steps.conclude import ROWS, conclude, volume_report
from features.steps.watch import plan, watch_feature
from tests.databases import execute, rows
from tests.steps.drift_warehouse import (
    AS_OF,
    FEATURES,
    HOUR,
    USERS,
    become_champion,
    by_default,
    changed,
    healthy,
    hours_before,
    report,
    serve,
    serve_again,
    train,
)

pytestmark = pytest.mark.usefixtures("first_champion")

COUNT, MINUTES, DAYS, WEEKLY, MONTHLY = FEATURES
PLANNED: dict[str, Any] = {"champion": "1", "features": [*FEATURES, PREDICTION, LABEL], "alpha": 1e-5}


@pytest.fixture(scope="module")
def churn(contract: Contract) -> Model:
    return by_default(contract.model("churn"))


def calm(feature: str = COUNT, **changes: Any) -> dict[str, Any]:
    """What the task of a feature returns when all is well."""
    return {
        "feature": feature,
        "status": "ok",
        "severity": 0,
        "detail": "distance 0.010 (0.000 to 0.020), floors 0.040 and 0.100.",
        "where": "snapshot, 1 h, against training",
        "n": 2000,
        "alarm": None,
        "hours_unchanged": 0,
        "longest_pause": 1,
        "is_dropped": False,
    } | changes


def alarming(feature: str = COUNT, cause: str = "unit change", *, severity: int = 2, **changes: Any) -> dict[str, Any]:
    """What the task of a feature returns when it alarms."""
    alarm = {
        "severity": severity,
        "cause": cause,
        "because": "all values are as before x 60",
        "detail": "",
        "where": "",
    }
    status = {1: "warning", 2: "critical"}[severity]
    return calm(feature, status=status, severity=severity, alarm=alarm, **changes)


def concluded(model: Model, *findings: dict[str, Any], at: datetime = AS_OF) -> dict[str, Any]:
    """What an hour's conclusion says when the other features are calm."""
    heard = {finding["feature"] for finding in findings}
    others = [calm(name) for name in PLANNED["features"] if name not in heard]
    return conclude(model, PLANNED, [*findings, *others], at)


def events(facts: dict[str, Any]) -> list[tuple[str, list[str]]]:
    return [(event["event"], event["features"]) for event in facts["events"]]


def incidents(model: Model) -> list[Incident]:
    with warehouse.connect() as connection:
        return open_incidents(connection, model)


def stored() -> list[tuple[Any, ...]]:
    return rows("select * from monitoring.drift_incidents order by incident_id")


# What was served


@pytest.mark.parametrize(("cause", "severity"), [("changed logic", "critical"), ("backdated data", "warning")])
def test_what_was_served_otherwise_than_defined_is_an_incident(churn: Model, cause: str, severity: str) -> None:
    execute(
        "insert into monitoring.parity_audits (publication_id, source, model_name, feature, feature_view, as_of,"
        " feature_version, rows_compared, mismatches, example_keys, cause)"
        " values (1, 'inference_log', 'churn', %s, 'view', %s, 'v1', 400, 3, '[]', %s)",
        MINUTES,
        AS_OF,
        cause,
    )
    try:
        (event,) = concluded(churn)["events"]
    finally:
        execute("delete from monitoring.parity_audits where source = 'inference_log'")
    assert (event["cause"], event["severity"]) == ("served otherwise than defined", severity)
    assert event["features"] == [MINUTES]
    assert event["blocks_retraining"]
    assert f"3 of 400 served values differ, by {cause}" in event["summary"]


# An incident's life


def test_an_hour_without_an_alarm_opens_nothing(churn: Model) -> None:
    facts = concluded(churn)
    assert facts["events"] == []
    assert facts["statuses"] == dict.fromkeys(PLANNED["features"], "ok")
    assert stored() == []


def test_an_alarm_opens_an_incident_that_says_whom_to_ask(churn: Model) -> None:
    facts = concluded(churn, alarming())
    (event,) = facts["events"]
    summary = (
        f"user_session_features: session_count: unit change, all values are as before x 60."
        f" Ask {churn.feature_view.owner}."
    )
    assert event == {
        "event": "opened",
        "incident_id": 1,
        "cause": "unit change",
        "severity": "critical",
        "features": [COUNT],
        "blocks_retraining": True,
        "summary": summary,
    }
    (incident,) = incidents(churn)
    assert (incident.incident_id, incident.opened_at, incident.owner) == (1, AS_OF, churn.feature_view.owner)
    assert rows("select cause, is_data_incident, severity, summary, upstream from monitoring.drift_incidents") == [
        ("unit change", True, "critical", summary, "user_session_features")
    ]


def test_an_incident_comes_back_from_the_warehouse_as_it_was_written(churn: Model) -> None:
    concluded(churn, alarming(), alarming(MINUTES, "genuine", severity=1))
    (before,) = incidents(churn)
    assert [(one.feature, one.severity) for one in before.findings] == [
        (COUNT, Severity.CRITICAL),
        (MINUTES, Severity.WARNING),
    ]
    concluded(churn, alarming(), alarming(MINUTES, "genuine", severity=1))
    assert incidents(churn) == [before]


def test_features_of_one_view_are_one_incident_led_by_the_data_cause(churn: Model) -> None:
    facts = concluded(
        churn,
        alarming(MINUTES, "genuine"),
        alarming(COUNT, "NULL burst", severity=1),
        alarming(PREDICTION, "genuine"),
    )
    (event,) = facts["events"]
    assert (event["cause"], event["severity"], event["blocks_retraining"]) == ("NULL burst", "critical", True)
    assert set(event["features"]) == {MINUTES, COUNT, PREDICTION}


def test_labels_come_from_elsewhere_and_have_an_incident_of_their_own(churn: Model) -> None:
    facts = concluded(churn, alarming(), alarming(LABEL, "genuine"))
    assert sorted(events(facts)) == [("opened", [LABEL]), ("opened", [COUNT])]
    assert {(one.upstream, one.owner) for one in incidents(churn)} == {
        (churn.feature_view.name, churn.feature_view.owner),
        (churn.labels, churn.owner),
    }


def test_a_feature_that_stopped_arriving_is_a_null_burst(churn: Model) -> None:
    facts = concluded(churn, calm(COUNT, status="missing_feature", detail="None of 2,000 entities has a value."))
    (event,) = facts["events"]
    assert (event["cause"], event["severity"], event["blocks_retraining"]) == ("NULL burst", "critical", True)
    assert "session_count: NULL burst, it stopped arriving" in event["summary"]


def test_genuine_drift_is_told_and_blocks_nothing(churn: Model) -> None:
    facts = concluded(churn, alarming(cause="genuine"))
    assert [(event["event"], event["blocks_retraining"]) for event in facts["events"]] == [("opened", False)]
    assert "Retraining is blocked" not in facts["summary"]


def test_reminders_come_after_a_day_two_and_four(churn: Model) -> None:
    told = []
    for hours in range(0, 8 * 24, 6):
        facts = concluded(churn, alarming(), at=AS_OF + hours * HOUR)
        told += [(hours, event["event"]) for event in facts["events"]]
    assert told == [(0, "opened"), (24, "reminded"), (72, "reminded"), (168, "reminded")]
    assert [(one.reminders, one.last_alarm_at) for one in incidents(churn)] == [(3, AS_OF + 186 * HOUR)]


def test_an_incident_that_gets_worse_is_told_at_once(churn: Model) -> None:
    concluded(churn, alarming(cause="stale feature", severity=1))
    facts = concluded(churn, alarming(cause="unit change"), at=AS_OF + HOUR)
    assert [(event["event"], event["severity"], event["cause"]) for event in facts["events"]] == [
        ("worsened", "critical", "unit change")
    ]
    assert len(stored()) == 1


def test_a_day_without_an_alarm_closes_it(churn: Model) -> None:
    concluded(churn, alarming())
    for hours in range(1, QUIET_HOURS):
        assert concluded(churn, at=AS_OF + hours * HOUR)["events"] == []
    closed_at = AS_OF + QUIET_HOURS * HOUR
    facts = concluded(churn, at=closed_at)
    assert events(facts) == [("closed", [COUNT])]
    assert facts["events"][0]["blocks_retraining"] is False
    assert incidents(churn) == []
    assert rows("select closed_at, closed_because from monitoring.drift_incidents") == [
        (closed_at, f"no alarm since {AS_OF:%Y-%m-%d %H:%M}Z")
    ]


def test_an_alarm_after_that_is_another_incident(churn: Model) -> None:
    concluded(churn, alarming())
    concluded(churn, at=AS_OF + QUIET_HOURS * HOUR)
    facts = concluded(churn, alarming(), at=AS_OF + (QUIET_HOURS + 1) * HOUR)
    assert [(event["event"], event["incident_id"]) for event in facts["events"]] == [("opened", 2)]


# Again, and out of order


def test_concluding_an_hour_again_changes_nothing(churn: Model) -> None:
    findings = [alarming(), alarming(MINUTES, "genuine"), alarming(LABEL, "genuine", severity=1)]
    concluded(churn, *findings)
    before = stored()
    facts = concluded(churn, *findings)
    assert facts["events"] == []
    assert stored() == before


def test_concluding_the_hour_of_a_reminder_or_an_end_again_tells_nobody_twice(churn: Model) -> None:
    concluded(churn, alarming())
    for hours, finding, event in ((24, [alarming()], "reminded"), (48, [], "closed")):
        first = concluded(churn, *finding, at=AS_OF + hours * HOUR)
        before = stored()
        again = concluded(churn, *finding, at=AS_OF + hours * HOUR)
        assert [event["event"] for event in first["events"]] == [event]
        assert again["events"] == []
        assert stored() == before


def test_an_earlier_hour_that_is_concluded_later_changes_no_incident(churn: Model) -> None:
    concluded(churn, alarming())
    before = stored()
    a_report = FeatureDriftReport(Subject(COUNT, AS_OF), DriftStatus.CRITICAL, 1, "")
    with warehouse.connect() as connection:
        write_reports(connection, churn, "1", [(a_report, None)])
    for finding in (alarming(), alarming(DAYS, "NULL burst"), calm()):
        facts = concluded(churn, finding, at=AS_OF - 30 * HOUR)
        assert facts["events"] == []
        assert stored() == before
        assert facts["statuses"][finding["feature"]] == finding["status"]


def test_each_model_has_incidents_of_its_own(churn: Model) -> None:
    concluded(churn, alarming())
    other = churn.model_copy(update={"name": "other"})
    assert events(concluded(other, alarming())) == [("opened", [COUNT])]
    assert [len(incidents(model)) for model in (churn, other)] == [1, 1]
    concluded(other, at=AS_OF + QUIET_HOURS * HOUR)
    assert [len(incidents(model)) for model in (churn, other)] == [1, 0]


# Verdicts


def test_a_verdict_lets_retraining_go_on_and_later_alarms_leave_it(churn: Model) -> None:
    concluded(churn, alarming())
    with warehouse.connect() as connection:
        resolve(connection, 1, "genuine", "we count seconds from now on")
    facts = concluded(churn, alarming(), at=AS_OF + 24 * HOUR)
    assert [(event["event"], event["blocks_retraining"]) for event in facts["events"]] == [("reminded", False)]
    assert rows("select verdict, verdict_note from monitoring.drift_incidents") == [
        ("genuine", "we count seconds from now on")
    ]


def test_there_is_no_verdict_on_an_incident_that_does_not_exist(churn: Model) -> None:
    with warehouse.connect() as connection, pytest.raises(SkewlessError, match="There is no incident 7"):
        resolve(connection, 7, "benign", None)


# Features that stand still


def test_a_feature_that_stood_still_for_a_day_while_others_moved_is_stale(churn: Model) -> None:
    facts = concluded(churn, calm(COUNT, hours_unchanged=STALE_HOURS))
    (event,) = facts["events"]
    assert (event["cause"], event["severity"], event["features"]) == ("stale feature", "warning", [COUNT])
    assert "not one value changed in 24 hours, while others did" in event["summary"]


@pytest.mark.parametrize(
    "findings",
    [
        [calm(COUNT, hours_unchanged=STALE_HOURS - 1)],
        [calm(COUNT, hours_unchanged=100, longest_pause=0)],
        [calm(name, hours_unchanged=STALE_HOURS) for name in FEATURES],
        [calm(PREDICTION, hours_unchanged=100), calm(LABEL, hours_unchanged=100)],
    ],
    ids=["not for a day", "constant", "all of them", "no features"],
)
def test_what_may_stand_still_is_not_stale(churn: Model, findings: list[dict[str, Any]]) -> None:
    assert concluded(churn, *findings)["events"] == []


# How many rows there are


def populations(counts: dict[int, int]) -> dict[datetime, Population]:
    """Rows by how many hours before AS_OF they are of."""
    return {AS_OF - back * HOUR: Population(n, n, []) for back, n in counts.items()}


SUBJECT = Subject(ROWS, AS_OF, "snapshot", "all", 1, "serving")
WEEK_OF_ROWS = {24: 100, 48: 110, 72: 120}


@pytest.mark.parametrize(
    ("now", "status"),
    [
        (100, "ok"),
        (71, "ok"),
        (69, "warning"),
        (41, "warning"),
        (39, "critical"),
        (0, "critical"),
        (155, "ok"),
        (157, "warning"),
        (193, "critical"),
    ],
)
def test_rows_are_compared_with_all_that_were_seen_at_this_hour(now: int, status: str) -> None:
    found = volume_report(populations(WEEK_OF_ROWS | {0: now, 1: 1, 23: 10**6}), SUBJECT)
    assert (found.status, found.n) == (status, now)
    assert found.detail == f"{now} rows, usually 110 (100 to 120)."


def test_an_hour_that_was_not_counted_has_no_rows() -> None:
    assert volume_report(populations(WEEK_OF_ROWS), SUBJECT).status == "critical"


@pytest.mark.parametrize("days", [0, 1, 2])
def test_rows_need_three_days_to_compare_with(days: int) -> None:
    found = volume_report(populations({0: 5} | {24 * day: 100 for day in range(1, days + 1)}), SUBJECT)
    assert (found.status, found.detail) == ("insufficient_data", f"{days} days to compare with; 3 are needed.")


def test_rows_where_there_were_none_are_news() -> None:
    assert volume_report(populations({0: 5, 24: 0, 48: 0, 72: 0}), SUBJECT).status == "critical"
    assert volume_report(populations({0: 0, 24: 0, 48: 0, 72: 0}), SUBJECT).status == "ok"


def watched(model: Model, at: datetime) -> dict[str, Any]:
    """All that watching and concluding an hour does."""
    planned = plan(model, at)
    return conclude(model, planned, [watch_feature(model, name, planned, at) for name in planned["features"]], at)


def test_most_of_the_rows_gone_is_an_incident_of_the_volume(churn: Model) -> None:
    train(churn)
    serve(AS_OF - 24 * HOUR, healthy())
    serve_again([AS_OF - 48 * HOUR, AS_OF - 72 * HOUR], AS_OF - 24 * HOUR)
    serve(AS_OF, {name: values[: USERS // 5] for name, values in healthy().items()})
    facts = watched(churn, AS_OF)
    (event,) = facts["events"]
    assert (event["cause"], event["severity"], event["features"]) == ("volume only", "critical", [ROWS])
    assert f"400 rows, usually {USERS:,} ({USERS:,} to {USERS:,})" in event["summary"]
    row = report(ROWS, baseline="serving")
    assert (row["status"], row["n"], row["decided_by"]) == ("critical", 400, "volume")
    assert (row["effect"], row["effect_floor"], row["critical_floor"]) == (pytest.approx(0.8), 0.3, 0.6)


def test_there_is_a_report_on_the_rows_whatever_they_are(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    for _ in range(2):
        watched(churn, AS_OF)
        assert (report(ROWS, baseline="serving")["status"], report(ROWS, baseline="serving")["n"]) == (
            "insufficient_data",
            USERS,
        )


# From the warehouse to the incident


def an_hour_of_seconds(model: Model) -> dict[str, Any]:
    """One hour in another unit, after six and before fifty healthy ones; what is told of it."""
    train(model)
    serve(AS_OF - HOUR, healthy())
    serve_again(hours_before(5, AS_OF - HOUR), AS_OF - HOUR)
    assert watched(model, AS_OF - HOUR)["events"] == []
    serve(AS_OF, changed(**{MINUTES: healthy()[MINUTES] * 60}))
    serve_again([AS_OF + hours * HOUR for hours in range(1, 51)], AS_OF - HOUR)
    # One count of a hundred differs from hour to hour, or they would be stale.
    a_few_less = ", ".join(f"{name} = greatest({name} - 1, 0)" for name in (COUNT, DAYS, WEEKLY, MONTHLY))
    execute(
        f"update features.user_session_features set {a_few_less} where as_of > %s"
        " and mod(hashtext(user_id || as_of::text), 100) = 0",
        AS_OF + 20 * HOUR,
    )
    (event,) = watched(model, AS_OF)["events"]
    return event


def test_a_unit_bug_is_found_told_mended_and_closed(churn: Model) -> None:
    event = an_hour_of_seconds(churn)
    assert (event["event"], event["cause"], event["severity"]) == ("opened", "unit change", "critical")
    assert (event["features"], event["blocks_retraining"]) == ([MINUTES], True)
    assert "avg_session_duration_minutes: unit change, all values are as before x 60" in event["summary"]
    assert [event["event"] for event in watched(churn, AS_OF + 170 * HOUR)["events"]] == ["closed"]
    assert incidents(churn) == []


@pytest.mark.parametrize("hours", [1, 10])
def test_a_unit_bug_that_was_mended_is_not_a_genuine_drift(churn: Model, hours: int) -> None:
    an_hour_of_seconds(churn)
    assert watched(churn, AS_OF + hours * HOUR)["events"] == []
    assert [incident.cause for incident in incidents(churn)] == ["unit change"]


# What is told


def test_the_summary_lists_the_worst_first(churn: Model) -> None:
    facts = concluded(
        churn, calm(COUNT), alarming(MINUTES, severity=1), alarming(DAYS), calm(WEEKLY, status="insufficient_data")
    )
    table = [line for line in facts["summary"].splitlines() if line.startswith("| ")][1:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in table[2:]] == [
        COUNT,
        MONTHLY,
        PREDICTION,
        LABEL,
        WEEKLY,
    ]
    assert facts["summary"].startswith(f"### churn, {AS_OF:%Y-%m-%d %H:%M}Z, v1\n")
    assert "* **New incident** (critical): user_session_features: " in facts["summary"]
    assert f"Ask {churn.feature_view.owner}. **Retraining is blocked.**" in facts["summary"]
    assert [line.split(" | ")[0].removeprefix("| ") for line in table[:2]] == [DAYS, MINUTES]


def test_what_is_critical_comes_before_what_could_not_be_judged(churn: Model) -> None:
    statuses = ["error", "missing_feature", "critical", "warning", "insufficient_data", "baseline_missing", "ok"]
    findings = [
        alarming(name, severity={"critical": 2, "warning": 1}[status])
        if status in {"critical", "warning"}
        else calm(name, status=status)
        for name, status in zip(PLANNED["features"], statuses, strict=True)
    ]
    summary = concluded(churn, *findings)["summary"]
    table = [line.split(" | ")[1] for line in summary.splitlines() if line.startswith("| ")][1:]
    assert table[:4] == ["error", "missing_feature", "critical", "warning"]


def test_a_finding_with_a_pipe_keeps_to_its_cell(churn: Model) -> None:
    facts = concluded(churn, alarming(detail="a | b\nc"))
    assert f"| {COUNT} | critical | a \\| b c | snapshot, 1 h, against training |" in facts["summary"]


def test_a_name_with_a_pipe_keeps_to_its_cell(churn: Model) -> None:
    planned = PLANNED | {"features": ["a|b"]}
    assert "| a\\|b | ok |" in conclude(churn, planned, [calm("a|b")], AS_OF)["summary"]


def test_incidents_that_go_on_are_listed_every_hour(churn: Model) -> None:
    concluded(churn, alarming())
    summary = concluded(churn, alarming(), at=AS_OF + HOUR)["summary"]
    assert "* **Open incident** (critical): user_session_features: " in summary
    summary = concluded(churn, at=AS_OF + 30 * HOUR)["summary"]
    assert "* **Incident closed** (critical): user_session_features: " in summary
    assert "Retraining is blocked" not in summary


def test_without_a_champion_the_summary_says_so(churn: Model) -> None:
    planned = PLANNED | {"champion": None}
    assert conclude(churn, planned, [], AS_OF)["summary"].startswith("### churn, 2013-07-02 12:00Z, no champion")


# When tasks failed


def test_a_feature_whose_task_failed_is_an_error(churn: Model) -> None:
    facts = conclude(churn, PLANNED, [calm(MINUTES)], AS_OF)
    assert facts["statuses"] == dict.fromkeys(PLANNED["features"], "error") | {MINUTES: "ok"}
    assert f"| {COUNT} | error | Its task failed; see its log. |  |" in facts["summary"]
    assert facts["events"] == []


def test_when_nothing_was_planned_concluding_says_what_to_do(churn: Model) -> None:
    with pytest.raises(SkewlessError, match=r"`plan` failed: its log says why\. Clear it"):
        conclude(churn, None, [], AS_OF)
    assert stored() == []


def test_a_champion_that_was_replaced_meanwhile_is_the_one_that_was_planned(
    churn: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(churn)
    serve(AS_OF, healthy())
    planned = plan(churn, AS_OF)
    become_champion(monkeypatch, "2")
    found = [watch_feature(churn, name, planned, AS_OF) for name in planned["features"]]
    conclude(churn, planned, found, AS_OF)
    assert rows("select distinct model_version from monitoring.drift_reports") == [("1",)]


def test_the_incident_of_a_closed_day_is_no_longer_open_for_its_model(churn: Model) -> None:
    concluded(churn, alarming())
    execute("update monitoring.drift_incidents set closed_at = %s", AS_OF + timedelta(hours=1))
    assert incidents(churn) == []
