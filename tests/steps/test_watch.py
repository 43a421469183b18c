"""Watching: what changed of a feature is found, named and written down once, however often it is asked for."""

import json
import re
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql
from scipy import stats

from features import warehouse
from features.contract import Contract, DriftSettings, Model, Valid
from features.drift import baselines, store
from features.drift.baselines import BaselineKey
from features.drift.hours import WEEK
from features.drift.report import WHOLE
from features.drift.sketch import Sketch
from features.drift.sources import LABEL, PREDICTION, snapshot_source
from features.errors import SkewlessError
from features.steps.watch import NO_CHAMPION, plan, watch_feature
from tests.databases import execute, rows
from tests.steps.drift_warehouse import (
    AS_OF,
    FEATURES,
    HOUR,
    USERS,
    ScoresItself,
    become_champion,
    by_default,
    changed,
    everything,
    healthy,
    hours_before,
    log_requests,
    mature,
    monitored,
    predict,
    publish,
    report,
    reports,
    serve,
    serve_again,
    train,
    users,
    watch,
    with_feature,
    without_feature,
)

pytestmark = pytest.mark.usefixtures("first_champion")

COUNT, MINUTES, DAYS, WEEKLY, MONTHLY = FEATURES
RECENT = "(days_since_last_session < 12)"


@pytest.fixture(scope="module")
def churn(contract: Contract) -> Model:
    return by_default(contract.model("churn"))


def diagnosed(model: Model, feature: str, **columns: Any) -> dict[str, str]:
    """What an alarm looks like after a healthy day and an hour with other columns."""
    train(model)
    serve(AS_OF - HOUR, healthy())
    serve_again(hours_before(23, AS_OF - HOUR), AS_OF - HOUR)
    serve(AS_OF, changed(**columns))
    alarm = watch(model, AS_OF, feature)[feature]["alarm"]
    assert alarm is not None
    return alarm


def minutes(n: int = USERS) -> Any:
    return healthy(n)[MINUTES].copy()


# What a window tells


def test_a_feature_as_it_was_is_ok(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    facts = watch(churn)[MINUTES]
    assert facts == {
        "feature": MINUTES,
        "status": "ok",
        "severity": 0,
        "detail": report(MINUTES)["detail"],
        "where": "snapshot, 1 h, against training",
        "n": USERS,
        "alarm": None,
        "hours_unchanged": 0,
        "longest_pause": 0,
        "is_dropped": False,
    }
    row = report(MINUTES)
    assert (row["model_name"], row["model_version"], row["status"], row["drift_detected"]) == (
        "churn",
        "1",
        "ok",
        False,
    )
    assert (row["n"], row["kind"], row["missing_rate"], row["baseline_missing_rate"]) == (USERS, "numeric", 0, 0)
    assert row["training_mean"] == pytest.approx(row["serving_mean"], rel=1e-9) == pytest.approx(30)
    assert row["training_std"] == pytest.approx(row["serving_std"]) == pytest.approx(5, rel=0.01)
    assert row["effect"] == row["effect_low"] == pytest.approx(0, abs=1e-12)
    assert 0 < row["effect_high"] < row["critical_floor"] == 0.1
    assert (row["effect_floor"], row["decided_by"]) == (0.04, "shape")
    assert 500 < row["needed_n"] < USERS
    assert row["psi"] == pytest.approx(0, abs=1e-9)


def test_a_feature_that_shifted_is_critical_and_its_effect_has_bounds(churn: Model) -> None:
    train(churn)
    serve(AS_OF, changed(**{MINUTES: minutes() + 5}))
    facts = watch(churn)[MINUTES]
    row = report(MINUTES)
    assert (facts["status"], row["status"], row["drift_detected"]) == ("critical", "critical", True)
    # A standard deviation: the KS distance of the two normal distributions is 0.383.
    assert row["ks_statistic"] == pytest.approx(2 * stats.norm.cdf(0.5) - 1, abs=0.02)
    assert row["ks_statistic"] <= row["ks_at_most"] <= row["ks_statistic"] + 0.02
    assert row["effect_low"] < row["effect"] < row["effect_high"]
    assert row["effect_low"] > row["critical_floor"]
    assert row["wasserstein"] == pytest.approx(5, rel=0.02)
    assert row["serving_mean"] - row["training_mean"] == pytest.approx(5)
    assert row["ks_p_value"] < 1e-6


def test_the_others_are_unaffected_by_one_that_shifted(churn: Model) -> None:
    train(churn)
    serve(AS_OF, changed(**{MINUTES: minutes() + 5}))
    found = watch(churn)
    assert {name: facts["status"] for name, facts in found.items() if name in FEATURES} == {
        **dict.fromkeys(FEATURES, "ok"),
        MINUTES: "critical",
    }


def test_every_window_has_a_report_against_the_training_rows(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    watch(churn)
    for feature in FEATURES:
        assert [(row["window_hours"], row["baseline"], row["source"], row["segment"]) for row in reports(feature)] == [
            (window, "training", "snapshot", "all") for window in (1, 6, 24, 168)
        ]


def test_a_window_counts_what_one_sketch_of_all_its_rows_counts(churn: Model) -> None:
    train(churn)
    rng = np.random.default_rng(11)
    hourly = {hour: rng.normal(33, 5, 400) for hour in [*hours_before(5), AS_OF]}
    for hour, values in hourly.items():
        serve(hour, healthy(400) | {MINUTES: values})
    watch(churn, AS_OF, MINUTES)
    with warehouse.connect() as connection:
        key = BaselineKey("training", "training", WHOLE, "1")
        stored = baselines.read_baseline(connection, churn, MINUTES, key)
        assert stored is not None
        parts = store.read_sketches(
            connection, stored.grid_id, "snapshot", snapshot_source(churn, "v1").version, WHOLE, AS_OF - 6 * HOUR, AS_OF
        )
    grid = stored.baseline.grid
    total, whole = Sketch.total(list(parts.values()), grid), Sketch.of(np.concatenate(list(hourly.values())), grid)
    assert list(parts) == list(hourly)
    np.testing.assert_array_equal(total.counts, whole.counts)
    np.testing.assert_allclose(total.sums, whole.sums, rtol=1e-12)
    assert total.squares == pytest.approx(whole.squares)
    row = report(MINUTES, window_hours=6)
    assert row["serving_mean"] == pytest.approx(float(np.concatenate(list(hourly.values())).mean()))


def test_a_longer_window_sees_what_no_hour_can_be_sure_of(churn: Model) -> None:
    train(churn)
    for number, hour in enumerate([*hours_before(23), AS_OF]):
        # Each hour other users, 2,400 in all.
        serve(hour, healthy(100) | {MINUTES: minutes(100) + 2.5}, users(100, first=100 * number))
    watch(churn, AS_OF, MINUTES)
    assert report(MINUTES)["status"] == "insufficient_data"
    day = report(MINUTES, window_hours=24)
    assert day["status"] == "critical"
    assert day["n"] == pytest.approx(2400, rel=0.2)


def test_a_window_of_which_hours_are_missing_is_not_judged(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    serve_again(hours_before(12))
    watch(churn, AS_OF, MINUTES)
    assert {row["window_hours"]: row["status"] for row in reports(MINUTES)} == {
        1: "ok",
        6: "ok",
        24: "ok",
        168: "insufficient_data",
    }
    assert report(MINUTES, window_hours=168)["detail"] == ("13 of its 168 hours are there; half of them are needed.")


def test_an_hour_that_was_published_is_part_of_the_window_and_one_that_was_not_is_not(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    serve_again(hours_before(2))
    serve(AS_OF - 3 * HOUR, changed(**{MINUTES: minutes() + 4}))
    execute("delete from serving.publications where as_of = %s", AS_OF - 3 * HOUR)
    watch(churn, AS_OF, MINUTES)
    assert report(MINUTES, window_hours=6)["serving_mean"] == pytest.approx(30)
    publish("v1", AS_OF - 3 * HOUR)
    watch(churn, AS_OF, MINUTES)
    assert report(MINUTES, window_hours=6)["serving_mean"] == pytest.approx(31)


def test_the_same_users_every_hour_do_not_make_a_week_surer(churn: Model) -> None:
    train(churn)
    serve(AS_OF, changed(**{MINUTES: minutes() + 1.5}) | {})
    execute("delete from features.user_session_features where user_id >= 'u00200'")
    serve_again(hours_before(167))
    watch(churn, AS_OF, MINUTES)
    hour, week = report(MINUTES), report(MINUTES, window_hours=168)
    assert hour["n"] == week["n"] == 200
    assert hour["status"] == week["status"] == "insufficient_data"
    assert week["effect_high"] - week["effect"] == pytest.approx(hour["effect_high"] - hour["effect"])


def test_only_the_population_the_model_is_for_is_compared(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    serve(AS_OF, healthy(500) | {COUNT: np.full(500, 10**6), DAYS: np.full(500, 60)}, users(500, first=USERS))
    watch(churn)
    assert (report(COUNT)["status"], report(COUNT)["n"]) == ("ok", USERS)


def test_a_population_may_use_a_pattern(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    watch(churn.model_copy(update={"population": "user_id like 'u000%' and mod(session_count, 2) >= 0"}))
    assert report(COUNT)["n"] == 100


def test_rows_of_an_earlier_definition_are_not_compared(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    serve(AS_OF, changed(**{COUNT: np.full(USERS, 10**6)}), version="v0")
    watch(churn)
    assert (report(COUNT)["status"], report(COUNT)["n"]) == ("ok", USERS)


def test_without_rows_there_is_not_enough_data(churn: Model) -> None:
    train(churn)
    facts = watch(churn)
    assert {facts[name]["status"] for name in FEATURES} == {"insufficient_data"}
    assert {row["n"] for row in reports()} == {0}


def test_a_small_sample_is_never_ok(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy(100))
    watch(churn)
    row = report(MINUTES)
    assert row["status"] == "insufficient_data"
    assert row["detail"] == f"100 entities with a value; {row['needed_n']:,} are needed."


# What an alarm looks like


def test_a_feature_without_any_value_is_missing(churn: Model) -> None:
    train(churn)
    serve(AS_OF, changed(**{COUNT: np.full(USERS, None)}))
    facts = watch(churn)[COUNT]
    assert (facts["status"], facts["detail"]) == ("missing_feature", f"None of {USERS:,} entities has a value.")
    assert report(COUNT)["missing_rate"] == 1


def test_a_single_nan_breaks_the_contract(churn: Model) -> None:
    values = minutes()
    values[17] = np.nan
    alarm = diagnosed(churn, MINUTES, **{MINUTES: values})
    assert alarm["cause"] == "contract break"
    assert alarm["because"] == "0.05% of the values are NaN or infinite"
    assert report(MINUTES)["status"] == "critical"


def test_a_single_value_outside_of_what_is_valid_breaks_the_contract(churn: Model) -> None:
    values = healthy()[DAYS].copy()
    values[17] = -1
    strict = with_feature(churn, DAYS, valid=Valid(minimum=0, maximum=90))
    alarm = diagnosed(strict, DAYS, **{DAYS: values})
    assert (alarm["cause"], report(DAYS)["decided_by"]) == ("contract break", "invalid")
    assert alarm["because"] == "0.05% of the values are outside of what is valid"


def test_what_is_not_declared_invalid_may_occur(churn: Model) -> None:
    values = healthy()[DAYS].copy()
    values[17] = -1
    train(churn)
    serve(AS_OF, changed(**{DAYS: values}))
    assert watch(churn)[DAYS]["status"] == "ok"


@pytest.mark.parametrize(("value", "share"), [(0.0, 0.08), (30.0, 0.1)], ids=["outside of the range", "within it"])
def test_a_default_in_some_rows_is_a_default_fill(churn: Model, value: float, share: float) -> None:
    values = minutes()
    values[: int(share * USERS)] = value
    alarm = diagnosed(churn, MINUTES, **{MINUTES: values})
    assert alarm["cause"] == "default fill"
    assert f"became {value:g}" in alarm["because"]


@pytest.mark.parametrize("feature", [COUNT, MINUTES])
def test_all_values_times_sixty_is_a_unit_change(churn: Model, feature: str) -> None:
    alarm = diagnosed(churn, feature, **{feature: healthy()[feature] * 60})
    assert (alarm["cause"], alarm["because"]) == ("unit change", "all values are as before x 60")


def test_one_value_of_ten_times_sixty_is_a_unit_change_too(churn: Model) -> None:
    values = minutes()
    values[: USERS // 10] *= 60
    alarm = diagnosed(churn, MINUTES, **{MINUTES: values})
    assert alarm["cause"] == "unit change"
    assert re.fullmatch("about (9|10|11)% of the values are as before x 60", alarm["because"])


def test_many_missing_values_are_a_null_burst(churn: Model) -> None:
    alarm = diagnosed(churn, COUNT, **{COUNT: np.where(np.arange(USERS) < USERS // 5, np.nan, healthy()[COUNT])})
    assert (alarm["cause"], alarm["because"]) == ("NULL burst", "20.0% of the values are missing, usually 0.0%")
    row = report(COUNT)
    assert (row["status"], row["decided_by"], row["missing_rate"]) == ("critical", "missing", 0.2)


def test_a_category_never_seen_is_named_so(churn: Model) -> None:
    countries = healthy()["country"].copy()
    countries[: USERS // 5] = "999"
    alarm = diagnosed(with_feature(churn, "country"), "country", country=countries)
    assert (alarm["cause"], alarm["because"]) == ("new category", "20.0% of the values were never seen before")


def test_categories_as_they_were_are_ok(churn: Model) -> None:
    model = with_feature(churn, "country")
    train(model)
    serve(AS_OF, healthy())
    watch(model)
    assert (report("country")["status"], report("country")["kind"]) == ("ok", "categorical")


def test_users_of_one_kind_that_are_gone_are_a_dropped_slice(churn: Model) -> None:
    train(churn)
    serve(AS_OF - HOUR, healthy())
    serve_again(hours_before(23, AS_OF - HOUR), AS_OF - HOUR)
    kept = np.argsort(minutes())[: int(0.7 * USERS)]
    serve(AS_OF, {name: values[kept] for name, values in healthy().items()})
    alarm = watch(churn, AS_OF, MINUTES)[MINUTES]["alarm"]
    assert alarm["cause"] == "dropped slice"
    assert alarm["because"].startswith("30% of the rows are gone, most of them from ")


def test_half_of_the_users_gone_at_random_is_no_alarm_of_the_distribution(churn: Model) -> None:
    train(churn)
    serve(AS_OF - HOUR, healthy())
    serve_again(hours_before(23, AS_OF - HOUR), AS_OF - HOUR)
    kept = np.random.default_rng(5).permutation(USERS)[: USERS // 2]
    serve(AS_OF, {name: values[kept] for name, values in healthy().items()})
    found = watch(churn)
    assert {found[name]["status"] for name in FEATURES} == {"ok"}


def test_half_a_standard_deviation_more_is_genuine(churn: Model) -> None:
    alarm = diagnosed(churn, MINUTES, **{MINUTES: minutes() + 2.5})
    assert (alarm["cause"], alarm["because"]) == ("genuine", "no mark of a broken pipeline")


def test_a_feature_that_stands_still_is_told_from_one_that_moves(churn: Model) -> None:
    train(churn)
    for number, hour in enumerate([*hours_before(24), AS_OF]):
        serve(hour, changed(**{WEEKLY: np.random.default_rng(number).poisson(3, USERS)}))
    found = watch(churn, AS_OF, COUNT, WEEKLY)
    assert (found[COUNT]["hours_unchanged"], found[WEEKLY]["hours_unchanged"]) == (24, 0)


def test_a_feature_of_fractions_that_stands_still_is_seen_too(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    for number, hour in enumerate(hours_before(24)):
        order = np.random.default_rng(number).permutation(USERS)
        serve(hour, {name: values[order] for name, values in healthy().items()}, np.array(users(USERS))[order].tolist())
    assert watch(churn, AS_OF, MINUTES)[MINUTES]["hours_unchanged"] == 24


# What cannot be compared


def test_without_a_champion_there_is_nothing_to_compare_with(churn: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    become_champion(monkeypatch, None)
    serve(AS_OF, healthy())
    found = watch(churn)
    assert {facts["status"] for facts in found.values()} == {"baseline_missing"}
    assert {facts["detail"] for facts in found.values()} == {"There is no champion to compare with."}
    assert set(found) == {*FEATURES, PREDICTION, LABEL}
    assert {row["model_version"] for row in reports()} == {NO_CHAMPION}
    assert report(COUNT)["n"] == USERS


def test_a_feature_that_the_champion_never_saw_has_no_baseline(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    found = watch(with_feature(churn, "country"))
    assert (found["country"]["status"], found[COUNT]["status"]) == ("baseline_missing", "ok")
    assert found["country"]["detail"].startswith("v1 was promoted before there was such a feature")


def test_a_feature_that_the_contract_dropped_is_missing(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    found = watch(without_feature(churn, MONTHLY))
    assert found[MONTHLY]["status"] == "missing_feature"
    assert found[MONTHLY]["detail"] == (
        "The champion was trained on it, and user_session_features does not declare it any more."
    )


def test_what_requests_bring_and_dbt_does_not_declare_is_unexpected(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    log_requests(AS_OF - HOUR / 2, {COUNT: [3], "shoe_size": [42]})
    found = watch(churn)
    assert found["shoe_size"]["status"] == "unexpected_feature"
    assert found["shoe_size"]["detail"] == "Requests bring it, and dbt does not declare it."
    assert found["shoe_size"]["alarm"] is None


def test_a_feature_whose_drift_is_off_is_not_watched(churn: Model) -> None:
    quiet = with_feature(churn, COUNT, drift=DriftSettings.model_validate("off"))
    quiet = monitored(quiet, label=DriftSettings(watch=False))
    train(churn)
    serve(AS_OF, healthy())
    assert plan(quiet, AS_OF)["features"] == [MINUTES, DAYS, WEEKLY, MONTHLY, PREDICTION]


def test_the_more_is_watched_the_less_each_test_may_spend(churn: Model) -> None:
    train(churn)
    alpha = plan(churn, AS_OF)["alpha"]
    # Seven things in four windows against two baselines, in three families, in each hour of a week.
    assert alpha == pytest.approx(0.5 / (168 * 7 * 4 * 2 * 3))
    assert plan(monitored(churn, segments={"new": "session_count < 10"}), AS_OF)["alpha"] == pytest.approx(alpha / 2)
    log_requests(AS_OF, {COUNT: [3]})
    assert plan(churn, AS_OF)["alpha"] == pytest.approx(alpha / 2)


def test_before_the_view_was_built_nobody_can_look(churn: Model) -> None:
    execute("delete from features.feature_versions")
    with pytest.raises(SkewlessError, match="dbt has not built user_session_features yet"):
        plan(churn, AS_OF)


def test_a_broken_feature_is_an_error_and_the_others_are_unaffected(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    execute(f"alter table features.user_session_features drop column {MONTHLY}")
    planned = plan(churn, AS_OF)
    with pytest.raises(psycopg.errors.UndefinedColumn):
        watch_feature(churn, MONTHLY, planned, AS_OF)
    (row,) = reports(MONTHLY)
    assert (row["status"], row["n"], row["drift_detected"]) == ("error", 0, False)
    assert row["detail"].startswith(f'UndefinedColumn: column "{MONTHLY}" does not exist')
    assert "\n" not in row["detail"]
    assert watch_feature(churn, COUNT, planned, AS_OF)["status"] == "ok"


def test_a_feature_that_was_mended_replaces_its_error(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    planned = plan(churn, AS_OF)
    execute(f"alter table features.user_session_features rename {MONTHLY} to gone")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        watch_feature(churn, MONTHLY, planned, AS_OF)
    execute(f"alter table features.user_session_features rename gone to {MONTHLY}")
    watch_feature(churn, MONTHLY, planned, AS_OF)
    assert {row["status"] for row in reports(MONTHLY)} == {"ok", "insufficient_data"}


# Scores, labels, requests, segments


def test_scores_are_watched_as_a_feature_is(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    predict(AS_OF, ScoresItself.score(minutes()))
    assert watch(churn, AS_OF, PREDICTION)[PREDICTION]["status"] == "ok"
    execute("update serving.predictions set score = score / 2")
    assert watch(churn, AS_OF, PREDICTION)[PREDICTION]["status"] == "critical"
    assert (report(PREDICTION)["n"], report(PREDICTION)["source_version"]) == (USERS, "1")


def test_scores_of_another_version_are_not_the_champions(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    predict(AS_OF, ScoresItself.score(minutes()), number="7")
    watch(churn, AS_OF, PREDICTION)
    assert report(PREDICTION)["n"] == 0


def test_labels_are_watched_in_the_hour_in_which_they_matured(churn: Model) -> None:
    train(churn, churned=0.2)
    serve(AS_OF, healthy())
    mature(AS_OF - 30 * HOUR, np.arange(USERS) < 0.2 * USERS)
    found = watch(churn, AS_OF, LABEL)[LABEL]
    assert {row["window_hours"]: row["n"] for row in reports(LABEL)} == {1: 0, 6: 0, 24: 0, 168: USERS}
    assert (found["status"], report(LABEL, source="labels", window_hours=168)["kind"]) == ("ok", "boolean")


def test_labels_that_turn_out_otherwise_are_critical(churn: Model) -> None:
    train(churn, churned=0.2)
    serve(AS_OF, healthy())
    mature(AS_OF, np.arange(USERS) < 0.5 * USERS)
    found = watch(churn, AS_OF, LABEL)[LABEL]
    assert (found["status"], report(LABEL, source="labels")["effect"]) == ("critical", pytest.approx(0.3))


def test_what_the_champion_really_saw_is_watched_beside_the_snapshot(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    columns = {name: healthy()[name].astype(int).tolist() for name in (COUNT, DAYS, WEEKLY, MONTHLY)}
    log_requests(AS_OF - HOUR / 2, columns | {MINUTES: (minutes() + 5).tolist()})
    found = watch(churn)
    assert {name: found[name]["status"] for name in FEATURES} == dict.fromkeys(FEATURES, "ok") | {MINUTES: "critical"}
    assert found[MINUTES]["where"] == "inference log, 1 h, against training"
    assert report(MINUTES)["status"] == "ok"
    assert report(MINUTES, source="inference_log")["n"] == USERS


def test_a_shift_within_one_segment_alone_is_found_there(churn: Model) -> None:
    n = 8000
    model = monitored(churn, segments={"recent": RECENT, "others": "days_since_last_session >= 12"})
    columns = healthy(n)
    train(model, columns=columns)
    serve(AS_OF, columns | {MINUTES: columns[MINUTES] + 3 * (columns[DAYS] < 12)})
    found = watch(model)
    assert {segment: report(MINUTES, segment=segment)["status"] for segment in ("all", "recent", "others")} == {
        "all": "ok",
        "recent": "critical",
        "others": "ok",
    }
    assert report(MINUTES, segment="recent")["n"] == int((columns[DAYS] < 12).sum())
    assert (found[MINUTES]["status"], found[MINUTES]["where"]) == (
        "critical",
        "recent, snapshot, 1 h, against training",
    )


def test_a_small_segment_of_other_users_has_not_drifted(churn: Model) -> None:
    model = monitored(churn, segments={"newest": "(days_since_last_session < 1)"})
    train(model)
    serve(AS_OF, changed(**{MINUTES: np.random.default_rng(3).permutation(minutes())}))
    watch(model, AS_OF, MINUTES)
    row = report(MINUTES, segment="newest")
    assert row["n"] == pytest.approx(USERS / 60, abs=1)
    assert row["status"] == "insufficient_data"


def test_a_default_within_one_segment_alone_is_read_there(churn: Model) -> None:
    n = 8000
    model = monitored(churn, segments={"recent": RECENT})
    columns = healthy(n)
    train(model, columns=columns)
    filled = columns[MINUTES].copy()
    filled[np.flatnonzero(columns[DAYS] < 12)[: n // 50]] = 30
    serve(AS_OF, columns | {MINUTES: filled})
    found = watch(model, AS_OF, MINUTES)[MINUTES]
    assert found["where"].startswith("recent")
    assert found["alarm"]["cause"] == "default fill"


def test_the_cause_is_that_of_the_worst_alarm(churn: Model) -> None:
    train(churn)
    serve(AS_OF, changed(**{MINUTES: minutes() + 1.6}))
    assert watch(churn, AS_OF, MINUTES)[MINUTES]["status"] == "warning"
    columns = {name: healthy()[name].astype(int).tolist() for name in FEATURES}
    log_requests(AS_OF, columns | {MINUTES: (60 * minutes()).tolist()})
    found = watch(churn, AS_OF, MINUTES)[MINUTES]
    assert (found["status"], found["alarm"]["cause"]) == ("critical", "unit change")


@pytest.mark.parametrize("churned", [0.2, 0.8])
def test_labels_that_turn_out_otherwise_are_genuine(churn: Model, churned: float) -> None:
    train(churn, churned=0.5)
    serve(AS_OF, healthy())
    mature(AS_OF, np.arange(USERS) < churned * USERS)
    assert watch(churn, AS_OF, LABEL)[LABEL]["alarm"]["cause"] == "genuine"


def test_a_month_without_any_label_is_no_baseline(churn: Model) -> None:
    train(churn)
    for back in (3 * WEEK, 2 * WEEK, WEEK, HOUR, 0 * HOUR):
        serve(AS_OF - back, healthy(10))
        watch(churn, AS_OF - back, LABEL)
    assert serving_baselines() == []


@pytest.mark.parametrize(("feature", "value"), [(COUNT, 3.0), (MINUTES, "fast")])
def test_one_request_that_cannot_be_read_does_not_hide_the_feature(churn: Model, feature: str, value: Any) -> None:
    train(churn)
    serve(AS_OF, healthy())
    log_requests(AS_OF, {feature: [value]})
    watch(churn, AS_OF, feature)
    assert report(feature)["status"] == "ok"


def test_a_request_that_cannot_be_read_does_not_touch_the_other_features(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    log_requests(AS_OF, {MINUTES: ["fast"], COUNT: [3]})
    assert watch(churn, AS_OF, COUNT)[COUNT]["status"] == "ok"


@pytest.mark.parametrize(
    "name",
    [
        "ta\"b|l'e; --",
        "größe",
        *("segment", "at", "hour", "prediction", "logged_at"),
        "share %",
    ],
)
def test_a_feature_may_have_any_name(churn: Model, name: str) -> None:
    model = with_feature(churn, name, data_type="double precision")
    execute(
        sql.SQL("alter table {} add {} double precision").format(
            sql.Identifier("features", "user_session_features"), sql.Identifier(name)
        )
    )
    execute(
        sql.SQL("alter table {} add {} double precision").format(
            sql.Identifier("training", "churn_training_set"), sql.Identifier(name)
        )
    )
    train(model, columns=healthy() | {name: minutes()})
    serve(AS_OF, healthy() | {name: minutes()})
    log_requests(AS_OF, {name: minutes().tolist()})
    assert watch(model, AS_OF, name)[name]["status"] == "ok"


# Doing it again


def test_what_a_task_returns_can_be_passed_on_as_json(churn: Model) -> None:
    train(churn)
    serve(AS_OF, changed(**{MINUTES: minutes() + 5}))
    planned = plan(churn, AS_OF)
    assert json.loads(json.dumps(planned)) == planned
    found = [watch_feature(churn, name, planned, AS_OF) for name in planned["features"]]
    assert json.loads(json.dumps(found)) == found


def test_watching_again_changes_nothing(churn: Model) -> None:
    model = monitored(churn, segments={"recent": RECENT})
    train(model)
    serve(AS_OF, changed(**{MINUTES: minutes() + 5}))
    serve_again(hours_before(6))
    predict(AS_OF, ScoresItself.score(minutes()))
    log_requests(AS_OF, {name: healthy()[name].astype(int).tolist() for name in FEATURES})
    first = watch(model)
    before = everything()
    assert watch(model) == first
    assert everything() == before


def test_watching_again_sees_what_was_changed_in_the_newest_hour(churn: Model) -> None:
    train(churn)
    serve(AS_OF, healthy())
    assert watch(churn)[COUNT]["status"] == "ok"
    execute("update features.user_session_features set session_count = session_count + 200")
    assert watch(churn)[COUNT]["status"] == "critical"


def test_each_champion_has_reports_of_its_own(churn: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    train(churn)
    train(churn, "2", changed(**{MINUTES: minutes() + 5}))
    serve(AS_OF, healthy())
    watch(churn)
    become_champion(monkeypatch, "2")
    watch(churn)
    assert {row["model_version"]: row["status"] for row in reports(MINUTES, window_hours=1)} == {
        "1": "ok",
        "2": "critical",
    }


# The first healthy weeks


def a_healthy_month(model: Model) -> None:
    """Four weeks of sixty users, looked at each week; a little of the mean moves from day to day."""
    train(model)
    every = [AS_OF - back * HOUR for back in range(4 * 168)]
    execute(
        "insert into features.user_session_features (user_id, as_of, avg_session_duration_minutes,"
        " days_since_last_session, feature_version) select 'u' || i, hour,"
        " 30 + 5 * sin(i * 12.9898 + extract(epoch from hour)) + 2 * sin(extract(day from hour)), 1, 'v1'"
        " from generate_series(1, 60) as i cross join unnest(%s::timestamptz[]) as hour",
        every,
    )
    publish("v1", *every)
    for back in (3 * WEEK, 2 * WEEK, WEEK, HOUR):
        watch(model, AS_OF - back, MINUTES)


def serving_baselines() -> list[tuple[Any, ...]]:
    return rows("select feature, source, segment, version from monitoring.feature_baselines where kind = 'serving'")


def test_four_healthy_weeks_become_a_baseline_with_their_wobble(churn: Model) -> None:
    a_healthy_month(churn)
    assert serving_baselines() == []
    watch(churn, AS_OF, MINUTES)
    assert serving_baselines() == [(MINUTES, "snapshot", "all", snapshot_source(churn, "v1").version)]
    with warehouse.connect() as connection:
        found = baselines.read_baseline(
            connection, churn, MINUTES, BaselineKey("serving", "snapshot", WHOLE, snapshot_source(churn, "v1").version)
        )
    assert found is not None
    assert found.baseline.whole.given == 60 * 4 * 168
    assert found.baseline.entities == 60
    assert set(found.baseline.slots) == set(range(168))
    assert set(found.baseline.wobble) == {1, 6, 24, 168}
    # The days' means move by up to 2 of 5.
    assert found.baseline.wobble[24].distance > 0.05
    assert found.baseline.wobble[24].days >= 28
    kinds = {row["baseline"] for row in reports(MINUTES) if row["as_of"] == AS_OF}
    assert kinds == {"training", "serving"}


def test_a_month_with_an_incident_is_no_healthy_month_unless_it_was_benign(churn: Model) -> None:
    a_healthy_month(churn)
    execute(
        "insert into monitoring.drift_incidents (model_name, upstream, cause, is_data_incident, severity, features,"
        " owner, summary, findings, opened_at, last_alarm_at, told_at, closed_at) values ('churn', 'x', 'NULL burst',"
        " true, 'critical', array[%s], 'me', '', '[]', %s, %s, %s, %s)",
        MINUTES,
        *[AS_OF - timedelta(days=21)] * 3,
        AS_OF - timedelta(days=20),
    )
    watch(churn, AS_OF, MINUTES)
    assert serving_baselines() == []
    execute("update monitoring.drift_incidents set verdict = 'genuine'")
    watch(churn, AS_OF, MINUTES)
    assert serving_baselines() == []
    execute("update monitoring.drift_incidents set verdict = 'benign'")
    watch(churn, AS_OF, MINUTES)
    assert len(serving_baselines()) == 1


def test_an_incident_before_that_month_does_not_matter(churn: Model) -> None:
    a_healthy_month(churn)
    execute(
        "insert into monitoring.drift_incidents (model_name, upstream, cause, is_data_incident, severity, features,"
        " owner, summary, findings, opened_at, last_alarm_at, closed_at) values ('churn', 'x', 'NULL burst', true,"
        " 'critical', array[%s], 'me', '', '[]', %s, %s, %s)",
        MINUTES,
        *[AS_OF - timedelta(days=28, hours=1)] * 3,
    )
    watch(churn, AS_OF, MINUTES)
    assert len(serving_baselines()) == 1
