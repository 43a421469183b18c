"""Retention: which snapshots thin out, and that nothing is lost by it, since every row can be computed again."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from features.contract import Contract, FeatureView, Model, Retention
from features.steps.publish import publish
from features.steps.retain import is_kept, thin, thin_log
from features.steps.roll_back import roll_back
from tests.databases import execute, rows
from tests.dbt_project.oracle import DAY, HOUR, MICROSECOND
from tests.dbt_project.running import run_dbt
from tests.steps.small_warehouse import EARLIER, LATER, audits, fill, ledger, live, served, stored

NOON = LATER + 12 * HOUR
POLICY = {
    "this very one": (NOON, True),
    "an hour old": (NOON - HOUR, True),
    "just seven days old": (NOON - 7 * DAY, True),
    "a moment older": (NOON - 7 * DAY - MICROSECOND, False),
    "seven days and an hour": (NOON - 7 * DAY - HOUR, False),
    "midnight of a week ago": (LATER - 7 * DAY, True),
    "just after that midnight": (LATER - 7 * DAY + MICROSECOND, False),
    "a second after": (LATER - 7 * DAY + timedelta(seconds=1), False),
    "a minute after": (LATER - 7 * DAY + timedelta(minutes=1), False),
    "the last midnight within 90 days": (LATER - 89 * DAY, True),
    "the midnight before": (LATER - 91 * DAY, False),
    "from the future, as in a backfill": (NOON + DAY + HOUR, True),
}


@pytest.mark.parametrize(("snapshot", "kept"), POLICY.values(), ids=POLICY)
def test_every_hour_for_a_week_and_every_midnight_for_90_days(snapshot: datetime, kept: bool) -> None:
    assert is_kept(snapshot, NOON, Retention()) is kept


def test_exactly_90_days_of_midnights() -> None:
    assert is_kept(LATER - 90 * DAY, LATER, Retention())
    assert not is_kept(LATER - 90 * DAY, LATER + MICROSECOND, Retention())


def test_a_view_may_have_a_policy_of_its_own() -> None:
    short = Retention(every_hour_for_days=1, every_day_for_days=2)
    assert is_kept(NOON - DAY, NOON, short)
    assert not is_kept(NOON - DAY - HOUR, NOON, short)
    assert is_kept(LATER - DAY, NOON, short)
    assert not is_kept(LATER - 2 * DAY, NOON, short)


# Everything below thins the small warehouse, whose labels train on rows of 2013-03-05 to 2013-06-11.
LABELLED = "select distinct as_of from training.churn_training_set"
MIDSUMMER = datetime.fromisoformat("2013-06-20T00:00:00+00:00")
OLD_HOURS = [MIDSUMMER + 3 * HOUR, MIDSUMMER + 4 * HOUR]


@pytest.fixture
def view(churn: Model) -> FeatureView:
    """The view, with the policy that is the default."""
    return churn.feature_view.model_copy(update={"retention": Retention()})


@pytest.fixture
def _history(small_warehouse: str, view: FeatureView) -> None:
    """Beside what dbt built: a midnight and two other hours that are twelve days old at LATER."""
    fill(view, MIDSUMMER, *OLD_HOURS)


def everything(condition: str = "true") -> list[tuple[Any, ...]]:
    return rows(f"select * from features.user_session_features where {condition} order by as_of, user_id")


def instants() -> set[datetime]:
    return {as_of for (as_of,) in rows("select distinct as_of from features.user_session_features")}


@pytest.mark.usefixtures("_history")
def test_old_hours_go_and_nothing_else(view: FeatureView) -> None:
    before = everything()
    assert thin(view, LATER) == {"rows": 24, "snapshots": 2}
    assert everything() == [row for row in before if row[1] not in OLD_HOURS]


@pytest.mark.usefixtures("_history")
def test_old_midnights_go_when_they_are_90_days_old(view: FeatureView) -> None:
    thin(view, MIDSUMMER + 90 * DAY)
    assert MIDSUMMER in instants()
    thin(view, MIDSUMMER + 90 * DAY + HOUR)
    assert MIDSUMMER not in instants()


@pytest.mark.usefixtures("_history")
def test_rows_that_a_label_trains_on_stay_whatever_their_age(view: FeatureView) -> None:
    train = "select * from training.churn_training_set order by user_id, label_at"
    before = rows(train)
    thin(view, LATER + 1000 * DAY)
    assert instants() == {as_of for (as_of,) in rows(LABELLED)}
    assert rows(train) == before


@pytest.mark.usefixtures("_history")
def test_of_a_snapshot_that_labels_train_on_only_their_rows_stay(view: FeatureView) -> None:
    """u12 was known in June, but no label was about them any more."""
    ((last_label,),) = rows("select max(label_at) from training.churn_training_set")
    fill(view, last_label)
    assert len(stored(last_label)) == 12
    thin(view, LATER + 1000 * DAY)
    assert [row[0] for row in stored(last_label)] == [f"u{number:02}" for number in range(1, 12)]


@pytest.mark.usefixtures("_history")
def test_a_view_that_nothing_trains_on_keeps_what_its_policy_says(contract: Contract) -> None:
    types = contract.feature_view("event_type_features")
    fill(types, MIDSUMMER, *OLD_HOURS)
    assert thin(types, LATER) == {"rows": 6, "snapshots": 2}
    assert thin(types, LATER + 1000 * DAY)["snapshots"] == 3
    assert rows("select count(*) from features.event_type_features") == [(0,)]
    assert len(instants()) > 3  # of the other view


@pytest.mark.usefixtures("_history")
def test_what_is_live_stays(view: FeatureView) -> None:
    publish(view, OLD_HOURS[0])
    before = served()
    thin(view, LATER + 1000 * DAY)
    assert served() == before == stored(OLD_HOURS[0])
    assert OLD_HOURS[1] not in instants()


@pytest.mark.usefixtures("_history")
def test_what_a_rollback_made_live_stays(view: FeatureView) -> None:
    publish(view, OLD_HOURS[0])
    publish(view, LATER)
    roll_back([view], OLD_HOURS[0])
    before = served()
    thin(view, LATER + 1000 * DAY)
    assert served() == before


@pytest.mark.usefixtures("_history")
def test_thinning_again_does_nothing(view: FeatureView) -> None:
    thin(view, LATER)
    before = everything()
    assert thin(view, LATER) == {"rows": 0, "snapshots": 0}
    assert everything() == before


@pytest.mark.usefixtures("_history")
def test_thinned_rows_are_recomputed_to_the_last_bit(view: FeatureView) -> None:
    before = everything()
    thin(view, LATER + 1000 * DAY)
    thinned = sorted(set(before) - set(everything()), key=lambda row: (row[1], row[0]))
    assert len(thinned) == 5 * 12
    recomputed = rows(f"""
        select again.*
        from unnest(array{[str(row[1]) for row in thinned]}::timestamptz[], array{[row[0] for row in thinned]})
            as thinned (as_of, user_id)
        cross join lateral features.user_session_features_as_of(array[user_id], as_of) as again
        order by again.as_of, again.user_id
    """)
    assert recomputed == thinned


@pytest.mark.usefixtures("_history")
def test_a_later_materialisation_brings_thinned_rows_back_as_they_were(view: FeatureView) -> None:
    before = everything()
    thin(view, LATER)
    for as_of in OLD_HOURS:
        run_dbt(as_of, "user_session_features")
    assert everything() == before


@pytest.mark.usefixtures("_history")
def test_the_gate_still_knows_what_is_live(view: FeatureView) -> None:
    publish(view, EARLIER)
    thin(view, EARLIER + 1000 * DAY)
    fill(view, LATER)
    assert publish(view, LATER)["is_live"]
    assert live() == [LATER]
    assert {(row["mismatches"], row["rows_compared"]) for row in audits()} == {(0, 12)}


@pytest.mark.usefixtures("_history")
def test_a_publication_that_was_thinned_out_can_be_served_again_after_it_was_computed_again(view: FeatureView) -> None:
    publish(view, OLD_HOURS[0])
    before = served()
    publish(view, LATER)
    thin(view, LATER)
    assert stored(OLD_HOURS[0]) == []
    run_dbt(OLD_HOURS[0], "user_session_features")
    roll_back([view], OLD_HOURS[0])
    assert served() == before
    assert [row["as_of"] for row in ledger()] == [OLD_HOURS[0], LATER, OLD_HOURS[0]]


# Predictions: kept until they have been measured, and for as long as the exposure says

PREDICT = """
insert into serving.predictions (model_name, model_version, entity_id, as_of, score)
select model_name, '1', 'u' || n, timestamptz '2013-07-02' - age * interval '1 day', 0.5
from unnest(array['churn', 'upsell']) as model_name
cross join unnest(array[0, 30, 49, 50, 90, 91]) as age
cross join generate_series(1, 3) as n
"""
AGES = (
    "select distinct extract(day from timestamptz '2013-07-02' - as_of)::int from serving.predictions"
    " where model_name = '{}' order by 1"
)


@pytest.mark.parametrize(("days", "left"), [(90, [0, 30, 49, 50, 90]), (60, [0, 30, 49, 50]), (1, [0, 30, 49])])
def test_old_predictions_of_the_model_go_once_they_have_been_measured(
    small_warehouse: str, churn: Model, days: int, left: list[int]
) -> None:
    """Labels take 14 days, and 35 more may bring more of them."""
    inference = churn.inference.model_copy(update={"keep_predictions_days": days})
    execute(PREDICT)
    assert thin_log(churn.model_copy(update={"inference": inference}), LATER) == 3 * (6 - len(left))
    assert [age for (age,) in rows(AGES.format("churn"))] == left
    assert len(rows(AGES.format("upsell"))) == 6
