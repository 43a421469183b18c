"""The drift benchmark's own promises: counts drawn as values are counted, runs that are real, a page that says so."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from features.drift.sketch import Sketch
from tests.benchmarks.drift import contenders, duel, false_alarms, findings, ours, report, settings, streams
from tests.benchmarks.drift.cost import IN_ARRAYS, IN_SQL, READING, Cost
from tests.benchmarks.drift.duel import ARTICLE, CALM, EVIDENTLY, OURS, Found
from tests.benchmarks.drift.false_alarms import Rate
from tests.benchmarks.drift.findings import Findings
from tests.benchmarks.drift.flights import Injected, Quiet
from tests.benchmarks.drift.shifts import SHIFTS

pytestmark = pytest.mark.benchmarks

ROWS = 100_000


@pytest.mark.parametrize("mean", [0.0, 0.4])
@pytest.mark.parametrize("name", settings.MARGINALS)
def test_counts_are_drawn_as_values_would_be_counted(name: str, mean: float) -> None:
    rng, marginal = np.random.default_rng(7), streams.MARGINALS[name]
    cells = streams.Cells(marginal, marginal.grid(rng))
    counted = Sketch.of(marginal.array(marginal.values(rng, ROWS, mean)), cells.grid)
    chances = cells.chances(mean)
    assert chances.sum() == pytest.approx(1)
    used = chances * ROWS >= 5
    assert counted.counts[~used].sum() <= 60
    expected = chances[used] / chances[used].sum() * counted.counts[used].sum()
    assert stats.chisquare(counted.counts[used], expected).pvalue > 1e-4
    drawn = cells.sketch(rng.multinomial(ROWS, chances).astype(np.int64))
    assert drawn.rows == ROWS
    # A cell's middle stands for all of its values, so the means agree but for the open cells' tails.
    assert drawn.sums.sum() / ROWS == pytest.approx(counted.sums.sum() / ROWS, abs=0.15)


def test_clusters_repeat_values_and_returning_entities_are_counted_once() -> None:
    rng, marginal = np.random.default_rng(7), streams.MARGINALS["normal"]
    cells = streams.Cells(marginal, marginal.grid(rng))
    clustered, sizes = streams.counted_hours(streams.STRUCTURES["clustered"], cells, rng, 200, 3)
    assert [hour.sketch.rows for hour in clustered] == [200, 200, 200]
    assert all(np.all(hour.sketch.counts % 20 == 0) for hour in clustered)
    assert streams.STRUCTURES["clustered"].entities(sizes, 0, 3) == 30
    returning = streams.STRUCTURES["de-duplicated"]
    hours, sizes = streams.counted_hours(returning, cells, rng, 2_000, 200)
    assert {hour.sketch.rows for hour in hours} == {100}
    assert returning.entities(sizes, 0, 1) == pytest.approx(100)
    assert returning.entities(sizes, 0, 168) == pytest.approx(2_400, rel=0.01)  # the whole week's population
    assert returning.entities(sizes, 160, 176) < 16 * 100


def test_rolling_sums_are_sums() -> None:
    rng, marginal = np.random.default_rng(7), streams.MARGINALS["Poisson"]
    cells = streams.Cells(marginal, marginal.grid(rng))
    hours, _ = streams.counted_hours(streams.STRUCTURES["iid"], cells, rng, 50, 10)
    summed = ours.Rolling(hours, cells.grid).sketch(3, 8)
    right = Sketch.total([hour.sketch for hour in hours[3:8]], cells.grid)
    assert summed.counts.tolist() == right.counts.tolist()
    assert summed.sums == pytest.approx(right.sums)
    assert summed.squares == pytest.approx(right.squares)


def test_a_week_without_drift_is_looked_at_in_full() -> None:
    found = false_alarms.one_feature("seasonal", "normal", 200, 1, np.random.default_rng(7))
    assert (found.hours, found.loud, found.first) == (168, 0, None)


def test_everybody_is_shown_the_same_shift() -> None:
    arena = duel.Arena("wobble", ("normal",), 500, [7])
    shift = next(shift for shift in SHIFTS if shift.name == "+0.5 sigma")
    hours, places = arena.shifted(shift, 12)
    assert (hours.shape, places) == ((12, 500, 1), [0])
    (mine,) = duel.ours_on(arena, hours, places, until_found=True)
    assert mine.first is not None
    assert mine.first <= 3
    judged = contenders.article(arena.past.sample, {CALM: arena.calm(3, 50), shift.name: hours})
    assert judged[shift.name].alarm.all()
    assert not judged[CALM].alarm.all()


@pytest.mark.parametrize("shift", SHIFTS, ids=lambda shift: shift.name)
def test_each_shift_changes_the_values_it_fits(shift: object) -> None:
    assert isinstance(shift, type(SHIFTS[0]))
    rng, latent = np.random.default_rng(7), np.random.default_rng(8).standard_normal(1_000)
    for name in settings.SHIFTED_MARGINALS:
        marginal = streams.MARGINALS[name]
        if shift.fits(marginal):
            assert not np.array_equal(shift.change(marginal, latent, 1, rng), marginal.at(latent), equal_nan=True)


def test_a_threshold_is_the_largest_of_its_kind() -> None:
    statistic = np.array([[0.1, 0.5, 0.2], [0.3, np.nan, 0.9]])
    assert duel.thresholds(statistic, ["a", "a", "b"]).tolist() == [0.5, 0.5, 0.9]


def test_no_alarm_still_has_an_upper_bound() -> None:
    assert false_alarms.poisson_interval(0) == pytest.approx((0.0, 3.689), abs=1e-3)
    assert false_alarms.poisson_interval(10) == pytest.approx((4.795, 18.390), abs=1e-3)


def _findings() -> Findings:
    late: list[int | None] = [9, 9, None]
    soon: list[int | None] = [2, 3, 4]
    calm = [Found("iid", 1_000, who, CALM, 168, [None], alarms) for who, alarms in ((OURS, 0), (ARTICLE, 8))]
    shifted = [
        Found(settings.SHIFTED_STRUCTURE, 1_000, OURS, "+0.25 sigma", 168, late, 2),
        Found(settings.SHIFTED_STRUCTURE, 1_000, ARTICLE, "+0.25 sigma", 168, soon, 400, is_recalibrated=True),
    ]
    seconds = ((IN_ARRAYS, 0.1), (IN_SQL, 0.5), (EVIDENTLY, 2.0), (READING, 1.0))
    costs = [Cost(who, 100_000, [each], 2**20, 8) for who, each in seconds]
    quiet = [Quiet(OURS, "distance", True, 4, 1, 1, 1, {"24 h shape": 1})]
    rates = [Rate("iid", 200, 700.0, 0, 0, {}), Rate("wobble", 200, 20.0, 1, 1, {"normal 1 h cells": 1})]
    return Findings(rates, [*calm, *shifted], costs, quiet, [Injected("kilometres", "distance", [1, 30], [None, 200])])


def test_goals_are_met_or_not() -> None:
    met = {goal.goal: (goal.measured, goal.is_met) for goal in findings.goals(_findings())}
    assert met["+0.25 sigma, 1,000 rows an hour: found within 5 hours (median)"] == ("9 h", False)
    assert met["Skewless, arrays: at least 5 times cheaper than Evidently, 100,000 rows"] == ("20.0 times", True)
    worst = met["at most 0.5 false alarms a week of 100 features, in every setting"]
    assert worst == ("worst of 2 settings: 5 (wobble, 200 rows an hour)", False)
    assert findings.sooner(_findings().duel) == [("+0.25 sigma", 1_000, 9.0, ARTICLE, 3.0)]


def test_the_page_says_what_was_found(tmp_path: Path) -> None:
    facts = {"duel": {"date": "2026-01-01", "scale": "quick"}}
    page = report.write(_findings(), facts, tmp_path).read_text()
    assert "| +0.25 sigma, 1,000 rows an hour: found within 5 hours (median) | 9 h | **not met** |" in page
    assert "* +0.25 sigma, 1,000 rows an hour: the article's rule, recalibrated, 3 h; ours 9 h" in page
    assert "| wobble | 5 (0.13 to 28) |" in page
    assert "| kilometres | distance | 50% | 100% | 30 h | 0% | 0% |" in page
    assert str(tmp_path) not in page
    ends = (".md", ".json", "_false_alarms.svg", "_delays.svg")
    assert {file.name for file in tmp_path.iterdir()} == {f"drift{end}" for end in ends}
    assert report.read(tmp_path) == (_findings(), facts)
