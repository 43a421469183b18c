"""What other feature stores are known to get wrong, each with the test that it does not happen here.

The reports are public: the issue trackers and documentation of Feast, Chronon, OpenMLDB, Featureform and dbt.
"""

import ast
import json
import re
from pathlib import Path

import pytest

from features import settings
from tests.databases import AS_OF, copy_of
from tests.dbt_project.oracle import read, write
from tests.dbt_project.projects import copy_of_project, replace
from tests.dbt_project.running import dbt, dbt_in_this_process

TESTS = Path(__file__).resolve().parents[1]

PITFALLS = {
    "composite keys are concatenated, so that ('1', '23') and ('12', '3') share rows (Feast's PostgreSQL template)": (
        "dbt_project/test_authoring.py::test_no_two_keys_are_taken_for_one"
    ),
    "two feature rows of one key and instant make two rows of one label (Feast)": (
        "dbt_project/test_pitfalls.py::test_a_training_set_never_mixes_definitions"
    ),
    "labels are lost or multiplied by the join (feast#1693, feast#6787)": (
        "dbt_project/test_authoring.py::test_labels_from_anywhere_keep_their_number_and_mature_by_the_calendar"
    ),
    "a correction that was written later is returned for an earlier label (feast#6615)": (
        "dbt_project/test_features.py::test_edges_and_immutability"
    ),
    "an event at the label's own instant counts in one store and not in another (Feast, Chronon)": (
        "dbt_project/test_functions.py::test_any_history_at_any_instant"
    ),
    "windows are rounded to hops, so that 12 days are up to 13 (Chronon)": (
        "dbt_project/test_functions.py::test_windows_are_as_long_as_their_names_say"
    ),
    "events with one timestamp give other results with other threads (OpenMLDB#1629)": (
        "dbt_project/test_functions.py::test_ties_and_order_of_arrival_do_not_matter"
    ),
    "on demand and in a batch the values differ once rows have expired (OpenMLDB#2256)": (
        "dbt_project/test_functions.py::test_what_the_function_gives_is_what_is_stored"
    ),
    "a time to live that training honours is ignored online (feast#6821)": (
        "dbt_project/test_features.py::test_the_row_that_trains_is_the_row_that_serves"
    ),
    "late rows are never picked up, since a watermark has passed them (feast#4133)": (
        "dbt_project/test_features.py::test_edges_and_immutability"
    ),
    "an end date in the future poisons the watermark (feast#4222)": (
        "dbt_project/test_incremental.py::test_the_future_is_refused"
    ),
    "a missing batch goes unnoticed, and an early one after a late one is skipped (dbt-core#11129)": (
        "dbt_project/test_incremental.py::test_runs_out_of_order_and_far_apart_give_what_each_would_alone"
    ),
    "a backfill of an old range overwrites newer online values (feast#5163)": (
        "steps/test_publish.py::test_an_older_snapshot_never_replaces_a_newer_one"
    ),
    "yesterday's training set cannot be had again (feast#2980)": (
        "test_extracts.py::test_it_is_reproduced_after_events_corrections_withdrawals_and_a_backfill"
    ),
    "training assumes a schedule that serving did not keep (FeatureByte)": (
        "dbt_project/test_labels.py::test_once_there_is_a_ledger_it_says_what_was_live"
    ),
    "a label that no feature row is stamped with gets nothing (Featureform)": (
        "dbt_project/test_authoring.py::test_labels_from_anywhere_keep_their_number_and_mature_by_the_calendar"
    ),
    "the compiled SQL holds the clock, so that it is never the same (dbt_feature_store)": (
        "dbt_project/test_pitfalls.py::test_compiling_again_gives_the_same_text"
    ),
    "views and grants that others made are dropped by a rebuild (dbt-core#2185)": (
        "dbt_project/test_pitfalls.py::test_what_others_hang_on_a_view_stays"
    ),
    "parity is measured on a sample, after the damage (Chronon)": (
        "test_chain.py::test_a_closed_gate_is_a_red_task_and_a_reason_opens_it"
    ),
}


@pytest.mark.parametrize("named", PITFALLS.values(), ids=[text.split("(")[0].strip() for text in PITFALLS])
def test_every_pitfall_has_its_test(named: str) -> None:
    file, name = named.split("::")
    tree = ast.parse((TESTS / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


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


def test_a_training_set_never_mixes_definitions(sample_database: str, tmp_path: Path) -> None:
    """Rows of two definitions stand side by side; every label has those of the one that was built last, once."""
    project = copy_of_project(tmp_path)
    replace(project / "models/features/user_session_features.sql", "in_last(days=7)", "in_last(days=6)")
    with copy_of(sample_database, "skewless_mixed") as database:
        labels = read(database, "select count(*) from features.churn_labels")
        before = read(database, "table features.user_session_features")
        dbt(["build"], database, project=project, as_of=AS_OF)
        after = read(database, "table features.user_session_features")
        assert set(before) <= set(after)
        assert len(after) == 2 * len(before)
        found = (
            "select count(*), count(distinct feature_version), min(feature_version) from training.churn_training_set"
        )
        ((count, versions, version),) = read(database, found)
        assert ((count,), versions) == (labels[0], 1)
        current = "select feature_version from features.feature_versions where feature_view = 'user_session_features'"
        assert read(database, f"{current} order by last_built_at desc limit 1") == [(version,)]


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
