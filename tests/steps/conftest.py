"""Warehouses for the steps: a small one written by SQL, and a private copy of the sample."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from features import settings, warehouse
from features.contract import FeatureView, Model, read_contract

JULY = datetime(2013, 7, 2, tzinfo=UTC)


@pytest.fixture(scope="session")
def churn(manifest: Path) -> Model:
    return read_contract(manifest).model("churn")


@pytest.fixture(scope="session")
def view(churn: Model) -> FeatureView:
    return churn.feature_view


@pytest.fixture
def small_warehouse(empty_warehouse: str) -> str:
    """A migrated warehouse with the relations of dbt that steps read, empty; the definition `v1` was built last."""
    with warehouse.connect() as connection:
        connection.execute("""
            create table features.user_session_features (
                user_id text not null,
                as_of timestamptz not null,
                session_count bigint,
                avg_session_duration_minutes double precision,
                days_since_last_session bigint,
                sessions_last_7_days bigint,
                sessions_last_30_days bigint,
                feature_version text not null
            )
        """)
        connection.execute("""
            create table training.churn_training_set (
                like features.user_session_features,
                label_at timestamptz not null,
                matured_at timestamptz not null,
                churned boolean not null
            )
        """)
        connection.execute(
            "insert into features.feature_versions (feature_view, feature_version, definition)"
            " values ('user_session_features', 'v1', 'select')"
        )
    return empty_warehouse


@pytest.fixture(scope="session")
def sample_copy_database(sample_database: str) -> Iterator[str]:
    """A copy of the sample that tests may write to."""
    name = "skewless_sample_copy"
    with warehouse.connect("postgres", autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)")
        connection.execute(f"create database {name} template {sample_database}")
    yield name
    with warehouse.connect("postgres", autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)")


@pytest.fixture
def sample_copy(sample_copy_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """That copy, as the warehouse our code connects to."""
    monkeypatch.setattr(settings, "WAREHOUSE_DATABASE", sample_copy_database)
    monkeypatch.setenv("PGDATABASE", sample_copy_database)
    return sample_copy_database
