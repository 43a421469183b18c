"""One description of a table makes its HTML and its CSV."""

import csv
import io
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_health.definitions import DEFINITIONS
from feature_health.tables import Column, Table


@dataclass(frozen=True)
class Row:
    model: str
    owner: str | None
    labels: int | None
    now: tuple[float | None, float | None, float | None] | None
    as_of: datetime | None = None


def table(rows: list[Row]) -> Table:
    columns = (
        Column("model", also=Column("owner")),
        Column("labels", "count"),
        Column("now", "estimate"),
        Column("as_of", "time"),
    )
    return Table("one", "One", columns, rows, "none")


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_a_csv_has_every_number_in_a_column_of_its_own() -> None:
    at = datetime(2026, 6, 30, 12, tzinfo=UTC)
    rows = [Row("churn", "someone", 3, (0.5, 0.25, 0.75), at), Row("other", None, None, None)]
    assert read(table(rows).csv()) == [
        ["model", "owner", "labels", "now", "now_low", "now_high", "as_of"],
        ["churn", "someone", "3", "0.5", "0.25", "0.75", "2026-06-30T12:00:00+00:00"],
        ["other", "", "", "", "", "", ""],
    ]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_runs_nothing(text: str) -> None:
    assert read(table([Row(text, None, 1, None)]).csv())[1][0] == f"'{text}"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00")))
def test_whatever_a_text_holds_comes_back(text: str) -> None:
    found = read(table([Row(text, None, -1, None)]).csv())[1]
    assert found[0].removeprefix("'") == text.removeprefix("'") or found[0] == f"'{text}"
    assert found[2] == "-1"  # a number is no formula


def test_every_definition_is_a_sentence_with_a_heading() -> None:
    for key, definition in DEFINITIONS.items():
        assert definition.heading, key
        assert definition.meaning.endswith("."), key
