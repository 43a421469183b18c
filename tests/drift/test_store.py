"""What the monitor keeps comes back as it was, and newer counts replace older ones, never a part of them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from features import warehouse
from features.contract import Model, Severity, read_contract
from features.drift import DriftStatus, baselines, store
from features.drift.baselines import WHOLE_SLOT, BaselineKey
from features.drift.counting import Population, count
from features.drift.incidents import had_incident
from features.drift.profile import Wobble
from features.drift.report import WHOLE, FeatureDriftReport, Subject
from features.drift.sketch import Grid, Kind, Sketch
from features.drift.sources import Source, column_of, snapshot_source, training_source
from features.drift.store import StoredGrid
from tests.databases import execute, rows
from tests.steps.drift_warehouse import (
    AS_OF,
    HOUR,
    TRAINED,
    USERS,
    by_default,
    healthy,
    hours_before,
    monitored,
    serve,
    start_over,
    train,
)

FEATURE = "session_count"
KEY = BaselineKey("training", "training", WHOLE, "1")


@pytest.fixture(scope="module")
def churn(manifest: Any) -> Model:
    return by_default(read_contract(manifest).model("churn"))


@pytest.fixture
def connection(drift_tables: None) -> Iterator[warehouse.Connection]:
    start_over()
    with warehouse.connect(autocommit=True) as opened:
        yield opened


def normal(seed: int = 1, n: int = 500) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, 1, n)


def assert_same(found: Sketch, expected: Sketch) -> None:
    np.testing.assert_array_equal(found.counts, expected.counts)
    np.testing.assert_array_equal(found.sums, expected.sums)
    assert (found.squares, found.missing, found.not_finite, found.invalid) == (
        expected.squares,
        expected.missing,
        expected.not_finite,
        expected.invalid,
    )


# Cells

GRIDS = {
    "numeric": Grid.of(normal()),
    "far from zero": Grid.of(1e9 + normal() / 1000),
    "discrete": Grid.of(np.arange(10)),
    "tiny and huge": Grid.numeric((), (-1e150, -1e-300, 0.0, 1e150), atoms_are_all=True),
    "boolean": Grid(Kind.BOOLEAN, categories=("false", "true")),
    "categorical": Grid(Kind.CATEGORICAL, categories=("a", "%s", "it's", "{x}", '"', "", "größe", "NULL")),
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_cells_come_back_to_the_last_digit(churn: Model, connection: warehouse.Connection, grid: Grid) -> None:
    stored = store.add_grid(connection, churn, FEATURE, grid)
    assert store.newest_grid(connection, churn, FEATURE) == stored == StoredGrid(stored.grid_id, grid)


def test_the_newest_cells_of_the_feature_and_the_model_are_those_in_use(
    churn: Model, connection: warehouse.Connection
) -> None:
    assert store.newest_grid(connection, churn, FEATURE) is None
    store.add_grid(connection, churn, FEATURE, GRIDS["numeric"])
    newest = store.add_grid(connection, churn, FEATURE, GRIDS["discrete"])
    store.add_grid(connection, churn, "another", GRIDS["boolean"])
    store.add_grid(connection, churn.model_copy(update={"name": "another"}), FEATURE, GRIDS["boolean"])
    assert store.newest_grid(connection, churn, FEATURE) == newest


# Baselines


def test_a_baseline_comes_back_as_it_was(churn: Model, connection: warehouse.Connection) -> None:
    grid = GRIDS["numeric"]
    stored = store.add_grid(connection, churn, FEATURE, grid)
    parts = {5: normal(2), 77: normal(3), 167: normal(4)}
    slots = {slot: (Sketch.of(values, grid), 499.5) for slot, values in parts.items()}
    whole = replace(Sketch.of(np.concatenate(list(parts.values())), grid), missing=3, not_finite=2, invalid=1)
    wobble = {1: Wobble(0.01, 0.002, 28), 168: Wobble(0.0, 0.0, 27)}
    baselines.write_baseline(
        connection, churn, FEATURE, KEY, stored, slots | {WHOLE_SLOT: (whole, 1234.5)}, (TRAINED, AS_OF), wobble
    )
    found = baselines.read_baseline(connection, churn, FEATURE, KEY)
    assert found is not None
    assert (found.grid_id, found.baseline.grid) == (stored.grid_id, grid)
    assert_same(found.baseline.whole, whole)
    assert found.baseline.entities == 1234.5
    assert set(found.baseline.slots) == set(slots)
    for slot, (sketch, entities) in found.baseline.slots.items():
        assert_same(sketch, slots[slot][0])
        assert entities == 499.5
    assert found.baseline.wobble == wobble
    key, again = baselines.baseline_by_id(connection, found.baseline_id)
    assert (key, again.baseline_id, again.baseline.entities) == (KEY, found.baseline_id, 1234.5)


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, kind="serving"),
        replace(KEY, source="inference_log"),
        replace(KEY, segment="new"),
        replace(KEY, version="2"),
    ],
)
def test_a_baseline_of_another_key_is_another(
    churn: Model, connection: warehouse.Connection, other: BaselineKey
) -> None:
    train(churn)
    assert baselines.read_baseline(connection, churn, FEATURE, KEY) is not None
    assert baselines.read_baseline(connection, churn, FEATURE, other) is None
    assert baselines.read_baseline(connection, churn, "another", KEY) is None


def test_writing_a_baseline_again_replaces_it(churn: Model, connection: warehouse.Connection) -> None:
    stored = store.add_grid(connection, churn, FEATURE, GRIDS["numeric"])
    for values in (normal(2), normal(3)):
        sketch = Sketch.of(values, stored.grid)
        baselines.write_baseline(
            connection, churn, FEATURE, KEY, stored, {WHOLE_SLOT: (sketch, 1), 3: (sketch, 1)}, (TRAINED, AS_OF)
        )
    found = baselines.read_baseline(connection, churn, FEATURE, KEY)
    assert found is not None
    assert_same(found.baseline.whole, Sketch.of(normal(3), stored.grid))
    assert rows("select count(*) from monitoring.feature_baselines") == [(1,)]
    assert rows("select count(*) from monitoring.baseline_slots") == [(2,)]


def test_what_a_version_was_trained_on_becomes_its_baseline(churn: Model, connection: warehouse.Connection) -> None:
    model = monitored(churn, segments={"new": "days_since_last_session < 12"})
    train(model)
    values, recent = healthy()[FEATURE], healthy()["days_since_last_session"] < 12
    for segment, part in ((WHOLE, values), ("new", values[recent])):
        found = baselines.read_baseline(connection, model, FEATURE, replace(KEY, segment=segment))
        assert found is not None
        expected = Sketch.of(part, found.baseline.grid)
        np.testing.assert_array_equal(found.baseline.whole.counts, expected.counts)
        assert found.baseline.entities == len(part)
        # Wednesday, the first of May, at midnight.
        assert set(found.baseline.slots) == {48}
        assert found.baseline.slots[48][1] == len(part)


def test_the_entities_of_a_baseline_are_counted_once_over_all_hours(
    churn: Model, connection: warehouse.Connection
) -> None:
    train(churn)
    execute(
        "insert into training.churn_training_set select user_id, as_of + interval '7 days', session_count,"
        " avg_session_duration_minutes, days_since_last_session, sessions_last_7_days, sessions_last_30_days, country,"
        " feature_version, label_at, matured_at, churned from training.churn_training_set"
    )
    source = training_source(churn, "v1", TRAINED, TRAINED)
    baselines.write_training_baseline(connection, churn, "2", source, column_of(churn.feature_view.features[0]))
    found = baselines.read_baseline(connection, churn, FEATURE, replace(KEY, version="2"))
    assert found is not None
    assert (found.baseline.whole.rows, found.baseline.entities) == (2 * USERS, USERS)
    assert {slot: (part.rows, n) for slot, (part, n) in found.baseline.slots.items()} == {48: (2 * USERS, USERS)}


def test_a_feature_without_any_training_value_has_no_baseline(churn: Model, connection: warehouse.Connection) -> None:
    train(churn, columns=healthy() | {FEATURE: np.full(USERS, None)})
    assert baselines.read_baseline(connection, churn, FEATURE, KEY) is None
    assert baselines.read_baseline(connection, churn, "sessions_last_7_days", KEY) is not None


def grid_ids(feature: str = FEATURE) -> list[int]:
    return [number for (number,) in rows(f"select grid_id from monitoring.sketch_grids where feature = '{feature}'")]


@pytest.mark.parametrize("feature", [FEATURE, "avg_session_duration_minutes", "sessions_last_7_days"])
def test_a_newer_version_is_counted_in_the_same_cells(
    churn: Model, connection: warehouse.Connection, feature: str
) -> None:
    train(churn, "1")
    moved = healthy()[feature] + (2 if feature == "avg_session_duration_minutes" else 0)
    train(churn, "2", healthy() | {feature: moved})
    assert len(grid_ids(feature)) == 1
    one, two = (baselines.read_baseline(connection, churn, feature, replace(KEY, version=number)) for number in "12")
    assert one is not None
    assert two is not None
    assert one.grid_id == two.grid_id


def test_a_version_that_has_outgrown_the_cells_gets_new_ones_and_old_counts_stay(
    churn: Model, connection: warehouse.Connection
) -> None:
    train(churn, "1")
    serve(AS_OF, healthy())
    first = store.newest_grid(connection, churn, FEATURE)
    assert first is not None
    source, column = snapshot_source(churn, "v1"), column_of(churn.feature_view.features[0])
    found = count(connection, source, column, first.grid, [AS_OF])
    store.write_sketches(connection, first, source, [AS_OF], found)
    train(churn, "2", healthy() | {FEATURE: healthy()[FEATURE] * 60})
    second = store.newest_grid(connection, churn, FEATURE)
    assert second is not None
    assert second.grid_id > first.grid_id
    assert second.grid.edges[-1] > 10 * first.grid.edges[-1]
    kept = store.read_sketches(connection, first.grid_id, "snapshot", source.version, WHOLE, AS_OF - HOUR, AS_OF)
    assert_same(kept[AS_OF], found[WHOLE, AS_OF])
    old = baselines.read_baseline(connection, churn, FEATURE, KEY)
    assert old is not None
    assert (old.grid_id, old.baseline.whole.given) == (first.grid_id, USERS)
    # The new cells have not counted that hour yet.
    assert store.missing_hours(connection, second, source, [AS_OF]) == [AS_OF]


def test_a_grid_of_another_kind_never_fits() -> None:
    numbers, words = column_of_type("bigint"), column_of_type("text")
    discrete = Grid.of(np.arange(10))
    assert baselines.fits(discrete, numbers, Sketch.of(np.arange(10), discrete))
    assert not baselines.fits(discrete, words, Sketch.of(np.arange(10), discrete))
    boolean = GRIDS["boolean"]
    assert not baselines.fits(boolean, numbers, Sketch.of(np.array([True]), boolean))


def test_categories_have_outgrown_the_cells_when_many_are_new() -> None:
    grid = Grid(Kind.CATEGORICAL, categories=("a", "b"))
    for new, fits in ((0, True), (12, True), (13, False), (100, False)):
        sketch = Sketch.of(np.array(["new"] * new + ["a"] * (100 - new), dtype=object), grid)
        assert baselines.fits(grid, column_of_type("text"), sketch) is fits, new


def column_of_type(data_type: str) -> Any:
    from features.contract import Feature

    return column_of(Feature(name="x", description="", data_type=data_type))


# Hours


@pytest.fixture
def stored(churn: Model, connection: warehouse.Connection) -> StoredGrid:
    return store.add_grid(connection, churn, FEATURE, GRIDS["numeric"])


def source_of(model: Model, version: str = "v1") -> Source:
    return snapshot_source(model, version)


def test_hours_come_back_as_they_were(churn: Model, connection: warehouse.Connection, stored: StoredGrid) -> None:
    source = source_of(monitored(churn, segments={"new": "true"}))
    parts = {
        (segment, AS_OF - back * HOUR): replace(Sketch.of(normal(back), stored.grid), missing=back, not_finite=1)
        for segment in (WHOLE, "new")
        for back in range(3)
    }
    hours = hours_before(3, AS_OF + HOUR)
    store.write_sketches(connection, stored, source, hours, parts)
    for segment in (WHOLE, "new"):
        found = store.read_sketches(
            connection, stored.grid_id, "snapshot", source.version, segment, AS_OF - 9 * HOUR, AS_OF
        )
        assert list(found) == hours
        for hour, sketch in found.items():
            assert_same(sketch, parts[segment, hour])


def test_hours_are_read_from_after_the_first_until_the_last(
    churn: Model, connection: warehouse.Connection, stored: StoredGrid
) -> None:
    hours = hours_before(5, AS_OF + HOUR)
    store.write_sketches(connection, stored, source_of(churn), hours, {})
    found = store.read_sketches(
        connection, stored.grid_id, "snapshot", source_of(churn).version, WHOLE, AS_OF - 3 * HOUR, AS_OF - HOUR
    )
    assert list(found) == [AS_OF - 2 * HOUR, AS_OF - HOUR]


def test_an_hour_without_rows_is_stored_as_looked_at(
    churn: Model, connection: warehouse.Connection, stored: StoredGrid
) -> None:
    source = source_of(churn)
    hours = [AS_OF - HOUR, AS_OF]
    assert store.missing_hours(connection, stored, source, hours) == hours
    store.write_sketches(connection, stored, source, [AS_OF], {})
    assert store.missing_hours(connection, stored, source, hours) == [AS_OF - HOUR]
    found = store.read_sketches(connection, stored.grid_id, "snapshot", source.version, WHOLE, AS_OF - HOUR, AS_OF)
    assert_same(found[AS_OF], Sketch.empty(stored.grid))


def test_what_another_definition_counted_is_missing(
    churn: Model, connection: warehouse.Connection, stored: StoredGrid
) -> None:
    store.write_sketches(connection, stored, source_of(churn), [AS_OF], {})
    assert store.missing_hours(connection, stored, source_of(churn, "v2"), [AS_OF]) == [AS_OF]
    assert store.read_sketches(connection, stored.grid_id, "snapshot", "v2", WHOLE, AS_OF - HOUR, AS_OF) == {}


def test_counting_an_hour_again_replaces_it(churn: Model, connection: warehouse.Connection, stored: StoredGrid) -> None:
    source = source_of(churn)
    for seed in (1, 2):
        store.write_sketches(
            connection, stored, source, [AS_OF], {(WHOLE, AS_OF): Sketch.of(normal(seed), stored.grid)}
        )
    found = store.read_sketches(connection, stored.grid_id, "snapshot", source.version, WHOLE, AS_OF - HOUR, AS_OF)
    assert_same(found[AS_OF], Sketch.of(normal(2), stored.grid))


def test_whom_the_rows_belong_to_comes_back_as_it_was(churn: Model, connection: warehouse.Connection) -> None:
    model = monitored(churn, segments={"new": "true"})
    smallest = [-(2**63), -1, 0, 2**63 - 1]
    found = {(WHOLE, AS_OF): Population(9, 5, smallest), ("new", AS_OF): Population(2, 1, [7])}
    hours = [AS_OF - HOUR, AS_OF]
    for _ in range(2):
        store.write_populations(connection, model, source_of(model), hours, found)
    nobody = Population(0, 0, [])
    assert store.read_populations(connection, model, "snapshot", source_of(model).version, AS_OF - 2 * HOUR, AS_OF) == {
        WHOLE: {AS_OF - HOUR: nobody, AS_OF: found[WHOLE, AS_OF]},
        "new": {AS_OF - HOUR: nobody, AS_OF: found["new", AS_OF]},
    }
    assert store.read_populations(connection, model, "snapshot", "v2", AS_OF - 2 * HOUR, AS_OF) == {}


def test_an_hour_rests_on_its_entities_or_on_its_rows_where_they_were_not_counted(stored: StoredGrid) -> None:
    sketch = Sketch.of(normal(), stored.grid)
    hours = store.as_hours({AS_OF - HOUR: sketch, AS_OF: sketch}, {AS_OF: Population(500, 40, [])})
    assert [(hour.as_of, hour.entities) for hour in hours] == [(AS_OF - HOUR, 500.0), (AS_OF, 40.0)]


# Reports


def a_report(feature: str = FEATURE, as_of: datetime = AS_OF, **changes: Any) -> FeatureDriftReport:
    subject = {name: changes.pop(name) for name in ("source", "segment", "window_hours", "baseline") if name in changes}
    calm: dict[str, Any] = {"status": DriftStatus.OK, "n": 1, "detail": ""}
    return FeatureDriftReport(Subject(feature, as_of, **subject), **calm | changes)


def kept() -> list[tuple[Any, ...]]:
    return rows(
        "select feature, as_of, model_version, window_hours, status from monitoring.drift_reports order by 1, 2, 3, 4"
    )


def test_reports_of_a_feature_at_an_instant_replace_all_that_were_there(
    churn: Model, connection: warehouse.Connection
) -> None:
    store.write_reports(connection, churn, "1", [(a_report(window_hours=window), None) for window in (1, 6, 24)])
    store.write_reports(connection, churn, "2", [(a_report(), None)])
    store.write_reports(connection, churn, "1", [(a_report("another"), None)])
    store.write_reports(connection, churn, "1", [(a_report(as_of=AS_OF - HOUR), None)])
    store.write_reports(connection, churn, "1", [(a_report(window_hours=6, status=DriftStatus.CRITICAL), None)])
    assert kept() == [
        ("another", AS_OF, "1", 1, "ok"),
        (FEATURE, AS_OF - HOUR, "1", 1, "ok"),
        (FEATURE, AS_OF, "1", 6, "critical"),
        (FEATURE, AS_OF, "2", 1, "ok"),
    ]


def test_every_field_of_a_report_is_kept(churn: Model, connection: warehouse.Connection) -> None:
    report = a_report(
        source="labels",
        segment="new",
        window_hours=24,
        baseline="serving",
        status=DriftStatus.WARNING,
        n=12,
        detail="it's 5 % more",
        kind=Kind.NUMERIC,
        needed_n=700,
        training_mean=1.0,
        serving_mean=1.5,
        effect=0.1,
        effect_low=0.05,
        effect_high=0.2,
        effect_floor=0.04,
        critical_floor=0.1,
        decided_by="shape",
        missing_rate=0.25,
        psi=0.3,
    )
    store.write_reports(connection, churn, "1", [(report, None)])
    row = connection.execute("select * from monitoring.drift_reports").fetchone()
    assert row is not None
    for name in ("n", "detail", "needed_n", "training_mean", "effect_low", "critical_floor", "missing_rate", "psi"):
        assert row[name] == getattr(report, name)
    assert (row["source"], row["segment"], row["window_hours"], row["baseline"]) == ("labels", "new", 24, "serving")
    assert (row["status"], row["drift_detected"], row["kind"], row["decided_by"]) == (
        "warning",
        True,
        "numeric",
        "shape",
    )
    assert report.severity is Severity.WARNING


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_no_number_is_stored_as_null(churn: Model, connection: warehouse.Connection, value: float) -> None:
    report = a_report(effect_floor=value, critical_floor=value, effect_high=value, effect=0.5)
    store.write_reports(connection, churn, "1", [(report, None)])
    assert rows("select effect_floor, critical_floor, effect_high, effect from monitoring.drift_reports") == [
        (None, None, None, 0.5)
    ]


WORST = ["error", "missing_feature", "unexpected_feature", "critical", "warning", "ok", "insufficient_data"]


@pytest.mark.parametrize("place", range(len(WORST)))
def test_the_worst_report_stands_for_a_feature_and_of_several_the_shortest_window(
    churn: Model, connection: warehouse.Connection, place: int
) -> None:
    statuses = [DriftStatus.BASELINE_MISSING, *map(DriftStatus, reversed(WORST[place:])), DriftStatus(WORST[place])]
    written = [(a_report(window_hours=24 - hours, status=status), None) for hours, status in enumerate(statuses)]
    store.write_reports(connection, churn, "1", written)
    assert rows("select status, window_hours from monitoring.feature_drift") == [(WORST[place], 24 - len(statuses) + 1)]


def test_the_view_and_the_tasks_agree_on_what_is_worst(churn: Model, connection: warehouse.Connection) -> None:
    from features.steps.watch import WORST_FIRST, worst_of

    assert set(WORST_FIRST) == set(DriftStatus)
    for worse, better in pairwise(WORST_FIRST):
        reports = [a_report(window_hours=1, status=better), a_report(window_hours=6, status=worse)]
        store.write_reports(connection, churn, "1", [(report, None) for report in reports])
        assert rows("select status from monitoring.feature_drift") == [(str(worst_of(reports).status),)]
        assert worst_of(reports).status is worse


# Incidents and healthy weeks

SINCE = datetime(2013, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("closed", "verdict", "features", "had"),
    [
        (None, None, [FEATURE], True),
        (SINCE + timedelta(days=1), None, ["another", FEATURE], True),
        (SINCE + timedelta(days=1), "genuine", [FEATURE], True),
        (SINCE + timedelta(days=1), "benign", [FEATURE], False),
        (None, "benign", [FEATURE], False),
        (SINCE - timedelta(days=1), None, [FEATURE], False),
        (None, None, ["another"], False),
    ],
)
def test_whether_something_was_wrong(
    churn: Model,
    connection: warehouse.Connection,
    closed: datetime | None,
    verdict: str | None,
    features: list[str],
    had: bool,
) -> None:
    execute(
        "insert into monitoring.drift_incidents (model_name, upstream, cause, is_data_incident, severity, features,"
        " owner, summary, findings, opened_at, last_alarm_at, told_at, closed_at, verdict) values ('churn', 'x',"
        " 'genuine', false, 'critical', %s, 'me', '', '[]', %s, %s, %s, %s, %s)",
        features,
        *[SINCE - timedelta(days=5)] * 3,
        closed,
        verdict,
    )
    assert had_incident(connection, churn, FEATURE, SINCE) is had
