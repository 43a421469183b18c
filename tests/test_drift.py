"""Drift is a difference that is both significant and large enough to matter; not knowing is never `ok`."""

import warnings
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import stats

from features.contract import DriftSettings, Feature, Severity
from features.drift import DriftStatus, FeatureDriftMonitor, FeatureDriftReport, Sample, settings_of

AS_OF = datetime(2013, 7, 2, tzinfo=UTC)
RNG_SEED = 7


def check(training: Sample, serving: Sample, floors: DriftSettings | None = None) -> FeatureDriftReport:
    settings = {"x": floors} if floors else None
    return FeatureDriftMonitor({"x": np.asarray(training)}, settings).check("x", np.asarray(serving), AS_OF)


def normal(n: int, mean: float = 0.0, seed: int = RNG_SEED) -> Sample:
    return np.random.default_rng(seed).normal(mean, 1.0, n)


def shifted_by(distance: float, n: int) -> tuple[Sample, Sample]:
    """Two samples of n values whose KS distance is exactly `distance`."""
    values = np.arange(n, dtype=float)
    return values, values + round(distance * n)


def test_the_same_sample_has_not_drifted() -> None:
    sample = normal(5000)
    report = check(sample, sample)
    assert report.status is DriftStatus.OK
    assert (report.ks_statistic, report.ks_p_value) == (0.0, 1.0)
    assert not report.drift_detected
    assert report.severity is Severity.NONE


def test_two_samples_of_one_distribution_have_not_drifted() -> None:
    assert check(normal(5000, seed=1), normal(5000, seed=2)).status is DriftStatus.OK


def test_a_significant_difference_too_small_to_matter_is_not_drift() -> None:
    report = check(normal(400_000, seed=1), normal(400_000, mean=0.05, seed=2))
    assert report.ks_p_value < 1e-50
    assert report.status is DriftStatus.OK


def test_a_large_difference_that_may_be_chance_is_not_drift() -> None:
    report = check(*shifted_by(0.12, 100))
    assert report.ks_statistic > 0.10
    assert report.ks_p_value > 0.05
    assert report.status is DriftStatus.OK


def test_a_difference_that_matters_is_a_warning() -> None:
    report = check(normal(20_000, seed=1), normal(20_000, mean=0.15, seed=2))
    assert report.status is DriftStatus.WARNING
    assert report.severity is Severity.WARNING
    assert report.drift_detected


def test_a_big_difference_is_critical() -> None:
    report = check(normal(5000, seed=1), normal(5000, mean=1.0, seed=2))
    assert report.status is DriftStatus.CRITICAL
    assert report.severity is Severity.CRITICAL
    assert report.drift_detected


@pytest.mark.parametrize("n", [5_000, 10_000, 70_000])
@pytest.mark.parametrize(
    ("floors", "distance", "status"),
    [
        (DriftSettings(), 0.04, DriftStatus.WARNING),
        (DriftSettings(), 0.04 - 1 / 5_000, DriftStatus.OK),
        (DriftSettings(), 0.10, DriftStatus.CRITICAL),
        (DriftSettings(), 0.10 - 1 / 5_000, DriftStatus.WARNING),
        (DriftSettings(warning_floor=0.2, critical_floor=0.3), 0.2 - 1 / 5_000, DriftStatus.OK),
        (DriftSettings(warning_floor=0.2, critical_floor=0.3), 0.2, DriftStatus.WARNING),
        (DriftSettings(warning_floor=0.2, critical_floor=0.3), 0.3, DriftStatus.CRITICAL),
        (DriftSettings(warning_floor=0.3, critical_floor=0.3), 0.3, DriftStatus.CRITICAL),
        (DriftSettings(warning_floor=1, critical_floor=1), 1.0, DriftStatus.CRITICAL),
    ],
)
def test_a_distance_at_a_floor_has_reached_it(
    n: int, floors: DriftSettings, distance: float, status: DriftStatus
) -> None:
    report = check(*shifted_by(distance, n), floors)
    assert report.ks_statistic == pytest.approx(distance)
    assert report.status is status


def test_to_the_last_bit() -> None:
    floors = DriftSettings(warning_floor=0.125, critical_floor=0.25)  # these and k / 4096 are exact in binary
    steps = {511: DriftStatus.OK, 512: DriftStatus.WARNING, 1023: DriftStatus.WARNING, 1024: DriftStatus.CRITICAL}
    for k, status in steps.items():
        report = check(*shifted_by(k / 4096, 4096), floors)
        assert report.ks_statistic == k / 4096
        assert report.status is status


def test_between_the_two_significance_levels_a_critical_distance_is_a_warning() -> None:
    report = check(*shifted_by(0.20, 100))
    assert 0.01 < report.ks_p_value < 0.05
    assert report.status is DriftStatus.WARNING


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["training", "serving"])
def test_one_value_that_is_no_number_hides_nothing(bad: float, side: str) -> None:
    samples = {"training": normal(5000, seed=1), "serving": normal(5000, mean=5.0, seed=2)}
    samples[side][17] = bad
    report = check(samples["training"], samples["serving"])
    assert report.status is DriftStatus.CRITICAL
    assert report.n == 5000
    assert report.training_mean == pytest.approx(0, abs=0.1)
    assert report.serving_mean == pytest.approx(5, abs=0.1)


def test_statistics_are_of_the_values_that_are_there() -> None:
    training, serving = normal(3000, seed=1), normal(2000, mean=0.3, seed=2)
    report = check(np.append(training, np.nan), np.append(serving, [np.nan, np.inf]))
    assert report.training_mean == pytest.approx(training.mean())
    assert report.training_std == pytest.approx(training.std())
    assert report.serving_mean == pytest.approx(serving.mean())
    assert report.serving_std == pytest.approx(serving.std())
    assert report.n == 2002
    assert report.effect_floor == 0.04


@pytest.mark.parametrize("seed", range(5))
def test_distance_and_p_value_are_scipys(seed: int) -> None:
    training, serving = normal(700, seed=seed), normal(300 + seed, mean=0.1 * seed, seed=seed + 100)
    expected = stats.ks_2samp(training, serving, method="asymp")
    report = check(training, serving)
    assert report.ks_statistic == expected.statistic
    assert report.ks_p_value == expected.pvalue


def test_the_distance_is_the_largest_gap_between_the_distribution_functions() -> None:
    training, serving = np.arange(200.0), np.concatenate([np.arange(100.0), np.full(100, 1000.0)])
    assert check(training, serving).ks_statistic == 0.5


def test_the_report_says_the_distance_and_the_floors() -> None:
    report = check(*shifted_by(0.25, 1000), DriftSettings(warning_floor=0.05, critical_floor=0.2))
    assert report.detail == "KS distance 0.250, floors 0.05 and 0.2."
    assert (report.feature, report.as_of) == ("x", AS_OF)


@pytest.mark.parametrize("training", [[], [np.nan] * 500, [np.inf] * 500])
def test_without_training_values_there_is_no_baseline(training: list[float]) -> None:
    assert check(np.array(training), normal(500)).status is DriftStatus.BASELINE_MISSING


def test_a_feature_the_champion_never_saw_has_no_baseline() -> None:
    report = FeatureDriftMonitor({"x": normal(500)}).check("y", normal(500), AS_OF)
    assert report.status is DriftStatus.BASELINE_MISSING
    assert report.feature == "y"


@pytest.mark.parametrize("n", [100, 5000])
def test_a_feature_without_a_single_value_is_missing(n: int) -> None:
    report = check(normal(500), np.full(n, np.nan))
    assert report.status is DriftStatus.MISSING_FEATURE
    assert report.detail == f"None of {n:,} served rows has a value."
    assert report.n == n


@pytest.mark.parametrize("given", [0, 1, 99])
def test_too_few_served_values_are_not_judged(given: int) -> None:
    report = check(normal(500), normal(given, mean=9))
    assert report.status is DriftStatus.INSUFFICIENT_DATA
    assert report.detail == f"{given} served values; 100 are needed."


def test_missing_values_do_not_count_as_data() -> None:
    report = check(normal(500), np.concatenate([normal(99, mean=9), np.full(5000, np.nan)]))
    assert report.status is DriftStatus.INSUFFICIENT_DATA
    assert report.n == 5099


@pytest.mark.parametrize("given", [1, 99])
def test_too_few_training_values_are_not_judged(given: int) -> None:
    report = check(normal(given), normal(500))
    assert report.status is DriftStatus.INSUFFICIENT_DATA
    assert report.detail == f"{given} training values; 100 are needed."


def test_a_hundred_values_on_each_side_are_enough() -> None:
    assert check(normal(100), normal(100, mean=5)).status is DriftStatus.CRITICAL


@pytest.mark.parametrize(
    "report",
    [check([], normal(500)), check(normal(500), np.full(500, np.nan)), check(normal(500), normal(5))],
    ids=lambda report: str(report.status),
)
def test_where_nobody_could_look_there_is_neither_drift_nor_a_statistic(report: FeatureDriftReport) -> None:
    assert report.status is not DriftStatus.OK
    assert report.severity is Severity.NONE
    assert not report.drift_detected
    assert (report.ks_statistic, report.ks_p_value, report.training_mean, report.serving_mean) == (None,) * 4


def test_a_constant_that_stays_is_fine_and_one_that_changes_is_critical() -> None:
    assert check(np.zeros(500), np.zeros(500)).status is DriftStatus.OK
    assert check(np.zeros(500), np.ones(500)).status is DriftStatus.CRITICAL


ANY_FLOATS = npst.arrays(np.float64, st.integers(0, 250), elements=st.floats(), fill=st.floats())


@given(ANY_FLOATS, ANY_FLOATS)
@hypothesis_settings(deadline=None, max_examples=200)
def test_whatever_the_data_there_is_a_report(training: Sample, serving: Sample) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of huge numbers overflows
        report = check(training, serving)
    assert report.n == len(serving)
    judged = {DriftStatus.OK, DriftStatus.WARNING, DriftStatus.CRITICAL}
    enough = np.isfinite(training).sum() >= 100 and np.isfinite(serving).sum() >= 100
    assert (report.status in judged) == enough


def test_floors_come_from_the_contract_by_feature() -> None:
    own = DriftSettings(warning_floor=0.2, critical_floor=0.3)
    features = (
        Feature(name="a", description="", data_type="bigint"),
        Feature(name="b", description="", data_type="bigint", drift=own),
    )
    assert settings_of(features) == {"a": DriftSettings(), "b": own}
    monitor = FeatureDriftMonitor({"a": np.arange(5000.0), "b": np.arange(5000.0)}, settings_of(features))
    assert monitor.check("a", np.arange(5000.0) + 750, AS_OF).status is DriftStatus.CRITICAL
    assert monitor.check("b", np.arange(5000.0) + 750, AS_OF).status is DriftStatus.OK
