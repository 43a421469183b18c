"""A migrated warehouse in which each test writes what it is about, and of which nothing stays."""

from collections.abc import Iterator

import pytest

from features import warehouse
from features.contract import Model
from tests.databases import migrated
from tests.scorecard.observed_warehouse import ObservedWarehouse


@pytest.fixture(scope="session")
def scorecard_database(server: None) -> Iterator[str]:
    """Tables without a row."""
    with migrated("skewless_scorecard") as name:
        yield name


@pytest.fixture
def observed(scorecard_database: str, churn: Model) -> Iterator[ObservedWarehouse]:
    """That warehouse in a transaction that is rolled back."""
    with warehouse.connect(scorecard_database) as connection:
        yield ObservedWarehouse(connection, churn)
        connection.rollback()
