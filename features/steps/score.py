"""Scoring: the champion scores the population of a snapshot, chunk by chunk."""

import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import pandas as pd

from features import ledger, warehouse
from features.contract import Model
from features.errors import SkewlessError
from features.serving.champion import ServedModel, load_version
from features.serving.inference_log import LoggedInference, entity_text, write_rows
from features.serving.sampling import Sampler
from features.serving.store import FeatureStore
from features.serving.tracker import default_salt
from features.tracking import champion as champion_of

log = logging.getLogger(__name__)

CHUNK_ROWS = 50_000


def score(model: Model, as_of: datetime) -> dict[str, Any]:
    """Writes the champion's scores at as_of, all or none; scoring again changes nothing.

    A share of them goes to the inference log, with what the model saw.

    Returns:
        model_version (None when there is no champion yet), how many entities were scored, how many of them are logged,
        and why nobody could be scored (`refused`, else None): the champion was trained on another definition of the
        features.

    Raises:
        SkewlessError: when the population has no row.
        ModelMismatch: when the champion wants a feature that dbt does not declare.
    """
    champion = champion_of(model)
    if champion is None:
        log.info("%s has no champion yet; nothing is scored. The retraining policy will ask for one.", model.name)
        return {"model_version": None, "scored": 0, "logged": 0, "refused": None}
    with warehouse.connect() as connection:
        version = ledger.current_version(connection, model.feature_view)
    if version != champion.feature_version:
        refused = (
            f"{model.name} v{champion.number} was trained on definition {champion.feature_version} of "
            f"{model.feature_view.name}, which is {version} now. Nobody is scored until {model.name}_retraining, "
            "which follows, has led to a new champion."
        )
        log.warning(refused)
        return {"model_version": champion.number, "scored": 0, "logged": 0, "refused": refused}
    scored, logged = _Scoring(model, load_version(model, champion), as_of).run()
    if not scored:
        raise SkewlessError(
            f"{model.feature_view.name} at {as_of:%Y-%m-%d %H:%M}Z has no row where {model.population}."
        )
    log.info("Scored %s entities with %s v%s.", f"{scored:,}", model.name, champion.number)
    return {"model_version": champion.number, "scored": scored, "logged": logged, "refused": None}


def refuse_unscored(facts: Mapping[str, Any]) -> None:
    """Raises why nobody was scored, once the Dags that follow know of it.

    Raises:
        SkewlessError: as `score` says in `refused`.
    """
    if facts["refused"]:
        raise SkewlessError(facts["refused"])


class _Scoring:
    """A snapshot on its way through a model."""

    def __init__(self, model: Model, served: ServedModel, as_of: datetime) -> None:
        self._model, self._served, self._as_of = model, served, as_of
        self._sampler = Sampler(model.inference.batch_log_share, default_salt(model.name))
        self._logged_names = [feature.name for feature in model.feature_view.features if not feature.pii]

    def run(self) -> tuple[int, int]:
        """Scores everybody. Returns how many were scored, and how many of them are logged."""
        scored = logged = 0
        with (
            FeatureStore.for_model(self._model, self._served.version.feature_version) as store,
            warehouse.connect() as connection,
        ):
            connection.execute("create temporary table fresh_scores (entity_id text, score float8) on commit drop")
            for rows in store.stream_snapshot(self._as_of, where=self._model.population, chunk_rows=CHUNK_ROWS):
                rows["entity_id"] = [entity_text(key) for key in rows[list(self._model.entity)].itertuples(index=False)]
                rows["score"] = self._served.score(rows)
                with connection.cursor().copy("copy fresh_scores from stdin") as copy:
                    for row in rows[["entity_id", "score"]].itertuples(index=False, name=None):
                        copy.write_row(row)
                sampled = list(self._sampled(rows))
                write_rows(connection, sampled)
                logged += len(sampled)
                scored += len(rows)
                log.info("%s rows scored.", f"{scored:,}")
            self._keep(connection)
        return scored, logged

    def _sampled(self, rows: pd.DataFrame) -> Iterator[LoggedInference]:
        """The requests that are logged, had a service asked for each entity."""
        version = self._served.version
        prefix = f"{self._model.name}/{version.number}/{self._as_of.isoformat()}/"
        sampled = rows[[self._sampler.samples(prefix + entity) for entity in rows["entity_id"]]]
        seen = sampled[self._logged_names].itertuples(index=False, name=None)
        for entity, prediction, values in zip(sampled["entity_id"], sampled["score"], seen, strict=True):
            yield LoggedInference(
                request_id=prefix + entity,
                model_name=self._model.name,
                model_version=version.number,
                feature_version=version.feature_version,
                entity_id=entity,
                as_of=self._as_of,
                features=dict(zip(self._logged_names, values, strict=True)),
                prediction=prediction,
                # The hour it belongs to, also when history is replayed.
                logged_at=self._as_of,
                kind="batch",
                inclusion_probability=self._sampler.inclusion_probability,
                served_from="snapshot",
            )

    def _keep(self, connection: warehouse.Connection) -> None:
        connection.execute(
            """
            insert into serving.predictions (model_name, model_version, entity_id, as_of, score)
            select %s, %s, entity_id, %s, score from fresh_scores
            on conflict do nothing
            """,
            [self._model.name, self._served.version.number, self._as_of],
        )
