"""What the pages of retraining and parity make of their documents: links, words, charts, tables."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from babel import Locale
from pydantic import ValidationError

from feature_health.instants import key_of
from feature_health.links import Links
from feature_health.pages import Asked, Shown, values_of
from feature_health.reader import Reader
from feature_health.rendering import render
from feature_health.views import parity, retraining
from features.health.compared import Compared, Finding
from features.health.decay import AgePoint, ChampionAge, DecayBacktest
from features.health.decisions import Decision, Failed, Forbidden, Looked, Training
from features.health.parity import Differing, Newest, ParityPage, ServedHour
from features.health.publications import Earlier, Live, Publication
from features.health.retraining import Band, OutcomeCount, Reign, RetrainingPage, Stretch

MIDNIGHT = datetime(2026, 6, 30, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
READER = Reader(at=MIDNIGHT, is_now=True, zone=UTC, zone_name="UTC", locale=Locale("en"))
HARM = "<script>alert(1)</script>"


def decision(as_of: datetime, outcome: str, trigger: str | None = None, **changes: Any) -> Decision:
    given: dict[str, Any] = {
        "priority": "high",
        "reason": f"{outcome}, because {HARM}",
        "blocked_by": (),
        "triggers": (
            Looked("drift", None, "Unknown."),
            Looked("manual", False, "No."),
            Looked("scheduled", True, "Yes."),
        ),
        "champion_version": "1",
        "dag_run_id": "run/1 +2",
        "decided_at": as_of + HOUR,
        "trainings": (),
    }
    return Decision(as_of, outcome, trigger, **given | changes)


def stretch(one: Decision, hours: int = 1, *, is_asked: bool = False) -> Stretch:
    return Stretch(one, one.as_of + (hours - 1) * HOUR, hours, goes_on=False, is_asked=is_asked)


def retraining_document(stretches: Sequence[Stretch] = (), **changes: Any) -> RetrainingPage:
    given: dict[str, Any] = {
        "model": "churn",
        "models": ("churn",),
        "outcome": None,
        "every": False,
        "asked_as_of": None,
        "counts": tuple(OutcomeCount(word, len(stretches)) for word in ("retrain", "blocked", "hold", "unknown")),
        "shown": stretches[0].decision if stretches else None,
        "stretches": tuple(stretches),
        "older": None,
        "bands": (),
        "reigns": (),
        "backtest": None,
        "age": ChampionAge(None, None, None, None, "none", 30, ""),
    }
    return RetrainingPage(**given | changes)


def html(page: Any, document: Any, asked: Asked | None = None) -> str:
    """The page as a reader sees it."""
    return render(f"{page.name}.html", READER, values_of(page, shown_of(page, document), asked or page.asked()))


def shown_of(page: Any, document: Any) -> Shown:
    shown: Shown = page.shown(document, READER, Links(READER))
    return shown


def test_a_decision_says_why_and_why_not_and_leads_to_its_run_and_its_version() -> None:
    blocked = decision(MIDNIGHT, "blocked", "drift", blocked_by=(Forbidden("few_labels", "There are few."),))
    training = Training("7", False, "It is worse.", (Failed("simpler_model", "It does as well."),))
    retrain = decision(MIDNIGHT - DAY, "retrain", "scheduled", trainings=(training,))
    text = html(retraining.PAGE, retraining_document([stretch(blocked, 3), stretch(retrain)]))
    assert HARM not in text
    assert "blocked, because &lt;script&gt;" in text
    assert "few labels</span> There are few." in text
    assert 'href="../dags/churn_retraining/runs/run%2F1%20%2B2" data-airflow' in text
    assert 'id="at-2026-06-30T00:00:00"' in text
    assert "3 hours like this" in text
    assert 'href="model?model=churn&amp;version=7"' in text
    assert "simpler model failed</span> It does as well." in text
    assert text.index("There are few.") < text.index("<details><summary>Evidence: 1 of 3 triggers fired")
    for word in ("unknown</span> <strong>drift", "no</span> <strong>manual", "yes</span> <strong>scheduled"):
        assert word in text


def test_what_was_asked_for_is_marked_and_shown_even_if_it_only_repeats_another() -> None:
    first, asked = decision(MIDNIGHT, "hold"), decision(MIDNIGHT + HOUR, "hold", reason="The second hour.")
    document = retraining_document([stretch(first, 2, is_asked=True)], shown=asked, asked_as_of=asked.as_of)
    text = html(retraining.PAGE, document)
    assert "The decision you asked for" in text
    assert "The second hour." in text
    assert '<li id="at-2026-06-30T00:00:00" class="asked">' in text
    assert '<span id="at-2026-06-30T01:00:00">' in text


def test_a_decision_to_retrain_without_a_training_says_where_to_look() -> None:
    text = html(retraining.PAGE, retraining_document([stretch(decision(MIDNIGHT, "retrain", "manual"))]))
    assert "No training as of this instant is on record" in text
    assert 'href="../dags/churn_training"' in text


def test_pages_without_anything_name_what_to_run() -> None:
    text = html(retraining.PAGE, retraining_document())
    for named in ("churn_retraining", "churn_decay_backtest", "make backtest-decay MODEL=churn", "churn_training"):
        assert named in text
    missing = html(retraining.PAGE, retraining_document(asked_as_of=MIDNIGHT))
    assert "Nothing was decided at 2026-06-30 00:00" in missing
    text = html(parity.PAGE, parity_document())
    for named in ("materialize_features", "churn_inference"):
        assert named in text
    assert "No model reads this view" in html(parity.PAGE, parity_document(models=()))


def test_links_keep_what_was_asked_for() -> None:
    document = retraining_document(
        [stretch(decision(MIDNIGHT, "hold"), 5)], outcome="hold", every=True, older=MIDNIGHT - DAY
    )
    values = shown_of(retraining.PAGE, document).values
    assert values["older_link"] == "retraining?model=churn&outcome=hold&every=1&before=2026-06-29T00%3A00%3A00Z"
    assert values["every_link"] == "retraining?model=churn&outcome=hold"
    assert (
        values["hours_link"](document.stretches[0]) == "retraining?model=churn&every=1&before=2026-06-30T04%3A00%3A01Z"
    )
    assert [(word, chosen) for word, _, _, chosen in values["filters"]] == [
        ("all", False),
        ("retrain", False),
        ("blocked", False),
        ("hold", True),
        ("unknown", False),
    ]
    assert [address for *_, address, _ in values["filters"]][:2] == [
        "retraining?model=churn&every=1",
        "retraining?model=churn&outcome=retrain&every=1",
    ]


def test_the_strip_has_every_band_and_every_champion_and_the_curve_its_limit() -> None:
    bands = (Band("hold", MIDNIGHT - DAY, MIDNIGHT, 24), Band("unknown", MIDNIGHT, MIDNIGHT + HOUR, 1))
    reigns = (
        Reign("1", "rollback", "2", "It was worse.", MIDNIGHT, MIDNIGHT - HOUR, MIDNIGHT - 40 * DAY),
        Reign("2", "promotion", "1", "It was better.", MIDNIGHT - DAY, MIDNIGHT - DAY, MIDNIGHT - DAY),
        Reign("1", "promotion", None, "It was the first.", MIDNIGHT - 99 * DAY, None, MIDNIGHT - 40 * DAY),
    )
    point = AgePoint(7.0, 0.001, 0.0005, 0.002, -0.001, 0.003, 9, 70)
    backtest = DecayBacktest(
        MIDNIGHT, MIDNIGHT, 45, 40, 90, 70, "costs", "It costs least.", 0.4, 1e-4, 0.0, 2e-4, 9, 100, (point,)
    )
    age = ChampionAge("1", MIDNIGHT - 40 * DAY, 40.0, MIDNIGHT + 5 * DAY, "young", 45, "")
    document = retraining_document(bands=bands, reigns=reigns, backtest=backtest, age=age)
    values = shown_of(retraining.PAGE, document).values
    strip, decay = values["strip"].svg, values["decay"].svg
    assert strip.count("<rect") == len(bands)
    assert "hold: 2026-06-29 00:00 to 2026-06-30 00:00, 24 decisions" in strip
    assert strip.count("<circle") == 2
    assert "rollback of v1, 2026-06-29 23:00: It was worse." in strip
    assert "May become 45 days, from 40 to 90" in decay
    assert "v1 is 40 d old" in decay
    text = html(retraining.PAGE, document)
    assert "It costs least." in text
    assert "in 5 d" in text


def test_a_backtest_that_could_not_tell_is_drawn_without_what_is_no_number() -> None:
    nan, inf = float("nan"), float("inf")
    points = (AgePoint(7.0, nan, -inf, inf, nan, nan, 0, 0), AgePoint(14.0, 0.1, 0.0, 0.2, 0.0, 0.3, 9, 70))
    backtest = DecayBacktest(
        MIDNIGHT, MIDNIGHT, 45, 40, 90, 70, "costs", "Unclear.", nan, nan, nan, inf, 9, 100, points
    )
    document = retraining_document(backtest=backtest)
    drawn = shown_of(retraining.PAGE, document).values["decay"].svg
    assert "nan" not in drawn
    assert "inf" not in drawn
    assert drawn.count("<circle") == 1
    assert "Unclear." in html(retraining.PAGE, document)


def test_tables_of_retraining_are_whole_in_a_spreadsheet() -> None:
    one = decision(MIDNIGHT, "blocked", "drift", reason="=1+1", blocked_by=(Forbidden("budget", "Spent."),))
    shown = shown_of(retraining.PAGE, retraining_document([stretch(one, 2)]))
    header, row = next(table for table in shown.tables if table.name == "decisions").csv().split("\r\n")[:2]
    assert header.startswith("as_of,outcome,trigger,priority,decision_reason,guards,")
    assert "'=1+1" in row
    assert "budget: Spent." in row


@pytest.mark.parametrize("as_of", ["1800-01-01", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "soon", "1e999"])
def test_an_address_with_an_impossible_instant_is_refused(as_of: str) -> None:
    with pytest.raises(ValidationError):
        retraining.AskedOfDecisions(as_of=as_of)  # type: ignore[arg-type]


def test_a_partition_key_is_in_utc() -> None:
    asked = retraining.AskedOfDecisions(as_of="2026-06-30T00:00:00")  # type: ignore[arg-type]
    assert asked.as_of == MIDNIGHT
    assert asked.model_dump()["as_of"] == "2026-06-30T00:00:00Z" == key_of(MIDNIGHT)
    assert retraining.AskedOfDecisions(as_of="2026-06-30T02:00:00+02:00").as_of == MIDNIGHT  # type: ignore[arg-type]


def publication(number: int, state: str, **changes: Any) -> Publication:
    given: dict[str, Any] = {
        "moment": MIDNIGHT + number * HOUR,
        "rows": 10,
        "retired_at": MIDNIGHT + (number + 1) * HOUR if state == "retired" else None,
        "note": None,
        "is_rollback": False,
        "is_asked": False,
        "compared": Compared(0, 60, None, ()),
    }
    return Publication(number, MIDNIGHT + number * HOUR, "one", state, **given | changes)


def parity_document(**changes: Any) -> ParityPage:
    given: dict[str, Any] = {
        "view": "user_session_features",
        "views": ("user_session_features", "user_variety_features"),
        "models": ("churn",),
        "asked_as_of": None,
        "live": None,
        "earlier": (),
        "publications": (),
        "older": None,
        "served": (),
        "served_older": None,
        "newest": (),
        "differing": (),
    }
    return ParityPage(**given | changes)


def live(**changes: Any) -> Live:
    given: dict[str, Any] = {"freshness": "fresh", "note": None, "newest_as_of": MIDNIGHT}
    return Live(1, MIDNIGHT, "one", 4021, MIDNIGHT, MIDNIGHT + 3 * HOUR, **given | changes)


def test_a_rollback_is_said_and_how_to_go_back() -> None:
    earlier = (Earlier(MIDNIGHT - HOUR, "one", 4000, MIDNIGHT - HOUR),)
    text = html(parity.PAGE, parity_document(live=live(), earlier=earlier))
    assert "make rollback AS_OF=2026-06-29T23:00:00 VIEW=user_session_features" in text
    assert 'href="../dags/rollback_features"' in text
    assert "Rolled back" not in text
    forward = (Earlier(MIDNIGHT + HOUR, "one", 4000, MIDNIGHT + HOUR), *earlier)
    assert (
        shown_of(parity.PAGE, parity_document(live=live(), earlier=forward)).values["target"] == "2026-06-29T23:00:00"
    )
    undone = live(newest_as_of=MIDNIGHT + HOUR, note=f"rollback: {HARM}")
    text = html(parity.PAGE, parity_document(live=undone))
    assert "Rolled back: what is live is older than 2026-06-30 01:00" in text
    assert HARM not in text


def test_publications_say_how_long_they_were_live_and_why_they_were_refused() -> None:
    differs = Compared(2, 60, None, (Finding("session_count", 2, 10, "backdated data", ("ann", HARM)),))
    accepted = Compared(2, 60, "they know", differs.findings)
    rows = (
        publication(5, "live", is_rollback=True, note="rollback: it was wrong"),
        publication(4, "retired", compared=accepted, note="accepted skew: they know"),
        publication(3, "refused", rows=None, compared=differs),
        publication(2, "refused", rows=None),
        publication(1, "retired", compared=accepted, is_asked=True),
    )
    document = parity_document(publications=rows, asked_as_of=rows[-1].as_of)
    shown = shown_of(parity.PAGE, document)
    table = shown.tables[0]
    said = {column.key: [column.of(row) for row in rows] for column in table.columns}
    assert said["publication_state"] == ["live by rollback", "retired", "refused", "refused", "retired"]
    assert said["live_for"] == ["until\u00a0now", "1\u00a0h", None, None, "1\u00a0h"]
    assert said["publication_note"] == [
        "rollback: it was wrong",
        "accepted skew: they know",
        None,
        parity.EQUAL_BUT_REFUSED,
        "Accepted: they know",
    ]
    text = html(parity.PAGE, document)
    assert text.count('class="asked"') == 2  # the publication and its finding
    assert 'href="feature?model=churn&amp;name=session_count"' in text
    assert HARM not in text
    assert "2 of 60 differ" in text


def test_what_was_served_and_what_was_published_have_tables_of_their_own() -> None:
    differs = Compared(4, 50, None, (Finding("(entities)", 4, 10, "changed logic", ("ann",)),))
    hour = ServedHour(MIDNIGHT, "churn", 1, "one", 10, MIDNIGHT + HOUR, is_asked=False, compared=differs)
    shown = shown_of(parity.PAGE, parity_document(served=(hour,), publications=(publication(1, "live"),)))
    tables = {table.name: table for table in shown.tables}
    assert len(tables["gate_findings"].rows) == 0
    assert [row.finding.cause for row in tables["served_findings"].rows] == ["changed logic"]
    link = tables["served_findings"].columns[2].link
    assert link
    assert link(tables["served_findings"].rows[0]) is None  # the set of entities is no feature


def test_the_chart_has_a_mark_for_each_instant_that_differs_and_is_left_out_when_none_does() -> None:
    differing = (Differing(MIDNIGHT, "inference_log", 4, 1), Differing(MIDNIGHT + HOUR, "publication", 7, 2))
    newest = (Newest("publication", MIDNIGHT + HOUR), Newest("inference_log", MIDNIGHT))
    figure = shown_of(parity.PAGE, parity_document(differing=differing, newest=newest)).values["figure_of_cells"]
    assert figure.svg.count("<circle") == 2
    assert "at the gate, 2026-06-30 01:00: 7 cells of 2 features" in figure.svg
    document = parity_document(newest=(newest[0], Newest("inference_log", None)))
    assert shown_of(parity.PAGE, document).values["figure_of_cells"] is None
    assert "no cell differs: at the gate up to 2026-06-30 01:00." in html(parity.PAGE, document)
