"""Writes what a run found: bench_serving.md, .json and .svg, beside each other in one folder."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.measure import duration, size
from tests.benchmarks.report import rows
from tests.benchmarks.serving_bench import plots
from tests.benchmarks.serving_bench.contestants import POSTGRES, REDIS, SKEWLESS
from tests.benchmarks.serving_bench.findings import COROUTINES, Findings, Latency, Overhead, Throughput

NAME = "bench_serving"
STORE_NAMES = {REDIS: "Redis", POSTGRES: "PostgreSQL"}
# What tracking may add to a request, in microseconds: one that is not logged, and one that is.
GOALS = {False: 20, True: 100}
Table = Sequence[Sequence[str]]


def write(found: Findings, facts: Mapping[str, str], folder: Path) -> Path:
    """Writes the three files into the folder, which is made when it is missing.

    Args:
        facts: what has to be known of the run, in the order of the page.

    Returns:
        the page's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if found.latencies:
        plots.latencies(found.latencies, folder / f"{NAME}.svg", facts)
    raw = {"facts": dict(facts), **asdict(found)}
    (folder / f"{NAME}.json").write_text(json.dumps(raw, indent=2) + "\n")
    page = folder / f"{NAME}.md"
    page.write_text("\n".join(markdown(found, facts)) + "\n")
    return page


def markdown(found: Findings, facts: Mapping[str, str]) -> Iterator[str]:
    """The page's lines. It shows the plot by its file name, so it has to lie beside it."""
    yield from ("# Benchmark: serving", "", "Written by `make bench-serving`; do not edit.", "")
    yield from ("| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items()), "")
    if found.latencies:
        yield from (f"![Milliseconds of a read by the number of entities in it]({NAME}.svg)", "")
    for is_wanted, section in (
        (found.latencies, _reads),
        (found.throughputs, _throughput),
        (found.pushes, _pushes),
        (found.latencies, _growth),
        (found.overheads, _tracking),
        (found.scored, _scoring),
    ):
        if is_wanted:
            yield from section(found)


def _reads(found: Findings) -> Iterator[str]:
    yield from (
        "## Reads, one after the other",
        "",
        "A read is one call, from a list of entity ids to their features as Python values: "
        "`FeatureStore.read_user_features_batch`, and Feast's `get_online_features(...).to_dict()`; where it says "
        "coroutines, the same of `AsyncFeatureStore`, and `get_online_features_async`. Ours asks which publication is "
        "live and for rows that services wrote since, in the same round trip. All read the same ids in the same "
        "order, each in a process of its own. In every round each has a block of reads, and they take turns at going "
        "first; a block begins with reads that do not count. Shown are medians over the rounds of each round's p50 "
        f"and p99. The values of {found.compared:,} entities were compared before, and are equal, floats exactly. "
        "Each timed read was checked to have found everybody, and ours to have been answered by the store it names.",
        "",
    )
    for store, name in STORE_NAMES.items():
        yield from (f"### {name}", "", *rows(_latency_table(found.latencies, store)), "")


def _latency_table(latencies: Sequence[Latency], store: str) -> Table:
    """A row for each kind of read; beside ours every peer's, and how many times ours that is."""
    smallest = min(each.users for each in latencies)
    there = [each for each in latencies if each.store == store and each.users == smallest]
    names = list(dict.fromkeys(each.name for each in there))
    header = ["entities in a read", "reads in a round"]
    for quantile in ("p50", "p99"):
        header += [f"{name} {quantile}" for name in names]
        header += [f"{name} / {names[0]}" for name in names[1:]]
    table = [header]
    for ours in (each for each in there if each.name == names[0]):
        group = [each for each in there if (each.how, each.entities) == (ours.how, ours.entities)]
        row = [f"{ours.entities:,}{', coroutines' if ours.how == COROUTINES else ''}", f"{ours.reads:,}"]
        for quantile in ("median_p50", "median_p99"):
            row += beside([getattr(each, quantile) for each in group], duration)
        table.append(row)
    return table


def beside(values: Sequence[float], show: Callable[[float], str]) -> list[str]:
    """The values as text, then every other's ratio to the first."""
    return [*map(show, values), *(f"{value / values[0]:.2f}" for value in values[1:])]


def _throughput(found: Findings) -> Iterator[str]:
    yield from (
        "## Reads per second",
        "",
        "Reads of one entity, by threads or coroutines of one process that begin together; medians over the rounds. "
        "Servers run on the same cores.",
        "",
    )
    names = list(dict.fromkeys(each.name for each in found.throughputs))
    header = ["store", "at once", *names, *(f"{name} / {names[0]}" for name in names[1:])]
    table = [header]
    for ours in (each for each in found.throughputs if each.name == names[0]):
        group = [each for each in found.throughputs if _same_kind(each, ours)]
        what = ours.how if ours.how == COROUTINES else "threads" if ours.at_once > 1 else "thread"
        at_once = f"{ours.at_once} {what}"
        table.append([
            STORE_NAMES[ours.store],
            at_once,
            *beside([each.median for each in group], lambda rate: f"{rate:,.0f}"),
        ])
    yield from (*rows(table), "")


def _same_kind(one: Throughput, other: Throughput) -> bool:
    return (one.store, one.how, one.at_once) == (other.store, other.how, other.at_once)


def _pushes(found: Findings) -> Iterator[str]:
    yield from (
        "## Filling the stores",
        "",
        "Ours into Redis: `features.serving.push`, from the published snapshot in PostgreSQL into a namespace without "
        "a key. Ours into PostgreSQL does not exist: the published rows are what is read. Feast's: "
        "`write_to_online_store` of a DataFrame that is in memory, 10,000 rows at a time.",
        "",
    )
    table = [["", "store", "rows", "seconds", "each time", "rows per second"]]
    table += [
        [
            each.name,
            STORE_NAMES[each.store],
            f"{each.rows:,}",
            duration(each.median),
            ", ".join(map(duration, each.seconds)),
            f"{each.rows / each.median:,.0f}",
        ]
        for each in found.pushes
    ]
    yield from (*rows(table), "")


def _growth(found: Findings) -> Iterator[str]:
    """Ours alone: one entity among so many users and among twice as many, and pushing them."""
    yield from (
        "## Twice the users",
        "",
        "Reads of one entity in the rounds of the first table, and pushes, of two populations in two databases.",
        "",
    )
    measured = [
        (f"p50 of a read, {STORE_NAMES[each.store]}", each.users, each.median_p50)
        for each in found.latencies
        if (each.name, each.entities) == (SKEWLESS, 1) and each.how != COROUTINES
    ]
    measured += [("push into Redis", each.rows, each.median) for each in found.pushes if each.name == SKEWLESS]
    table = [["what", "users", "time", "twice the users", "time", "ratio"]]
    for what in dict.fromkeys(name for name, _, _ in measured):
        (users, once), (more, twice) = sorted((users, seconds) for name, users, seconds in measured if name == what)
        table.append([what, f"{users:,}", duration(once), f"{more:,}", duration(twice), f"{twice / once:.2f}"])
    yield from (*rows(table), "")


def _tracking(found: Findings) -> Iterator[str]:
    logged = found.logged
    assert logged is not None
    yield from (
        "## What tracking adds to a request",
        "",
        "`with tracker.track_inference(...)` around `log_prediction`, with five features, less the same loop with a "
        "tracker that does nothing, in the same process and at the same pace; medians over the rounds of the "
        "difference of each round's p50s and p99s. Sampled requests are written to monitoring.inference_log by the "
        "tracker's thread meanwhile. Back to back, a round's requests are appended as fast as the loop goes. Numbers "
        "are microseconds.",
        "",
        *rows([["request", "requests in a round", "p50", "p99", "goal"], *map(_overhead_row, found.overheads)]),
        "",
        f"Of {logged.sampled:,} sampled requests {logged.written:,} were written, {logged.dropped:,} dropped and "
        f"{logged.rejected:,} rejected; monitoring.inference_log has {logged.in_the_log:,} of them.",
        "",
    )


def _overhead_row(each: Overhead) -> list[str]:
    what = f"{'sampled' if each.sampled else 'not sampled'}, {'paced' if each.paced else 'back to back'}"
    times = (each.median_p50, each.median_p99)
    return [what, f"{each.requests:,}", *(f"{value:.1f}" for value in times), f"{GOALS[each.sampled]}"]


def _scoring(found: Findings) -> Iterator[str]:
    yield from (
        "## Scoring a snapshot",
        "",
        "`features.steps.score` on a published snapshot: streaming it, scoring it with a gradient boosting classifier "
        "of 100 trees, writing scores and the logged share, until the commit. The registry is replaced by a model "
        "that is fitted on the spot. Memory is the process's greatest resident set before and after.",
        "",
    )
    table = [["rows of the snapshot", "scored", "logged", "seconds", "scored per second", "memory before", "after"]]
    table += [
        [
            *(f"{number:,}" for number in (each.rows, each.scored, each.logged)),
            duration(each.seconds),
            f"{each.scored / each.seconds:,.0f}",
            size(each.peak_before),
            size(each.peak_after),
        ]
        for each in found.scored
    ]
    yield from (*rows(table), "")
