"""No feature, label or extract depends on what had not happened or was not known yet.

Metamorphic: everything that happened or arrived after as_of is replaced, deleted, repeated and shuffled, and every
event from before gets a correction or withdrawal that arrives after; all is computed anew, and the same to the last
byte.
"""

import datetime as dt
from pathlib import Path

import pytest

from features import settings
from features.contract import Model
from features.extracts import reproduce_csv, training_extract
from tests.databases import AS_OF, copy_of
from tests.dbt_project.oracle import VIEWS, copy_raw, differences, read, write
from tests.dbt_project.running import dbt

AT = dt.datetime.fromisoformat(AS_OF).replace(tzinfo=dt.UTC)

# `turn` deals the rows of the future into four hands by the hash of their id.
MANGLE = """
with future as (
    select *, mod(abs(hashtext(event_id)), 4) as turn from raw.session_events where ingested_at > timestamptz '{as_of}'
),

deleted as (
    delete from raw.session_events using future
    where session_events.event_id = future.event_id and future.turn = 0
),

absurd as (
    update raw.session_events set
        user_id = 'N14228', event_type = 'nowhere', duration_seconds = 0,
        started_at = session_events.started_at - interval '200 days'
    from future
    where session_events.event_id = future.event_id and future.turn = 1
),

repeated as (
    insert into raw.session_events (event_id, user_id, event_type, started_at, duration_seconds, ingested_at, loaded_at)
    select 'again ' || event_id, user_id, event_type, started_at, duration_seconds, ingested_at, loaded_at
    from future where turn = 2
),

shuffled as (
    update raw.session_events set user_id = dealt.user_id
    from (
        select event_id, lead(user_id, 17) over (order by event_id) as user_id from future where turn = 3
    ) as dealt
    where session_events.event_id = dealt.event_id
)

select count(*) from future
"""

AFTERTHOUGHTS = """
insert into raw.session_events (event_id, user_id, event_type, started_at, duration_seconds, ingested_at, is_deleted)
select
    event_id, 'somebody else', 'somewhere else', started_at - interval '3 days', 99999,
    timestamptz '{as_of}' + interval '1 microsecond', mod(abs(hashtext(event_id)), 2) = 0
from raw.session_events
where ingested_at <= timestamptz '{as_of}'
"""


def extract_csv(churn: Model, database: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, bytes]:
    monkeypatch.setattr(settings, "WAREHOUSE_DATABASE", database)
    extract_id = training_extract(churn, AT).extract_id
    assert reproduce_csv(extract_id, path) > 50_000
    return extract_id, path.read_bytes()


def test_what_came_later_changes_no_byte(
    sample_database: str, empty_warehouse: str, churn: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copy_of(sample_database, "skewless_leaks") as honest:
        expected = extract_csv(churn, honest, tmp_path / "before.csv", monkeypatch)

    copy_raw(sample_database, empty_warehouse)
    assert read(empty_warehouse, MANGLE.format(as_of=AT.isoformat()))[0][0] > 150_000
    write(empty_warehouse, AFTERTHOUGHTS.format(as_of=AT.isoformat()))
    dbt(["run"], empty_warehouse, as_of=AS_OF)
    ((superseded,),) = read(empty_warehouse, "select count(superseded_at) from staging.stg_session_events")
    assert superseded > 150_000, "the afterthoughts did not arrive"

    for view in VIEWS:
        query = f"select * from features.{view.name} order by as_of, {view.entity}"
        assert not differences(read(empty_warehouse, query), read(sample_database, query)), view.name
    assert extract_csv(churn, empty_warehouse, tmp_path / "after.csv", monkeypatch) == expected
