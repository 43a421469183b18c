"""monitoring.scorecard_evidence: rows are added; those that a partition computed are replaced when it runs again."""

from collections.abc import Iterable
from datetime import datetime

from features import warehouse
from features.scorecard.rubric import TESTS
from features.scorecard.score import Evidence, How

# So many days every hour's evidence is kept; of earlier days that of midnight (UTC), and whatever was recorded.
HOURLY_DAYS = 90

# What decides a test is the newest row of each kind and, where that has expired, the newest that has not: for each test
# eight steps into an index, however long the history.
DECISIVE = """
select evidence.*
from unnest(%(tests)s::text[]) as wanted (test)
cross join unnest(array['automated', 'by hand']) as kind (how)
cross join unnest(array[true, false]) as outcome (passed)
cross join lateral (
    (
        select * from monitoring.scorecard_evidence as newest
        where
            newest.model_name = %(model)s and newest.test = wanted.test and newest.passed = outcome.passed
            and newest.how = kind.how and newest.seen_at <= %(at)s
        order by newest.seen_at desc, newest.evidence_id desc
        limit 1
    )
    union
    (
        select * from monitoring.scorecard_evidence as valid
        where
            valid.model_name = %(model)s and valid.test = wanted.test and valid.passed = outcome.passed
            and valid.how = kind.how and valid.seen_at <= %(at)s
            and outcome.passed and valid.expires_at > %(at)s
        order by valid.seen_at desc, valid.evidence_id desc
        limit 1
    )
) as evidence
"""

THIN = """
delete from monitoring.scorecard_evidence
where
    model_name = %(model)s and recorded_by is null
    and seen_at < %(as_of)s::timestamptz - make_interval(days => %(days)s)
    and seen_at <> date_trunc('day', seen_at, 'UTC')
"""


def read_decisive(connection: warehouse.Connection, model_name: str, at: datetime) -> list[Evidence]:
    """The rows that decide the score at an instant; the whole history would give the same score."""
    parameters = {"model": model_name, "at": at, "tests": list(TESTS)}
    return [
        Evidence(
            test=row["test"],
            how=How(row["how"]),
            passed=row["passed"],
            text=row["evidence"],
            seen_at=row["seen_at"],
            expires_at=row["expires_at"],
            number=row["evidence_id"],
            recorded_by=row["recorded_by"],
        )
        for row in connection.execute(DECISIVE, parameters)
    ]


def replace_computed(
    connection: warehouse.Connection, model_name: str, as_of: datetime, evidence: Iterable[Evidence]
) -> None:
    """Keeps what a partition computed, in place of what it computed before; thins out what is old."""
    connection.execute(
        "delete from monitoring.scorecard_evidence where model_name = %s and seen_at = %s and recorded_by is null",
        [model_name, as_of],
    )
    for each in evidence:
        add(connection, model_name, each)
    connection.execute(THIN, {"model": model_name, "as_of": as_of, "days": HOURLY_DAYS})


def add(connection: warehouse.Connection, model_name: str, evidence: Evidence) -> None:
    """Adds a row."""
    row = {
        "model_name": model_name,
        "test": evidence.test,
        "how": str(evidence.how),
        "passed": evidence.passed,
        "evidence": evidence.text,
        "seen_at": evidence.seen_at,
        "expires_at": evidence.expires_at,
        "recorded_by": evidence.recorded_by,
    }
    warehouse.insert(connection, "monitoring.scorecard_evidence", row)
