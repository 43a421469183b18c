"""The parity page: what is live, what was, what the gate refused, and what differed where."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from features import warehouse
from features.contract import Contract, FeatureView
from features.health import parity, publications
from features.health.compared import Compared, Finding
from features.health.parity import Differing, Newest, ParityPage, parity_page
from features.health.publications import Publication
from features.health.reading import read

MIDNIGHT = datetime(2026, 6, 30, tzinfo=UTC)
HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)
VIEW, OTHER = "user_session_features", "user_variety_features"
FEATURES = ("(entities)", "session_count", "sessions_last_7_days")

pytestmark = pytest.mark.usefixtures("empty_warehouse")


@pytest.fixture
def view(contract: Contract) -> FeatureView:
    return contract.feature_view(VIEW)


def write(table: str, *rows: dict[str, Any]) -> None:
    with warehouse.connect() as connection:
        for row in rows:
            warehouse.insert(connection, table, row)


def publish(number: int, hour: int, moment: int, *, note: str | None = None, view: str = VIEW) -> None:
    """Publication `number` of the hour, live from a minute until the next one's."""
    with warehouse.connect() as connection:
        connection.execute(
            "update serving.publications set retired_at = %s where feature_view = %s and retired_at is null",
            [MIDNIGHT + moment * MINUTE, view],
        )
        connection.execute(
            """
            insert into serving.publications (
                publication_id, feature_view, as_of, feature_version, row_count, published_at, note
            )
            overriding system value values (%s, %s, %s, 'one', %s, %s, %s)
            """,
            [number, view, MIDNIGHT + hour * HOUR, 100 + number, MIDNIGHT + moment * MINUTE, note],
        )


def audit(
    number: int,
    hour: int,
    moment: int,
    mismatches: Sequence[int] = (0, 0, 0),
    *,
    cause: str = "backdated data",
    accepted: str | None = None,
    source: str = "publication",
    model: str = "",
    view: str = VIEW,
    as_of: datetime | None = None,
) -> None:
    """Ten rows compared, of which so many differ in each of FEATURES."""
    rows = [
        {
            "publication_id": number,
            "feature": feature,
            "feature_view": view,
            "as_of": as_of or MIDNIGHT + hour * HOUR,
            "feature_version": "one",
            "rows_compared": 10,
            "mismatches": differing,
            "example_keys": json.dumps([["ann"], ["bob", 7]] if differing else []),
            "cause": cause if differing else None,
            "accepted_because": accepted if differing else None,
            "audited_at": MIDNIGHT + moment * MINUTE,
            "source": source,
            "model_name": model,
        }
        for feature, differing in zip(FEATURES, mismatches, strict=True)
    ]
    write("monitoring.parity_audits", *rows)


def read_page(view: FeatureView, at: datetime = MIDNIGHT + 2 * HOUR, **asked: Any) -> ParityPage:
    with read() as connection:
        return parity_page(connection, view, (VIEW, OTHER), ("churn",), at, **asked)


def test_a_warehouse_in_which_nothing_was_published(view: FeatureView) -> None:
    page = read_page(view, as_of=MIDNIGHT)
    assert (page.live, page.earlier, page.publications, page.served, page.differing) == (None, (), (), (), ())
    assert (page.older, page.served_older) == (None, None)


def test_publications_come_with_what_the_gate_found(view: FeatureView) -> None:
    publish(1, hour=0, moment=5)
    audit(1, hour=0, moment=65)
    publish(2, hour=1, moment=65, note="accepted skew: they know")
    audit(2, hour=1, moment=65, mismatches=(0, 3, 1), accepted="they know")
    publish(3, hour=1, moment=70, view=OTHER)
    audit(3, hour=1, moment=70, mismatches=(1, 1, 1), view=OTHER)
    page = read_page(view, as_of=MIDNIGHT)
    newest, oldest = page.publications
    assert newest == Publication(
        publication_id=2,
        as_of=MIDNIGHT + HOUR,
        feature_version="one",
        state="live",
        moment=MIDNIGHT + 65 * MINUTE,
        rows=102,
        retired_at=None,
        note="accepted skew: they know",
        is_rollback=False,
        is_asked=False,
        compared=Compared(
            4,
            30,
            "they know",
            (
                Finding("session_count", 3, 10, "backdated data", ("ann", "bob/7")),
                Finding("sessions_last_7_days", 1, 10, "backdated data", ("ann", "bob/7")),
            ),
        ),
    )
    assert (oldest.state, oldest.retired_at, oldest.is_asked) == ("retired", MIDNIGHT + 65 * MINUTE, True)
    assert oldest.compared == Compared(0, 30, None, ())


def test_what_the_gate_refused_is_in_its_place(view: FeatureView) -> None:
    publish(1, hour=0, moment=5)
    audit(2, hour=1, moment=65, mismatches=(0, 2, 0), cause="changed logic")
    audit(3, hour=1, moment=75)
    publish(4, hour=1, moment=85)
    page = read_page(view)
    assert [(one.publication_id, one.state) for one in page.publications] == [
        (4, "live"),
        (3, "refused"),
        (2, "refused"),
        (1, "retired"),
    ]
    refused = page.publications[2]
    assert (refused.rows, refused.retired_at, refused.moment) == (None, None, MIDNIGHT + 65 * MINUTE)
    assert [(one.feature, one.cause) for one in refused.compared.findings] == [("session_count", "changed logic")]
    assert page.publications[0].compared == Compared()


def test_a_rollback_is_told_from_what_follows_it(view: FeatureView) -> None:
    publish(1, hour=0, moment=5)
    publish(2, hour=1, moment=65)
    publish(3, hour=0, moment=70, note="rollback: it was wrong")
    page = read_page(view, MIDNIGHT + 4 * HOUR)
    assert page.live
    assert (page.live.is_rollback, page.live.newest_as_of, page.live.note) == (
        True,
        MIDNIGHT + HOUR,
        "rollback: it was wrong",
    )
    assert (page.live.as_of, page.live.rows, page.live.freshness) == (MIDNIGHT, 103, "stale")
    assert [(one.as_of, one.rows) for one in page.earlier] == [(MIDNIGHT + HOUR, 102)]
    assert [one.is_rollback for one in page.publications] == [True, False, False]
    publish(4, hour=2, moment=125)
    page = read_page(view)
    assert page.live
    assert not page.live.is_rollback
    assert page.live.freshness == "fresh"
    assert [one.as_of - MIDNIGHT for one in page.earlier] == [timedelta(), HOUR]  # the hour that was live last first
    assert [one.is_rollback for one in page.publications] == [False, True, False, False]
    later = read_page(view, before=MIDNIGHT + 71 * MINUTE)
    assert [one.is_rollback for one in later.publications] == [True, False, False]


def test_a_rollback_is_one_though_what_it_undid_is_on_another_page(
    view: FeatureView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publications, "PAGE_SIZE", 1)
    publish(1, hour=0, moment=5)
    publish(2, hour=1, moment=65)
    publish(3, hour=0, moment=70, note="rollback")
    page = read_page(view)
    assert [(one.publication_id, one.is_rollback) for one in page.publications] == [(3, True)]


def test_what_was_served_is_shown_by_hour_and_model(view: FeatureView) -> None:
    audit(1, hour=0, moment=9, source="inference_log", model="churn")
    audit(1, hour=0, moment=9, mismatches=(0, 4, 0), source="inference_log", model="upsell", cause="changed logic")
    audit(2, hour=1, moment=69, source="inference_log", model="churn")
    audit(3, hour=1, moment=69, mismatches=(9, 9, 9), view=OTHER, source="inference_log", model="churn")
    page = read_page(view, as_of=MIDNIGHT + HOUR)
    assert [(one.as_of, one.model, one.rows, one.is_asked) for one in page.served] == [
        (MIDNIGHT + HOUR, "churn", 10, True),
        (MIDNIGHT, "churn", 10, False),
        (MIDNIGHT, "upsell", 10, False),
    ]
    assert page.served[2].compared == Compared(
        4, 30, None, (Finding("session_count", 4, 10, "changed logic", ("ann", "bob/7")),)
    )
    assert page.publications == ()


def test_the_chart_has_the_worst_audit_of_each_instant_of_the_last_days(view: FeatureView) -> None:
    audit(1, hour=0, moment=5, mismatches=(0, 1, 0))
    audit(2, hour=0, moment=6, mismatches=(0, 2, 1))
    audit(2, hour=1, moment=9, source="inference_log", model="churn")
    audit(3, hour=0, moment=0, mismatches=(5, 5, 5), as_of=MIDNIGHT - 90 * DAY + HOUR)
    audit(4, hour=0, moment=0, mismatches=(1, 0, 0), as_of=MIDNIGHT - 90 * DAY + 2 * HOUR)
    page = read_page(view)
    assert page.newest == (Newest("publication", MIDNIGHT), Newest("inference_log", MIDNIGHT + HOUR))
    assert page.differing == (
        Differing(MIDNIGHT - 90 * DAY + 2 * HOUR, "publication", 1, 1),
        Differing(MIDNIGHT, "publication", 3, 2),
    )


def write_history() -> None:
    """Thirty hours, each third of which is refused once, each seventh twice, and never published every eleventh."""
    number = 0
    for hour in range(30):
        for attempt in range((hour % 3 == 0) + (hour % 7 == 0)):
            number += 1
            audit(number, hour, moment=60 * hour + attempt, mismatches=(0, 1, 0))
        if hour % 11:
            number += 1
            publish(number, hour, moment=60 * hour + 5)
            audit(number, hour, moment=60 * hour + 5)
        audit(number, hour, 60 * hour + 9, source="inference_log", model="churn")
        audit(number, hour, 60 * hour + 9, source="inference_log", model="upsell")


@pytest.mark.parametrize("size", [1, 4, 7, 100])
def test_following_the_pages_loses_and_repeats_nothing(
    view: FeatureView, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(publications, "PAGE_SIZE", size)
    monkeypatch.setattr(publications, "SLACK", 0)  # nothing was drawn out of turn here
    monkeypatch.setattr(parity, "PAGE_SIZE", size)
    write_history()
    page = read_page(view)
    found, served = list(page.publications), list(page.served)
    while page.older:
        page = read_page(view, before=page.older)
        assert len(page.publications) <= size
        found += page.publications
    page = read_page(view)
    while page.served_older:
        page = read_page(view, served_before=page.served_older)
        served += page.served
    assert [one.publication_id for one in found] == list(range(found[0].publication_id, 0, -1))
    assert sum(one.state == "refused" for one in found) == 15
    assert [(one.as_of, one.model) for one in served] == [
        (MIDNIGHT + hour * HOUR, model) for hour in reversed(range(30)) for model in ("churn", "upsell")
    ]


def test_the_page_of_a_publication_has_it_and_some_later_ones(
    view: FeatureView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publications, "PAGE_SIZE", 8)
    monkeypatch.setattr(publications, "SHOWN_ABOVE", 3)
    write_history()
    for hour in (0, 1, 12, 21, 29):  # the first was only refused
        page = read_page(view, as_of=MIDNIGHT + hour * HOUR)
        assert any(one.is_asked for one in page.publications), hour


def test_a_refusal_is_found_below_many_later_ones(view: FeatureView, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publications, "PAGE_SIZE", 8)
    monkeypatch.setattr(publications, "SHOWN_ABOVE", 3)
    for hour in range(20):
        audit(hour + 1, hour, moment=60 * hour, mismatches=(0, 1, 0))
    page = read_page(view, as_of=MIDNIGHT + 5 * HOUR)
    assert [(one.as_of - MIDNIGHT) // HOUR for one in page.publications if one.is_asked] == [5]
    assert page.publications[0].as_of == MIDNIGHT + 7 * HOUR
