"""`make audit`: does an advisory name a version that requirements.lock pins? No answer is no pass.

pip-audit asks a vulnerability service, which needs the network. Its own variables choose which one:
PIP_AUDIT_VULNERABILITY_SERVICE (pypi, osv or esms) and PIP_AUDIT_OSV_URL.

An advisory that was looked into and does not matter here is accepted in pyproject.toml, for a while:

    [[tool.skewless.advisories]]
    id = "GHSA-..."            # or any other name of it, such as its CVE
    until = 2027-01-31         # from then on it fails again
    because = "..."
"""

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from scripts import locked


@dataclass(frozen=True)
class Finding:
    """An advisory about a version that is locked."""

    package: str
    version: str
    names: tuple[str, ...]
    fixed_in: tuple[str, ...]
    summary: str

    def sentence(self) -> str:
        """All of it in a line."""
        fix = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no version fixes it"
        return f"{self.package} {self.version}: {' = '.join(self.names)}, {fix}. {self.summary[:200]}"


@dataclass(frozen=True)
class Accepted:
    """An advisory that is not to fail the audit before `until`."""

    name: str
    until: date
    because: str


def ask(lock: Path) -> list[Finding]:
    """Looks up every package that this Python installs from the lock.

    Raises:
        SystemExit: saying what to do when one package could not be looked up, or the service cannot be reached.
    """
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--require-hashes", "--disable-pip", "--strict",
        "--format", "json", "--desc", "on", "--aliases", "on", "--output", "stdout", "--progress-spinner", "off",
        "--cache-dir", str(locked.RUN_DIR / "cache" / "pip-audit"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    answered = _answered(done, lock)
    known = {canonicalize_name(package["name"]) for package in answered if "vulns" in package}
    if missing := sorted(locked.for_here(lock).keys() - known):
        raise SystemExit(_not_audited(lock, f"nothing was said about {', '.join(missing)}"))
    return [_finding(package, advisory) for package in answered for advisory in package["vulns"]]


def _answered(done: subprocess.CompletedProcess[str], lock: Path) -> list[dict[str, Any]]:
    """What pip-audit says of each package. It leaves with 1 both when it broke off and when there are advisories."""
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except json.JSONDecodeError:
        complaint = done.stderr.strip().splitlines() or ["pip-audit did not say why"]
        raise SystemExit(_not_audited(lock, complaint[-1].strip())) from None
    return packages


def _not_audited(lock: Path, why: str) -> str:
    return (
        f"{lock.name} was not audited: {why}\n"
        "Every package has to be looked up in a vulnerability service. Run this where the network reaches one, or name "
        "another: PIP_AUDIT_VULNERABILITY_SERVICE=osv (and PIP_AUDIT_OSV_URL, for a mirror) make audit"
    )


def _finding(package: Mapping[str, Any], advisory: Mapping[str, Any]) -> Finding:
    return Finding(
        package=package["name"],
        version=package["version"],
        names=(advisory["id"], *sorted(set(advisory["aliases"]) - {advisory["id"]})),
        fixed_in=tuple(advisory["fix_versions"]),
        summary=" ".join((advisory.get("description") or "").split()),
    )


def accepted(pyproject: Path) -> list[Accepted]:
    """The advisories that pyproject.toml accepts.

    Raises:
        SystemExit: naming an entry without id, date or reason.
    """
    entries = tomllib.loads(pyproject.read_text()).get("tool", {}).get("skewless", {}).get("advisories", [])
    return [_accepted(entry) for entry in entries]


def _accepted(entry: Mapping[str, Any]) -> Accepted:
    match entry:
        case {"id": str(name), "until": date() as until, "because": str(because)} if because and len(entry) == 3:
            return Accepted(name, until, because)
    raise SystemExit(
        f"pyproject.toml: {dict(entry)} in tool.skewless.advisories needs `id`, `until` (a date) and `because`."
    )


def judge(findings: Sequence[Finding], exceptions: Sequence[Accepted], today: date) -> list[str]:
    """What fails the audit, each as a sentence."""
    until = {exception.name: exception.until for exception in exceptions}
    failed = []
    for finding in findings:
        ends = max((until[name] for name in finding.names if name in until), default=None)
        if ends is None:
            failed.append(finding.sentence())
        elif ends <= today:
            failed.append(f"{finding.sentence()} It was accepted until {ends}: look again.")
    return failed


def main() -> None:
    """Prints what was found and leaves with 1 when anything fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", type=Path, default=locked.LOCK)
    parser.add_argument("--pyproject", type=Path, default=locked.ROOT / "pyproject.toml")
    options = parser.parse_args()
    exceptions = accepted(options.pyproject)
    findings = ask(options.lock)
    known = {name for finding in findings for name in finding.names}
    for exception in exceptions:
        if exception.name not in known:
            print(f"{exception.name} is accepted in pyproject.toml, and nothing has it any more: delete the entry.")
    failed = judge(findings, exceptions, datetime.now(UTC).date())
    count = len(locked.for_here(options.lock))
    if failed:
        raise SystemExit("\n".join([*failed, f"{len(failed)} advisories about {count} packages: make update"]))
    print(f"No advisory about {count} packages of {options.lock.name} ({len(findings)} accepted).")


if __name__ == "__main__":
    main()
