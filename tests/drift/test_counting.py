"""The SQL that counts is held to the arrays that do the same: cell by cell, value by value, entity by entity."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from psycopg import sql

from features import warehouse
from features.contract import DriftSettings, Feature, Model, Valid, read_contract
from features.drift.counting import (
    HASHES_KEPT,
    QUANTILES,
    Population,
    count,
    count_entities,
    distinct_entities,
    make_grid,
    quantiles,
)
from features.drift.report import WHOLE
from features.drift.sketch import CELLS, LARGEST, Grid, Kind, Sketch
from features.drift.sources import Column, Source, column_of, log_source, snapshot_source
from tests.databases import execute
from tests.steps.drift_warehouse import by_default, empty_tables, log_requests, start_over, users, with_feature

AT = datetime(2013, 7, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
FEW = hypothesis_settings(max_examples=25)

NUMBER = column_of(Feature(name="number", description="", data_type="double precision"))
WORD = column_of(Feature(name="word", description="", data_type="text"))
YES = column_of(Feature(name="yes", description="", data_type="boolean"))


@pytest.fixture(scope="module")
def churn(manifest: Any) -> Model:
    return by_default(read_contract(manifest).model("churn"))


@pytest.fixture(scope="module", autouse=True)
def _tables(server: None) -> Iterator[None]:
    with empty_tables():
        execute("create table public.values_read (_at timestamptz, _key text, number float8, word text, yes bool)")
        yield


@pytest.fixture(scope="module")
def connection(_tables: None) -> Iterator[warehouse.Connection]:
    with warehouse.connect(autocommit=True) as opened:
        yield opened


def source(segments: dict[str, str] | None = None) -> Source:
    return Source("snapshot", "v1", rows_of("values_read"), segments or {})


def rows_of(table: str) -> Callable[[Sequence[datetime]], sql.Composed]:
    """How the rows of a table are read in some hours."""

    def rows(hours: Sequence[datetime]) -> sql.Composed:
        query = sql.SQL("select * from public.{} where _at = any({}::timestamptz[])")
        return query.format(sql.Identifier(table), sql.Literal(list(hours)))

    return rows


def fill(connection: warehouse.Connection, name: str, values: Sequence[Any], at: datetime = AT) -> None:
    """Puts values into a column, an entity each."""
    connection.execute("delete from public.values_read where _at = %s", [at])
    with (
        connection.cursor() as cursor,
        cursor.copy(f"copy public.values_read (_at, _key, {name}) from stdin") as copy,
    ):
        for number, value in enumerate(values):
            copy.write_row((at, f"e{number}", value))


def counted(connection: warehouse.Connection, column: Column, grid: Grid) -> Sketch:
    return count(connection, source(), column, grid, [AT]).get((WHOLE, AT), Sketch.empty(grid))


def assert_same(found: Sketch, expected: Sketch) -> None:
    np.testing.assert_array_equal(found.counts, expected.counts)
    np.testing.assert_allclose(found.sums, expected.sums, rtol=1e-9, atol=1e-300)
    assert found.squares == pytest.approx(expected.squares, rel=1e-9)
    assert (found.missing, found.not_finite, found.invalid) == (
        expected.missing,
        expected.not_finite,
        expected.invalid,
    )


def of_array(values: Sequence[float | None], grid: Grid, valid: Valid | None = None) -> Sketch:
    """`Sketch.of`, where NaN counts as it does in SQL, which has NULL to say that a value is missing."""
    nans = sum(value is not None and value != value for value in values)
    found = Sketch.of(np.array(values, dtype=object), grid, valid)
    return Sketch(found.counts, found.sums, found.squares, found.missing - nans, found.not_finite + nans, found.invalid)


TINY = 1e-140
# Ties, both infinities, zeros of both signs, what is too large to be squared.
ODD = [None, np.nan, np.inf, -np.inf, 1e200, -1e200, LARGEST, -LARGEST, 0.0, -0.0, 0.1 + 0.2, 0.3]
NUMBERS = st.lists(
    st.sampled_from(ODD)
    | st.integers(-5, 5).map(float)
    | st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > TINY)
    | st.floats(allow_subnormal=False).filter(lambda value: not 0 < abs(value) < TINY),
    max_size=150,
)


@FEW
@given(values=NUMBERS, baseline=NUMBERS, low=st.none() | st.floats(-3, 0), high=st.none() | st.floats(0, 3))
def test_numbers_are_counted_as_an_array_is(
    connection: warehouse.Connection, values: list[float | None], baseline: list[float | None], low: Any, high: Any
) -> None:
    fill(connection, "number", baseline)
    grid = make_grid(connection, source(), NUMBER, [AT]) or Grid.numeric((0.0,), ())
    assume(not 0 < abs(grid.centre) < TINY)
    valid = Valid(minimum=low, maximum=high)
    fill(connection, "number", values)
    assert_same(
        counted(connection, Column("number", NUMBER.expression, NUMBER.kind, valid), grid),
        of_array(values, grid, valid),
    )


@pytest.mark.parametrize("values", [[0.0], [-1.0, 0.0, 1.0], [1e-200, 2e-200, 5.0]])
def test_zeros_and_tiny_numbers_are_counted_as_an_array_is(
    connection: warehouse.Connection, values: list[float]
) -> None:
    fill(connection, "number", values)
    grid = make_grid(connection, source(), NUMBER, [AT])
    assert grid is not None
    assert_same(counted(connection, NUMBER, grid), Sketch.of(values, grid))


@pytest.mark.parametrize("kind", ["normal", "counts", "spiked", "far from zero", "constant"])
def test_many_numbers_are_counted_as_an_array_is(connection: warehouse.Connection, kind: str) -> None:
    rng = np.random.default_rng(3)
    values = {
        "normal": rng.normal(0, 1, 5000),
        "counts": rng.poisson(4, 5000).astype(float),
        "spiked": np.where(rng.random(5000) < 0.3, 0.5, rng.normal(0, 1, 5000)),
        "far from zero": 1e9 + rng.normal(0, 1e-3, 5000),
        "constant": np.full(5000, 0.1),
    }[kind]
    fill(connection, "number", values.tolist())
    grid = make_grid(connection, source(), NUMBER, [AT])
    assert grid is not None
    assert grid.kind is (Kind.DISCRETE if kind in {"counts", "constant"} else Kind.NUMERIC)
    found = counted(connection, NUMBER, grid)
    assert found.given == 5000
    assert_same(found, Sketch.of(values, grid))


WORDS = st.lists(
    st.none()
    | st.sampled_from(["a", "b", "it's", '"', "{", "\\", "NULL", "", "ä", "𐍈"])
    | st.text(st.characters(exclude_characters="\0%", exclude_categories=["Cs"]), max_size=3),
    max_size=100,
)


@FEW
@given(values=WORDS, baseline=WORDS, allowed=st.none() | st.just(("a", "b", "it's")))
def test_categories_are_counted_as_an_array_is(
    connection: warehouse.Connection, values: list[Any], baseline: list[Any], allowed: Any
) -> None:
    fill(connection, "word", baseline)
    grid = make_grid(connection, source(), WORD, [AT]) or Grid(Kind.CATEGORICAL, categories=("a",))
    valid = Valid(values=allowed)
    fill(connection, "word", values)
    found = counted(connection, Column("word", WORD.expression, WORD.kind, valid), grid)
    assert_same(found, Sketch.of(np.array(values, dtype=object), grid, valid))


@pytest.mark.parametrize(("grid", "allowed"), [(("5 %", "b"), None), (("b",), ("5 %", "b"))])
def test_a_category_may_have_a_percent_sign(
    connection: warehouse.Connection, grid: tuple[str, ...], allowed: tuple[str, ...] | None
) -> None:
    fill(connection, "word", ["5 %", "b"])
    column = Column("word", WORD.expression, WORD.kind, Valid(values=allowed))
    assert counted(connection, column, Grid(Kind.CATEGORICAL, categories=grid)).given == 2


def test_rare_categories_share_a_cell_and_new_ones_have_one(connection: warehouse.Connection) -> None:
    fill(connection, "word", [f"c{number:03}" for number in range(100) for _ in range(100 - number)])
    grid = make_grid(connection, source(), WORD, [AT])
    assert grid is not None
    assert grid.categories == tuple(f"c{number:03}" for number in range(100))
    fill(connection, "word", ["c000", "c061", "c062", "c099", "c099", "new", None])
    found = counted(connection, WORD, grid)
    assert (found.counts[0], found.counts[61], found.counts[62], found.counts[63]) == (1, 1, 3, 1)
    assert (found.given, found.missing) == (6, 1)


def test_booleans_are_counted_as_an_array_is(connection: warehouse.Connection) -> None:
    values = [True, None, False, True, True]
    fill(connection, "yes", values)
    grid = make_grid(connection, source(), YES, [AT])
    assert grid == Grid(Kind.BOOLEAN, categories=("false", "true"))
    found = counted(connection, YES, grid)
    assert_same(found, Sketch.of(np.array(values, dtype=object), grid))
    assert found.counts.tolist() == [1, 3, 0, 0]


# Cells


@FEW
@given(NUMBERS)
def test_cells_for_numbers_are_those_of_an_array(connection: warehouse.Connection, values: list[float | None]) -> None:
    fill(connection, "number", values)
    array = np.array([np.nan if value is None else value for value in values], dtype=float)
    try:
        expected: Grid | None = Grid.of(array)
    except ValueError:
        expected = None
    assert make_grid(connection, source(), NUMBER, [AT]) == expected


@pytest.mark.parametrize("n", [CELLS, CELLS + 1, 64 * 64, 64 * 64 + 1, 64 * 64 - 1, 5000])
def test_cells_for_many_numbers_are_those_of_an_array(connection: warehouse.Connection, n: int) -> None:
    rng = np.random.default_rng(n)
    for values in (
        np.arange(n, dtype=float),
        np.where(rng.random(n) < 0.2, 0.5, rng.normal(0, 1, n)),
        rng.poisson(30, n).astype(float),
        np.round(rng.normal(0, 1, n), 1),
    ):
        fill(connection, "number", values.tolist())
        assert make_grid(connection, source(), NUMBER, [AT]) == Grid.of(values)


@FEW
@given(WORDS.filter(lambda values: any(value is not None for value in values)))
def test_cells_for_categories_are_those_of_an_array(connection: warehouse.Connection, values: list[Any]) -> None:
    fill(connection, "word", values)
    assert make_grid(connection, source(), WORD, [AT]) == Grid.of(np.array(values, dtype=object), categorical=True)


def test_there_are_no_cells_for_no_value(connection: warehouse.Connection) -> None:
    fill(connection, "number", [None, np.nan, np.inf])
    assert make_grid(connection, source(), NUMBER, [AT]) is None
    assert make_grid(connection, source(), WORD, [AT]) is None


def test_cells_for_words_that_look_like_a_boolean_are_those_of_an_array(connection: warehouse.Connection) -> None:
    fill(connection, "word", ["true", "false"])
    words = np.array(["true", "false"], dtype=object)
    assert make_grid(connection, source(), WORD, [AT]) == Grid.of(words, categorical=True)


# Hours and segments


def test_one_pass_counts_all_hours_and_segments(connection: warehouse.Connection) -> None:
    rng = np.random.default_rng(9)
    hourly = {AT - back * HOUR: rng.normal(back, 1, 300) for back in range(5)}
    for hour, values in hourly.items():
        fill(connection, "number", values.tolist(), hour)
    grid = Grid.of(hourly[AT])
    read = source({"small": "number < 1", "nobody": "number is null", "modulo": "mod(length(_key), 2) = 0"})
    found = count(connection, read, NUMBER, grid, [AT, AT - HOUR, AT - 2 * HOUR])
    parts = {(segment, AT - back * HOUR) for segment in (WHOLE, "small", "modulo") for back in range(3)}
    assert set(found) == parts
    for back in range(3):
        values = hourly[AT - back * HOUR]
        assert_same(found[WHOLE, AT - back * HOUR], Sketch.of(values, grid))
        assert_same(found["small", AT - back * HOUR], Sketch.of(values[values < 1], grid))
    whole = count(connection, read, NUMBER, grid, list(hourly))
    assert sum(sketch.rows for (segment, _), sketch in whole.items() if segment == WHOLE) == 1500


def test_a_segment_may_use_percent_signs_and_quotes(connection: warehouse.Connection) -> None:
    fill(connection, "word", ["50%", "5%0", "it's", "plain", None])
    grid = Grid.of_categories(np.array(["plain"], dtype=object))
    read = source({"percent": "word like '%\\%' or word = '50%s'", "quoted": "word = 'it''s' or word = '\"'"})
    found = count(connection, read, WORD, grid, [AT])
    assert {segment: sketch.rows for (segment, _), sketch in found.items()} == {WHOLE: 5, "percent": 1, "quoted": 1}
    people = count_entities(connection, read, [AT])
    assert {segment: one.entities for (segment, _), one in people.items()} == {WHOLE: 5, "percent": 1, "quoted": 1}


def test_a_segment_that_is_unknown_for_a_row_does_not_have_it(connection: warehouse.Connection) -> None:
    fill(connection, "number", [1.0, None, 3.0])
    found = count(connection, source({"large": "number > 2"}), NUMBER, Grid.numeric((0.0,), ()), [AT])
    assert {segment: sketch.rows for (segment, _), sketch in found.items()} == {WHOLE: 3, "large": 1}


# Entities


def test_of_an_entitys_requests_in_an_hour_the_first_counts(churn: Model, connection: warehouse.Connection) -> None:
    start_over()
    for minute, value in ((50, 30), (10, 1), (30, 3)):
        log_requests(AT - timedelta(minutes=minute), {"session_count": [value]}, ["same"])
    log_requests(AT - timedelta(minutes=70), {"session_count": [9]}, ["same"])
    log_requests(AT - timedelta(minutes=5), {"session_count": [5]}, ["other"])
    log_requests(AT - timedelta(minutes=5), {"session_count": [7]}, ["another version's"], number="2")
    read = log_source(churn, "1")
    grid = Grid.of(np.arange(64))
    found = count(connection, read, column_of(churn.feature_view.features[0]), grid, [AT, AT - HOUR])
    assert {at: float(sketch.sums.sum()) for (_, at), sketch in found.items()} == {AT: 35, AT - HOUR: 9}
    assert {at: one.entities for (_, at), one in count_entities(connection, read, [AT]).items()} == {AT: 2}


def test_a_request_on_the_hour_belongs_to_the_hour_that_ends(churn: Model, connection: warehouse.Connection) -> None:
    start_over()
    log_requests(AT, {"session_count": [1]})
    found = count_entities(connection, log_source(churn, "1"), [AT, AT + HOUR])
    assert {at: one.rows for (_, at), one in found.items()} == {AT: 1}


def test_what_a_request_left_out_is_missing(churn: Model, connection: warehouse.Connection) -> None:
    start_over()
    log_requests(AT, {"session_count": [1, None]})
    days = column_of(churn.feature_view.features[2])
    grid = Grid.of(np.arange(64))
    assert count(connection, log_source(churn, "1"), days, grid, [AT])[WHOLE, AT].missing == 2


def people(names: Sequence[str], connection: warehouse.Connection, at: datetime) -> Population:
    connection.execute("delete from public.values_read where _at = %s", [at])
    connection.execute("insert into public.values_read (_at, _key) select %s, unnest(%s::text[])", [at, list(names)])
    return count_entities(connection, source(), [at])[WHOLE, at]


@pytest.mark.parametrize("n", [1, 10, HASHES_KEPT - 1])
def test_few_distinct_entities_are_counted_exactly(connection: warehouse.Connection, n: int) -> None:
    parts = [people(users(n, first=n * (back % 3) // 3), connection, AT - back * HOUR) for back in range(3)]
    distinct = {name for back in range(3) for name in users(n, first=n * (back % 3) // 3)}
    if len(distinct) < HASHES_KEPT:
        assert distinct_entities(parts) == len(distinct)
    assert distinct_entities(parts[:1]) == n


@pytest.mark.parametrize("n", [300, 1000, 5000])
def test_many_distinct_entities_are_estimated(connection: warehouse.Connection, n: int) -> None:
    parts = [people(users(n, first=n * back), connection, AT - back * HOUR) for back in range(4)]
    assert distinct_entities(parts) == pytest.approx(4 * n, rel=0.2)


@pytest.mark.parametrize("n", [100, 3000])
def test_entities_that_come_again_every_hour_do_not_add_up(connection: warehouse.Connection, n: int) -> None:
    parts = [people(users(n), connection, AT - back * HOUR) for back in range(24)]
    assert distinct_entities(parts) == pytest.approx(n, rel=0.2)
    assert distinct_entities(parts) >= n


def test_nobody_is_no_entity(connection: warehouse.Connection) -> None:
    assert distinct_entities([]) == 0
    assert distinct_entities([Population(0, 0, [])]) == 0


def test_rows_of_one_entity_are_several_rows_and_one_entity(connection: warehouse.Connection) -> None:
    found = people(["a", "a", "b"], connection, AT)
    assert (found.rows, found.entities, len(found.smallest_hashes)) == (3, 2, 2)


def test_two_composite_keys_are_never_taken_for_one(churn: Model, connection: warehouse.Connection) -> None:
    connection.execute("drop table if exists features.pairs")
    connection.execute(
        "create table features.pairs as select * from (values ('a,b', 'c'), ('a', 'b,c'), ('a\", \"b', 'c'),"
        " ('1', '1')) as keys (first, second) cross join (select %s::timestamptz as as_of, 'v1' as feature_version,"
        " 1 as days_since_last_session) as constants",
        [AT],
    )
    view = churn.feature_view.model_copy(update={"name": "pairs", "entity": ("first", "second")})
    pairs = churn.model_copy(update={"feature_view": view, "entity": ("first", "second")})
    found = count_entities(connection, snapshot_source(pairs, "v1"), [AT])[WHOLE, AT]
    assert (found.rows, found.entities) == (4, 4)


# Names and types


@pytest.mark.parametrize(
    "name",
    [
        'quo"te',
        "apo'strophe",
        "größe ü 𐍈",
        "a; drop table x",
        "{brace}",
        "per%cent %s",
    ],
)
def test_a_name_is_a_name_whatever_is_in_it(connection: warehouse.Connection, name: str) -> None:
    connection.execute("drop table if exists public.hostile")
    connection.execute(
        sql.SQL("create table public.hostile as select {}::timestamptz as _at, 'a' as _key, 3 as {}").format(
            AT, sql.Identifier(name)
        )
    )
    column = column_of(Feature(name=name, description="", data_type="bigint"))
    read = Source("x", "1", rows_of("hostile"), {})
    grid = make_grid(connection, read, column, [AT])
    assert grid is not None
    assert count(connection, read, column, grid, [AT])[WHOLE, AT].sums.sum() == 3
    assert quantiles(connection, read, column, WHOLE, [AT]).tolist() == [3.0] * len(QUANTILES)


@pytest.mark.parametrize(
    ("data_type", "treat_as", "kind", "written"),
    [
        ("bigint", None, Kind.NUMERIC, "7"),
        ("INTEGER", None, Kind.NUMERIC, "7"),
        ("numeric(10, 2)", None, Kind.NUMERIC, "7.25"),
        ("real", None, Kind.NUMERIC, "7.5"),
        ("bigint", "categorical", Kind.CATEGORICAL, "7"),
        ("text", None, Kind.CATEGORICAL, "seven"),
        ("character varying(20)", None, Kind.CATEGORICAL, "seven"),
        ("boolean", None, Kind.BOOLEAN, "true"),
        ("date", None, Kind.NUMERIC, "1970-01-08"),
        ("timestamptz", None, Kind.NUMERIC, "1970-01-08"),
        ("timestamp with time zone", None, Kind.NUMERIC, "1970-01-08"),
        ("interval", None, Kind.NUMERIC, "7 days"),
    ],
)
def test_a_type_says_how_values_are_read(
    connection: warehouse.Connection, data_type: str, treat_as: Any, kind: Kind, written: str
) -> None:
    column = column_of(
        Feature(name="x", description="", data_type=data_type, drift=DriftSettings(treat_as=treat_as)),
        sql.SQL("{}::{}").format(sql.Literal(written), sql.SQL(data_type)),
    )
    row = connection.execute(sql.SQL("select {} as value").format(column.expression)).fetchone()
    assert row is not None
    assert column.kind is kind
    # A week after the epoch, or a week long: in seconds.
    expected = 604800.0 if written in {"1970-01-08", "7 days"} else written
    assert row["value"] == (float(expected) if kind is Kind.NUMERIC else written)


def test_a_feature_of_the_contract_is_read_where_it_is(churn: Model, connection: warehouse.Connection) -> None:
    model = with_feature(churn, "country")
    assert column_of(model.feature_view.features[-1]).kind is Kind.CATEGORICAL
    assert [column_of(feature).kind for feature in churn.feature_view.features] == [Kind.NUMERIC] * 5


# Quantiles


def test_quantiles_are_values_that_are_there(connection: warehouse.Connection) -> None:
    values = np.random.default_rng(1).normal(0, 1, 1000)
    fill(connection, "number", [*values.tolist(), None, np.nan, np.inf, 1e200])
    found = quantiles(connection, source(), NUMBER, WHOLE, [AT])
    np.testing.assert_array_equal(found, np.quantile(values, QUANTILES, method="inverted_cdf"))


def test_without_a_value_there_are_no_quantiles(connection: warehouse.Connection) -> None:
    fill(connection, "number", [None, np.nan])
    assert quantiles(connection, source(), NUMBER, WHOLE, [AT]).tolist() == []
    assert quantiles(connection, source(), NUMBER, WHOLE, [AT + 5 * HOUR]).tolist() == []
