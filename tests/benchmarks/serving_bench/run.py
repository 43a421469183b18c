"""The run: two populations, those who read, and everything that is measured of them."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import click

from tests.benchmarks.contest import Bench
from tests.benchmarks.serving_bench import reads
from tests.benchmarks.serving_bench.contestants import STORES, Start, run_ours, skewless
from tests.benchmarks.serving_bench.findings import Findings, Logged, Overhead, Scored, Sizes
from tests.benchmarks.serving_bench.population import Population, published, settle

COMPARED = 1_000
READS, TRACKER, SCORING = PARTS = ("reads", "tracker", "scoring")


def measured(
    bench: Bench, sizes: Sizes, redis_url: str, peers: Sequence[Start], parts: Sequence[str]
) -> Iterator[Findings]:
    """Measures the parts that are asked for; the populations' databases are dropped in the end.

    Args:
        peers: whom our reads are compared with.

    Yields:
        what is known after each part, so that a failure costs no more than its own part.
    """
    tell("Building the feature view and filling it")
    with published(bench.run_dir, [sizes.users, 2 * sizes.users]) as populations:
        found = Findings()
        if READS in parts:
            found = _reads(bench, sizes, redis_url, peers, populations)
            yield found
        if TRACKER in parts:
            tell("Tracking requests")
            found = replace(found, **_tracked(sizes, populations[0]))
            yield found
        if SCORING in parts:
            tell("Scoring")
            yield replace(found, scored=[_scored(population) for population in populations])


def _reads(
    bench: Bench, sizes: Sizes, redis_url: str, peers: Sequence[Start], populations: Sequence[Population]
) -> Findings:
    first, second = populations
    tell("Starting those who read")
    readers: Sequence[Start] = (skewless, *peers)
    with ExitStack() as stack:
        smaller = [stack.enter_context(start(bench, store, first, redis_url)) for store in STORES for start in readers]
        larger = [stack.enter_context(skewless(bench, store, second, redis_url)) for store in STORES]
        for each in (*smaller, *larger):
            each.ask("ready")  # before anything is timed on the cores that they take to start
        tell("Pushing")
        pushes = reads.push([*smaller, *larger], sizes.pushes)
        settle(first)
        compared = reads.require_equal(smaller, COMPARED)
        # Before any batch: PostgreSQL plans a statement by what it was given before.
        tell("Reading, several reads at once")
        throughputs = reads.throughputs(smaller, sizes)
        tell("Reading, one read after the other")
        latencies = reads.latencies(smaller, larger, sizes)
    return Findings(latencies=latencies, throughputs=throughputs, pushes=pushes, compared=compared)


def _tracked(sizes: Sizes, population: Population) -> dict[str, Any]:
    given = {"requests": sizes.requests, "rounds": sizes.rounds, "pace": sizes.pace}
    found = run_ours("tracking", {**given, "feature_version": population.feature_version}, population)
    return {"overheads": [Overhead(**each) for each in found["overheads"]], "logged": Logged(**found["logged"])}


def _scored(population: Population) -> Scored:
    given = {"as_of": population.as_of.isoformat(), "feature_version": population.feature_version}
    return Scored(**run_ours("scoring", given, population))


def tell(what: str) -> None:
    """Says on standard error what goes on."""
    click.echo(what, err=True)
