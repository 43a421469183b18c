"""The retraining page: which decisions it lists, page by page, and what it says of them."""

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import warehouse
from features.contract import Model
from features.health import retraining
from features.health.decay import AgePoint, ChampionAge, champion_age
from features.health.decisions import Decided, Failed, Forbidden, Looked, Outline, Training
from features.health.reading import read
from features.health.retraining import (
    Band,
    OutcomeCount,
    Reign,
    RetrainingPage,
    Span,
    bands,
    decided_by,
    page_of,
    retraining_page,
    stretches,
)
from features.retraining.decision import Outcome
from tests.plugins.rows import copy_rows

MIDNIGHT = datetime(2026, 6, 30, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

# Outcome, trigger, guards.
HOLD = ("hold", None, ())
UNKNOWN = ("unknown", None, ())
DRIFT = ("retrain", "drift", ())
INCIDENT = ("blocked", "drift", ("data_incident",))
COOLDOWN = ("blocked", "drift", ("cooldown",))
BOTH = ("blocked", "drift", ("cooldown", "data_incident"))
SCHEDULED = ("blocked", "scheduled", ("cooldown",))
WORDS = (HOLD, UNKNOWN, DRIFT, INCIDENT, COOLDOWN, BOTH, SCHEDULED)
Word = tuple[str, str | None, tuple[str, ...]]


def outlined(words: Sequence[Word]) -> list[Outline]:
    """Decisions of consecutive hours, the words being the oldest first; newest first."""
    every = [
        Outline(MIDNIGHT + place * HOUR, outcome, trigger, frozenset(guards))
        for place, (outcome, trigger, guards) in enumerate(words)
    ]
    return every[::-1]


def naive(words: Sequence[Word]) -> list[tuple[int, int]]:
    """Place of the first and number of each stretch, oldest first, by looking at each decision and the one before."""
    firsts = [
        place
        for place, word in enumerate(words)
        if place == 0
        or word[0] == "retrain"
        or word[:2] != words[place - 1][:2]
        or set(word[2]) != set(words[place - 1][2])
    ]
    return [(first, end - first) for first, end in zip(firsts, [*firsts, len(words)][1:], strict=True)]


STRETCHES = {
    "none": ([], []),
    "one": ([HOLD], [(0, 1)]),
    "all the same": ([HOLD] * 4, [(0, 4)]),
    "another outcome": ([HOLD, HOLD, UNKNOWN, HOLD], [(0, 2), (2, 1), (3, 1)]),
    "each retraining stands alone": ([DRIFT, DRIFT, HOLD], [(0, 1), (1, 1), (2, 1)]),
    "another guard": ([INCIDENT, INCIDENT, BOTH, COOLDOWN], [(0, 2), (2, 1), (3, 1)]),
    "another trigger": ([COOLDOWN, SCHEDULED, SCHEDULED], [(0, 1), (1, 2)]),
}


@pytest.mark.parametrize(("words", "expected"), STRETCHES.values(), ids=STRETCHES)
def test_a_stretch_begins_where_outcome_trigger_or_guards_change(
    words: list[Word], expected: list[tuple[int, int]]
) -> None:
    assert naive(words) == expected
    assert placed(stretches(outlined(words))) == expected


@given(st.lists(st.sampled_from(WORDS), max_size=60))
def test_stretches_are_those_of_looking_at_each_decision(words: list[Word]) -> None:
    spans = stretches(outlined(words))
    assert placed(spans) == naive(words)
    assert all(span.last == span.first + (span.decisions - 1) * HOUR for span in spans)
    assert [span.outcome for span in reversed(spans)] == [words[first][0] for first, _ in naive(words)]


def placed(spans: Iterable[Span]) -> list[tuple[int, int]]:
    """As the naive oracle says it."""
    return [((span.first - MIDNIGHT) // HOUR, span.decisions) for span in spans][::-1]


@given(
    st.lists(st.sampled_from(WORDS), max_size=60),
    st.integers(1, 9),
    st.integers(1, 20),
    st.sampled_from([None, *Outcome]),
)
def test_following_the_pages_loses_and_repeats_nothing(
    words: list[Word], size: int, most: int, outcome: Outcome | None
) -> None:
    found, before = [], MIDNIGHT + len(words) * HOUR
    every = outlined(words)
    for _ in range(len(words) + 1):
        rest = [one for one in every if one.as_of < before]
        page, older = page_of(stretches(rest[:most]), outcome, None, size, is_cut=len(rest) > most)
        assert len(page) <= size
        found += page
        if older is None:
            break
        assert older < before
        before = older
    assert older is None
    covered = [hour for span in found for hour in hours_of(span)]
    assert covered == [one.as_of for one in every if outcome in (None, one.outcome)]


def hours_of(span: Span) -> list[datetime]:
    """The instants that it covers, newest first."""
    return [span.last - number * HOUR for number in range(span.decisions)]


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=60), st.integers(1, 9), st.data())
def test_the_page_of_a_decision_has_it(words: list[Word], size: int, data: st.DataObject) -> None:
    every = outlined(words)
    asked = data.draw(st.sampled_from(every)).as_of
    page, _ = page_of(stretches(every), None, asked, size, is_cut=False)
    assert sum(span.first <= asked <= span.last for span in page) == 1


def test_a_stretch_that_is_longer_than_what_is_read_goes_on() -> None:
    page, older = page_of(stretches(outlined([HOLD] * 5)), None, None, 50, is_cut=True)
    assert page == [Span(MIDNIGHT, MIDNIGHT + 4 * HOUR, "hold", 5, goes_on=True)]
    assert older == MIDNIGHT


def test_bands_end_where_the_outcome_changes_or_an_hour_is_missing() -> None:
    def decided(hour: int, outcome: str) -> Decided:
        return Decided(MIDNIGHT + hour * HOUR, outcome, MIDNIGHT)

    found = bands([decided(0, "hold"), decided(1, "hold"), decided(2, "blocked"), decided(5, "blocked")])
    assert found == (
        Band("hold", MIDNIGHT, MIDNIGHT + 2 * HOUR, 2),
        Band("blocked", MIDNIGHT + 2 * HOUR, MIDNIGHT + 3 * HOUR, 1),
        Band("blocked", MIDNIGHT + 5 * HOUR, MIDNIGHT + 6 * HOUR, 1),
    )


def test_a_champion_stands_at_what_had_been_decided_on_when_it_began_to_reign() -> None:
    replayed = [Decided(MIDNIGHT + place * DAY, "hold", MIDNIGHT + 900 * DAY + place * HOUR) for place in range(3)]
    assert decided_by(MIDNIGHT + 900 * DAY + HOUR, replayed) == MIDNIGHT + DAY
    assert decided_by(MIDNIGHT, replayed) is None


AGES = {"as young as can be": (0, "young"), "the last hour": (30 * 24 - 1, "young"), "due": (30 * 24, "due")}


@pytest.mark.parametrize(("hours", "state"), AGES.values(), ids=AGES)
def test_a_champion_is_due_when_the_schedule_of_the_policy_says_so(churn: Model, hours: int, state: str) -> None:
    age = champion_age(churn, "3", MIDNIGHT, None, MIDNIGHT + hours * HOUR)
    assert (age.state, age.limit_days, age.due_at) == (state, 30, MIDNIGHT + 30 * DAY)
    assert age.age_days == pytest.approx(hours / 24)


def write_decisions(words: Sequence[Word], **changes: Any) -> None:
    """Decisions of consecutive hours from midnight on; each was made three minutes after its hour."""
    rows = [
        {
            "model_name": "churn",
            "as_of": as_of,
            "outcome": outcome,
            "should_retrain": outcome == "retrain",
            "trigger": trigger,
            "priority": "high" if trigger else "none",
            "reason": f"Because of {place}.",
            "triggers": warehouse.json_text([{"trigger": "drift", "fired": None, "evidence": "Drift is unknown."}]),
            "blocked_by": warehouse.json_text([{"guard": guard, "reason": f"{guard} forbids."} for guard in guards]),
            "champion_version": "1",
            "feature_version": "one",
            "dag_run_id": f"run of {place}",
            "decided_at": as_of + timedelta(minutes=3),
        }
        | changes
        for place, (outcome, trigger, guards) in enumerate(words)
        for as_of in [MIDNIGHT + place * HOUR]
    ]
    with warehouse.connect() as connection:
        copy_rows(connection, "monitoring.retraining_decisions", rows)


def write(table: str, *rows: dict[str, Any]) -> None:
    with warehouse.connect() as connection:
        for row in rows:
            warehouse.insert(connection, table, row)


def write_training(version: str, as_of: datetime, *, promoted: bool, failed: Sequence[str] = ()) -> None:
    checks = [{"check": "minimum", "passed": True, "evidence": "It is."}]
    checks += [{"check": check, "passed": False, "evidence": f"{check} fell."} for check in failed]
    write(
        "monitoring.model_evaluations",
        {
            "model_name": "churn",
            "model_version": version,
            "as_of": as_of,
            "metrics": "{}",
            "train_rows": 10,
            "holdout_rows": 5,
            "extract_id": "x",
            "promoted": promoted,
            "reason": f"v{version} was judged.",
            "checks": warehouse.json_text(checks),
        },
    )


def write_reign(version: str, since: datetime, kind: str = "promotion", replaced: str | None = None) -> None:
    write(
        "monitoring.champions",
        {
            "model_name": "churn",
            "model_version": version,
            "feature_version": "one",
            "kind": kind,
            "replaced_version": replaced,
            "because": f"v{version} is better.",
            "since": since,
        },
    )


def read_page(churn: Model, at: datetime = MIDNIGHT + DAY, **asked: Any) -> RetrainingPage:
    with read() as connection:
        return retraining_page(connection, churn, ("churn",), at, **asked)


@pytest.mark.usefixtures("empty_warehouse")
def test_a_warehouse_without_decisions_says_so(churn: Model) -> None:
    page = read_page(churn)
    assert (page.shown, page.stretches, page.bands, page.reigns, page.backtest) == (None, (), (), (), None)
    assert page.counts == tuple(OutcomeCount(outcome, 0) for outcome in ("retrain", "blocked", "hold", "unknown"))
    assert page.age == ChampionAge(
        None, None, None, None, "none", 30, " until a decay backtest has met models of 60 days"
    )
    assert read_page(churn, as_of=MIDNIGHT).shown is None


@pytest.mark.usefixtures("empty_warehouse")
def test_decisions_come_with_why_and_why_not_and_what_came_of_them(churn: Model) -> None:
    write_decisions([HOLD, HOLD, BOTH, DRIFT, HOLD])
    write_training("1", MIDNIGHT - DAY, promoted=True)
    write_training("2", MIDNIGHT + 3 * HOUR, promoted=False, failed=["champion", "slice"])
    write_training("3", MIDNIGHT + 3 * HOUR, promoted=True)
    page = read_page(churn)
    assert [(one.decision.as_of - MIDNIGHT, one.decision.outcome, one.decisions) for one in page.stretches] == [
        (4 * HOUR, "hold", 1),
        (3 * HOUR, "retrain", 1),
        (2 * HOUR, "blocked", 1),
        (0 * HOUR, "hold", 2),
    ]
    assert page.stretches[3].until == MIDNIGHT + HOUR
    retrained, blocked = page.stretches[1].decision, page.stretches[2].decision
    assert retrained.dag_run_id == "run of 3"
    assert {training.version: training for training in retrained.trainings} == {
        "2": Training(
            "2", False, "v2 was judged.", (Failed("champion", "champion fell."), Failed("slice", "slice fell."))
        ),
        "3": Training("3", True, "v3 was judged.", ()),
    }
    assert blocked.blocked_by == (
        Forbidden("cooldown", "cooldown forbids."),
        Forbidden("data_incident", "data_incident forbids."),
    )
    assert blocked.triggers == (Looked("drift", None, "Drift is unknown."),)
    assert (blocked.trigger, blocked.priority, blocked.reason) == ("drift", "high", "Because of 2.")
    assert page.shown == page.stretches[0].decision
    assert {one.outcome: one.decisions for one in page.counts} == {"retrain": 1, "blocked": 1, "hold": 3, "unknown": 0}


@pytest.mark.usefixtures("empty_warehouse")
def test_a_decision_that_only_repeats_the_one_before_is_shown_when_asked_for(churn: Model) -> None:
    write_decisions([HOLD, HOLD, HOLD, UNKNOWN])
    page = read_page(churn, as_of=MIDNIGHT + HOUR)
    assert page.shown
    assert page.shown.reason == "Because of 1."
    assert [one.is_asked for one in page.stretches] == [False, True]
    every = read_page(churn, as_of=MIDNIGHT + HOUR, every=True)
    assert [one.decision.as_of for one in every.stretches if one.is_asked] == [MIDNIGHT + HOUR]
    assert len(every.stretches) == 4


@pytest.mark.usefixtures("empty_warehouse")
def test_champions_and_their_age_and_the_decay_curve(churn: Model) -> None:
    write_decisions([DRIFT, HOLD, HOLD])
    write_training("1", MIDNIGHT - 40 * DAY, promoted=True)
    write_training("2", MIDNIGHT, promoted=True)
    write_reign("1", MIDNIGHT - 39 * DAY)
    write_reign("2", MIDNIGHT + HOUR + timedelta(minutes=30), replaced="1")
    write_reign("1", MIDNIGHT + 2 * HOUR + timedelta(minutes=30), "rollback", replaced="2")
    write_backtest(MIDNIGHT - 60 * DAY, max_age_days=20)
    write_backtest(MIDNIGHT - 30 * DAY, max_age_days=45, measured_days=70)
    page = read_page(churn, MIDNIGHT + 12 * HOUR)
    assert [(one.version, one.kind, one.as_of) for one in page.reigns] == [
        ("1", "rollback", MIDNIGHT + 2 * HOUR),
        ("2", "promotion", MIDNIGHT + HOUR),
        ("1", "promotion", None),
    ]
    assert page.reigns[1] == Reign(
        "2", "promotion", "1", "v2 is better.", MIDNIGHT + HOUR + timedelta(minutes=30), MIDNIGHT + HOUR, MIDNIGHT
    )
    source = f", by the decay backtest of {MIDNIGHT - 30 * DAY:%Y-%m-%d}"
    trained = MIDNIGHT - 40 * DAY
    assert page.age == ChampionAge("1", trained, 40.5, trained + 45 * DAY, "young", 45, source)
    assert page.backtest
    assert (page.backtest.max_age_days, page.backtest.low_days, page.backtest.high_days) == (45, 40, 90)
    assert page.backtest.points == (
        AgePoint(7.0, 0.001, 0.0005, 0.002, -0.001, 0.003, 9, 70),
        AgePoint(14.0, 0.002, 0.0015, 0.003, 0.0, 0.004, 9, 70),
    )


def write_backtest(as_of: datetime, *, max_age_days: int, measured_days: int = 60) -> None:
    write(
        "monitoring.decay_backtests",
        {
            "model_name": "churn",
            "as_of": as_of,
            "max_age_days": max_age_days,
            "max_age_low_days": 40,
            "max_age_high_days": 90,
            "measured_days": measured_days,
            "method": "costs",
            "reason": "It costs least.",
            "fresh_loss": 0.4,
            "slope_per_day": 0.0001,
            "slope_low": 0.0,
            "slope_high": 0.0002,
            "trainings": 9,
            "label_rows": 100,
            "feature_version": "one",
            "plot_svg": "<svg/>",
        },
    )
    for age in (14.0, 7.0):
        write(
            "monitoring.decay_curves",
            {
                "model_name": "churn",
                "as_of": as_of,
                "age_days": age,
                "excess_loss": 0.001 if age == 7 else 0.002,
                "excess_low": 0.0005 if age == 7 else 0.0015,
                "excess_high": 0.002 if age == 7 else 0.003,
                "spread_low": -0.001 if age == 7 else 0.0,
                "spread_high": 0.003 if age == 7 else 0.004,
                "pairs": 9,
                "label_rows": 70,
            },
        )


@pytest.mark.usefixtures("empty_warehouse")
def test_counts_and_bands_are_of_the_last_days_only(churn: Model) -> None:
    write_decisions([UNKNOWN, HOLD])
    write_decisions([DRIFT], as_of=MIDNIGHT - 90 * DAY + 2 * HOUR)
    page = read_page(churn)
    assert {one.outcome: one.decisions for one in page.counts} == {"retrain": 1, "blocked": 0, "hold": 1, "unknown": 1}
    write_decisions([HOLD], as_of=MIDNIGHT + 2 * HOUR)
    page = read_page(churn)
    assert {one.outcome: one.decisions for one in page.counts} == {"retrain": 0, "blocked": 0, "hold": 2, "unknown": 1}
    assert [band.outcome for band in page.bands] == ["unknown", "hold"]
    assert len(page.stretches) == 3


@pytest.mark.usefixtures("empty_warehouse")
def test_pages_of_a_long_history(churn: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining, "PAGE_SIZE", 6)
    monkeypatch.setattr(retraining, "MOST_READ", 45)
    chance = random.Random(3)
    words = [word for _ in range(60) for word in [chance.choice(WORDS)] * chance.randrange(1, 9)]
    write_decisions(words)
    newest_first = [MIDNIGHT + place * HOUR for place in reversed(range(len(words)))]
    assert [one.decision.as_of for one in followed(churn, every=True)] == newest_first
    expected = [(MIDNIGHT + first * HOUR, count) for first, count in reversed(naive(words))]
    assert [(one.decision.as_of, one.decisions) for one in followed(churn)] == expected
    blocked = [one for one in expected if words[(one[0] - MIDNIGHT) // HOUR][0] == "blocked"]
    assert [(one.decision.as_of, one.decisions) for one in followed(churn, outcome=Outcome.BLOCKED)] == blocked
    for asked in newest_first[:: len(words) // 12]:
        page = read_page(churn, as_of=asked)
        assert [one.decision.as_of <= asked <= one.until for one in page.stretches].count(True) == 1


def followed(churn: Model, **asked: Any) -> list[Any]:
    """The stretches of the first page and of all that it leads to."""
    page = read_page(churn, **asked)
    found = list(page.stretches)
    while page.older:
        page = read_page(churn, before=page.older, **asked)
        found += page.stretches
    return found
