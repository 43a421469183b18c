"""Upgrades keep what was there, and say of it what the newer tables want to know."""

from collections.abc import Iterator
from typing import Any

import pytest

from features import champions, warehouse
from features.champions import succession
from features.contract import Model, read_contract
from features.migrations import migrate
from tests.conftest import drop_database
from tests.steps.small import use

BEFORE = """
insert into monitoring.retraining_decisions (
    model_name, as_of, should_retrain, trigger, priority, reason, triggers, blocked_by, dag_run_id
) values
    ('churn', '2013-07-02+00', true, 'no_model', 'critical', 'There is no champion yet.', '[]', '[]', 'run 1'),
    ('churn', '2013-07-03+00', false, null, 'none', 'No trigger fired.', '[]', '[]', 'run 2'),
    ('churn', '2013-07-04+00', false, 'drift', 'high', 'Not retraining', '[]',
        '["a has stopped arriving; mend it.", "Incident 7 is open since yesterday."]', 'run 3');
insert into monitoring.model_evaluations (
    model_name, model_version, as_of, metrics, train_rows, holdout_rows, extract_id, promoted, reason, evaluated_at
) values
    ('churn', '1', '2013-07-02+00', '{}', 1, 1, 'a', true, 'the first', '2026-01-01+00'),
    ('churn', '2', '2013-08-02+00', '{}', 1, 1, 'b', false, 'too weak', '2026-01-02+00'),
    ('churn', '3', '2013-09-02+00', '{}', 1, 1, 'c', true, 'better', '2026-01-03+00');
insert into monitoring.model_baselines (
    model_name, model_version, training_set, feature_version, first_label_at, last_label_at, row_count
)
select 'churn', version, 'training.churn_training_set', 'v1', now(), now(), 1 from unnest(array['1', '3']) as version;
insert into features.builds (feature_view, feature_version, as_of) values ('a', 'v1', now());
"""


@pytest.fixture(scope="module")
def upgraded(server: None) -> Iterator[None]:
    """A warehouse as it was before retraining became a cycle, with some history, brought up to date."""
    name = "skewless_upgraded"
    drop_database(name)
    with pytest.MonkeyPatch.context() as patch:
        use(name, patch)
        migrate("0004")
        with warehouse.connect() as connection:
            connection.execute(BEFORE)
        migrate()
        migrate()  # again changes nothing
        yield
    drop_database(name)


def rows(query: str) -> list[dict[str, Any]]:
    with warehouse.connect() as connection:
        return connection.execute(query).fetchall()


def test_each_decision_has_its_outcome(upgraded: None) -> None:
    found = rows("select outcome, reason from monitoring.retraining_decisions order by as_of")
    assert [row["outcome"] for row in found] == ["retrain", "hold", "blocked"]
    assert found[0]["reason"] == "There is no champion yet."


def test_what_blocked_one_names_its_guard(upgraded: None) -> None:
    found = rows("select blocked_by from monitoring.retraining_decisions order by as_of")
    assert [row["blocked_by"] for row in found] == [
        [],
        [],
        [
            {"guard": "missing_feature", "reason": "a has stopped arriving; mend it."},
            {"guard": "data_incident", "reason": "Incident 7 is open since yesterday."},
        ],
    ]


def test_champions_of_before_can_be_gone_back_to(upgraded: None, manifest: Any) -> None:
    model: Model = read_contract(manifest).model("churn")
    with warehouse.connect() as connection:
        line = succession(champions.history(connection, model))
    assert [(reign.version, reign.feature_version) for reign in line] == [("1", "v1"), ("3", "v1")]


def test_what_nobody_wrote_down_is_not_known(upgraded: None) -> None:
    assert rows("select dbt_invocation_id from features.builds") == [{"dbt_invocation_id": None}]
    assert rows("select count(*) as n from monitoring.model_evaluations where checks is null") == [{"n": 3}]
