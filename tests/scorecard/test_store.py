"""Evidence in the warehouse: kept, replaced when a partition runs again, and read as far as it decides."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from features.errors import SkewlessError
from features.health.score import score_page
from features.scorecard import store
from features.scorecard.record import Recorded, record
from features.scorecard.score import Evidence, How, State, score
from tests.scorecard.observed_warehouse import DAY, HOUR, NOON, ObservedWarehouse, seen


def whole_history(observed: ObservedWarehouse) -> list[Evidence]:
    """Every row there is."""
    rows = observed.connection.execute("select * from monitoring.scorecard_evidence order by evidence_id")
    return [
        Evidence(
            row["test"],
            How(row["how"]),
            row["passed"],
            row["evidence"],
            row["seen_at"],
            row["expires_at"],
            row["evidence_id"],
            row["recorded_by"],
        )
        for row in rows
    ]


def told(text: str = "1,204 tests passed at 0123456.", **changes: object) -> Recorded:
    values: dict[str, object] = {
        "test": "infra_2",
        "how": "automated",
        "passed": True,
        "text": text,
        "seen_at": NOON,
        "valid_days": None,
        "recorded_by": "ci",
    }
    return Recorded(**(values | changes))  # type: ignore[arg-type]


def test_running_a_partition_again_replaces_what_it_saw_and_nothing_else(observed: ObservedWarehouse) -> None:
    record(observed.connection, observed.model, told())
    store.replace_computed(observed.connection, "churn", NOON - HOUR, [seen(NOON - HOUR)])
    store.replace_computed(observed.connection, "churn", NOON, [seen(), seen(test="data_2")])
    store.replace_computed(observed.connection, "upsell", NOON, [seen()])
    store.replace_computed(observed.connection, "churn", NOON, [seen(passed=False)])
    assert [(row.test, row.passed, row.seen_at) for row in whole_history(observed)] == [
        ("infra_2", True, NOON),
        ("data_1", True, NOON - HOUR),
        ("data_1", True, NOON),  # of the other model
        ("data_1", False, NOON),
    ]


def test_of_long_ago_midnights_stay_and_whatever_was_recorded(observed: ObservedWarehouse) -> None:
    old = NOON - 91 * DAY
    midnight = old - 12 * HOUR
    for at in (old, midnight, NOON - 90 * DAY):
        store.replace_computed(observed.connection, "churn", at, [seen(at)])
    record(observed.connection, observed.model, told(seen_at=old))
    store.replace_computed(observed.connection, "churn", NOON, [])
    assert sorted(row.seen_at for row in whole_history(observed)) == [midnight, old, NOON - 90 * DAY]


def test_evidence_of_other_models_counts_nothing(observed: ObservedWarehouse) -> None:
    store.replace_computed(observed.connection, "upsell", NOON, [seen()])
    assert store.read_decisive(observed.connection, "churn", NOON) == []


HISTORY = st.lists(
    st.builds(
        lambda test, hours, how, passed, lasts: seen(
            NOON + hours * HOUR, test=test, how=how, passed=passed, until=NOON + (hours + lasts) * HOUR
        ),
        st.sampled_from(["data_1", "infra_2"]),
        st.integers(0, 5),
        st.sampled_from(How),
        st.booleans(),
        st.integers(0, 4),
    ),
    max_size=12,
)


@given(history=HISTORY, hours=st.integers(-1, 8))
@hypothesis_settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_read_gives_the_score_of_the_whole_history(
    observed: ObservedWarehouse, history: list[Evidence], hours: int
) -> None:
    observed.connection.execute("delete from monitoring.scorecard_evidence")
    for row in history:
        store.add(observed.connection, "churn", row)
    at = NOON + hours * HOUR
    assert score(store.read_decisive(observed.connection, "churn", at), at) == score(whole_history(observed), at)


def test_however_long_the_history_few_rows_are_read(observed: ObservedWarehouse) -> None:
    for hour in range(200):
        store.add(observed.connection, "churn", seen(NOON - hour * HOUR, passed=hour % 7 > 0, until=NOON + DAY))
    assert len(store.read_decisive(observed.connection, "churn", NOON)) <= 4


@pytest.mark.parametrize(("how", "days"), [("automated", 30), ("by hand", 90)])
def test_what_is_recorded_counts_for_as_long_as_is_usual_for_it(
    observed: ObservedWarehouse, how: str, days: int
) -> None:
    kept = record(observed.connection, observed.model, told(how=how))
    assert kept.expires_at == NOON + days * DAY
    assert [(row.text, str(row.how), row.recorded_by) for row in whole_history(observed)] == [
        ("1,204 tests passed at 0123456.", how, "ci")
    ]


def test_or_for_as_long_as_one_says(observed: ObservedWarehouse) -> None:
    assert record(observed.connection, observed.model, told(valid_days=7)).expires_at == NOON + 7 * DAY


def test_a_test_that_there_is_not_is_refused(observed: ObservedWarehouse) -> None:
    with pytest.raises(SkewlessError, match=r"There is no test 'infra_8'; `skewless scorecard` lists"):
        record(observed.connection, observed.model, told(test="infra_8"))


@pytest.mark.parametrize("text", ["", "  \n"])
def test_nothing_is_no_evidence(observed: ObservedWarehouse, text: str) -> None:
    with pytest.raises(SkewlessError, match="Evidence is empty"):
        record(observed.connection, observed.model, told(text))
    assert whole_history(observed) == []


def test_the_page_says_of_each_test_what_decides_it_or_what_would(observed: ObservedWarehouse) -> None:
    record(observed.connection, observed.model, told(seen_at=NOON - DAY, how="by hand"))
    store.replace_computed(observed.connection, "churn", NOON, [seen(), seen(test="data_2", passed=False)])
    page = score_page(observed.connection, observed.model, NOON + timedelta(minutes=30))
    assert (page.model, page.score, page.most_points) == ("churn", 0.0, 7.0)
    assert [(section.section, section.points, section.is_weakest) for section in page.sections] == [
        ("data", 1.0, False),
        ("model", 0.0, True),
        ("infrastructure", 0.5, False),
        ("monitoring", 0.0, True),
    ]
    assert [len(section.tests) for section in page.sections] == [7, 7, 7, 7]
    tests = {test.test: test for section in page.sections for test in section.tests}
    assert (tests["data_1"].state, tests["data_1"].points, tests["data_1"].age_seconds) == ("passed", 1.0, 1800.0)
    assert (tests["data_2"].state, tests["data_2"].evidence) == (str(State.FAILED), "7 of 7.")
    assert (tests["infra_2"].how, tests["infra_2"].recorded_by, tests["infra_2"].points) == ("by hand", "ci", 0.5)
    missing = tests["model_7"]
    assert (missing.state, missing.how, missing.evidence, missing.seen_at) == ("missing", None, None, None)
    assert "make record-evidence TEST=model_7" in missing.what_counts


def test_the_role_of_the_pages_may_read_it(observed: ObservedWarehouse) -> None:
    store.replace_computed(observed.connection, "churn", NOON, [seen()])
    observed.connection.execute("set local role monitor_reader")
    assert score_page(observed.connection, observed.model, NOON).sections[0].points == 1.0
