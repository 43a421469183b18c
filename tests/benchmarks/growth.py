"""How time grows: each size doubled while the others stay, and an hourly run on a history twice as long.

Seconds are dbt's own for one model, as in skewless.py; a feature view is built into an empty table each time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count, islice

from features import warehouse
from tests.benchmarks import data
from tests.benchmarks import project as dbt
from tests.benchmarks.contest import Bench, Curve, Table
from tests.benchmarks.measure import median

DATABASE = "skewless_bench_growth"
FACTORS = (1, 2, 4)
EVENTS_PER_ENTITY = 100
EVENTS_PER_ENTITY_OF_A_SNAPSHOT = 5
FEATURE_COUNTS = (5, 10, 20)
HOURS = 5
INCREMENT_SHARE = 1 / data.DAYS / 24
NODES = (dbt.STAGING, dbt.LABELS, dbt.VIEW)

VERSION_COLUMN = "      - name: feature_version\n"
FEATURE_COLUMN = """\
      - name: {name}
        data_type: bigint
        config: {{meta: {{feature: true}}}}
"""

# Sessions that happened and arrived within the hour before as_of, on time, of any user.
INCREMENT = """
insert into raw.session_events (event_id, user_id, started_at, duration_seconds, ingested_at, loaded_at)
select event_id, user_id, started_at, 600, started_at + interval '12 minutes', started_at + interval '12 minutes'
from (
    select
        to_char(%(as_of)s::timestamptz, '"h"YYYYMMDDHH24-') || n as event_id,
        bench.user_id(%(entities)s * power(bench.uniform(n, extract(epoch from %(as_of)s::timestamptz)::bigint), 2))
            as user_id,
        %(as_of)s::timestamptz - interval '1 hour' + n * interval '40 minutes' / %(events)s as started_at
    from generate_series(1, %(events)s::bigint) as n
) as made
"""


@dataclass(frozen=True)
class Point:
    """One size at which dbt is measured; `features` is how many the view has."""

    events: int
    entities: int
    spine: int
    features: int = FEATURE_COUNTS[0]


@dataclass(frozen=True)
class Seconds:
    """Of staging, once, and of each build of the feature view."""

    staging: float
    view: tuple[float, ...]


def curves(bench: Bench, events: int) -> list[Curve]:
    """Every size doubled twice. `events` is the smallest number of events; the other sizes follow from it."""
    users, spine, snapshot = events // EVENTS_PER_ENTITY, events // 8, events // EVENTS_PER_ENTITY_OF_A_SNAPSHOT
    measured = _curves(bench, "events", [events * factor for factor in FACTORS], lambda size: Point(size, users, spine))
    spines = _view_curve(bench, "spine rows", [spine * factor for factor in FACTORS], lambda n: Point(events, users, n))
    snapshots = _view_curve(
        bench,
        "users of one snapshot",
        [snapshot * factor for factor in FACTORS],
        lambda size: Point(size * EVENTS_PER_ENTITY_OF_A_SNAPSHOT, size, 0),
    )
    features = _view_curve(
        bench, "features of the view", FEATURE_COUNTS, lambda size: Point(events, users, spine, features=size)
    )
    return [*measured, spines, snapshots, features]


def _curves(bench: Bench, what: str, sizes: Sequence[int], point: Callable[[int], Point]) -> list[Curve]:
    found = [built(bench, point(size)) for size in sizes]
    return [
        Curve(f"{what}: staging", sizes, [(seconds.staging,) for seconds in found]),
        Curve(f"{what}: feature view", sizes, [seconds.view for seconds in found]),
    ]


def _view_curve(bench: Bench, what: str, sizes: Sequence[int], point: Callable[[int], Point]) -> Curve:
    return _curves(bench, what, sizes, point)[1]


def built(bench: Bench, point: Point) -> Seconds:
    """Generates the rows and lets dbt build the feature view from them."""
    project = dbt.copy(bench.run_dir / "dbt" / "growth", bench.server_pid)
    add_features(project, point.features - FEATURE_COUNTS[0])
    with dbt.another_database(DATABASE):
        with warehouse.connect() as connection:
            data.generate_events(connection, point.events, point.entities)
            data.generate_spine(connection, point.spine, point.entities)
        dbt.vacuum()
        before = project.run(dbt.STAGING, dbt.LABELS)
        dbt.vacuum()
        runs = dbt.build_repeatedly(project, bench.repeats)
    return Seconds(before.seconds[dbt.STAGING], tuple(run.seconds[dbt.VIEW] for run in runs))


def add_features(project: dbt.Project, number: int) -> None:
    """Gives the feature view so many more features, each a count over a window of its own."""
    folder = project.folder / "models" / "features"
    model, described = folder / f"{dbt.VIEW}.sql", folder / f"{dbt.VIEW}.yml"
    windows = list(islice((days for days in count(8) if days != 30), number))
    lines = [f"    count(*) filter (where {{{{ in_last(days={days}) }}}}) as {_name(days)},\n" for days in windows]
    columns = [FEATURE_COLUMN.format(name=_name(days)) for days in windows]
    for file, end, added in ((model, "{% endcall %}", lines), (described, VERSION_COLUMN, columns)):
        file.write_text(file.read_text().replace(end, "".join(added) + end))


def _name(days: int) -> str:
    return f"sessions_last_{days}_days"


def hourly(bench: Bench, events: int) -> Table:
    """Hourly runs with the project's own labels, on one year of so many events and on two years of twice as many."""
    users, increment = events // EVENTS_PER_ENTITY, round(events * INCREMENT_SHARE)
    short, long = (_hours(bench, years, events, users, increment) for years in (1, 2))
    rows = []
    for node in NODES:
        one, two = median(short[node]), median(long[node])
        rows.append((node, f"{one:.2f} s", f"{two:.2f} s", f"{two / one:.2f}"))
    return Table(
        "An hourly run on a history twice as long",
        f"{increment:,} new events each hour, {users:,} users; medians of {HOURS} consecutive hours, of dbt's seconds "
        f"for each model. The history has {events:,} events over one year, or {2 * events:,} over two: windows hold as "
        "many events in both. A ratio near 1 says that an hour's work does not grow with history.",
        ("model", "one year", "two years", "ratio"),
        rows,
    )


def _hours(bench: Bench, years: int, events: int, users: int, increment: int) -> dict[str, list[float]]:
    project = dbt.copy(bench.run_dir / "dbt" / "hourly", bench.server_pid, labels=None)
    end = datetime.fromisoformat(data.ANCHOR) + timedelta(days=data.DAYS)
    days = years * data.DAYS
    seconds: dict[str, list[float]] = {node: [] for node in NODES}
    with dbt.another_database(DATABASE):
        with warehouse.connect() as connection:
            anchor = (end - timedelta(days=days)).isoformat()
            data.generate_events(connection, events * years, users, anchor=anchor, days=days)
        dbt.vacuum()
        project.run(*NODES)
        dbt.vacuum()
        for hour in range(1, HOURS + 1):
            as_of = dbt.AS_OF + timedelta(hours=hour)
            with warehouse.connect() as connection:
                connection.execute(INCREMENT, {"as_of": as_of, "entities": users, "events": increment})
            run = project.run(*NODES, as_of=as_of)
            for node in NODES:
                seconds[node].append(run.seconds[node])
    return seconds


def table(measured: Sequence[Curve]) -> Table:
    """The curves' exponents."""
    return Table(
        "How time grows",
        "Each size doubled twice while the others stay; events per user and users per spine as in the contest. The "
        "exponent is b of seconds = a * size^b: 1 is proportional, less means that something is paid once.",
        ("what grows", "sizes", "medians", "exponent", "at each step"),
        [
            (
                curve.what,
                ", ".join(f"{size:,}" for size in curve.sizes),
                ", ".join(f"{seconds:.2f} s" for seconds in curve.medians),
                f"{curve.exponent:.2f}",
                ", ".join(f"{step:.2f}" for step in curve.steps),
            )
            for curve in measured
        ],
    )
