"""Upgrades keep what was there, and say of it what the newer tables want to know."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from psycopg.errors import IntegrityError

from features import champions, migrations, warehouse
from features.champions import succession
from features.contract import Model, read_contract
from features.migrations import migrate
from features.warehouse import NotAllowed
from tests.databases import drop_database, use

pytestmark = pytest.mark.upgrades

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


# Every revision with rows upgrades to the newest, and what was there stays

ROWS = {
    "0001": """
insert into raw.session_events (event_id, user_id, started_at, duration_seconds, ingested_at, source_file, source_row)
values ('e', 'u', '2013-07-01+00', 60, '2013-07-01 01:00+00', 'f.csv', 1), (null, null, null, null, null, 'f.csv', 2);
insert into raw.rejected_rows values ('sha', 'f.csv', 3, 'why', '{"a": 1}');
insert into raw.loads values ('sha', 'f.csv', 3, true);
insert into raw.load_buffer values ('other', 'g.csv', 1, 'e', 'u', '2013-07-01+00', 60, '2013-07-01+00', false);
insert into features.feature_versions (feature_view, feature_version, definition) values ('v', 'v1', 'select 1');
insert into serving.publications (feature_view, as_of, feature_version, row_count, retired_at)
values ('v', '2013-07-01+00', 'v1', 9, now()), ('v', '2013-07-02+00', 'v1', 9, null);
insert into serving.predictions values ('churn', '1', 'u', '2013-07-02+00', 0.25);
insert into monitoring.model_baselines (
    model_name, model_version, training_set, feature_version, first_label_at, last_label_at, row_count
) values ('churn', '1', 't', 'v1', '2013-06-01+00', '2013-06-11+00', 9);
insert into monitoring.drift_reports (
    model_name, model_version, feature, as_of, status, n, drift_detected, detail, baseline_id
) select 'churn', '1', 'f', '2013-07-02+00', 'ok', 9, false, 'as it was', max(baseline_id)
from monitoring.model_baselines;
insert into monitoring.retraining_decisions (
    model_name, as_of, should_retrain, trigger, priority, reason, triggers, blocked_by, dag_run_id
) values ('churn', '2013-07-02+00', true, 'no_model', 'critical', 'none yet', '[]', '[]', 'run 1');
insert into monitoring.model_evaluations (
    model_name, model_version, as_of, metrics, train_rows, holdout_rows, extract_id, promoted, reason
) values ('churn', '1', '2013-07-02+00', '{"roc_auc": 0.8}', 1, 1, 'a', true, 'the first');
""",
    "0002": "update raw.session_events set event_type = 'JFK-LAX'; update raw.load_buffer set event_type = 'JFK-LAX'",
    "0003": """
insert into features.builds (feature_view, feature_version, as_of, events_loaded_through)
values ('v', 'v1', '2013-07-02+00', now());
insert into monitoring.parity_audits (
    publication_id, feature, feature_view, as_of, feature_version, rows_compared, mismatches, example_keys
) values (2, 'f', 'v', '2013-07-02+00', 'v1', 9, 0, '[]');
insert into training.extracts (
    extract_id, training_set, feature_view, feature_version, as_of, columns, row_count, spine_checksum, row_checksum,
    spine
) values ('a', 't', 'v', 'v1', '2013-07-02+00', '[]', 1, '1', '2', 'spine');
""",
    "0004": """
insert into monitoring.sketch_grids (model_name, feature, kind, edges, categories)
values ('churn', 'f', 'numeric', '{0,1}', '{}');
insert into monitoring.sketches
select grid_id, 'snapshot', 'all', 'v1', '2013-07-02+00', '{1,2}', '{1,2}', 3, 0, 0, 0 from monitoring.sketch_grids;
insert into monitoring.sketched_hours values ('churn', 'snapshot', 'all', 'v1', '2013-07-02+00', 3, 3, '{1,2,3}');
insert into monitoring.feature_baselines (
    model_name, feature, kind, source, segment, version, grid_id, starts_at, ends_at
) select 'churn', 'f', 'training', 'snapshot', 'all', '1', grid_id, '2013-06-01+00', '2013-07-01+00'
from monitoring.sketch_grids;
insert into monitoring.baseline_slots
select baseline_id, -1, 3, '{1,2}', '{1,2}', 3, 0, 0, 0 from monitoring.feature_baselines;
update monitoring.drift_reports set baseline_id = (select max(baseline_id) from monitoring.feature_baselines);
insert into monitoring.drift_incidents (
    model_name, upstream, cause, is_data_incident, severity, features, owner, summary, findings, opened_at,
    last_alarm_at
) values ('churn', 'v', 'unit change', true, 'critical', '{f}', 'ada', 's', '[]', '2013-07-02+00', '2013-07-02+00');
insert into monitoring.drift_self_tests (model_name, feature, as_of, injection, hours, alarms, is_blind, detail)
values ('churn', 'f', '2013-07-02+00', 'none', 24, 0, false, 'd');
insert into monitoring.inference_log (request_id, model_name, model_version, entity_id, as_of, features)
values ('r', 'churn', '1', 'u', '2013-07-02+00', '{}');
""",
    "0005": """
insert into monitoring.champions (model_name, model_version, feature_version, kind, because)
values ('churn', '2', 'v1', 'promotion', 'better');
insert into monitoring.decay_backtests values (
    'churn', '2013-07-02+00', 30, 20, 40, 60, 'costs', 'r', 0.5, 0.1, 0.05, 0.2, 9, 99, 'v1', '<svg/>'
);
insert into monitoring.decay_curves values ('churn', '2013-07-02+00', 7, 0.1, 0, 0.2, 0, 0.3, 9, 99);
""",
    "0006": """
insert into serving.written_features values ('v', 'v1', 'u', '2013-07-02+00', '{"f": 1}', false);
insert into monitoring.rejected_inferences values ('r', 'churn', 'why', 'row');
insert into monitoring.inference_hours values (
    'churn', '1', 'online', '2013-07-02+00', 1, 1, 0.5, '{}', 0.5, '{}', '{}', '{}'
);
insert into monitoring.model_performance (model_name, model_version, scope, cohort, predictions, confidence)
values ('churn', '1', 'batch', '2013-07-02+00', 9, 0.95);
""",
    "0007": """
insert into monitoring.dbt_results (dbt_invocation_id, unique_id, resource_type, name, status, seconds)
values ('a', 'model.a', 'model', 'a', 'success', 1);
insert into monitoring.scorecard_evidence (model_name, test, how, passed, evidence, seen_at, expires_at)
values ('churn', 'data_1', 'automated', true, 'seen', '2013-07-02+00', '2013-07-03+00');
""",
}
# What an upgrade says anew on purpose, and from which revision on it no longer does.
REWRITTEN = {("monitoring.drift_reports", "baseline_id"): "0004"}
TABLES = """
select table_schema || '.' || table_name as name, array_agg(column_name::text order by ordinal_position) as columns
from information_schema.columns
inner join information_schema.tables using (table_schema, table_name)
where
    table_schema in ('raw', 'staging', 'features', 'training', 'serving', 'monitoring')
    and tables.table_type = 'BASE TABLE'
group by 1
"""


def contents(columns: dict[str, list[str]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of tables, by the columns that are asked for."""
    return {
        table: sorted(rows(f"select {', '.join(names)} from {table}"), key=repr) for table, names in columns.items()
    }


@pytest.mark.parametrize("revision", ROWS)
def test_every_revision_with_rows_upgrades_and_keeps_each_of_its_columns(
    server: None, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    name = "skewless_upgraded_from"
    drop_database(name)
    use(name, monkeypatch)
    for step in [step for step in ROWS if step <= revision]:
        migrate(step)
        with warehouse.connect() as connection:
            connection.execute(ROWS[step])
    columns = {
        row["name"]: [column for column in row["columns"] if revision >= REWRITTEN.get((row["name"], column), revision)]
        for row in rows(TABLES)
    }
    before = contents(columns)
    assert [table for table in before if not before[table]] == []
    migrate()
    if revision < "0005":
        # Those who are known to have been champion are entered, once.
        assert [row["model_version"] for row in rows("select model_version from monitoring.champions")] == ["1"]
    assert contents(columns) == before
    drop_database(name)


def test_there_are_rows_of_every_revision_but_those_that_only_grant() -> None:
    known = {script.revision for script in ScriptDirectory.from_config(migrations.config()).walk_revisions()}
    assert known - set(ROWS) <= {"0008"}


# Code and tables of different ages


@pytest.fixture
def aged(server: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = "skewless_aged"
    drop_database(name)
    use(name, monkeypatch)
    yield name
    drop_database(name)


def command(*arguments: str) -> str:
    """What a command says that is refused: one line, no stack trace."""
    skewless = Path(sys.executable).with_name("skewless")
    env = {**os.environ, "REDIS_URL": "redis://127.0.0.1:1"}  # or it would start one
    done = subprocess.run([skewless, *arguments], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stderr


def test_tables_of_a_later_version_are_left_alone(aged: str) -> None:
    migrate()
    with warehouse.connect() as connection:
        connection.execute("update public.schema_version set version_num = '9999'")
    said = command("start-warehouse")
    assert "Database skewless_aged is at migration 9999" in said
    assert "a later version has upgraded it" in said
    assert rows("select version_num from public.schema_version") == [{"version_num": "9999"}]


@pytest.mark.parametrize("harm", ["drop table public.schema_version", "delete from public.schema_version"])
def test_tables_of_which_nobody_knows_how_new_they_are_are_left_alone(aged: str, harm: str) -> None:
    migrate()
    with warehouse.connect() as connection:
        connection.execute(harm)
    said = command("start-warehouse")
    assert "public.schema_version, which says how new they are, is missing or empty" in said
    assert "Restore it from a backup" in said


def test_a_command_that_misses_a_migration_says_so(aged: str) -> None:
    migrate("0003")
    said = command("incidents", "--all")
    assert "Database skewless_aged is at migration 0003" in said
    assert "Bring it up to date: `make warehouse`" in said
