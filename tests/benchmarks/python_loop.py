"""The loop of many tutorials: for each spine row, filter a DataFrame and compute the features. It is here for scale.

It runs on a sample, and its seconds are extrapolated: per row of the sample, times the rows of the spine. One way scans
the whole frame for each row; the other splits the frame by user first, and that once-only part is not multiplied.
Reading the events is not timed.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tests.benchmarks.contest import FEATURES, Bench, Outcome

SCANNED_ROWS = 20
SPLIT_ROWS = 2_000
EVENT_COLUMNS = ("user_id", "started_us", "ingested_us", "duration_seconds")
UserEvents = Callable[[str], pd.DataFrame]


def run(bench: Bench) -> list[Outcome]:
    """The loop over the whole frame, and over frames per user."""
    events = read_events(bench.events_csv)
    spine = pd.read_csv(bench.spine_csv, dtype={"user_id": str}).sample(frac=1, random_state=7)
    spine["as_of"] = pd.to_datetime(spine.pop("as_of_us"), unit="us", utc=True)
    return [
        _outcome(bench, "pandas loop, scanning all events", spine.head(SCANNED_ROWS), lambda: scanning(events)),
        _outcome(bench, "pandas loop, events split by user", spine.head(SPLIT_ROWS), lambda: split(events)),
    ]


def read_events(path: Path) -> pd.DataFrame:
    """Events as a frame of user_id, started_at, ingested_at (UTC), duration_seconds."""
    events = pd.read_csv(path, usecols=list(EVENT_COLUMNS), dtype={"user_id": str})
    for name in ("started", "ingested"):
        events[f"{name}_at"] = pd.to_datetime(events.pop(f"{name}_us"), unit="us", utc=True)
    return events


def scanning(events: pd.DataFrame) -> UserEvents:
    """Finds a user's events by comparing every row of the frame."""
    return lambda user_id: events[events.user_id == user_id]


def split(events: pd.DataFrame) -> UserEvents:
    """Finds a user's events in a dictionary of frames."""
    by_user = {str(user_id): frame for user_id, frame in events.groupby("user_id")}
    nobody = events.head(0)
    return lambda user_id: by_user.get(user_id, nobody)


def features(user: pd.DataFrame, as_of: pd.Timestamp) -> tuple[float, ...]:
    """The five features of a user's events at as_of, in the order of FEATURES."""
    known = user[(user.started_at <= as_of) & (user.ingested_at <= as_of)]
    known = known[known.started_at > as_of - pd.Timedelta(days=90)]
    if known.empty:
        return (0, 0.0, 999, 0, 0)
    return (
        len(known),
        known.duration_seconds.sum() / (60 * len(known)),
        (as_of - known.started_at.max()).days,
        (known.started_at > as_of - pd.Timedelta(days=7)).sum(),
        (known.started_at > as_of - pd.Timedelta(days=30)).sum(),
    )


def _outcome(bench: Bench, name: str, sample: pd.DataFrame, prepare: Callable[[], UserEvents]) -> Outcome:
    seconds = []
    for _ in range(bench.repeats):
        start = time.perf_counter()
        events_of = prepare()
        prepared = time.perf_counter()
        rows = [
            features(events_of(user_id), as_of) for user_id, as_of in zip(sample.user_id, sample.as_of, strict=True)
        ]
        looped = time.perf_counter() - prepared
        seconds.append(prepared - start + looped / len(sample) * bench.sizes.spine)
    answer = bench.folder("answers") / f"python_loop_{len(sample)}.parquet"
    found = pd.DataFrame(rows, columns=list(FEATURES), index=sample.index)
    sample.join(found).to_parquet(answer)
    return Outcome(
        name=name,
        seconds=tuple(seconds),
        rows=bench.sizes.spine,
        answer=answer,
        versions={"pandas": pd.__version__},
        note=f"extrapolated from {len(sample):,} rows, {looped / len(sample) * 1000:,.2f} ms each; one thread",
    )
