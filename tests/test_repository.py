"""What is under version control: installable from any package index, with nothing that only one machine has.

And how its tests are ordered: what they share is in modules that are no tests themselves.
"""

import ast
import re
import subprocess

import pytest

from tests.places import ROOT

# Put together here, so that this file does not have what it looks for.
FORBIDDEN = [
    "pypi" + ".org",
    "files.python" + "hosted",
    "--index" + "-url",
    "--extra-index" + "-url",
    "--find" + "-links",
    ".." + "/shared",
]
MAY_SAY = {"scripts/lock.sh": "--no-emit-index" + "-url"}
REQUIREMENT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[^]]*\])?==\S+")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")


def tracked() -> dict[str, str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    texts = {}
    for name in listed.stdout.split("\0"):
        path = ROOT / name
        if not name or not path.is_file():
            continue
        content = path.read_bytes()
        if b"\0" not in content[:8192]:
            texts[name] = content.decode()
    return texts


TRACKED = tracked()
LOCKED = {name: text for name, text in TRACKED.items() if HASH.search(text)}


def test_there_are_tracked_files() -> None:
    assert {"pyproject.toml", "Makefile", "requirements.lock", "requirements-dev.lock"} <= set(TRACKED)


@pytest.mark.parametrize("forbidden", FORBIDDEN)
def test_no_file_names_a_package_index_or_a_place_outside(forbidden: str) -> None:
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in TRACKED.items()
        if forbidden in text
        for number, line in enumerate(text.splitlines(), 1)
        if forbidden in line.replace(MAY_SAY.get(name, "\0"), "")
    ]
    assert found == []


def test_the_lock_files_are_found() -> None:
    assert {"requirements.lock", "requirements-dev.lock"} <= set(LOCKED)


@pytest.mark.parametrize("name", LOCKED)
def test_every_requirement_is_pinned_with_hashes(name: str) -> None:
    logical_lines = LOCKED[name].replace("\\\n", " ").splitlines()
    requirements = [line for line in logical_lines if line.strip() and not line.lstrip().startswith("#")]
    assert len(requirements) >= 1
    assert [line[:80] for line in requirements if not REQUIREMENT.match(line)] == []
    assert [line[:80] for line in requirements if not HASH.search(line)] == []


def test_what_runs_is_the_same_in_development() -> None:
    def pins(name: str) -> set[str]:
        return {line.split(" ")[0] for line in LOCKED[name].splitlines() if REQUIREMENT.match(line)}

    assert pins("requirements.lock") <= pins("requirements-dev.lock")


def test_every_dependency_of_the_project_is_locked() -> None:
    import tomllib

    project = tomllib.loads(TRACKED["pyproject.toml"])["project"]
    locked = {
        re.split(r"[\[=]", line)[0].lower().replace("_", "-")
        for line in LOCKED["requirements-dev.lock"].splitlines()
        if REQUIREMENT.match(line)
    }
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {re.split(r"[^A-Za-z0-9._-]", text)[0].lower().replace("_", "-") for text in wanted} <= locked


def test_nothing_that_running_the_project_writes_is_tracked() -> None:
    written = re.compile(r"(^|/)(\.run|\.venv|target|logs|__pycache__|\.hypothesis|mlruns|\.env)(/|$)")
    assert [name for name in TRACKED if written.search(name)] == []


# What pytest imports by itself: a module with tests, or with fixtures for all of a folder.
COLLECTED = re.compile(r"^tests\.(\w+\.)*(test_\w+|conftest)(\.|$)")


def collected_modules_imported_by(text: str) -> list[str]:
    """The imports of a module that name a test module or a conftest."""
    imported = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "modules of tests are imported by their whole path"
            imported += [f"{node.module}.{each.name}" for each in node.names]
    return [name for name in imported if COLLECTED.match(name)]


def test_no_test_module_and_no_conftest_is_imported() -> None:
    """A helper that others need is in a module whose name says what it holds."""
    found = {
        name: collected_modules_imported_by(text)
        for name, text in TRACKED.items()
        if name.startswith("tests/") and name.endswith(".py")
    }
    assert len(found) > 150
    assert {name: imported for name, imported in found.items() if imported} == {}


@pytest.mark.parametrize(
    ("statement", "imported"),
    [
        ("from tests.steps.test_watch import serve", ["tests.steps.test_watch.serve"]),
        ("from tests.steps import test_watch", ["tests.steps.test_watch"]),
        ("import tests.test_chain", ["tests.test_chain"]),
        ("def late():\n    from tests.conftest import dbt", ["tests.conftest.dbt"]),
        ("from tests.places import ROOT", []),
    ],
)
def test_such_an_import_would_be_found(statement: str, imported: list[str]) -> None:
    assert collected_modules_imported_by(statement) == imported
