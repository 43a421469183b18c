"""Publishing: one ledger row makes a snapshot live; there is never a second live one, nor an older one than before."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from features import warehouse
from features.contract import FeatureView
from features.errors import SkewlessError
from features.steps.publish import publish

EARLIER = datetime(2013, 7, 1, tzinfo=UTC)
LATER = datetime(2013, 7, 2, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _snapshots(small_warehouse: str) -> None:
    add_rows(EARLIER, 3)
    add_rows(LATER, 5)


def add_rows(as_of: datetime, count: int, version: str = "v1") -> None:
    with warehouse.connect() as connection:
        connection.execute(
            "insert into features.user_session_features (user_id, as_of, feature_version)"
            " select 'u' || i, %s, %s from generate_series(1, %s) as i",
            [as_of, version, count],
        )


def build(version: str, name: str = "user_session_features") -> None:
    with warehouse.connect() as connection:
        connection.execute(
            "insert into features.feature_versions (feature_view, feature_version, definition) values (%s, %s, '')",
            [name, version],
        )


def ledger() -> list[dict[str, Any]]:
    with warehouse.connect() as connection:
        return connection.execute("select * from serving.publications order by publication_id").fetchall()


def live() -> list[tuple[datetime, str]]:
    return [(row["as_of"], row["feature_version"]) for row in ledger() if row["retired_at"] is None]


def test_publishing_makes_a_snapshot_live(view: FeatureView) -> None:
    facts = publish(view, LATER)
    assert facts == {"as_of": "2013-07-02T00:00:00+00:00", "feature_version": "v1", "row_count": 5, "is_live": True}
    (row,) = ledger()
    assert (row["feature_view"], row["as_of"], row["row_count"]) == ("user_session_features", LATER, 5)
    assert row["retired_at"] is None


def test_publishing_again_changes_nothing(view: FeatureView) -> None:
    first = publish(view, LATER)
    before = ledger()
    assert publish(view, LATER) == first
    assert ledger() == before


def test_a_newer_snapshot_retires_the_one_before(view: FeatureView) -> None:
    publish(view, EARLIER)
    publish(view, LATER)
    old, new = ledger()
    assert old["retired_at"] == new["published_at"]
    assert live() == [(LATER, "v1")]


def test_an_older_snapshot_never_replaces_a_newer_one(view: FeatureView) -> None:
    publish(view, LATER)
    before = ledger()
    assert publish(view, EARLIER) == {
        "as_of": "2013-07-01T00:00:00+00:00",
        "feature_version": "v1",
        "row_count": 3,
        "is_live": False,
    }
    assert ledger() == before


def test_a_new_definition_of_the_live_instant_replaces_it(view: FeatureView) -> None:
    publish(view, LATER)
    build("v2")
    add_rows(LATER, 4, "v2")
    assert publish(view, LATER)["row_count"] == 4
    assert live() == [(LATER, "v2")]


def test_rows_of_another_definition_are_not_published(view: FeatureView) -> None:
    build("v2")
    with pytest.raises(SkewlessError, match="has no row at 2013-07-02 00:00Z of definition v2"):
        publish(view, LATER)


def test_a_snapshot_without_rows_is_refused_with_the_next_step_and_the_live_one_stays(view: FeatureView) -> None:
    publish(view, EARLIER)
    with pytest.raises(SkewlessError) as error:
        publish(view, datetime(2013, 7, 3, 4, tzinfo=UTC))
    assert "features.user_session_features has no row at 2013-07-03 04:00Z of definition v1" in str(error.value)
    assert "clear the dbt tasks" in str(error.value)
    assert live() == [(EARLIER, "v1")]


def test_a_view_that_dbt_never_built_is_refused_with_the_next_step(view: FeatureView) -> None:
    with warehouse.connect() as connection:
        connection.execute("delete from features.feature_versions")
    with pytest.raises(SkewlessError, match="dbt has not built user_session_features yet: run materialize_features"):
        publish(view, LATER)


def test_each_view_has_a_live_snapshot_of_its_own(view: FeatureView) -> None:
    with warehouse.connect() as connection:
        connection.execute("create table features.other (as_of timestamptz, feature_version text)")
        connection.execute("insert into features.other values (%s, 'o1')", [EARLIER])
    build("o1", "other")
    publish(view, LATER)
    publish(view.model_copy(update={"name": "other"}), EARLIER)
    assert sorted(live()) == [(EARLIER, "o1"), (LATER, "v1")]


def test_publishing_from_many_places_at_once_leaves_the_newest_live(view: FeatureView) -> None:
    instants = [LATER + timedelta(hours=hour) for hour in range(1, 7)]
    for as_of in instants:
        add_rows(as_of, 1)
    with ThreadPoolExecutor(12) as pool:
        outcomes = list(pool.map(lambda as_of: publish(view, as_of), [*instants, *reversed(instants)]))
    assert live() == [(instants[-1], "v1")]
    published = [row["as_of"] for row in ledger()]
    assert published == sorted(set(published))  # each at most once, and never backwards
    assert all(outcome["is_live"] for outcome in outcomes if outcome["as_of"] == instants[-1].isoformat())
