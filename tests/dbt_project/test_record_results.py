"""How each model and test of a run ended is kept: by `dbt build`, run and test, and by nothing else."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from features import settings, warehouse
from features.migrations import migrate
from tests.databases import AS_OF, drop_database, use
from tests.dbt_project.projects import copy_of_project
from tests.dbt_project.running import dbt, dbt_in_this_process, invoke, start_dbt
from tests.steps.small_warehouse import HISTORY

VIEW = "user_session_features"
# So that the test of freshness passes.
FRESH = """
insert into raw.session_events (event_id, user_id, event_type, started_at, duration_seconds, ingested_at)
values ('fresh', 'u01', 'kind 1', '2013-07-01 22:00+00', 60, '2013-07-01 23:00+00')
"""
NAMED_ODDLY = """
models:
  - name: rejected_session_events
    data_tests:
      - unique_key: {name: 'it''s_a_"key"_{{name}}_%s\\', arguments: {columns: [event_id]}}
"""
OTHER_RUN = """
insert into monitoring.dbt_results (dbt_invocation_id, unique_id, resource_type, name, status, seconds, ran_at)
"""
UNIT_TEST = """
unit_tests:
  - name: takes_the_score_as_it_is
    model: churn_predictions
    given:
      - input: source('serving', 'predictions')
        rows:
          - {model_name: churn, model_version: "1", entity_id: a, as_of: "2013-07-01 00:00:00+00", score: 0.25}
    expect:
      rows:
        - {user_id: a, churn_probability: %s}
"""


@pytest.fixture(scope="module")
def database(server: None) -> Iterator[str]:
    """Twelve users, and everything built."""
    name = "skewless_results"
    drop_database(name)
    with pytest.MonkeyPatch.context() as patch:
        use(name, patch)
        patch.setenv("SKEWLESS_AS_OF", AS_OF)
        migrate()
        with warehouse.connect() as connection:
            connection.execute(HISTORY)
            connection.execute(FRESH)
        assert run(["run"]).success
        yield name
    drop_database(name)


@pytest.fixture(autouse=True)
def _nothing_is_kept_yet(database: str) -> None:
    execute("truncate monitoring.dbt_results")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the dbt project, to edit."""
    return copy_of_project(tmp_path)


def run(arguments: Sequence[str], project: Path = settings.DBT_PROJECT) -> Any:
    """dbt with what it writes in a folder of the tests."""
    if project == settings.DBT_PROJECT:
        folders = ["--target-path", str(settings.MANIFEST.parent)]
        fixed = ["--project-dir", str(project), "--profiles-dir", str(project), "--quiet"]
        return invoke([*arguments, *fixed, *folders])
    return dbt_in_this_process(arguments, project)


def execute(statement: str) -> None:
    with warehouse.connect() as connection:
        connection.execute(statement)


def kept(condition: str = "true") -> list[dict[str, Any]]:
    """The rows there are, by name."""
    with warehouse.connect() as connection:
        return connection.execute(f"select * from monitoring.dbt_results where {condition} order by name").fetchall()


def test_a_build_of_one_model_keeps_it_and_its_tests() -> None:
    """As cosmos runs it, hour by hour."""
    assert run(["build", "--select", VIEW]).success
    (model,) = kept("resource_type = 'model'")
    assert (model["name"], model["dbt_model"], model["status"]) == (VIEW, VIEW, "success")
    assert model["unique_id"] == f"model.skewless.{VIEW}"
    assert 0 < model["seconds"] < 60
    assert model["as_of"].isoformat() == "2013-07-02T00:00:00+00:00"
    tests = kept("resource_type = 'test'")
    assert {(test["status"], test["failures"], test["dbt_model"]) for test in tests} == {("pass", 0, VIEW)}
    assert {test["column_name"] for test in tests} >= {"session_count", "sessions_last_7_days"}
    assert {row["dbt_invocation_id"] for row in kept()} == {model["dbt_invocation_id"]}
    assert len(kept()) == len(tests) + 1


def test_everything_that_is_built_is_kept_once() -> None:
    result = run(["build"])
    assert result.success
    ran = [each.node.unique_id for each in result.result if each.node.resource_type in {"model", "test"}]
    assert sorted(row["unique_id"] for row in kept()) == sorted(ran)
    assert len(kept("resource_type = 'model'")) == 11
    assert {row["dbt_model"] for row in kept("name like '%same_row_count%'")} == {"churn_training_set"}


def test_another_run_adds_rows_of_its_own() -> None:
    for _ in range(2):
        assert run(["test", "--select", VIEW]).success
    counts = [len(kept(f"dbt_invocation_id = '{key}'")) for key in {row["dbt_invocation_id"] for row in kept()}]
    assert len(counts) == 2
    assert counts[0] == counts[1] > 0


def test_a_test_that_fails_is_kept_with_how_many_rows_and_what_waited_for_it_as_skipped(project: Path) -> None:
    yaml = project / "models/features" / f"{VIEW}.yml"
    yaml.write_text(yaml.read_text().replace('expression: ">= 0"', 'expression: "< 0"'))
    assert not run(["build", "--select", f"{VIEW}+"], project).success
    (failed,) = kept("status = 'fail' and column_name = 'sessions_last_7_days'")
    assert failed["failures"] == 12
    skipped = kept("status = 'skipped' and resource_type = 'model'")
    assert {row["dbt_model"] for row in skipped} == {"churn_training_set", "user_features"}
    assert {row["seconds"] for row in skipped} == {0.0}


def test_a_model_that_breaks_is_kept(project: Path) -> None:
    model = project / "models/staging/rejected_session_events.sql"
    model.write_text("select 1 / 0 as broken")
    assert not run(["run", "--select", "rejected_session_events"], project).success
    assert [(row["name"], row["status"]) for row in kept()] == [("rejected_session_events", "error")]


def test_names_are_only_names_whatever_is_in_them(project: Path) -> None:
    (project / "models/staging/oddly.yml").write_text(NAMED_ODDLY)
    yaml = project / "models/staging/stg_session_events.yml"
    text, _, rest = yaml.read_text().partition("\n  - name: rejected_session_events")
    assert rest
    yaml.write_text(text)
    assert run(["build", "--select", "rejected_session_events"], project).success
    (row,) = kept("resource_type = 'test'")
    assert row["name"] == 'it\'s_a_"key"_{{name}}_%s\\'


@pytest.mark.parametrize(("score", "status"), [("0.25", "pass"), ("0.75", "fail")])
def test_unit_tests_are_kept_as_such(project: Path, score: str, status: str) -> None:
    (project / "models/serving/unit_tests.yml").write_text(UNIT_TEST % score)
    assert run(["build", "--select", "churn_predictions"], project).success == (status == "pass")
    (row,) = kept("resource_type = 'unit_test'")
    assert (row["name"], row["dbt_model"], row["status"]) == ("takes_the_score_as_it_is", "churn_predictions", status)


def test_what_nobody_gave_an_instant_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKEWLESS_AS_OF")
    assert run(["run", "--select", "rejected_session_events"]).success
    assert [row["as_of"] for row in kept()] == [None]


def test_an_instant_may_be_given_as_a_var_with_an_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKEWLESS_AS_OF")
    assert run(["run", "--select", "rejected_session_events", "--vars", "{as_of: '2013-07-02T02:00:00+02:00'}"]).success
    assert [row["as_of"].isoformat() for row in kept()] == ["2013-07-02T00:00:00+00:00"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["parse"],
        ["compile", "--select", VIEW],
        ["list"],
        ["docs", "generate"],
        ["show", "--inline", "select 1"],
        ["run-operation", "refuse_shortcuts"],
        ["run", "--empty", "--select", "rejected_session_events"],
        ["run", "--select", "there_is_no_such_model"],
    ],
    ids=" ".join,
)
def test_whatever_builds_nothing_keeps_nothing(arguments: list[str]) -> None:
    assert run(arguments).success
    assert kept() == []


def test_what_is_older_than_90_days_goes() -> None:
    assert run(["run", "--select", "rejected_session_events"]).success
    execute("update monitoring.dbt_results set ran_at = now() - interval '90 days 1 minute'")
    execute(OTHER_RUN + "values ('young', 'model.a', 'model', 'a', 'success', 1, now() - interval '89 days')")
    assert run(["run", "--select", "rejected_session_events"]).success
    assert [row["name"] for row in kept()] == ["a", "rejected_session_events"]


def test_two_at_once_both_keep_what_they_did_and_let_go_of_what_is_old(database: str) -> None:
    execute(
        f"{OTHER_RUN} select 'old', 'model.' || n, 'model', 'a', 'success', 1, now() - interval '91 days'"
        " from generate_series(1, 500) as n"
    )
    views = (VIEW, "user_variety_features")
    processes = [start_dbt(["build", "--select", view], database) for view in views]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert {row["dbt_model"] for row in kept()} == set(views)
    assert len({row["dbt_invocation_id"] for row in kept()}) == 2


def test_a_warehouse_without_the_table_says_what_to_do(database: str) -> None:
    execute("alter table monitoring.dbt_results rename to away")
    try:
        output = dbt(["run", "--select", "rejected_session_events"], database, as_of=AS_OF, expect_failure=True)
    finally:
        execute("alter table monitoring.away rename to dbt_results")
    assert "monitoring.dbt_results does not exist" in output
    assert "`make warehouse`" in output
