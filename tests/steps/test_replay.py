"""Replaying: unchanged rules repeat what was written, others say what they would have said, and nothing is kept."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import pytest

from features import warehouse
from features.contract import Contract, DriftSettings, Model
from features.drift import baselines, store
from features.drift.baselines import BaselineKey
from features.drift.calibration import baseline_of_hours
from features.drift.decision import DriftStatus
from features.drift.hours import Hour
from features.drift.profile import Wobble
from features.drift.report import WHOLE
from features.drift.sketch import Sketch
from features.drift.sources import snapshot_source
from features.errors import SkewlessError
from features.steps.replay import END_OF_TIME, Verdict, replay
from features.steps.watch import plan
from tests.databases import execute
from tests.steps.drift_warehouse import (
    AS_OF,
    FEATURES,
    HOUR,
    become_champion,
    by_default,
    changed,
    empty_tables,
    everything,
    healthy,
    hours_before,
    monitored,
    reports,
    serve,
    serve_again,
    start_over,
    train,
    users,
    watch,
    with_feature,
    without_feature,
)

COUNT, MINUTES, DAYS, WEEKLY, MONTHLY = FEATURES
HOURS = [*hours_before(25), AS_OF]
SINCE = HOURS[0] - HOUR
OFF = DriftSettings(watch=False)
UP_AND_DOWN: tuple[Literal["up", "down"], ...] = ("up", "down")


@pytest.fixture(scope="module")
def churn(contract: Contract) -> Model:
    """Two features and everybody's recent part: enough to see all that a report can say."""
    model = by_default(contract.model("churn"))
    for name in (COUNT, WEEKLY, MONTHLY):
        model = without_feature(model, name)
    return monitored(model, prediction=OFF, label=OFF, segments={"recent": "days_since_last_session < 20"})


@pytest.fixture(scope="module", autouse=True)
def history(server: None, churn: Model) -> Iterator[None]:
    """A day and two hours in which minutes were well, then not, then gone, then few; days stayed as they were."""
    minutes = healthy()[MINUTES]
    told: dict[int, Mapping[str, Any]] = {
        8: {MINUTES: minutes + 2},
        12: {MINUTES: minutes + 5},
        15: {MINUTES: [None] * len(minutes)},
        16: {MINUTES: [*minutes[1:], float("nan")]},
        19: {MINUTES: minutes * 60},
    }
    with empty_tables(), pytest.MonkeyPatch.context() as patch:
        become_champion(patch, "1")
        train(churn)
        a_serving_baseline(churn, MINUTES)
        for place, hour in enumerate(HOURS):
            if place == 22:
                serve(hour, healthy(150), users(150))
            else:
                serve(hour, changed(**told.get(place, {})))
            watch(churn, hour)
        yield


@pytest.fixture(autouse=True)
def _champion(monkeypatch: pytest.MonkeyPatch) -> None:
    become_champion(monkeypatch, "1")


def a_serving_baseline(model: Model, feature: str) -> None:
    """What four healthy weeks would have become: hours of the week, and a little wobble."""
    random = np.random.default_rng(7)
    source = snapshot_source(model, "v1")
    with warehouse.connect() as connection:
        key = BaselineKey("training", "training", WHOLE, "1")
        trained = baselines.read_baseline(connection, model, feature, key)
        assert trained is not None
        grid = trained.baseline.grid
        past = [AS_OF - timedelta(days=40) + 3 * number * HOUR for number in range(8 * 28)]
        hours = [Hour(at, Sketch.of(random.normal(30 + random.normal(0, 0.2), 5, 300), grid), 300.0) for at in past]
        made = baseline_of_hours(hours, grid, 2000, model.monitoring.windows_hours)
        assert max(wobble.distance for wobble in made.wobble.values()) > 0
        baselines.write_baseline(
            connection,
            model,
            feature,
            BaselineKey("serving", source.name, WHOLE, source.version),
            store.StoredGrid(trained.grid_id, grid),
            {**made.slots, baselines.WHOLE_SLOT: (made.whole, made.entities)},
            (past[0], past[-1]),
            made.wobble,
        )


def replayed(model: Model, since: datetime = SINCE, until: datetime = AS_OF) -> list[Verdict]:
    return list(replay(model, since, until))


def alarms(verdicts: Sequence[Verdict], feature: str = MINUTES) -> int:
    """Comparisons of a feature that the rules of now would have warned of."""
    loud = {DriftStatus.WARNING, DriftStatus.CRITICAL}
    return sum(verdict.now in loud for verdict in verdicts if verdict.subject.feature == feature)


def alarms_written(feature: str = MINUTES) -> int:
    return len(reports(feature, drift_detected=True))


def floors(warning: float, critical: float) -> DriftSettings:
    return DriftSettings(warning_floor=warning, critical_floor=critical)


# The same rules


def test_the_history_has_everything_a_report_can_say() -> None:
    written = reports(MINUTES)
    assert {row["status"] for row in written} == {"ok", "warning", "critical", "insufficient_data", "missing_feature"}
    assert {row["baseline"] for row in written} == {"training", "serving"}
    assert {row["window_hours"] for row in written} == {1, 6, 24, 168}
    assert {row["segment"] for row in written} == {"all", "recent"}
    assert len({row["as_of"] for row in written}) == 26


def test_unchanged_rules_repeat_every_report_to_the_letter(churn: Model) -> None:
    verdicts = replayed(churn)
    assert [verdict for verdict in verdicts if verdict.was != verdict.now] == []
    assert not any(verdict.changed for verdict in verdicts)
    again = {
        (
            verdict.subject.feature,
            verdict.subject.as_of,
            verdict.subject.source,
            verdict.subject.segment,
            verdict.subject.window_hours,
            verdict.subject.baseline,
            verdict.subject.source_version,
            str(verdict.now),
            verdict.detail,
        )
        for verdict in verdicts
    }
    names = ("feature", "as_of", "source", "segment", "window_hours", "baseline", "source_version", "status", "detail")
    written = {tuple(row[name] for name in names) for row in reports() if row["baseline_id"] is not None}
    assert again == written
    assert len(verdicts) == len(written)


def test_nothing_is_written(churn: Model) -> None:
    before = everything()
    replayed(with_feature(churn, MINUTES, drift=floors(0.2, 0.5)))
    assert everything() == before


def test_the_features_themselves_are_not_needed(churn: Model) -> None:
    # Retention deletes them after days; the counts stay.
    before = replayed(churn, HOURS[17])
    execute("alter table features.user_session_features rename to gone")
    execute("alter table training.churn_training_set rename to gone")
    try:
        assert replayed(churn, HOURS[17]) == before
    finally:
        execute("alter table features.gone rename to user_session_features")
        execute("alter table training.gone rename to churn_training_set")


def test_the_champion_of_now_is_not_needed_either(churn: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    before = replayed(churn, HOURS[17])
    become_champion(monkeypatch, None)
    assert replayed(churn, HOURS[17]) == before


# Other rules


def test_higher_floors_silence(churn: Model) -> None:
    verdicts = replayed(with_feature(churn, MINUTES, drift=floors(0.9, 0.95)))
    assert 0 < alarms(verdicts) < alarms_written()
    silenced = [verdict for verdict in verdicts if verdict.changed]
    assert silenced
    assert all(verdict.was in {DriftStatus.WARNING, DriftStatus.CRITICAL} for verdict in silenced)
    # What breaks the contract has no floor.
    at_nan = [verdict for verdict in verdicts if verdict.subject.as_of == HOURS[16] and "not_finite" in verdict.detail]
    assert at_nan
    assert {verdict.now for verdict in at_nan} == {DriftStatus.CRITICAL}


def test_lower_floors_add_and_none_is_lost(churn: Model) -> None:
    verdicts = replayed(with_feature(churn, MINUTES, drift=floors(0.001, 0.002)))
    assert alarms(verdicts) > alarms_written()
    assert all(verdict.now >= verdict.was for verdict in map(_Ranked, verdicts) if verdict.was)


class _Ranked:
    """A verdict's alarms as numbers."""

    def __init__(self, verdict: Verdict) -> None:
        rank = Counter({DriftStatus.WARNING: 1, DriftStatus.CRITICAL: 2})
        self.was, self.now = (rank[status] if status else 0 for status in (verdict.was, verdict.now))


def test_the_rules_of_one_feature_do_not_touch_another(churn: Model) -> None:
    verdicts = replayed(with_feature(churn, MINUTES, drift=floors(0.001, 0.002)))
    assert {verdict.subject.feature for verdict in verdicts if verdict.changed} == {MINUTES}


def test_a_direction_leaves_the_other_way_alone(churn: Model) -> None:
    up, down = (
        alarms(replayed(with_feature(churn, MINUTES, drift=DriftSettings(direction=direction))))
        for direction in UP_AND_DOWN
    )
    # Minutes only grew; what is left is what was missing or broken.
    assert down < up <= alarms_written()


def test_a_feature_whose_drift_is_off_is_left_out(churn: Model) -> None:
    verdicts = replayed(with_feature(churn, MINUTES, drift=OFF))
    assert {verdict.subject.feature for verdict in verdicts} == {DAYS}
    assert replayed(with_feature(with_feature(churn, MINUTES, drift=OFF), DAYS, drift=OFF)) == []


def test_a_feature_that_is_not_declared_any_more_is_left_out(churn: Model) -> None:
    assert {verdict.subject.feature for verdict in replayed(without_feature(churn, DAYS))} == {MINUTES}


def test_a_window_that_was_not_watched_is_shown_beside_nothing(churn: Model) -> None:
    verdicts = replayed(monitored(churn, windows_hours=(1, 3)))
    assert {verdict.subject.window_hours for verdict in verdicts} == {1, 3}
    new = [verdict for verdict in verdicts if verdict.subject.window_hours == 3]
    assert {verdict.was for verdict in new} == {None}
    assert {verdict.changed for verdict in new} == {True, False}
    assert all(verdict.changed == (verdict.now in {"warning", "critical"}) for verdict in new)


def test_a_tighter_budget_of_false_alarms_silences_too(churn: Model) -> None:
    assert alarms(replayed(monitored(churn, false_alarms_per_week=1e-12))) < alarms_written()


# Which part of history


def test_the_first_instant_is_left_out_and_the_last_is_in(churn: Model) -> None:
    verdicts = replayed(churn, HOURS[3], HOURS[5])
    assert {verdict.subject.as_of for verdict in verdicts} == {HOURS[4], HOURS[5]}
    assert all(verdict.was == verdict.now for verdict in verdicts)


def test_without_an_end_everything_since_is_replayed(churn: Model) -> None:
    assert replayed(churn, HOURS[17], END_OF_TIME) == replayed(churn, HOURS[17])


def test_a_time_in_which_nothing_was_watched_is_refused(churn: Model) -> None:
    with pytest.raises(SkewlessError, match=r"^No drift report of churn is in \(2013-08-01 .*, 2013-09-01 .*\]\.$"):
        replayed(churn, datetime.fromisoformat("2013-08-01T00:00Z"), datetime.fromisoformat("2013-09-01T00:00Z"))


def test_another_models_reports_are_not_its_own(churn: Model) -> None:
    with pytest.raises(SkewlessError, match="No drift report of fraud is in"):
        replayed(churn.model_copy(update={"name": "fraud"}))


# What the budget is shared by: these have a history of their own, so they come last.


def a_day_of(model: Model, columns: Mapping[str, Any]) -> None:
    """An hour and what was seen in it, of a champion for whom one feature never had a value."""
    start_over()
    train(model, columns=columns)
    serve(AS_OF, columns)
    serve_again(hours_before(3))
    watch(model, AS_OF)


def test_all_that_is_watched_shares_the_budget_as_it_did_then(churn: Model) -> None:
    model = monitored(churn, segments={})
    a_day_of(model, healthy())
    assert {verdict.detail for verdict in replayed(model)} == {row["detail"] for row in reports()}


def test_what_had_no_baseline_shares_the_budget_too(churn: Model) -> None:
    model = monitored(with_feature(churn, WEEKLY, data_type="bigint"), segments={})
    a_day_of(model, changed(**{WEEKLY: np.full(2000, None)}))
    assert [row["status"] for row in reports(WEEKLY)] == ["baseline_missing"]
    written = {(row["feature"], row["window_hours"]): row["detail"] for row in reports()}
    for verdict in replayed(model):
        assert verdict.detail == written[verdict.subject.feature, verdict.subject.window_hours]


def test_what_would_not_be_watched_would_leave_its_share_to_the_others(churn: Model) -> None:
    both = monitored(churn, segments={})
    a_day_of(both, healthy())
    lonely = with_feature(both, MINUTES, drift=OFF)
    then = {verdict.subject.window_hours: verdict.detail for verdict in replayed(lonely)}
    start_over()
    train(lonely)
    serve(AS_OF, healthy())
    serve_again(hours_before(3))
    watch(lonely, AS_OF)
    assert then == {row["window_hours"]: row["detail"] for row in reports(DAYS)}


def test_a_wobble_raises_the_floors_as_it_did_then(churn: Model) -> None:
    model = monitored(churn, segments={})
    start_over()
    train(model)
    source = snapshot_source(model, "v1")
    with warehouse.connect() as connection:
        key = BaselineKey("training", "training", WHOLE, "1")
        trained = baselines.read_baseline(connection, model, MINUTES, key)
        assert trained is not None
        baselines.write_baseline(
            connection,
            model,
            MINUTES,
            BaselineKey("serving", source.name, WHOLE, source.version),
            store.StoredGrid(trained.grid_id, trained.baseline.grid),
            {baselines.WHOLE_SLOT: (trained.baseline.whole, trained.baseline.entities)},
            (HOURS[0], AS_OF),
            {1: Wobble(0.1, 1.0, 28)},
        )
    serve(AS_OF, changed(**{MINUTES: healthy()[MINUTES] + 5}))
    planned = plan(model, AS_OF)
    watch(model, AS_OF, *planned["features"])
    hour = [verdict for verdict in replayed(model) if verdict.subject.window_hours == 1]
    now = {(verdict.subject.feature, verdict.subject.baseline): verdict.now for verdict in hour}
    assert now[MINUTES, "training"] is DriftStatus.CRITICAL
    assert now[MINUTES, "serving"] is not DriftStatus.CRITICAL
    assert all(verdict.was == verdict.now for verdict in hour)
