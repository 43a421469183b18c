"""The part of the synthetic history that is about models: decisions, evaluations, champions, performance, decay."""

import zlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from features import warehouse
from features.contract import Model
from features.training.evaluation import METRICS, CalibrationBin, Evaluation, Importance, Slice
from features.training.gate import Checked, GateCheck
from features.training.resampling import Interval
from tests.plugins.episodes import DAY, OLD_DEFINITION, Span
from tests.plugins.retraining_timeline import (
    LABELS_PER_WEEK,
    MATURES_AFTER,
    RetrainingTimeline,
    Training,
    matured_between,
    metric_at,
)
from tests.plugins.rows import copy_rows

HOLDOUT_ROWS = 13_844
SIMPLE = "regression_on_days_since_last_session"


def write(
    connection: warehouse.Connection,
    model: Model,
    span: Span,
    timeline: RetrainingTimeline,
    backtests: Sequence[datetime],
) -> None:
    """Writes what a timeline says of a model, and how good it was."""
    _write_decisions(connection, model, timeline)
    _write_trainings(connection, model, timeline)
    _write_reigns(connection, model, timeline)
    _write_since_training(connection, model, span, timeline)
    _write_decay(connection, model, backtests)
    parameters = {"model": model.name, "end": span.end, "features": list(model.feature_names)}
    parameters |= {"start": span.start, "labels": LABELS_PER_WEEK, "matures_after": MATURES_AFTER}
    for statement in HOURLY.split(";"):
        connection.execute(statement, parameters)


def _write_decisions(connection: warehouse.Connection, model: Model, timeline: RetrainingTimeline) -> None:
    copy_rows(
        connection,
        "monitoring.retraining_decisions",
        (
            {
                "model_name": model.name,
                "as_of": decision.as_of,
                "outcome": decision.outcome,
                "should_retrain": decision.should_retrain,
                "trigger": decision.trigger,
                "priority": decision.priority.name.lower(),
                "reason": decision.reason,
                "triggers": warehouse.json_text([asdict(finding) for finding in decision.triggers]),
                "blocked_by": warehouse.json_text([asdict(block) for block in decision.blocked_by]),
                "champion_version": champion,
                "feature_version": definition,
                "dag_run_id": f"asset_triggered__{decision.as_of:%Y-%m-%dT%H:%M:%S+00:00}_k3J9x",
                "decided_at": decision.as_of + timedelta(minutes=6),
            }
            for decision, champion, definition in timeline.decisions
        ),
    )


def _write_trainings(connection: warehouse.Connection, model: Model, timeline: RetrainingTimeline) -> None:
    for number, training in enumerate(timeline.trainings):
        row = {
            "extract_id": f"{0x6A706A72CC918EF0 + number:016x}",
            "training_set": ".".join(model.training_set),
            "feature_view": model.feature_view.name,
            "feature_version": training.feature_version,
            "as_of": training.as_of,
            "knowledge_watermark": training.as_of,
            "columns": warehouse.json_text(_columns(model)),
            "row_count": _rows(number) + HOLDOUT_ROWS,
            "spine_checksum": "1232178743292104372820:969459395124695052329",
            "row_checksum": f"2631618753614271213450:{801134205497480913141 + number}",
            "spine": zlib.compress(b""),
            "created_at": training.as_of + timedelta(minutes=10),
        }
        warehouse.insert(connection, "training.extracts", row)
        warehouse.insert(connection, "monitoring.model_evaluations", _evaluated(model, training, number))
        if training.promoted:
            warehouse.insert(connection, "monitoring.model_baselines", _trained_on(model, training, number))


def _rows(number: int) -> int:
    return 52_000 + LABELS_PER_WEEK * number


def _columns(model: Model) -> list[dict[str, str]]:
    columns = [{"name": name, "role": "entity", "type": "text"} for name in model.entity]
    columns += [{"name": name, "role": "time", "type": "timestamp with time zone"} for name in ("label_at", "as_of")]
    columns += [{"name": model.label, "role": "label", "type": "boolean"}]
    return columns + [
        {"name": feature.name, "role": "feature", "type": feature.data_type} for feature in model.feature_view.features
    ]


def _trained_on(model: Model, training: Training, number: int) -> dict[str, Any]:
    return {
        "model_name": model.name,
        "model_version": training.version,
        "training_set": ".".join(model.training_set),
        "feature_version": training.feature_version,
        "first_label_at": training.as_of - 110 * DAY,
        "last_label_at": training.as_of - 15 * DAY,
        "row_count": _rows(number),
        "created_at": training.as_of + timedelta(minutes=20),
    }


def _evaluated(model: Model, training: Training, number: int) -> dict[str, Any]:
    evaluation, checks = evaluation_of(model, training), checks_of(training)
    failed = [check for check in checks if not check.passed]
    telling = failed or [check for check in checks if check.check in {GateCheck.MINIMUM, GateCheck.CHAMPION}]
    return {
        "model_name": model.name,
        "model_version": training.version,
        "as_of": training.as_of,
        "metrics": warehouse.json_text({name: found.estimate for name, found in evaluation.metrics.items()}),
        "evaluation": warehouse.json_text(
            {"parameters": {"max_leaf_nodes": 8, "min_samples_leaf": 20}} | asdict(evaluation)
        ),
        "checks": warehouse.json_text([asdict(check) for check in checks]),
        "train_rows": _rows(number),
        "holdout_rows": HOLDOUT_ROWS,
        "extract_id": f"{0x6A706A72CC918EF0 + number:016x}",
        "promoted": training.promoted,
        "reason": " ".join(check.evidence for check in telling),
        "evaluated_at": training.as_of + timedelta(minutes=20),
    }


def _around(estimate: float, half: float = 0.01) -> Interval:
    return Interval(round(estimate, 6), round(estimate - half, 6), round(estimate + half, 6))


def evaluation_of(model: Model, training: Training) -> Evaluation:
    """A version's evaluation, as training writes it; of its slices one is too small to judge."""
    values = (training.metric, 0.61, 0.79, 0.138, 0.43)
    bins = tuple(CalibrationBin(0.05 + place / 10, 0.04 + 0.095 * place, HOLDOUT_ROWS // 10) for place in range(10))
    names = model.feature_names
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    return Evaluation(
        metric="roc_auc",
        rows=HOLDOUT_ROWS,
        metrics=dict(zip(METRICS, map(_around, values), strict=True)),
        calibration=bins,
        calibration_error=0.014,
        importance=tuple(Importance(name, 0.12 / (1 + place), 0.003) for place, name in enumerate(names)),
        slices=(Slice("frequent", 2_140, _around(training.metric - 0.08, 0.05)), Slice("new_entities", 83, nothing)),
        simple={SIMPLE: _around(0.76), "majority": _around(0.5, 0.0)},
    )


def checks_of(training: Training) -> tuple[Checked, ...]:
    """What the gate found of a version."""
    low, high = training.metric - 0.01, training.metric + 0.01
    against = "There is no other champion."
    if training.rival:
        change = 0.0021 if training.promoted else -0.0214
        verdict = "exceeds" if training.promoted else "does not exceed"
        against = (
            f"Against champion v{training.rival} on the same rows: {change:+.4f} ({change - 0.004:+.4f} to "
            f"{change + 0.004:+.4f}); the lower bound {verdict} -0.01."
        )
    frequent = f"frequent: roc_auc {training.metric - 0.08:.4f} on 2,140 rows reaches the minimum 0.5"
    return (
        Checked(GateCheck.STABLE, True, "All its scores are probabilities."),
        Checked(
            GateCheck.MINIMUM,
            True,
            f"Its roc_auc {training.metric:.4f} ({low:.4f} to {high:.4f}) on 13,844 rows reaches the minimum 0.6.",
        ),
        Checked(GateCheck.CHAMPION, training.promoted, against),
        Checked(
            GateCheck.SLICE,
            True,
            f"{frequent}; against the champion +0.0012 (-0.0200 to +0.0230), no fall that matters.",
        ),
        Checked(GateCheck.SLICE, True, "new_entities: 83 rows, too few of both classes to judge."),
        Checked(
            GateCheck.SIMPLER_MODEL,
            True,
            "Against regression on days since last session: +0.0512 (+0.0430 to +0.0600); it is better.",
        ),
        Checked(
            GateCheck.CANARY,
            True,
            "On the 3,876 rows of the last snapshot its mean score is 0.241 beside the champion's 0.238, their ranks "
            "agree by 0.97.",
        ),
    )


def _write_reigns(connection: warehouse.Connection, model: Model, timeline: RetrainingTimeline) -> None:
    for reign in timeline.reigns:
        rolled_back = "It scored worse than the one before on the newest labels."
        promoted = " ".join(
            check.evidence
            for check in checks_of(timeline.training(reign.version))
            if check.check in {GateCheck.MINIMUM, GateCheck.CHAMPION}
        )
        row = {
            "model_name": model.name,
            "model_version": reign.version,
            "feature_version": reign.feature_version,
            "kind": reign.kind,
            "replaced_version": reign.replaced,
            "because": promoted if reign.kind == "promotion" else rolled_back,
            "dag_run_id": None if reign.kind == "promotion" else f"manual__{reign.since:%Y-%m-%dT%H:%M:%S+00:00}",
            "since": reign.since,
        }
        warehouse.insert(connection, "monitoring.champions", row)


def _write_since_training(
    connection: warehouse.Connection, model: Model, span: Span, timeline: RetrainingTimeline
) -> None:
    """One row for each champion and each week in which labels matured while it reigned."""
    ends = [reign.since for reign in timeline.reigns[1:]] + [span.end]
    for reign, until in zip(timeline.reigns, ends, strict=True):
        training = timeline.training(reign.version)
        for week, matured_at in enumerate(matured_between(training.as_of, until), 1):
            values = dict(
                zip(MEASURED, (metric_at(training, matured_at, span), 0.60, 0.80, 0.139, 0.025, 2.9), strict=True)
            )
            row: dict[str, Any] = {
                "model_name": model.name,
                "model_version": reign.version,
                "scope": "since_training",
                "cohort": matured_at - MATURES_AFTER,
                "predictions": 0,
                "labels": LABELS_PER_WEEK * week,
                "matured_at": matured_at,
                "share_true": 0.2496,
                "confidence": 0.95,
                "measured_at": matured_at + timedelta(minutes=5),
            }
            for name, value in values.items():
                row |= {name: value, f"{name}_low": value - 0.012, f"{name}_high": value + 0.012}
            warehouse.insert(connection, "monitoring.model_performance", row, "on conflict do nothing")


MEASURED = ("roc_auc", "average_precision", "accuracy", "brier", "calibration_error", "lift")


def _write_decay(connection: warehouse.Connection, model: Model, backtests: Sequence[datetime]) -> None:
    for as_of in backtests:
        row = {
            "model_name": model.name,
            "as_of": as_of,
            "max_age_days": 24,
            "max_age_low_days": 17,
            "max_age_high_days": 36,
            "measured_days": 70,
            "method": "costs",
            "reason": "Retraining every 24 days costs least: 1.67 a day, of which 0.83 are trainings.",
            "fresh_loss": 0.4301,
            "slope_per_day": 0.00035,
            "slope_low": 0.00021,
            "slope_high": 0.00049,
            "trainings": 12,
            "label_rows": 62_280,
            "feature_version": OLD_DEFINITION,
            "plot_svg": '<svg xmlns="http://www.w3.org/2000/svg"><title>Excess loss by age</title></svg>',
            "made_at": as_of + timedelta(minutes=30),
        }
        warehouse.insert(connection, "monitoring.decay_backtests", row)
        for age in range(0, 71, 7):
            excess = 0.00035 * age
            point = {"model_name": model.name, "as_of": as_of, "age_days": age, "excess_loss": excess}
            point |= {"excess_low": excess - 0.003, "excess_high": excess + 0.004, "pairs": 12 - age // 7}
            point |= {"spread_low": excess - 0.01, "spread_high": excess + 0.012, "label_rows": 41_520}
            warehouse.insert(connection, "monitoring.decay_curves", point)


# Batches are estimated each hour and measured where labels fall, once they have matured.
HOURLY = """
insert into monitoring.model_performance (
    model_name, model_version, scope, cohort, predictions, estimated_accuracy, estimated_accuracy_low,
    estimated_accuracy_high, estimated_roc_auc, estimated_roc_auc_low, estimated_roc_auc_high, estimated_brier,
    labels, matured_at, share_true, accuracy, accuracy_low, accuracy_high, roc_auc, roc_auc_low, roc_auc_high,
    average_precision, average_precision_low, average_precision_high, brier, brier_low, brier_high,
    calibration_error, calibration_error_low, calibration_error_high, lift, lift_low, lift_high, confidence, measured_at
)
select %(model)s, version, scope, as_of, case scope when 'batch' then 3840 else 310 end, 0.801 + noise,
    0.792 + noise, 0.81 + noise, 0.818 + noise, 0.805 + noise, 0.831 + noise, 0.139 - noise / 5,
    case when is_known then %(labels)s end, case when is_known then as_of + %(matures_after)s end,
    case when is_known then 0.25 end, case when is_known then 0.8 + noise end,
    case when is_known then 0.786 + noise end,
    case when is_known then 0.812 + noise end, case when is_known then 0.815 + 2 * noise end,
    case when is_known then 0.8 + 2 * noise end, case when is_known then 0.829 + 2 * noise end,
    case when is_known then 0.6 end, case when is_known then 0.566 end, case when is_known then 0.637 end,
    case when is_known then 0.138 end, case when is_known then 0.132 end, case when is_known then 0.145 end,
    case when is_known then 0.025 end, case when is_known then 0.018 end, case when is_known then 0.04 end,
    case when is_known then 2.9 end, case when is_known then 2.67 end, case when is_known then 3.1 end, 0.95,
    as_of + interval '5 minutes'
from hours
inner join reigns on as_of >= since and as_of < until
inner join (values ('batch'), ('online')) as scopes (scope) on scope = 'batch' or as_of > %(end)s - interval '14 days'
cross join lateral (
    select 0.01 * pg_temp.chance(5, extract(epoch from as_of)::bigint) as noise,
        scope = 'batch' and extract(isodow from as_of at time zone 'UTC') = 2
        and extract(hour from as_of at time zone 'UTC') = 0 and as_of + %(matures_after)s <= %(end)s as is_known
) as drawn;

insert into monitoring.inference_hours (
    model_name, model_version, kind, hour, logged, requests, score_mean, score_quantiles, confidence_mean,
    confidence_quantiles, latency_quantiles_ms, missing, summarised_at
)
select %(model)s, version, kind, as_of, 384, case kind when 'batch' then 3840 else 384 end, 0.24 + noise / 20,
    jsonb_build_object('0.05', 0.014, '0.25', 0.052, '0.5', 0.177 + noise / 20, '0.75', 0.356, '0.95', 0.653), 0.797,
    jsonb_build_object('0.05', 0.531, '0.25', 0.665, '0.5', 0.836, '0.75', 0.946, '0.95', 0.986),
    case kind
        when 'batch' then '{"0.5": null, "0.95": null, "0.99": null}'::jsonb
        else jsonb_build_object('0.5', 0.6 + noise / 5, '0.95', 1.4 + noise, '0.99', 3.1 + 4 * noise)
    end,
    missing, as_of + interval '7 minutes'
from hours
inner join reigns on as_of >= since and as_of < until
cross join (values ('batch'), ('online')) as kinds (kind)
cross join (
    select jsonb_object_agg(feature, case when place %% 10 = 3 then 0.002 else 0 end) as missing
    from unnest(%(features)s::text[]) with ordinality as listed (feature, place)
) as counted
cross join lateral (select pg_temp.chance(9, extract(epoch from as_of)::bigint) as noise) as drawn;

insert into monitoring.drift_self_tests (
    model_name, feature, as_of, injection, hours, alarms, found_after_hours, is_blind, detail, tested_at
)
select %(model)s, feature, as_of, injection, 168, alarms, case when alarms > 0 and injection <> 'none' then found end,
    injection <> 'none' and alarms = 0, case
        when injection = 'none' then '0 of 168 clean hours alarm.'
        when alarms = 0 then 'Blind: not found in 168 h.'
        else 'Found after ' || found || ' h.'
    end,
    as_of
from hours
cross join profiles
cross join (values ('none'), ('0.25 sigma'), ('5%% default fill'), ('x60 on 10%%')) as injections (injection)
cross join lateral (select 1 + (place * 7 + length(injection)) %% 24 as found) as drawn
cross join lateral (
    select case
        when injection = 'none' then 0 when place %% 25 = 11 and injection = '0.25 sigma' then 0 else 168 - found
    end as alarms
) as heard
where extract(hour from as_of at time zone 'UTC') = 3 and kind = 'numeric'
"""
