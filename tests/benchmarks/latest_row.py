"""The latest feature row at or before each label by plain SQL: one index walk per label.

Timed: the query and its result as a frame. Its answer is what all others at this task are compared with.
"""

from pathlib import Path

import pandas as pd

from features import warehouse
from tests.benchmarks import answers, measure
from tests.benchmarks.contest import FEATURES, Bench, Outcome

NAME = "Plain SQL, one index walk per label"
QUERY = f"""
select labels.user_id, labels.event_timestamp as as_of, {", ".join(f"latest.{name}" for name in FEATURES)}
from bench.labels as labels
left join lateral (
    select *
    from bench.feature_rows as feature_row
    where feature_row.user_id = labels.user_id and feature_row.event_timestamp <= labels.event_timestamp
    order by feature_row.event_timestamp desc
    limit 1
) as latest on true
"""


def timed_query(bench: Bench, query: str, name: str) -> tuple[list[measure.Run], Path]:
    """Reads the query's rows as a frame, bench.repeats times. Gives the runs, and the rows in a Parquet file."""
    frames: list[pd.DataFrame] = []
    with warehouse.connect() as connection:
        runs = measure.repeat(
            lambda: frames.append(warehouse.frame(connection, query)), bench.repeats, roots=[bench.server_pid]
        )
    answer = bench.folder("answers") / f"{name}.parquet"
    frames[-1].to_parquet(answer)
    return runs, answer


def run(bench: Bench) -> list[Outcome]:
    """Plain SQL on bench.labels and bench.feature_rows: one row per label, nulls where it has no feature row."""
    runs, answer = timed_query(bench, QUERY, "latest_row")
    return [
        Outcome(
            name=NAME,
            seconds=tuple(run.seconds for run in runs),
            rows=bench.sizes.labels,
            server_bytes=max(run.peak_bytes[0] for run in runs),
            answer=answer,
            note="lateral (... order by event_timestamp desc limit 1)",
        )
    ]


def judged(outcomes: list[Outcome]) -> list[Outcome]:
    """Compares every answer with plain SQL's, where that ran.

    Raises:
        AnswersDiffer: for a wrong value, and for a missing one unless the outcome `may_lose` rows.
    """
    judge = next((outcome for outcome in outcomes if outcome.name == NAME and outcome.answer), None)
    if judge is None or judge.answer is None:
        return outcomes
    right = answers.read(judge.answer)
    return [
        outcome.checked("judge of the others") if outcome is judge else _compared(outcome, right)
        for outcome in outcomes
    ]


def _compared(outcome: Outcome, right: pd.DataFrame) -> Outcome:
    if outcome.answer is None:
        return outcome
    found = answers.read(outcome.answer)
    if not found[answers.KEYS].equals(right[answers.KEYS]):
        raise answers.AnswersDiffer(f"{outcome.name} gave {len(found):,} rows that are not the {len(right):,} labels.")
    has_row, got_row = right["session_count"].notna(), found["session_count"].notna()
    if (got_row & ~has_row).any():
        raise answers.AnswersDiffer(f"{outcome.name} gave features to labels that have none yet.")
    compared = has_row & got_row if outcome.may_lose else has_row
    equal = answers.require_equal(right[compared], found, outcome.name)
    lost = int((has_row & ~got_row).sum())
    return outcome.checked(f"equals plain SQL on {equal:,} rows" + (f", {lost:,} lost" if lost else ""))
