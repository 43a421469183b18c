"""What other feature stores are known to get wrong, each with the test that it does not happen here.

The reports are public: the issue trackers and documentation of Feast, Chronon, OpenMLDB, Featureform and dbt.
"""

import ast

import pytest

from tests.places import ROOT

PITFALLS = {
    "composite keys are concatenated, so that ('1', '23') and ('12', '3') share rows (Feast's PostgreSQL template)": (
        "dbt_project/test_authoring.py::test_no_two_keys_are_taken_for_one"
    ),
    "two feature rows of one key and instant make two rows of one label (Feast)": (
        "dbt_project/test_labels.py::test_a_training_set_never_mixes_definitions"
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
        "dbt_project/test_structure.py::test_compiling_again_gives_the_same_text"
    ),
    "views and grants that others made are dropped by a rebuild (dbt-core#2185)": (
        "dbt_project/test_structure.py::test_what_others_hang_on_a_view_stays"
    ),
    "parity is measured on a sample, after the damage (Chronon)": (
        "test_chain.py::test_a_closed_gate_is_a_red_task_and_a_reason_opens_it"
    ),
}


@pytest.mark.parametrize("named", PITFALLS.values(), ids=[text.split("(")[0].strip() for text in PITFALLS])
def test_every_pitfall_has_its_test(named: str) -> None:
    file, name = named.split("::")
    tree = ast.parse((ROOT / "tests" / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
