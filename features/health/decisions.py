"""Decisions on retraining as they stand in the warehouse: in full, in outline, and what came of them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.rows import tuple_row

from features import warehouse
from features.contract import Model


@dataclass(frozen=True)
class Looked:
    """A trigger that was looked at.

    Attributes:
        fired: None: it could not be judged.
    """

    trigger: str
    fired: bool | None
    evidence: str


@dataclass(frozen=True)
class Forbidden:
    """A guard that forbids retraining although a trigger fired, and why."""

    guard: str
    reason: str


@dataclass(frozen=True)
class Failed:
    """A check of the promotion gate that a version did not pass."""

    check: str
    evidence: str


@dataclass(frozen=True)
class Training:
    """A version that was trained as of a decision's instant, and what the promotion gate made of it."""

    version: str
    promoted: bool
    reason: str
    failed: tuple[Failed, ...]


@dataclass(frozen=True)
class Decision:
    """A decision with everything that it rests on, and the trainings that came of it."""

    as_of: datetime
    outcome: str
    trigger: str | None
    priority: str
    reason: str
    blocked_by: tuple[Forbidden, ...]
    triggers: tuple[Looked, ...]
    champion_version: str | None
    dag_run_id: str
    decided_at: datetime
    trainings: tuple[Training, ...]


@dataclass(frozen=True, slots=True)
class Outline:
    """What of a decision makes it another one than the one before."""

    as_of: datetime
    outcome: str
    trigger: str | None
    guards: frozenset[str]


def outlines(connection: warehouse.Connection, model: Model, before: datetime | None, most: int) -> list[Outline]:
    """So many decisions of instants before another, newest first."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        rows = cursor.execute(
            """
            select
                as_of, outcome, trigger,
                case when blocked_by <> '[]' then jsonb_path_query_array(blocked_by, '$[*].guard') end
            from monitoring.retraining_decisions
            where model_name = %s and as_of < coalesce(%s, 'infinity'::timestamptz)
            order by as_of desc
            limit %s
            """,
            [model.name, before, most],
        )
        return [Outline(as_of, outcome, trigger, frozenset(guards or ())) for as_of, outcome, trigger, guards in rows]


class Decided(NamedTuple):
    """When, about which instant, and what it came to."""

    as_of: datetime
    outcome: str
    decided_at: datetime


def outcomes(connection: warehouse.Connection, model: Model, days: int) -> list[Decided]:
    """Those of so many days up to the newest decision, oldest first."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        rows = cursor.execute(
            """
            select as_of, outcome, decided_at
            from monitoring.retraining_decisions
            where
                model_name = %(model)s
                and as_of > (
                    select max(as_of) from monitoring.retraining_decisions where model_name = %(model)s
                ) - make_interval(days => %(days)s)
            order by as_of
            limit 20000
            """,
            {"model": model.name, "days": days},
        )
        return [Decided(*row) for row in rows]


def decisions_at(
    connection: warehouse.Connection, model: Model, instants: Sequence[datetime]
) -> dict[datetime, Decision]:
    """The decisions of these instants, and the newest there is."""
    rows = connection.execute(
        """
        select
            as_of, outcome, trigger, priority, reason, blocked_by, triggers, champion_version, dag_run_id, decided_at
        from monitoring.retraining_decisions
        where
            model_name = %(model)s
            and (
                as_of = any(%(instants)s)
                or as_of = (select max(as_of) from monitoring.retraining_decisions where model_name = %(model)s)
            )
        """,
        {"model": model.name, "instants": list(instants)},
    ).fetchall()
    trainings = _trainings(connection, model, [row["as_of"] for row in rows])
    return {row["as_of"]: _decision(row, trainings[row["as_of"]]) for row in rows}


def _decision(row: dict[str, Any], trainings: Sequence[Training]) -> Decision:
    return Decision(
        **row
        | {
            "blocked_by": tuple(Forbidden(**each) for each in row["blocked_by"]),
            "triggers": tuple(Looked(**each) for each in row["triggers"]),
            "trainings": tuple(trainings),
        }
    )


def _trainings(
    connection: warehouse.Connection, model: Model, instants: Sequence[datetime]
) -> defaultdict[datetime, list[Training]]:
    """Those of each instant; several when it was trained again, the newest first."""
    found = defaultdict(list)
    rows = connection.execute(
        """
        select as_of, model_version, promoted, reason, checks
        from monitoring.model_evaluations
        where model_name = %s and as_of = any(%s)
        order by evaluated_at desc, model_version
        limit 500
        """,
        [model.name, list(instants)],
    )
    for row in rows:
        failed = (check for check in row["checks"] or () if not check["passed"])
        found[row["as_of"]].append(
            Training(
                version=row["model_version"],
                promoted=row["promoted"],
                reason=row["reason"],
                failed=tuple(Failed(check["check"], check["evidence"]) for check in failed),
            )
        )
    return found
