"""Where the time of a run of the tests goes: file by file, and by what the tests wait for.

make test-times    # of the last run
"""

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SHOWN_FILES = 40
WHENS = ("setup", "call", "teardown")


class Phases:
    """Seconds of this process by phase. Of phases within phases, each second counts for the innermost.

    Args:
        clock: gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = 0.0

    def enter(self, name: str) -> None:
        """Begins a phase within the one that is open."""
        self._count()
        self._open.append(name)

    def leave(self) -> None:
        """Ends the innermost phase."""
        self._count()
        self._open.pop()

    def _count(self) -> None:
        now = self._clock()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


PHASES = Phases()


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Counts what its block takes, or the function that it decorates, as a phase.

    Args:
        name: of the phase, such as "dbt".
    """
    PHASES.enter(name)
    try:
        yield
    finally:
        PHASES.leave()


class Recorder:
    """A plugin of pytest that notes how long each file takes, and writes it down in the end.

    Args:
        path: the JSON that `make test-times` reads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._began = time.monotonic()
        self._files: defaultdict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(WHENS, 0.0))
        self._phases: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called for the setup, the call and the teardown of each test, of every worker."""
        self._files[report.nodeid.partition("::")[0]][report.when] += report.duration

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """Called when a worker has ended."""
        self._add(getattr(node, "workeroutput", {}).get("phases", {}))

    def pytest_sessionfinish(self) -> None:
        """Writes what was noted."""
        self._add(PHASES.seconds)
        found = {"seconds": time.monotonic() - self._began, "files": self._files, "phases": self._phases}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(found, indent=1))

    def _add(self, seconds: dict[str, float]) -> None:
        for name, each in seconds.items():
            self._phases[name] += each


def table(found: dict[str, object]) -> Iterator[str]:
    """The lines that show what a recorder wrote."""
    files, phases = dict(found["files"]), dict(found["phases"])  # type: ignore[call-overload]
    total = {name: sum(whens.values()) for name, whens in files.items()}
    yield f"{found['seconds']:.0f} s from start to end; {sum(total.values()):.0f} s of all workers together."
    yield ""
    yield f"{'seconds':>8} {'setup':>8} {'call':>8} {'teardown':>8}  file"
    for name in sorted(total, key=total.__getitem__, reverse=True)[:SHOWN_FILES]:
        yield f"{total[name]:8.1f} " + " ".join(f"{files[name][when]:8.1f}" for when in WHENS) + f"  {name}"
    yield ""
    yield f"{'seconds':>8}  phase"
    for name in sorted(phases, key=phases.__getitem__, reverse=True):
        yield f"{phases[name]:8.1f}  {name}"


if __name__ == "__main__":
    last = Path(os.environ.get("SKEWLESS_TEST_RUN_DIR", ".run/test")) / "times.json"
    if not last.exists():
        raise SystemExit(f"There is no {last} yet: run `make test` first.")
    print("\n".join(table(json.loads(last.read_text()))))
