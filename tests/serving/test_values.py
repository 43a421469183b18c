"""Feature values come out of a store as the feature table holds them, to the last bit and microsecond."""

import math
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.rows import tuple_row

from features import warehouse
from features.contract import Feature, FeatureView
from features.errors import SkewlessError
from features.serving.push import push
from features.serving.store import FeatureStore
from features.serving.values import checked, microseconds, pack, unpack
from tests.databases import execute
from tests.dbt_project.oracle import HOUR
from tests.steps.small_warehouse import EARLIER

pytest_plugins = ["tests.serving.stores"]

TYPES = {
    "a_float": "double precision",
    "a_bigint": "bigint",
    "an_integer": "integer",
    "a_smallint": "smallint",
    "a_text": "text",
    "an_instant": "timestamptz",
    "a_local_time": "timestamp",
    "a_date": "date",
    "an_interval": "interval",
    "a_numeric": "numeric",
    "a_boolean": "boolean",
}
DAYS = timedelta(days=2)  # from the ends of the calendar, where another zone has no date
TINY = math.ulp(0.0)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
numerics = st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**20), max_value=10**20)
STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "a_float": st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, TINY, -TINY, 0.1 + 0.2, 1e308]),
    "a_bigint": st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1, 2**53 + 1]),
    "an_integer": st.integers(-(2**31), 2**31 - 1),
    "a_smallint": st.integers(-(2**15), 2**15 - 1),
    "a_text": texts | st.sampled_from(["", "NaN", "null", "e\u0301", "\u2028", '{"a": 1}']),
    "an_instant": st.datetimes(datetime.min + DAYS, datetime.max - DAYS, timezones=st.timezones()),  # noqa: DTZ901
    "a_local_time": st.datetimes(),
    "a_date": st.dates(),
    "an_interval": st.timedeltas(),
    "a_numeric": numerics | st.sampled_from([Decimal("NaN"), Decimal("1E+30"), Decimal("-0"), Decimal("1.000")]),
    "a_boolean": st.booleans(),
}
feature_rows = st.fixed_dictionaries({name: st.none() | values for name, values in STRATEGIES.items()})


def same(value: Any) -> Any:
    """What equals another such thing only if the values are the same, NaN, -0.0 and trailing zeros included."""
    match value:
        case datetime() if value.tzinfo:
            return value.astimezone(UTC)  # for Python, one that a clock change skips equals none of another zone
        case float():
            return "NaN" if math.isnan(value) else struct.pack(">d", value)
        case Decimal():
            return str(value)
        case dict():
            return {name: same(each) for name, each in value.items()}
        case list():
            return [same(each) for each in value]
    return value


# ---- packing ----


@given(feature_rows)
@example(dict.fromkeys(TYPES))
@example({"an_instant": datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "a_local_time": datetime(1, 1, 1)})  # noqa: DTZ001
@example({"an_instant": datetime(2024, 10, 27, 2, tzinfo=ZoneInfo("Europe/Monaco"))})
def test_what_is_packed_comes_back(row: dict[str, Any]) -> None:
    assert same(unpack(pack(row))) == same(row)
    assert same(unpack(pack(list(row.values())))) == same(list(row.values()))


@given(st.datetimes(timezones=st.just(UTC)))
def test_microseconds_count_instants_exactly(instant: datetime) -> None:
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds(instant)) == instant


def test_numbers_and_truths_keep_their_types() -> None:
    values = [1, 1.0, True, 0, -0.0, False, Decimal(1), "1", None, b"1", uuid4(), [1, [Decimal("2.50")]], {"a": 1}]
    assert [type(each) for each in unpack(pack(values))] == [type(each) for each in values]
    assert unpack(pack(values)) == values


def test_what_cannot_be_packed_says_what_to_do() -> None:
    with pytest.raises(SkewlessError, match="of type time cannot be kept in Redis; cast it to text in dbt"):
        pack([datetime(2013, 7, 1, tzinfo=UTC).time()])


# ---- the contract ----


def view_of(view: FeatureView, **types: str) -> FeatureView:
    """A feature view of columns of these types."""
    features = tuple(Feature(name=name, description="A value.", data_type=declared) for name, declared in types.items())
    return view.model_copy(update={"name": "every_type", "features": features})


MISTYPED: list[tuple[str, Any]] = [
    ("bigint", 2**63),
    ("bigint", -(2**63) - 1),
    ("bigint", 1.0),
    ("bigint", True),
    ("bigint", "1"),
    ("bigint", Decimal(1)),
    ("bigint", np.float64(1)),
    ("bigint", np.array([1, 2])),
    ("integer", 2**31),
    ("smallint", -(2**15) - 1),
    ("double precision", "0.5"),
    ("double precision", Decimal("0.5")),
    ("double precision", False),
    ("double precision", 10**400),
    ("numeric", 0.5),
    ("boolean", 1),
    ("boolean", "true"),
    ("text", 1),
    ("text", b"a"),
    ("text", ["a"]),
    ("date", datetime(2013, 7, 1, tzinfo=UTC)),
    ("date", datetime(2013, 7, 1)),  # noqa: DTZ001
    ("date", "2013-07-01"),
    ("timestamptz", datetime(2013, 7, 1)),  # noqa: DTZ001
    ("timestamptz", date(2013, 7, 1)),
    ("timestamp with time zone", datetime(2013, 7, 1)),  # noqa: DTZ001
    ("timestamp", datetime(2013, 7, 1, tzinfo=UTC)),
    ("timestamp without time zone", datetime(2013, 7, 1, tzinfo=UTC)),
    ("interval", 60),
]


@pytest.mark.parametrize(("declared", "value"), MISTYPED)
def test_a_value_of_another_type_is_refused_by_name(view: FeatureView, declared: str, value: object) -> None:
    with pytest.raises(SkewlessError) as error:
        checked(view_of(view, it=declared), {"it": value})
    assert str(error.value) == f"every_type.it is {declared}, and {value!r} is not."


FITTING: list[tuple[str, Any, Any]] = [
    ("bigint", np.int64(2**63 - 1), 2**63 - 1),
    ("bigint", np.uint8(255), 255),
    ("smallint", -(2**15), -(2**15)),
    ("double precision", 3, 3.0),
    ("double precision", np.float32(0.5), 0.5),
    ("DOUBLE PRECISION", np.int32(3), 3.0),
    ("numeric", 3, Decimal(3)),
    ("numeric(10, 2)", Decimal("0.50"), Decimal("0.50")),
    ("boolean", np.bool_(True), True),
    ("text", np.str_("a"), "a"),
    ("timestamptz", EARLIER, EARLIER),
    ("timestamp with time zone", EARLIER, EARLIER),
    ("date", date(2013, 7, 1), date(2013, 7, 1)),
    ("interval", HOUR, HOUR),
]


@pytest.mark.parametrize(("declared", "value", "plain"), FITTING)
def test_a_value_of_its_type_is_plain_afterwards(view: FeatureView, declared: str, value: Any, plain: Any) -> None:
    found = checked(view_of(view, it=declared), {"it": value})["it"]
    assert (found, type(found)) == (plain, type(plain))


@pytest.mark.parametrize("declared", ["real", "float4", "uuid", "jsonb", "time", "bytea"])
def test_other_types_are_read_and_not_written(view: FeatureView, declared: str) -> None:
    with pytest.raises(SkewlessError, match=f"Features of type {declared} can be read, and not written"):
        checked(view_of(view, it=declared), {"it": "a"})
    assert checked(view_of(view, it=declared), {"it": None}) == {"it": None}


def test_features_come_in_the_order_of_the_contract(view: FeatureView) -> None:
    assert list(checked(view_of(view, one="bigint", two="text"), {"two": "b", "one": 1})) == ["one", "two"]


# ---- the stores ----


class Stores:
    """A view with a feature of every type, and a store of each kind that serves it."""

    def __init__(self, view: FeatureView, url: str, namespace: str, publish_by_hand: Callable[..., None]) -> None:
        self.view, self._url, self._namespace, self._publish = view, url, namespace, publish_by_hand
        options: dict[str, Any] = {"feature_version": "v1", "clock": lambda: EARLIER + HOUR}
        self.redis = FeatureStore(view, redis_url=url, namespace=namespace, **options)
        self.postgres = FeatureStore(view, **options)

    def publish(self, row: dict[str, Any]) -> None:
        """Makes a row of user `a` what is live, in Redis as well."""
        names = ", ".join(row)
        execute("truncate features.every_type")
        execute(
            f"insert into features.every_type (user_id, as_of, feature_version, {names})"
            f" values ('a', %s, 'v1', {', '.join(f'%s::{TYPES[name]}' for name in row)})",
            EARLIER,
            *row.values(),
        )
        self._publish(self.view, EARLIER)
        assert push(self.view, self._url, self._namespace)["rows"] == 1

    def by_plain_sql(self) -> dict[str, Any]:
        with warehouse.connect() as connection:
            cursor = connection.cursor(row_factory=tuple_row)
            (row,) = cursor.execute(f"select {', '.join(TYPES)} from features.every_type").fetchall()
        return dict(zip(TYPES, row, strict=True))

    def served(self, entity: str, *sources: str) -> list[dict[str, Any]]:
        """The features by each store, and that this is where they come from."""
        found = [store.read_user_features(entity) for store in (self.redis, self.postgres)]
        assert [row and row.served_from for row in found] == list(sources)
        return [row.features for row in found if row]


@pytest.fixture
def stores(
    empty_warehouse: str,
    view: FeatureView,
    redis_server: str,
    namespace: str,
    publish_by_hand: Callable[..., None],
) -> Iterator[Stores]:
    columns = ", ".join(f"{name} {declared}" for name, declared in TYPES.items())
    execute(
        "create table features.every_type (user_id text, as_of timestamptz, feature_version text,"
        f" {columns}, primary key (user_id, as_of, feature_version))"
    )
    made = Stores(view_of(view, **TYPES), redis_server, namespace, publish_by_hand)
    yield made
    made.redis.close()
    made.postgres.close()


in_one_warehouse = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
EXTREMES = {
    "a_float": -0.0,
    "a_bigint": -(2**63),
    "an_integer": 2**31 - 1,
    "a_smallint": -(2**15),
    "a_text": "\u2028'\"\\\n",
    "an_instant": datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    "a_local_time": datetime(9999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001
    "a_date": date.min,
    "an_interval": timedelta(microseconds=-1),
    "a_numeric": Decimal("1.000"),
    "a_boolean": False,
}


@in_one_warehouse
@given(feature_rows)
@example(dict.fromkeys(TYPES))
@example(EXTREMES)
@example(EXTREMES | {"a_float": math.nan, "a_numeric": Decimal("NaN")})
@example(EXTREMES | {"a_float": TINY, "an_interval": timedelta.max})
@example(EXTREMES | {"a_float": 0.1 + 0.2, "an_interval": timedelta.min})
def test_a_published_row_is_the_same_from_redis_from_postgres_and_by_plain_sql(
    stores: Stores, row: dict[str, Any]
) -> None:
    stores.publish(row)
    from_redis, from_postgres = stores.served("a", "redis", "postgres")
    assert same(from_redis) == same(from_postgres) == same(stores.by_plain_sql())


@in_one_warehouse
@given(feature_rows)
@example(dict.fromkeys(TYPES))
@example(EXTREMES)
@example(EXTREMES | {"a_float": TINY, "an_interval": timedelta.max})
@example(EXTREMES | {"an_instant": datetime(1987, 10, 25, tzinfo=ZoneInfo("America/Araguaina"))})
def test_a_written_row_is_the_same_from_redis_and_from_postgres(stores: Stores, row: dict[str, Any]) -> None:
    """But for negative zero, which PostgreSQL's jsonb does not know, and zeros at the end of a decimal."""
    stores.publish(dict.fromkeys(TYPES))
    assert stores.redis.write_user_features("b", row, as_of=EARLIER + HOUR)
    for features in stores.served("b", "written", "written"):
        assert {name for name in TYPES if not equal(features[name], row[name])} == set()


def equal(one: Any, other: Any) -> bool:
    """As instants are compared: for Python, one that a clock change skips in its zone equals none of another zone."""
    if isinstance(other, datetime) and other.tzinfo:
        one, other = one.astimezone(UTC), other.astimezone(UTC)
    return bool(one == other) or (one != one and other != other)


@pytest.mark.parametrize(
    ("declared", "value"),
    [("numeric(4, 2)", Decimal("123.45")), ("varchar(3)", "abcd"), ("numeric", Decimal("1E+200000"))],
)
def test_a_value_that_its_column_does_not_take_is_refused_and_not_read_for_ever(
    stores: Stores, declared: str, value: Any
) -> None:
    stores.publish(dict.fromkeys(TYPES))
    execute(f"alter table features.every_type add column it {declared}")
    narrow = stores.view.model_copy(
        update={"features": (Feature(name="it", description="A value.", data_type=declared),)}
    )
    with FeatureStore(narrow, feature_version="v1", clock=lambda: EARLIER + HOUR) as store:
        with pytest.raises(SkewlessError, match="PostgreSQL does not take a value for every_type"):
            store.write_user_features("c", {"it": value}, as_of=EARLIER)
        assert store.read_user_features("c") is None


def test_a_unique_id_comes_back_as_one(stores: Stores, redis_server: str, namespace: str) -> None:
    stores.publish(dict.fromkeys(TYPES))
    number = uuid4()
    execute(f"alter table features.every_type add column it uuid default '{number}'")
    view = stores.view.model_copy(update={"features": (Feature(name="it", description="An id.", data_type="uuid"),)})
    push(view, redis_server, f"{namespace}u")
    options: dict[str, Any] = {"feature_version": "v1", "clock": lambda: EARLIER + HOUR}
    for url, source in ((redis_server, "redis"), (None, "postgres")):
        with FeatureStore(view, redis_url=url, namespace=f"{namespace}u", **options) as store:
            row = store.read_user_features("a")
            assert row is not None
            assert (row.features, row.served_from) == ({"it": number}, source)
            assert isinstance(row.features["it"], UUID)
