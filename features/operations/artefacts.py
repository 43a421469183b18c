"""The models' files: a folder into a tar and back."""

import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from features.errors import SkewlessError
from features.operations.manifest import private

# Beside the files themselves, since in a container their folder is a volume of its own, which cannot be renamed.
STAGED = ".restoring"
REPLACED = ".replaced"


def pack(folder: Path, target: Path) -> None:
    """Writes every file of a folder to a tar, as a stream: neither their number nor their size takes memory."""
    with (
        open(target, "xb", opener=private) as file,
        tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in _files(folder):
            tar.add(path, arcname=str(path.relative_to(folder)), recursive=False)
            tar.members.clear()  # type: ignore[attr-defined]  # it would remember each


def _files(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in {STAGED, REPLACED}:
                    yield from _files(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def unpack(source: Path, folder: Path) -> None:
    """Unpacks a tar beside the files that are there, which stay until `switch`."""
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / STAGED
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    with tarfile.open(source, mode="r|") as tar:
        for member in tar:
            target = (staged / member.name).resolve()
            content = tar.extractfile(member) if member.isfile() else None
            if content is None or not target.is_relative_to(staged.resolve()):
                raise SkewlessError(f"{source} has {member.name!r}, which is no file of ours. Nothing was restored.")
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                shutil.copyfileobj(content, file)
            tar.members.clear()  # type: ignore[attr-defined]


def switch(folder: Path) -> None:
    """Puts what was unpacked in the place of what was there; all of it, or nothing."""
    staged, replaced = folder / STAGED, folder / REPLACED
    try:
        _move(folder, replaced)
    except OSError:
        _move(replaced, folder)
        raise
    try:
        _move(staged, folder)
    except OSError:
        _move(folder, staged)
        _move(replaced, folder)
        raise


def _move(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for entry in list(source.iterdir()):
        if entry.name not in {STAGED, REPLACED}:
            entry.rename(target / entry.name)


def clear(folder: Path) -> None:
    """Deletes what was unpacked and not used, or replaced."""
    for name in (STAGED, REPLACED):
        shutil.rmtree(folder / name, ignore_errors=True)


def is_empty(folder: Path) -> bool:
    """Whether there is no file in the folder."""
    return not folder.exists() or next(_files(folder), None) is None


def is_cut_off(folder: Path) -> bool:
    """Whether an earlier restore has moved files away, and did not come to its end."""
    return (folder / REPLACED).exists()
