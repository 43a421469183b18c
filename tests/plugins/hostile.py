"""Rows that want to do harm: whatever a page shows of the warehouse, it shows as text."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from features import warehouse
from features.contract import Model
from features.drift.decision import DriftStatus
from tests.plugins.episodes import END, HOUR
from tests.plugins.manifests import HOSTILE
from tests.plugins.rows import copy_rows

NOT_NUMBERS = (float("nan"), float("inf"), float("-inf"), None)


def fill_hostile(connection: warehouse.Connection, model: Model) -> None:
    """Writes rows of a model in which every text is of HOSTILE, and numbers are none, infinite or missing."""
    for table, rows in (
        ("monitoring.drift_reports", _reports(model)),
        ("monitoring.drift_incidents", _incidents(model)),
        ("monitoring.retraining_decisions", _decisions(model)),
        ("training.extracts", _extracts(model)),
        ("monitoring.model_evaluations", _evaluations(model)),
        ("monitoring.champions", _champions(model)),
        ("monitoring.model_performance", _performance(model)),
        ("monitoring.inference_hours", _inference_hours(model)),
        ("monitoring.drift_self_tests", _self_tests(model)),
        ("monitoring.parity_audits", _audits(model)),
        ("monitoring.decay_backtests", _backtests(model)),
    ):
        copy_rows(connection, table, rows)
    _write_shapes(connection, model)
    connection.execute(
        "update serving.publications set note = %s, feature_version = %s where feature_view = %s",
        [HOSTILE[0], HOSTILE[1], model.feature_view.name],
    )
    connection.execute("update features.feature_versions set definition = %s", [HOSTILE[7]])


def _reports(model: Model) -> Iterator[dict[str, Any]]:
    statuses = list(map(str, DriftStatus))
    for place, text in enumerate(HOSTILE):
        number = NOT_NUMBERS[place % len(NOT_NUMBERS)]
        for hours_ago in range(30):
            yield {
                "model_name": model.name,
                "model_version": HOSTILE[0],
                "feature": text,
                "as_of": END - hours_ago * HOUR,
                "status": statuses[(place + hours_ago) % len(statuses)],
                "n": place,
                "drift_detected": place % 2 == 0,
                "detail": text,
                "reported_at": END,
                "segment": HOSTILE[place % 4],
                "window_hours": 1,
                "baseline": "training" if place % 2 else "serving",
                "source_version": text,
                "kind": HOSTILE[1],
                "decided_by": HOSTILE[2],
                "training_mean": number,
                "serving_mean": number,
                "psi": number,
                "effect": number,
                "effect_low": number,
                "effect_high": number,
                "effect_floor": number,
                "critical_floor": number,
            }


def _incidents(model: Model) -> Iterator[dict[str, Any]]:
    for place, text in enumerate(HOSTILE):
        yield {
            "model_name": model.name,
            "upstream": text,
            "cause": HOSTILE[0],
            "is_data_incident": place % 2 == 0,
            "severity": "critical" if place % 2 else "warning",
            "features": list(HOSTILE),
            "owner": HOSTILE[1],
            "summary": text,
            "findings": [
                {
                    "feature": text,
                    "upstream": text,
                    "owner": text,
                    "severity": 2,
                    "cause": text,
                    "because": text,
                    "sentence": text,
                }
            ],
            "opened_at": END - place * HOUR,
            "last_alarm_at": END,
            "told_at": None,
            "closed_at": END if place > 7 else None,
            "closed_because": text,
            "verdict": None,
            "verdict_note": text,
        }


def _decisions(model: Model) -> Iterator[dict[str, Any]]:
    outcomes = ("retrain", "blocked", "hold", "unknown")
    for place, text in enumerate(HOSTILE):
        yield {
            "model_name": model.name,
            "as_of": END - place * HOUR,
            "should_retrain": place % 4 == 0,
            "trigger": text if place % 2 else None,
            "priority": text,
            "reason": text,
            "triggers": [{"trigger": text, "fired": (None, True, False)[place % 3], "evidence": text}],
            "blocked_by": [{"guard": text, "reason": text}],
            "champion_version": text if place % 2 else None,
            "dag_run_id": text,
            "outcome": outcomes[place % 4],
            "feature_version": text if place % 2 else None,
            "decided_at": END,
        }


def _extracts(model: Model) -> Iterator[dict[str, Any]]:
    yield {
        "extract_id": HOSTILE[0],
        "training_set": HOSTILE[1],
        "feature_view": model.feature_view.name,
        "feature_version": HOSTILE[2],
        "as_of": END,
        "knowledge_watermark": None,
        "columns": [{"name": text, "role": "feature", "type": text} for text in HOSTILE],
        "row_count": 0,
        "spine_checksum": HOSTILE[0],
        "row_checksum": HOSTILE[0],
        "spine": b"",
        "created_at": END,
    }


def _evaluations(model: Model) -> Iterator[dict[str, Any]]:
    for place, text in enumerate(HOSTILE):
        unknown = {"estimate": None, "low": None, "high": None}
        yield {
            "model_name": model.name,
            "model_version": text,
            "as_of": END - place * HOUR,
            "metrics": {"roc_auc": None, HOSTILE[0]: 0.5},
            "train_rows": 0,
            "holdout_rows": 0,
            "extract_id": HOSTILE[0],
            "promoted": place % 2 == 0,
            "reason": text,
            "evaluation": {
                "parameters": {text: text},
                "metric": text,
                "rows": 0,
                "metrics": {text: unknown},
                "calibration": [],
                "calibration_error": None,
                "importance": [{"feature": one, "drop": None, "deviation": None} for one in HOSTILE],
                "slices": [{"name": text, "rows": 0, "metric": unknown}],
                "simple": {text: unknown},
            }
            if place != 3
            else None,  # as of a version of long ago
            "checks": [{"check": text, "passed": False, "evidence": text}] if place != 3 else None,
            "evaluated_at": END,
        }


def _champions(model: Model) -> Iterator[dict[str, Any]]:
    for place, text in enumerate(reversed(HOSTILE)):
        yield {
            "model_name": model.name,
            "model_version": text,
            "feature_version": text,
            "kind": "rollback" if place % 2 else "promotion",
            "replaced_version": text if place else None,
            "because": text,
            "dag_run_id": text,
            "since": END - timedelta(days=40 - place),
        }


def _performance(model: Model) -> Iterator[dict[str, Any]]:
    for place, scope in enumerate(("batch", "online", "since_training")):
        for hours_ago in range(4):
            yield {
                "model_name": model.name,
                "model_version": HOSTILE[0],
                "scope": scope,
                "cohort": END - hours_ago * HOUR,
                "predictions": 0,
                "labels": None if place else 0,
                "matured_at": END,
                "roc_auc": NOT_NUMBERS[hours_ago],
                "roc_auc_low": NOT_NUMBERS[hours_ago],
                "roc_auc_high": NOT_NUMBERS[3 - hours_ago],
                "estimated_roc_auc": NOT_NUMBERS[hours_ago],
                "confidence": 0.95,
                "measured_at": END,
            }


def _inference_hours(model: Model) -> Iterator[dict[str, Any]]:
    for hours_ago, number in enumerate(NOT_NUMBERS):
        yield {
            "model_name": model.name,
            "model_version": HOSTILE[0],
            "kind": HOSTILE[1],
            "hour": END - hours_ago * HOUR,
            "logged": 0,
            "requests": 0.0 if number is None else number,
            "score_mean": number,
            "score_quantiles": {HOSTILE[0]: None},
            "confidence_mean": number,
            "confidence_quantiles": {},
            "latency_quantiles_ms": {"0.5": None},
            "missing": dict.fromkeys(HOSTILE, 1.0),
            "summarised_at": END,
        }


def _self_tests(model: Model) -> Iterator[dict[str, Any]]:
    for text in HOSTILE:
        yield {
            "model_name": model.name,
            "feature": text,
            "as_of": END,
            "injection": HOSTILE[0],
            "hours": 168,
            "alarms": 0,
            "found_after_hours": None,
            "is_blind": True,
            "detail": text,
            "tested_at": END,
        }


def _audits(model: Model) -> Iterator[dict[str, Any]]:
    for place, text in enumerate(HOSTILE):
        yield {
            "publication_id": 10**9,  # one that the gate refused
            "feature": text,
            "feature_view": model.feature_view.name,
            "as_of": END,
            "feature_version": HOSTILE[2],
            "rows_compared": 0,
            "mismatches": place,
            "example_keys": warehouse.json_text([[text, None], [place], []]),
            "cause": text,
            "accepted_because": text,
            "audited_at": END,
            "source": "inference_log" if place % 2 else "publication",
            "model_name": model.name if place % 2 else "",
        }


def _backtests(model: Model) -> Iterator[dict[str, Any]]:
    yield {
        "model_name": model.name,
        "as_of": END,
        "max_age_days": 1,
        "max_age_low_days": 0,
        "max_age_high_days": 2**31 - 1,
        "measured_days": 0,
        "method": HOSTILE[0],
        "reason": HOSTILE[1],
        "fresh_loss": float("nan"),
        "slope_per_day": float("inf"),
        "slope_low": float("-inf"),
        "slope_high": float("nan"),
        "trainings": 0,
        "label_rows": 0,
        "feature_version": HOSTILE[2],
        "plot_svg": HOSTILE[7],
        "made_at": END,
    }


def _write_shapes(connection: warehouse.Connection, model: Model) -> None:
    """A grid whose categories want to do harm, with a baseline and an hour that hold nothing."""
    parameters = {"model": model.name, "feature": HOSTILE[0], "version": HOSTILE[0], "categories": list(HOSTILE)}
    connection.execute(SHAPES, parameters | {"end": END, "empty": [0] * (len(HOSTILE) + 2)})


SHAPES = """
with

grid as (

    insert into monitoring.sketch_grids (model_name, feature, kind, edges, categories, made_at)
    values (%(model)s, %(feature)s, 'categorical', '{}', %(categories)s, %(end)s)
    returning grid_id

),

hour as (

    insert into monitoring.sketches
    select grid_id, 'snapshot', 'all', %(version)s, %(end)s, %(empty)s, %(empty)s, 'NaN', 0, 0, 0 from grid

),

baseline as (

    insert into monitoring.feature_baselines (
        model_name, feature, kind, source, segment, version, grid_id, starts_at, ends_at, wobble, created_at
    )
    select %(model)s, %(feature)s, 'training', 'training', 'all', %(version)s, grid_id, %(end)s, %(end)s, '[]', %(end)s
    from grid
    returning baseline_id

)

insert into monitoring.baseline_slots
select baseline_id, -1, 0, %(empty)s, %(empty)s, 'NaN', 0, 0, 0 from baseline
"""
