"""Each kind of work is done by a login that may do that and no more; and dbt's rebuilding takes no right away."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from features import settings, warehouse
from features.contract import Model
from features.errors import SkewlessError
from features.ingest.loading import load_file
from features.migrations import migrate
from features.roles import ROLES, ensure_login
from features.serving.store import FeatureStore
from features.serving.tracker import ProductionInferenceTracker
from features.steps.compare_served import compare_served
from features.steps.conclude import conclude
from features.steps.decide import decide
from features.steps.measure import measure
from features.steps.promote import promote
from features.steps.publish import publish
from features.steps.retain import thin, thin_log
from features.steps.roll_back import roll_back
from features.steps.roll_back_model import roll_back_model
from features.steps.score import score
from features.steps.score_tests import score_tests
from features.steps.summarise_inference import summarise_inference
from features.steps.train import train
from features.steps.watch import plan, watch_feature
from features.warehouse import NotAllowed, WarehouseUnavailable
from tests.databases import copy_of, drop_database, execute, migrated, registry, use, using
from tests.dbt_project.running import dbt, run_dbt
from tests.postgres_server import PostgresServer, password_server
from tests.steps.small_warehouse import EARLIER, HISTORY, LATER

AS_OF = datetime(2013, 7, 2, tzinfo=UTC)
PASSWORD = "a password of the tests"


def login_of(role: str) -> str:
    return f"the_{role}"


@contextmanager
def logged_in(role: str) -> Iterator[None]:
    """Work as a login that is a member of one role only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGUSER", login_of(role))
        yield


def make_logins() -> None:
    with warehouse.connect() as connection:
        for role in ROLES:
            ensure_login(connection, login_of(role), [role], PASSWORD)
        ensure_login(connection, login_of("pipeline"), ["transformer", "trainer"], PASSWORD)


@pytest.fixture(scope="module")
def lived_in(sample_database: str, churn: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """The sample, after an hour's work in which each login did its own."""
    artifacts = tmp_path_factory.mktemp("artifacts")
    with copy_of(sample_database, "skewless_roles") as name, using(name):
        make_logins()
        with registry(artifacts) as its_database, pytest.MonkeyPatch.context() as patch:
            # The registry is a database of its own, with a login of its own.
            patch.setenv("MLFLOW_TRACKING_URI", f"postgresql+psycopg2://postgres@/{its_database}")
            work(churn)
            yield churn


def work(churn: Model) -> None:
    """What the Dags do in an hour, and then some."""
    with logged_in("transformer"):
        run_dbt(AS_OF)
        assert publish(churn.feature_view, AS_OF)["is_live"]
    with logged_in("trainer"):
        assert promote(churn, train(churn, AS_OF), AS_OF)["promoted"]
        assert score(churn, AS_OF)["scored"] > 1000
    with logged_in("feature_server"):
        serve(churn)
    with logged_in("transformer"):
        compare_served(churn, AS_OF)
        thin(churn.feature_view, AS_OF)
    with logged_in("trainer"):
        summarise_inference(churn, AS_OF)
        measure(churn, AS_OF)
        thin_log(churn, AS_OF)
        planned = plan(churn, AS_OF)
        conclude(churn, planned, [watch_feature(churn, "session_count", planned, AS_OF)], AS_OF)
        decide(churn, AS_OF, "a run")
    with logged_in("pipeline"):  # it looks at everything, events included
        score_tests(churn, AS_OF)


def serve(churn: Model) -> None:
    """A request of somebody who is live, and of somebody whom nobody knows."""
    with FeatureStore(churn.feature_view, feature_version=None, redis_url=None) as store:
        (known,) = store.read_user_features_batch(["N14228"], at=AS_OF)
        assert known is not None
        unknown = store.read_user_features_or_compute("nobody", at=AS_OF)
        assert (known.served_from, unknown.served_from) == ("postgres", "computed")
    with ProductionInferenceTracker("churn", "1", known.feature_version) as tracker:
        request: dict[str, Any] = {"entity_id": "N14228", "features": known.features, "as_of": known.as_of}
        with tracker.track_inference(**request, logged_at=AS_OF) as inference:
            inference.log_prediction(0.5)
    assert (tracker.statistics().written, tracker.statistics().rejected) == (1, 0)


def test_an_hour_of_work_was_done_without_any_other_right(lived_in: Model) -> None:
    with warehouse.connect() as connection:
        owners = connection.execute(
            "select distinct relowner::regrole::text as owner from pg_class"
            " where oid in ('features.user_session_features'::regclass, 'serving.user_features'::regclass,"
            " 'training.churn_training_set'::regclass, 'staging.stg_session_events'::regclass)"
        ).fetchall()
    assert owners == [{"owner": "transformer"}]


FORBIDDEN = {
    "loader": [
        "delete from raw.session_events",
        "update raw.session_events set user_id = 'x'",
        "truncate raw.session_events",
        "select * from features.user_session_features",
        "select * from serving.user_features",
        "select * from monitoring.drift_reports",
        "create table raw.mine (a int)",
    ],
    "transformer": [
        "insert into raw.session_events (event_id) values ('x')",
        "delete from raw.session_events",
        "delete from serving.publications",
        "insert into serving.predictions (model_name) values ('x')",
        "insert into monitoring.champions (model_name) values ('x')",
        "update monitoring.retraining_decisions set reason = 'x'",
        "select * from monitoring.retraining_decisions",
        "create table raw.mine (a int)",
        "create table monitoring.mine (a int)",
        "create schema mine",
    ],
    "trainer": [
        "select * from raw.session_events",
        "select * from staging.stg_session_events",
        "insert into raw.session_events (event_id) values ('x')",
        "update features.user_session_features set session_count = 0",
        "delete from features.churn_labels",
        "insert into serving.publications (feature_view) values ('x')",
        "update serving.predictions set score = 0",
        "drop view serving.user_features",
        "create or replace view serving.user_features as select 1 as a",
        "create table training.mine (a int)",
        "select * from features.user_session_features_as_of_each(array['N14228'], array[now()])",
    ],
    "serving_reader": [
        "select * from serving.publications",
        "select * from serving.predictions",
        "select * from serving.written_features",
        "select * from features.user_session_features",
        "select * from features.user_session_features_as_of(array['N14228'], now())",
        "select * from training.churn_training_set",
        "select * from raw.session_events",
        "select * from monitoring.inference_log",
        "drop view serving.user_features",
        "create table serving.mine (a int)",
    ],
    "feature_server": [
        "select * from raw.session_events",
        "select * from staging.stg_session_events",
        "select * from features.explain_user_session_features('N14228', now())",
        "select * from features.churn_labels",
        "select * from training.churn_training_set",
        "select features from monitoring.inference_log",
        "delete from monitoring.inference_log",
        "update features.user_session_features set session_count = 0",
        "update serving.publications set as_of = now()",
        "delete from serving.written_features",
    ],
    "monitor_reader": [
        "select * from raw.session_events",
        "select * from features.user_session_features",
        "select * from features.user_session_features_as_of(array['N14228'], now())",
        "select * from serving.user_features",
        "select * from serving.predictions",
        "select * from monitoring.inference_log",
        "select spine from training.extracts",
        "delete from monitoring.drift_reports",
        "create table monitoring.mine (a int)",
    ],
}


def test_there_is_a_list_for_each_role() -> None:
    assert FORBIDDEN.keys() == ROLES.keys()


@pytest.mark.parametrize(("role", "statement"), [(role, each) for role, every in FORBIDDEN.items() for each in every])
def test_a_login_may_not(lived_in: Model, role: str, statement: str) -> None:
    refused = pytest.raises(NotAllowed, match=rf"{login_of(role)} may not do this: (permission denied|must be owner)")
    with logged_in(role), refused, warehouse.connect() as connection:
        connection.execute(statement)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("other", ["postgres", *ROLES])
def test_a_login_cannot_become_another(lived_in: Model, role: str, other: str) -> None:
    with logged_in(role), warehouse.connect() as connection:
        if other == role:
            connection.execute(f"set role {other}")
            return
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"set role {other}")


READABLE = {
    "serving_reader": ["serving.user_features", "serving.churn_predictions", "serving.event_type_snapshot"],
    "trainer": ["serving.user_features", "features.churn_labels", "training.churn_training_set"],
    "feature_server": [
        "features.user_session_features",
        "features.event_type_features",
        "features.user_session_features_as_of(array['u01'], now())",
    ],
}


@pytest.fixture
def rebuilt(server: None) -> Iterator[None]:
    """A small warehouse that dbt has built once."""
    with migrated("skewless_rebuilt") as name, using(name):
        make_logins()
        execute(HISTORY)
        run_dbt(EARLIER)
        yield


def readable() -> dict[str, list[str]]:
    """What each login really reads of what is for it."""
    found: dict[str, list[str]] = {}
    for role, relations in READABLE.items():
        for relation in relations:
            with logged_in(role), warehouse.connect() as connection:
                connection.execute(f"select * from {relation} limit 1")
                found.setdefault(role, []).append(relation)
    return found


def test_rebuilding_takes_no_right_away(rebuilt: None) -> None:
    assert readable() == READABLE
    execute("grant usage on schema serving, features to the_loader")
    execute("grant select on serving.user_features, features.user_session_features to the_loader")
    run_dbt(LATER)
    assert readable() == READABLE
    # Nor what somebody granted by hand.
    with logged_in("loader"), warehouse.connect() as connection:
        connection.execute("select * from serving.user_features limit 1")
        connection.execute("select * from features.user_session_features limit 1")


def test_what_is_made_anew_has_its_grants(rebuilt: None) -> None:
    execute("drop view serving.user_features")
    dbt(["run", "--full-refresh"], settings.WAREHOUSE_DATABASE, as_of=EARLIER.isoformat())
    assert readable() == READABLE


def test_what_reads_events_for_others_trusts_no_name_of_theirs(lived_in: Model) -> None:
    """A reader's own function or table of the same name is not what the as-of function calls."""
    ask = "select session_count from features.user_session_features_as_of(array['N14228'], '2013-07-01+00')"
    with logged_in("feature_server"), warehouse.connect() as connection:
        honest = connection.execute(ask).fetchone()
        connection.execute("create function pg_temp.count(boolean) returns bigint language sql as 'select 0'")
        connection.execute("set local search_path = pg_temp, pg_catalog")
        assert connection.execute(ask).fetchone() == honest
        assert honest
        assert honest["session_count"] > 0


def test_a_roll_back_is_the_work_of_the_same_logins(lived_in: Model) -> None:
    with logged_in("transformer"):
        roll_back([lived_in.feature_view], AS_OF, "to see whether it may")
    with logged_in("trainer"), pytest.raises(SkewlessError, match="There is no earlier champion of churn"):
        roll_back_model(lived_in, None, "to see whether it may")


# With passwords, over TCP


@pytest.fixture(scope="module")
def guarded(server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server that asks for passwords and for TLS, and logs every statement; migrated, with logins."""
    folder = settings.RUN_DIR / "guarded"
    with (
        password_server(folder, password=PASSWORD, settings={"log_statement": "all"}, tls=True) as started,
        pytest.MonkeyPatch.context() as patch,
    ):
        use("skewless_guarded", patch)
        for name, value in encrypted(started).items():
            patch.setenv(name, value)
        migrate()
        make_logins()
        yield started


def encrypted(server: PostgresServer, **changes: str) -> dict[str, str]:
    return server.variables(PGSSLMODE="verify-full", PGSSLROOTCERT=str(server.folder / "ca.crt"), **changes)


def test_dbt_and_python_speak_tls_and_check_who_answers(guarded: PostgresServer) -> None:
    execute(HISTORY)
    with logged_in("transformer"):
        run_dbt(EARLIER)
    with warehouse.connect() as connection:
        found = connection.execute("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()").fetchone()
    assert found
    assert found["ssl"]
    assert found["version"] >= "TLSv1.2"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"PGSSLMODE": "disable"}, "no encryption"),
        ({"PGPASSWORD": "another password"}, "password authentication failed"),
        ({"PGSSLROOTCERT": "stranger.crt"}, "certificate verify failed"),
        ({"PGHOST": "localhost"}, "does not match host name"),
    ],
)
def test_who_does_not_fit_is_turned_away(
    guarded: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    from tests.postgres_server import write_certificates

    write_certificates(tmp_path)
    stranger = {name: str(tmp_path / "ca.crt") if value == "stranger.crt" else value for name, value in changes.items()}
    for name, value in stranger.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(WarehouseUnavailable) as refused, warehouse.connect():
        pass
    assert said in str(refused.value)
    assert PASSWORD not in str(refused.value)


def test_a_file_comes_in_by_a_loader(guarded: PostgresServer, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["event_id", "user_id", "started_at", "duration_seconds", "ingested_at"])
        lines.writerow(["a", "u01", "2013-07-01T10:00:00+00:00", "60", "2013-07-01T11:00:00+00:00"])
        lines.writerow(["a", "u01", "2013-07-01T10:00:00+00:00", "60", "2013-07-01T11:00:00+00:00"])
    with logged_in("loader"):
        result = load_file(path)
    assert (result.loaded, result.rejected) == (1, 1)


def test_no_password_is_in_the_servers_log(guarded: PostgresServer) -> None:
    make_logins()
    assert "create role" in guarded.log
    assert "SCRAM-SHA-256$" in guarded.log
    assert PASSWORD not in guarded.log


def test_a_login_can_be_changed(guarded: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with warehouse.connect() as connection:
        ensure_login(connection, "somebody", ["trainer", "loader"], PASSWORD)
        ensure_login(connection, "somebody", ["serving_reader"], "quite another password")
    assert memberships("somebody") == ["serving_reader"]
    monkeypatch.setenv("PGUSER", "somebody")
    with pytest.raises(WarehouseUnavailable, match="authentication failed"), warehouse.connect():
        pass
    monkeypatch.setenv("PGPASSWORD", "quite another password")
    with warehouse.connect() as connection:
        connection.execute("select 1")


def test_a_command_makes_one_and_prints_no_password(guarded: PostgresServer) -> None:
    command = [str(Path(sys.executable).with_name("skewless")), "create-login", "by_command", "--role", "trainer"]
    env = os.environ | {"SKEWLESS_NEW_PASSWORD": "given by a variable"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "by_command may log in: trainer scores, watches, decides and trains, on what dbt made.\n"
    assert memberships("by_command") == ["trainer"]


def memberships(login: str) -> list[str]:
    with warehouse.connect() as connection:
        found = connection.execute(
            "select roleid::regrole::text as role from pg_auth_members where member = %s::regrole order by 1", [login]
        )
        return [row["role"] for row in found]


@pytest.mark.parametrize(
    ("name", "roles", "password", "said"),
    [
        ("a", ["king"], PASSWORD, "king is no role of ours; there are loader, "),
        ("a", [], PASSWORD, "Nothing is no role of ours"),
        ("loader", ["loader"], PASSWORD, "loader is a role, and nobody logs in as one"),
        ("a", ["loader"], "short", "The password of a is too short: 12 characters at least"),
    ],
)
def test_what_is_no_login_is_refused(
    guarded: PostgresServer, name: str, roles: list[str], password: str, said: str
) -> None:
    with pytest.raises(SkewlessError, match=said), warehouse.connect() as connection:
        ensure_login(connection, name, roles, password)


def test_who_may_not_make_logins_hears_it(guarded: PostgresServer) -> None:
    refused = pytest.raises(SkewlessError, match="The login a_new_one cannot be made: permission denied")
    with logged_in("trainer"), refused, warehouse.connect() as connection:
        ensure_login(connection, "a_new_one", ["loader"], PASSWORD)


# Upgrading a warehouse in which one login did everything


def test_what_dbt_made_before_is_handed_over(server: None) -> None:
    name = "skewless_handed_over"
    drop_database(name)
    with pytest.MonkeyPatch.context() as patch:
        use(name, patch)
        migrate("0007")
        execute(HISTORY)
        build_as_before()
        before = served(EARLIER)
        migrate()
        make_logins()
        assert served(EARLIER) == before
        with logged_in("transformer"):
            run_dbt(LATER)
            run_dbt(EARLIER)
        assert served(EARLIER) == before
    drop_database(name)


def build_as_before() -> None:
    """As a dbt that knew no roles did: everything belongs to who ran it."""
    execute("alter role transformer superuser")
    try:
        run_dbt(EARLIER)
    finally:
        execute("alter role transformer nosuperuser")
    execute("reassign owned by transformer to current_user")
    execute("drop owned by transformer")


def served(as_of: datetime) -> list[dict[str, Any]]:
    with warehouse.connect() as connection:
        return connection.execute(
            "select * from features.user_session_features where as_of = %s order by user_id", [as_of]
        ).fetchall()
