"""The hours of the synthetic history, and the episodes in which something goes wrong. Seeded; nothing reads a clock."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from features.contract import Model, Severity
from features.drift.cause import Cause
from features.drift.incident import Finding, Incident, Verdict

END = datetime(2026, 6, 30, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
QUIET = timedelta(hours=24)
WINDOWS = (1, 6, 24, 168)
# Of an effect and its bounds; what stays below it is noise.
HALF_WIDTH = 0.03
OLD_DEFINITION, NEW_DEFINITION = "2267e99e340c", "9f31c0de77ab"


@dataclass(frozen=True)
class Span:
    """The hours of a history: every full one of (start, end] but those that were missed.

    Attributes:
        missed: of an outage; nothing was published or watched.
    """

    days: int
    end: datetime = END

    @property
    def start(self) -> datetime:
        """Exclusive."""
        return self.end - self.days * DAY

    def at(self, share: float) -> datetime:
        """The full hour after so much of it."""
        return self.start + round(share * self.days * 24) * HOUR

    @property
    def missed(self) -> tuple[datetime, ...]:
        """Three hours in a row."""
        first = self.at(0.4)
        return (first, first + HOUR, first + 2 * HOUR)

    @property
    def hours(self) -> list[datetime]:
        """In order."""
        every = (self.start + number * HOUR for number in range(1, self.days * 24 + 1))
        return [at for at in every if at not in self.missed]

    @property
    def redefined_at(self) -> datetime:
        """From when on the features have a new definition."""
        return self.at(0.6)

    def definition(self, at: datetime) -> str:
        """Which definition an hour was computed by."""
        return NEW_DEFINITION if at >= self.redefined_at else OLD_DEFINITION


@dataclass(frozen=True)
class Episode:
    """Something that goes wrong, and by how much the features stray meanwhile.

    Attributes:
        effect: a KS distance; lasts from starts_at to ends_at, and longer in longer windows.
        status: of the reports, where it is not the effect that decides.
        verdict: what a person said of it.
    """

    features: tuple[str, ...]
    starts_at: datetime
    ends_at: datetime
    effect: float
    cause: Cause
    because: str
    status: str | None = None
    verdict: Verdict | None = None

    @property
    def severity(self) -> Severity:
        """By the floors that features have by default."""
        is_critical = self.effect - HALF_WIDTH > 0.10 or self.status == "missing_feature"
        return Severity.CRITICAL if is_critical else Severity.WARNING

    def incident(self, model: Model, number: int, span: Span) -> Incident:
        """As the monitor would keep it at the end of the span."""
        closed_at = self.ends_at + QUIET
        view = model.feature_view
        because = f"no alarm since {self.ends_at:%Y-%m-%d %H:%M}Z"
        return Incident(
            upstream=view.name,
            owner=view.owner,
            cause=self.cause,
            severity=self.severity,
            findings=tuple(
                Finding(
                    feature=name,
                    upstream=view.name,
                    owner=view.owner,
                    severity=self.severity,
                    cause=self.cause,
                    because=self.because,
                    sentence=f"shape {self.effect:.3f} ({self.effect - HALF_WIDTH:.3f} to "
                    f"{self.effect + HALF_WIDTH:.3f}), floors 0.040 and 0.100.",
                )
                for name in self.features
            ),
            opened_at=self.starts_at,
            last_alarm_at=min(self.ends_at, span.end),
            told_at=self.starts_at,
            incident_id=number,
            closed_at=closed_at if closed_at <= span.end else None,
            closed_because=because if closed_at <= span.end else None,
            verdict=self.verdict,
        )


def episodes(names: Sequence[str], span: Span) -> list[Episode]:
    """In order of their beginning: those that a page tells much of, and a few that warn of nothing much.

    Of a short history only those that are over in time, so that two incidents are open at its end.
    """
    every = [*_telling(names, span), *_minor(names, span)]
    over = [episode for episode in every if episode.ends_at + QUIET < span.end or episode.ends_at == span.end]
    return sorted(over, key=lambda episode: episode.starts_at)


def _telling(names: Sequence[str], span: Span) -> Iterator[Episode]:
    def of(*places: int) -> tuple[str, ...]:
        return tuple(dict.fromkeys(names[place % len(names)] for place in places))

    at, end = span.at, span.end
    minutes = "about 30% of the values are as before x 60"
    yield Episode(of(1), at(0.15), at(0.15) + 18 * HOUR, 0.31, Cause.UNIT_CHANGE, minutes)
    nulls = "41.0% of the values are missing, usually 0.2%"
    yield Episode(of(7, 8), at(0.3), at(0.3) + 9 * HOUR, 0.41, Cause.NULL_BURST, nulls)
    genuine = "no mark of a broken pipeline"
    yield Episode(of(3), at(0.45), at(0.45) + 4 * DAY, 0.18, Cause.GENUINE, genuine)
    fill = "12.0% of the values became 0, and missing values fell from 12.1% to 0.1%"
    yield Episode(of(12), at(0.62), at(0.62) + 12 * HOUR, 0.12, Cause.DEFAULT_FILL, fill, verdict="benign")
    yield Episode(of(20, 21, 22, 23), at(0.75), at(0.75) + 3 * DAY, 0.085, Cause.GENUINE, genuine, verdict="genuine")
    gone = "it stopped arriving"
    yield Episode(of(30), at(0.85), at(0.85) + 4 * HOUR, 0.0, Cause.NULL_BURST, gone, status="missing_feature")
    yield Episode(of(4, 9), end - 30 * HOUR, end, 0.22, Cause.GENUINE, genuine)
    lost = "14% of the rows are gone, most of them from 3 to 5"
    yield Episode(of(15), end - 5 * HOUR, end, 0.11, Cause.DROPPED_SLICE, lost)


def _minor(names: Sequence[str], span: Span) -> Iterator[Episode]:
    chance = random.Random(7)
    for name in chance.sample(list(names), len(names) // 10):
        starts_at = span.at(chance.uniform(0.05, 0.9))
        ends_at = min(starts_at + chance.randrange(3, 30) * HOUR, span.at(0.93))
        yield Episode((name,), starts_at, ends_at, 0.09, Cause.GENUINE, "no mark of a broken pipeline")
