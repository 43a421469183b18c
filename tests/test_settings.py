"""What is not set has a default, what is set is heard, and what makes no sense is named."""

from pathlib import Path

import pytest

from features import settings
from features.errors import SkewlessError
from features.local import environment
from tests.deployment.compose_file import FILE, load, new_variables

TIMEOUT = "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"


@pytest.mark.parametrize("empty", [None, ""])
def test_by_default_a_task_is_tried_again_twice_after_half_a_minute(
    monkeypatch: pytest.MonkeyPatch, empty: str | None
) -> None:
    for name in ("SKEWLESS_RETRIES", "SKEWLESS_RETRY_SECONDS"):
        monkeypatch.delenv(name, raising=False) if empty is None else monkeypatch.setenv(name, empty)
    assert (settings.retries(), settings.retry_seconds()) == (2, 30.0)


def test_how_often_and_how_soon_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKEWLESS_RETRIES", "0")
    monkeypatch.setenv("SKEWLESS_RETRY_SECONDS", "2.5")
    assert (settings.retries(), settings.retry_seconds()) == (0, 2.5)


@pytest.mark.parametrize("garbage", ["two", "-1", "2.5", "1e3"])
def test_what_is_no_number_of_tries_is_named(monkeypatch: pytest.MonkeyPatch, garbage: str) -> None:
    monkeypatch.setenv("SKEWLESS_RETRIES", garbage)
    with pytest.raises(SkewlessError, match=f"SKEWLESS_RETRIES is '{garbage}', .* SKEWLESS_RETRIES=2"):
        settings.retries()


@pytest.mark.parametrize(("given", "found"), [(None, "90"), ("", "90"), ("15", "15")])
def test_airflows_own_variables_are_heard(monkeypatch: pytest.MonkeyPatch, given: str | None, found: str) -> None:
    monkeypatch.delenv(TIMEOUT, raising=False) if given is None else monkeypatch.setenv(TIMEOUT, given)
    assert environment.airflow()[TIMEOUT] == found


def test_containers_wait_as_long_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*environment.AIRFLOW_WAITS, "SKEWLESS_RETRIES", "SKEWLESS_RETRY_SECONDS"):
        monkeypatch.delenv(name, raising=False)
    scheduler = load(FILE, new_variables(tmp_path))["scheduler"].environment
    assert {name: scheduler[name] for name in environment.AIRFLOW_WAITS} == environment.AIRFLOW_WAITS
    assert int(scheduler["SKEWLESS_RETRIES"]) == settings.retries()
    assert float(scheduler["SKEWLESS_RETRY_SECONDS"]) == settings.retry_seconds()
