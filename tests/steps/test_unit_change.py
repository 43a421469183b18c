"""The drill: for one partition upstream delivers minutes where seconds were agreed.

Everything is real but the scheduler: dbt builds, the gate publishes, the champion scores, the monitor watches, the
policy decides. The values are as they were known, so neither tests nor the parity gate can object; only drift can tell.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from features.contract import Model
from features.steps.conclude import conclude
from features.steps.decide import decide, is_still_allowed
from features.steps.promote import promote
from features.steps.publish import publish
from features.steps.score import score
from features.steps.train import train
from features.steps.watch import plan, watch_feature
from tests.databases import copy_of, execute, registry, rows, use
from tests.dbt_project.running import run_dbt

pytestmark = pytest.mark.chain

BEFORE = datetime(2013, 7, 2, tzinfo=UTC)
BROKEN = BEFORE + timedelta(hours=1)
MENDED = BEFORE + timedelta(hours=2)

# Corrections of every event: upstream delivers its whole history again, in another unit.
REDELIVERY = """
insert into raw.session_events (event_id, user_id, event_type, started_at, duration_seconds, ingested_at)
select event_id, user_id, event_type, started_at, round(duration_seconds {}), %s
from staging.stg_session_events
where superseded_at is null and ingested_at < %s
"""


@pytest.fixture(scope="module")
def champion(sample_database: str, churn: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A champion trained before the fault, which scored and was watched without complaint of the pipeline."""
    with copy_of(sample_database, "skewless_drill") as name, pytest.MonkeyPatch.context() as patch:
        use(name, patch)
        with registry(tmp_path_factory.mktemp("artifacts")):
            number = train(churn, BEFORE)
            assert promote(churn, number, BEFORE)["promoted"]
            run_dbt(BEFORE)
            assert not [event for event in hour(churn, BEFORE)["events"] if event["blocks_retraining"]]
            yield number


def hour(model: Model, as_of: datetime) -> dict[str, Any]:
    """What the Dags do in an hour, from publishing to concluding."""
    publish(model.feature_view, as_of)
    score(model, as_of)
    planned = plan(model, as_of)
    return conclude(model, planned, [watch_feature(model, name, planned, as_of) for name in planned["features"]], as_of)


def redeliver(change: str, at: datetime) -> None:
    delivered = at - timedelta(minutes=30)
    assert execute(REDELIVERY.format(change), delivered, delivered) > 100_000
    run_dbt(at)


@pytest.fixture(scope="module")
def broken(champion: str, churn: Model) -> dict[str, Any]:
    """The partition in which durations are minutes."""
    redeliver("/ 60.0", BROKEN)
    return hour(churn, BROKEN)


def test_the_right_feature_is_critical(broken: dict[str, Any]) -> None:
    critical = [name for name, status in broken["statuses"].items() if status == "critical"]
    assert "avg_session_duration_minutes" in critical
    assert set(critical) <= {"avg_session_duration_minutes", "(prediction)"}


def test_its_cause_is_a_unit_change_and_the_owner_is_named(broken: dict[str, Any]) -> None:
    (event,) = broken["events"]
    assert (event["cause"], event["severity"], event["blocks_retraining"]) == ("unit change", "critical", True)
    assert "avg_session_duration_minutes: unit change, all values are as before x 1/60" in event["summary"]
    assert "Ask Feature store maintainers <features@example.com>." in event["summary"]
    assert "**Retraining is blocked.**" in broken["summary"]


def test_the_numbers_are_kept(broken: dict[str, Any]) -> None:
    ((kind, distance, low, floor, before, after),) = rows(
        "select kind, ks_statistic, effect_low, effect_floor, training_mean, serving_mean from monitoring.drift_reports"
        f" where feature = 'avg_session_duration_minutes' and as_of = '{BROKEN}' and window_hours = 1"
        " and segment = 'all'"
    )
    assert kind == "numeric"
    assert distance > 0.9
    assert low > floor
    assert after == pytest.approx(before / 60, rel=0.05)


def test_it_blocks_retraining(broken: dict[str, Any], churn: Model) -> None:
    decision = decide(churn, BROKEN, "drill")
    assert not decision["should_retrain"]
    assert decision["trigger"] == "drift"
    assert "unit change in avg_session_duration_minutes" in decision["reason"]
    assert "Ask Feature store maintainers" in decision["reason"]
    ((blocked, outcome),) = rows(
        f"select blocked_by, outcome from monitoring.retraining_decisions where as_of = '{BROKEN}'"
    )
    # Drift alone cannot be learnt before labels of the new time have matured, either.
    assert [block["guard"] for block in blocked] == ["data_incident", "few_labels_since_shift"]
    assert outcome == "blocked"


def test_neither_a_request_nor_an_approval_overrules_it(broken: dict[str, Any], churn: Model) -> None:
    decision = decide(churn, BROKEN, "by hand", requested="the boss wants it")
    assert (decision["outcome"], decision["trigger"]) == ("blocked", "manual")
    assert not is_still_allowed(churn, BROKEN)
    assert not is_still_allowed(churn, BEFORE), "what was decided before is not carried out on sick data, either"


def test_once_mended_it_closes_by_itself_and_retraining_is_free_again(
    broken: dict[str, Any], champion: str, churn: Model
) -> None:
    redeliver("* 60", MENDED)
    hour(churn, MENDED)
    # The hour is as it should be; a longer window still holds the broken one.
    assert dict(
        rows(
            "select window_hours, status = 'critical' from monitoring.drift_reports"
            f" where feature = 'avg_session_duration_minutes' and as_of = '{MENDED}' and window_hours in (1, 6)"
            " and segment = 'all'"
        )
    ) == {1: False, 6: True}
    assert rows("select closed_at is null from monitoring.drift_incidents where cause = 'unit change'") == [(True,)]
    a_day_later = MENDED + timedelta(hours=24)
    run_dbt(a_day_later)
    concluded = hour(churn, a_day_later)
    assert rows("select closed_at from monitoring.drift_incidents where cause = 'unit change'") == [(a_day_later,)]
    assert "closed" in {event["event"] for event in concluded["events"]}
    assert "Incident" not in decide(churn, a_day_later, "drill")["reason"]
