"""What a policy would have done, and what that would have cost: replayed over the models of many instants.

At each label time a policy may train, and the model of that instant becomes champion (of the promotion gate only the
minimum is replayed); then whoever is champion scores that label time's rows. The yardstick is the schedule that would
have been cheapest had the future been known (Mahadevan and Mathioudakis, Cost-aware retraining for machine learning,
arXiv 2310.04216): what a policy costs beyond it is its regret.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from features.contract import CostSettings, DriftSettings, RetrainingSettings
from features.errors import SkewlessError
from features.retraining.current_policy import CurrentPolicy
from features.retraining.decision import Cadence, RetrainingDecision
from features.retraining.losses import Floats, LossMatrix, Positions

# What a policy says at a label time, given its position and that of the champion among the models: why it retrains, or
# None. It is asked at every label time after the first with a model, in order.
Policy = Callable[[int, int], str | None]


@dataclass(frozen=True)
class Retrained:
    """A retraining of a replay, and what called for it.

    Attributes:
        promoted: whether its model became champion.
    """

    at: datetime
    trigger: str
    promoted: bool = True


@dataclass(frozen=True)
class Replayed:
    """What a policy would have done.

    Attributes:
        retrainings: apart from the first training, which all policies have in common.
        log_loss: the mean over all rows from the first model on.
        excess: that mean, less the one of the freshest models; negative where fresh models were worse.
        cost: of its retrainings and its excess, which is not clipped at 0; None where costs are not given.
        regret: its cost beyond that of the oracle; where costs are not given, its excess beyond that of `always`.
    """

    policy: str
    retrainings: tuple[Retrained, ...]
    log_loss: float
    excess: float
    cost: float | None
    regret: float


@dataclass(frozen=True)
class Backtest:
    """Policies side by side.

    Attributes:
        started_at: when the first model was trained.
        ended_at: the last label time.
        decisions: of the current policy, one per label time after the first model.
    """

    policies: tuple[Replayed, ...]
    started_at: datetime
    ended_at: datetime
    costs: CostSettings | None
    decisions: tuple[RetrainingDecision, ...]

    def __getitem__(self, policy: str) -> Replayed:
        """By name: current, never, always, periodic; oracle where costs are given."""
        return next(replayed for replayed in self.policies if replayed.policy == policy)


def backtest(
    matrix: LossMatrix,
    settings: RetrainingSettings,
    *,
    cadence: Cadence | None = None,
    period_days: int = 30,
    false_alarms_per_week: float = 0.5,
    drift_settings: Mapping[str, DriftSettings] | None = None,
    minimum: float | None = None,
    replicates: int = 200,
) -> Backtest:
    """The declared policy beside never, always, and every so many days; and, where costs are given, the oracle.

    Args:
        cadence: how old a model may become, all the time; without, what monthly decay backtests would have said from
            the labels of their time, if `max_model_age` is `auto`.
        period_days: of the periodic policy.
        false_alarms_per_week: as the model's monitoring declares, and so are `drift_settings`, by feature.
        minimum: of the metric on the holdout, for a model to be promoted; one that is not costs a training all the
            same. None promotes all. The oracle is free of it, and so never dearer than any policy.
        replicates: of the bootstrap behind each interval of the champion's performance.

    Raises:
        SkewlessError: when there are fewer than two label times from the first model on.
    """
    if not len(matrix.cutoffs) or matrix.cutoffs[0] + 1 >= len(matrix.label_times):
        raise SkewlessError(
            f"A replay needs a model and a label time after it; of {len(matrix.label_times)} label times "
            f"{len(matrix.cutoffs)} have a model. Wait for more labels, or fill in earlier ones."
        )
    current = CurrentPolicy(
        matrix,
        settings,
        cadence=cadence,
        false_alarms_per_week=false_alarms_per_week,
        drift_settings=drift_settings or {},
        replicates=replicates,
    )
    policies: dict[str, Policy] = {
        "current": current,
        "never": never,
        "always": always,
        "periodic": periodic(matrix, period_days),
    }
    ledger = Ledger.of(matrix)
    if settings.costs:
        policies["oracle"] = scheduled(matrix, ledger.cheapest_schedule(settings.costs))
    replayed = [
        _priced(name, *_replay(policy, matrix, None if name == "oracle" else minimum), ledger, settings.costs)
        for name, policy in policies.items()
    ]
    return Backtest(
        policies=_with_regret(replayed),
        started_at=matrix.label_times[matrix.cutoffs[0]],
        ended_at=matrix.label_times[-1],
        costs=settings.costs,
        decisions=tuple(current.decisions),
    )


def _with_regret(replayed: Sequence[Replayed]) -> tuple[Replayed, ...]:
    by_name = {one.policy: one for one in replayed}
    yardstick = by_name.get("oracle", by_name["always"])

    def regret(one: Replayed) -> float:
        if one.cost is None or yardstick.cost is None:
            return one.excess - yardstick.excess
        return one.cost - yardstick.cost

    return tuple(replace(one, regret=regret(one)) for one in replayed)


def _replay(policy: Policy, matrix: LossMatrix, minimum: float | None) -> tuple[list[Retrained], list[int]]:
    """What it retrained, and the champion of each step."""
    champion, retrainings, champions = 0, [], [0]
    model_of = {int(time): model for model, time in enumerate(matrix.cutoffs)}
    for time in range(int(matrix.cutoffs[0]) + 1, len(matrix.label_times)):
        trigger = policy(time, champion)
        # Where training was refused, there is nothing to count, and the champion stays.
        if trigger is not None and time in model_of:
            promoted = minimum is None or bool(matrix.holdout_metrics[model_of[time]] >= minimum)
            retrainings.append(Retrained(matrix.label_times[time], trigger, promoted))
            champion = model_of[time] if promoted else champion
        champions.append(champion)
    return retrainings, champions


def _priced(
    name: str, retrainings: Sequence[Retrained], champions: Sequence[int], ledger: "Ledger", costs: CostSettings | None
) -> Replayed:
    return Replayed(
        policy=name,
        retrainings=tuple(retrainings),
        log_loss=ledger.log_loss(champions),
        excess=ledger.excess(champions),
        cost=None if costs is None else ledger.cost(champions, len(retrainings), costs),
        regret=np.nan,
    )


@dataclass(frozen=True, eq=False)
class Ledger:
    """What each champion loses at each step, a step being a label time from the first model on.

    Attributes:
        losses: (models, steps) mean log loss; NaN before the model was trained, 0 where there are no rows.
        stale: (models, steps) the same, less that of the freshest model there is at the step.
        rows: (steps)
        days: (steps) until the next; the last step gets the median of the others.
        starts: (models) the step at which it can be deployed.
    """

    losses: Floats
    stale: Floats
    rows: Positions
    days: Floats
    starts: Positions

    @classmethod
    def of(cls, matrix: LossMatrix) -> "Ledger":
        """The ledger of a matrix with a model."""
        first = matrix.cutoffs[0]
        rows = matrix.row_counts()[first:]
        # Where a part of the entities is scored, a label time may be left without any: it says nothing.
        losses = np.where(rows > 0, matrix.mean_losses()[:, first:], 0.0)
        starts = matrix.cutoffs - first
        freshest = np.searchsorted(starts, np.arange(losses.shape[1]), side="right") - 1
        days = np.diff(matrix.days[first:])
        return cls(
            losses=losses,
            stale=losses - losses[freshest, np.arange(losses.shape[1])],
            rows=rows,
            days=np.append(days, np.median(days)),
            starts=starts,
        )

    def log_loss(self, champions: Sequence[int]) -> float:
        """The mean over all rows, given the champion of each step."""
        return float(np.average(_chosen(self.losses, champions), weights=self.rows))

    def excess(self, champions: Sequence[int]) -> float:
        """The same, less that of the freshest models."""
        return float(np.average(_chosen(self.stale, champions), weights=self.rows))

    def cost(self, champions: Sequence[int], retrainings: int, costs: CostSettings) -> float:
        """Of so many retrainings, and of all days at the excess of the step before them."""
        return float(
            costs.training * retrainings + costs.loss_per_day * (_chosen(self.stale, champions) * self.days).sum()
        )

    def cheapest_schedule(self, costs: CostSettings) -> tuple[int, ...]:
        """The models that would have been deployed after the first, had all losses been known.

        From each model on, the cheapest continuation is the cheapest of: keep it to the end, or keep it until a later
        model and continue from there; O(models squared). Of schedules at one cost, one with the fewest retrainings.
        """
        models, steps = self.stale.shape
        spent = np.nancumsum(costs.loss_per_day * self.stale * self.days, axis=1)
        best: list[tuple[float, int, tuple[int, ...]]] = [(0.0, 0, ())] * models
        for model in reversed(range(models)):
            options: list[tuple[float, int, tuple[int, ...]]] = [(float(spent[model, steps - 1]), 0, ())]
            for later in range(model + 1, models):
                cost, count, schedule = best[later]
                until = float(spent[model, self.starts[later] - 1])
                options.append((until + costs.training + cost, count + 1, (later, *schedule)))
            best[model] = min(options)
        return best[0][2]


def _chosen(table: Floats, champions: Sequence[int]) -> Floats:
    chosen: Floats = table[champions, np.arange(table.shape[1])]
    return chosen


def never(time: int, champion: int) -> str | None:
    """The first model for ever."""
    return None


def always(time: int, champion: int) -> str | None:
    """A new model at every label time."""
    return "always"


def periodic(matrix: LossMatrix, period_days: int) -> Policy:
    """A new model when the champion is so many days old."""

    def decide(time: int, champion: int) -> str | None:
        age = matrix.label_times[time] - matrix.label_times[matrix.cutoffs[champion]]
        return "periodic" if age >= timedelta(days=period_days) else None

    return decide


def scheduled(matrix: LossMatrix, models: Sequence[int]) -> Policy:
    """These models, each at its instant."""
    times = {int(matrix.cutoffs[model]) for model in models}

    def decide(time: int, champion: int) -> str | None:
        return "scheduled" if time in times else None

    return decide
