"""A deployment comes up, and its scheduler is killed: the drill that `make test` has.

The hour in which it is killed is the first one, which ends with a model trained and in place.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drills.drill import SERVICES, Drill, deployed
from tests.drills.leap_day_history import FIRST

pytestmark = [pytest.mark.drills, pytest.mark.short, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def drill(server: None, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    """The deployment, every service of which is healthy; it has computed nothing yet."""
    with deployed(tmp_path_factory.mktemp("drills"), manifest, SERVICES) as made:
        yield made


def test_the_scheduler_is_killed_while_models_write(drill: Drill) -> None:
    with drill.writing(FIRST) as run:
        # It alone, as when memory runs out: what it forked goes with it.
        drill.pod.signal("scheduler", signal.SIGKILL)
    drill.finish(FIRST)
    drill.is_as_if_nothing_had_happened()
    assert drill.rows("select model_version from monitoring.champions") == [("1",)]
    assert drill.said("scheduler", "Reset the following")
    assert "dbt.user_variety_features_model_build" in drill.tried_again(run)
