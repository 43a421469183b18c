"""What the project promises whoever works on it: documentation, access, refusals, versions, a plain `dbt build`."""

import datetime as dt
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlfluff

from features import settings
from tests.databases import AS_OF, copy_of
from tests.dbt_project.oracle import DAY, HOUR, VIEWS, Event, View, insert, read, write
from tests.dbt_project.projects import copy_of_project, replace
from tests.dbt_project.running import dbt, dbt_in_this_process

pytestmark = pytest.mark.starts

RELATIONS = (
    "staging.stg_session_events",
    "features.user_session_features",
    "features.churn_labels",
    "training.churn_training_set",
)
NOW = dt.datetime(2024, 3, 1, 12, 30, tzinfo=dt.UTC)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the dbt project, to edit."""
    return copy_of_project(tmp_path)


@pytest.fixture(scope="module")
def parsed(manifest: Path) -> dict[str, Any]:
    """The manifest."""
    return json.loads(manifest.read_text())


@pytest.fixture(scope="module")
def models(parsed: dict[str, Any]) -> list[dict[str, Any]]:
    """The manifest's models."""
    return [node for node in parsed["nodes"].values() if node["resource_type"] == "model"]


def test_no_deprecation() -> None:
    output = dbt(["parse", "--no-partial-parse", "--show-all-deprecations"], "none")
    assert "eprecat" not in output
    assert "WARN" not in output.upper()


def test_everything_is_described(parsed: dict[str, Any], models: list[dict[str, Any]]) -> None:
    documented = [*models, *parsed["sources"].values(), *parsed["exposures"].values()]
    assert len(models) == 11
    assert [node["name"] for node in documented if not node["description"].strip()] == []
    columns = [(node["name"], column) for node in documented for column in node.get("columns", {}).values()]
    assert len(columns) > 60
    assert [(name, column["name"]) for name, column in columns if not column["description"].strip()] == []


def test_public_models_have_a_contract_and_staging_is_private(
    parsed: dict[str, Any], models: list[dict[str, Any]]
) -> None:
    """The contract of a selection is that of its feature view, which a data test holds it to."""
    public = {node["name"] for node in models if node["access"] == "public"}
    follows = {
        node["attached_node"].split(".")[-1]
        for node in parsed["nodes"].values()
        if node["resource_type"] == "test" and node["test_metadata"]["name"] == "has_columns_of"
    }
    assert follows == {"churn_training_set", "user_features", "user_variety_snapshot", "event_type_snapshot"}
    assert {node["name"] for node in models if not node["contract"]["enforced"]} == follows
    staging = {node["name"] for node in models if node["fqn"][1] == "staging"}
    assert {node["name"] for node in models} - public == staging
    assert {(node["group"], node["access"]) for node in models if node["name"] in staging} == {
        ("feature_store", "private")
    }


def test_every_relation_is_tested_or_constrained(parsed: dict[str, Any], models: list[dict[str, Any]]) -> None:
    tested = {node["attached_node"] for node in parsed["nodes"].values() if node["resource_type"] == "test"}
    indexed = {
        node["unique_id"] for node in models if any(index.get("unique") for index in node["config"].get("indexes", []))
    }
    # The materialization gives a feature view its primary key.
    keyed = indexed | {node["unique_id"] for node in models if node["config"]["materialized"] == "feature_view"}
    assert {node["unique_id"] for node in models} <= tested | keyed
    tables = {node["unique_id"] for node in models if node["config"]["materialized"] != "view"}
    assert tables <= keyed, "a table without a key"


def test_only_the_feature_store_reads_events(project: Path) -> None:
    (project / "models" / "training" / "shortcut.sql").write_text(
        "select user_id, count(*) as sessions from {{ ref('stg_session_events') }} group by user_id"
    )
    output = dbt(["parse"], "none", project=project, expect_failure=True)
    assert "model.skewless.shortcut attempted to reference node model.skewless.stg_session_events" in output
    assert "not allowed because the referenced node is private to the 'feature_store' group" in output


def test_raw_events_are_read_by_staging_only(empty_warehouse: str, project: Path) -> None:
    """A source has no access rule in dbt, so a run refuses before it computes anything."""
    (project / "models" / "serving" / "shortcut.sql").write_text("select * from {{ source('raw', 'session_events') }}")
    output = dbt(["run", "--select", "shortcut"], empty_warehouse, project=project, expect_failure=True)
    assert "models/serving/shortcut.sql reads raw.session_events" in output
    assert "write it as a feature, then select it" in output


SHORTCUTS = {
    "an aggregate": "select user_id, count(*) as snapshots from {{ ref('user_session_features') }} group by user_id",
    "an aggregate without groups": "select max(session_count) as most from {{ ref('user_session_features') }}",
    "a window": "select user_id, row_number() over (order by as_of) as n from {{ ref('user_session_features') }}",
}
AGGREGATES = {"array_agg", "avg", "bool_and", "bool_or", "count", "every", "max", "min", "sum", "string_agg"}


def computing_models(compiled: dict[str, dict[str, Any]]) -> set[str]:
    """The models outside the feature store that aggregate or rank what they read."""
    found = set()
    for node in compiled.values():
        if node["resource_type"] != "model" or node["fqn"][1] in ("staging", "features"):
            continue
        text = json.dumps(sqlfluff.parse(node["compiled_code"], dialect="postgres"))
        functions = {name.lower() for name in re.findall(r'"function_name_identifier": "(\w+)"', text)}
        if functions & AGGREGATES or "over_clause" in text or "groupby_clause" in text:
            found.add(node["name"])
    return found


def test_nothing_is_computed_outside_the_feature_store(sample_warehouse: str, project: Path) -> None:
    """And what would be is found, however it is written."""
    for number, shortcut in enumerate(SHORTCUTS.values()):
        (project / "models" / "training" / f"shortcut_{number}.sql").write_text(shortcut)
    dbt(["compile"], sample_warehouse, project=project, as_of=AS_OF)
    compiled = json.loads((project / "target" / "manifest.json").read_text())["nodes"]
    assert computing_models(compiled) == {f"shortcut_{number}" for number in range(len(SHORTCUTS))}


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_there_is_one_definition_whoever_asks(sample_warehouse: str, manifest: Path, view: View) -> None:
    """What fills the table that trains and serves is what the as-of function runs, but for the spine."""

    def blank(definition: str) -> str:
        before, spine, after = re.split(r"/\* spine \*/(.*)/\* end of spine \*/", definition, flags=re.DOTALL)
        assert spine.strip()
        return " ".join(f"{before} SPINE {after}".split())

    done = dbt_in_this_process(["compile", "--select", view.name], settings.DBT_PROJECT)
    compiled = done.result.results[0].node.compiled_code.replace(f'"{sample_warehouse}".', "")
    ((kept,),) = read(
        sample_warehouse, f"select definition from features.feature_versions where feature_view = '{view.name}'"
    )
    ((installed,),) = read(sample_warehouse, f"select prosrc from pg_proc where proname = '{view.name}_as_of'")
    inner = installed[installed.index("from (") + 6 : installed.rindex(") as computed")]
    assert blank(kept) == blank(compiled) == blank(inner)


@pytest.mark.parametrize("garbage", ["nonsense", "2013-07-01+02:00", "2013-07-01T10", "'; drop table x; --", "7"])
def test_an_as_of_that_is_no_instant_is_refused(project: Path, garbage: str) -> None:
    done = dbt_in_this_process(["parse", "--vars", json.dumps({"as_of": garbage})], project)
    assert not done.success
    expected = (
        f"as_of '{garbage}' is not an instant. Write it like 2013-07-01T00:00:00 (UTC) or 2013-07-01T00:00:00+02:00."
    )
    assert expected in str(done.exception)


@pytest.fixture
def checkout(server: None) -> Iterator[Path]:
    """A folder like the checkout, with a project and a running server; short, as a socket's path has to be."""
    with tempfile.TemporaryDirectory(prefix="skewless-") as name:
        (Path(name) / ".run").mkdir()
        (Path(name) / ".run" / "postgres").symlink_to(settings.EMBEDDED_POSTGRES)
        copy_of_project(Path(name))
        yield Path(name)


def plain_dbt_build(project: Path, **env: str) -> str:
    """`dbt build` in the project's folder, as somebody types it who has set no more than `env`."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("dbt")), "--no-use-colors", "build"],
        cwd=project,
        env={**inherited, "PWD": str(project), **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_plain_build_works_and_works_again(empty_warehouse: str, checkout: Path) -> None:
    """By default as_of is the last full hour the source has data for, which a rejected row does not move."""
    events = [
        Event(f"e{number}", f"u{number % 7}", NOW - number * DAY, 60, NOW - number * DAY + HOUR / 60)
        for number in range(100)
    ]
    corrections = [event._replace(ingested_at=event.ingested_at + DAY, duration_seconds=30) for event in events[3:20:2]]
    tombstones = [
        Event(event.event_id, ingested_at=event.ingested_at + DAY, is_deleted=True) for event in events[2:20:3]
    ]
    rejected = [Event("endless", "u", NOW, 10**13, NOW + DAY), Event("never", "u", NOW, 60, "infinity")]
    insert(empty_warehouse, [*events, *corrections, *tombstones, *rejected])
    project = checkout / "dbt_project"
    with copy_of(empty_warehouse, "skewless") as database:
        assert "ERROR=0" in plain_dbt_build(project)
        first = {relation: set(read(database, f"select * from {relation}")) for relation in RELATIONS}
        assert all(first.values())
        users_by_as_of = Counter(row[1] for row in first["features.user_session_features"])
        assert (max(users_by_as_of), users_by_as_of[max(users_by_as_of)]) == (NOW.replace(minute=0), 7)

        (checkout / ".run" / "postgres").unlink()
        assert "ERROR=0" in plain_dbt_build(project, PGHOST=str(settings.EMBEDDED_POSTGRES))
        assert {relation: set(read(database, f"select * from {relation}")) for relation in RELATIONS} == first


def test_the_version_follows_the_definition(sample_warehouse: str, project: Path) -> None:
    """And nothing else: rows of one definition stay together however the rest of the project changes."""

    def version() -> str:
        done = dbt_in_this_process(["compile", "--select", "user_session_features"], project)
        assert done.success, done.exception
        (found,) = set(
            re.findall(r"'([0-9a-f]{12})'::text as feature_version", done.result.results[0].node.compiled_code)
        )
        return str(found)

    ((original,),) = read(
        sample_warehouse,
        "select feature_version from features.feature_versions where feature_view = 'user_session_features'",
    )

    replace(project / "models/serving/churn_predictions.sql", "where", "-- ours\nwhere")
    replace(project / "models/features/churn_labels.sql", "sessions_after = 0", "sessions_after < 1")
    replace(project / "macros/spine.sql", "limit 1", "fetch first row only")
    replace(project / "macros/selections.sql", "left join", "left outer join")
    replace(project / "macros/session_events.sql", "Every reason", "Each reason")
    replace(project / "macros/feature_view.sql", "gives another answer each time", "answers differently each time")
    replace(project / "models/features/user_session_features.yml", "expires_after: 3 hours", "expires_after: 4 hours")
    assert version() == original

    versions = [original]
    view = project / "models/features/user_session_features.sql"
    for path, old, new in (
        (view, "in_last(days=7)", "in_last(days=6)"),
        (project / "models/features/user_session_features.yml", "lookback_days: 90", "lookback_days: 91"),
        (project / "models/staging/stg_session_events.sql", "where not is_deleted", "where is_deleted is false"),
        (project / "macros/session_events.sql", "duration_seconds < 0", "duration_seconds <= 0"),
        (project / "macros/feature_view.sql", "cross join lateral", "inner join lateral"),
        (project / "macros/knowledge.sql", "'known.started_at <= spine.as_of'", "'known.started_at < spine.as_of'"),
        (project / "macros/knowledge.sql", "nullif(60 *", "nullif(61 *"),
    ):
        replace(path, old, new)
        versions.append(version())
    assert len(set(versions)) == len(versions)


def test_compiling_again_gives_the_same_text(sample_warehouse: str) -> None:
    """With the names of the tables and nothing of the day."""
    texts = set()
    for _ in range(2):
        done = dbt_in_this_process(["compile", "--vars", f"as_of: '{AS_OF}'"], settings.DBT_PROJECT)
        assert done.success, done.exception
        compiled = {result.node.name: result.node.compiled_code for result in done.result.results}
        texts.add(json.dumps(compiled, sort_keys=True))
    (text,) = texts
    assert len(text) > 10_000
    assert not re.search(r"20(2[4-9]|[3-9]\d)-\d\d-\d\d", text)


def test_what_others_hang_on_a_view_stays(sample_database: str) -> None:
    """A view on the serving relation, and a grant, survive the next build."""
    with copy_of(sample_database, "skewless_hung") as database:
        with_dependants = """
            create role skewless_reader;
            grant select on serving.user_features to skewless_reader;
            create view public.mine as select user_id, session_count from serving.user_features;
        """
        try:
            for statement in with_dependants.strip().split(";\n"):
                write(database, statement)
            dbt(["run", "--select", "user_features"], database, as_of=AS_OF)
            assert read(database, "select count(*) >= 0 from public.mine") == [(True,)]
            granted = "select has_table_privilege('skewless_reader', 'serving.user_features', 'select')"
            assert read(database, granted) == [(True,)]
        finally:
            write(database, "drop owned by skewless_reader")
            write(database, "drop role skewless_reader")
