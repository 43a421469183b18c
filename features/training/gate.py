"""May a challenger replace the champion? Pure: scores of the same rows go in, checks with their evidence come out.

Every check is made and kept, so that none hides another. What cannot be judged has not passed: a metric that is no
number is no reason to promote. Only a slice too small to say anything says nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import pandas as pd
from scipy import stats

from features.contract import PromotionSettings
from features.training.evaluation import MIN_SLICE_ROWS
from features.training.resampling import Booleans, Entities, Floats, Interval, difference_interval, metric_interval

MIN_SLICE_OF_EACH_CLASS = 10


class GateCheck(StrEnum):
    """What a challenger has to pass."""

    STABLE = "stable"
    MINIMUM = "minimum"
    CHAMPION = "champion"
    SLICE = "slice"
    SIMPLER_MODEL = "simpler_model"
    CANARY = "canary"


@dataclass(frozen=True)
class Checked:
    """One check: whether it was passed, and the numbers."""

    check: GateCheck
    passed: bool
    evidence: str


@dataclass(frozen=True)
class Trial:
    """What the gate judges by: probabilities of the same rows in the same order.

    Attributes:
        entity: who each row of the holdout belongs to; one column or several.
        challenger, champion, simple: scores of the holdout; no champion is None, and then no_champion_because says why.
        champion_version: for the sentences.
        slices: which rows of the holdout belong to each.
        extremes: the challenger's scores of the largest and smallest inputs there were.
        snapshot, champion_snapshot: scores of the last published snapshot; None where nothing is published.
    """

    truth: Booleans
    entity: pd.DataFrame
    challenger: Floats
    champion: Floats | None = None
    champion_version: str = ""
    no_champion_because: str = "There is no other champion."
    simple: Mapping[str, Floats] = field(default_factory=dict)
    slices: Mapping[str, Booleans] = field(default_factory=dict)
    extremes: Floats | None = None
    snapshot: Floats | None = None
    champion_snapshot: Floats | None = None


@dataclass(frozen=True)
class PromotionDecision:
    """Whether the challenger becomes champion, and every check that was made."""

    promoted: bool
    reason: str
    checks: tuple[Checked, ...]


def judge_challenger(trial: Trial, settings: PromotionSettings, *, seed: int = 0) -> PromotionDecision:
    """The gate's decision; it needs every check to pass."""
    checks = tuple(_checks(trial, settings, seed))
    failed = [each for each in checks if not each.passed]
    # Of a promotion the two that say how good it is; all are kept.
    telling = failed or [each for each in checks if each.check in {GateCheck.MINIMUM, GateCheck.CHAMPION}]
    reason = " ".join(each.evidence for each in telling)
    return PromotionDecision(not failed, reason, checks)


def _checks(trial: Trial, settings: PromotionSettings, seed: int) -> Iterator[Checked]:
    entities = Entities(trial.entity, seed=seed)
    yield _stable(trial)
    yield _minimum(trial, settings, entities)
    yield _champion(trial, settings, entities)
    for name, rows in trial.slices.items():
        yield _slice(name, rows, trial, settings, seed)
    for name, scores in trial.simple.items():
        yield _simpler_model(name, scores, trial, settings, entities)
    yield _canary(trial, settings)


def _stable(trial: Trial) -> Checked:
    """Every score is a probability, also at the edges of what has been seen."""
    places = {
        "the holdout": trial.challenger,
        "the last snapshot": trial.snapshot,
        "the most extreme inputs": trial.extremes,
    }
    sick = []
    for place, scores in places.items():
        wrong = 0 if scores is None else int((~((scores >= 0) & (scores <= 1))).sum())  # NaN is neither
        if wrong:
            sick.append(f"{wrong:,} of {place}")
    if sick:
        return Checked(GateCheck.STABLE, False, f"It gives scores that are no probability: {', '.join(sick)}.")
    return Checked(GateCheck.STABLE, True, "All its scores are probabilities.")


def _minimum(trial: Trial, settings: PromotionSettings, entities: Entities) -> Checked:
    name, rows = settings.metric, len(trial.truth)
    found = metric_interval(name, trial.truth, trial.challenger, entities, settings.confidence)
    passed, verdict = _reaches(found, settings.minimum)
    bounds = f"{found.low:.4f} to {found.high:.4f}"
    return Checked(GateCheck.MINIMUM, passed, f"Its {name} {found.estimate:.4f} ({bounds}) on {rows:,} rows {verdict}.")


def _reaches(found: Interval, minimum: float) -> tuple[bool, str]:
    """Whether a metric is good enough, which neither NaN is nor a metric without bounds."""
    if found.estimate >= minimum and np.isfinite(found.low):
        return True, f"reaches the minimum {minimum:g}"
    if found.estimate >= minimum:
        return False, "rests on too few rows of one class to be believed"
    return False, f"is below the minimum {minimum:g}"


def _champion(trial: Trial, settings: PromotionSettings, entities: Entities) -> Checked:
    if trial.champion is None:
        return Checked(GateCheck.CHAMPION, True, trial.no_champion_because)
    found = difference_interval(
        settings.metric, trial.truth, trial.challenger, trial.champion, entities, settings.confidence
    )
    passed = found.low > -settings.tolerance
    return Checked(
        GateCheck.CHAMPION,
        passed,
        f"Against champion v{trial.champion_version} on the same rows: {_signed(found)}; the lower bound "
        f"{'exceeds' if passed else 'does not exceed'} {0 - settings.tolerance:g}.",
    )


def _slice(name: str, rows: Booleans, trial: Trial, settings: PromotionSettings, seed: int) -> Checked:
    """Good enough by itself, and no fall beside the champion; where there is too little, nothing is said."""
    truth, score = trial.truth[rows], trial.challenger[rows]
    if len(truth) < MIN_SLICE_ROWS or min(truth.sum(), (~truth).sum()) < MIN_SLICE_OF_EACH_CLASS:
        return Checked(GateCheck.SLICE, True, f"{name}: {len(truth):,} rows, too few of both classes to judge.")
    entities = Entities(trial.entity[rows], seed=seed)
    own = metric_interval(settings.metric, truth, score, entities, settings.confidence)
    passed, verdict = _reaches(own, settings.slice_minimum)
    evidence = f"{name}: {settings.metric} {own.estimate:.4f} on {len(truth):,} rows {verdict}"
    if trial.champion is not None:
        rival = trial.champion[rows]
        found = difference_interval(settings.metric, truth, score, rival, entities, settings.confidence)
        holds, comparison = _holds(found, settings.slice_tolerance)
        passed, evidence = passed and holds, f"{evidence}; against the champion {_signed(found)}, {comparison}"
    return Checked(GateCheck.SLICE, passed, f"{evidence}.")


def _holds(found: Interval, tolerance: float) -> tuple[bool, str]:
    """Whether a slice is about as good as it was.

    To ask for its lower bound, as of the whole, would refuse two models that are alike: slices are small, and their
    intervals wide. So it counts as a fall when it is one that matters, and no chance.
    """
    if np.isnan([found.estimate, found.low, found.high]).any():
        return False, "which cannot be judged"
    if found.estimate > -tolerance:
        return True, "no fall that matters"
    if found.high >= 0:
        return True, "which may be chance"
    return False, f"a fall of {tolerance:g} or more"


def _simpler_model(name: str, scores: Floats, trial: Trial, settings: PromotionSettings, entities: Entities) -> Checked:
    """What is not better than a simple model is not worth its complexity."""
    found = difference_interval(settings.metric, trial.truth, trial.challenger, scores, entities, settings.confidence)
    passed = found.estimate > 0 and found.low > -settings.tolerance
    verdict = "it is better" if passed else "it is not better"
    return Checked(GateCheck.SIMPLER_MODEL, passed, f"Against {name.replace('_', ' ')}: {_signed(found)}; {verdict}.")


def _canary(trial: Trial, settings: PromotionSettings) -> Checked:
    """The last snapshot, scored in the shadow of the champion: another model of the same world says similar things."""
    ours, theirs = trial.snapshot, trial.champion_snapshot
    if ours is None or not len(ours):
        return Checked(GateCheck.CANARY, False, "There is no snapshot to score; publish one, then clear this task.")
    if not np.isfinite(ours).all() or np.ptp(ours) == 0:
        return Checked(GateCheck.CANARY, False, f"It does not tell the {len(ours):,} rows of the last snapshot apart.")
    expected = float(trial.challenger.mean() if theirs is None else theirs.mean())
    shift = abs(float(ours.mean()) - expected)
    beside = "its holdout's" if theirs is None else "the champion's"
    passed = shift <= settings.max_score_shift
    evidence = (
        f"On the {len(ours):,} rows of the last snapshot its mean score is {ours.mean():.3f} beside {beside} "
        f"{expected:.3f}"
    )
    if theirs is not None:
        agreement = float(stats.spearmanr(ours, theirs).statistic) if np.ptp(theirs) > 0 else 1.0
        passed = passed and agreement >= settings.min_rank_agreement
        evidence += f", their ranks agree by {agreement:.2f}"
    return Checked(GateCheck.CANARY, passed, f"{evidence}{'' if passed else ': too different to go live unwatched'}.")


def _signed(found: Interval) -> str:
    return f"{found.estimate:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
