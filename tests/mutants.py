"""Would the tests notice? Changes an operator or a constant of the package at random, one at a time, and runs them.

    make mutants COUNT=20 SEED=1

Each change is made in the checkout itself, which has to be committed, and taken back. What the fast tests do not
notice, `make test` has to: first its tests of the same subject, then all of it. A change that survives is either a
missing test or one that changes nothing that matters.
"""

import argparse
import ast
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.places import ROOT

PACKAGE = ROOT / "features"
OTHER: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
# As `make test` has them.
WORKERS = ("--numprocesses", "2", "--dist", "loadfile", "--no-loadscope-reorder")
NO_TESTS = int(pytest.ExitCode.NO_TESTS_COLLECTED)


class CannotTell(Exception):
    """Neither did the tests pass, nor did one of them fail."""


@dataclass(frozen=True)
class Mutant:
    """A place of a file, and what stands there instead."""

    path: Path
    line: int
    before: str
    after: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.before} -> {self.after}"

    def text(self, source: bytes) -> bytes:
        """The file with the change."""
        return source[: self.start] + self.after.encode() + source[self.end :]


def mutants(path: Path) -> Iterator[Mutant]:
    """Every change of one operator or constant of a file; texts and annotations stay."""
    source = path.read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    tree = ast.parse(source)
    ignored = {id(inner) for node in ast.walk(tree) for outer in _annotations(node) for inner in ast.walk(outer)}
    for node in ast.walk(tree):
        if id(node) in ignored or not isinstance(node, ast.expr) or node.end_lineno is None:
            continue
        for changed in _changed(node):
            begin, end = (
                starts[node.lineno - 1] + node.col_offset,
                starts[node.end_lineno - 1] + (node.end_col_offset or 0),
            )
            before = source[begin:end].decode()
            yield Mutant(path, node.lineno, " ".join(before.split()), f"({ast.unparse(changed)})", begin, end)


def _annotations(node: ast.AST) -> Iterator[ast.AST]:
    for name in ("annotation", "returns"):
        if isinstance(found := getattr(node, name, None), ast.AST):
            yield found
    if isinstance(node, ast.JoinedStr):  # Python 3.11 does not say where its parts are
        yield node


def _changed(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in OTHER:
            changed = deepcopy(node)
            changed.ops = [OTHER[type(operator)]()]  # type: ignore[list-item]
            yield changed
        case ast.BinOp() | ast.BoolOp() if type(node.op) in OTHER:
            different = deepcopy(node)
            different.op = OTHER[type(node.op)]()  # type: ignore[assignment]
            yield different
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value + 1)


def failure(suite: str, *places: Path) -> str | None:
    """The first test of a suite that fails, if one does; with places, of those that are there.

    Raises:
        CannotTell: when the tests ended in another way, as where memory ran out.
    """
    command = [sys.executable, "-m", "pytest", "--suite", suite, "-x", "-q", *WORKERS, *map(str, places)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode in ({0, NO_TESTS} if places else {0}):
        return None
    output = done.stdout + done.stderr
    if failed := re.search(r"^(?:FAILED|ERROR) (tests/\S+)", output, re.MULTILINE):
        return failed[1]
    if "while loading conftest" in output:
        return "tests/conftest.py"
    raise CannotTell(f"pytest ended with {done.returncode}:\n{output[-3000:]}")


def places_of_tests(path: Path) -> list[Path]:
    """The tests of the same subject as a file of the package."""
    first, *_ = path.relative_to(PACKAGE).with_suffix("").parts
    return [place for place in (ROOT / "tests" / first, ROOT / "tests" / f"test_{first}.py") if place.exists()]


def noticed_by(path: Path, *, fast_only: bool) -> str | None:
    """The test that notices that a file was changed."""
    noticed = failure("fast")
    if noticed or fast_only:
        return noticed
    subject = places_of_tests(path)
    return (failure("short", *subject) if subject else None) or failure("short")


def main() -> int:
    """Makes changes and runs the tests. Returns 1 when one was not noticed, 2 when the tests cannot tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--fast-only", action="store_true", help="do not run `make test` on what fast tests do not notice"
    )
    chosen = parser.parse_args()
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "features"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    if dirty.stdout:
        print("features/ has changes that are not committed; commit them first.", file=sys.stderr)
        return 2
    suites = ["fast"] if chosen.fast_only else ["fast", "short"]
    if failed := next(filter(None, map(failure, suites)), None):
        print(f"{failed} fails without any change; mend that first.", file=sys.stderr)
        return 2
    every = [mutant for path in sorted(PACKAGE.rglob("*.py")) for mutant in mutants(path)]
    survived = 0
    for mutant in random.Random(chosen.seed).sample(every, chosen.count):
        source = mutant.path.read_bytes()
        mutant.path.write_bytes(mutant.text(source))
        try:
            by = noticed_by(mutant.path, fast_only=chosen.fast_only)
        finally:
            mutant.path.write_bytes(source)
        survived += by is None
        print(f"{mutant}\n    {f'noticed by {by}' if by else 'SURVIVED'}", flush=True)
    print(f"{chosen.count - survived} of {chosen.count} noticed; {len(every):,} places.")
    return int(survived > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CannotTell as error:
        print(error, file=sys.stderr)
        sys.exit(2)
