"""What `make update` changed: a table of the packages whose locked version differs, old beside new."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scripts import locked


@dataclass(frozen=True)
class Change:
    """A package whose versions differ; no old ones when it is new, no new ones when it is gone."""

    package: str
    old: tuple[str, ...]
    new: tuple[str, ...]


def changes(before: Path, after: Path) -> list[Change]:
    """The packages that two lock files pin differently, by name. Python versions may have versions of their own."""
    old, new = _versions(before), _versions(after)
    return [
        Change(name, old.get(name, ()), new.get(name, ()))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _versions(lock: Path) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for package in locked.read(lock):
        found[package.name] = (*found.get(package.name, ()), package.version)
    return found


def main() -> None:
    """Prints the changes of every lock file of which the folder has an earlier one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="a folder with the lock files as they were")
    before = parser.parse_args().before
    shown = Table("package", "old", "new", title="What changed in the lock files")
    # What runs first: the other lock has all of it again.
    seen: set[Change] = set()
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-uv.lock"):
        for change in changes(before / name, locked.ROOT / name):
            if change not in seen:
                shown.add_row(change.package, ", ".join(change.old) or "-", ", ".join(change.new) or "-")
            seen.add(change)
    Console(width=120).print(shown if seen else "Everything is the newest that pyproject.toml allows.")


if __name__ == "__main__":
    main()
