"""What pages cost the warehouse does not grow with features and days; how fast they are is `make bench-health`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from features import warehouse
from features.contract import Contract, read_contract
from tests.plugins.queries import LARGE, pages_by_name, pages_touched, queries_of, steps_of

# More would be a query for each of something.
MOST_QUERIES = 15
# Of 8 kB each. The largest table has 19,000: a page that reads as many as this has read too much of it.
MOST_PAGES_TOUCHED = 12_000


@pytest.fixture
def connection(health_database: str) -> Iterator[warehouse.Connection]:
    """To the long history."""
    with warehouse.connect(health_database) as connection:
        yield connection


@pytest.mark.parametrize("name", pages_by_name())
def test_a_page_asks_few_questions_however_many_features_there_are(
    health_contract: Contract, health_database: str, hostile_manifest: Path, hostile_database: str, name: str
) -> None:
    few = queries_of(name, read_contract(hostile_manifest), hostile_database, **of_churn(name))
    many = queries_of(name, health_contract, health_database, **of_churn(name))
    assert 0 < len(many) <= MOST_QUERIES
    # The small warehouse has another model beside it, and less to say of each.
    assert len(many) <= len(few) + 2


def of_churn(name: str) -> dict[str, str]:
    """What names the model, where a page has one."""
    return {"model": "churn"} if "model" in pages_by_name()[name].asked.model_fields else {}


@pytest.mark.parametrize("name", pages_by_name())
def test_no_large_table_is_read_to_its_end(
    connection: warehouse.Connection, health_contract: Contract, health_database: str, name: str
) -> None:
    for asked in queries_of(name, health_contract, health_database):
        read_whole = {
            step["Relation Name"]
            for step in steps_of(asked.plan(connection))
            if step["Node Type"] == "Seq Scan" and step["Relation Name"] in LARGE
        }
        assert read_whole == set(), asked.text


@pytest.mark.parametrize("name", pages_by_name())
def test_a_page_touches_a_small_part_of_the_warehouse(
    connection: warehouse.Connection, health_contract: Contract, health_database: str, name: str
) -> None:
    touched = {
        asked.text: pages_touched(asked.plan(connection, "analyze, buffers, timing off,"))
        for asked in queries_of(name, health_contract, health_database)
    }
    assert sum(touched.values()) <= MOST_PAGES_TOUCHED, sorted(touched.items(), key=lambda item: -item[1])[:3]
