"""Answers are compared before their times are: a fast wrong answer is worth nothing."""

from pathlib import Path

import pandas as pd

from features import warehouse
from tests.benchmarks.contest import FEATURES

KEYS = ["user_id", "as_of"]

# The feature view's rule, written as literally as SQL allows.
NAIVE = """
with spine as (
    select user_id, label_at as as_of from raw.bench_labels
    order by hashtextextended(user_id || extract(epoch from label_at), 7)
    limit %(rows)s
)
select
    spine.user_id,
    spine.as_of,
    count(event_id) as session_count,
    coalesce(sum(duration_seconds)::double precision / nullif(60 * count(event_id), 0), 0)
        as avg_session_duration_minutes,
    coalesce(floor(extract(epoch from spine.as_of - max(started_at)) / 86400)::bigint, 999) as days_since_last_session,
    count(event_id) filter (where started_at > spine.as_of - interval '7 days') as sessions_last_7_days,
    count(event_id) filter (where started_at > spine.as_of - interval '30 days') as sessions_last_30_days
from spine
left join raw.session_events as known
    on known.user_id = spine.user_id
    and known.started_at > spine.as_of - interval '90 days'
    and known.started_at <= spine.as_of
    and known.ingested_at <= spine.as_of
group by spine.user_id, spine.as_of
"""


class AnswersDiffer(AssertionError):
    """Two contestants gave different features for the same spine row."""


def naive(connection: warehouse.Connection, rows: int) -> pd.DataFrame:
    """The right answer for so many spine rows, chosen by a hash, or for all where there are fewer."""
    return normal(warehouse.frame(connection, NAIVE, {"rows": rows}))


def read(path: Path) -> pd.DataFrame:
    """An answer from a Parquet file."""
    return normal(pd.read_parquet(path))


def normal(answer: pd.DataFrame) -> pd.DataFrame:
    """The answer with its columns typed and ordered, one row per key in the order of keys; as_of is in UTC."""
    answer = answer[[*KEYS, *FEATURES]].copy()
    answer["user_id"] = answer["user_id"].astype(str)
    answer["as_of"] = pd.to_datetime(answer["as_of"], utc=True).astype("datetime64[us, UTC]")
    answer[list(FEATURES)] = answer[list(FEATURES)].astype("float64")
    return answer.sort_values(KEYS, ignore_index=True)


def require_equal(right: pd.DataFrame, other: pd.DataFrame, name: str) -> int:
    """Compares `other` with `right` on all rows of `right`, exactly: every feature is made of whole numbers.

    Returns:
        how many rows agree.

    Raises:
        AnswersDiffer: with the number of rows that are missing or differ, and the first of them.
    """
    columns = list(FEATURES)
    found = right[KEYS].merge(other, on=KEYS, how="left", validate="one_to_one")
    wrong = (found[columns].to_numpy() != right[columns].to_numpy()).any(axis=1)
    if wrong.any():
        first = int(wrong.argmax())
        raise AnswersDiffer(
            f"{name} differs on {int(wrong.sum()):,} of {len(right):,} rows. The first:\n"
            f"expected {right.iloc[first].to_dict()}\ngot      {found.iloc[first].to_dict()}"
        )
    return len(right)
