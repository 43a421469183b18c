"""A model's page: every version with its fate, one in full, and what became of its predictions."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from features import warehouse
from features.contract import Model
from features.errors import SkewlessError
from features.health.model import Estimate, ModelPage, model_page
from features.health.reading import read

MIDNIGHT = datetime(2026, 6, 30, tzinfo=UTC)
DAY = timedelta(days=1)
INTERVAL = {"estimate": 0.8, "low": 0.75, "high": 0.85}
EVALUATION = {
    "parameters": {"max_leaf_nodes": 8},
    "metrics": {"roc_auc": INTERVAL, "brier": {"estimate": 0.1, "low": None, "high": None}},
    "simple": {"recency_only": INTERVAL},
    "calibration": [{"mean_score": 0.1, "share_true": 0.2, "rows": 7}],
    "calibration_error": 0.1,
    "importance": [{"feature": "session_count", "drop": 0.2, "deviation": 0.01}],
    "slices": [{"name": "frequent", "rows": 3, "metric": {"estimate": None, "low": None, "high": None}}],
}
CHECKS = [{"check": "minimum", "passed": False, "evidence": "too low"}]

pytestmark = pytest.mark.usefixtures("manifest", "empty_warehouse")


def write(table: str, *rows: dict[str, Any]) -> None:
    with warehouse.connect() as connection:
        for row in rows:
            warehouse.insert(connection, table, row)


def trained(number: str, as_of: datetime, **more: Any) -> dict[str, Any]:
    row = {
        "model_name": "churn",
        "model_version": number,
        "as_of": as_of,
        "metrics": '{"roc_auc": 0.8}',
        "train_rows": 10,
        "holdout_rows": 5,
        "extract_id": f"extract of {number}",
        "promoted": True,
        "reason": f"reason of {number}",
        "evaluation": json.dumps(EVALUATION),
        "checks": json.dumps(CHECKS),
    }
    return row | more


def reign(number: str, kind: str = "promotion") -> dict[str, Any]:
    return {
        "model_name": "churn",
        "model_version": number,
        "feature_version": "v1",
        "kind": kind,
        "because": f"{kind} of {number}",
    }


def look(model: Model, version: str | None = None) -> ModelPage:
    with read() as connection:
        return model_page(connection, model, ("churn",), version)


def test_before_the_first_training_there_is_a_page(churn: Model) -> None:
    page = look(churn)
    assert (page.versions, page.chosen, page.reigns, page.cohorts) == ((), None, (), ())
    assert (page.metric, page.minimum, page.owner) == ("roc_auc", 0.6, churn.owner)


def test_versions_come_newest_first_with_their_fate(churn: Model) -> None:
    write("monitoring.model_evaluations", *(trained(str(n), MIDNIGHT + n * DAY) for n in range(1, 5)))
    write("monitoring.champions", reign("1"), reign("2"), reign("4"), reign("2", "rollback"))
    page = look(churn)
    states = [(one.version, one.state) for one in page.versions]
    assert states == [("4", "was champion"), ("3", "refused"), ("2", "champion"), ("1", "was champion")]
    assert page.can_go_back_to == ("1",)
    assert (page.reigns[0].version, page.reigns[0].kind) == ("2", "rollback")
    assert page.chosen is not None
    assert page.chosen.version.version == "2"  # the champion, not the newest


def test_one_version_is_shown_in_full(churn: Model) -> None:
    write("monitoring.model_evaluations", trained("1", MIDNIGHT))
    chosen = look(churn, "1").chosen
    assert chosen is not None
    assert [(one.name, one.value.estimate) for one in chosen.metrics] == [("brier", 0.1), ("roc_auc", 0.8)]
    assert chosen.version.metric == Estimate(0.8, 0.75, 0.85)
    assert chosen.slices[0].value == Estimate(None, None, None)
    assert [(one.check, one.passed, one.evidence) for one in chosen.checks] == [("minimum", False, "too low")]
    assert chosen.parameters == {"max_leaf_nodes": 8}
    assert chosen.extract is None  # it is not on record


def test_its_extract_is_named_with_its_labels(churn: Model) -> None:
    write("monitoring.model_evaluations", trained("1", MIDNIGHT))
    write(
        "training.extracts",
        {
            "extract_id": "extract of 1",
            "training_set": "training.churn_training_set",
            "feature_view": "user_session_features",
            "feature_version": "v1",
            "as_of": MIDNIGHT,
            "columns": "[]",
            "row_count": 15,
            "spine_checksum": "s",
            "row_checksum": "r",
            "spine": b"",
        },
    )
    page = look(churn)
    assert page.versions[0].feature_version == "v1"
    assert page.chosen is not None
    assert page.chosen.extract is not None
    assert (page.chosen.extract.row_count, page.chosen.extract.first_label_at) == (15, None)


def test_the_oldest_evaluations_have_a_number_only(churn: Model) -> None:
    write("monitoring.model_evaluations", trained("1", MIDNIGHT, evaluation=None, checks=None))
    page = look(churn)
    assert page.versions[0].metric == Estimate(0.8, None, None)
    assert page.chosen is not None
    assert (page.chosen.metrics, page.chosen.checks) == ((), ())


def test_a_version_that_never_was_is_refused_with_those_that_were(churn: Model) -> None:
    write("monitoring.model_evaluations", trained("1", MIDNIGHT), trained("2", MIDNIGHT + DAY))
    with pytest.raises(SkewlessError, match="no version '9' among the last 50; it has 2, 1"):
        look(churn, "9")


def cohort(at: datetime, scope: str = "batch", labels: int | None = None, version: str = "1") -> dict[str, Any]:
    row = {"model_name": "churn", "model_version": version, "scope": scope, "cohort": at, "predictions": 10}
    measured = {"labels": labels, "roc_auc": 0.8, "roc_auc_low": 0.7, "roc_auc_high": 0.9} if labels else {}
    return row | {"estimated_roc_auc": 0.81, "confidence": 0.95} | measured


def test_of_each_day_the_newest_cohort_with_labels_is_shown(churn: Model) -> None:
    hours = [MIDNIGHT + timedelta(hours=hour) for hour in (1, 2, 3)]
    write("monitoring.model_performance", cohort(hours[0], labels=5), cohort(hours[1], labels=6), cohort(hours[2]))
    write("monitoring.model_performance", cohort(MIDNIGHT + DAY), cohort(MIDNIGHT + DAY + timedelta(hours=1)))
    write("monitoring.model_performance", cohort(hours[2], "online", 3), cohort(hours[2], "since_training", 99))
    found = [(one.cohort, one.scope, one.labels) for one in look(churn).cohorts]
    assert found == [
        (hours[2], "online", 3),
        (hours[1], "batch", 6),
        (MIDNIGHT + DAY + timedelta(hours=1), "batch", None),
    ]


def test_expected_and_turned_out_stand_side_by_side(churn: Model) -> None:
    write("monitoring.model_performance", cohort(MIDNIGHT, labels=5))
    one = look(churn).cohorts[0]
    assert (one.expected.estimate, one.expected.low) == (0.81, None)
    assert one.turned_out == Estimate(0.8, 0.7, 0.9)
