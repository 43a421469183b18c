"""A migrated warehouse in which each test writes what it is about, and of which nothing stays."""

from collections.abc import Iterator

import pytest

from features import warehouse
from features.contract import Model
from features.migrations import migrate
from tests.conftest import drop_database
from tests.scorecard.world import World
from tests.steps.small import use


@pytest.fixture(scope="session")
def scorecard_database(server: None) -> Iterator[str]:
    """Tables without a row."""
    name = "skewless_scorecard"
    drop_database(name)
    with pytest.MonkeyPatch.context() as patch:
        use(name, patch)
        migrate()
    yield name
    drop_database(name)


@pytest.fixture
def world(scorecard_database: str, churn: Model) -> Iterator[World]:
    """That warehouse in a transaction that is rolled back."""
    with warehouse.connect(scorecard_database) as connection:
        yield World(connection, churn)
        connection.rollback()
