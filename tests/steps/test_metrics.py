"""What the steps send to a real StatsD receiver, through Airflow's own client as a task has it."""

from collections.abc import Iterator

import pytest
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils, statsd_logger

from features.contract import FeatureView
from features.steps.publish import GateClosed, publish
from features.steps.roll_back import roll_back
from tests.databases import execute
from tests.operations import receivers
from tests.operations.receivers import Packets
from tests.steps.small_warehouse import EARLIER, LATER


@pytest.fixture
def statsd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Packets]:
    """A receiver that this process sends to, as a task would."""
    with receivers.statsd() as packets:
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_HOST", "127.0.0.1")
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_PORT", str(packets.port))
        stats.initialize(factory=statsd_logger.get_statsd_logger, export_legacy_names=True)  # type: ignore[arg-type]
        yield packets
        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)


def names(packets: Packets) -> list[str]:
    """What has come, less what is in front of every name; waits until something has."""
    packets.wait_for(1)
    return [line.partition(":")[0].removeprefix("airflow.skewless.") for line in packets.lines]


def test_what_goes_live_is_told_with_its_age_and_its_rows(
    small_warehouse: str, view: FeatureView, statsd: Packets
) -> None:
    publish(view, LATER)
    statsd.wait_for(2)
    assert statsd.values(f"airflow.skewless.live_rows.{view.name}") == [12]
    assert len(statsd.values(f"airflow.skewless.live_age_seconds.{view.name}")) == 1


def test_an_older_snapshot_that_stays_unpublished_is_not(
    small_warehouse: str, view: FeatureView, statsd: Packets
) -> None:
    publish(view, LATER)
    statsd.wait_for(2)
    assert publish(view, EARLIER)["is_live"] is False
    assert len(statsd.lines) == 2


def test_a_closed_gate_counts(small_warehouse: str, view: FeatureView, statsd: Packets) -> None:
    execute("update features.user_session_features set session_count = session_count + 1 where as_of = %s", LATER)
    with pytest.raises(GateClosed):
        publish(view, LATER)
    assert names(statsd) == [f"refused_publications.{view.name}"]


def test_a_rollback_tells_the_age_of_what_is_live_again(
    small_warehouse: str, view: FeatureView, statsd: Packets
) -> None:
    publish(view, EARLIER)
    publish(view, LATER)
    roll_back([view], EARLIER)
    statsd.wait_for(6)
    first, second, again = statsd.values(f"airflow.skewless.live_age_seconds.{view.name}")
    assert first - second == pytest.approx((LATER - EARLIER).total_seconds(), abs=60)
    assert again == pytest.approx(first, abs=60)
