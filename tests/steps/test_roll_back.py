"""Rolling back: readers get the rows of an earlier publication again, and nothing is copied or lost."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from features.contract import Contract, FeatureView
from features.errors import SkewlessError
from features.steps.publish import GateClosed, publish
from features.steps.roll_back import roll_back, views_published_at
from tests.databases import execute, rows
from tests.dbt_project.oracle import DAY, HOUR
from tests.dbt_project.running import run_dbt
from tests.steps.small_warehouse import EARLIER, LATER, fill, ledger, live, load, served, session


@pytest.fixture(autouse=True)
def _two_publications(small_warehouse: str, view: FeatureView) -> None:
    publish(view, EARLIER)
    publish(view, LATER)


def test_the_earlier_rows_are_served_again_cell_by_cell(view: FeatureView) -> None:
    at_later = served()
    (facts,) = roll_back([view], EARLIER)
    version = ledger()[0]["feature_version"]
    assert facts == {
        "view": "user_session_features",
        "as_of": "2013-07-01T00:00:00+00:00",
        "feature_version": version,
        "row_count": 12,
    }
    assert live() == [EARLIER]
    at_earlier = served()
    assert {row[1] for row in at_earlier} == {EARLIER}
    roll_back([view], LATER)
    assert served() == at_later
    roll_back([view], EARLIER)
    assert served() == at_earlier


def test_it_is_a_row_of_the_ledger_that_says_so(view: FeatureView) -> None:
    before = ledger()
    roll_back([view], EARLIER, "the 2nd looked wrong")
    *old, new = ledger()
    assert old[:-1] == before[:-1]
    assert (new["as_of"], new["note"]) == (EARLIER, "rollback: the 2nd looked wrong")
    assert (new["row_count"], new["feature_version"]) == (before[0]["row_count"], before[0]["feature_version"])
    assert new["events_loaded_through"] == before[0]["events_loaded_through"]
    assert all(one["retired_at"] == following["published_at"] for one, following in pairwise(ledger()))


def test_without_a_reason_the_note_is_short(view: FeatureView) -> None:
    roll_back([view], EARLIER)
    assert ledger()[-1]["note"] == "rollback"


def test_it_holds_until_the_next_publication(view: FeatureView) -> None:
    roll_back([view], EARLIER)
    fill(view, LATER + HOUR)
    assert publish(view, LATER + HOUR)["is_live"]
    assert live() == [LATER + HOUR]


def test_an_older_publication_does_not_end_it(view: FeatureView) -> None:
    roll_back([view], EARLIER)
    fill(view, EARLIER - HOUR)
    assert not publish(view, EARLIER - HOUR)["is_live"]
    assert live() == [EARLIER]


def test_twice_is_harmless(view: FeatureView) -> None:
    first = roll_back([view], EARLIER)
    rows_before = served()
    assert roll_back([view], EARLIER) == first
    assert (live(), served()) == ([EARLIER], rows_before)


def test_rows_that_backdated_data_would_change_are_served_as_they_were(view: FeatureView) -> None:
    """A rollback returns what was served; whether that would be computed again is the next publication's question."""
    at_later = served()
    roll_back([view], EARLIER)
    load(session("u03", EARLIER - 40 * DAY, known_at=EARLIER - 39 * DAY))
    run_dbt(LATER, "stg_session_events", "user_session_features")
    roll_back([view], LATER)
    assert served() == at_later


def test_after_a_rollback_the_gate_still_tells_backdated_data_from_changed_logic(view: FeatureView) -> None:
    load(session("u03", EARLIER - 40 * DAY, known_at=EARLIER - 39 * DAY))
    run_dbt(LATER + HOUR, "stg_session_events", "user_session_features")
    roll_back([view], EARLIER)
    with pytest.raises(GateClosed, match=r"2013-07-01 00:00Z session_count differs in 1 of 12 rows \(backdated data;"):
        publish(view, LATER + HOUR)


def test_an_instant_that_was_never_published_is_refused_with_those_that_were(view: FeatureView) -> None:
    with pytest.raises(SkewlessError) as error:
        roll_back([view], datetime(2013, 6, 30, tzinfo=UTC))
    assert str(error.value) == (
        "user_session_features was never published at 2013-06-30T00:00:00. "
        "Published last: 2013-07-02T00:00:00, 2013-07-01T00:00:00."
    )
    assert live() == [LATER]


def test_rows_are_not_enough_without_a_publication(view: FeatureView) -> None:
    """What never passed the gate is not served by a rollback either."""
    fill(view, LATER + HOUR)
    with pytest.raises(SkewlessError, match="was never published at 2013-07-02T01:00:00"):
        roll_back([view], LATER + HOUR)


def test_a_publication_whose_rows_were_thinned_out_is_refused_with_the_next_step(view: FeatureView) -> None:
    execute("delete from features.user_session_features where as_of = %s and user_id > 'u04'", EARLIER)
    with pytest.raises(SkewlessError) as error:
        roll_back([view], EARLIER)
    assert "features.user_session_features holds 4 of the 12 rows" in str(error.value)
    assert "published at 2013-07-01T00:00:00: the others were thinned out. Run materialize_features" in str(error.value)
    assert live() == [LATER]
    run_dbt(EARLIER, "user_session_features")
    assert roll_back([view], EARLIER)[0]["row_count"] == 12


def test_a_view_is_found_by_its_name_or_by_what_was_published(contract: Contract, view: FeatureView) -> None:
    other = contract.feature_view("event_type_features")
    assert views_published_at(contract, EARLIER) == [view]
    publish(other, EARLIER)
    assert {found.name for found in views_published_at(contract, EARLIER)} == {view.name, other.name}
    assert views_published_at(contract, EARLIER, other.name) == [other]


def test_an_instant_at_which_nothing_was_published_has_no_views(contract: Contract) -> None:
    with pytest.raises(SkewlessError, match="No feature view was ever published at 2013-07-02T01:00:00"):
        views_published_at(contract, LATER + HOUR)


def test_an_unknown_view_is_refused_with_those_there_are(contract: Contract) -> None:
    with pytest.raises(SkewlessError, match=r"There is no feature view 'users'; dbt declares .*user_session_features"):
        views_published_at(contract, EARLIER, "users")


def test_a_rollback_of_one_view_leaves_the_others(contract: Contract, view: FeatureView) -> None:
    other = contract.feature_view("event_type_features")
    publish(other, EARLIER)
    publish(other, LATER)
    roll_back([view], EARLIER)
    assert rows("select distinct as_of from serving.event_type_snapshot") == [(LATER,)]


def skewless(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, as people run it."""
    command = [str(Path(sys.executable).with_name("skewless")), *arguments]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("manifest")
def test_the_command_rolls_back_what_was_published_then() -> None:
    done = skewless("rollback", "--as-of", "2013-07-01T02:00:00+02:00", "--because", "the 2nd looked wrong")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "user_session_features: 12 rows of 2013-07-01T00:00:00+00:00 are live again."
    assert second.startswith("This holds until the next publication: pause materialize_features")
    assert live() == [EARLIER]
    assert ledger()[-1]["note"] == "rollback: the 2nd looked wrong"


@pytest.mark.usefixtures("manifest")
def test_the_command_says_in_one_line_what_is_wrong() -> None:
    done = skewless("rollback", "--as-of", "2013-06-30T00:00:00", "--view", "user_session_features")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("user_session_features was never published at 2013-06-30T00:00:00. Published last:")
    assert live() == [LATER]
