"""Every Dag file parses, fast, without a database or heavy imports; every Dag says what to do when it is red."""

import ast
import fnmatch
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from features import settings
from features.contract import read_contract

pytestmark = pytest.mark.starts

FILES = sorted(settings.DAGS_FOLDER.glob("*.py"))
IDS = {
    "materialize_features",
    "rollback_features",
    "churn_scoring",
    "churn_inference",
    "churn_drift",
    "churn_drift_self_test",
    "churn_retraining",
    "churn_training",
    "churn_rollback",
    "churn_decay_backtest",
}
# The parts of a page's triage notes.
TRIAGE = ["When this is red", "Meanwhile", "Safe to re-run", "Look next"]
SCHEMAS = ("raw", "staging", "features", "training", "serving", "monitoring")
DeclaredOtherwise = Callable[[Callable[[dict[str, Any]], object]], Any]
HEAVY = {"dbt", "mlflow", "pandas", "scipy", "sklearn"}

# Parses each file as Airflow does, as a module of its own, in a process of its own. These are forks of one that knows
# Airflow and cosmos already, so what is measured and what is brought in are the file's. Prints a line of JSON per file.
PARSE = """
import importlib.util, json, os, sys, time, traceback
from airflow.sdk import Asset, CronPartitionTimetable, PartitionedAssetTimetable, chain, dag, task
from cosmos import DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig

def parse(path):
    seconds = []
    for _ in range(3):
        for name in [name for name in sys.modules if name.partition(".")[0] == "features"]:
            del sys.modules[name]  # our own modules count
        begin = time.perf_counter()
        spec = importlib.util.spec_from_file_location("a_dag_file", path)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        seconds.append(time.perf_counter() - begin)
    return {"seconds": min(seconds)}

for job in json.loads(sys.argv[1]):
    if os.fork() == 0:
        os.environ.update(job["variables"])
        try:
            outcome = parse(job["path"])
        except Exception:
            outcome = {"error": traceback.format_exc()}
        print("RESULT", json.dumps({**outcome, "name": job["name"], "modules": sorted(sys.modules)}), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def bag(manifest: Path) -> Iterator[Any]:
    """All Dags, as Airflow's own Dag processor finds them."""
    handlers, level = logging.root.handlers[:], logging.root.level
    from airflow.dag_processing.dagbag import DagBag

    yield DagBag(dag_folder=settings.DAGS_FOLDER, load_op_links=False)
    # Importing Airflow sent all logging to a stream that is pytest's only for now.
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture(scope="module")
def parsed(manifest: Path) -> dict[str, dict[str, Any]]:
    """What parsing each file took and brought in, where no server is; and what comes of it without a manifest."""
    jobs = [{"name": path.name, "path": str(path), "variables": {}} for path in FILES]
    nothing = {"SKEWLESS_MANIFEST": str(settings.RUN_DIR / "nowhere" / "manifest.json")}
    jobs.append({"name": "no manifest", "path": str(settings.DAGS_FOLDER / "scoring.py"), "variables": nothing})
    nowhere = {
        "SKEWLESS_MANIFEST": str(manifest),
        "PGHOST": "127.0.0.1",
        "PGPORT": "1",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg2://127.0.0.1:1/nowhere",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": "postgresql+asyncpg://127.0.0.1:1/nowhere",
        "MLFLOW_TRACKING_URI": "postgresql+psycopg2://127.0.0.1:1/nowhere",
    }
    command = [sys.executable, "-c", PARSE, json.dumps(jobs)]
    env = {**os.environ, **nowhere}
    done = subprocess.run(command, env=env, cwd=settings.RUN_DIR, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return {result["name"]: result for result in map(json.loads, lines)}


def test_there_are_dag_files() -> None:
    assert len(FILES) >= 5


def test_every_file_parses(bag: Any) -> None:
    assert bag.import_errors == {}
    # An approval is asked for where the YAML wants it.
    assert {Path(dag.fileloc).name for dag in bag.dags.values()} == {path.name for path in FILES} - {"approval.py"}


def test_there_are_exactly_these_dags(bag: Any) -> None:
    assert set(bag.dags) == IDS


@pytest.fixture
def declared_otherwise(bag: Any, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DeclaredOtherwise:
    """All Dags, were the exposures declared otherwise."""
    from airflow.dag_processing.dagbag import DagBag

    from features import orchestration

    def declare(change: Callable[[dict[str, Any]], object]) -> Any:
        declared = json.loads(manifest.read_text())
        change(declared["exposures"])
        copy = tmp_path / "manifest.json"
        copy.write_text(json.dumps(declared))
        monkeypatch.setattr(orchestration, "CONTRACT", read_contract(copy))
        found = DagBag(dag_folder=settings.DAGS_FOLDER, load_op_links=False)
        assert found.import_errors == {}
        return found

    return declare


def churn_meta(exposures: dict[str, Any]) -> dict[str, Any]:
    return exposures["exposure.skewless.churn"]["config"]["meta"]


def test_another_model_gets_dags_of_its_own(declared_otherwise: DeclaredOtherwise) -> None:
    def add_another(exposures: dict[str, Any]) -> None:
        exposures["exposure.skewless.upsell"] = {**exposures["exposure.skewless.churn"], "name": "upsell"}

    found = declared_otherwise(add_another)
    assert set(found.dags) == IDS | {name.replace("churn", "upsell") for name in IDS}


@pytest.mark.parametrize("dag_id", sorted(IDS))
class TestEveryDag:
    def test_has_a_tag_and_only_those_there_are(self, bag: Any, dag_id: str) -> None:
        from features.orchestration import Tag

        tags = set(bag.dags[dag_id].tags)
        assert tags
        assert tags <= {str(tag) for tag in Tag}

    def test_says_what_to_do_when_it_is_red(self, bag: Any, dag_id: str) -> None:
        document = bag.dags[dag_id].doc_md
        assert f"### {dag_id}" in document
        assert "#### When this is red" in document
        assert "**Reads**" in document
        assert "**Writes**" in document
        assert "{" not in document.replace("{{", "")

    def test_answers_what_somebody_asks_who_was_woken_by_it(self, bag: Any, dag_id: str) -> None:
        assert_triage_notes(bag.dags[dag_id].doc_md)

    def test_names_only_what_there_is(self, bag: Any, dag_id: str, manifest: Path) -> None:
        assert unknown_names(bag.dags[dag_id], set(bag.dags), manifest) == set()

    def test_does_not_catch_up_and_runs_one_instant_at_a_time(self, bag: Any, dag_id: str) -> None:
        assert bag.dags[dag_id].catchup is False
        assert bag.dags[dag_id].max_active_runs == 1

    def test_tries_every_task_again_but_not_for_a_mistake(self, bag: Any, dag_id: str) -> None:
        assert bag.dags[dag_id].tasks
        for task in bag.dags[dag_id].tasks:
            assert task.retries >= 1, task.task_id
            assert task.retry_policy is not None, task.task_id

    def test_is_owned(self, bag: Any, dag_id: str) -> None:
        assert {task.owner for task in bag.dags[dag_id].tasks} == {"skewless"}


def assert_triage_notes(document: str) -> None:
    """A Dag's page has its parts, in this order, each with something in it."""
    parts = re.split(r"^#### ", document, flags=re.MULTILINE)[1:]
    assert [part.partition("\n")[0] for part in parts] == TRIAGE
    assert all(part.partition("\n")[2].strip() for part in parts)


def unknown_names(dag: Any, dags: set[str], manifest: Path) -> set[str]:
    """What a Dag's page names in code and nobody knows: relations, commands, Dags, and tasks that may be red."""
    from features import cli

    declared = json.loads(manifest.read_text())
    nodes = [*declared["nodes"].values(), *declared["sources"].values()]
    relations = {f"{node['schema']}.{node.get('identifier') or node['alias']}" for node in nodes if node.get("schema")}
    targets = set(re.findall(r"^([a-z-]+):", (settings.HOME / "Makefile").read_text(), flags=re.MULTILINE))
    # What a line of "When this is red" begins with is a task; `publish_*` stands for several.
    red = dag.doc_md.partition("#### When this is red")[2].partition("####")[0]
    begins = re.findall(r"`([^`]+)`", " ".join(re.findall(r"^\\* ((?:`[^`]+`(?:, )?)+)", red, flags=re.MULTILINE)))
    unknown = {task for task in begins if not fnmatch.filter([each.task_id for each in dag.tasks], task)}
    for name in re.findall(r"`([^`]+)`", dag.doc_md):
        word, _, rest = name.partition(" ")
        if word in {"make", "skewless"}:
            known = rest.split(" ")[0] in (targets if word == "make" else set(cli.main.commands))
        elif re.fullmatch(rf"({'|'.join(SCHEMAS)})\.\w+", name):
            known = name in relations
        elif re.fullmatch(r"(churn|rollback|materialize)_\w+", name):
            known = name in dags or name in {"churn_approval"}
        else:
            known = True
        if not known:
            unknown.add(name)
    return unknown


@pytest.mark.parametrize(
    "name", ["monitoring.nothing", "make nothing", "skewless nothing", "churn_nothing", "serving.nothing"]
)
def test_a_page_that_names_what_there_is_not_is_found(bag: Any, manifest: Path, name: str) -> None:
    dag = SimpleNamespace(doc_md=f"See `{name}` and `monitoring.champions`.", tasks=[])
    assert unknown_names(dag, set(bag.dags), manifest) == {name}


def test_each_dag_starts_when_the_one_before_has_written(bag: Any) -> None:
    def waits_for(dag_id: str) -> set[str]:
        return {bag.dags[dag_id].timetable.asset_condition.name}

    def writes(dag_id: str) -> set[str]:
        return {outlet.name for task in bag.dags[dag_id].tasks for outlet in task.outlets}

    order = [
        "materialize_features",
        "churn_scoring",
        "churn_inference",
        "churn_drift",
        "churn_retraining",
        "churn_training",
    ]
    assert writes(order[0]) == {
        "features/user_session_features",
        "features/user_variety_features",
        "features/event_type_features",
    }
    assert waits_for(order[1]) == {"features/user_session_features"}
    for before, after in pairwise(order[1:]):
        assert waits_for(after) == writes(before), f"{before} -> {after}"
    assert writes("churn_training") == {"churn/model"}


def test_features_are_published_after_every_dbt_model_then_pushed_online_and_thinned_out(bag: Any) -> None:
    dag = bag.dags["materialize_features"]
    publishing = {task.task_id for task in dag.tasks if task.task_id.startswith("publish_")}
    last = {"push_online", "thin_snapshots"}
    assert len(publishing) == 3
    for task_id in publishing:
        upstream = {task.task_id for task in dag.get_task(task_id).get_flat_relatives(upstream=True)}
        assert upstream == {task.task_id for task in dag.tasks} - publishing - last
    for task_id in last:
        assert dag.get_task(task_id).upstream_task_ids == publishing


def test_a_red_look_at_what_was_served_shows_and_drift_is_watched_all_the_same(bag: Any) -> None:
    dag = bag.dags["churn_inference"]
    looks = {"compare_served", "measure_performance", "summarise_inference", "thin_log"}
    ends = {name: dag.get_task(name) for name in ("hand_on", "everything_was_looked_at")}
    assert {task.task_id for task in dag.tasks} == looks | set(ends)
    assert all(task.upstream_task_ids == looks for task in ends.values())
    assert {name: task.trigger_rule for name, task in ends.items()} == {
        "hand_on": "all_done",
        "everything_was_looked_at": "all_success",
    }


def test_incidents_are_told_where_the_yaml_says_and_nothing_waits_for_it(
    bag: Any, declared_otherwise: DeclaredOtherwise
) -> None:
    assert not [task.task_id for task in bag.dags["churn_drift"].tasks if task.task_id.startswith("tell")]
    email = {"connection": "post", "to": ["ada@example.com"]}
    found = declared_otherwise(
        lambda exposures: churn_meta(exposures)["monitoring"].update(notify={"slack_webhook": "alerts", "email": email})
    )
    telling = [task for task in found.dags["churn_drift"].tasks if task.task_id.startswith("tell")]
    assert {task.task_id for task in telling} == {"tell_slack", "tell_email"}
    for task in telling:
        assert task.upstream_task_ids == {"conclude"}
        assert not task.downstream_task_ids
        assert not task.outlets


def test_a_person_is_asked_where_the_yaml_wants_it(
    bag: Any, declared_otherwise: DeclaredOtherwise, manifest: Path
) -> None:
    def waits_for(found: Any, dag_id: str) -> str:
        return found.dags[dag_id].timetable.asset_condition.name

    assert waits_for(bag, "churn_training") == "churn/retraining_wanted"
    approval = {"timeout_hours": 6, "approvers": ["ada"]}
    found = declared_otherwise(lambda exposures: churn_meta(exposures)["retraining"].update(approval=approval))
    assert set(found.dags) == IDS | {"churn_approval"}
    dag = found.dags["churn_approval"]
    assert waits_for(found, "churn_approval") == "churn/retraining_wanted"
    assert waits_for(found, "churn_training") == "churn/retraining_approved"
    # A question that waits for an answer must not hold up those after it.
    assert dag.max_active_runs > 1
    ask = dag.get_task("ask")
    assert (ask.defaults, ask.response_timeout) == (["Reject"], timedelta(hours=6))
    assert ask.assigned_users == [{"id": "ada", "name": "ada"}]
    assert [task.task_id for task in dag.topological_sort()] == ["reason", "ask", "is_still_allowed", "start_training"]
    assert "### churn_approval" in dag.doc_md
    assert_triage_notes(dag.doc_md)
    assert unknown_names(dag, set(found.dags), manifest) == set()
    assert "within\n  6 hours" in dag.doc_md
    assert "`churn_approval` run" in found.dags["churn_retraining"].doc_md
    assert "somebody approves" in found.dags["churn_training"].doc_md


def test_the_tests_are_scored_whatever_was_decided_and_nothing_waits_for_it(bag: Any) -> None:
    dag = bag.dags["churn_retraining"]
    scoring = dag.get_task("score_tests")
    assert scoring.upstream_task_ids == {"decide"}
    assert scoring.trigger_rule == "all_done"
    assert not scoring.downstream_task_ids
    assert not scoring.outlets
    # What skips a training must not skip it, and a decision that failed must not look like one that did not.
    assert dag.get_task("is_wanted").downstream_task_ids == {"start_training"}
    assert dag.get_task("start_training").trigger_rule == "all_success"


def test_a_retraining_may_be_asked_for_by_hand_with_a_reason(bag: Any) -> None:
    params = bag.dags["churn_retraining"].params
    assert set(params) == {"because"}
    assert params["because"] is None


def test_rolling_a_model_back_goes_to_the_champion_before_unless_told_otherwise(bag: Any) -> None:
    assert dict(bag.dags["churn_rollback"].params) == {"version": None, "because": None}


def test_rolling_back_asks_for_a_view_and_an_instant(bag: Any) -> None:
    params = bag.dags["rollback_features"].params
    assert set(params) == {"view", "as_of", "because"}
    assert params.get_param("view").schema["enum"] == [
        "event_type_features",
        "user_session_features",
        "user_variety_features",
    ]
    with pytest.raises(Exception, match="as_of"):
        params.validate()  # there is no default instant to return to by mistake


def test_dbt_models_run_in_the_order_of_dbts_graph(bag: Any, manifest: Path) -> None:
    nodes = json.loads(manifest.read_text())["nodes"]
    models = {node["name"]: node for node in nodes.values() if node["resource_type"] == "model"}
    built = {name for name, node in models.items() if node["config"]["materialized"] != "ephemeral"}
    tasks = {name: bag.dags["materialize_features"].get_task(f"dbt.{name}_model_build") for name in built}

    def ancestors(name: str) -> set[str]:
        parents = {nodes[key]["name"] for key in models[name]["depends_on"]["nodes"] if key in nodes}
        return parents.union(*map(ancestors, parents))

    for name, task in tasks.items():
        upstream = {relative.task_id for relative in task.get_flat_relatives(upstream=True)}
        assert upstream == {tasks[parent].task_id for parent in ancestors(name) & built}, name
    assert tasks["churn_labels"].task_id in tasks["user_session_features"].upstream_task_ids


def test_a_dbt_task_computes_the_partition_of_its_run(bag: Any) -> None:
    for task in bag.dags["materialize_features"].task_group.get_child_by_label("dbt").children.values():
        assert task.env["SKEWLESS_AS_OF"] == "{{ dag_run.partition_key }}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
class TestEveryFile:
    def test_imports_nothing_heavy_outside_its_tasks(self, path: Path) -> None:
        names = set()
        for node in module_level(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").partition(".")[0])
        assert names
        assert not names & HEAVY

    def test_brings_nothing_heavy_in_by_way_of_others(self, path: Path, parsed: dict[str, dict[str, Any]]) -> None:
        assert "error" not in parsed[path.name], parsed[path.name]["error"]
        brought = {name.partition(".")[0] for name in parsed[path.name]["modules"]}
        assert not brought & HEAVY

    def test_only_the_file_that_runs_dbt_knows_of_cosmos(self, path: Path) -> None:
        assert ("dbt_tasks" in path.read_text()) == (path.name == "materialize_features.py")

    def test_parses_within_a_second(self, path: Path, parsed: dict[str, dict[str, Any]]) -> None:
        assert parsed[path.name]["seconds"] < 1.0


def module_level(tree: ast.AST) -> list[ast.AST]:
    """The nodes that run when the module is imported: all but the bodies of functions that are called later."""
    found: list[ast.AST] = []
    for child in ast.iter_child_nodes(tree):
        found.append(child)
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            found += module_level(child)
    return found


def test_a_dag_parse_needs_no_database(parsed: dict[str, dict[str, Any]]) -> None:
    # The processes behind `parsed` were given addresses where no server is.
    assert [name for name, result in parsed.items() if "error" in result] == ["no manifest"]


def test_without_a_manifest_the_files_say_what_to_do(parsed: dict[str, dict[str, Any]]) -> None:
    assert "Run `make manifest`" in parsed["no manifest"]["error"].strip().splitlines()[-1]
