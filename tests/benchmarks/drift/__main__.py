"""`make bench-drift`: how often drift is called where there is none, how soon it is found, and what that costs."""

import os
import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

# Before anything else of ours: it says where the benchmark's server and files are, and settings read that once.
from tests.benchmarks import bench_features  # isort: skip

from features import settings as our_settings
from features.ingest import nycflights13
from features.local import postgres
from features.migrations import migrate
from tests.benchmarks import peer_venv
from tests.benchmarks.drift import contenders, cost, duel, false_alarms, flights, report, settings
from tests.benchmarks.drift.findings import Findings
from tests.benchmarks.drift.settings import FULL, QUICK, Scale
from tests.databases import drop_database
from tests.places import BENCHMARK_RESULTS

PARTS = ("false alarms", "duel", "cost", "flights")
RUN_DIR = bench_features.RUN_DIR


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--quick", is_flag=True, help="A smaller run, of some minutes.")
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="Run these parts, keep the others' results.")
@click.option("--date", default=None, help="The date to print on the report. [default: today, UTC]")
@click.option(
    "--results",
    default=BENCHMARK_RESULTS,
    type=click.Path(path_type=Path),
    show_default="docs/benchmarks",
    help="Folder.",
)
def main(quick: bool, only: tuple[str, ...], date: str | None, results: Path) -> None:
    """Run the drift benchmark and write its report."""
    scale = QUICK if quick else FULL
    found, facts = report.read(results) if only else (Findings(), {})
    for part in [part for part in PARTS if part in (only or PARTS)]:
        # After each step, so that a failure costs no more than its own.
        for measured in MEASURES[part](scale, found):
            known = facts | {part: _facts(scale, date)}
            page = report.write(measured, {name: known[name] for name in PARTS if name in known}, results)
        found, facts = measured, known
    click.echo(page.read_text())


def _say(text: str) -> None:
    click.echo(text, err=True)


def _false_alarms(scale: Scale, found: Findings) -> Iterator[Findings]:
    rates = []
    for rate in false_alarms.measure(scale, _say):
        rates.append(rate)
        yield replace(found, rates=[*rates])


def _duel(scale: Scale, found: Findings) -> Iterator[Findings]:
    """Of each size, the settings without drift first, then the shifts."""
    measured: list[duel.Found] = []
    for rows in scale.duel_sizes:
        for structure in scale.duel_structures:
            measured += duel.calm_duel(structure, rows, scale, RUN_DIR)
            _say(f"no drift, {structure}, {rows:,} rows an hour: {_told(measured[-4:])}")
        yield replace(found, duel=[*measured])
        measured += duel.shift_duel(rows, scale, RUN_DIR, _say)
        yield replace(found, duel=[*measured])


def _told(found: Iterable[duel.Found]) -> str:
    return ", ".join(f"{each.contender} {each.alarms} alarms" for each in found)


def _cost(scale: Scale, found: Findings) -> Iterator[Findings]:
    was_started = bench_features.start()
    try:
        server = bench_features.server_pid()
        drop_database(our_settings.WAREHOUSE_DATABASE)
        migrate()
        costs: list[cost.Cost] = []
        for rows in scale.cost_rows:
            costs += cost.compared(rows, scale.cost_repeats, RUN_DIR, server, _say)
            yield replace(found, costs=[*costs])
    finally:
        if was_started:
            postgres.stop()


def _flights(scale: Scale, found: Findings) -> Iterator[Findings]:
    known = flights.Flights(nycflights13.read_flights(nycflights13.download()))
    quiet, injected = flights.measure(known, scale.flight_weeks, _say)
    yield replace(found, quiet=quiet, injected=injected)


MEASURES: dict[str, Callable[[Scale, Findings], Iterator[Findings]]] = {
    "false alarms": _false_alarms,
    "duel": _duel,
    "cost": _cost,
    "flights": _flights,
}


def _facts(scale: Scale, date: str | None) -> dict[str, str]:
    place = contenders.bench(RUN_DIR)
    names = {"evidently": contenders.EVIDENTLY, "nannyml": contenders.NANNYML}
    known = {
        name: peer_venv.versions(place.run_dir / "venvs" / name / "bin" / "python", (name, "pandas", "scipy"))
        for name in names
        if (place.run_dir / "venvs" / name / "requirements.txt").exists()
    }
    return {
        "date": date or datetime.now(UTC).date().isoformat(),
        "scale": scale.name,
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, load {os.getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
        "seed": str(settings.SEED),
        "packages": "; ".join(
            ", ".join(f"{name} {version}" for name, version in versions.items()) for versions in known.values()
        ),
    }


if __name__ == "__main__":
    main()
