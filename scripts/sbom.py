"""`make sbom`: what is installed from requirements.lock, as a CycloneDX bill of materials in .run/sbom.json.

cyclonedx-bom knows versions, licences and what needs what; the lock knows which files may be installed. Tools for
development that share the environment are left out.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from scripts import locked
from scripts.locked import Locked

SCHEMA = SchemaVersion.V1_6


def of_environment() -> dict[str, Any]:
    """The bill of everything in this environment, this project as its root."""
    command = [
        sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject", str(locked.ROOT / "pyproject.toml"),
        "--output-format", "JSON", "--spec-version", SCHEMA.to_version(), "--no-validate", "--output-file", "-",
        sys.executable,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own command
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def only_locked(document: dict[str, Any], pinned: Mapping[str, Locked]) -> dict[str, Any]:
    """The bill of the locked packages alone, with the hashes that the lock allows.

    Raises:
        SystemExit: naming packages that are locked in a version that is not installed.
    """
    ours = [part for part in document["components"] if _is_pinned(part, pinned)]
    installed = {canonicalize_name(part["name"]) for part in ours}
    if missing := sorted(pinned.keys() - installed):
        raise SystemExit(f"Not installed as requirements.lock says: {', '.join(missing)}. Run make install-dev")
    kept = {part["bom-ref"] for part in ours} | {document["metadata"]["component"]["bom-ref"]}
    return document | {
        "components": [_with_hashes(part, pinned[canonicalize_name(part["name"])]) for part in ours],
        "dependencies": [
            node | {"dependsOn": [ref for ref in node.get("dependsOn", []) if ref in kept]}
            for node in document["dependencies"]
            if node["ref"] in kept
        ],
    }


def _is_pinned(part: Mapping[str, Any], pinned: Mapping[str, Locked]) -> bool:
    package = pinned.get(canonicalize_name(part["name"]))
    return package is not None and package.version == part["version"]


def _with_hashes(part: dict[str, Any], package: Locked) -> dict[str, Any]:
    """With the files that may be installed; in place of links to home pages, which take a minute to validate."""
    files = {
        "type": "distribution",
        "url": part["purl"],
        "comment": "Any of the files that requirements.lock allows",
        "hashes": [{"alg": "SHA-256", "content": content} for content in package.hashes],
    }
    return part | {"externalReferences": [files]}


def refuse_invalid(text: str) -> None:
    """Raises SystemExit with what is wrong when a document is no CycloneDX."""
    if error := JsonStrictValidator(SCHEMA).validate_str(text):
        raise SystemExit(f"The bill of materials is not valid CycloneDX {SCHEMA.to_version()}: {str(error)[:2000]}")


def main() -> None:
    """Writes the file and says where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", type=Path, default=locked.LOCK)
    parser.add_argument("--output", type=Path, default=locked.RUN_DIR / "sbom.json")
    options = parser.parse_args()
    document = only_locked(of_environment(), locked.for_here(options.lock))
    text = json.dumps(document, indent=2)
    refuse_invalid(text)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text + "\n")
    print(f"{options.output}: {len(document['components'])} components, CycloneDX {SCHEMA.to_version()}")


if __name__ == "__main__":
    main()
