"""Does what a model is fed still look like what it was trained on?

`sketch` counts values in cells, `profile` turns counts into distributions, `distance` compares two of them,
`decision` says what a difference means, `calibration` learns how far a feature strays when all is well, `cause` reads
the pattern of an alarm, `incident` opens and closes: all are pure. `looks` says what there is to look at, `sources`
where it is read, `counting` counts it in the warehouse, `store` and `baselines` keep the counts. `FeatureDriftMonitor`
is the same on plain arrays.
"""

from features.drift.decision import DriftStatus
from features.drift.monitor import FeatureDriftMonitor
from features.drift.report import FeatureDriftReport

__all__ = ["DriftStatus", "FeatureDriftMonitor", "FeatureDriftReport"]
