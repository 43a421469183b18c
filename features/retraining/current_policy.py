"""The declared policy in a replay: at each step it is given what production would have known then, and no more."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from features.contract import DriftSettings, RetrainingSettings, Severity
from features.drift import FeatureDriftMonitor
from features.drift.decision import SEVERITIES
from features.retraining.cadence import cadence_known_at
from features.retraining.decision import (
    Cadence,
    Champion,
    DriftFinding,
    DriftFindings,
    Performance,
    PolicyInputs,
    Retraining,
    RetrainingDecision,
)
from features.retraining.losses import LossMatrix
from features.retraining.policy import RetrainingPolicy
from features.training.data import inputs
from features.training.resampling import Entities, metric_interval

# The replay has one definition of the features; what it is called does not matter.
DEFINITION = "replayed"
# As the Dag does, by the day.
DECAY_BACKTESTS_EVERY = timedelta(days=28)


class CurrentPolicy:
    """The policy in production, given at each step what it would have known then.

    It is asked in the order of time, because it remembers its retrainings and since when a drift is open.

    Attributes:
        decisions: one per step so far.
    """

    def __init__(
        self,
        matrix: LossMatrix,
        settings: RetrainingSettings,
        *,
        cadence: Cadence | None,
        false_alarms_per_week: float,
        drift_settings: Mapping[str, DriftSettings],
        replicates: int,
    ) -> None:
        self.decisions: list[RetrainingDecision] = []
        self._matrix = matrix
        self._settings = settings
        self._policy = RetrainingPolicy(settings)
        self._given_cadence = cadence
        self._cadence: Cadence | None = None
        self._false_alarms_per_week = false_alarms_per_week
        self._drift_settings = drift_settings
        self._replicates = replicates
        self._features = [name for name in matrix.recipe.features if drift_settings.get(name, DriftSettings()).watch]
        self._scored_matured_at = matrix.labels["matured_at"].iloc[matrix.rows]
        self._monitors: dict[int, FeatureDriftMonitor] = {}
        self._drifting_since: datetime | None = None
        self._retrainings = [Retraining(matrix.label_times[matrix.cutoffs[0]], DEFINITION)]

    def __call__(self, time: int, champion: int) -> str | None:
        """What called for a retraining at this label time, if it was decided."""
        as_of = self._matrix.label_times[time]
        decision = self._policy.evaluate(self._known(champion, as_of), as_of)
        self.decisions.append(decision)
        if not decision.should_retrain:
            return None
        self._retrainings.append(Retraining(as_of, DEFINITION))
        return str(decision.trigger)

    def _known(self, champion: int, as_of: datetime) -> PolicyInputs:
        """What production would know at as_of; a replay has no incidents, no requests, and a training at once."""
        trained_as_of = self._matrix.label_times[self._matrix.cutoffs[champion]]
        matured_at = self._matrix.labels["matured_at"]
        drift = self._drift(champion, as_of)
        self._remember_since_when(drift)
        return PolicyInputs(
            champion=Champion(
                str(champion + 1), trained_as_of, float(self._matrix.holdout_metrics[champion]), DEFINITION
            ),
            feature_version=DEFINITION,
            drift=drift,
            performance=self._performance(champion, trained_as_of, as_of),
            new_labels=int(((matured_at > trained_as_of) & (matured_at <= as_of)).sum()),
            newest_label=matured_at[matured_at <= as_of].max(),
            labels_since_shift=self._labels_since_shift(as_of),
            retrainings=tuple(self._retrainings),
            cadence=self._cadence_known_at(as_of),
        )

    def _cadence_known_at(self, as_of: datetime) -> Cadence | None:
        """What the last monthly decay backtest would have said, from the labels that had matured by then."""
        if self._settings.max_model_age != "auto" or self._given_cadence:
            return self._given_cadence
        if self._cadence is None or as_of - self._cadence.as_of >= DECAY_BACKTESTS_EVERY:
            self._cadence = cadence_known_at(self._matrix, as_of, self._settings) or self._cadence
        return self._cadence

    def _performance(self, champion: int, trained_as_of: datetime, as_of: datetime) -> Performance:
        """On the scored rows; where only a part of the entities is scored, they are as many fewer."""
        matured_at = self._scored_matured_at
        rows = np.flatnonzero((matured_at > trained_as_of) & (matured_at <= as_of))
        if len(rows) < self._settings.min_recent_labels:
            return Performance(np.nan, np.nan, np.nan, len(rows))
        recipe = self._matrix.recipe
        found = metric_interval(
            recipe.metric,
            self._matrix.truth[rows],
            self._matrix.scores[champion, rows].astype(np.float64),
            Entities(
                pd.DataFrame({"entity": self._matrix.entities[rows]}),
                replicates=self._replicates,
                seed=recipe.settings.seed,
            ),
            self._settings.confidence,
        )
        return Performance(found.estimate, found.low, found.high, len(rows))

    def _drift(self, champion: int, as_of: datetime) -> DriftFindings:
        """Of the rows at as_of, all of them: what is watched is what is served, whoever is scored here."""
        if not self._features:
            return DriftFindings(as_of, ())
        labels = self._matrix.labels
        served = inputs(labels[labels["label_at"] == as_of], self._features)
        reports = self._monitor(champion).check_all({name: served[name] for name in self._features}, as_of)
        return DriftFindings(
            as_of,
            [
                DriftFinding(report.subject.feature, str(report.status), SEVERITIES.get(report.status, Severity.NONE))
                for report in reports
            ],
        )

    def _monitor(self, champion: int) -> FeatureDriftMonitor:
        if champion not in self._monitors:
            trained_as_of = self._matrix.label_times[self._matrix.cutoffs[champion]]
            train = inputs(self._matrix.recipe.split(self._matrix.labels, trained_as_of).train, self._features)
            self._monitors = {
                champion: FeatureDriftMonitor(
                    {name: train[name] for name in self._features},
                    self._drift_settings,
                    false_alarms_per_week=self._false_alarms_per_week,
                )
            }
        return self._monitors[champion]

    def _remember_since_when(self, drift: DriftFindings) -> None:
        """A new champion whose baseline still differs does not make an old drift a new one."""
        if not any(finding.severity >= self._settings.drift_severity for finding in drift.findings):
            self._drifting_since = None
        elif self._drifting_since is None:
            self._drifting_since = drift.as_of

    def _labels_since_shift(self, as_of: datetime) -> int | None:
        if self._drifting_since is None:
            return None
        labels = self._matrix.labels
        return int(((labels["label_at"] >= self._drifting_since) & (labels["matured_at"] <= as_of)).sum())
