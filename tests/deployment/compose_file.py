"""docker-compose.yml as docker compose reads it: merged, with its variables filled in."""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dotenv
import yaml

from scripts.write_env import main as write_secrets
from tests.places import ROOT

FILE = ROOT / "docker-compose.yml"
EXAMPLE = (ROOT / ".env.example").read_text()
# What the example leaves empty, `make secrets` draws.
SECRETS = re.findall(r"^([A-Z_]+)=$", EXAMPLE, flags=re.MULTILINE)
VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:-|:\?)([^}]*))?\})")


class VariableMissing(Exception):
    """A `${NAME:?why}` whose variable has no value."""


@dataclass(frozen=True)
class Service:
    """One service."""

    name: str
    declared: Mapping[str, Any]

    @property
    def command(self) -> list[str]:
        """What it runs."""
        return list(self.declared["command"])

    @property
    def environment(self) -> dict[str, str]:
        """Its variables."""
        return dict(self.declared.get("environment", {}))

    @property
    def health(self) -> list[str] | None:
        """The command that tells whether it is healthy; None for what runs once."""
        check = self.declared["healthcheck"]
        if check.get("disable"):
            return None
        kind, *rest = check["test"]
        return ["sh", "-c", *rest] if kind == "CMD-SHELL" else list(rest)

    @property
    def mounts(self) -> dict[str, str]:
        """Volume or folder by the path at which it is, read-only ones with `:ro` at the end."""
        parted = [str(mount).split(":", 1) for mount in self.declared.get("volumes", [])]
        return {target: source for source, target in parted}


def read_env(text: str) -> dict[str, str]:
    """The variables of a .env file; one may name another."""
    values = dotenv.dotenv_values(stream=io.StringIO(text), interpolate=True)
    return {name: value or "" for name, value in values.items()}


def write_env(folder: Path) -> str:
    """Does what `make secrets` does, in a folder that has the example, and gives the file's text."""
    write_secrets(folder)
    return (folder / ".env").read_text()


def new_variables(folder: Path) -> dict[str, str]:
    """The variables of a checkout in which `make secrets` was run for the first time."""
    (folder / ".env.example").write_text(EXAMPLE)
    return read_env(write_env(folder))


def read_services(text: str, variables: Mapping[str, str]) -> dict[str, Service]:
    """The services by name, whatever their profiles."""
    document = yaml.safe_load(text)
    return {name: Service(name, filled_in(declared, variables)) for name, declared in document["services"].items()}


def filled_in(value: Any, variables: Mapping[str, str]) -> Any:
    """The value with the variables in its texts replaced.

    Raises:
        VariableMissing: with what the file says about it.
    """
    match value:
        case str():
            return VARIABLE.sub(lambda found: _value_of(found, variables), value)
        case dict():
            return {name: filled_in(each, variables) for name, each in value.items()}
        case list():
            return [filled_in(each, variables) for each in value]
    return value


def _value_of(found: re.Match[str], variables: Mapping[str, str]) -> str:
    dollar, name, operator, rest = found.groups()
    if dollar:
        return "$"
    value = variables.get(name, "")
    if not value and operator == ":?":
        raise VariableMissing(f"{name}: {rest}")
    return value or (rest if operator == ":-" else "")


def load(path: Path, variables: Mapping[str, str]) -> dict[str, Service]:
    """The services of a file."""
    return read_services(path.read_text(), variables)
