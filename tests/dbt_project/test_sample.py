from features import warehouse


def test_rejected(sample_warehouse: str) -> None:
    with warehouse.connect() as c:
        assert c.execute("select count(*) n from staging.rejected_session_events").fetchone()["n"] == 9430
