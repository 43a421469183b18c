"""The ML Test Score as a picture of its sections and a table of its tests."""

from dataclasses import dataclass

from feature_health.charts import Figure, names_up, numbers_across
from feature_health.formats import Formats
from feature_health.links import Links
from feature_health.pages import AskedOfModel, Page, Shown
from feature_health.reader import Reader
from feature_health.tables import Column, Table
from features.contract import Contract
from features.health.features import chosen_model
from features.health.score import ScoredTest, ScorePage, score_page
from features.warehouse import Connection

# What needs a person first.
STATES = ("failed", "expired", "missing", "passed")


@dataclass(frozen=True)
class Scored:
    """The page and the models one can choose from."""

    models: tuple[str, ...]
    score: ScorePage


def _document(connection: Connection, contract: Contract, asked: AskedOfModel, reader: Reader) -> Scored:
    model = chosen_model(contract, asked.model)
    return Scored(tuple(contract.models), score_page(connection, model, reader.at))


def _shown(document: Scored, reader: Reader, links: Links) -> Shown:
    page = document.score
    return Shown(
        title=f"ML Test Score of {page.model}",
        tables=tuple(_section(section.section, section.tests) for section in page.sections),
        values={"score": page, "models": document.models, "figure_of_sections": _sections(page, Formats(reader))},
    )


def _section(name: str, tests: tuple[ScoredTest, ...]) -> Table:
    return Table(
        name=name.lower(),
        caption=name.capitalize(),
        columns=(
            Column("test_title", value=lambda test: test.title, also=Column("test", "code")),
            Column("test_state", "status", value=lambda test: test.state),
            Column("points", "number"),
            Column("how"),
            Column("evidence", value=lambda test: test.evidence or test.what_counts),
            Column("seen_at", "time", also=Column("recorded_by")),
            Column("evidence_age", "age", value=lambda test: test.seen_at),
            Column("evidence_expires", "age", value=lambda test: test.expires_at),
        ),
        rows=sorted(tests, key=lambda test: (STATES.index(test.state), test.test)),
        empty="It has no tests.",
    )


def _sections(page: ScorePage, formats: Formats) -> Figure:
    figure = Figure(
        title="Points by section",
        subtitle="1 for a test that runs by itself, 0.5 for one done by hand and written down",
        x=numbers_across(0, page.most_points, formats.number, 7, left=140),
        y=names_up([section.section.capitalize() for section in page.sections]),
        x_label="points",
        key=[("now bar", "section"), ("accent bar", "weakest")],
    )
    for place, section in enumerate(page.sections):
        height = float(len(page.sections) - place)
        colour = "accent bar" if section.is_weakest else "now bar"
        title = f"{section.section}: {formats.number(section.points)} of {formats.number(section.most_points)}"
        figure.across(section.points, height, 26, colour, title)
    return figure


PAGE = Page("score", AskedOfModel, _document, _shown)
