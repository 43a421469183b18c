"""Publishing: one ledger row makes a snapshot live; there is never a second live one, nor an older one than before."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from features import ledger as ledger_of
from features import warehouse
from features.contract import Contract, FeatureView
from features.errors import SkewlessError
from features.steps.publish import publish
from tests.databases import execute, rows
from tests.dbt_project.oracle import HOUR
from tests.steps.small_warehouse import EARLIER, LATER, USERS, fill, hours, ledger, live, served, stored

NEW_VERSION = (
    "insert into features.feature_versions (feature_view, feature_version, definition, last_built_at)"
    " values ('user_session_features', 'v2', '', now() + interval '1 second')"
)


@pytest.fixture(autouse=True)
def _warehouse(small_warehouse: str) -> None:
    pass


def version(view: FeatureView) -> str:
    with warehouse.connect() as connection:
        return ledger_of.current_version(connection, view)


def test_publishing_makes_a_snapshot_live(view: FeatureView) -> None:
    assert served() == []
    assert publish(view, LATER) == {
        "as_of": "2013-07-02T00:00:00+00:00",
        "feature_version": version(view),
        "row_count": 12,
        "is_live": True,
    }
    assert served() == stored(LATER)
    (row,) = ledger()
    assert (row["feature_view"], row["as_of"], row["row_count"]) == ("user_session_features", LATER, 12)
    assert (row["retired_at"], row["note"]) == (None, None)


def test_the_ledger_says_how_far_the_events_were_loaded(view: FeatureView) -> None:
    publish(view, LATER)
    assert rows("select events_loaded_through from serving.publications") == rows(
        "select max(loaded_at) from raw.session_events"
    )


def test_publishing_again_changes_nothing(view: FeatureView) -> None:
    first = publish(view, LATER)
    before = ledger()
    assert publish(view, LATER) == first
    assert ledger() == before


def test_a_newer_snapshot_retires_the_one_before(view: FeatureView) -> None:
    publish(view, EARLIER)
    assert served() == stored(EARLIER)
    publish(view, LATER)
    assert live() == [LATER]
    assert served() == stored(LATER)


def test_an_older_snapshot_never_replaces_a_newer_one(view: FeatureView) -> None:
    publish(view, LATER)
    before = ledger()
    assert publish(view, EARLIER) == {
        "as_of": "2013-07-01T00:00:00+00:00",
        "feature_version": version(view),
        "row_count": 12,
        "is_live": False,
    }
    assert ledger() == before


def test_something_is_live_at_every_moment_from_the_first_publication_on(view: FeatureView) -> None:
    fill(view, *hours(LATER, 5))
    for as_of in hours(LATER, 5):
        publish(view, as_of)
    *retired, last = ledger()
    assert all(row["published_at"] < row["retired_at"] for row in retired)
    assert all(old["retired_at"] == new["published_at"] for old, new in pairwise([*retired, last]))
    assert last["retired_at"] is None


def test_rows_of_another_definition_are_not_published(view: FeatureView) -> None:
    execute(NEW_VERSION)
    with pytest.raises(SkewlessError, match="has no row at 2013-07-02 00:00Z of definition v2"):
        publish(view, LATER)


def test_a_snapshot_without_rows_is_refused_with_the_next_step_and_the_live_one_stays(view: FeatureView) -> None:
    publish(view, EARLIER)
    with pytest.raises(SkewlessError) as error:
        publish(view, datetime(2013, 7, 3, 4, tzinfo=UTC))
    message = f"features.user_session_features has no row at 2013-07-03 04:00Z of definition {version(view)}"
    assert message in str(error.value)
    assert "clear the dbt tasks" in str(error.value)
    assert live() == [EARLIER]
    assert served() == stored(EARLIER)


def test_a_view_that_dbt_never_built_is_refused_with_the_next_step(view: FeatureView) -> None:
    execute("delete from features.feature_versions")
    with pytest.raises(SkewlessError, match="dbt has not built user_session_features yet: run materialize_features"):
        publish(view, LATER)


def test_each_view_has_a_live_snapshot_of_its_own(contract: Contract) -> None:
    instants = {"user_session_features": LATER, "event_type_features": EARLIER, "user_variety_features": LATER}
    for name, as_of in instants.items():
        publish(contract.feature_view(name), as_of)
    assert {row["feature_view"]: row["as_of"] for row in ledger()} == instants
    assert rows("select distinct as_of from serving.event_type_snapshot") == [(EARLIER,)]
    assert rows("select distinct as_of from serving.user_variety_snapshot") == [(LATER,)]
    assert rows("select count(*) from serving.user_variety_snapshot") == [(len(USERS),)]


def test_a_view_that_nothing_serves_is_published_all_the_same(view: FeatureView) -> None:
    """Training follows the ledger, so it matters also without a serving model."""
    assert publish(view.model_copy(update={"serving": None}), LATER)["is_live"]
    assert live() == [LATER]


def test_publishing_from_many_places_at_once_leaves_the_newest_live(view: FeatureView) -> None:
    instants = hours(LATER + HOUR, 6)
    fill(view, *instants)
    with ThreadPoolExecutor(12) as pool:
        outcomes = list(pool.map(lambda as_of: publish(view, as_of), [*instants, *reversed(instants)]))
    assert live() == [instants[-1]]
    published = [row["as_of"] for row in ledger()]
    assert published == sorted(set(published))  # each at most once, and never backwards
    assert all(old["retired_at"] == new["published_at"] for old, new in pairwise(ledger()))
    assert all(outcome["is_live"] for outcome in outcomes if outcome["as_of"] == instants[-1].isoformat())
