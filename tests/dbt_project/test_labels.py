"""Labels are exactly the matured outcomes, and each trains with the features that were live at its instant."""

import datetime as dt
from pathlib import Path

from tests.databases import AS_OF, copy_of
from tests.dbt_project.oracle import (
    DAY,
    differences,
    feature_rows,
    features_at,
    label_times,
    labels,
    read,
    sample_events,
    write,
)
from tests.dbt_project.projects import copy_of_project, replace
from tests.dbt_project.running import dbt

SAMPLE_AS_OF = dt.datetime.fromisoformat(AS_OF).replace(tzinfo=dt.UTC)
LABELS = "select user_id, label_at, matured_at, churned from features.churn_labels"
PUBLISH = """
insert into serving.publications (feature_view, as_of, feature_version, row_count, published_at, retired_at)
values (%s, %s, 'any', 1, %s, now())
"""


def utc(text: str) -> dt.datetime:
    """An instant in UTC."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def test_every_label_of_the_sample(sample_warehouse: str) -> None:
    expected = labels(sample_events(sample_warehouse), SAMPLE_AS_OF)
    times = label_times(sample_events(sample_warehouse), SAMPLE_AS_OF)
    assert (times[0], times[-1], len(times)) == (utc("2013-03-05"), utc("2013-06-11"), 15)
    assert 0.05 < sum(expected.values()) / len(expected) < 0.5
    found = read(sample_warehouse, LABELS)
    assert not differences(found, [(user, at, at + 15 * DAY, churned) for (user, at), churned in expected.items()])
    assert max(matured_at for _, _, matured_at, _ in found) <= SAMPLE_AS_OF


def test_each_label_trains_once_with_the_hour_it_was_made_in(sample_warehouse: str) -> None:
    """Before the ledger begins a punctual hourly schedule is assumed."""
    trains = read(
        sample_warehouse,
        "select user_id, label_at, matured_at, churned, as_of from training.churn_training_set",
    )
    assert not differences([row[:4] for row in trains], read(sample_warehouse, LABELS))
    assert all(as_of == label_at for _, label_at, _, _, as_of in trains)


def test_once_there_is_a_ledger_it_says_what_was_live(sample_warehouse: str) -> None:
    first, second = utc("2013-05-01T03:00:00"), utc("2013-05-20T22:00:00")
    ours = "user_session_features"
    ledger = [
        (ours, first, utc("2013-05-01T03:20:00")),
        (ours, second, utc("2013-05-21T00:00:00")),  # exactly at a label's instant
        ("another_view", utc("2013-05-21T00:00:00"), utc("2013-05-22T00:00:00")),
        (ours, first, utc("2013-06-03T09:00:00")),  # rolled back
        (ours, utc("2013-06-11T00:00:00"), utc("2013-06-11T00:00:00.000001")),
    ]
    live = {
        utc("2013-04-30"): utc("2013-04-30"),
        utc("2013-05-07"): first,
        utc("2013-05-14"): first,
        utc("2013-05-21"): second,
        utc("2013-05-28"): second,
        utc("2013-06-04"): first,
        utc("2013-06-11"): first,
    }
    with copy_of(sample_warehouse, "skewless_ledger") as database:
        for publication in ledger:
            write(database, PUBLISH, publication)
        # Its tests too: each label once, none lost, as_of never after label_at.
        dbt(["build", "--select", "user_session_features+"], database, as_of=AS_OF)
        trains = read(database, "select user_id, label_at, matured_at, churned, as_of from training.churn_training_set")
        assert not differences([row[:4] for row in trains], read(database, LABELS))
        used = {label_at: as_of for _, label_at, _, _, as_of in trains}
        assert len({(row[1], row[4]) for row in trains}) == len(used) == 15
        assert {at: used[at] for at in live} == live
        assert all(used[at] == at for at in used if at < utc("2013-05-01"))

        found = feature_rows(database)
        events = sample_events(sample_warehouse)
        for as_of in (first, second):
            users = {user for user, _, _, _, at in trains if at == as_of}
            expected = features_at(events, as_of, users)
            assert not differences(((user, found[user, as_of]) for user in users), expected.items())
            assert (0, 0.0, 999, 0, 0) in expected.values(), "nobody was new since what was live"


def test_a_training_set_never_mixes_definitions(sample_database: str, tmp_path: Path) -> None:
    """Rows of two definitions stand side by side; every label has those of the one that was built last, once."""
    project = copy_of_project(tmp_path)
    replace(project / "models/features/user_session_features.sql", "in_last(days=7)", "in_last(days=6)")
    with copy_of(sample_database, "skewless_mixed") as database:
        labels = read(database, "select count(*) from features.churn_labels")
        before = read(database, "table features.user_session_features")
        dbt(["build"], database, project=project, as_of=AS_OF)
        after = read(database, "table features.user_session_features")
        assert set(before) <= set(after)
        assert len(after) == 2 * len(before)
        found = (
            "select count(*), count(distinct feature_version), min(feature_version) from training.churn_training_set"
        )
        ((count, versions, version),) = read(database, found)
        assert ((count,), versions) == (labels[0], 1)
        current = "select feature_version from features.feature_versions where feature_view = 'user_session_features'"
        assert read(database, f"{current} order by last_built_at desc limit 1") == [(version,)]
