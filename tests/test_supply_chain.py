"""What is locked: whether advisories name it, under which licence it is, what the bill of materials says, what changed.

No vulnerability service of the world is asked: one that speaks OSV's API listens on loopback.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scripts import audit, licences, lock_changes, locked, sbom
from tests.places import ROOT

pytestmark = pytest.mark.starts

HASH = "0" * 64
ADVISORY = {
    "id": "GHSA-aaaa-bbbb-cccc",
    "aliases": ["CVE-2030-0001"],
    "summary": "Reads what it should not",
    "affected": [
        {
            "package": {"name": "leaky", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.3.1"}]}],
        }
    ],
}


@contextmanager
def vulnerability_service(advisories: Mapping[str, Any], status: int = 200) -> Iterator[str]:
    """Answers queries of OSV's API with the advisories of a package; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = advisories.get(query["package"]["name"])
            body = json.dumps({"vulns": [found]} if found else {}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query"
        finally:
            server.shutdown()
            thread.join()


def run(module: str, *arguments: object, **env: str) -> tuple[int, str]:
    """A script, as make runs it: its exit code and what it printed."""
    command = [sys.executable, "-m", f"scripts.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock file of two packages."""
    return write_lock(tmp_path / "requirements.lock", "leaky==1.2", "sound==2.0")


def write_lock(path: Path, *pins: str) -> Path:
    path.write_text("".join(f"{pin} \\\n    --hash=sha256:{HASH}\n" for pin in pins))
    return path


@pytest.fixture
def pyproject(tmp_path: Path) -> Path:
    path = tmp_path / "pyproject.toml"
    path.write_text("")
    return path


def audited(lock: Path, pyproject: Path, service: str) -> tuple[int, str]:
    env = {"PIP_AUDIT_VULNERABILITY_SERVICE": "osv", "PIP_AUDIT_OSV_URL": service}
    return run("audit", "--lock", lock, "--pyproject", pyproject, **env)


def test_an_advisory_fails_the_audit_and_is_named_with_its_package_and_its_fix(lock: Path, pyproject: Path) -> None:
    with vulnerability_service({"leaky": ADVISORY}) as service:
        code, output = audited(lock, pyproject, service)
    assert code == 1
    told = "leaky 1.2: CVE-2030-0001 = GHSA-aaaa-bbbb-cccc, fixed in 1.3.1. Reads what it should not"
    assert told in output
    assert "sound" not in output


def test_no_advisory_passes_and_says_how_much_was_asked(lock: Path, pyproject: Path) -> None:
    with vulnerability_service({}) as service:
        assert audited(lock, pyproject, service) == (
            0,
            "No advisory about 2 packages of requirements.lock (0 accepted).\n",
        )


def test_a_service_that_is_away_fails_the_audit_and_says_what_to_do(lock: Path, pyproject: Path) -> None:
    with vulnerability_service({}) as service:
        pass
    code, output = audited(lock, pyproject, service)
    assert code == 1
    assert "requirements.lock was not audited: " in output
    assert "Connection refused" in output
    assert "Run this where the network reaches one, or name another: PIP_AUDIT_VULNERABILITY_SERVICE=osv" in output


def test_a_service_that_answers_with_an_error_fails_the_audit(lock: Path, pyproject: Path) -> None:
    with vulnerability_service({}, status=503) as service:
        code, output = audited(lock, pyproject, service)
    assert (code, "requirements.lock was not audited: " in output) == (1, True)


def test_a_package_of_which_nothing_is_said_fails_the_audit(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"dependencies": [{"name": "leaky", "version": "1.2", "vulns": []}, {"name": "sound", "skip_reason": "?"}]}
    answer = subprocess.CompletedProcess([], 0, stdout=json.dumps(said), stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    with pytest.raises(SystemExit, match=r"was not audited: nothing was said about sound\n"):
        audit.ask(lock)


ACCEPTED = '[[tool.skewless.advisories]]\nid = "{}"\nuntil = {}\nbecause = "Nothing here calls it"\n'


@pytest.mark.parametrize("name", ["GHSA-aaaa-bbbb-cccc", "CVE-2030-0001"])
def test_an_advisory_may_be_accepted_by_any_of_its_names_for_a_while(lock: Path, pyproject: Path, name: str) -> None:
    pyproject.write_text(ACCEPTED.format(name, "9999-12-31"))
    with vulnerability_service({"leaky": ADVISORY}) as service:
        code, output = audited(lock, pyproject, service)
    assert (code, output) == (0, "No advisory about 2 packages of requirements.lock (1 accepted).\n")


def test_when_the_while_is_over_it_fails_again() -> None:
    finding = audit.Finding("leaky", "1.2", ("GHSA-aaaa-bbbb-cccc",), (), "")
    exception = audit.Accepted("GHSA-aaaa-bbbb-cccc", date(2030, 1, 31), "Nothing here calls it")
    assert audit.judge([finding], [exception], date(2030, 1, 30)) == []
    (told,) = audit.judge([finding], [exception], date(2030, 1, 31))
    assert told.startswith("leaky 1.2: GHSA-aaaa-bbbb-cccc, no version fixes it.")
    assert told.endswith("It was accepted until 2030-01-31: look again.")


def test_an_accepted_advisory_that_nothing_has_any_more_is_pointed_out(lock: Path, pyproject: Path) -> None:
    pyproject.write_text(ACCEPTED.format("GHSA-aaaa-bbbb-cccc", "9999-12-31"))
    with vulnerability_service({}) as service:
        code, output = audited(lock, pyproject, service)
    assert code == 0
    assert "GHSA-aaaa-bbbb-cccc is accepted in pyproject.toml, and nothing has it any more: delete the entry." in output


@pytest.mark.parametrize("left_out", ["id", "until", "because"])
def test_an_accepted_advisory_needs_its_name_an_end_and_a_reason(pyproject: Path, left_out: str) -> None:
    lines = ACCEPTED.format("CVE-2030-0001", "2030-01-31").splitlines()
    pyproject.write_text("\n".join(line for line in lines if not line.startswith(left_out)))
    with pytest.raises(SystemExit, match="needs `id`, `until` "):
        audit.accepted(pyproject)


def test_what_the_project_accepts_can_be_read() -> None:
    assert isinstance(audit.accepted(ROOT / "pyproject.toml"), list)


RULES = """
[tool.skewless.licences]
allowed = ["MIT", "Apache-2.0"]
[tool.skewless.licences.packages]
"""


def judged(tmp_path: Path, metadata: str, rules: str = RULES, pin: str = "mystery==1.0") -> tuple[int, str]:
    """What the check says of a package that is really installed, in a folder on the path, with such metadata."""
    installed = tmp_path / "site" / "mystery-1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(f"Metadata-Version: 2.4\nName: mystery\nVersion: 1.0\n{metadata}\n")
    (tmp_path / "pyproject.toml").write_text(rules)
    lock = write_lock(tmp_path / "requirements.lock", pin)
    path = f"{installed.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return run("licences", "--lock", lock, "--pyproject", tmp_path / "pyproject.toml", PYTHONPATH=path)


def test_a_licence_that_is_allowed_passes(tmp_path: Path) -> None:
    code, output = judged(tmp_path, "License-Expression: MIT")
    assert (code, "The licences of 1 packages of requirements.lock are allowed." in output) == (0, True)


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ("License-Expression: GPL-3.0-or-later", "GPL-3.0-or-later"),
        ("Classifier: License :: OSI Approved :: GNU Affero General Public License v3", "GNU Affero"),
        ("", "UNKNOWN"),
        ("License: my own words", "my own words"),
    ],
)
def test_a_licence_that_is_not_allowed_or_not_known_fails_and_names_the_package(
    tmp_path: Path, metadata: str, named: str
) -> None:
    code, output = judged(tmp_path, metadata)
    assert code == 1
    assert f"mystery 1.0 is under `{named}" in output
    assert "tool.skewless.licences in pyproject.toml" in output


@pytest.mark.parametrize(
    ("licence", "is_allowed"),
    [
        ("MIT", True),
        ("MIT AND Apache-2.0", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only OR MIT AND AGPL-3.0-only", False),
        ("MIT; GPL-3.0-only", False),
        ("(MIT OR Apache-2.0) AND MIT", False),  # a person looks at what has brackets
        ("", False),
    ],
)
def test_of_alternatives_one_has_to_be_allowed_and_of_parts_all(licence: str, is_allowed: bool) -> None:
    assert licences.Policy(frozenset({"MIT", "Apache-2.0"}), {}).allows(licence) == is_allowed


EXEMPT = RULES + 'mystery = { licence = "UNKNOWN", because = "Its licence file is MIT\'s" }\n'


def test_a_package_may_be_exempt_for_a_reason_which_the_table_shows(tmp_path: Path) -> None:
    code, output = judged(tmp_path, "", EXEMPT)
    assert (code, "Its licence file is MIT's" in output) == (0, True)


def test_an_exemption_ends_when_the_licence_changes(tmp_path: Path) -> None:
    code, output = judged(tmp_path, "License-Expression: SSPL-1.0", EXEMPT)
    assert (code, "mystery 1.0 says `SSPL-1.0`" in output) == (1, True)


def test_an_exemption_of_a_package_that_is_not_locked_is_refused(tmp_path: Path) -> None:
    code, output = judged(tmp_path, "License-Expression: MIT", EXEMPT.replace("mystery", "gone"))
    assert (code, "gone is exempt in pyproject.toml and not in requirements.lock any more" in output) == (1, True)


def test_an_exemption_needs_a_reason(tmp_path: Path) -> None:
    code, output = judged(tmp_path, "", RULES + 'mystery = { licence = "UNKNOWN" }\n')
    assert (code, "mystery in tool.skewless.licences.packages needs `licence` and `because`" in output) == (1, True)


def test_another_version_than_the_locked_one_is_not_judged_in_its_place(tmp_path: Path) -> None:
    code, output = judged(tmp_path, "License-Expression: MIT", pin="mystery==2.0")
    assert (code, "mystery 2.0 of requirements.lock is not installed: make install-dev" in output) == (1, True)


def test_every_package_that_runs_is_under_a_licence_that_the_project_allows() -> None:
    assert licences.judge(locked.LOCK, licences.installed(), licences.policy(ROOT / "pyproject.toml")) == []


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The project's bill of materials; written means that it is valid."""
    path = tmp_path_factory.mktemp("bill") / "sbom.json"
    code, output = run("sbom", "--output", path)
    assert code == 0, output
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_the_bill_of_materials_has_what_runs_and_nothing_else(bill: dict[str, Any]) -> None:
    listed = {
        (part["name"].lower().replace("_", "-").replace(".", "-"), part["version"]) for part in bill["components"]
    }
    assert listed == {(package.name, package.version) for package in locked.for_here(locked.LOCK).values()}
    assert "pytest" not in {name for name, _ in listed}
    assert bill["metadata"]["component"]["name"] == "skewless"


def test_each_part_of_the_bill_has_the_hashes_of_the_lock(bill: dict[str, Any]) -> None:
    pinned = locked.for_here(locked.LOCK)
    for part in bill["components"]:
        (files,) = part["externalReferences"]
        name = part["purl"].removeprefix("pkg:pypi/").partition("@")[0]
        assert [file["content"] for file in files["hashes"]] == list(pinned[name].hashes)


def test_the_bill_says_what_needs_what(bill: dict[str, Any]) -> None:
    needs = {node["ref"]: node["dependsOn"] for node in bill["dependencies"]}
    refs = {part["bom-ref"] for part in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    assert set(needs) == refs
    assert {ref for each in needs.values() for ref in each} <= refs
    assert any(ref.startswith("apache-airflow==") for ref in needs[bill["metadata"]["component"]["bom-ref"]])


def test_most_parts_of_the_bill_have_a_licence(bill: dict[str, Any]) -> None:
    licensed = [part for part in bill["components"] if part.get("licenses")]
    assert len(licensed) > 0.95 * len(bill["components"])


def test_what_is_no_bill_of_materials_is_not_written() -> None:
    broken = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"type": "library"}]}
    with pytest.raises(SystemExit, match="not valid CycloneDX"):
        sbom.refuse_invalid(json.dumps(broken))


def test_a_locked_package_that_is_not_installed_is_not_left_out_silently() -> None:
    document = {"components": [], "dependencies": [], "metadata": {"component": {"bom-ref": "root"}}}
    package = locked.Locked("absent", "1.0", (HASH,), is_for_here=True)
    with pytest.raises(SystemExit, match="absent"):
        sbom.only_locked(document, {"absent": package})


def test_changes_are_told_package_by_package(tmp_path: Path) -> None:
    before = write_lock(
        tmp_path / "before", "same==1", "moved==1.0", "gone==3", "split==1 ; python_full_version < '3.12'"
    )
    after = write_lock(
        tmp_path / "after",
        "same==1",
        "moved==1.1",
        "added==0.1",
        "split==1 ; python_full_version < '3.12'",
        "split==2 ; python_full_version >= '3.12'",
    )
    assert lock_changes.changes(before, after) == [
        lock_changes.Change("added", (), ("0.1",)),
        lock_changes.Change("gone", ("3",), ()),
        lock_changes.Change("moved", ("1.0",), ("1.1",)),
        lock_changes.Change("split", ("1",), ("1", "2")),
    ]


def test_a_lock_file_that_pins_nothing_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("loose>=1 --hash=sha256:" + HASH)
    with pytest.raises(SystemExit, match=r"`loose>=1 .*` is not pinned by version and hash"):
        locked.read(lock)


def test_only_what_this_python_installs_counts(tmp_path: Path) -> None:
    lock = write_lock(tmp_path / "requirements.lock", "here==1", "elsewhere==1 ; sys_platform == 'win32'")
    assert list(locked.for_here(lock)) == ["here"]
