"""How dbt runs in Airflow: each model a task of its own, with its tests, through astronomer-cosmos."""

import sys
from pathlib import Path

from cosmos import DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
from cosmos.constants import ExecutionMode, InvocationMode, LoadMode, TestBehavior

from features import settings


def dbt_models(group_id: str, select: list[str]) -> DbtTaskGroup:
    """A task per selected dbt model, which builds it at the run's as_of and runs its tests."""
    return DbtTaskGroup(
        group_id=group_id,
        project_config=ProjectConfig(
            dbt_project_path=settings.DBT_PROJECT,
            manifest_path=settings.MANIFEST,
            install_dbt_deps=False,
        ),
        profile_config=ProfileConfig(
            profile_name="skewless",
            target_name="warehouse",
            profiles_yml_filepath=settings.DBT_PROJECT / "profiles.yml",
        ),
        render_config=RenderConfig(
            load_method=LoadMode.DBT_MANIFEST,
            select=select,
            test_behavior=TestBehavior.BUILD,
            emit_datasets=False,
        ),
        execution_config=ExecutionConfig(
            execution_mode=ExecutionMode.LOCAL,
            invocation_mode=InvocationMode.DBT_RUNNER,
            dbt_executable_path=Path(sys.executable).with_name("dbt"),
        ),
        operator_args={
            # Not `vars`: dbt keeps its parsed project between runs only while the vars stay the same.
            # A log is read by machines, too, and they know no colours.
            "env": {"SKEWLESS_AS_OF": "{{ dag_run.partition_key }}", "DBT_USE_COLORS": "false"},
            "append_env": True,
            "install_deps": False,
            "should_upload_compiled_sql": False,
        },
    )
