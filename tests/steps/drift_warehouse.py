"""A warehouse for drift watching: tables in place of dbt's, so that each test writes the very distribution it is about.

`train` makes a champion's baselines, `serve` publishes an hour, `watch` looks at all there is to look at.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from psycopg import sql
from scipy import stats

from features import warehouse
from features.contract import Feature, Model, MonitoringSettings
from features.steps.baseline import write_baselines
from features.steps.watch import plan, watch_feature
from features.training.data import Split
from tests.databases import execute, migrated, using

# A Tuesday at noon.
AS_OF = datetime(2013, 7, 2, 12, tzinfo=UTC)
TRAINED = datetime(2013, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
USERS = 2000
FEATURES = (
    "session_count",
    "avg_session_duration_minutes",
    "days_since_last_session",
    "sessions_last_7_days",
    "sessions_last_30_days",
)
TYPES = ("bigint", "double precision", "bigint", "bigint", "bigint")
Columns = Mapping[str, npt.ArrayLike]

TABLES = (
    "sketch_grids",
    "sketches",
    "sketched_hours",
    "feature_baselines",
    "baseline_slots",
    "drift_reports",
    "drift_incidents",
)
WRITTEN_AT = {"reported_at", "created_at", "made_at"}

VIEW = f"""
create table features.user_session_features (
    user_id text not null,
    as_of timestamptz not null,
    {", ".join(f"{name} {kind}" for name, kind in zip(FEATURES, TYPES, strict=True))},
    country text,
    feature_version text not null,
    primary key (as_of, feature_version, user_id)
)
"""
TRAINING_SET = """
create table training.churn_training_set (
    like features.user_session_features,
    label_at timestamptz not null,
    matured_at timestamptz not null,
    churned boolean not null
)
"""
DEFINED = """
insert into features.feature_versions (feature_view, feature_version, definition)
values ('user_session_features', 'v1', 'select')
"""


@contextmanager
def empty_tables() -> Iterator[str]:
    """A migrated warehouse with those tables, for the tests of a file."""
    with migrated("skewless_drifting") as name, using(name):
        start_over()
        yield name


def start_over() -> None:
    """Empties the warehouse, and gives the tables in place of dbt's their first shape: faster than another database."""
    tables = ", ".join(f"monitoring.{table}" for table in (*TABLES, "inference_log", "model_baselines"))
    execute(
        f"truncate {tables}, serving.publications, serving.predictions, features.feature_versions restart identity;"
        " drop table if exists features.user_session_features, training.churn_training_set;"
        f" {VIEW}; {TRAINING_SET}; {DEFINED}"
    )


def spread(quantile_function: Any, n: int, seed: int) -> npt.NDArray[np.float64]:
    """The sample of n values that is closest to a distribution, in random order."""
    values = np.asarray(quantile_function((np.arange(n) + 0.5) / n), dtype=float)
    return np.random.default_rng(seed).permutation(values)


def healthy(n: int = USERS) -> dict[str, npt.NDArray[Any]]:
    """Features of n users when all is well: counts of many and of few values, a normal one, days, a country."""
    return {
        "session_count": spread(stats.lognorm(1, scale=100).ppf, n, 1).round(),
        "avg_session_duration_minutes": spread(stats.norm(30, 5).ppf, n, 2),
        "days_since_last_session": spread(stats.uniform(0, 60).ppf, n, 3) // 1,
        "sessions_last_7_days": spread(stats.poisson(3).ppf, n, 4),
        "sessions_last_30_days": spread(stats.poisson(12).ppf, n, 5),
        # ISO's numeric codes: text that an estimator can take.
        "country": np.random.default_rng(6).permutation(np.resize(["276", "250", "840", "554"], n)),
    }


def changed(**columns: npt.ArrayLike) -> dict[str, npt.ArrayLike]:
    """Healthy features but for some."""
    return healthy() | columns


def users(n: int, first: int = 0) -> list[str]:
    """Their keys."""
    return [f"u{number:05}" for number in range(first, first + n)]


def serve(at: datetime, columns: Columns, keys: Sequence[str] | None = None, *, version: str = "v1") -> None:
    """Writes the feature rows of an instant and publishes it."""
    keys = users(len(np.asarray(next(iter(columns.values()))))) if keys is None else keys
    rows = pd.DataFrame({"user_id": keys, "as_of": at, **columns, "feature_version": version})
    copy_in("features.user_session_features", rows)
    publish(version, at)


def serve_again(hours: Sequence[datetime], at: datetime = AS_OF) -> None:
    """Serves the rows of an instant at others, too, as if nothing had happened between."""
    names = ", ".join((*FEATURES, "country", "feature_version"))
    execute(
        f"insert into features.user_session_features (user_id, as_of, {names}) select user_id, hour, {names}"
        " from features.user_session_features cross join unnest(%s::timestamptz[]) as hour where as_of = %s",
        list(hours),
        at,
    )
    publish("v1", *hours)


def publish(version: str, *instants: datetime) -> None:
    """Enters instants into the ledger as published and retired."""
    execute(
        "insert into serving.publications (feature_view, as_of, feature_version, row_count, retired_at)"
        " select 'user_session_features', hour, %s, 1, now() from unnest(%s::timestamptz[]) as hour",
        version,
        list(instants),
    )


def hours_before(count: int, at: datetime = AS_OF) -> list[datetime]:
    """The hours before an instant."""
    return [at - back * HOUR for back in range(count, 0, -1)]


def copy_in(table: str, rows: pd.DataFrame) -> None:
    """Appends rows to a table; None and NaT become NULL, NaN stays NaN."""
    names = sql.SQL(", ").join(map(sql.Identifier, rows.columns))
    statement = sql.SQL("copy {} ({}) from stdin").format(sql.SQL(table), names)
    whole = {name for name, kind in zip(FEATURES, TYPES, strict=True) if kind == "bigint"}
    columns = [_whole(rows[name]) if name in whole else rows[name].tolist() for name in rows.columns]
    with warehouse.connect() as connection, connection.cursor().copy(statement) as copy:
        for row in zip(*columns, strict=True):
            copy.write_row(row)


def _whole(values: "pd.Series[Any]") -> list[int | None]:
    return [None if value is None or value != value else int(value) for value in values.tolist()]


class ScoresItself:
    """An estimator whose score is a feature's rank among the healthy."""

    classes_ = (False, True)

    def predict_proba(self, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
        score = self.score(rows["avg_session_duration_minutes"].to_numpy())
        return np.column_stack([1 - score, score])

    @staticmethod
    def score(minutes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return np.asarray(stats.norm(30, 5).cdf(np.nan_to_num(np.asarray(minutes, dtype=float))))


def train(model: Model, number: str = "1", columns: Columns | None = None, churned: float = 0.2) -> None:
    """Training rows as the label's, and the baselines of a version that was trained on them and is judged by them."""
    columns = columns or healthy()
    n = len(np.asarray(next(iter(columns.values()))))
    times = {"as_of": TRAINED, "label_at": TRAINED, "matured_at": TRAINED + timedelta(days=15)}
    labels = np.arange(n) < churned * n
    rows = pd.DataFrame({"user_id": users(n), **times, **columns, "feature_version": "v1", "churned": labels})
    execute("delete from training.churn_training_set where label_at = %s", TRAINED)
    copy_in("training.churn_training_set", rows)
    with warehouse.connect() as connection:
        write_baselines(connection, model, number, Split(rows, rows), "v1", ScoresItself())


def log_requests(
    at: datetime,
    columns: Mapping[str, Sequence[Any]],
    keys: Sequence[str] | None = None,
    *,
    number: str = "1",
    predictions: Sequence[float] | None = None,
) -> None:
    """Enters requests into the inference log, all at one instant, a row of the columns each."""
    requests = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    keys = keys or users(len(requests))
    scores = predictions or [0.5] * len(requests)
    entered = [
        (str(uuid4()), "churn", number, key, at, json.dumps(request), score, at)
        for key, request, score in zip(keys, requests, scores, strict=True)
    ]
    statement = (
        "copy monitoring.inference_log (request_id, model_name, model_version, entity_id, as_of, features, prediction,"
        " logged_at) from stdin"
    )
    with warehouse.connect() as connection, connection.cursor().copy(statement) as copy:
        for row in entered:
            copy.write_row(row)


def predict(at: datetime, scores: npt.ArrayLike, number: str = "1") -> None:
    """Stores scores of a snapshot."""
    values = np.asarray(scores, dtype=float)
    rows = pd.DataFrame({"model_name": "churn", "model_version": number, "entity_id": users(len(values))})
    copy_in("serving.predictions", rows.assign(as_of=at, score=values))


def mature(at: datetime, churned: npt.ArrayLike) -> None:
    """Labels whose outcome is known at an instant."""
    outcome = np.asarray(churned, dtype=bool)
    times = {"as_of": at - timedelta(days=15), "label_at": at - timedelta(days=15), "matured_at": at}
    rows = pd.DataFrame({"user_id": users(len(outcome)), **times, "feature_version": "v1", "churned": outcome})
    copy_in("training.churn_training_set", rows)


def by_default(model: Model) -> Model:
    """The model as if its YAML said nothing of drift."""
    view = model.feature_view
    features = tuple(
        Feature(name=name, description="", data_type=kind) for name, kind in zip(FEATURES, TYPES, strict=True)
    )
    view = view.model_copy(update={"features": features})
    return model.model_copy(update={"feature_view": view, "monitoring": MonitoringSettings()})


def with_feature(model: Model, name: str, **changes: Any) -> Model:
    """The model with a feature declared otherwise; one that it has not is added, as text."""
    view = model.feature_view
    known = {feature.name: feature for feature in view.features}
    known.setdefault(name, Feature(name=name, description="", data_type="text"))
    known[name] = known[name].model_copy(update=changes)
    return model.model_copy(update={"feature_view": view.model_copy(update={"features": tuple(known.values())})})


def without_feature(model: Model, name: str) -> Model:
    """The model whose contract has dropped a feature."""
    view = model.feature_view
    left = tuple(feature for feature in view.features if feature.name != name)
    return model.model_copy(update={"feature_view": view.model_copy(update={"features": left})})


def monitored(model: Model, **changes: Any) -> Model:
    """The model, watched otherwise."""
    return model.model_copy(update={"monitoring": model.monitoring.model_copy(update=changes)})


def become_champion(patch: pytest.MonkeyPatch, number: str | None) -> None:
    """Makes a version the champion of every model, or none."""
    found = SimpleNamespace(number=number, feature_version="v1") if number else None
    patch.setattr("features.tracking.champion", lambda model: found)


def watch(model: Model, as_of: datetime = AS_OF, *names: str) -> dict[str, dict[str, Any]]:
    """What watching finds, by feature: of all that is planned, or of some."""
    planned = plan(model, as_of)
    return {name: watch_feature(model, name, planned, as_of) for name in names or planned["features"]}


def reports(feature: str | None = None, **wanted: Any) -> list[dict[str, Any]]:
    """Rows of monitoring.drift_reports, of one feature or all, narrowed to the values wanted."""
    with warehouse.connect() as connection:
        found = connection.execute(
            "select * from monitoring.drift_reports where %s::text is null or feature = %s"
            " order by as_of, feature, model_version, source, segment, window_hours, baseline desc",
            [feature, feature],
        ).fetchall()
    return [row for row in found if all(row[name] == value for name, value in wanted.items())]


def report(feature: str, **wanted: Any) -> dict[str, Any]:
    """The one report of a feature that has the values wanted; by default of the newest hour's snapshot, everybody."""
    wanted = {"window_hours": 1, "source": "snapshot", "segment": "all", "baseline": "training"} | wanted
    (row,) = reports(feature, **wanted)
    return row


def everything() -> dict[str, list[str]]:
    """All that the monitor remembers, less when it wrote it down and in which order it added up fractions."""
    with warehouse.connect() as connection:
        return {
            table: sorted(
                repr({name: _rounded(value) for name, value in row.items() if name not in WRITTEN_AT})
                for row in connection.execute(f"select * from monitoring.{table}")
            )
            for table in TABLES
        }


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return f"{value:.6g}" if isinstance(value, float) and abs(value) > 1e-9 else value
