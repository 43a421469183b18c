"""The monitor on plain arrays: always a report, whatever the data, and one bad value hides nothing."""

import logging
from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from scipy import stats

from features.contract import DriftSettings, Severity, Valid
from features.drift import DriftStatus, FeatureDriftMonitor, FeatureDriftReport
from features.drift.profile import Baseline, Wobble
from features.drift.report import Subject, compare
from features.drift.sketch import Floats, Grid, Sketch
from tests.drift.samples import BOOLEANS, NUMBERS, TEXTS, finite_samples, normal, perfect_normal, profile_of

AS_OF = datetime(2013, 7, 2, tzinfo=UTC)
JUDGED = {DriftStatus.OK, DriftStatus.WARNING, DriftStatus.CRITICAL}


def check(
    training: Any, serving: Any, settings: DriftSettings | None = None, valid: Valid | None = None
) -> FeatureDriftReport:
    monitor = FeatureDriftMonitor(
        {"x": training}, {"x": settings} if settings else None, valid={"x": valid} if valid else None
    )
    return monitor.check("x", serving, AS_OF)


# What drifted and what did not.


def test_the_same_sample_has_not_drifted() -> None:
    report = check(normal(5000), normal(5000))
    assert report.status is DriftStatus.OK
    assert (report.ks_statistic, report.ks_p_value, report.wasserstein, report.psi) == (0.0, 1.0, 0.0, 0.0)
    assert not report.drift_detected
    assert report.severity is Severity.NONE


@pytest.mark.parametrize("seed", range(10))
def test_two_samples_of_one_distribution_have_not_drifted(seed: int) -> None:
    assert check(normal(5000, seed=seed), normal(5000, seed=seed + 100)).status is DriftStatus.OK


def test_a_significant_difference_too_small_to_matter_is_not_drift() -> None:
    report = check(normal(10**6, seed=1), normal(10**6, mean=0.05, seed=2))
    assert report.ks_p_value is not None
    assert report.ks_p_value < 1e-50
    assert report.status is DriftStatus.OK


def test_a_large_difference_that_may_be_chance_is_not_drift() -> None:
    report = check(normal(10**5, seed=1), perfect_normal(500, 0.3))
    assert report.ks_statistic == pytest.approx(0.12, abs=0.01)
    assert report.status is DriftStatus.OK


@pytest.mark.parametrize("shift", [0.25, -0.25])
def test_a_difference_that_matters_is_a_warning(shift: float) -> None:
    report = check(normal(10_000, seed=1), normal(10_000, mean=shift, seed=2))
    assert report.status is DriftStatus.WARNING
    assert report.severity is Severity.WARNING
    assert report.drift_detected


def test_a_big_difference_is_critical() -> None:
    report = check(normal(5000, seed=1), normal(5000, mean=1.0, seed=2))
    assert report.status is DriftStatus.CRITICAL
    assert report.severity is Severity.CRITICAL
    assert report.drift_detected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, None])
@pytest.mark.parametrize("side", ["training", "serving"])
def test_one_value_that_is_no_number_hides_nothing(bad: float | None, side: str) -> None:
    samples: dict[str, Any] = {"training": normal(5000, seed=1), "serving": normal(5000, mean=5.0, seed=2)}
    samples[side] = samples[side].astype(object if bad is None else float)
    samples[side][17] = bad
    report = check(samples["training"], samples["serving"])
    assert report.status is DriftStatus.CRITICAL
    assert report.n == 5000
    assert report.training_mean == pytest.approx(0, abs=0.1)
    assert report.serving_mean == pytest.approx(5, abs=0.1)


def test_none_among_training_values_is_missing_and_numbers_stay_numbers() -> None:
    report = check([*normal(5000, seed=1), None], normal(5000, seed=2))
    assert report.kind == "numeric"
    assert report.status is DriftStatus.OK


def test_numeric_of_postgres_is_numbers_too() -> None:
    report = check(np.array([Decimal(k) / 7 for k in range(5000)]), np.arange(5000) / 7)
    assert (report.kind, report.status) == ("numeric", DriftStatus.OK)


def test_one_infinite_value_breaks_the_contract() -> None:
    serving = normal(5000, seed=2)
    serving[0] = np.inf
    report = check(normal(5000, seed=1), serving)
    assert report.status is DriftStatus.CRITICAL
    assert report.decided_by == "not_finite"
    assert check(normal(5000), np.full(10, np.inf)).status is DriftStatus.CRITICAL


def test_one_value_that_is_not_valid_breaks_the_contract() -> None:
    training, serving = np.arange(5000) % 100, np.arange(5000) % 100
    valid = Valid(minimum=0, maximum=99)
    assert check(training, serving, valid=valid).status is DriftStatus.OK
    serving[17] = 100
    report = check(training, serving, valid=valid)
    assert report.status is DriftStatus.CRITICAL
    assert report.decided_by == "invalid"
    colours = np.array(["red", "blue"] * 1000)
    assert check(colours, [*colours, "pink"], valid=Valid(values=("red", "blue"))).decided_by == "invalid"


def test_a_burst_of_missing_values_is_a_warning() -> None:
    serving = normal(10_000, seed=2)
    serving[:500] = np.nan
    report = check(normal(10_000, seed=1), serving)
    assert report.status is DriftStatus.WARNING
    assert report.decided_by == "missing"
    assert (report.missing_rate, report.baseline_missing_rate) == (0.05, 0)


def test_missing_values_as_always_are_fine() -> None:
    training, serving = normal(10_000, seed=1), normal(10_000, seed=2)
    training[:3000] = serving[:3000] = np.nan
    assert check(training, serving).status is DriftStatus.OK


def test_a_new_category_is_a_warning() -> None:
    training = np.array(["a", "b", "c"] * 3000)
    report = check(training, np.array(["a", "b", "c"] * 3000 + ["d"] * 470))
    assert report.status is DriftStatus.WARNING
    assert report.decided_by == "new"
    assert check(training, np.array(["a", "b", "c"] * 3000 + ["d"] * 3000)).status is DriftStatus.CRITICAL


def test_a_long_tail_always_has_new_categories() -> None:
    rng = np.random.default_rng(1)
    training, serving = (rng.zipf(1.7, n).astype(str) for n in (5000, 20_000))
    assert check(training, serving).status is DriftStatus.OK


def test_text_and_booleans_drift_too() -> None:
    training = np.array(["a", "b"] * 2500)
    assert check(training, training[::-1]).status is DriftStatus.OK
    assert check(training, ["a"] * 4000 + ["b"] * 1000).status is DriftStatus.CRITICAL
    flags = np.arange(5000) % 2 == 0
    assert check(flags, flags).status is DriftStatus.OK
    assert check(flags, np.arange(5000) % 10 == 0).status is DriftStatus.CRITICAL
    assert check(flags, [*flags, None]).status is DriftStatus.OK


def test_a_constant_that_stays_is_fine_and_one_that_changes_is_critical() -> None:
    assert check(np.zeros(500), np.zeros(500)).status is DriftStatus.INSUFFICIENT_DATA
    assert check(np.zeros(5000), np.zeros(5000)).status is DriftStatus.OK
    for other in (1.0, -1.0, 1e-9):
        assert check(np.zeros(500), np.full(500, other)).status is DriftStatus.CRITICAL


def test_a_value_between_or_beyond_those_of_a_discrete_feature_is_new() -> None:
    training = np.arange(5000.0) % 4
    for other in (0.5, 3.5, 60.0, -1.0):
        few = np.where(np.arange(5000) % 50 == 0, other, training)
        assert check(training, few).status is DriftStatus.WARNING
        assert check(training, few).decided_by == "new"
        assert check(training, np.where(training == 3, other, training)).status is DriftStatus.CRITICAL


def test_a_count_that_a_small_baseline_happened_not_to_see_is_not_new() -> None:
    rng = np.random.default_rng(3)
    assert check(rng.poisson(20, 500), rng.poisson(20, 10**5)).status is DriftStatus.OK


def test_numbers_that_name_things_have_no_order() -> None:
    by_name = DriftSettings(treat_as="categorical")
    training = np.repeat([10, 20, 30], 3000)
    report = check(training, training, by_name)
    assert (report.kind, report.status, report.ks_statistic) == ("categorical", DriftStatus.OK, None)
    # As a number 11 is nearly 10; as a name it is new.
    assert check(training, np.where(training == 10, 11, training), by_name).decided_by == "new"


def test_a_missing_value_changes_no_names() -> None:
    serving = pd.Series([10, 20, 30] * 3000 + [None])
    assert serving.dtype == float
    assert check([10, 20, 30] * 3000, serving, DriftSettings(treat_as="categorical")).status is DriftStatus.OK


def test_nan_among_texts_is_missing() -> None:
    assert check(["a", "b"] * 1000, ["a", "b", float("nan")]).missing_rate == pytest.approx(1 / 3)


def test_floors_are_of_the_feature() -> None:
    own = DriftSettings(warning_floor=0.2, critical_floor=0.3)
    monitor = FeatureDriftMonitor({"a": normal(50_000, seed=1), "b": normal(50_000, seed=1)}, {"b": own})
    assert monitor.check("a", normal(50_000, mean=0.35, seed=2), AS_OF).status is DriftStatus.CRITICAL
    assert monitor.check("b", normal(50_000, mean=0.35, seed=2), AS_OF).status is DriftStatus.OK


def test_a_larger_budget_finds_more() -> None:
    training, serving = normal(10**5, seed=1), perfect_normal(550, 0.22)

    def status(false_alarms: float) -> DriftStatus:
        return (
            FeatureDriftMonitor({"x": training}, false_alarms_per_week=false_alarms).check("x", serving, AS_OF).status
        )

    assert status(0.01) is DriftStatus.INSUFFICIENT_DATA
    assert status(200.0) is DriftStatus.WARNING


def test_the_budget_is_shared_by_all_features() -> None:
    alone = FeatureDriftMonitor({"x": normal(5000)}).check("x", normal(5000), AS_OF)
    shared = FeatureDriftMonitor({f"x{k}": normal(5000) for k in range(50)}).check("x0", normal(5000), AS_OF)
    assert alone.effect_high is not None
    assert shared.effect_high is not None
    assert alone.effect_high == pytest.approx(np.sqrt(np.log(2 / (0.5 / 504)) / 5000))
    assert shared.effect_high == pytest.approx(np.sqrt(np.log(2 / (0.5 / 504 / 50)) / 5000))


def test_several_rows_of_an_entity_are_one_piece_of_evidence() -> None:
    training, serving = normal(10**5, seed=1), np.repeat(perfect_normal(100, 0.5), 100)
    monitor = FeatureDriftMonitor({"x": training})
    assert monitor.check("x", serving, AS_OF).status is DriftStatus.CRITICAL
    report = monitor.check("x", serving, AS_OF, entities=100)
    assert report.status is DriftStatus.INSUFFICIENT_DATA
    assert report.n == 100


# What nobody could look at.


@pytest.mark.parametrize("training", [[], [np.nan] * 500, [np.inf] * 500, np.array([None] * 9, dtype=object)])
def test_without_training_values_there_is_no_baseline(training: Any) -> None:
    report = check(training, normal(500))
    assert report.status is DriftStatus.BASELINE_MISSING
    assert report.n == 500


def test_training_values_that_are_all_invalid_are_no_baseline() -> None:
    assert check(normal(500), normal(500), valid=Valid(minimum=100)).status is DriftStatus.BASELINE_MISSING


def test_a_feature_the_champion_never_saw_has_no_baseline() -> None:
    report = FeatureDriftMonitor({"x": normal(500)}).check("y", normal(500), AS_OF)
    assert report.status is DriftStatus.BASELINE_MISSING
    assert report.feature == "y"


@pytest.mark.parametrize("n", [100, 5000])
@pytest.mark.parametrize("nothing", [np.nan, None])
def test_a_feature_without_a_single_value_is_missing(n: int, nothing: float | None) -> None:
    report = check(normal(500), np.full(n, nothing))
    assert report.status is DriftStatus.MISSING_FEATURE
    assert report.detail == f"None of {n:,} entities has a value."
    assert (report.n, report.missing_rate) == (n, 1)


def test_a_few_missing_values_of_a_sparse_feature_are_no_missing_feature() -> None:
    training = np.where(np.arange(5000) % 10 == 0, normal(5000), np.nan)
    assert check(training, [np.nan] * 5).status is DriftStatus.INSUFFICIENT_DATA


@pytest.mark.parametrize("given", [0, 1, 99])
def test_too_few_served_values_are_not_judged(given: int) -> None:
    report = check(normal(50_000), normal(given, seed=1))
    assert report.status is DriftStatus.INSUFFICIENT_DATA
    assert report.needed_n is not None
    assert report.needed_n > 100
    assert report.detail == f"{given} entities with a value; {report.needed_n} are needed."


def test_missing_values_do_not_count_as_values() -> None:
    training = np.concatenate([normal(5000), np.full(50_000, np.nan)])
    report = check(training, np.concatenate([normal(99), np.full(900, np.nan)]))
    assert report.status is DriftStatus.INSUFFICIENT_DATA
    assert report.n == 999
    assert report.detail.startswith("99 entities with a value; ")


def test_too_few_training_values_are_not_judged() -> None:
    assert check(normal(99), normal(5000)).status is DriftStatus.INSUFFICIENT_DATA


def test_few_values_far_away_are_critical_all_the_same() -> None:
    assert check(normal(5000), normal(30, mean=9)).status is DriftStatus.CRITICAL


@pytest.mark.parametrize(
    "report",
    [check([], normal(500)), check(normal(500), np.full(500, np.nan)), check(normal(5000), [])],
    ids=lambda report: str(report.status),
)
def test_where_there_is_nothing_to_compare_there_is_neither_drift_nor_a_statistic(report: FeatureDriftReport) -> None:
    assert report.status not in JUDGED
    assert report.severity is Severity.NONE
    assert not report.drift_detected
    assert (report.ks_statistic, report.ks_p_value, report.psi, report.wasserstein) == (None,) * 4
    assert (report.training_mean, report.serving_mean, report.training_std, report.serving_std) == (None,) * 4


# What is in a report.


def test_statistics_are_of_the_values_that_are_there() -> None:
    training, serving = normal(3000, seed=1), normal(2000, mean=0.3, seed=2)
    report = check(np.append(training, np.nan), np.append(serving, [np.nan, np.inf]))
    assert report.training_mean == pytest.approx(training.mean())
    assert report.training_std == pytest.approx(training.std())
    assert report.serving_mean == pytest.approx(serving.mean())
    assert report.serving_std == pytest.approx(serving.std())
    assert report.wasserstein == pytest.approx(stats.wasserstein_distance(training, serving), rel=0.01)
    assert report.n == 2002
    assert report.missing_rate == pytest.approx(1 / 2002)
    assert report.baseline_missing_rate == pytest.approx(1 / 3001)


@given(finite_samples(smallest=100), finite_samples(smallest=100))
@hypothesis_settings(max_examples=50)
def test_the_exact_distance_is_between_those_reported(training: Floats, serving: Floats) -> None:
    report = check(training, serving)
    exact = stats.ks_2samp(training, serving, method="asymp").statistic
    assert report.ks_statistic is not None
    assert report.ks_at_most is not None
    assert report.ks_statistic - 1e-11 <= exact <= report.ks_at_most + 1e-11


def test_a_report_says_what_was_compared_and_what_decides() -> None:
    report = check(normal(10**5, seed=1), normal(10**5, mean=0.2, seed=2), DriftSettings(warning_floor=0.05))
    assert report.subject == Subject("x", AS_OF, source="array", segment="all", window_hours=1, baseline="training")
    assert (report.feature, report.kind, report.decided_by) == ("x", "numeric", "shape")
    assert (report.effect_floor, report.critical_floor) == (0.05, 0.10)
    assert report.effect == report.ks_statistic == pytest.approx(0.08, abs=0.01)
    assert report.effect is not None
    assert report.effect_low is not None
    assert report.effect_high is not None
    assert report.effect_low < report.effect < report.effect_high
    assert report.cells_effect == pytest.approx(0.04, abs=0.01)
    assert report.detail.startswith("distance 0.08")


def test_the_effect_is_of_the_family_that_decides() -> None:
    serving = normal(10_000, seed=2)
    serving[:2000] = np.nan
    report = check(normal(10_000, seed=1), serving)
    assert (report.decided_by, report.effect) == ("missing", 0.2)
    assert (report.effect_floor, report.critical_floor) == (0.005, 0.05)
    assert report.detail.startswith("missing rate 0.200 (")


def test_a_baseline_may_be_given_as_counts() -> None:
    values = normal(5000)
    grid = Grid.of(values)
    monitor = FeatureDriftMonitor({"x": Baseline(grid, Sketch.of(values, grid), 5000)})
    assert monitor.check("x", normal(5000, mean=1.0), AS_OF) == check(values, normal(5000, mean=1.0))
    empty = FeatureDriftMonitor({"x": Baseline(grid, Sketch.empty(grid), 0)})
    assert empty.check("x", values, AS_OF).status is DriftStatus.BASELINE_MISSING


def test_a_baseline_brings_the_wobble_of_its_windows() -> None:
    values = normal(20_000)
    grid = Grid.of(values)
    for window, status in ((1, DriftStatus.OK), (24, DriftStatus.CRITICAL)):
        wobble = {window: Wobble(0.1, 0.1, days=28)}
        monitor = FeatureDriftMonitor({"x": Baseline(grid, Sketch.of(values, grid), 20_000, wobble=wobble)})
        # A sample is compared as a window of an hour.
        assert monitor.check("x", normal(20_000, mean=0.5), AS_OF).status is status


def test_without_a_baseline_there_is_a_report_too() -> None:
    grid = Grid.of(normal(100))
    nothing = Baseline(grid, Sketch.empty(grid), 0)
    report = compare(
        Subject("x", AS_OF), profile_of(normal(100), grid), nothing, nothing.profile, DriftSettings(), 0.01
    )
    assert (report.status, report.n) == (DriftStatus.BASELINE_MISSING, 100)


def test_lists_arrays_and_series_are_the_same() -> None:
    training, serving = normal(2000, seed=1), normal(2000, mean=0.4, seed=2)
    expected = check(training, serving)
    for kind in (list, tuple, pd.Series):
        assert check(kind(training), kind(serving)) == expected


# All at once.


def statuses(reports: list[FeatureDriftReport]) -> dict[str, DriftStatus]:
    assert all(report.subject.as_of == AS_OF for report in reports)
    return {report.feature: report.status for report in reports}


def test_a_feature_that_cannot_be_read_does_not_hide_the_others(caplog: pytest.LogCaptureFixture) -> None:
    monitor = FeatureDriftMonitor({name: normal(5000) for name in ("a", "b", "c")})
    with caplog.at_level(logging.ERROR):
        reports = monitor.check_all({"a": normal(5000, 5), "b": ["not a number"], "c": normal(5000)}, AS_OF)
    assert statuses(reports) == {"a": DriftStatus.CRITICAL, "b": DriftStatus.ERROR, "c": DriftStatus.OK}
    assert reports[1].detail.startswith("ValueError: ")
    assert reports[1].severity is Severity.NONE
    assert "b could not be checked" in caplog.text


def test_a_renamed_feature_is_both_missing_and_unexpected() -> None:
    monitor = FeatureDriftMonitor({"a": normal(5000), "old": normal(5000)})
    reports = monitor.check_all({"a": normal(5000), "new": normal(4000)}, AS_OF)
    assert statuses(reports) == {
        "a": DriftStatus.OK,
        "old": DriftStatus.MISSING_FEATURE,
        "new": DriftStatus.UNEXPECTED_FEATURE,
    }
    assert [report.n for report in reports] == [5000, 0, 4000]
    assert all(report.severity is Severity.NONE for report in reports)


def test_a_feature_without_training_values_is_declared_but_has_no_baseline() -> None:
    monitor = FeatureDriftMonitor({"a": [], "b": normal(5000)})
    reports = monitor.check_all({"a": normal(500), "b": normal(5000)}, AS_OF)
    assert statuses(reports) == {"a": DriftStatus.BASELINE_MISSING, "b": DriftStatus.OK}


def test_neither_does_one_that_is_not_even_expected() -> None:
    monitor = FeatureDriftMonitor({"a": normal(5000)})
    assert len(monitor.check_all({"a": normal(5000), "b": 5}, AS_OF)) == 2


def test_of_nothing_there_is_no_report() -> None:
    assert FeatureDriftMonitor({}).check_all({}, AS_OF) == []


@pytest.mark.parametrize("kind", [NUMBERS, TEXTS, BOOLEANS], ids=["numbers", "texts", "booleans"])
def test_whatever_the_data_there_is_a_report(kind: Any) -> None:
    @given(kind, kind)
    def always(training: Any, serving: Any) -> None:
        report = check(training, serving)
        assert report.n == len(serving)
        assert report.detail
        assert report.drift_detected == (report.status in {DriftStatus.WARNING, DriftStatus.CRITICAL})
        for field in fields(report):
            value = getattr(report, field.name)
            assert not isinstance(value, float) or not np.isnan(value), field.name
        if report.status is DriftStatus.OK:
            assert report.needed_n is not None
            assert report.n >= report.needed_n

    always()
