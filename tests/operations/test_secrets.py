"""Rotation of secrets loses nothing: what Airflow encrypted with the old key is readable with the new one alone."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from features.migrations import create_database
from tests.databases import drop_database

pytestmark = pytest.mark.operations

DATABASE = "skewless_rotated"


@pytest.fixture
def metadata(server: None) -> Iterator[str]:
    drop_database(DATABASE)
    create_database(DATABASE)
    yield f"postgresql+psycopg2:///{DATABASE}"
    drop_database(DATABASE)


def test_a_connection_encrypted_with_the_old_fernet_key_is_read_with_the_new_one_alone(
    metadata: str, tmp_path: Path
) -> None:
    def airflow(key: str, *arguments: str, expect_failure: bool = False) -> str:
        variables = {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": metadata.replace("psycopg2", "asyncpg"),
            "AIRFLOW__CORE__FERNET_KEY": key,
            "AIRFLOW_HOME": str(tmp_path),
        }
        command = [sys.executable, "-m", "airflow", *arguments]
        done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
        assert (done.returncode != 0) == expect_failure, done.stdout + done.stderr
        return done.stdout

    def password(key: str) -> str:
        said = airflow(key, "connections", "get", "post", "-o", "json")
        found: str = json.loads(said[said.index("[{") :])[0]["password"]
        return found

    old, new = (Fernet.generate_key().decode() for _ in range(2))
    airflow(old, "db", "migrate")
    airflow(old, "connections", "add", "post", "--conn-type", "smtp", "--conn-password", "hush-hush")
    airflow(new, "connections", "get", "post", "-o", "json", expect_failure=True)
    airflow(f"{new},{old}", "rotate-fernet-key")
    assert password(new) == "hush-hush"
    airflow(old, "connections", "get", "post", "-o", "json", expect_failure=True)
