"""The command `skewless`, run as people run it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from features import cli, settings, warehouse
from features.contract import DriftSettings, Model
from features.drift.decision import DriftStatus
from features.drift.report import Subject
from features.ingest import reading
from features.local import environment, summary
from features.scorecard.rubric import TESTS
from features.steps.conclude import conclude
from features.steps.decide import gather
from features.steps.replay import Verdict, replay
from features.steps.watch import plan
from tests.databases import execute, rows
from tests.steps import drift_warehouse
from tests.steps.drift_warehouse import AS_OF

pytestmark = pytest.mark.starts

SKEWLESS = Path(sys.executable).with_name("skewless")
MINUTES = "avg_session_duration_minutes"


def skewless(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **variables}
    return subprocess.run([SKEWLESS, *arguments], env=env, capture_output=True, text=True, check=False)


@pytest.fixture(autouse=True)
def whatever_a_command_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that runs in this process names the Redis that it found to what comes after it; not to other tests."""
    monkeypatch.setenv("REDIS_URL", "")


def test_help_lists_every_command_with_what_it_does() -> None:
    done = skewless("--help")
    assert done.returncode == 0
    lines = [line.split(maxsplit=1) for line in done.stdout.partition("Commands:")[2].splitlines() if line.strip()]
    listed = {words[0]: words[1:] for words in lines}
    assert list(listed) == list(cli.main.commands)  # in the order a newcomer needs them
    assert {"start-warehouse", "load", "load-sample", "up", "down", "demo", "env", "psql", "warehouse-url"} <= set(
        listed
    )
    assert all(listed.values())


def test_help_on_load_names_every_column_it_reads() -> None:
    words = set(re.findall(r"\w+", skewless("load", "--help").stdout))
    assert set(reading.COLUMNS) <= words


def test_an_unknown_command_is_refused() -> None:
    done = skewless("demonstrate")
    assert done.returncode == 2
    assert "No such command 'demonstrate'" in done.stderr


@pytest.mark.parametrize("command", [["start-warehouse"], ["load", __file__]], ids=" ".join)
def test_a_server_that_is_not_there_is_one_line_and_exit_code_1(command: list[str], tmp_path: Path) -> None:
    if command[0] == "load":
        file = tmp_path / "events.csv"
        file.write_text("event_id,user_id,started_at,duration_seconds,ingested_at\n")
        command = ["load", str(file)]
    done = skewless(*command, PGHOST="127.0.0.1", PGPORT="1")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert "on PGHOST=127.0.0.1" in line
    assert "Check PGHOST, PGPORT, PGUSER and PGPASSWORD" in line


def test_a_file_that_is_not_there_is_one_line_and_exit_code_1(server: None) -> None:
    done = skewless("load", "nowhere.csv")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert "nowhere.csv" in line


def test_the_warehouses_address_has_no_password() -> None:
    done = skewless(
        "warehouse-url", PGHOST="db.example.com", PGPORT="6543", PGUSER="ada", PGDATABASE="dwh", PGPASSWORD="hush-hush"
    )
    assert done.returncode == 0
    assert done.stdout == "postgresql://ada@db.example.com:6543/dwh\n"
    assert "hush-hush" not in done.stdout + done.stderr


def test_the_embedded_warehouses_address_is_its_socket() -> None:
    done = skewless("warehouse-url")
    assert done.stdout == f"postgresql://postgres@/skewless?host={settings.EMBEDDED_POSTGRES}&port=5432\n"


def test_env_prints_lines_a_shell_reads_and_no_password_of_the_warehouse_in_an_address() -> None:
    done = skewless("env", PGPASSWORD="hush-hush")
    assert done.returncode == 0
    assert all(line.startswith("export ") for line in done.stdout.splitlines())
    shell = f'{done.stdout}\nprintf "%s\\n" "$PGHOST" "$DBT_PROJECT_DIR" "$AIRFLOW__CORE__DAGS_FOLDER"'
    read = subprocess.run(["bash", "-euc", shell], capture_output=True, text=True, check=True)
    assert read.stdout.splitlines() == [
        str(settings.EMBEDDED_POSTGRES),
        str(settings.DBT_PROJECT),
        str(settings.DAGS_FOLDER),
    ]
    with_password = [line for line in done.stdout.splitlines() if "hush-hush" in line]
    assert [line.split("=")[0] for line in with_password] in ([], ["export AIRFLOW_CONN_WAREHOUSE"])


# Drift: what is wrong, what it really is, what other rules would have said


@pytest.fixture(scope="module")
def broken(server: None, churn: Model) -> Iterator[list[dict[str, Any]]]:
    """Two hours of which the second has durations in another unit; what concluding it told."""
    with drift_warehouse.empty_tables(), pytest.MonkeyPatch.context() as patch:
        drift_warehouse.become_champion(patch, "1")
        drift_warehouse.train(churn)
        columns = drift_warehouse.healthy()
        columns[MINUTES] = columns[MINUTES] * 60
        drift_warehouse.serve(AS_OF - drift_warehouse.HOUR, drift_warehouse.healthy())
        drift_warehouse.watch(churn, AS_OF - drift_warehouse.HOUR)
        drift_warehouse.serve(AS_OF, columns)
        found = drift_warehouse.watch(churn)
        yield conclude(churn, plan(churn, AS_OF), list(found.values()), AS_OF)["events"]


@pytest.fixture
def incident(broken: list[dict[str, Any]]) -> Iterator[int]:
    """The incident that is open, and what is done to it undone."""
    (number,) = [event["incident_id"] for event in broken if event["blocks_retraining"]]
    yield number
    execute("update monitoring.drift_incidents set verdict = null, verdict_note = null, closed_at = null")


def run(*arguments: str) -> Result:
    """A command in this process, in the warehouse of the test; colours are kept."""
    with pytest.MonkeyPatch.context() as patch:
        # `main` makes this process a command: its environment, its signals.
        patch.setattr(environment, "postgres", dict)
        patch.setattr(signal, "signal", lambda number, handler: None)
        return CliRunner().invoke(cli.main, arguments, color=True)


def text(result: Result) -> str:
    """What it printed, without the frame of tables and the folding of their cells."""
    assert result.exit_code == 0, (result.output, result.exception)
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│┃┏┓┗┛━─┡┩╇┳┴└┘┼]", " ", result.stdout).split())


DRIFT_COMMANDS = {
    "incidents": "List drift incidents: what is wrong, since when, probable cause, whom to ask.",
    "resolve-incident": "Say what INCIDENT_ID really is.",
    "replay-drift": "Decide history again by the rules that the YAML states now",
    "audit-drift": "Compute a Kolmogorov-Smirnov test exactly, from the rows",
}


@pytest.mark.parametrize(("command", "sentence"), DRIFT_COMMANDS.items())
def test_help_on_a_drift_command_says_what_it_does(command: str, sentence: str) -> None:
    printed = text(run(command, "--help"))
    assert sentence in printed
    assert f"{command} [OPTIONS]" in printed


def test_help_on_resolving_says_what_each_verdict_means() -> None:
    printed = text(run("resolve-incident", "--help"))
    assert "[genuine|benign]" in printed
    assert "genuine: the world changed, retraining may go on." in printed
    assert "benign: nothing is wrong, these hours count as healthy." in printed


@pytest.mark.parametrize("command", ["incidents", "replay-drift", "audit-drift"])
def test_help_on_a_drift_command_names_the_model_it_is_of_by_default(command: str) -> None:
    assert "[default: churn]" in text(run(command, "--help"))


def test_incidents_lists_what_is_open_with_its_cause_and_whom_to_ask(incident: int) -> None:
    printed = text(run("incidents"))
    assert "Incidents of churn" in printed
    assert "2013-07-02 12:00" in printed
    assert "unit change" in printed
    assert "critical" in printed
    # Cells fold their text, so words are looked for one by one.
    assert "Ask" in printed


def test_a_closed_incident_is_listed_with_all_only(incident: int) -> None:
    execute("update monitoring.drift_incidents set closed_at = %s", AS_OF + drift_warehouse.HOUR)
    assert "unit change" not in text(run("incidents"))
    assert "nothing yet" in text(run("incidents"))
    everything = text(run("incidents", "--all"))
    assert "unit change" in everything
    assert "2013-07-02 13:00" in everything


def test_incidents_of_a_model_that_is_not_declared_are_one_line_and_exit_code_1(incident: int) -> None:
    result = run("incidents", "--model", "fraud")
    assert result.exit_code == 1
    assert one_red_line(result) == "No model 'fraud' is declared; dbt's exposures declare churn."


def one_red_line(result: Result) -> str:
    """What an error says."""
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("\x1b[31m")
    assert line.endswith("\x1b[0m")
    return line.removeprefix("\x1b[31m").removesuffix("\x1b[0m")


@pytest.mark.parametrize("name", ["[/b]", "[bold]"])
def test_a_table_shows_text_in_brackets_as_it_is(incident: int, name: str) -> None:
    copied = (
        "insert into monitoring.drift_incidents (model_name, upstream, cause, is_data_incident, severity, features,"
        " owner, summary, findings, opened_at, last_alarm_at) select model_name, 'plans', 'new category', false,"
        " severity, '{plan}', owner, %s, findings, opened_at, last_alarm_at from monitoring.drift_incidents"
        " where incident_id = %s"
    )
    execute(copied, f"plans: plan: new category, never seen: {name}. Ask somebody.", incident)
    try:
        assert name in text(run("incidents"))
    finally:
        execute("delete from monitoring.drift_incidents where upstream = 'plans'")


def blocking(model: Model) -> list[int]:
    """The incidents that the policy is told of."""
    with warehouse.connect() as connection:
        return [found.incident_id for found in gather(connection, model, None, AS_OF).data_incidents]


@pytest.mark.parametrize("verdict", ["genuine", "benign"])
def test_an_incident_that_is_resolved_blocks_retraining_no_more(incident: int, churn: Model, verdict: str) -> None:
    assert blocking(churn) == [incident]
    result = run("resolve-incident", str(incident), "--as", verdict, "--note", "the owner asked for it")
    assert text(result).startswith(f"Incident {incident} is {verdict}. user_session_features: ")
    assert "avg_session_duration_minutes: unit change" in result.stdout
    assert blocking(churn) == []
    assert rows(f"select verdict, verdict_note from monitoring.drift_incidents where incident_id = {incident}") == [
        (verdict, "the owner asked for it")
    ]
    # It is still there, since the alarm is.
    assert verdict in text(run("incidents"))


def test_an_incident_may_be_resolved_otherwise_later(incident: int) -> None:
    run("resolve-incident", str(incident), "--as", "genuine", "--note", "a guess")
    run("resolve-incident", str(incident), "--as", "benign")
    assert rows(f"select verdict, verdict_note from monitoring.drift_incidents where incident_id = {incident}") == [
        ("benign", None)
    ]


def test_an_incident_that_does_not_exist_is_one_line_and_exit_code_1(incident: int) -> None:
    before = rows("select * from monitoring.drift_incidents")
    result = run("resolve-incident", "4711", "--as", "genuine")
    assert result.exit_code == 1
    assert one_red_line(result) == "There is no incident 4711; `skewless incidents` lists them."
    assert rows("select * from monitoring.drift_incidents") == before


@pytest.mark.parametrize("arguments", [["1"], ["1", "--as", "boring"], ["one", "--as", "genuine"]], ids=" ".join)
def test_a_verdict_is_needed_and_has_to_be_one_of_two(broken: Any, arguments: list[str]) -> None:
    assert run("resolve-incident", *arguments).exit_code == 2


def test_a_replay_by_the_same_rules_changes_nothing(broken: Any, churn: Model) -> None:
    printed = text(run("replay-drift", "--since", "2013-07-02T00:00:00"))
    assert "What would end differently (0 comparisons) nothing yet" in printed
    header, *cells = printed.partition("What would")[0].split("alarms_by_these_rules")
    assert "Alarms by feature" in header
    for feature in churn.feature_names:
        counted = drift_warehouse.reports(feature)
        alarms = sum(row["drift_detected"] for row in counted)
        assert f"{feature} {len(counted)} {alarms} {alarms}" in cells[0]


def test_a_replay_by_other_rules_shows_what_would_end_differently(
    broken: Any, churn: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Minutes became more.
    calm = drift_warehouse.with_feature(churn, MINUTES, drift=DriftSettings(direction="down"))
    monkeypatch.setattr(cli, "read_contract", lambda manifest: SimpleNamespace(model=lambda name: calm))
    printed = text(run("replay-drift", "--since", "2013-07-02T00:00:00", "--until", "2013-07-02T12:00:00"))
    verdicts = list(replay(calm, AS_OF - drift_warehouse.HOUR * 12, AS_OF))
    silenced = sum(verdict.changed for verdict in verdicts)
    alarms = len(drift_warehouse.reports(MINUTES, drift_detected=True))
    assert 0 < silenced <= alarms
    assert f"What would end differently ({silenced} comparisons)" in printed
    assert f"{MINUTES} {len(drift_warehouse.reports(MINUTES))} {alarms} {alarms - silenced}" in printed
    assert f"2013-07-02 12:00 {MINUTES} 1 training critical ok distance" in printed


def test_a_replay_shows_fifty_of_many_differences() -> None:
    subject = Subject(MINUTES, AS_OF, "snapshot")
    verdicts = [Verdict(subject, DriftStatus.OK, DriftStatus.WARNING, f"finding {number}") for number in range(60)]
    totals, changes = summary.replayed(verdicts)
    assert (totals.row_count, changes.row_count) == (1, 50)
    assert changes.title == "What would end differently (50 of 60 comparisons)"


def test_a_replay_counts_a_comparison_that_was_not_made_before_as_silent() -> None:
    subject = Subject(MINUTES, AS_OF, "snapshot")
    (totals, changes) = summary.replayed([Verdict(subject, None, DriftStatus.CRITICAL, "new")])
    assert [list(column.cells) for column in totals.columns] == [[MINUTES], ["1"], ["0"], ["1"]]
    assert changes.row_count == 1


def test_a_replay_of_a_time_in_which_nothing_was_watched_is_one_line_and_exit_code_1(broken: Any) -> None:
    result = run("replay-drift", "--since", "2014-01-01T00:00:00", "--until", "2014-02-01T00:00:00")
    assert result.exit_code == 1
    assert "No drift report of churn is in (2014-01-01" in result.stderr


@pytest.mark.parametrize(
    "command", [["replay-drift", "--since", "noon"], ["audit-drift", "--feature", "f", "--as-of", "noon"]], ids=" ".join
)
def test_an_instant_that_is_none_is_one_line_and_exit_code_1(broken: Any, command: list[str]) -> None:
    result = run(*command)
    assert result.exit_code == 1
    assert "'noon' is not an instant such as 2013-07-01T00:00:00 (UTC)." in one_red_line(result)


def test_an_audit_is_a_sentence(broken: Any, churn: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    drift_warehouse.become_champion(monkeypatch, "1")
    execute(
        "insert into monitoring.model_baselines (model_name, model_version, training_set, feature_version,"
        " first_label_at, last_label_at, row_count)"
        " values ('churn', '1', 'training.churn_training_set', 'v1', %s, %s, 1) on conflict do nothing",
        drift_warehouse.TRAINED,
        drift_warehouse.TRAINED,
    )
    printed = text(run("audit-drift", "--feature", MINUTES, "--as-of", "2013-07-02T12:00:00"))
    # No value times sixty is among the others.
    assert printed == (f"{MINUTES}: 1.000000 exactly (p 0, 2,000 rows against 2,000); by cells 0.984000 to 1.000000.")


def test_an_audit_without_a_champion_is_one_line_and_exit_code_1(broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    drift_warehouse.become_champion(monkeypatch, None)
    result = run("audit-drift", "--feature", MINUTES, "--as-of", "2013-07-02T12:00:00")
    assert result.exit_code == 1
    assert one_red_line(result) == "churn has no champion yet, so there is nothing to compare with."


def test_without_redis_a_push_says_how_to_get_one(broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "online", dict)
    assert "There is no Redis: set REDIS_URL" in text(run("push-online"))


def test_a_push_says_what_went_online(broken: Any, redis_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server)
    assert "user_session_features: nothing to push." in text(run("push-online", "--view", "user_session_features"))


def test_every_command_finds_the_registry_beside_the_warehouse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise MLflow would make an empty one in the working directory, and no model would have a champion."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "unset below, and restored in the end")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert run("warehouse-url").exit_code == 0
    assert os.environ["MLFLOW_TRACKING_URI"] == f"postgresql+psycopg2:///{settings.MLFLOW_DATABASE}"


# The ML Test Score: what counts, and what somebody has to write down


@pytest.fixture
def evidence(broken: Any) -> Iterator[None]:
    """No evidence yet, and none left."""
    execute("truncate monitoring.scorecard_evidence")
    yield
    execute("truncate monitoring.scorecard_evidence")


RECORD = ["record-evidence", "--test", "infra_2", "--how", "automated", "--seen-at", "2013-07-02T00:00:00"]


def test_a_scorecard_without_evidence_says_what_would_be(evidence: None) -> None:
    printed = text(run("scorecard", "--at", "2013-07-03T00:00:00"))
    assert "Data: 0 of 7" in printed
    assert printed.endswith("The ML Test Score of churn at 2013-07-03 00:00Z is 0.")
    for name in TESTS:
        assert f" {name} " in printed
    assert "make record-evidence" in printed


def test_what_is_recorded_counts_until_it_expires(evidence: None) -> None:
    result = run(*RECORD, "--evidence", 'It\'s "fine": 1,204 of 1,204.', "--valid-days", "2", "--by", "ci")
    assert text(result) == "churn, infra_2: passed, automated; it counts until 2013-07-04 00:00Z."
    assert rows("select evidence, recorded_by from monitoring.scorecard_evidence") == [
        ('It\'s "fine": 1,204 of 1,204.', "ci")
    ]
    for at, points, state in (
        ("2013-07-01T23:59:59", 0, "missing"),
        ("2013-07-02T00:00:00", 1, "passed"),
        ("2013-07-03T23:59:59", 1, "passed"),
        ("2013-07-04T00:00:00", 0, "expired"),
    ):
        printed = text(run("scorecard", "--at", at))
        assert f"Infrastructure: {points} of 7" in printed, at
        assert state in printed


def test_what_was_seen_to_fail_is_recorded_too(evidence: None) -> None:
    run(*RECORD, "--evidence", "1,204 of 1,204.")
    assert "failed, automated" in text(run(*RECORD, "--evidence", "1,203 of 1,204.", "--failed"))
    assert "Infrastructure: 0 of 7" in text(run("scorecard", "--at", "2013-07-03T00:00:00"))


def test_by_hand_it_is_half_a_point(evidence: None) -> None:
    by_hand = [part.replace("automated", "by-hand") for part in RECORD]
    assert "by hand" in text(run(*by_hand, "--evidence", "Read by two people."))
    assert "Infrastructure: 0.5 of 7" in text(run("scorecard", "--at", "2013-07-03T00:00:00"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--test", "infra_9"], "There is no test 'infra_9'; `skewless scorecard` lists those there are."),
        (["--evidence", " "], "Evidence is empty: say what was seen, as a sentence with numbers."),
        (["--seen-at", "noon"], "'noon' is not an instant such as 2013-12-31T00:00:00 (UTC)."),
        (["--model", "fraud"], "No model 'fraud' is declared; dbt's exposures declare churn."),
    ],
    ids=str,
)
def test_evidence_that_cannot_be_kept_is_one_line_and_exit_code_1(
    evidence: None, arguments: list[str], message: str
) -> None:
    result = run(*RECORD, "--evidence", "1,204 of 1,204.", *arguments)
    assert result.exit_code == 1
    assert one_red_line(result) == message


@pytest.mark.parametrize("arguments", [["--how", "guessed"], ["--valid-days", "0"]], ids=" ".join)
def test_evidence_is_automated_or_by_hand_and_lasts_a_day_at_least(evidence: None, arguments: list[str]) -> None:
    assert run(*RECORD, "--evidence", "1,204 of 1,204.", *arguments).exit_code == 2
