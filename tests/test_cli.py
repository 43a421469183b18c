"""The command `skewless`, run as people run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from features import cli, settings
from features.ingest import reading

SKEWLESS = Path(sys.executable).with_name("skewless")


def skewless(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **variables}
    return subprocess.run([SKEWLESS, *arguments], env=env, capture_output=True, text=True, check=False)


def test_help_lists_every_command_with_what_it_does() -> None:
    done = skewless("--help")
    assert done.returncode == 0
    lines = [line.split(maxsplit=1) for line in done.stdout.partition("Commands:")[2].splitlines() if line.strip()]
    listed = {words[0]: words[1:] for words in lines}
    assert list(listed) == list(cli.main.commands)  # in the order a newcomer needs them
    assert {"start-warehouse", "load", "load-sample", "up", "down", "demo", "env", "psql", "warehouse-url"} <= set(
        listed
    )
    assert all(listed.values())


def test_help_on_load_names_every_column_it_reads() -> None:
    words = set(re.findall(r"\w+", skewless("load", "--help").stdout))
    assert set(reading.COLUMNS) <= words


def test_an_unknown_command_is_refused() -> None:
    done = skewless("demonstrate")
    assert done.returncode == 2
    assert "No such command 'demonstrate'" in done.stderr


@pytest.mark.parametrize("command", [["start-warehouse"], ["load", __file__]], ids=" ".join)
def test_a_server_that_is_not_there_is_one_line_and_exit_code_1(command: list[str], tmp_path: Path) -> None:
    if command[0] == "load":
        file = tmp_path / "events.csv"
        file.write_text("event_id,user_id,started_at,duration_seconds,ingested_at\n")
        command = ["load", str(file)]
    done = skewless(*command, PGHOST="127.0.0.1", PGPORT="1")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert "on PGHOST=127.0.0.1" in line
    assert "Check PGHOST, PGPORT, PGUSER and PGPASSWORD" in line


def test_a_file_that_is_not_there_is_one_line_and_exit_code_1(server: None) -> None:
    done = skewless("load", "nowhere.csv")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert "nowhere.csv" in line


def test_the_warehouses_address_has_no_password() -> None:
    done = skewless(
        "warehouse-url", PGHOST="db.example.com", PGPORT="6543", PGUSER="ada", PGDATABASE="dwh", PGPASSWORD="hush-hush"
    )
    assert done.returncode == 0
    assert done.stdout == "postgresql://ada@db.example.com:6543/dwh\n"
    assert "hush-hush" not in done.stdout + done.stderr


def test_the_embedded_warehouses_address_is_its_socket() -> None:
    done = skewless("warehouse-url")
    assert done.stdout == f"postgresql://postgres@/skewless?host={settings.EMBEDDED_POSTGRES}&port=5432\n"


def test_env_prints_lines_a_shell_reads_and_no_password_of_the_warehouse_in_an_address() -> None:
    done = skewless("env", PGPASSWORD="hush-hush")
    assert done.returncode == 0
    assert all(line.startswith("export ") for line in done.stdout.splitlines())
    shell = f'{done.stdout}\nprintf "%s\\n" "$PGHOST" "$DBT_PROJECT_DIR" "$AIRFLOW__CORE__DAGS_FOLDER"'
    read = subprocess.run(["bash", "-euc", shell], capture_output=True, text=True, check=True)
    assert read.stdout.splitlines() == [
        str(settings.EMBEDDED_POSTGRES),
        str(settings.DBT_PROJECT),
        str(settings.DAGS_FOLDER),
    ]
    with_password = [line for line in done.stdout.splitlines() if "hush-hush" in line]
    assert [line.split("=")[0] for line in with_password] in ([], ["export AIRFLOW_CONN_WAREHOUSE"])
