"""The gate between challenger and champion: good enough, and not worse on the same holdout."""

import math

import pytest

from features.contract import Model, PromotionSettings
from features.steps.train import gate

# minimum, tolerance, challenger, champion (None: there is no other), promoted, the reason
CASES = {
    "first, above the minimum": (0.6, 0.0, 0.81, None, True, "0.8100 reaches the minimum 0.6, and there is no other"),
    "first, at the minimum": (0.6, 0.0, 0.6, None, True, "0.6000 reaches the minimum 0.6"),
    "first, just below": (0.6, 0.0, 0.5999, None, False, "0.5999 is below the minimum 0.6."),
    "first, not a number": (0.6, 0.0, math.nan, None, False, "nan is below the minimum 0.6."),
    "better": (0.6, 0.0, 0.82, 0.81, True, "0.8200 is within 0 of the champion's 0.8100 or better"),
    "equal": (0.6, 0.0, 0.81, 0.81, True, "0.8100 is within 0 of the champion's 0.8100 or better"),
    "a little worse": (
        0.6,
        0.0,
        0.8099,
        0.81,
        False,
        "0.8099 is worse than the champion's 0.8100 on the same holdout.",
    ),
    "worse within the tolerance": (0.6, 0.01, 0.805, 0.81, True, "0.8050 is within 0.01 of the champion's 0.8100"),
    "worse by the tolerance": (0.6, 0.25, 0.625, 0.875, True, "0.6250 is within 0.25 of the champion's 0.8750"),
    "worse by more": (0.6, 0.01, 0.7999, 0.81, False, "0.7999 is worse than the champion's 0.8100"),
    "better than a bad champion, yet too bad": (0.6, 0.01, 0.55, 0.5, False, "0.5500 is below the minimum 0.6."),
}


@pytest.mark.parametrize(
    ("minimum", "tolerance", "challenger", "champion", "promoted", "reason"), CASES.values(), ids=CASES
)
def test_the_gate(
    churn: Model,
    minimum: float,
    tolerance: float,
    challenger: float,
    champion: float | None,
    promoted: bool,
    reason: str,
) -> None:
    strict = churn.model_copy(update={"promotion": PromotionSettings(minimum=minimum, tolerance=tolerance)})
    decided, because = gate(strict, challenger, champion)
    assert decided is promoted
    assert reason in because
    assert because.startswith("Its roc_auc ")
