from features.ingest import nycflights13
from features.ingest.loading import load_file


def test_sample(empty_warehouse: str) -> None:
    r = load_file(nycflights13.session_events_file())
    assert r.loaded == 336_776
