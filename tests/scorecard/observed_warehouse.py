"""A warehouse that sources of evidence look at, written row by row, and evidence as they would give it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from features import warehouse
from features.contract import Model
from features.scorecard.collect import Source
from features.scorecard.score import Evidence, How
from features.scorecard.subject import Observation, subject

NOON = datetime(2013, 7, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
VIEW = "user_session_features"

CHECKS = {
    "stable": "All its scores are probabilities.",
    "minimum": "Its roc_auc 0.8200 (0.8000 to 0.8400) on 9,000 rows reaches the minimum 0.6.",
    "champion": "There is no other champion.",
    "slice": "frequent: roc_auc 0.7300 on 900 rows reaches the minimum 0.5.",
    "simpler_model": "Against logistic regression: +0.0200 (+0.0100 to +0.0300); it is better.",
    "canary": "On the 3,000 rows of the last snapshot its mean score is 0.100 beside its holdout's 0.110.",
}


def seen(
    at: datetime = NOON,
    *,
    test: str = "data_1",
    how: How = How.AUTOMATED,
    passed: bool = True,
    until: datetime = NOON + 24 * HOUR,
    number: int = 0,
) -> Evidence:
    """Evidence of a test, automated and passed unless it says otherwise."""
    return Evidence(test, how, passed, "7 of 7.", at, until, number)


@dataclass
class ObservedWarehouse:
    """A warehouse to fill, and a model to ask about."""

    connection: warehouse.Connection
    model: Model

    def ask(self, source: Source, at: datetime = NOON, model: Model | None = None) -> Observation | None:
        """What a source sees at an instant."""
        return source(subject(self.connection, model or self.model, at))

    def put(self, table: str, **row: Any) -> None:
        """A row; documents as JSON."""
        values = {
            name: warehouse.json_text(value) if isinstance(value, dict | list) and name not in ARRAYS else value
            for name, value in row.items()
        }
        warehouse.insert(self.connection, table, values)

    def ran(
        self,
        name: str = "a_test",
        *,
        kind: str = "test",
        of: str = VIEW,
        status: str | None = None,
        column: str | None = None,
        seconds: float = 1.0,
        at: datetime | None = NOON,
        run: str | None = None,
    ) -> None:
        """A node of a dbt run."""
        self.put(
            "monitoring.dbt_results",
            dbt_invocation_id=run or f"run of {at}",
            unique_id=f"{kind}.skewless.{name}",
            resource_type=kind,
            name=name,
            dbt_model=of,
            column_name=column,
            status=status or ("success" if kind == "model" else "pass"),
            failures=None,
            seconds=seconds,
            as_of=at,
        )

    def train(
        self,
        version: str = "1",
        *,
        at: datetime = NOON - 10 * DAY,
        failed: str | None = None,
        without: str | None = None,
        promoted: bool = True,
        **evaluation: Any,
    ) -> None:
        """A version that was trained, judged and, if it was promoted, made champion."""
        checks = [
            {"check": name, "passed": name != failed, "evidence": evidence}
            for name, evidence in CHECKS.items()
            if name != without
        ]
        self.put(
            "monitoring.model_evaluations",
            model_name="churn",
            model_version=version,
            as_of=at,
            metrics={"roc_auc": 0.82},
            evaluation=document(self.model) | evaluation,
            checks=checks,
            train_rows=1,
            holdout_rows=1,
            extract_id=f"extract {version}",
            promoted=promoted,
            reason="good",
        )
        if promoted:
            self.crown(version)

    def crown(self, version: str, kind: str = "promotion", since: datetime = NOON) -> None:
        """Makes a version champion."""
        self.put(
            "monitoring.champions",
            model_name="churn",
            model_version=version,
            feature_version="v1",
            kind=kind,
            because="it was better",
            since=since,
        )

    def decide(self, fired: bool | None, *, champion: str = "1", at: datetime = NOON) -> None:
        """A decision of the policy that judged performance so."""
        finding = {"trigger": "performance", "fired": fired, "evidence": "Performance: 0.80, not below 0.78."}
        self.put(
            "monitoring.retraining_decisions",
            model_name="churn",
            as_of=at,
            outcome="hold",
            should_retrain=False,
            priority="none",
            reason="No trigger fired.",
            triggers=[{"trigger": "no_model", "fired": False, "evidence": ""}, finding],
            blocked_by=[],
            champion_version=champion,
            dag_run_id="run",
        )

    def report(self, feature: str, status: str = "ok", *, at: datetime = NOON, decided_by: str = "shape") -> None:
        """A drift report."""
        self.put(
            "monitoring.drift_reports",
            model_name="churn",
            model_version="1",
            feature=feature,
            as_of=at,
            status=status,
            n=100,
            drift_detected=status in {"warning", "critical"},
            decided_by=decided_by,
            detail="",
        )

    def audit(
        self, mismatches: int = 0, *, source: str = "publication", at: datetime = NOON, rows: int = 100, number: int = 1
    ) -> None:
        """What the parity gate, or the look at requests, has found of a feature."""
        self.put(
            "monitoring.parity_audits",
            publication_id=number,
            feature="session_count",
            feature_view=VIEW,
            as_of=at,
            feature_version="v1",
            rows_compared=rows,
            mismatches=mismatches,
            example_keys=[],
            source=source,
            model_name="churn" if source == "inference_log" else "",
        )

    def request(self, number: int, features: dict[str, float], at: datetime = NOON) -> None:
        """A logged request."""
        self.put(
            "monitoring.inference_log",
            request_id=str(number),
            model_name="churn",
            model_version="1",
            entity_id="u1",
            as_of=at,
            features=features,
            prediction=0.5,
            logged_at=at,
        )

    def answer(self, milliseconds: float, at: datetime, kind: str = "online") -> None:
        """How long an hour's predictions took."""
        self.put(
            "monitoring.inference_hours",
            model_name="churn",
            model_version="1",
            kind=kind,
            hour=at,
            logged=10,
            requests=10.0,
            score_quantiles={},
            confidence_quantiles={},
            latency_quantiles_ms={"0.5": milliseconds / 2, "0.95": milliseconds},
            missing={},
        )

    def count(
        self, feature: str, *, not_finite: int = 0, cells: tuple[int, ...] = (40, 60), at: datetime = NOON
    ) -> None:
        """An hour of a feature in counts."""
        row = self.connection.execute(
            "insert into monitoring.sketch_grids (model_name, feature, kind, edges, categories)"
            " values ('churn', %s, 'numeric', '{0}', '{}') returning grid_id",
            [feature],
        ).fetchone()
        assert row is not None
        self.put(
            "monitoring.sketches",
            grid_id=row["grid_id"],
            source="snapshot",
            segment="all",
            version="v1",
            as_of=at,
            counts=list(cells),
            sums=[0.0] * len(cells),
            squares=0.0,
            missing=0,
            not_finite=not_finite,
            invalid=0,
        )

    def cohort(self, low: float, high: float, at: datetime, *, labels: int = 1000, matured: datetime = NOON) -> None:
        """How good served predictions turned out to be."""
        self.put(
            "monitoring.model_performance",
            model_name="churn",
            model_version="1",
            scope="batch",
            cohort=at,
            predictions=labels,
            labels=labels,
            matured_at=matured,
            roc_auc=(low + high) / 2,
            roc_auc_low=low,
            roc_auc_high=high,
            confidence=0.95,
        )

    def backtest(self, at: datetime, *, max_age: int = 40, measured: int = 90) -> None:
        """A decay backtest."""
        self.put(
            "monitoring.decay_backtests",
            model_name="churn",
            as_of=at,
            max_age_days=max_age,
            max_age_low_days=max_age,
            max_age_high_days=max_age,
            measured_days=measured,
            method="costs",
            reason="",
            fresh_loss=0.3,
            slope_per_day=0.0001,
            slope_low=0.00005,
            slope_high=0.0002,
            trainings=20,
            label_rows=1000,
            feature_version="v1",
            plot_svg="",
        )

    def self_test(self, feature: str, *, is_blind: bool = False, at: datetime = NOON - HOUR) -> None:
        """A shift that was put into a feature."""
        self.put(
            "monitoring.drift_self_tests",
            model_name="churn",
            feature=feature,
            as_of=at,
            injection="0.25 sigma",
            hours=24,
            alarms=0 if is_blind else 3,
            is_blind=is_blind,
            detail="",
        )


# Columns of PostgreSQL arrays; other lists are documents.
ARRAYS = {"counts", "sums"}


def document(model: Model) -> dict[str, Any]:
    """What features/steps/train.py keeps of a good evaluation."""
    interval = {"estimate": 0.82, "low": 0.80, "high": 0.84}
    return {
        "metric": "roc_auc",
        "metrics": {"roc_auc": interval},
        "importance": [{"feature": name, "drop": 0.05, "deviation": 0.001} for name in model.feature_names],
        "slices": [{"name": "frequent", "rows": 900, "metric": interval}],
        "search": {"candidates": 4, "best_log_loss": 0.30, "declared_log_loss": 0.31},
        "code": {"commit": "0123456789abcdef", "reviewed_by": ["Ada <ada@example.com>"]},
    }
