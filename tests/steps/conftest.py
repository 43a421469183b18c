"""Warehouses for the steps: a small one and the sample, both built by dbt, each with copies to write to."""

from collections.abc import Iterator

import pytest

from features.contract import FeatureView, Model
from tests.databases import copy_of, execute, migrated, use, using
from tests.dbt_project.running import run_dbt
from tests.steps.small_warehouse import EARLIER, HISTORY, LATER


@pytest.fixture(scope="session")
def view(churn: Model) -> FeatureView:
    return churn.feature_view


@pytest.fixture(scope="session")
def built_database(server: None) -> Iterator[str]:
    """Twelve users and half a year, built at EARLIER and at LATER. Nothing is published."""
    with migrated("skewless_small") as name:
        with using(name):
            execute(HISTORY)
            run_dbt(EARLIER)
            run_dbt(LATER)
        yield name


@pytest.fixture
def small_warehouse(built_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A copy of it, to write to."""
    with copy_of(built_database, "skewless_small_copy") as name:
        use(name, monkeypatch)
        yield name


@pytest.fixture(scope="session")
def sample_copy_database(sample_database: str) -> Iterator[str]:
    """A copy of the sample that tests may write to."""
    with copy_of(sample_database, "skewless_sample_copy") as name:
        yield name


@pytest.fixture
def sample_copy(sample_copy_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """That copy, as the warehouse our code connects to."""
    use(sample_copy_database, monkeypatch)
    return sample_copy_database
