"""Scoring the pipeline: what the warehouse says at as_of of each test of the ML Test Score."""

import logging
import math
from dataclasses import replace
from datetime import datetime
from typing import Any

from features import warehouse
from features.contract import Model
from features.errors import SkewlessError
from features.extracts import TrainingExtract, reproduce
from features.scorecard import store
from features.scorecard.collect import collect, evidence_of
from features.scorecard.score import Evidence, How, State, score
from features.scorecard.subject import Observation, Reigning, observed, subject
from features.steps.train import split_of
from features.training.data import outcomes
from features.training.estimator import scores
from features.training.evaluation import METRICS
from features.training.fitting import fit
from features.training.resampling import unweighted

log = logging.getLogger(__name__)

REPRODUCIBLE = "infra_1"
# The last digits of a sum depend on how many threads add it up.
TOLERANCE = 1e-9


def score_tests(model: Model, as_of: datetime) -> dict[str, Any]:
    """Writes what is seen at as_of to monitoring.scorecard_evidence, in place of what was seen then before.

    Once for each champion, and again when that has become too long ago, the model is trained a second time on the
    champion's extract; all else is a look.

    Returns:
        the score at as_of, the sums of its sections, and the ids of the tests that passed, failed and expired.
    """
    with warehouse.connect() as connection:
        champion = subject(connection, model, as_of).champion
        known = _trained_again(connection, model, champion, as_of)
    again = _train_again(model, champion, as_of) if champion and known is None else None
    with warehouse.connect() as connection:
        evidence = collect(connection, model, as_of)
        if again:
            evidence.append(evidence_of(again, as_of))
        elif known:
            # Like the gate's checks it is about this champion, who may have come back by a rollback.
            evidence.append(replace(known, seen_at=as_of))
        store.replace_computed(connection, model.name, as_of, evidence)
        found = score(store.read_decisive(connection, model.name, as_of), as_of)
    for each in evidence:
        log.info("%s %s: %s", "passed" if each.passed else "FAILED", each.test, each.text)
    sums = {str(section): points for section, points in found.sections.items()}
    log.info("ML Test Score of %s at %s: %g, the least of %s.", model.name, as_of, found.score, sums)
    return {"score": found.score, "sections": sums} | {
        str(state): [result.test.test for result in found.results if result.state is state]
        for state in (State.PASSED, State.FAILED, State.EXPIRED)
    }


def _trained_again(
    connection: warehouse.Connection, model: Model, champion: Reigning | None, as_of: datetime
) -> Evidence | None:
    """What came of it when the champion was last trained again, while that counts."""
    if champion is None:
        return None
    row = connection.execute(
        "select passed, evidence, seen_at, expires_at from monitoring.scorecard_evidence"
        " where model_name = %s and test = %s and recorded_by is null and seen_at <= %s and expires_at > %s"
        " and starts_with(evidence, %s) order by seen_at desc limit 1",
        [model.name, REPRODUCIBLE, as_of, as_of, _beginning(champion)],
    ).fetchone()
    if row is None:
        return None
    return Evidence(REPRODUCIBLE, How.AUTOMATED, row["passed"], row["evidence"], row["seen_at"], row["expires_at"])


def _beginning(champion: Reigning) -> str:
    return f"v{champion.version} of {champion.trained_as_of:%Y-%m-%d %H:%M}Z, "


def _train_again(model: Model, champion: Reigning, as_of: datetime) -> Observation | None:
    """Rebuilds the champion's extract, trains on it, and compares the metrics on the holdout.

    Nothing is said of a champion whose metrics nobody kept, or that knows other features than are declared now.
    """
    then = champion.evaluation.get("metrics")
    if not then:
        return None
    try:
        extract = reproduce(champion.extract_id)
        if not set(model.feature_names) <= set(extract.rows.columns):
            return None
        now = _metrics(model, extract)
    except warehouse.WarehouseUnavailable:
        raise
    except SkewlessError as error:
        return observed(REPRODUCIBLE, False, f"{_beginning(champion)}cannot be trained again: {error}", as_of)
    differ = [
        f"{name} {then[name]['estimate']} then, {now[name]} now"
        for name in METRICS
        if not math.isclose(then[name]["estimate"], now[name], rel_tol=TOLERANCE)
    ]
    text = (
        f"{_beginning(champion)}trained again on the {len(extract.rows):,} rows of its extract {champion.extract_id}: "
    )
    text += f"{'; '.join(differ)}." if differ else f"the same {len(METRICS)} metrics, log loss {now['log_loss']:.6f}."
    return observed(REPRODUCIBLE, not differ, text, as_of)


def _metrics(model: Model, extract: TrainingExtract) -> dict[str, float]:
    split = split_of(model, extract)
    fitted = fit(split, model.feature_names, model.label, model.label_horizon, model.training)
    truth = outcomes(split.holdout, model.label)
    said = scores(fitted.estimator, split.holdout, model.feature_names)
    return {name: unweighted(name, truth, said) for name in METRICS}
