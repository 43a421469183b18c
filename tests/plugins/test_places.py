"""From a run or a task in Airflow to its page."""

import pytest

from feature_health.places import PAGES_OF_MODELS, Target, target_of
from features import settings
from features.contract import Contract

AS_OF = "2013-12-24T00:00:00"


def test_every_dag_of_a_model_has_a_page(contract: Contract) -> None:
    dags = (settings.DAGS_FOLDER).glob("*.py")
    kinds = {line.split("_", 1)[1] for path in dags for line in _ids(path.read_text())}
    assert kinds == set(PAGES_OF_MODELS)


def _ids(text: str) -> list[str]:
    return [line.split('f"{model.name}')[1].rstrip('",') for line in text.splitlines() if "dag_id=f" in line]


@pytest.mark.parametrize(
    ("dag_id", "task_id", "subject", "target"),
    [
        ("churn_drift", "", None, Target("features", {"model": "churn", "as_of": AS_OF})),
        ("churn_drift", "watch", "session_count", Target("feature", {"model": "churn", "name": "session_count"})),
        ("churn_drift", "conclude", None, Target("features", {"model": "churn", "as_of": AS_OF})),
        ("churn_retraining", "decide", None, Target("retraining", {"model": "churn", "as_of": AS_OF})),
        ("churn_training", "", None, Target("model", {"model": "churn", "as_of": None})),
        (
            "materialize_features",
            "publish_user_variety_features",
            None,
            Target("parity", {"view": "user_variety_features", "as_of": AS_OF}),
        ),
        (
            "materialize_features",
            "dbt.event_type_features_run",
            None,
            Target("parity", {"view": "event_type_features", "as_of": AS_OF}),
        ),
        ("somebody_elses", "", None, None),
        ("churn_", "", None, None),
        ("churnish_drift", "", None, None),
    ],
)
def test_the_page_about_it(
    contract: Contract, dag_id: str, task_id: str, subject: str | None, target: Target | None
) -> None:
    assert target_of(contract, dag_id, AS_OF, task_id, subject) == target
