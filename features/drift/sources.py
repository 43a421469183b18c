"""Where values are read: the snapshot, the inference log, labels, training rows.

A source gives one row per entity and hour: several requests of one entity within an hour are one piece of evidence, and
the first of them counts.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from psycopg import sql

from features.contract import Feature, Model, Valid
from features.drift.report import WHOLE
from features.drift.sketch import LARGEST, Kind

PREDICTION = "(prediction)"
LABEL = "(label)"

BINARY_TYPES = ("bool",)
TIME_TYPES = ("date", "timestamp", "interval")
NUMBER_TYPES = ("smallint", "int", "bigint", "numeric", "decimal", "real", "double precision", "float")


@dataclass(frozen=True)
class Column:
    """A column whose values are counted.

    Attributes:
        expression: its value in SQL: double precision for an ordered kind, else text.
        kind: numeric, boolean or categorical; whether numbers are discrete shows in the baseline.
    """

    name: str
    expression: sql.Composable
    kind: Kind
    valid: Valid = field(default_factory=Valid)


@dataclass(frozen=True)
class Source:
    """Where values are read.

    Attributes:
        name: snapshot, inference_log, labels or training.
        version: the definition of what is read; hours of two definitions never add up.
        rows: SQL of some hours' rows, with the columns `_at` (the hour) and `_key` (the entity, text) beside those that
            columns and segments name. Values are in it as literals, so it is executed without parameters: a `%` in a
            name or a condition is just that.
        segments: a SQL condition by name, beside everybody.
    """

    name: str
    version: str
    rows: Callable[[Sequence[datetime]], sql.Composed]
    segments: dict[str, str]

    @property
    def parts(self) -> tuple[str, ...]:
        """Everybody, `all`, and the segments."""
        return (WHOLE, *self.segments)

    def by_segment(self, hours: Sequence[datetime]) -> sql.Composed:
        """The rows, once for each `_segment` they belong to."""
        belongs = [sql.SQL("array[{}]").format(sql.Literal(WHOLE))]
        for name, condition in self.segments.items():
            # The contract's own SQL, as trusted as a dbt model.
            part = sql.SQL("case when {} then array[{}] end").format(_raw(condition), sql.Literal(name))
            belongs.append(part)
        return sql.SQL("({}) as rows cross join lateral unnest({}) as _segment").format(
            self.rows(hours), sql.SQL(" || ").join(belongs)
        )


def _raw(condition: str) -> sql.Composed:
    return sql.SQL("({})").format(sql.SQL(condition))


def _instants(hours: Sequence[datetime]) -> sql.Composed:
    return sql.SQL("{}::timestamptz[]").format(sql.Literal(list(hours)))


def _definition(version: str, model: Model) -> str:
    """A name for what is counted: the features' definition, whose rows they are, and which segments they fall into."""
    conditions = json.dumps([model.population, model.monitoring.segments], sort_keys=True)
    return f"{version}+{hashlib.sha256(conditions.encode()).hexdigest()[:8]}"


def _is_number(declared: str) -> bool:
    # An interval begins like an int.
    return declared.startswith(NUMBER_TYPES) and not declared.startswith(TIME_TYPES)


def column_of(feature: Feature, value: sql.Composable | None = None) -> Column:
    """How a feature's values are read, by its data type.

    Args:
        value: where it is, when not in a column of its name.
    """
    value = value or sql.Identifier(feature.name)
    declared = feature.data_type.lower()
    if declared.startswith(BINARY_TYPES):
        return Column(feature.name, sql.SQL("{}::text").format(value), Kind.BOOLEAN, feature.valid)
    is_time, is_number = declared.startswith(TIME_TYPES), _is_number(declared)
    if feature.drift.treat_as == "categorical" or not (is_time or is_number):
        return Column(feature.name, sql.SQL("{}::text").format(value), Kind.CATEGORICAL, feature.valid)
    number = "extract(epoch from {})::double precision" if is_time else "{}::double precision"
    return Column(feature.name, sql.SQL(number).format(value), Kind.NUMERIC, feature.valid)


def snapshot_source(model: Model, version: str) -> Source:
    """The feature rows of the population, as they are served."""

    def rows(hours: Sequence[datetime]) -> sql.Composed:
        return sql.SQL(
            "select *, as_of as _at, {key} as _key from {view}"
            " where as_of = any({hours}) and feature_version = {version} and {population}"
        ).format(
            key=_key(model.entity),
            view=sql.Identifier(*model.feature_view.relation),
            hours=_instants(hours),
            version=sql.Literal(version),
            population=_raw(model.population),
        )

    return Source("snapshot", _definition(version, model), rows, model.monitoring.segments)


def prediction_source(model: Model, champion: str) -> Source:
    """The champion's scores of the snapshot. Segments are conditions on features, which are not beside them."""

    def rows(hours: Sequence[datetime]) -> sql.Composed:
        return sql.SQL(
            "select as_of as _at, entity_id as _key, score from serving.predictions"
            " where as_of = any({hours}) and model_name = {model} and model_version = {champion}"
        ).format(hours=_instants(hours), model=sql.Literal(model.name), champion=sql.Literal(champion))

    return Source("snapshot", champion, rows, {})


def log_source(model: Model, champion: str) -> Source:
    """What the champion really saw and said: the first request of each entity in each hour, an hour ending at `_at`.

    Of services only: what batch scoring saw is the snapshot.
    """
    unpacked = sql.SQL("").join(
        sql.SQL(", {} as {}").format(_logged(feature), sql.Identifier(feature.name))
        for feature in model.feature_view.features
    )

    def rows(hours: Sequence[datetime]) -> sql.Composed:
        return sql.SQL(
            "select distinct on (_at, _key) _hour as _at, log.entity_id as _key, log.prediction as _prediction"
            "{unpacked} from monitoring.inference_log as log, unnest({hours}) as wanted (_hour)"
            " where log.logged_at > _hour - interval '1 hour' and log.logged_at <= _hour"
            " and log.model_name = {model} and log.model_version = {champion} and log.kind = 'online'"
            " order by _at, _key, log.logged_at"
        ).format(
            unpacked=unpacked,
            hours=_instants(hours),
            model=sql.Literal(model.name),
            champion=sql.Literal(champion),
        )

    return Source("inference_log", _definition(champion, model), rows, model.monitoring.segments)


def _logged(feature: Feature) -> sql.Composed:
    """A feature out of a request's JSON. What should be a number and is none becomes NaN, which breaks the contract; it
    must not break the reading of the others."""
    value = sql.SQL("log.features -> {}").format(sql.Literal(feature.name))
    if not _is_number(feature.data_type.lower()):
        return sql.SQL("(log.features ->> {})::{}").format(sql.Literal(feature.name), sql.SQL(feature.data_type))
    return sql.SQL(
        "case coalesce(jsonb_typeof({value}), 'null') when 'null' then null when 'number' then"
        " case when abs(({value})::numeric) <= {largest} then ({value})::numeric::double precision"
        " else 'Infinity'::double precision end else 'NaN'::double precision end"
    ).format(value=value, largest=sql.Literal(LARGEST))


def label_source(model: Model) -> Source:
    """Labels in the hour in which they matured."""
    names = sql.SQL(", ").join(map(sql.Identifier, dict.fromkeys((model.label, *model.feature_names))))

    def rows(hours: Sequence[datetime]) -> sql.Composed:
        return sql.SQL(
            "select distinct on (_at, _key) {names}, _hour as _at, {key} as _key"
            " from {training_set}, unnest({hours}) as wanted (_hour)"
            " where matured_at > _hour - interval '1 hour' and matured_at <= _hour order by _at, _key, label_at"
        ).format(
            names=names,
            key=_key(model.entity),
            training_set=sql.Identifier(*model.training_set),
            hours=_instants(hours),
        )

    return Source("labels", _definition("", model), rows, model.monitoring.segments)


def training_source(model: Model, feature_version: str, first_label_at: datetime, last_label_at: datetime) -> Source:
    """The rows a version was trained on, at the instants whose knowledge they hold: all of them, whatever the hours."""

    def rows(hours: Sequence[datetime]) -> sql.Composed:
        return sql.SQL(
            "select *, as_of as _at, {key} as _key from {training_set}"
            " where label_at between {first} and {last} and feature_version = {version}"
        ).format(
            key=_key(model.entity),
            training_set=sql.Identifier(*model.training_set),
            first=sql.Literal(first_label_at),
            last=sql.Literal(last_label_at),
            version=sql.Literal(feature_version),
        )

    return Source("training", feature_version, rows, model.monitoring.segments)


def _key(entity: Sequence[str]) -> sql.Composed:
    """The key as text; of several columns, a JSON array, which no two keys share."""
    columns = sql.SQL(", ").join(map(sql.Identifier, entity))
    return sql.SQL("{}::text" if len(entity) == 1 else "jsonb_build_array({})::text").format(columns)
