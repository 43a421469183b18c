"""Virtual environments of the peers: made when a benchmark runs, below its run folder, so the project needs no peer."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.contest import Bench


def ensure(bench: Bench, name: str, requirements: list[str]) -> Path:
    """Installs the requirements with pip, as it is configured on this machine, unless they were installed before.

    Returns:
        the environment's Python.

    Raises:
        subprocess.CalledProcessError: when pip cannot install them.
    """
    folder = bench.run_dir / "venvs" / name
    python = folder / "bin" / "python"
    done = folder / "requirements.txt"
    if not (done.exists() and done.read_text().split("\n") == requirements):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-qq", *requirements], check=True)
        done.write_text("\n".join(requirements))
    return python


def versions(python: Path, distributions: tuple[str, ...]) -> dict[str, str]:
    """The installed versions of these distributions, by name."""
    program = (
        "import json, sys; from importlib.metadata import version; "
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    done = subprocess.run([str(python), "-c", program, *distributions], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def environment() -> dict[str, str]:
    """The environment of a peer's process: ours, without paths that would give it our packages."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "VIRTUAL_ENV"))}
