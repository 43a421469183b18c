"""Evidence that CI or a person records, because the warehouse cannot know it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from features import warehouse
from features.contract import Model
from features.errors import SkewlessError
from features.scorecard import store
from features.scorecard.rubric import TESTS
from features.scorecard.score import Evidence, How

# What a person has seen is seen again more rarely than what runs by itself.
BY_HAND_DAYS = 90
AUTOMATED_DAYS = 30


@dataclass(frozen=True)
class Recorded:
    """What somebody has seen of a test.

    Attributes:
        text: as a sentence with numbers.
        valid_days: for how long it counts; by default as is usual for how it was seen.
    """

    test: str
    how: str
    passed: bool
    text: str
    seen_at: datetime
    valid_days: int | None
    recorded_by: str


def record(connection: warehouse.Connection, model: Model, seen: Recorded) -> Evidence:
    """Adds the evidence, and gives the row.

    Raises:
        SkewlessError: when there is no such test, or nothing is said of it.
    """
    if seen.test not in TESTS:
        raise SkewlessError(f"There is no test {seen.test!r}; `skewless scorecard` lists those there are.")
    text = seen.text.strip()
    if not text:
        raise SkewlessError("Evidence is empty: say what was seen, as a sentence with numbers.")
    how = How(seen.how)
    days = seen.valid_days or (AUTOMATED_DAYS if how is How.AUTOMATED else BY_HAND_DAYS)
    evidence = Evidence(
        test=seen.test,
        how=how,
        passed=seen.passed,
        text=text,
        seen_at=seen.seen_at,
        expires_at=seen.seen_at + timedelta(days=days),
        recorded_by=seen.recorded_by,
    )
    store.add(connection, model.name, evidence)
    return evidence
