#!/usr/bin/env python3
"""Writes .env from .env.example with strong secrets, readable by its owner only. Secrets that are there stay.

Only the standard library is used: whoever runs containers need not have installed anything.
"""

import base64
import os
import re
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EMPTY = re.compile(r"^([A-Z_]+(?:_KEY|_SECRET|_PASSWORD|_SALT))=$", re.MULTILINE)
SET = re.compile(r"^([A-Z_]+)=", re.MULTILINE)


def new_secret(name: str) -> str:
    """32 random bytes, and 64 to sign tokens with, in characters that an URL takes as they are."""
    drawn = secrets.token_bytes(64 if name == "JWT_SECRET" else 32)
    text = base64.urlsafe_b64encode(drawn).decode()
    return text if name == "FERNET_KEY" else text.rstrip("=")


def completed(text: str, example: str) -> tuple[str, list[str]]:
    """A .env in which every secret of the example has a value.

    Returns:
        the text, and the names of the secrets that are new.
    """
    missing = [name for name in EMPTY.findall(example) if name not in SET.findall(text)]
    if missing:
        text = text.rstrip("\n") + "\n\n" + "".join(f"{name}=\n" for name in missing)
    drawn = EMPTY.findall(text)
    return EMPTY.sub(lambda found: f"{found[1]}={new_secret(found[1])}", text), drawn


def write_private(path: Path, text: str) -> None:
    """Replaces a file by one that only its owner can read, all of it or nothing."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    unfinished.replace(path)


def main(folder: Path = ROOT) -> str:
    """Completes the folder's .env. Returns what to tell."""
    path, example = folder / ".env", (folder / ".env.example").read_text()
    text, drawn = completed(path.read_text() if path.exists() else example, example)
    write_private(path, text)
    what = f"{len(drawn)} new secrets are" if drawn else "No secret was missing"
    return f"{what} in {path}." if drawn else f"{what} from {path}."


if __name__ == "__main__":
    print(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
