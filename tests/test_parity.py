"""Parity on the whole sample: every published row of every view, recomputed and compared in every cell."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from features import ledger, warehouse
from features.contract import Contract, FeatureView
from features.ledger import Publication
from features.parity import ENTITIES, Audit, Cause, Finding, audit
from features.steps.publish import publish
from tests.databases import AS_OF, copy_of, execute, rows, use
from tests.dbt_project.oracle import DAY
from tests.dbt_project.running import run_dbt

JULY = datetime.fromisoformat(AS_OF).replace(tzinfo=UTC)
VIEWS = ("user_session_features", "event_type_features", "user_variety_features")


@pytest.fixture(scope="module")
def published_sample(sample_database: str, contract: Contract) -> Iterator[str]:
    """The sample, with two publications of every view."""
    with copy_of(sample_database, "skewless_parity") as name, pytest.MonkeyPatch.context() as patch:
        use(name, patch)
        for view in VIEWS:
            publish(contract.feature_view(view), JULY)
        run_dbt(JULY + DAY, "path:models/staging", "path:models/features")
        for view in VIEWS:
            publish(contract.feature_view(view), JULY + DAY)
        yield name


@pytest.mark.usefixtures("published_sample")
@pytest.mark.parametrize("name", VIEWS)
def test_every_published_row_is_recomputed_and_no_cell_differs(contract: Contract, name: str) -> None:
    view = contract.feature_view(name)
    found = rows(f"""
        select p.as_of, a.feature, a.mismatches, a.cause, a.rows_compared = p.row_count
        from serving.publications as p
        left join monitoring.parity_audits as a using (publication_id)
        where p.feature_view = '{name}'
    """)
    expected = {(at, feature) for at in (JULY, JULY + DAY) for feature in (ENTITIES, *view.feature_names)}
    assert {row[:2] for row in found} == expected
    assert len(found) == len(expected)
    assert {row[2:] for row in found} == {(0, None, True)}
    ((smallest,),) = rows(f"select min(row_count) from serving.publications where feature_view = '{name}'")
    assert smallest > (3000 if "user" in name else 200)


def audited(view: FeatureView, at: datetime) -> Audit:
    """An audit of the stored rows at an instant, published or not."""
    with warehouse.connect() as connection:
        version = ledger.current_version(connection, view)
        loaded_through = ledger.snapshot(connection, view, at, version).events_loaded_through
        assert loaded_through is not None
        unserved = view.model_copy(update={"serving": None})
        return audit(connection, unserved, Publication(0, at, version, 1, loaded_through), version)


@pytest.fixture
def half(contract: Contract, published_sample: str) -> Iterator[FeatureView]:
    """A view of which half is audited, and in which every value differs."""
    execute("update features.user_session_features set session_count = -1 - session_count")
    yield contract.feature_view("user_session_features").model_copy(update={"audited_share": 0.5})
    execute("update features.user_session_features set session_count = -1 - session_count")


def test_half_of_the_rows_will_do_the_same_half_each_time(half: FeatureView) -> None:
    first, again = audited(half, JULY), audited(half, JULY)
    everybody = audited(half.model_copy(update={"audited_share": 1.0}), JULY)
    assert first == again
    assert 0.47 < first.rows_compared / everybody.rows_compared < 0.53
    assert difference_in(first, "session_count").mismatches == first.rows_compared


def test_another_instant_has_another_half(half: FeatureView) -> None:
    def examples(at: datetime) -> Any:
        return difference_in(audited(half, at), "session_count").example_keys

    assert examples(JULY) != examples(JULY + DAY)


def test_a_share_of_almost_everything_leaves_hardly_anybody_out(half: FeatureView) -> None:
    everybody = audited(half.model_copy(update={"audited_share": 1.0}), JULY).rows_compared
    assert 0.98 < audited(half.model_copy(update={"audited_share": 0.99}), JULY).rows_compared / everybody < 1


def difference_in(found: Audit, feature: str) -> Finding:
    (finding,) = [finding for finding in found.findings if finding.feature == feature]
    return finding


def test_a_finding_reads_as_a_sentence() -> None:
    publication = Publication(7, JULY, "v1", 4037, JULY)
    finding = Finding("session_count", 1234, (["N14228", 7], ["N24211", 8]), Cause.BOTH)
    found = Audit(publication, 4037, [finding])
    assert found.sentence(finding) == (
        "At 2013-07-02 00:00Z session_count differs in 1,234 of 4,037 rows "
        "(backdated data and changed logic; for example N14228/7, N24211/8)."
    )
    lone = Finding(ENTITIES, 1, (["N14228"],), Cause.CHANGED_LOGIC)
    assert found.sentence(lone) == (
        "At 2013-07-02 00:00Z the set of entities differs in 1 of 4,037 rows (changed logic; for example N14228)."
    )
