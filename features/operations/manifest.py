"""What a backup holds, and whether all of it is there."""

import hashlib
import os
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from features.errors import SkewlessError
from features.operations.databases import Kind

MANIFEST = "manifest.json"
FORMAT = 1


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class File(_Strict):
    """A file of the backup."""

    bytes: int
    sha256: str


class Role(_Strict):
    """A role that owns something or may do something. Roles belong to a server, and no backup holds them."""

    name: str
    is_login: bool


class Owned(_Strict):
    """Something that belongs to another role than the one that made the backup: `alter <type> <identity> owner to`."""

    type: str
    identity: str
    owner: str


class DumpedDatabase(_Strict):
    """A database as it was at one moment.

    Attributes:
        server_version: PostgreSQL's major version.
        revision: of its migrations, when it has any.
        rows: of each table, by schema and name.
    """

    name: str
    server_version: int
    revision: str | None
    taken_at: datetime
    rows: dict[str, int]
    roles: list[Role]
    owned: list[Owned]


class Manifest(_Strict):
    """A backup.

    Attributes:
        artefacts: the folder of the models' files as MLflow's database names it; None when they are not in the backup.
        elsewhere: where MLflow keeps further files, which are not in it.
    """

    format: int = FORMAT
    made_at: datetime
    skewless_version: str
    databases: dict[Kind, DumpedDatabase]
    artefacts: str | None
    elsewhere: list[str]
    files: dict[str, File]


def private(path: str, flags: int) -> int:
    """An opener of files that only their owner may read."""
    return os.open(path, flags, 0o600)


def describe(path: Path) -> File:
    """A file's size and checksum, once all of it is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    return File(bytes=path.stat().st_size, sha256=checksum)


def write(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest into a backup's folder; last, since it says that the backup is complete."""
    with open(folder / MANIFEST, "x", opener=private) as file:
        file.write(manifest.model_dump_json(indent=1))
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path) -> Manifest:
    """The manifest of a backup.

    Raises:
        SkewlessError: when the folder is no complete backup, or one of a later version.
    """
    try:
        text = (folder / MANIFEST).read_text()
    except OSError as error:
        raise SkewlessError(
            f"{folder} is no complete backup: {MANIFEST} cannot be read ({error.strerror}). Name a folder that "
            "`make backup` has written to its end."
        ) from error
    try:
        found = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise SkewlessError(
            f"{folder / MANIFEST} is not as this version of Skewless writes it: {error.errors()[0]['msg']}. Restore it "
            "with the version that made the backup."
        ) from error
    if found.format != FORMAT:
        raise SkewlessError(f"{folder} has format {found.format}, and this version of Skewless reads {FORMAT}.")
    return found


def verify(folder: Path, manifest: Manifest) -> None:
    """Reads every file of a backup again.

    Raises:
        SkewlessError: naming the files that are missing, cut off or changed.
    """
    wrong = []
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            wrong.append(f"{name} is missing")
        elif (size := path.stat().st_size) != expected.bytes:
            wrong.append(f"{name} has {size:,} bytes instead of {expected.bytes:,}")
        elif describe(path) != expected:
            wrong.append(f"{name} has another checksum")
    if wrong:
        raise SkewlessError(
            f"{folder} is damaged: {', '.join(wrong)}. Nothing was restored; use another backup, or another copy of "
            "this one."
        )
