"""What there is to look at: of each feature the snapshot and the inference log, the scores, the labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from psycopg import sql

from features import ledger, warehouse
from features.contract import DriftSettings, Feature, FeatureView, Model, Valid
from features.drift.baselines import BaselineKey
from features.drift.hours import HOUR, WEEK
from features.drift.sources import (
    LABEL,
    PREDICTION,
    Column,
    Source,
    column_of,
    label_source,
    log_source,
    prediction_source,
    snapshot_source,
)

# Requests and labels may arrive a little late, so their newest hours are counted again.
LATE_HOURS = 3


@dataclass(frozen=True)
class Look:
    """One source of a feature: where its values are, in which hours of the last week."""

    column: Column
    source: Source
    hours: Sequence[datetime]
    settings: DriftSettings

    @property
    def counted_again(self) -> Sequence[datetime]:
        """Hours that are counted even if they were before."""
        return self.hours[-1:] if self.source.name == "snapshot" else self.hours[-LATE_HOURS:]

    def baselines(self, champion: str, segment: str) -> tuple[BaselineKey, BaselineKey]:
        """What the champion learnt from, and the first healthy weeks of this very source."""
        return (
            BaselineKey("training", "training", segment, champion),
            BaselineKey("serving", self.source.name, segment, self.source.version),
        )


class Outlook:
    """Everything there is to look at of a model at as_of.

    Args:
        champion: the version in production, if there is one.
    """

    def __init__(self, connection: warehouse.Connection, model: Model, champion: str | None, as_of: datetime) -> None:
        self._model, self._champion = model, champion
        self._version = ledger.current_version(connection, model.feature_view)
        self._served = _served_hours(connection, model.feature_view, self._version, as_of)
        self._whole = _whole_hours(as_of)
        self.uses_log = champion is not None and _has_log(connection, model, champion, as_of)

    @property
    def declared(self) -> tuple[str, ...]:
        """The features, the scores and the labels that the contract wants watched."""
        monitoring = self._model.monitoring
        names = [feature.name for feature in self._model.feature_view.features if feature.drift.watch]
        names += [PREDICTION] * monitoring.prediction.watch + [LABEL] * monitoring.label.watch
        return tuple(names)

    def sources(self) -> list[Look]:
        """One look of each source, whatever the column; for counting whom their rows belong to."""
        names = (self._model.feature_names[0], PREDICTION, LABEL)
        found = {(look.source.name, look.source.version): look for name in names for look in self.looks(name)}
        return list(found.values())

    def looks(self, name: str) -> list[Look]:
        """Where a feature can be looked at; nowhere when the contract does not declare it."""
        if name == LABEL:
            return self._looks_at_labels()
        if name == PREDICTION:
            return self._looks_at_scores()
        declared = next((feature for feature in self._model.feature_view.features if feature.name == name), None)
        if declared is None:
            return []
        column = column_of(declared)
        looks = [Look(column, snapshot_source(self._model, self._version), self._served, declared.drift)]
        if self.uses_log and self._champion and not declared.pii:
            looks.append(Look(column, log_source(self._model, self._champion), self._whole, declared.drift))
        return looks

    def _looks_at_scores(self) -> list[Look]:
        if not self._champion:
            return []
        settings = self._model.monitoring.prediction
        scored = score_column(sql.Identifier("score"))
        looks = [Look(scored, prediction_source(self._model, self._champion), self._served, settings)]
        if self.uses_log:
            said = score_column(sql.Identifier("_prediction"))
            everybody = replace(log_source(self._model, self._champion), segments={})
            looks.append(Look(said, everybody, self._whole, settings))
        return looks

    def _looks_at_labels(self) -> list[Look]:
        if not self._champion:
            return []
        column = label_column(self._model)
        return [Look(column, label_source(self._model), self._whole, self._model.monitoring.label)]


def score_column(value: sql.Composable) -> Column:
    """A score, as a column that is watched."""
    probability = Valid(minimum=0, maximum=1)
    score = Feature(name=PREDICTION, description="", data_type="double precision", valid=probability)
    return column_of(score, value)


def label_column(model: Model) -> Column:
    """The label, as a column that is watched."""
    return column_of(Feature(name=LABEL, description="", data_type="boolean"), sql.Identifier(model.label))


def not_declared(connection: warehouse.Connection, model: Model, champion: str, as_of: datetime) -> list[str]:
    """Features that the champion was trained on, or that requests of the last hour brought, and that the contract does
    not know."""
    rows = connection.execute(
        "select feature from monitoring.feature_baselines where model_name = %(model)s and kind = 'training'"
        " and version = %(version)s"
        " union select key from monitoring.inference_log cross join lateral jsonb_object_keys(features) as key"
        " where model_name = %(model)s and model_version = %(version)s and kind = 'online' and logged_at > %(from)s"
        " and logged_at <= %(until)s order by 1",
        {"model": model.name, "version": champion, "from": as_of - HOUR, "until": as_of},
    )
    known = {*model.feature_names, PREDICTION, LABEL}
    return [row["feature"] for row in rows if row["feature"] not in known]


def _has_log(connection: warehouse.Connection, model: Model, champion: str, as_of: datetime) -> bool:
    row = connection.execute(
        "select exists (select from monitoring.inference_log where model_name = %s and model_version = %s"
        " and kind = 'online' and logged_at > %s and logged_at <= %s) as found",
        [model.name, champion, as_of - WEEK, as_of],
    ).fetchone()
    return bool(row and row["found"])


def _served_hours(connection: warehouse.Connection, view: FeatureView, version: str, as_of: datetime) -> list[datetime]:
    """The instants of the last week that were served, and as_of."""
    rows = connection.execute(
        "select distinct as_of from serving.publications where feature_view = %s and feature_version = %s"
        " and as_of > %s and as_of <= %s",
        [view.name, version, as_of - WEEK, as_of],
    )
    return sorted({as_of, *(row["as_of"] for row in rows)})


def _whole_hours(as_of: datetime) -> list[datetime]:
    """The last 168 full hours until as_of."""
    last = as_of.replace(minute=0, second=0, microsecond=0)
    return [last - back * HOUR for back in reversed(range(WEEK // HOUR))]
