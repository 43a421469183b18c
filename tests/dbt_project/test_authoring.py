"""What an author of a feature view can write, and what is refused with the next step."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from features import settings, warehouse
from features.contract import Contract, read_contract
from features.extracts import training_extract
from features.serving.inference_log import entity_text
from features.steps.publish import publish
from tests.databases import AS_OF, copy_of
from tests.dbt_project.event_histories import KEYS, T
from tests.dbt_project.oracle import DAY, HOUR, MICROSECOND, Event, insert, read
from tests.dbt_project.projects import copy_of_project, replace
from tests.dbt_project.running import dbt

VIEW = "models/features/user_session_features.sql"
YAML = "models/features/user_session_features.yml"
REFUSED = {
    "a clock": (
        "count(*) as",
        "count(*) filter (where started_at < now()) as",
        "'now(' gives another answer each time",
    ),
    "today": ("count(*) as", "count(*) + (current_date - current_date) as", "'current_date' gives another answer"),
    "dice": ("count(*) as", "count(*) filter (where random() < 2) as", "'random(' gives another answer each time"),
    "a window beyond the lookback": (
        "in_last(days=30)",
        "in_last(days=120)",
        "a window of 120 days sees no further back than lookback_days=90",
    ),
    "a feature that its YAML lacks": ("as session_count", "as sessions", "This model has an enforced contract"),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the dbt project, to edit."""
    return copy_of_project(tmp_path)


def build_fails(database: str, project: Path) -> str:
    """What dbt says when it refuses to build the view."""
    select = ["run", "--select", "user_session_features"]
    return dbt(select, database, project=project, as_of=AS_OF, expect_failure=True)


def contract_of(project: Path) -> Contract:
    return read_contract(project / "target" / "manifest.json")


@pytest.mark.parametrize(("old", "new", "message"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_refused(sample_warehouse: str, project: Path, old: str, new: str, message: str) -> None:
    replace(project / VIEW, old, new)
    output = build_fails(sample_warehouse, project)
    assert message in output
    assert read(sample_warehouse, "select count(*) from pg_class where relname ~ '__(batches|computed)$'") == [(0,)]


def test_a_feature_keeps_its_type(sample_warehouse: str, project: Path) -> None:
    replace(project / VIEW, "count(*) as session_count", "count(*)::double precision as session_count")
    replace(
        project / YAML,
        "description: Sessions in the 90 days before as_of.\n        data_type: bigint",
        "description: Sessions in the 90 days before as_of.\n        data_type: double precision",
    )
    output = build_fails(sample_warehouse, project)
    assert "session_count holds bigint, and its YAML says double precision" in " ".join(output.split())
    assert "give the feature another name, or make a dbt model version" in " ".join(output.split())


@pytest.mark.parametrize("line", ["entity: user_id", "lookback_days: 90", "expires_after: 3 hours"])
def test_a_view_that_does_not_say_enough_is_refused(sample_warehouse: str, project: Path, line: str) -> None:
    replace(project / YAML, f"        {line}\n", "")
    output = build_fails(sample_warehouse, project)
    assert f"user_session_features: its YAML needs config.meta.{line.partition(':')[0]}" in output


def test_empty_builds_are_refused(sample_warehouse: str) -> None:
    output = dbt(["run", "--empty", "-s", "user_session_features"], sample_warehouse, as_of=AS_OF, expect_failure=True)
    assert "--empty replaces the events by nothing" in output


def test_a_feature_that_is_gone_leaves_its_history(sample_database: str, project: Path) -> None:
    """Old rows keep it; new ones, the as-of function and the selections do without."""
    text = (project / VIEW).read_text().splitlines(keepends=True)
    (project / VIEW).write_text("".join(line for line in text if "sessions_last_7_days" not in line))
    yaml = (project / YAML).read_text()
    start, end = yaml.index("      - name: sessions_last_7_days"), yaml.index("      - name: sessions_last_30_days")
    (project / YAML).write_text((yaml[:start] + yaml[end:]).replace(">= sessions_last_7_days", ">= 0"))
    with copy_of(sample_database, "skewless_gone") as database:
        before = read(database, "select count(sessions_last_7_days) from features.user_session_features")
        dbt(["build"], database, project=project, as_of=AS_OF)
        assert read(database, "select count(sessions_last_7_days) from features.user_session_features") == before
        again = "select * from features.user_session_features_as_of(array['N14228'], '2013-07-01+00')"
        ((_, _, count, _, _, gone, recent, _),) = read(database, again)
        assert (count, gone, recent) == (35, None, 14)
        columns = "select count(*) from information_schema.columns where column_name = 'sessions_last_7_days'"
        assert read(database, f"{columns} and table_schema in ('serving', 'training')") == [(0,)]


def test_an_old_definition_stays_available_as_a_model_version(
    sample_database: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 1 keeps its table, its rows and its readers; version 2 is a view of its own."""
    sql, yaml = project / VIEW, (project / YAML).read_text()
    (project / "models/features/user_session_features_v2.sql").write_text(
        sql.read_text().replace("in_last(days=7)", "in_last(days=6)")
    )
    sql.rename(project / "models/features/user_session_features_v1.sql")
    versions = """\
    latest_version: 1
    versions:
      - v: 1
        config: {alias: user_session_features}
      - v: 2
        config: {alias: user_session_features_v2}
"""
    (project / YAML).write_text(yaml.replace("    columns:\n", versions + "    columns:\n"))
    (project / "models/serving/user_features_v2_snapshot.sql").write_text(
        "{{ serving_snapshot(ref('user_session_features', v=2)) }}"
    )
    with copy_of(sample_database, "skewless_versions") as database:
        before = read(database, "table features.user_session_features order by 1, 2")
        dbt(["build"], database, project=project, as_of=AS_OF)
        assert read(database, "table features.user_session_features order by 1, 2") == before
        differing = """
            select count(*) from features.user_session_features as one
            inner join features.user_session_features_v2 as two using (user_id, as_of)
            where one.sessions_last_7_days < two.sessions_last_7_days
                or one.session_count <> two.session_count
                or one.feature_version = two.feature_version
        """
        assert read(database, differing) == [(0,)]
        monkeypatch.setattr(settings, "WAREHOUSE_DATABASE", database)
        views = contract_of(project).feature_views
        assert views["user_session_features"].serving == ("serving", "user_features")
        for name in ("user_session_features", "user_session_features_v2"):
            assert publish(views[name], T.replace(month=7, day=2, hour=0))["is_live"]
        assert read(database, "select count(*) from serving.user_features_v2_snapshot") == read(
            database, "select count(*) from serving.user_features"
        )


COMPOSITE_YAML = """
models:
  - name: user_kind_features
    description: How a user uses one kind of session.
    config:
      contract: {enforced: true}
      meta: {entity: [user_id, event_type], lookback_days: 30, expires_after: 3 hours}
    columns:
      - {name: user_id, description: Who., data_type: text}
      - {name: event_type, description: What., data_type: text}
      - {name: as_of, description: When., data_type: timestamptz}
      - name: session_count
        description: How often.
        data_type: bigint
        config: {meta: {feature: true}}
      - {name: feature_version, description: Which definition., data_type: text}

  - name: renewals
    description: Labels that came from elsewhere, without a time of maturity and with repeats.
    config: {meta: {horizon_days: 2, grace_days: 1}}
"""
EXPOSURE = """
  - name: renewal
    label: Renewal
    type: ml
    description: Will they renew?
    owner: {email: growth-ml@example.com}
    depends_on: [ref('renewal_training_set')]
    config:
      meta:
        entity: [user_id, event_type]
        feature_view: user_kind_features
        labels: renewals
        training_set: renewal_training_set
        label: renewed
        training: {estimator: sklearn.linear_model.LogisticRegression}
"""
COVERING = "{{ covering_index(this, ['user_id', 'event_type']) }}"


@pytest.fixture(scope="module")
def composite(sample_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A warehouse of awkward keys and a project with a view of (user_id, event_type), labelled from outside."""
    project = copy_of_project(tmp_path_factory.mktemp("composite"))
    models = project / "models"
    replace(
        models / "staging/stg_session_events.sql",
        '"analyze {{ this }}"',
        f'"{COVERING}",\n            "analyze {{{{ this }}}}"',
    )
    (models / "features/user_kind_features.sql").write_text(
        "{% call feature_view(events=ref('stg_session_events'), labels=[ref('renewals')]) %}"
        " count(*) as session_count, {% endcall %}"
    )
    (models / "features/user_kind_features.yml").write_text(COMPOSITE_YAML)
    (models / "features/renewals.sql").write_text("select user_id, event_type, label_at, renewed from raw.renewals")
    (models / "training/renewal_training_set.sql").write_text(
        "{{ training_set(labels=ref('renewals'), features=ref('user_kind_features')) }}"
    )
    (models / "serving/user_kind_snapshot.sql").write_text("{{ serving_snapshot(ref('user_kind_features')) }}")
    exposures = models / "exposures.yml"
    exposures.write_text(exposures.read_text() + EXPOSURE)
    with copy_of(sample_database, "skewless_composite") as database, pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "WAREHOUSE_DATABASE", database)
        deliver_pairs(database)
        output = dbt(
            ["build", "--exclude", "test_type:data"], database, project=project, as_of=T.isoformat()
        )  # its sample is gone
        assert "ERROR=0" in output
        yield database, project


PAIRS = [(one, other) for one in KEYS for other in KEYS]
LABEL_AT = T - 7 * DAY + 17 * HOUR / 60 + MICROSECOND


def deliver_pairs(database: str) -> None:
    """One to three sessions of every pair of keys, and two labels for each of a third of them."""
    with warehouse.connect(database) as connection:
        connection.execute("truncate raw.session_events, staging.stg_session_events, features.churn_labels")
        connection.execute(
            "create table raw.renewals (user_id text, event_type text, label_at timestamptz, renewed bool)"
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into raw.renewals values (%s, %s, %s, %s)",
                [(*pair, LABEL_AT, n % 2 == 0) for n, pair in enumerate(PAIRS[::3]) for _ in range(2)],
            )
    insert(
        database,
        [
            Event(f"{number} {n}", one, T - 10 * DAY, 60, T - 9 * DAY, event_type=other)
            for number, (one, other) in enumerate(PAIRS)
            for n in range(number % 3 + 1)
        ],
    )


def test_no_two_keys_are_taken_for_one(composite: tuple[str, Path]) -> None:
    database, _ = composite
    rows = read(
        database, f"select user_id, event_type, session_count from features.user_kind_features where as_of = '{T}'"
    )
    assert {(one, other): count for one, other, count in rows} == {
        pair: number % 3 + 1 for number, pair in enumerate(PAIRS)
    }
    assert len(rows) == len(PAIRS)


def test_labels_from_anywhere_keep_their_number_and_mature_by_the_calendar(composite: tuple[str, Path]) -> None:
    """Labels at any instant, even repeated ones: each has its features once, and no row is lost or multiplied."""
    database, _ = composite
    query = "select user_id, event_type, renewed, session_count, as_of, matured_at from training.renewal_training_set"
    rows = read(database, query)
    counts = {pair: number % 3 + 1 for number, pair in enumerate(PAIRS)}
    labels = [(*pair, n % 2 == 0, counts[pair]) for n, pair in enumerate(PAIRS[::3]) for _ in range(2)]
    assert sorted(row[:4] for row in rows) == sorted(labels)
    assert {row[4:] for row in rows} == {(LABEL_AT.replace(minute=0, second=0, microsecond=0), LABEL_AT + 3 * DAY)}


def test_composite_keys_pass_the_gate_the_extract_and_the_functions(composite: tuple[str, Path]) -> None:
    database, project = composite
    contract = contract_of(project)
    view = contract.feature_view("user_kind_features")
    assert publish(view, T) | {"feature_version": ""} == {
        "as_of": T.isoformat(), "feature_version": "", "row_count": len(PAIRS), "is_live": True
    }  # fmt: skip
    assert read(database, "select max(mismatches), count(*) from monitoring.parity_audits") == [(0, 2)]
    assert read(database, "select count(*) from serving.user_kind_snapshot") == [(len(PAIRS),)]
    extract = training_extract(contract.model("renewal"), T)
    assert len(extract.rows) == 2 * len(PAIRS[::3])
    again = "select session_count from features.user_kind_features_as_of(array['a', 'ab'], array['bc', 'c'], %s)"
    assert len(read(database, again.replace("%s", f"'{T}'"))) == 2
    explained = f"select count(*) from features.explain_user_kind_features('a', 'b', '{T}') where counted"
    assert read(database, explained) == [(PAIRS.index(("a", "b")) % 3 + 1,)]


def test_composite_keys_are_scored_under_names_of_their_own(composite: tuple[str, Path]) -> None:
    ids = [entity_text(pair) for pair in PAIRS]
    assert len(set(ids)) == len(PAIRS)
    assert [tuple(json.loads(entity_id)) for entity_id in ids] == PAIRS


def test_a_clean_installation_documents_every_feature(sample_warehouse: str, project: Path, contract: Contract) -> None:
    """dbt's docs and the warehouse's own comments carry each feature, and where it is selected too."""
    dbt(["docs", "generate", "--no-compile"], sample_warehouse, project=project, as_of=AS_OF)
    catalog = json.loads((project / "target" / "catalog.json").read_text())["nodes"]
    for view in contract.feature_views.values():
        for relation in filter(None, [view.relation, view.serving, *view.training_sets]):
            columns = catalog[f"model.skewless.{relation[1]}"]["columns"]
            for feature in view.features:
                assert columns[feature.name]["comment"] == feature.description, (relation, feature.name)
