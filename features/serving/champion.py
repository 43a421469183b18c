"""The champion as it serves: its estimator, and the features it wants by name and by definition."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features import tracking
from features.contract import Model
from features.errors import SkewlessError
from features.training.estimator import scores


class ModelMismatch(SkewlessError):
    """A model does not fit the features that dbt declares."""


@dataclass(frozen=True)
class ServedModel:
    """A registered version, ready to score.

    Attributes:
        names: of its inputs, in the order in which it was trained on them.
    """

    version: tracking.Version
    estimator: Any
    names: tuple[str, ...]

    def score(self, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
        """The probability of the label being true, one for each row; columns are taken by their names."""
        return scores(self.estimator, rows, self.names)

    def score_one(self, features: Mapping[str, Any]) -> float:
        """The same for one entity's features."""
        return float(self.score(pd.DataFrame([features]))[0])


def load_champion(model: Model) -> ServedModel | None:
    """The version in production; None when there is none yet.

    Raises:
        ModelMismatch: naming inputs of the version that dbt does not declare any more.
    """
    version = tracking.champion(model)
    return None if version is None else load_version(model, version)


def load_version(model: Model, version: tracking.Version) -> ServedModel:
    """A registered version, checked against what dbt declares.

    Raises:
        ModelMismatch: as `load_champion`.
    """
    names = tracking.input_names(model, version.number)
    unknown = [name for name in names if name not in model.feature_names]
    if unknown:
        raise ModelMismatch(
            f"{model.name} v{version.number} wants {', '.join(unknown)}, which {model.feature_view.name} does not "
            f"declare any more. Declare it again, or train a champion without it: trigger {model.name}_retraining "
            "with `because`."
        )
    return ServedModel(version, tracking.load(model, version.number), names)
