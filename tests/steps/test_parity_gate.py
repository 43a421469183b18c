"""The parity gate: what is served has to be what the definition gives, cell by cell, or nothing new goes live.

Each test breaks the small warehouse the way such things break, and reads from monitoring.parity_audits what was found.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from features.contract import Contract, FeatureView
from features.parity import ENTITIES, Cause
from features.steps.publish import GateClosed, publish
from tests.databases import execute, rows
from tests.dbt_project.oracle import DAY, HOUR, Event
from tests.dbt_project.projects import with_another_definition
from tests.dbt_project.running import run_dbt
from tests.steps.small_warehouse import (
    EARLIER,
    LATER,
    USERS,
    audits,
    fill,
    ledger,
    live,
    load,
    served,
    session,
    skews,
    stored,
)

NEXT = LATER + HOUR
VIEW_MODELS = ("stg_session_events", "user_session_features", "user_features")


@pytest.fixture(autouse=True)
def _earlier_is_live(small_warehouse: str, view: FeatureView) -> None:
    publish(view, EARLIER)


def assert_closed(view: FeatureView, as_of: datetime, *said: str) -> None:
    """Publishing is refused in these words, and readers notice nothing."""
    before, rows_before = ledger(), served()
    with pytest.raises(GateClosed) as error:
        publish(view, as_of)
    message = str(error.value)
    assert message.startswith(
        f"user_session_features at {as_of:%Y-%m-%d %H:%M}Z is not published, 2013-07-01 00:00Z stays live: "
    )
    said += ("accept_skew", "features.explain_user_session_features")
    assert [part for part in said if part not in message] == []
    assert ledger() == before
    assert served() == rows_before


def change_serving_view(select: str) -> None:
    """Replaces serving.user_features by a query on `before`, what it was."""
    ((before,),) = rows("select trim(trailing ';' from pg_get_viewdef('serving.user_features'::regclass))")
    execute(f"create or replace view serving.user_features as with before as ({before}) {select}")


def deliver(*events: Event) -> None:
    """Loads events after EARLIER went live, and lets dbt build LATER's successor from them."""
    load(*events)
    run_dbt(NEXT, *VIEW_MODELS)


def test_the_first_publication_is_audited_too(view: FeatureView) -> None:
    (publication,) = ledger()
    found = audits()
    assert [row["feature"] for row in found] == sorted([ENTITIES, *view.feature_names])
    for row in found:
        assert (row["publication_id"], row["feature_view"]) == (publication["publication_id"], view.name)
        assert (row["as_of"], row["feature_version"]) == (EARLIER, publication["feature_version"])
        assert (row["rows_compared"], row["mismatches"], row["example_keys"]) == (12, 0, [])
        assert (row["cause"], row["accepted_because"]) == (None, None)


def test_each_publication_leaves_its_audit_and_a_second_one_of_what_it_replaced(view: FeatureView) -> None:
    before = {row["publication_id"]: row["audited_at"] for row in audits()}
    publish(view, LATER)
    assert {row["publication_id"] for row in audits()} == {row["publication_id"] for row in ledger()}
    assert [row for row in audits() if row["mismatches"] or row["rows_compared"] != 12] == []
    assert all(row["audited_at"] > before.get(row["publication_id"], EARLIER) for row in audits())


def test_minutes_for_seconds_are_changed_logic(view: FeatureView) -> None:
    execute(
        "update features.user_session_features"
        " set avg_session_duration_minutes = avg_session_duration_minutes * 60 where as_of = %s",
        LATER,
    )
    assert_closed(
        view,
        LATER,
        "At 2013-07-02 00:00Z avg_session_duration_minutes differs in 11 of 12 rows "
        "(changed logic; for example u01, u02, u03, u04, u05).",
    )
    assert skews(LATER) == {"avg_session_duration_minutes": (11, "changed logic", FIVE)}
    assert skews(EARLIER) == {}


def test_the_last_bit_counts(view: FeatureView) -> None:
    execute(
        "update features.user_session_features set avg_session_duration_minutes ="
        " avg_session_duration_minutes + 4e-15 where as_of = %s and user_id = 'u07'",
        LATER,
    )
    assert_closed(view, LATER, "avg_session_duration_minutes differs in 1 of 12 rows (changed logic; for example u07).")


def test_a_value_that_became_null_differs(view: FeatureView) -> None:
    execute(
        "update features.user_session_features set session_count = null where as_of = %s and user_id = 'u07'", LATER
    )
    assert_closed(view, LATER)
    assert skews(LATER) == {"session_count": (1, "changed logic", [["u07"]])}


FIVE = [["u01"], ["u02"], ["u03"], ["u04"], ["u05"]]
# What somebody makes of serving.user_features, from `before`; what the gate finds.
LOGIC = {
    "cut off": (
        "select * from before order by user_id desc limit 10",
        {ENTITIES: (2, "changed logic", [["u01"], ["u02"]])},
    ),
    "everybody twice": (
        "select * from before union all select * from before",
        {ENTITIES: (12, "changed logic", FIVE)},
    ),
    "nobody's key": (
        "select nullif(user_id, 'u03') as user_id, as_of, published_at, expires_at, feature_version, session_count,"
        " avg_session_duration_minutes, days_since_last_session, sessions_last_7_days, sessions_last_30_days"
        " from before",
        {ENTITIES: (2, "changed logic", [["u03"], [None]])},
    ),
    "in other units": (
        "select user_id, as_of, published_at, expires_at, feature_version, session_count,"
        " avg_session_duration_minutes / 60 as avg_session_duration_minutes, days_since_last_session,"
        " sessions_last_7_days, sessions_last_30_days from before",
        {"avg_session_duration_minutes": (11, "changed logic", FIVE)},
    ),
}


@pytest.mark.parametrize(("select", "found"), LOGIC.values(), ids=LOGIC)
def test_a_serving_view_with_a_logic_of_its_own_is_caught(
    view: FeatureView, select: str, found: dict[str, Any]
) -> None:
    change_serving_view(select)
    assert_closed(view, LATER)
    assert skews(EARLIER) == skews(LATER) == found


def test_a_serving_view_that_does_not_follow_the_ledger_is_caught(view: FeatureView) -> None:
    """It serves what is newest, published or not: right for LATER, and wrong for what is live."""
    change_serving_view(
        "select f.user_id, f.as_of, p.published_at, f.as_of + interval '3 hours' as expires_at, f.feature_version,"
        " f.session_count, f.avg_session_duration_minutes, f.days_since_last_session, f.sessions_last_7_days,"
        " f.sessions_last_30_days from features.user_session_features as f cross join serving.publications as p"
        " where p.retired_at is null and f.as_of = (select max(as_of) from features.user_session_features)"
    )
    assert_closed(view, LATER)
    assert {cause for _, cause, _ in skews(EARLIER).values()} == {"changed logic"}
    assert skews(LATER) == {}


def test_rows_that_are_missing_from_the_new_snapshot_are_caught(view: FeatureView) -> None:
    execute("delete from features.user_session_features where as_of = %s and user_id = 'u05'", LATER)
    assert_closed(
        view,
        LATER,
        "It has 11 rows and what is live has 12, yet an entity, once known, stays known.",
        "the set of entities differs in 1 of 12 rows (changed logic; for example u05)",
    )
    assert skews(LATER) == {ENTITIES: (1, "changed logic", [["u05"]])}


def test_rows_of_nobody_are_caught(view: FeatureView) -> None:
    execute(
        "insert into features.user_session_features (user_id, as_of, feature_version)"
        " select 'ghost', as_of, feature_version from features.user_session_features where as_of = %s limit 1",
        LATER,
    )
    assert_closed(view, LATER)
    assert skews(LATER) == {ENTITIES: (1, "changed logic", [["ghost"]])}


def test_fewer_entities_than_what_is_live_are_refused_even_when_no_row_is_audited(view: FeatureView) -> None:
    execute("delete from features.user_session_features where as_of = %s and user_id = 'u05'", LATER)
    blind = view.model_copy(update={"audited_share": 1e-9})
    assert_closed(blind, LATER, "It has 11 rows and what is live has 12, yet an entity, once known, stays known.")
    assert {row["rows_compared"] for row in audits() if row["as_of"] == LATER} == {0}


def test_a_backdated_event_is_told_from_changed_logic(view: FeatureView) -> None:
    deliver(session("u03", EARLIER - 40 * DAY, known_at=EARLIER - 39 * DAY))
    assert_closed(
        view,
        NEXT,
        "At 2013-07-01 00:00Z session_count differs in 1 of 12 rows (backdated data; for example u03).",
        "At 2013-07-01 00:00Z avg_session_duration_minutes differs in 1 of 12 rows (backdated data; for example u03).",
    )
    expected = (1, "backdated data", [["u03"]])
    assert skews(EARLIER) == {"session_count": expected, "avg_session_duration_minutes": expected}
    assert skews(NEXT) == {}


def test_a_backdated_withdrawal_is_backdated_data(view: FeatureView) -> None:
    """u06 had a session every day; the last one turns out to have been withdrawn before EARLIER."""
    ((last, ended),) = rows(
        "select event_id, ingested_at from raw.session_events"
        f" where user_id = 'u06' and ingested_at < '{EARLIER}' order by started_at desc limit 1"
    )
    deliver(Event(event_id=last, ingested_at=ended + timedelta(minutes=1), is_deleted=True))
    assert_closed(view, NEXT)
    found = skews(EARLIER)
    assert {cause for _, cause, _ in found.values()} == {"backdated data"}
    assert {"session_count", "sessions_last_7_days", "sessions_last_30_days"} < set(found)
    assert all(keys == [["u06"]] for _, _, keys in found.values())


def test_a_backdated_correction_that_moves_a_session_to_somebody_else_names_both(view: FeatureView) -> None:
    ((event_id, started_at, ended),) = rows(
        "select event_id, started_at, ingested_at from raw.session_events"
        f" where user_id = 'u06' and ingested_at < '{EARLIER}' order by started_at desc limit 1"
    )
    deliver(session("u07", started_at, known_at=ended + timedelta(minutes=1), event_id=event_id))
    assert_closed(view, NEXT)
    assert skews(EARLIER)["session_count"] == (2, "backdated data", [["u06"], ["u07"]])


def test_a_backdated_event_of_somebody_new_changes_the_set_of_entities(view: FeatureView) -> None:
    deliver(session("u99", EARLIER - 5 * DAY, known_at=EARLIER - 4 * DAY))
    assert_closed(view, NEXT, "the set of entities differs in 1 of 13 rows (backdated data; for example u99)")
    assert skews(EARLIER) == {ENTITIES: (1, "backdated data", [["u99"]])}


def test_both_causes_at_once_are_both_named(view: FeatureView) -> None:
    execute(
        "update features.user_session_features set session_count = session_count + 1"
        " where as_of = %s and user_id = 'u08'",
        EARLIER,
    )
    deliver(session("u03", EARLIER - 40 * DAY, known_at=EARLIER - 39 * DAY))
    assert_closed(view, NEXT)
    found = skews(EARLIER)
    assert found["session_count"] == (2, "backdated data and changed logic", [["u03"], ["u08"]])
    assert found["avg_session_duration_minutes"] == (1, "backdated data", [["u03"]])


def test_news_of_an_entity_are_no_excuse_for_a_row_that_was_changed(view: FeatureView) -> None:
    """What became known after EARLIER, corrections and withdrawals included, explains nothing about EARLIER."""
    execute("update features.user_session_features set session_count = session_count + 1 where as_of = %s", EARLIER)
    deliver(
        session("u03", LATER - HOUR, known_at=LATER),
        session("u06", EARLIER - 5 * DAY, known_at=LATER, event_id="e6-3"),
        Event(event_id="e5-3", ingested_at=LATER, is_deleted=True),
    )
    assert_closed(view, NEXT)
    assert skews(EARLIER) == {"session_count": (12, "changed logic", FIVE)}


def test_data_that_are_late_but_honest_pass(view: FeatureView) -> None:
    """Events of before EARLIER that arrived after it, a correction and a withdrawal among them, were not known then."""
    load(
        session("u03", EARLIER - 5 * DAY, known_at=LATER),
        session("u99", EARLIER - 5 * DAY, known_at=LATER, event_id="first"),
        session("u06", EARLIER - 5 * DAY, known_at=LATER, event_id="e6-3"),
        Event(event_id="e5-3", ingested_at=LATER, is_deleted=True),
    )
    run_dbt(NEXT, *VIEW_MODELS)
    assert publish(view, NEXT)["is_live"]
    assert {row["mismatches"] for row in audits()} == {0}
    assert [row[0] for row in served()] == [*USERS, "u99"]


def test_a_refused_snapshot_keeps_its_audit_under_an_id_that_the_ledger_lacks(view: FeatureView) -> None:
    execute("update features.user_session_features set session_count = 0 where as_of = %s", LATER)
    assert_closed(view, LATER)
    assert_closed(view, LATER)
    published = {row["publication_id"] for row in ledger()}
    refused = [row for row in audits() if row["publication_id"] not in published]
    assert {row["as_of"] for row in refused} == {LATER}
    assert len({row["publication_id"] for row in refused}) == 2  # each attempt


def test_mending_the_rows_opens_the_gate(view: FeatureView) -> None:
    execute("delete from features.user_session_features where as_of = %s and user_id = 'u05'", LATER)
    assert_closed(view, LATER)
    run_dbt(LATER, *VIEW_MODELS)
    assert publish(view, LATER)["is_live"]
    assert live() == [LATER]


def test_skew_that_somebody_accepts_is_published_and_remembered(view: FeatureView) -> None:
    deliver(session("u03", EARLIER - 40 * DAY, known_at=EARLIER - 39 * DAY))
    assert_closed(view, NEXT)
    assert publish(view, NEXT, accept_skew="the importer was down")["is_live"]
    assert [row["note"] for row in ledger()] == [None, "accepted skew: the importer was down"]
    accepted = {row["feature"]: row["cause"] for row in audits() if row["accepted_because"] == "the importer was down"}
    assert accepted == dict.fromkeys(("session_count", "avg_session_duration_minutes"), Cause.BACKDATED_DATA)
    assert {row["accepted_because"] for row in audits() if row["mismatches"] == 0} == {None}
    assert served() == stored(NEXT)


def test_after_skew_was_accepted_the_next_publication_passes_by_itself(view: FeatureView) -> None:
    deliver(session("u03", EARLIER - 40 * DAY, known_at=EARLIER - 39 * DAY))
    publish(view, NEXT, accept_skew="the importer was down")
    run_dbt(NEXT + HOUR, *VIEW_MODELS)
    assert publish(view, NEXT + HOUR)["is_live"]
    assert ledger()[-1]["note"] is None


def test_a_new_definition_may_give_other_values_and_says_how_many(view: FeatureView, tmp_path: Path) -> None:
    run_dbt(LATER, *VIEW_MODELS, project=with_another_definition(tmp_path))
    assert publish(view, LATER)["is_live"]
    old, new = ledger()
    assert old["feature_version"] != new["feature_version"] == served()[0][2]
    assert skews(LATER) == {}
    ((feature, (mismatches, cause, _)),) = skews(EARLIER).items()
    assert (feature, mismatches, cause) == ("sessions_last_7_days", 11, Cause.NEW_DEFINITION)


def test_a_new_definition_of_the_live_instant_replaces_it(view: FeatureView, tmp_path: Path) -> None:
    run_dbt(EARLIER, *VIEW_MODELS, project=with_another_definition(tmp_path))
    assert publish(view, EARLIER)["is_live"]
    assert live() == [EARLIER]
    old, new = ledger()
    assert old["feature_version"] != new["feature_version"] == served()[0][2]


def test_a_definition_that_returns_is_the_current_one(view: FeatureView, tmp_path: Path) -> None:
    run_dbt(LATER, *VIEW_MODELS, project=with_another_definition(tmp_path))
    run_dbt(LATER, *VIEW_MODELS)
    assert publish(view, LATER)["is_live"]
    old, new = ledger()
    assert old["feature_version"] == new["feature_version"] == served()[0][2]
    assert [row for row in audits() if row["mismatches"]] == []


def test_the_new_rows_of_a_new_definition_are_judged_strictly(view: FeatureView, tmp_path: Path) -> None:
    run_dbt(LATER, *VIEW_MODELS, project=with_another_definition(tmp_path))
    execute(
        "update features.user_session_features set session_count = 0 where as_of = %s and feature_version <> %s",
        LATER,
        ledger()[0]["feature_version"],
    )
    assert_closed(view, LATER, "session_count differs in 11 of 12 rows (changed logic;")


def test_each_view_has_a_gate_of_its_own(contract: Contract, view: FeatureView) -> None:
    execute("update features.user_session_features set session_count = 0 where as_of = %s", LATER)
    assert_closed(view, LATER)
    for name in ("event_type_features", "user_variety_features"):
        assert publish(contract.feature_view(name), LATER)["is_live"]


def test_a_view_that_nothing_serves_has_its_rows_audited(view: FeatureView) -> None:
    unserved = view.model_copy(update={"serving": None})
    change_serving_view("select * from before limit 3")
    assert publish(unserved, LATER)["is_live"]
    execute("update features.user_session_features set session_count = 0 where as_of = %s", LATER)
    fill(view, NEXT)
    with pytest.raises(GateClosed, match="session_count differs in 11 of 12 rows"):
        publish(unserved, NEXT)
