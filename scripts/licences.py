"""`make licences`: under which licence is each package of requirements.lock, and is that one we allow?

By the packages' own metadata, as pip-licenses reads them. What is allowed, and what was looked into one by one, stands
in pyproject.toml under tool.skewless.licences.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from rich.console import Console
from rich.table import Table

from scripts import locked


@dataclass(frozen=True)
class Licensed:
    """An installed package and what its metadata say of its licence: an SPDX expression, a name, or UNKNOWN."""

    name: str
    version: str
    licence: str


@dataclass(frozen=True)
class Exempt:
    """A package that was looked into: allowed for a reason, as long as its metadata say the same."""

    licence: str
    because: str


@dataclass(frozen=True)
class Policy:
    """Licences that anything may have, and packages that may have another."""

    allowed: frozenset[str]
    exempt: Mapping[str, Exempt]

    def allows(self, licence: str) -> bool:
        """Whether one of the alternatives of an expression is allowed in all its parts.

        Classifiers of one package come joined by `;` and do not say whether they are alternatives, so each has to be.
        """
        return any(
            all(part in self.allowed for part in re.split(r" AND |; ", alternative))
            for alternative in licence.split(" OR ")
        )


def policy(pyproject: Path) -> Policy:
    """What pyproject.toml says.

    Raises:
        SystemExit: naming an entry without licence or reason.
    """
    declared = tomllib.loads(pyproject.read_text())["tool"]["skewless"]["licences"]
    return Policy(
        frozenset(declared["allowed"]), {name: _exempt(name, each) for name, each in declared["packages"].items()}
    )


def _exempt(name: str, entry: Mapping[str, Any]) -> Exempt:
    match entry:
        case {"licence": str(licence), "because": str(because)} if because and len(entry) == 2:
            return Exempt(licence, because)
    raise SystemExit(f"pyproject.toml: {name} in tool.skewless.licences.packages needs `licence` and `because`.")


def installed() -> dict[str, Licensed]:
    """Every package of this environment, by canonical name."""
    command = [sys.executable, "-m", "piplicenses", "--format", "json", "--from", "mixed", "--with-system"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own command
    rows = [Licensed(canonicalize_name(row["Name"]), row["Version"], row["License"]) for row in json.loads(done.stdout)]
    return {row.name: row for row in rows}


def judge(lock: Path, found: Mapping[str, Licensed], rules: Policy) -> list[str]:
    """What is not as it should be, each as a sentence that names the package."""
    problems = [
        f"{name} is exempt in pyproject.toml and not in {lock.name} any more: delete the entry."
        for name in sorted(rules.exempt.keys() - {package.name for package in locked.read(lock)})
    ]
    for name, pinned in sorted(locked.for_here(lock).items()):
        package = found.get(name)
        if package is None or package.version != pinned.version:
            problems.append(f"{name} {pinned.version} of {lock.name} is not installed: make install-dev")
        elif problem := _problem(package, rules):
            problems.append(problem)
    return problems


def _problem(package: Licensed, rules: Policy) -> str | None:
    exempt = rules.exempt.get(package.name)
    if exempt and exempt.licence == package.licence:
        return None
    if exempt:
        return (
            f"{package.name} {package.version} says `{package.licence}`, and pyproject.toml exempts it for "
            f"`{exempt.licence}`: look into it again."
        )
    if rules.allows(package.licence):
        return None
    return (
        f"{package.name} {package.version} is under `{package.licence}`, which is not allowed. Read its licence, then "
        "allow it for all or for this package, with the reason: tool.skewless.licences in pyproject.toml"
    )


def table(lock: Path, found: Mapping[str, Licensed], rules: Policy) -> Table:
    """Package, version, licence, and why it is allowed where that needed a reason."""
    shown = Table("package", "version", "licence", "looked into", title=f"Licences in {lock.name}")
    for name in sorted(locked.for_here(lock).keys() & found.keys()):
        exempt = rules.exempt.get(name)
        shown.add_row(name, found[name].version, found[name].licence, exempt.because if exempt else "")
    return shown


def main() -> None:
    """Prints the table and leaves with 1 when anything is not allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", type=Path, default=locked.LOCK)
    parser.add_argument("--pyproject", type=Path, default=locked.ROOT / "pyproject.toml")
    options = parser.parse_args()
    rules, found = policy(options.pyproject), installed()
    Console(width=160).print(table(options.lock, found, rules))
    if problems := judge(options.lock, found, rules):
        raise SystemExit("\n".join(problems))
    print(f"The licences of {len(locked.for_here(options.lock))} packages of {options.lock.name} are allowed.")


if __name__ == "__main__":
    main()
