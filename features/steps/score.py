"""Scoring: the champion scores the population of a snapshot."""

import json
import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import pandas as pd

from features import ledger, tracking, warehouse
from features.contract import Model
from features.errors import SkewlessError
from features.steps.read import snapshot
from features.training.estimator import scores as scores_of

log = logging.getLogger(__name__)


def score(model: Model, as_of: datetime) -> dict[str, Any]:
    """Writes the champion's scores at as_of; scoring again changes nothing.

    Returns:
        model_version (None when there is no champion yet), how many entities were scored, and why nobody could be
        (`refused`, else None): the champion was trained on another definition of the features.

    Raises:
        SkewlessError: when the population has no row.
    """
    champion = tracking.champion(model)
    if champion is None:
        log.info("%s has no champion yet; nothing is scored. The retraining policy will ask for one.", model.name)
        return {"model_version": None, "scored": 0, "refused": None}
    with warehouse.connect() as connection:
        version = ledger.current_version(connection, model.feature_view)
        if version != champion.feature_version:
            refused = (
                f"{model.name} v{champion.number} was trained on definition {champion.feature_version} of "
                f"{model.feature_view.name}, which is {version} now. Nobody is scored until {model.name}_retraining, "
                "which follows, has led to a new champion."
            )
            log.warning(refused)
            return {"model_version": champion.number, "scored": 0, "refused": refused}
        rows = snapshot(connection, model, as_of, version, [*model.entity, *model.feature_names])
        if rows.empty:
            raise SkewlessError(
                f"{model.feature_view.name} at {as_of:%Y-%m-%d %H:%M}Z has no row where {model.population}."
            )
        estimator = tracking.load(model, champion.number)
        scores = scores_of(estimator, rows, list(model.feature_names))
        _write(
            connection,
            model,
            champion.number,
            as_of,
            list(zip(_entity_ids(rows[list(model.entity)]), scores.tolist(), strict=True)),
        )
    log.info("Scored %s entities with %s v%s.", f"{len(rows):,}", model.name, champion.number)
    return {"model_version": champion.number, "scored": len(rows), "refused": None}


def refuse_unscored(facts: Mapping[str, Any]) -> None:
    """Raises why nobody was scored, once the Dags that follow know of it.

    Raises:
        SkewlessError: as `score` says in `refused`.
    """
    if facts["refused"]:
        raise SkewlessError(facts["refused"])


def _entity_ids(keys: pd.DataFrame) -> Iterator[str]:
    """The key itself, or a JSON array of its columns, which no two composite keys share."""
    for key in keys.itertuples(index=False, name=None):
        yield str(key[0]) if len(key) == 1 else json.dumps(key, ensure_ascii=False, default=str)


def _write(
    connection: warehouse.Connection, model: Model, number: str, as_of: datetime, scores: list[tuple[str, float]]
) -> None:
    connection.execute("create temporary table fresh_scores (entity_id text, score double precision) on commit drop")
    with connection.cursor().copy("copy fresh_scores from stdin") as copy:
        for row in scores:
            copy.write_row(row)
    connection.execute(
        """
        insert into serving.predictions (model_name, model_version, entity_id, as_of, score)
        select %s, %s, entity_id, %s, score from fresh_scores
        on conflict do nothing
        """,
        [model.name, number, as_of],
    )
