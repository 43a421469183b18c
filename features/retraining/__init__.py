"""Should the model be retrained, and how old may it become?

`decision` has the words, `policy` decides by them, `losses` measures how a model ages by training at many instants,
`cadence` derives from it how old a model may become, `backtest` replays policies over it (`current_policy` is the
declared one, given what was known at each step), `plots` shows both. All are pure: what is known goes in, with an
explicit as_of.
"""

from features.retraining.decision import RetrainingDecision, RetrainingTrigger
from features.retraining.policy import RetrainingPolicy

__all__ = ["RetrainingDecision", "RetrainingPolicy", "RetrainingTrigger"]
