"""The monitor watches itself: does it stay quiet on clean history, and does it find what is put there?

The older half of the served hours is the baseline, the newer half is replayed against it hour by hour: once as it
was, then with a shift injected into the values while the warehouse counts them. Nothing of the pipeline is touched. A
feature on which an injection stays unseen is *blind* to it: too few entities, floors too high, or too restless in
itself.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from psycopg import sql

from features import warehouse
from features.contract import Model
from features.drift import baselines, store
from features.drift.baselines import BaselineKey
from features.drift.counting import Population, count, distinct_entities, make_grid
from features.drift.hours import WEEK, Hour
from features.drift.looks import Look, Outlook
from features.drift.profile import Baseline, Wobble
from features.drift.report import WHOLE, Subject
from features.drift.sketch import Grid, Kind, Sketch
from features.drift.sources import Source
from features.drift.window import report_window

log = logging.getLogger(__name__)

CLEAN = "none"
# As many as are kept hour by hour for two days.
MOST_HOURS = 48
FEWEST_HOURS = 8


@dataclass(frozen=True)
class Injection:
    """A shift that is put into the values.

    Attributes:
        value: SQL of what becomes of `value`; `share(p)` of the entities, always the same ones, are hit.
    """

    name: str
    value: sql.Composable


def _share(share: float) -> sql.Composed:
    """Whether an entity is among this share of them."""
    return sql.SQL("mod(abs(hashtextextended(_key, 7)::numeric), 1000) < {}").format(sql.Literal(round(1000 * share)))


def injections(grid: Grid, standard_deviation: float | None) -> list[Injection]:
    """What is tried on values of this kind."""
    if not grid.kind.is_ordered:
        filler = sql.Literal("true" if grid.kind is Kind.BOOLEAN else "(filled in)")
        share = 0.25 if grid.kind is Kind.BOOLEAN else 0.05
        fill = sql.SQL("case when {} then {} else value end").format(_share(share), filler)
        return [Injection(f"{share:.0%} default fill", fill)]
    shift = 0.25 * (standard_deviation or 0.0)
    if _is_whole(grid):
        shift = max(1.0, float(round(shift)))
    shifted = Injection("0.25 sigma", sql.SQL("value + {}::double precision").format(sql.Literal(shift)))
    return [
        *([shifted] if shift else []),  # what never varies has no quarter of a deviation
        Injection("5% default fill", sql.SQL("case when {} then 0 else value end").format(_share(0.05))),
        Injection("x60 on 10%", sql.SQL("case when {} then value * 60 else value end").format(_share(0.10))),
    ]


def _is_whole(grid: Grid) -> bool:
    """Whether the values are whole numbers, so that a shift has to be one."""
    return all(edge in {round(edge), np.nextafter(round(edge), np.inf)} for edge in grid.edges)


def self_test(model: Model, feature: str, planned: Mapping[str, Any], as_of: datetime) -> list[dict[str, Any]]:
    """Replays clean and injected history of a feature and keeps what was found in monitoring.drift_self_tests.

    Args:
        planned: what `features.steps.watch.plan` returned.

    Returns:
        one row per injection: injection, hours, alarms, found_after_hours, is_blind; none while there is too little
        history.
    """
    with warehouse.connect() as connection:
        look = next(iter(Outlook(connection, model, planned["champion"], as_of).looks(feature)), None)
        hours = list(look.hours)[-MOST_HOURS:] if look else []
        if not look or len(hours) < FEWEST_HOURS:
            log.info("%s: %s served hours in the last week; %s are needed.", feature, len(hours), FEWEST_HOURS)
            return []
        rows = _Replay(connection, model, look, hours, planned["alpha"], as_of).rows()
        _write(connection, model, feature, as_of, rows)
    for row in rows:
        log.info("%s, %s: %s", feature, row["injection"], row["detail"])
    return rows


class _Replay:
    """The newer half of some hours against the older half."""

    def __init__(
        self,
        connection: warehouse.Connection,
        model: Model,
        look: Look,
        hours: Sequence[datetime],
        alpha: float,
        as_of: datetime,
    ) -> None:
        self._connection, self._model, self._look, self._alpha = connection, model, look, alpha
        self._older, self._newer = hours[: len(hours) // 2], hours[len(hours) // 2 :]
        source = look.source
        self._populations: Mapping[datetime, Population] = store.read_populations(
            connection, model, source.name, source.version, as_of - WEEK, as_of
        ).get(WHOLE, {})

    def rows(self) -> list[dict[str, Any]]:
        """What was found, clean history first."""
        grid = self._grid()
        if grid is None:
            return []
        before = self._hours(grid, self._older, None)
        if not before:
            return []
        parts = [self._populations[hour.as_of] for hour in before if hour.as_of in self._populations]
        whole = Sketch.total([hour.sketch for hour in before], grid)
        # The floors are those that the monitor has learnt, or the test would say nothing of it.
        baseline = Baseline(grid, whole, distinct_entities(parts), wobble=self._wobble())
        found = [self._row(baseline, before, None)]
        deviation = baseline.profile.std(grid) if grid.kind.is_ordered else None
        return [*found, *(self._row(baseline, before, injection) for injection in injections(grid, deviation))]

    def _wobble(self) -> Mapping[int, Wobble]:
        source = self._look.source
        key = BaselineKey("serving", source.name, WHOLE, source.version)
        stored = baselines.read_baseline(self._connection, self._model, self._look.column.name, key)
        return stored.baseline.wobble if stored else {}

    def _grid(self) -> Grid | None:
        stored = store.newest_grid(self._connection, self._model, self._look.column.name)
        if stored:
            return stored.grid
        return make_grid(self._connection, self._look.source, self._look.column, self._older)

    def _row(self, baseline: Baseline, before: Sequence[Hour], injection: Injection | None) -> dict[str, Any]:
        after = self._hours(baseline.grid, self._newer, injection)
        loud = [place for place, hour in enumerate(after, start=1) if self._alarms(baseline, [*before, *after], hour)]
        name = injection.name if injection else CLEAN
        found_after = loud[0] if loud and injection else None
        return {
            "injection": name,
            "hours": len(after),
            "alarms": len(loud),
            "found_after_hours": found_after,
            "is_blind": injection is not None and not loud,
            "detail": _sentence(name, len(after), len(loud), found_after),
        }

    def _alarms(self, baseline: Baseline, hours: Sequence[Hour], at: Hour) -> bool:
        return any(
            report_window(
                Subject(self._look.column.name, at.as_of, self._look.source.name, WHOLE, window),
                hours,
                self._populations,
                baseline,
                self._look.settings,
                self._alpha,
            ).drift_detected
            for window in self._model.monitoring.windows_hours
        )

    def _hours(self, grid: Grid, hours: Sequence[datetime], injection: Injection | None) -> list[Hour]:
        source, column = self._look.source, self._look.column
        if injection:
            changed = sql.SQL("(select {} from (select {} as value) as read)").format(
                injection.value, column.expression
            )
            column = replace(column, expression=changed)
        whole = Source(source.name, source.version, source.rows, {})
        found = count(self._connection, whole, column, grid, hours)
        return store.as_hours({at: sketch for (_, at), sketch in sorted(found.items())}, self._populations)


def _sentence(name: str, hours: int, alarms: int, found_after: int | None) -> str:
    if name == CLEAN:
        return f"{alarms} of {hours} clean hours alarm."
    return f"Found after {found_after} h." if found_after else f"Blind: not found in {hours} h."


def _write(
    connection: warehouse.Connection, model: Model, feature: str, as_of: datetime, rows: Sequence[Mapping[str, Any]]
) -> None:
    connection.execute(
        "delete from monitoring.drift_self_tests where (model_name, feature, as_of) = (%s, %s, %s)",
        [model.name, feature, as_of],
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into monitoring.drift_self_tests (model_name, feature, as_of, injection, hours, alarms,"
            " found_after_hours, is_blind, detail) values (%(model_name)s, %(feature)s, %(as_of)s, %(injection)s,"
            " %(hours)s, %(alarms)s, %(found_after_hours)s, %(is_blind)s, %(detail)s)",
            [{**row, "model_name": model.name, "feature": feature, "as_of": as_of} for row in rows],
        )
