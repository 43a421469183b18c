"""What a lock file pins: read by everything here that asks about the packages of this project."""

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
RUN_DIR = ROOT / ".run"

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Locked:
    """One pinned package: its canonical name, and the SHA-256 of every file that may be installed for it."""

    name: str
    version: str
    hashes: tuple[str, ...]
    is_for_here: bool
    """Whether this Python on this platform installs it."""


def read(lock: Path) -> list[Locked]:
    """The packages of a lock file in its order; one that differs by Python is there more than once.

    Raises:
        SystemExit: naming a line that pins nothing or has no hash.
    """
    lines = (line.strip() for line in lock.read_text().replace("\\\n", " ").splitlines())
    return [_locked(line, lock) for line in lines if line and not line.startswith("#")]


def for_here(lock: Path) -> dict[str, Locked]:
    """What this Python installs from a lock file, by name."""
    return {package.name: package for package in read(lock) if package.is_for_here}


def _locked(line: str, lock: Path) -> Locked:
    requirement = Requirement(line.partition("--hash")[0].strip())
    pins = [one.version for one in requirement.specifier if one.operator == "=="]
    hashes = tuple(_HASH.findall(line))
    if len(pins) != 1 or not hashes:
        raise SystemExit(f"{lock.name}: `{line[:60]}` is not pinned by version and hash; write it anew: make lock")
    marker = requirement.marker
    return Locked(canonicalize_name(requirement.name), pins[0], hashes, marker is None or marker.evaluate())
