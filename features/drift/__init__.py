"""Does what a model is fed still look like what it was trained on?

`sketch` counts values in cells, `profile` turns counts into distributions, `distance` compares two of them, `decision`
says what a difference means, `calibration` learns how much a feature wobbles when all is well, `cause` reads the pattern
of an alarm, `incident` opens and closes. All of them are pure; `store` keeps and finds their rows in the warehouse.
`FeatureDriftMonitor` is the same on plain arrays.
"""

from features.drift.decision import DriftStatus
from features.drift.monitor import FeatureDriftMonitor
from features.drift.report import FeatureDriftReport

__all__ = ["DriftStatus", "FeatureDriftMonitor", "FeatureDriftReport"]
