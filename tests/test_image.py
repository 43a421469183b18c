"""The Dockerfile's rules that can be read off it. `make image-check` builds the image, runs it and looks inside."""

import fnmatch
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.places import ROOT

SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|FERNET|API_KEY|CREDENTIAL", re.IGNORECASE)


def instructions() -> list[tuple[str, str]]:
    """What the Dockerfile tells a builder: instruction and arguments, each on one line."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    split = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name, arguments.strip()) for name, _, arguments in split]


INSTRUCTIONS = instructions()
FINAL_STAGE = INSTRUCTIONS[max(place for place, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM") :]


def of(name: str, among: list[tuple[str, str]] = INSTRUCTIONS) -> list[str]:
    return [arguments for found, arguments in among if found == name]


def test_the_base_names_a_version_and_takes_a_digest() -> None:
    assert INSTRUCTIONS[0][0] == "ARG"
    assert re.fullmatch(r"BASE=debian:\d+\.\d+-slim", INSTRUCTIONS[0][1])
    stages = {"${BASE}"}
    for arguments in of("FROM"):
        source, _, name = arguments.partition(" AS ")
        assert source in stages
        stages.add(name)
    copied = {match for text in of("COPY") + of("RUN") for match in re.findall(r"\bfrom=(\S+?)(?=[,\s])", text)}
    assert copied <= stages


def test_it_runs_as_a_user_without_a_name_to_resolve() -> None:
    assert of("USER", FINAL_STAGE) == ["50000:0"]


def test_system_packages_are_the_asked_for_and_leave_no_lists() -> None:
    installs = [text for text in of("RUN") if "apt-get install" in text]
    assert installs
    for text in installs:
        assert "--no-install-recommends" in text
        assert "rm -rf /var/lib/apt/lists/*" in text
        assert not re.search(r"\b(gcc|g\+\+|build-essential|make|git|curl|wget)\b", text)


def test_every_package_of_the_index_is_installed_by_hash() -> None:
    installs = [part for text in of("RUN") for part in re.split(r";|&&", text) if "pip install" in part]
    from_index = [part for part in installs if "--no-deps --no-build-isolation --editable /opt/skewless" not in part]
    assert [re.findall(r"--requirement /build/(\S+)", part) for part in from_index] == [
        ["requirements-uv.lock"],
        ["requirements.lock"],
    ]
    assert all("--require-hashes" in part for part in from_index)


def test_nothing_is_fetched_past_the_package_managers() -> None:
    assert of("ADD") == []
    assert not re.search(r"\b(curl|wget)\b", " ".join(of("RUN")))


def test_no_argument_or_variable_is_a_secret() -> None:
    assert [text for text in of("ARG") + of("ENV") if SECRET.search(text)] == []


def test_what_reaches_the_package_index_is_mounted_and_not_copied() -> None:
    for text in of("RUN"):
        if "requirements.lock" in text:
            assert "--mount=type=secret,id=ca," in text
            assert "--mount=type=secret,id=installer," in text


def test_the_command_becomes_the_container_by_itself() -> None:
    assert of("ENTRYPOINT") == ['["/usr/bin/tini", "--"]']
    assert of("CMD") == ['["skewless", "--help"]']
    assert of("HEALTHCHECK") == []


def test_what_is_written_goes_to_the_volume() -> None:
    assert of("VOLUME", FINAL_STAGE) == ["/var/lib/skewless"]
    variables = dict(re.findall(r"(\w+)=(\S*)", " ".join(of("ENV", FINAL_STAGE))))
    for name in ("HOME", "AIRFLOW_HOME", "AIRFLOW__COSMOS__CACHE_DIR", "MPLCONFIGDIR", "SKEWLESS_RUN_DIR"):
        assert variables[name].startswith("/var/lib/skewless"), name
    assert variables["PYTHONDONTWRITEBYTECODE"] == "1"


def goes_in(path: str) -> bool:
    """Whether a builder sees a path of the checkout: the last line of .dockerignore that matches it decides."""
    seen = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").strip()
        if not pattern or pattern.startswith("#"):
            continue
        parents = ["/".join(path.split("/")[:count]) for count in range(1, path.count("/") + 2)]
        if any(matches(parent, pattern) for parent in parents):
            seen = line.startswith("!")
    return seen


def matches(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch.fnmatch(path.split("/")[-1], pattern[3:])
    return path.count("/") == pattern.count("/") and fnmatch.fnmatch(path, pattern)


@pytest.mark.parametrize(
    "path",
    [
        ".git/config", ".run/postgres/PG_VERSION", ".venv/bin/python", ".env", "dags/.env", "features/.env.local",
        "tests/conftest.py", "docs/flow.svg", "scripts/install.sh", "requirements-dev.lock",
        "features/__pycache__/cli.cpython-311.pyc", "dbt_project/target/manifest.json", "dbt_project/logs/dbt.log",
    ],
)  # fmt: skip
def test_what_is_private_or_not_needed_stays_out(path: str) -> None:
    assert not goes_in(path)


def test_what_is_copied_goes_in() -> None:
    sources = [source for text in of("COPY") if "--from" not in text for source in text.split()[:-1]]
    assert {"dags", "dbt_project", "features", "plugins", "requirements.lock"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists()
        assert goes_in(source)
    assert goes_in("features/migrations/env.py")
    assert goes_in("plugins/feature_health/assets/style.css")


@pytest.fixture
def check() -> ModuleType:
    """scripts/image_check.py, which is no package's."""
    spec = importlib.util.spec_from_file_location("image_check", ROOT / "scripts" / "image_check.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_build_gets_this_machines_index_and_not_its_paths(
    check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "FOLDER", tmp_path)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    options = check.build_options({
        "PIP_INDEX_URL": "https://user:it's@index.example.com/simple",
        "PIP_FIND_LINKS": f"{wheels} /nowhere",
        "PIP_CERT": "/somewhere/bundle.pem",
        "UV_CACHE_DIR": "/somewhere/cache",
        "UV_HTTP_TIMEOUT": "60",
        "HTTPS_PROXY": "http://proxy.example.com:3128",
        "PGPASSWORD": "private",
    })
    assert (tmp_path / "installer").read_text().splitlines() == [
        f"PIP_FIND_LINKS='{wheels} /nowhere'",
        """PIP_INDEX_URL='https://user:it'"'"'s@index.example.com/simple'""",
        "UV_HTTP_TIMEOUT=60",
    ]
    assert (tmp_path / "installer").stat().st_mode & 0o077 == 0
    assert options == [
        "--secret", f"id=installer,src={tmp_path}/installer",
        "--build-arg=HTTPS_PROXY",
        "--secret", "id=ca,src=/somewhere/bundle.pem",
        f"--volume={wheels}:{wheels}:ro",
    ]  # fmt: skip
