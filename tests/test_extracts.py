"""Training extracts on the sample: an id names rows, and the same bytes come back whatever has happened since."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from features import settings
from features.contract import Model
from features.errors import SkewlessError
from features.extracts import TrainingExtract, reproduce, reproduce_csv, training_extract
from features.steps.publish import publish
from features.steps.retain import thin
from tests.databases import AS_OF, copy_of, execute, rows, use
from tests.dbt_project.oracle import DAY, MICROSECOND, Event
from tests.dbt_project.projects import with_another_definition
from tests.dbt_project.running import run_dbt
from tests.steps.small_warehouse import load, session

JULY = datetime.fromisoformat(AS_OF).replace(tzinfo=UTC)
AUGUST = datetime(2013, 8, 6, tzinfo=UTC)
COMPUTED = ("stg_session_events", "churn_labels", "user_session_features", "churn_training_set")


class Taken(NamedTuple):
    """An extract, the database in which it was taken, and its CSV."""

    database: str
    extract: TrainingExtract
    csv: bytes


@pytest.fixture(scope="module")
def taken(sample_database: str, churn: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Taken]:
    """An extract in a copy of the sample."""
    file = tmp_path_factory.mktemp("extract") / "first.csv"
    with copy_of(sample_database, "skewless_extracted") as name:
        with pytest.MonkeyPatch.context() as patch:
            use(name, patch)
            extract = training_extract(churn, JULY)
            reproduce_csv(extract.extract_id, file)
        yield Taken(name, extract, file.read_bytes())


@pytest.fixture
def original(taken: Taken, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainingExtract]:
    """The extract, in a warehouse of the test's own."""
    with copy_of(taken.database, "skewless_extracted_copy") as name:
        use(name, monkeypatch)
        yield taken.extract


@pytest.fixture
def assert_reproduced(taken: Taken, tmp_path: Path) -> Callable[[], None]:
    """Checks that the extract's name gives the same rows, cell by cell, and the same file, byte by byte."""

    def check() -> None:
        extract = taken.extract
        again = reproduce(extract.extract_id)
        assert (again.extract_id, again.feature_version) == (extract.extract_id, extract.feature_version)
        assert again.rows.equals(extract.rows)
        assert list(again.rows.dtypes) == list(extract.rows.dtypes)
        assert reproduce_csv(extract.extract_id, tmp_path / "again.csv") == len(extract.rows)
        assert (tmp_path / "again.csv").read_bytes() == taken.csv

    return check


def test_it_has_every_label_that_had_matured_and_no_other(original: TrainingExtract) -> None:
    ((matured, total),) = rows(
        f"select count(*) filter (where matured_at <= '{JULY}'), count(*) from training.churn_training_set"
    )
    assert len(original.rows) == matured == total > 10_000
    assert original.rows["label_at"].max() + timedelta(days=15) <= JULY


def test_its_columns_are_key_times_label_and_features(original: TrainingExtract, churn: Model) -> None:
    assert tuple(original.rows.columns) == ("user_id", "label_at", "as_of", "churned", *churn.feature_names)


def test_the_same_instant_gives_the_same_name_and_the_same_rows(original: TrainingExtract, churn: Model) -> None:
    again = training_extract(churn, JULY)
    assert again.extract_id == original.extract_id
    assert again.rows.equals(original.rows)
    assert rows("select count(*) from training.extracts") == [(1,)]


def test_another_instant_gives_another_name(original: TrainingExtract, churn: Model) -> None:
    earlier = training_extract(churn, JULY - 20 * DAY)
    assert earlier.extract_id != original.extract_id
    assert 0 < len(earlier.rows) < len(original.rows)
    assert earlier.rows["label_at"].max() + timedelta(days=15) <= JULY - 20 * DAY


def test_another_instant_gives_another_name_even_when_nothing_new_was_known(
    original: TrainingExtract, churn: Model
) -> None:
    later = training_extract(churn, JULY + MICROSECOND)
    assert later.rows.equals(original.rows)
    assert later.extract_id != original.extract_id


def test_what_was_asked_for_is_kept(original: TrainingExtract) -> None:
    ((training_set, view, version, as_of, watermark, row_count),) = rows(
        "select training_set, feature_view, feature_version, as_of, knowledge_watermark, row_count"
        f" from training.extracts where extract_id = '{original.extract_id}'"
    )
    assert (training_set, view) == ("training.churn_training_set", "user_session_features")
    assert (version, as_of, row_count) == (original.feature_version, JULY, len(original.rows))
    assert rows(f"select max(ingested_at) from staging.stg_session_events where ingested_at <= '{JULY}'") == [
        (watermark,)
    ]


def test_it_is_reproduced(original: TrainingExtract, assert_reproduced: Callable[[], None]) -> None:
    assert_reproduced()
    assert_reproduced()


def test_it_is_reproduced_after_events_corrections_withdrawals_and_a_backfill(
    original: TrainingExtract, assert_reproduced: Callable[[], None], churn: Model
) -> None:
    sessions = rows(
        "select event_id, user_id, started_at from staging.stg_session_events"
        f" where started_at < '{JULY - 30 * DAY}' order by event_id limit 200"
    )
    load(
        *(session(user, at, JULY + DAY, event_id) for event_id, user, at in sessions[:100]),
        *(Event(event_id=event_id, ingested_at=JULY + DAY, is_deleted=True) for event_id, *_ in sessions[100:]),
        *(session(f"new {number}", JULY + DAY, JULY + 2 * DAY, f"new {number}") for number in range(100)),
    )
    for as_of in (AUGUST, JULY - 3 * DAY, JULY - 60 * DAY):
        run_dbt(as_of, *COMPUTED)
    assert_reproduced()
    later = training_extract(churn, AUGUST)
    assert later.extract_id != original.extract_id
    assert len(later.rows) > len(original.rows)
    assert training_extract(churn, JULY).extract_id == original.extract_id


def test_it_is_reproduced_after_backdated_events_that_bring_older_labels(
    original: TrainingExtract, assert_reproduced: Callable[[], None], churn: Model
) -> None:
    """The rows that trained are kept, so they stay what they were; the training set as a whole has changed."""
    ((user,),) = rows("select user_id from training.churn_training_set order by user_id limit 1")
    start = datetime(2012, 9, 1, tzinfo=UTC)
    load(
        *(session("old", start + day * DAY, start + (day + 1) * DAY, f"old {day}") for day in range(120)),
        *(session(user, start + day * DAY, start + (day + 1) * DAY, f"{user} {day}") for day in range(0, 250, 3)),
    )
    run_dbt(JULY, *COMPUTED)
    changed = training_extract(churn, JULY)
    assert changed.rows["label_at"].min() < original.rows["label_at"].min()
    assert changed.extract_id != original.extract_id
    assert_reproduced()
    assert reproduce(changed.extract_id).rows.equals(changed.rows)


def test_it_is_reproduced_after_retention(
    original: TrainingExtract, assert_reproduced: Callable[[], None], churn: Model
) -> None:
    publish(churn.feature_view, JULY)
    thin(churn.feature_view, JULY + 1000 * DAY)
    assert_reproduced()


@pytest.mark.parametrize("gone", ["user_id < 'N3'", "mod(extract(day from as_of)::int, 2) = 0", "true"])
def test_rows_that_are_gone_are_recomputed(
    original: TrainingExtract, assert_reproduced: Callable[[], None], gone: str
) -> None:
    assert execute(f"delete from features.user_session_features where {gone}") > 1000
    assert_reproduced()


def test_it_is_reproduced_after_the_definition_changed(
    original: TrainingExtract, assert_reproduced: Callable[[], None], churn: Model, tmp_path: Path
) -> None:
    """Also without its rows: the installed function is the new definition, and the old one is kept as text."""
    run_dbt(JULY, *COMPUTED, project=with_another_definition(tmp_path))
    changed = training_extract(churn, JULY)
    assert changed.feature_version != original.feature_version
    assert changed.extract_id != original.extract_id
    assert not changed.rows["sessions_last_7_days"].equals(original.rows["sessions_last_7_days"])
    assert_reproduced()
    execute("delete from features.user_session_features where feature_version = %s", original.feature_version)
    assert_reproduced()
    execute("delete from features.user_session_features")
    assert_reproduced()
    assert reproduce(changed.extract_id).rows.equals(changed.rows)


def test_it_is_reproduced_on_a_server_of_other_habits(
    original: TrainingExtract, assert_reproduced: Callable[[], None]
) -> None:
    for setting in ("timezone to 'Asia/Tokyo'", "datestyle to 'German'", "extra_float_digits to -3"):
        execute(f"alter database {settings.WAREHOUSE_DATABASE} set {setting}")
    assert_reproduced()


def test_reproducing_changes_nothing(original: TrainingExtract) -> None:
    execute("delete from features.user_session_features")
    reproduce(original.extract_id)
    assert rows("select count(*) from features.user_session_features") == [(0,)]
    assert rows("select count(*) from pg_class where relname in ('extract', 'spine', 'recomputed')") == [(0,)]


def test_rows_that_were_changed_by_hand_are_refused(original: TrainingExtract, tmp_path: Path) -> None:
    ((user, label_at),) = rows("select user_id, as_of from training.churn_training_set order by 1, 2 limit 1")
    execute(
        "update features.user_session_features set session_count = session_count + 1 where user_id = %s and as_of = %s",
        user,
        label_at,
    )
    with pytest.raises(SkewlessError) as error:
        reproduce_csv(original.extract_id, tmp_path / "rows.csv")
    assert str(error.value) == (
        f"Extract {original.extract_id} had {len(original.rows):,} rows; rebuilding it gives {len(original.rows):,} "
        "that are not the same, 0 of them recomputed. Rows of features.user_session_features at definition "
        f"{original.feature_version} or the events behind them were changed by hand."
    )
    assert list(tmp_path.iterdir()) == []


def test_events_that_were_changed_by_hand_are_noticed_once_rows_are_gone(original: TrainingExtract) -> None:
    execute("update staging.stg_session_events set duration_seconds = duration_seconds + 1 where user_id < 'N2'")
    assert reproduce(original.extract_id).rows.equals(original.rows)
    gone = execute("delete from features.user_session_features where user_id < 'N2'")
    with pytest.raises(SkewlessError, match=r"that are not the same, [\d,]+ of them recomputed") as error:
        reproduce(original.extract_id)
    assert gone > 1000
    assert " 0 of them" not in str(error.value)


def test_an_unknown_name_is_refused(original: TrainingExtract, tmp_path: Path) -> None:
    with pytest.raises(SkewlessError, match=r"There is no extract 0123; training\.extracts lists those there are"):
        reproduce("0123")
    with pytest.raises(SkewlessError, match="There is no extract 0123"):
        reproduce_csv("0123", tmp_path / "rows.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_definition_that_is_no_longer_known_is_refused(original: TrainingExtract) -> None:
    execute("delete from features.feature_versions")
    with pytest.raises(SkewlessError, match=f"no longer knows definition {original.feature_version}"):
        reproduce(original.extract_id)


def test_labels_without_features_are_refused_with_their_number(original: TrainingExtract, churn: Model) -> None:
    execute(
        "delete from features.user_session_features where (user_id, as_of) in"
        " (select user_id, as_of from training.churn_training_set order by 1, 2 limit 7)"
    )
    with pytest.raises(SkewlessError) as error:
        training_extract(churn, JULY)
    assert str(error.value) == (
        f"7 of {len(original.rows):,} labels in training.churn_training_set have no feature row yet. "
        "Run materialize_features, which computes them, then train."
    )


def test_before_any_label_has_matured_there_is_nothing_to_train_on(original: TrainingExtract, churn: Model) -> None:
    with pytest.raises(
        SkewlessError, match="No label of churn had matured by 2013-01-10: there is nothing to train on"
    ):
        training_extract(churn, datetime(2013, 1, 10, tzinfo=UTC))


def test_a_file_that_cannot_be_written_is_refused_and_none_is_left_half_written(
    original: TrainingExtract, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = tmp_path / "file"
    file.write_text("mine")
    for path in (folder, tmp_path / "nowhere" / "rows.csv", file / "rows.csv", Path("/dev/full/rows.csv")):
        with pytest.raises(SkewlessError, match=r"cannot be written .*Name another file"):
            reproduce_csv(original.extract_id, path)
    assert sorted(tmp_path.rglob("*")) == [file, folder]
    assert file.read_text() == "mine"


def test_a_disk_that_is_full_leaves_no_half_of_a_file(original: TrainingExtract, tmp_path: Path) -> None:
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
    try:
        with pytest.raises(SkewlessError, match=r"rows\.csv cannot be written \(File too large\)"):
            reproduce_csv(original.extract_id, tmp_path / "rows.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert list(tmp_path.iterdir()) == []


def skewless(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command, as people run it."""
    command = [str(Path(sys.executable).with_name("skewless")), *arguments]
    return subprocess.run(command, env=os.environ, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_command_writes_the_same_file(original: TrainingExtract, taken: Taken, tmp_path: Path) -> None:
    done = skewless("reproduce", original.extract_id, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    name = f"{original.extract_id}.csv"
    assert done.stdout.splitlines()[-1] == (
        f"{name}: {len(original.rows):,} rows, and their checksum is that of {original.extract_id}."
    )
    assert (tmp_path / name).read_bytes() == taken.csv


def test_the_command_says_in_one_line_what_is_wrong(original: TrainingExtract, tmp_path: Path) -> None:
    done = skewless("reproduce", "0123", "-o", "rows.csv", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == "There is no extract 0123; training.extracts lists those there are."
    assert list(tmp_path.iterdir()) == []
