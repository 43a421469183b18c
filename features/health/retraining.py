"""The retraining page: what was decided and why, why not, what came of it, and how the model ages.

A decision is made every hour, and most say what the one before said. So decisions are shown by stretches, unless every
one is asked for. The rule: a decision begins a stretch when its outcome, its trigger or the set of its guards differs
from those of the decision before it, or when it is to retrain. That decision is shown in full; those that follow until
the next stretch are counted. What changes only in its numbers, such as the labels in a reason, is no change; nor are
hours in which nothing was decided.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from features import warehouse
from features.contract import Model
from features.health.decay import ChampionAge, DecayBacktest, champion_age, newest_backtest
from features.health.decisions import Decided, Decision, Outline, decisions_at, outcomes, outlines
from features.retraining.decision import Outcome

PAGE_SIZE = 50
# Of which a page is made: more than a year of hours. What is older is on the next page.
MOST_READ = 10_000
WINDOW_DAYS = 90
HOUR = timedelta(hours=1)
INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Span:
    """Decisions in a row that say the same.

    Attributes:
        first, last: the oldest and the newest of them.
        decisions: how many they are.
        goes_on: whether older ones that were not read may belong to it.
    """

    first: datetime
    last: datetime
    outcome: str
    decisions: int
    goes_on: bool = False


@dataclass(frozen=True)
class Stretch:
    """The decision that began a stretch, and how far it goes.

    Attributes:
        until: the newest decision like it.
        is_asked: whether the decision that was asked for is among them.
    """

    decision: Decision
    until: datetime
    decisions: int
    goes_on: bool
    is_asked: bool


@dataclass(frozen=True)
class Band:
    """Hours in a row with one outcome; from `start` to the end of the last hour."""

    outcome: str
    start: datetime
    end: datetime
    decisions: int


@dataclass(frozen=True)
class OutcomeCount:
    """How many decisions of the last WINDOW_DAYS days came to an outcome."""

    outcome: str
    decisions: int


@dataclass(frozen=True)
class Reign:
    """A version that became champion.

    Attributes:
        since: when, by the clock of the warehouse.
        as_of: the newest instant that had been decided on by then, which in a replay is another time; None where that
            is before the last WINDOW_DAYS days.
        trained_as_of: None where its training is not on record.
    """

    version: str
    kind: str
    replaced_version: str | None
    because: str
    since: datetime
    as_of: datetime | None
    trained_as_of: datetime | None


@dataclass(frozen=True)
class RetrainingPage:
    """What was decided on a model.

    Attributes:
        outcome, every, asked_as_of: what was asked for; None: all outcomes, no decision in particular.
        counts: of all outcomes, most urgent first.
        shown: the decision that was asked for, else the newest; None where there is none.
        stretches: newest first.
        older: of which `before` the next page is; None on the last one.
        bands: of the last WINDOW_DAYS days up to the newest decision, oldest first.
        reigns: newest first.
    """

    model: str
    models: tuple[str, ...]
    outcome: str | None
    every: bool
    asked_as_of: datetime | None
    counts: tuple[OutcomeCount, ...]
    shown: Decision | None
    stretches: tuple[Stretch, ...]
    older: datetime | None
    bands: tuple[Band, ...]
    reigns: tuple[Reign, ...]
    backtest: DecayBacktest | None
    age: ChampionAge


def retraining_page(
    connection: warehouse.Connection,
    model: Model,
    models: tuple[str, ...],
    at: datetime,
    *,
    outcome: Outcome | None = None,
    before: datetime | None = None,
    as_of: datetime | None = None,
    every: bool = False,
) -> RetrainingPage:
    """The page of a model.

    Args:
        models: all that are declared, for a choice among them.
        at: the clock by which the champion is old.
        before: decisions of earlier instants only.
        as_of: a decision that is to be on the page, unless `before` says which page.
        every: every decision instead of stretches.
    """
    spans, older = _spans(connection, model, outcome, before, as_of, every=every)
    wanted = [span.first for span in spans] + ([as_of] if as_of else [])
    found = decisions_at(connection, model, wanted)
    decided = outcomes(connection, model, WINDOW_DAYS)
    reigns = _reigns(connection, model, decided)
    backtest = newest_backtest(connection, model)
    champion = reigns[0] if reigns else None
    trained = champion.trained_as_of if champion else None
    cadence = backtest.cadence if backtest else None
    return RetrainingPage(
        model=model.name,
        models=models,
        outcome=outcome,
        every=every,
        asked_as_of=as_of,
        counts=_counts(decided),
        shown=found.get(as_of) if as_of else found[max(found)] if found else None,
        stretches=tuple(_stretch(span, found[span.first], as_of) for span in spans),
        older=older,
        bands=bands(decided),
        reigns=reigns,
        backtest=backtest,
        age=champion_age(model, champion.version if champion else None, trained, cadence, at),
    )


def stretches(decisions: Sequence[Outline]) -> list[Span]:
    """The stretches of decisions, newest first as those are; the module says by which rule."""
    spans: list[Span] = []
    last = decisions[0].as_of if decisions else None
    count = 0
    for place, decision in enumerate(decisions):
        last, count = last or decision.as_of, count + 1
        earlier = decisions[place + 1] if place + 1 < len(decisions) else None
        if begins(decision, earlier):
            spans.append(Span(decision.as_of, last, decision.outcome, count))
            last, count = None, 0
    return spans


def begins(decision: Outline, earlier: Outline | None) -> bool:
    """Whether a decision begins a stretch, given the one before it."""
    if earlier is None or decision.outcome == Outcome.RETRAIN:
        return True
    return (decision.outcome, decision.trigger, decision.guards) != (earlier.outcome, earlier.trigger, earlier.guards)


def page_of(
    spans: Sequence[Span], outcome: str | None, asked: datetime | None, size: int, *, is_cut: bool
) -> tuple[list[Span], datetime | None]:
    """The spans of the page that holds an instant, or of the first one; and of which `before` the next page is.

    Args:
        spans: newest first.
        outcome: only these; None for all.
        is_cut: whether there are older decisions that were not read. The last span may then go on, so it is left to the
            next page, unless it is the only one.
    """
    whole = list(spans)
    if is_cut and len(whole) > 1:
        whole.pop()
    elif is_cut and whole:
        whole[0] = Span(**vars(whole[0]) | {"goes_on": True})
    matching = [span for span in whole if outcome in (None, span.outcome)]
    place = next((n for n, span in enumerate(matching) if asked and span.first <= asked <= span.last), 0)
    start = place - place % size
    page = matching[start : start + size]
    if start + size < len(matching):
        return page, page[-1].first
    return page, whole[-1].first if is_cut and whole else None


def bands(decided: Iterable[Decided]) -> tuple[Band, ...]:
    """Decisions, oldest first, as bands; an hour without a decision, or with another outcome, ends one."""
    found: list[Band] = []
    for as_of, outcome, _ in decided:
        last = found[-1] if found else None
        if last and last.outcome == outcome and as_of <= last.end:
            found[-1] = Band(outcome, last.start, as_of + HOUR, last.decisions + 1)
        else:
            found.append(Band(outcome, as_of, as_of + HOUR, 1))
    return tuple(found)


def _spans(
    connection: warehouse.Connection,
    model: Model,
    outcome: Outcome | None,
    before: datetime | None,
    as_of: datetime | None,
    *,
    every: bool,
) -> tuple[list[Span], datetime | None]:
    read = outlines(connection, model, before, MOST_READ + 1)
    asked = as_of if before is None else None
    if asked and len(read) > MOST_READ and asked < read[-1].as_of:
        read = outlines(connection, model, asked + INSTANT, MOST_READ + 1)
    is_cut = len(read) > MOST_READ
    kept = read[:MOST_READ]
    spans = [Span(one.as_of, one.as_of, one.outcome, 1) for one in kept] if every else stretches(kept)
    return page_of(spans, outcome, asked, PAGE_SIZE, is_cut=is_cut)


def _stretch(span: Span, decision: Decision, asked: datetime | None) -> Stretch:
    return Stretch(
        decision=decision,
        until=span.last,
        decisions=span.decisions,
        goes_on=span.goes_on,
        is_asked=asked is not None and span.first <= asked <= span.last,
    )


def _counts(decided: Iterable[Decided]) -> tuple[OutcomeCount, ...]:
    count = Counter(one.outcome for one in decided)
    return tuple(OutcomeCount(outcome, count[outcome]) for outcome in Outcome)


def _reigns(connection: warehouse.Connection, model: Model, decided: Sequence[Decided]) -> tuple[Reign, ...]:
    rows = connection.execute(
        """
        select
            champion.model_version as version, champion.kind, champion.replaced_version, champion.because,
            champion.since, evaluation.as_of as trained_as_of
        from monitoring.champions as champion
        left join monitoring.model_evaluations as evaluation using (model_name, model_version)
        where champion.model_name = %s
        order by champion.champion_id desc
        limit 50
        """,
        [model.name],
    )
    return tuple(Reign(**row, as_of=decided_by(row["since"], decided)) for row in rows)


def decided_by(moment: datetime, decided: Iterable[Decided]) -> datetime | None:
    """The newest instant that had been decided on at a moment."""
    return max((one.as_of for one in decided if one.decided_at <= moment), default=None)
