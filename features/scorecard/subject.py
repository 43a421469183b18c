"""Whom evidence is about, and what a source says of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from features import warehouse
from features.contract import Model
from features.scorecard.rubric import TESTS
from features.scorecard.score import How

Row = dict[str, Any]


@dataclass(frozen=True)
class Reigning:
    """The champion at an instant, and what was found when it was trained and judged.

    Attributes:
        trained_as_of: the instant whose knowledge it was trained on.
        evaluation: as features/steps/train.py writes it; {} when it is not known.
        checks: of the gate; none when it was not judged.
    """

    version: str
    trained_as_of: datetime
    extract_id: str
    evaluation: Row
    checks: tuple[Row, ...]

    def checked(self, check: str) -> list[Row]:
        """The gate's checks of a kind."""
        return [each for each in self.checks if each["check"] == check]


@dataclass(frozen=True)
class Subject:
    """A model at an instant, and the warehouse that knows of it."""

    connection: warehouse.Connection
    model: Model
    as_of: datetime
    champion: Reigning | None

    def rows(self, query: warehouse.Query, **parameters: Any) -> list[Row]:
        """All rows of a query; it may name %(model)s, %(view)s and %(as_of)s."""
        return self.connection.execute(query, self._parameters(parameters)).fetchall()

    def row(self, query: warehouse.Query, **parameters: Any) -> Row:
        """The first row of a query, or {}."""
        return self.connection.execute(query, self._parameters(parameters)).fetchone() or {}

    def _parameters(self, more: Row) -> Row:
        return {"model": self.model.name, "view": self.model.feature_view.name, "as_of": self.as_of, **more}


@dataclass(frozen=True)
class Observation:
    """What a source has seen of a test.

    Attributes:
        expires_at: from when it says nothing any more.
    """

    test: str
    passed: bool
    text: str
    expires_at: datetime
    how: How = How.AUTOMATED


def observed(test: str, passed: bool, text: str, since: datetime, how: How = How.AUTOMATED) -> Observation:
    """An observation that lasts as long as those of its test do.

    Args:
        since: the instant of the newest fact that it rests on.
    """
    return Observation(test, passed, text, since + TESTS[test].lasts, how)


def subject(connection: warehouse.Connection, model: Model, as_of: datetime) -> Subject:
    """A model as it is known at an instant. A champion that was trained on later knowledge is not known yet."""
    row = connection.execute(
        """
        select evaluation.model_version as version, evaluation.as_of as trained_as_of, evaluation.extract_id,
            coalesce(evaluation.evaluation, '{}') as evaluation, coalesce(evaluation.checks, '[]') as checks
        from monitoring.champions as champion
        inner join monitoring.model_evaluations as evaluation using (model_name, model_version)
        where champion.model_name = %s and evaluation.as_of <= %s
        order by champion.champion_id desc
        limit 1
        """,
        [model.name, as_of],
    ).fetchone()
    champion = Reigning(**{**row, "checks": tuple(row["checks"])}) if row else None
    return Subject(connection, model, as_of, champion)


def listed(names: list[str], most: int = 5) -> str:
    """Names as text, the first few of many.

    >>> listed(["a", "b"]), listed(["a", "b", "c"], most=2)
    ('a, b', 'a, b and 1 more')
    """
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"
