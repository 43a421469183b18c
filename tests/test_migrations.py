"""Upgrades keep what was there, and say of it what the newer tables want to know."""

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.errors import IntegrityError

from features import champions, warehouse
from features.champions import succession
from features.contract import Model, read_contract
from features.migrations import migrate
from features.warehouse import NotAllowed
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


# 0007: results of dbt, evidence, and a role that reads what the pages show

BEFORE_HEALTH = """
insert into monitoring.drift_reports (
    model_name, model_version, feature, as_of, status, n, drift_detected, detail
) values ('churn', '1', 'session_count', '2013-07-02+00', 'ok', 9, false, 'as it was');
insert into serving.predictions (model_name, model_version, entity_id, as_of, score)
values ('churn', '1', 'u1', '2013-07-02+00', 0.5);
insert into training.extracts (
    extract_id, training_set, feature_view, feature_version, as_of, columns, row_count, spine_checksum, row_checksum,
    spine
) values ('a', 'training.t', 'v', '1', '2013-07-02+00', '[]', 1, '1', '2', 'spine');
"""
WRITTEN = """
insert into monitoring.dbt_results (dbt_invocation_id, unique_id, resource_type, name, status, seconds)
values ('a', 'model.a', 'model', 'a', 'success', 1);
insert into monitoring.scorecard_evidence (model_name, test, how, passed, evidence, seen_at, expires_at)
values ('churn', 'data_1', 'automated', true, 'seen', '2013-07-02+00', '2013-07-03+00');
"""


@pytest.fixture(scope="module")
def healthy(server: None) -> Iterator[None]:
    """A warehouse of before, brought up to date on a server that has the role already."""
    name = "skewless_healthy"
    drop_database(name)
    with pytest.MonkeyPatch.context() as patch:
        use(name, patch)
        migrate("0006")
        with warehouse.connect() as connection:
            connection.execute(BEFORE_HEALTH)
            # By the migration of another warehouse on this server, or by an administrator.
            known = connection.execute("select 1 as n from pg_roles where rolname = 'monitor_reader'").fetchone()
            if known is None:
                connection.execute("create role monitor_reader nologin")
        migrate()
        migrate()
        with warehouse.connect() as connection:
            connection.execute(WRITTEN)
        yield
    drop_database(name)


def as_reader(statement: str) -> list[dict[str, Any]]:
    """What the role of the pages gets."""
    with warehouse.connect() as connection:
        connection.execute("set local role monitor_reader")
        return connection.execute(statement).fetchall()


def test_upgrading_keeps_what_there_was(healthy: None) -> None:
    assert rows("select detail from monitoring.drift_reports") == [{"detail": "as it was"}]
    assert rows("select score from serving.predictions") == [{"score": 0.5}]
    assert rows("select count(*) as n from training.extracts") == [{"n": 1}]


@pytest.mark.parametrize(
    ("relation", "count"),
    [
        ("monitoring.dbt_results", 1),
        ("monitoring.scorecard_evidence", 1),
        ("monitoring.drift_reports", 1),
        ("monitoring.feature_drift", 1),
        ("monitoring.champions", 0),
        ("serving.publications", 0),
        ("features.builds", 0),
    ],
)
def test_the_reader_reads_what_the_pages_show(healthy: None, relation: str, count: int) -> None:
    assert as_reader(f"select count(*) as n from {relation}") == [{"n": count}]


def test_the_reader_reads_of_an_extract_all_but_who_is_in_it(healthy: None) -> None:
    assert as_reader("select extract_id, row_count from training.extracts") == [{"extract_id": "a", "row_count": 1}]
    for columns in ("spine", "*"):
        with pytest.raises(NotAllowed):
            as_reader(f"select {columns} from training.extracts")


@pytest.mark.parametrize(
    "relation",
    ["raw.session_events", "serving.predictions", "serving.written_features", "monitoring.inference_log"],
)
def test_the_reader_reads_no_row_of_a_person(healthy: None, relation: str) -> None:
    with pytest.raises(NotAllowed):
        as_reader(f"select * from {relation}")


@pytest.mark.parametrize(
    "statement",
    [
        "delete from monitoring.dbt_results",
        "update monitoring.scorecard_evidence set passed = true",
        "insert into monitoring.scorecard_evidence (model_name, test, how, passed, evidence, seen_at, expires_at)"
        " values ('churn', 'infra_2', 'automated', true, 'typed in', now(), now())",
        "truncate monitoring.drift_reports",
        "create table monitoring.mine (a integer)",
        "create table public.mine (a integer)",
    ],
)
def test_the_reader_writes_nothing(healthy: None, statement: str) -> None:
    with pytest.raises(NotAllowed):
        as_reader(statement)


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("how = 'guessed'", "scorecard_evidence_how_check"),
        ("evidence = ''", "scorecard_evidence_evidence_check"),
        ("passed = null", "passed"),
    ],
)
def test_evidence_says_how_it_was_seen_and_what(healthy: None, change: str, constraint: str) -> None:
    with pytest.raises(IntegrityError, match=constraint):
        rows(f"update monitoring.scorecard_evidence set {change}")
