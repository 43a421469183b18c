"""What is measured, written down before it is measured. Nothing here was chosen by looking at a result."""

from dataclasses import dataclass

SEED = 20240101
HOURS_OF_A_WEEK = 168
BASELINE_WEEKS = 4
# A week after the baseline fills the longest window; what is judged comes after it.
FILLING_WEEKS = 1
WINDOWS = (1, 6, 24, 168)
# What the monitor is asked to promise: over 100 features, each in four windows against one baseline.
FALSE_ALARMS_PER_WEEK = 0.5
FEATURES_PROMISED = 100
COMPARISONS = FEATURES_PROMISED * len(WINDOWS)

STRUCTURES = ("iid", "seasonal", "wobble", "wobble AR(1)", "clustered", "de-duplicated")
MARGINALS = ("normal", "lognormal", "zero-inflated", "Poisson", "Zipf", "boolean", "bimodal")
# Rows the contenders get as their reference; a whole month of 10,000 rows an hour fits into no notebook.
REFERENCE_ROWS = 20_000
ARTICLE_WARNING, ARTICLE_CRITICAL = 0.05, 0.01

# The streams into which shifts are injected: a daily season, and hours that differ for no reason.
SHIFTED_STRUCTURE = "season and wobble"
SHIFTED_MARGINALS = ("normal", "normal", "normal", "normal", "lognormal", "lognormal", "Zipf", "Zipf")

GOAL_FALSE_ALARMS = 0.5
GOAL_DELAY_QUARTER_SIGMA = 5
GOAL_DELAY_SPIKE = 2
GOAL_COST_RATIO = 5.0
# From as many rows an hour on the goals of power are meant.
GOAL_ROWS = 1_000


@dataclass(frozen=True)
class Scale:
    """How much is run.

    Attributes:
        sizes: rows an hour for our own false alarms.
        features: of each marginal, with a baseline of its own, and weeks: judged of each.
        duel_sizes: rows an hour where the packages run, in duel_structures.
        columns: into which shifts are injected, the first so many of SHIFTED_MARGINALS.
        horizon: hours after a shift that are looked at.
        calibration_weeks: without drift, in which a contender's threshold is found anew.
        report_hours: for which Evidently's whole report runs; the rest asks the same package for the same test.
        cost_rows: of each of ten columns.
        flight_weeks: from one baseline of flights to the next.
    """

    name: str
    sizes: tuple[int, ...]
    structures: tuple[str, ...]
    features: int
    weeks: int
    duel_sizes: tuple[int, ...]
    duel_structures: tuple[str, ...]
    columns: int
    horizon: int
    calibration_weeks: int
    report_hours: int
    cost_rows: tuple[int, ...]
    cost_repeats: int
    flight_weeks: int


FULL = Scale(
    name="full",
    sizes=(50, 200, 1_000, 10_000, 100_000, 1_000_000),
    structures=STRUCTURES,
    features=2,
    weeks=2,
    duel_sizes=(200, 1_000, 10_000),
    duel_structures=("iid", "seasonal", "wobble"),
    columns=len(SHIFTED_MARGINALS),
    horizon=HOURS_OF_A_WEEK,
    calibration_weeks=4,
    report_hours=12,
    cost_rows=(100_000, 1_000_000),
    cost_repeats=3,
    flight_weeks=3,
)
QUICK = Scale(
    name="quick",
    sizes=(200, 10_000),
    structures=STRUCTURES,
    features=1,
    weeks=1,
    duel_sizes=(1_000,),
    duel_structures=("iid", "seasonal"),
    columns=7,
    horizon=24,
    calibration_weeks=1,
    report_hours=2,
    cost_rows=(100_000,),
    cost_repeats=2,
    flight_weeks=12,
)
