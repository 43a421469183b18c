"""Every source, asked at an instant."""

from collections.abc import Callable
from datetime import datetime

from features import warehouse
from features.contract import Model
from features.scorecard import data, infrastructure, model, monitoring
from features.scorecard.score import Evidence
from features.scorecard.subject import Observation, Subject, subject

Source = Callable[[Subject], Observation | None]

# The others of the 28 are what the warehouse cannot know, or what takes more than a look (infra_1).
SOURCES: tuple[Source, ...] = (
    data.feature_expectations,
    data.benefit,
    data.cost,
    data.meta_requirements,
    data.privacy,
    data.speed_of_change,
    data.feature_code,
    model.review,
    model.correlation,
    model.tuning,
    model.staleness,
    model.simpler_models,
    model.slices,
    infrastructure.validation,
    infrastructure.one_example,
    infrastructure.canary,
    infrastructure.rollback,
    monitoring.dependencies,
    monitoring.invariants,
    monitoring.parity,
    monitoring.age,
    monitoring.stability,
    monitoring.speed,
    monitoring.quality,
)


def collect(connection: warehouse.Connection, model: Model, as_of: datetime) -> list[Evidence]:
    """What the warehouse says at an instant, of the tests of which it says anything."""
    about = subject(connection, model, as_of)
    return [evidence_of(seen, as_of) for source in SOURCES if (seen := source(about))]


def evidence_of(seen: Observation, as_of: datetime) -> Evidence:
    """An observation as a row, seen at an instant."""
    return Evidence(seen.test, seen.how, seen.passed, seen.text, as_of, seen.expires_at)
