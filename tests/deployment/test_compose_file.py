"""docker-compose.yml keeps its rules: all is pinned, watched, bounded and without privileges; no secret is in it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from features.deployment.initialise import LOGINS
from features.roles import ROLES
from tests.deployment.compose_file import (
    EXAMPLE,
    FILE,
    SECRETS,
    Service,
    VariableMissing,
    filled_in,
    load,
    new_variables,
    read_env,
    write_env,
)
from tests.deployment.pod import image_variables
from tests.places import ROOT

TEXT = FILE.read_text()
DOCUMENT: dict[str, Any] = yaml.safe_load(TEXT)
NAMES = list(DOCUMENT["services"])
OURS = [name for name in NAMES if name not in {"warehouse", "metadata-db", "redis"}]
ONCE = {"init", "cli", "loader", "admin"}
AIRFLOW = {"init", "api-server", "scheduler", "dag-processor", "triggerer", "worker", "cli", "admin"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example, and the .env made of it."""
    folder = tmp_path_factory.mktemp("deployment")
    new_variables(folder)
    return folder


@pytest.fixture(scope="module")
def variables(folder: Path) -> dict[str, str]:
    return read_env((folder / ".env").read_text())


@pytest.fixture(scope="module")
def services(variables: dict[str, str]) -> dict[str, Service]:
    return load(FILE, variables)


# Secrets


def test_every_secret_is_strong_and_its_own(variables: dict[str, str]) -> None:
    drawn = [variables[name] for name in SECRETS]
    assert len(SECRETS) > 10
    assert len(set(drawn)) == len(drawn)
    assert min(map(len, drawn)) >= 43  # 32 bytes


def test_the_fernet_key_is_one(variables: dict[str, str]) -> None:
    from cryptography.fernet import Fernet

    Fernet(variables["FERNET_KEY"])


def test_secrets_fit_into_an_url_as_they_are(variables: dict[str, str]) -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9_=-]+", variables[name]) for name in SECRETS)


def test_only_the_owner_reads_them(folder: Path) -> None:
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600


def test_making_them_again_changes_nothing(folder: Path) -> None:
    before = (folder / ".env").read_text()
    assert write_env(folder) == before


@pytest.mark.starts
def test_the_command_says_where_they_are(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text(EXAMPLE)
    command = [sys.executable, str(ROOT / "scripts" / "write_env.py"), str(tmp_path)]
    for said in (f"{len(SECRETS)} new secrets are in", "No secret was missing from"):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == f"{said} {tmp_path}/.env.\n"


def test_one_that_is_missing_is_added_and_what_else_was_edited_stays(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text(EXAMPLE)
    (tmp_path / ".env").write_text("AIRFLOW_PORT=18080\nJWT_SECRET=mine\nREDIS_PASSWORD=\n")
    found = read_env(write_env(tmp_path))
    assert (found["AIRFLOW_PORT"], found["JWT_SECRET"]) == ("18080", "mine")
    assert all(found[name] for name in SECRETS)


@pytest.mark.starts
def test_none_is_in_the_repository() -> None:
    tracked = subprocess.run(["git", "ls-files", ".env"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert tracked.stdout == ""
    ignored = subprocess.run(["git", "check-ignore", "--quiet", ".env"], cwd=ROOT, check=False)
    assert ignored.returncode == 0


@pytest.mark.parametrize("name", SECRETS)
def test_nothing_starts_without_one(variables: dict[str, str], name: str) -> None:
    with pytest.raises(VariableMissing, match=f"^{name}: run `make secrets` first$"):
        filled_in(DOCUMENT["services"], variables | {name: ""})


def test_what_looks_like_a_secret_is_a_variable() -> None:
    """No value beside a name of that kind but a `${...}`."""
    looks = re.compile(r"^\s*(\w*(?:PASSWORD|SECRET|FERNET_KEY|SECRET_KEY|SALT|AUTH)): (?!\$\{)(.*)$", re.MULTILINE)
    assert [found.group(0) for found in looks.finditer(TEXT)] == []
    in_an_address = re.compile(r"://[^\s$/]*:[^\s$/@]+@")
    assert in_an_address.findall(TEXT) == []


@pytest.mark.parametrize("name", NAMES)
def test_no_secret_is_on_a_command_line(services: dict[str, Service], variables: dict[str, str], name: str) -> None:
    lines = " ".join([*services[name].command, *(services[name].health or [])])
    assert [secret for secret in SECRETS if variables[secret] in lines] == []


def test_each_service_gets_only_the_logins_that_it_needs(
    services: dict[str, Service], variables: dict[str, str]
) -> None:
    passwords = {variables[f"{login.upper()}_PASSWORD"]: login for login in LOGINS}
    held = {
        name: {passwords[value] for value in service.environment.values() if value in passwords}
        for name, service in services.items()
    }
    assert held == {
        "warehouse": set(),
        "metadata-db": set(),
        "redis": set(),
        "init": set(LOGINS),
        "mlflow": set(),
        "api-server": {"health"},
        "scheduler": {"pipeline"},
        "dag-processor": set(),
        "triggerer": set(),
        "worker": {"pipeline"},
        "cli": {"pipeline"},
        "admin": set(),
        "loader": {"ingest"},
        "service": {"service"},
    }


def test_every_role_has_a_login() -> None:
    assert {role for roles in LOGINS.values() for role in roles} == set(ROLES)


# Containers


@pytest.mark.parametrize("name", NAMES)
def test_no_image_is_unpinned(services: dict[str, Service], name: str) -> None:
    image = services[name].declared["image"]
    assert re.fullmatch(r"[a-z]+:\d+\.\d+[\w.-]*", image), image
    assert re.search(r"image: \$\{\w+_IMAGE:-", TEXT), "a digest can be given"


@pytest.mark.parametrize("name", NAMES)
def test_every_container_is_without_privileges(services: dict[str, Service], name: str) -> None:
    declared = services[name].declared
    assert declared["cap_drop"] == ["ALL"]
    assert declared["security_opt"] == ["no-new-privileges:true"]
    assert declared["read_only"] is True
    assert declared.get("init", False) is (name not in OURS), "our image has a process 1 that passes signals on"
    assert declared["user"] not in {"0", "root", "0:0"}
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & declared.keys()


@pytest.mark.parametrize("name", NAMES)
def test_every_container_is_bounded(services: dict[str, Service], name: str) -> None:
    declared = services[name].declared
    assert set(declared["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert declared["logging"]["options"]["max-size"]
    assert declared["restart"] == ("no" if name in ONCE else "unless-stopped")


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_stays_is_watched(services: dict[str, Service], name: str) -> None:
    assert (services[name].health is None) == (name in ONCE)


@pytest.mark.parametrize("name", NAMES)
def test_whoever_waits_says_for_what(services: dict[str, Service], name: str) -> None:
    for other, wanted in services[name].declared.get("depends_on", {}).items():
        ends = other == "init"
        assert wanted["condition"] == ("service_completed_successfully" if ends else "service_healthy")


def test_who_has_a_warehouse_need_not_run_another(services: dict[str, Service]) -> None:
    assert services["warehouse"].declared["profiles"] == ["warehouse"]
    waiting = [service.declared.get("depends_on", {}).get("warehouse") for service in services.values()]
    assert {wanted["required"] for wanted in waiting if wanted} == {False}
    assert "warehouse" in read_env(EXAMPLE)["COMPOSE_PROFILES"].split(",")


def test_what_ends_is_waited_for_in_every_profile(services: dict[str, Service]) -> None:
    """Otherwise `docker compose up --wait` takes its end for a failure."""
    assert "init" in services["api-server"].declared["depends_on"]
    assert "profiles" not in services["api-server"].declared


@pytest.mark.parametrize("name", NAMES)
def test_ports_are_on_loopback(services: dict[str, Service], name: str) -> None:
    assert all(str(port).startswith("127.0.0.1:") for port in services[name].declared.get("ports", []))


@pytest.mark.parametrize("name", NAMES)
def test_folders_of_the_checkout_are_mounted_read_only(services: dict[str, Service], name: str) -> None:
    for target, source in services[name].mounts.items():
        assert source in DOCUMENT["volumes"] or target.endswith(":ro") or target == "/backups", target


def test_every_volume_is_used(services: dict[str, Service]) -> None:
    used = {source for service in services.values() for source in service.mounts.values()}
    assert set(DOCUMENT["volumes"]) <= used


@pytest.mark.parametrize("name", sorted(set(OURS) - {"loader", "mlflow", "admin"}))
def test_the_whole_project_is_in_every_container(services: dict[str, Service], name: str) -> None:
    mounts = services[name].mounts
    assert {"dags", "plugins", "dbt_project", "features"} <= {target.split("/")[-1].split(":")[0] for target in mounts}


# Variables


def known_to_airflow() -> set[str]:
    from airflow.configuration import conf
    from airflow.providers_manager import ProvidersManager

    ProvidersManager().initialize_providers_configuration()
    return {
        f"AIRFLOW__{section.upper().replace('.', '_')}__{option.upper()}"
        for section, described in conf.configuration_description.items()
        for option in described["options"]
    }


def test_airflow_knows_every_variable_that_is_meant_for_it(services: dict[str, Service]) -> None:
    asked = {name for service in services.values() for name in service.environment if name.startswith("AIRFLOW__")}
    asked |= {name for name in image_variables((ROOT / "Dockerfile").read_text()) if name.startswith("AIRFLOW__")}
    cosmos = {name for name in asked if name.startswith("AIRFLOW__COSMOS__")}  # it asks for them without declaring them
    assert len(asked) > 15
    assert asked - cosmos - known_to_airflow() == set()


def test_cosmos_knows_those_meant_for_it(services: dict[str, Service]) -> None:
    import cosmos.settings

    options = {"cache_dir", "enable_telemetry", "enable_memory_optimised_imports"}
    asked = {
        name for service in services.values() for name in service.environment if name.startswith("AIRFLOW__COSMOS__")
    }
    assert {name.removeprefix("AIRFLOW__COSMOS__").lower() for name in asked} <= options
    assert all(f'"{option}"' in Path(cosmos.settings.__file__).read_text() for option in options)


SAME = ["FERNET_KEY", "JWT_SECRET", "JWT_ISSUER", "SECRET_KEY", "EXECUTOR", "AUTH_MANAGER", "EXECUTION_API_SERVER_URL"]


@pytest.mark.parametrize("ending", SAME)
def test_what_containers_have_to_agree_on_is_the_same(services: dict[str, Service], ending: str) -> None:
    values = [
        {value for variable, value in services[name].environment.items() if variable.endswith(f"__{ending}")}
        for name in sorted(AIRFLOW)
    ]
    assert all(len(each) == 1 for each in values)
    assert len({frozenset(each) for each in values}) == 1


def test_every_variable_of_the_file_is_in_the_example() -> None:
    named = set(re.findall(r"\$\{(\w+)", TEXT))
    explained = set(re.findall(r"^(?:# )?([A-Z_]+)=", EXAMPLE, flags=re.MULTILINE))
    assert named - explained == set()
    assert explained - named == {"COMPOSE_PROFILES"}


def test_the_defaults_in_the_example_are_those_of_the_file() -> None:
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", TEXT))
    shown = dict(re.findall(r"^# ([A-Z_]+)=(.*)$", EXAMPLE, flags=re.MULTILINE))
    # What one would set, not what there is.
    examples = {"AIRFLOW_EXECUTOR", "AIRFLOW_JSON_LOGS", "OPENLINEAGE_URL"}
    examples |= {"STATSD_ON", "OTEL_ON", "OTEL_EXPORTER_OTLP_ENDPOINT", "WAREHOUSE_SSLROOTCERT"}
    differing = {name: (value, defaults[name]) for name, value in shown.items() if value != defaults[name]}
    assert differing.keys() <= examples


def test_only_loopback_and_the_services_are_named(services: dict[str, Service]) -> None:
    hosts = {
        host
        for service in services.values()
        for value in service.environment.values()
        for host in re.findall(r"://(?:[^\s/@]*@)?([\w.-]+)", value)
    }
    assert hosts <= {*services, "localhost"}
