"""What a model really saw, compared with a recomputation: each test logs requests as a service would, and breaks some.

The oracle asks the as-of function for one logged row at a time, and compares in Python.
"""

import json
import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from features import served_parity, warehouse
from features.contract import FeatureView, Model
from features.errors import SkewlessError
from features.steps.compare_served import compare_served
from features.steps.publish import publish
from features.steps.roll_back import roll_back
from tests.databases import execute, rows
from tests.dbt_project.oracle import DAY, FEATURES, HOUR, Event
from tests.dbt_project.projects import with_another_definition
from tests.dbt_project.running import run_dbt
from tests.steps.small_warehouse import EARLIER, LATER, USERS, audits, fill, ledger, load, session, stored

MINUTE = timedelta(minutes=1)
STAGING = "stg_session_events"


@pytest.fixture(autouse=True)
def _published(small_warehouse: str, view: FeatureView) -> None:
    publish(view, EARLIER)
    publish(view, LATER)


def version() -> str:
    return str(ledger()[-1]["feature_version"])


def seen(as_of: datetime) -> dict[str, dict[str, Any]]:
    """The features of everybody at an instant, by user."""
    return {row[0]: dict(zip(FEATURES, row[3:], strict=True)) for row in stored(as_of)}


def log_request(entity: str, as_of: datetime, features: Mapping[str, Any] | str, **columns: Any) -> None:
    """Writes a row of the log; by default one of batch scoring.

    Args:
        features: by name, or JSON as it came.
    """
    row = {
        "request_id": f"request {rows('select count(*) from monitoring.inference_log')[0][0]}",
        "model_name": "churn",
        "model_version": "1",
        "entity_id": entity,
        "as_of": as_of,
        "features": features if isinstance(features, str) else json.dumps(features),
        "feature_version": version(),
        "kind": "batch",
        "logged_at": as_of,
        **columns,
    }
    with warehouse.connect() as connection:
        warehouse.insert(connection, "monitoring.inference_log", row)


def log_everybody(as_of: datetime = LATER) -> None:
    for user, features in seen(as_of).items():
        log_request(user, as_of, features)


def change(user: str, **features: Any) -> None:
    """Alters what was logged of a user."""
    execute(
        "update monitoring.inference_log set features = features || %s::jsonb where entity_id = %s",
        json.dumps(features),
        user,
    )


def found(as_of: datetime = LATER) -> dict[str, tuple[int, str | None, list[list[Any]]]]:
    """What the audit of the log at an instant recorded: of each feature how many cells differ, why, and examples."""
    return {
        row["feature"]: (row["mismatches"], row["cause"], row["example_keys"])
        for row in audits()
        if row["source"] == "inference_log" and row["as_of"] == as_of
    }


def differing(as_of: datetime = LATER) -> dict[str, tuple[int, str | None, list[list[Any]]]]:
    return {feature: row for feature, row in found(as_of).items() if row[0]}


def test_what_was_served_as_it_was_published_is_no_skew(churn: Model) -> None:
    log_everybody()
    assert compare_served(churn, LATER) == {
        "as_of": LATER.isoformat(),
        "feature_version": version(),
        "publication_id": ledger()[-1]["publication_id"],
        "rows_compared": 12,
        "skipped": {},
        "mismatches": {},
        "causes": {},
    }
    assert found() == dict.fromkeys(FEATURES, (0, None, []))


def test_the_audit_says_of_which_model_and_of_what(churn: Model, view: FeatureView) -> None:
    log_everybody()
    compare_served(churn, LATER)
    of_log = [row for row in audits() if row["source"] == "inference_log"]
    assert len(of_log) == len(FEATURES)
    for row in of_log:
        assert (row["model_name"], row["feature_view"], row["as_of"]) == ("churn", view.name, LATER)
        assert (row["feature_version"], row["rows_compared"]) == (version(), 12)
        assert row["publication_id"] == ledger()[-1]["publication_id"]
        assert row["accepted_because"] is None


def test_the_audits_of_the_gate_stay(churn: Model) -> None:
    before = [row for row in audits() if row["source"] == "publication"]
    log_everybody()
    compare_served(churn, LATER)
    assert [row for row in audits() if row["source"] == "publication"] == before


def test_a_value_that_was_altered_is_changed_logic(churn: Model, caplog: pytest.LogCaptureFixture) -> None:
    log_everybody()
    minutes = seen(LATER)["u03"]["avg_session_duration_minutes"]
    change("u03", avg_session_duration_minutes=minutes * 60)
    caplog.set_level(logging.WARNING)
    facts = compare_served(churn, LATER)
    assert facts["mismatches"] == {"avg_session_duration_minutes": 1}
    assert facts["causes"] == {"avg_session_duration_minutes": "changed logic"}
    assert differing() == {"avg_session_duration_minutes": (1, "changed logic", [["u03"]])}
    assert caplog.messages == [
        "churn saw other features than their definition gives. At 2013-07-02 00:00Z avg_session_duration_minutes "
        "differs in 1 of 12 rows (changed logic; for example u03)."
    ]


def test_the_last_bit_counts(churn: Model) -> None:
    log_everybody()
    minutes = seen(LATER)["u03"]["avg_session_duration_minutes"]
    change("u03", avg_session_duration_minutes=math.nextafter(minutes, math.inf))
    compare_served(churn, LATER)
    assert differing() == {"avg_session_duration_minutes": (1, "changed logic", [["u03"]])}


def test_a_whole_number_is_the_same_with_a_point(churn: Model) -> None:
    """As a service logs it whose features went through a matrix of doubles."""
    for user, features in seen(LATER).items():
        log_request(user, LATER, {name: float(value) for name, value in features.items()})
    compare_served(churn, LATER)
    assert differing() == {}


def test_a_number_that_was_logged_as_text_is_the_same(churn: Model) -> None:
    for user, features in seen(LATER).items():
        log_request(user, LATER, {name: str(value) for name, value in features.items()})
    compare_served(churn, LATER)
    assert differing() == {}


def test_null_is_not_a_value(churn: Model) -> None:
    log_everybody()
    change("u04", session_count=None)
    compare_served(churn, LATER)
    assert differing() == {"session_count": (1, "changed logic", [["u04"]])}


@pytest.mark.parametrize("wrong", ["NaN", "Infinity", "-Infinity", True, [1], {"a": 1}, "", "twelve", 1e300])
def test_what_cannot_be_the_value_differs_and_ends_nothing(churn: Model, wrong: Any) -> None:
    log_everybody()
    change("u04", session_count=wrong)
    change("u05", avg_session_duration_minutes=wrong)
    facts = compare_served(churn, LATER)
    assert facts["mismatches"] == {"session_count": 1, "avg_session_duration_minutes": 1}
    assert facts["rows_compared"] == 12


@pytest.mark.parametrize("whole", ["[]", '["session_count"]', '"session_count"', "null", "3"])
def test_features_that_are_no_object_differ_in_every_cell(churn: Model, whole: str) -> None:
    log_request("u04", LATER, whole)
    assert compare_served(churn, LATER)["mismatches"] == dict.fromkeys(FEATURES, 1)


def test_a_feature_that_a_request_lacks_differs(churn: Model) -> None:
    log_everybody()
    execute("update monitoring.inference_log set features = features - 'session_count' where entity_id <= 'u07'")
    compare_served(churn, LATER)
    examples = [[user] for user in USERS[:5]]
    assert differing() == {"session_count": (7, "changed logic", examples)}


def test_a_feature_that_tells_who_somebody_is_is_not_compared(churn: Model) -> None:
    log_everybody()
    execute("update monitoring.inference_log set features = features - 'session_count'")
    compare_served(with_pii(churn, "session_count"), LATER)
    assert found() == dict.fromkeys(FEATURES[1:], (0, None, []))


def with_pii(model: Model, *names: str) -> Model:
    features = tuple(
        feature.model_copy(update={"pii": feature.name in names}) for feature in model.feature_view.features
    )
    return model.model_copy(update={"feature_view": model.feature_view.model_copy(update={"features": features})})


def test_where_every_feature_tells_who_somebody_is_nothing_is_compared(churn: Model) -> None:
    log_request("u01", LATER, {})
    assert compare_served(with_pii(churn, *FEATURES), LATER)["rows_compared"] == 0
    assert found() == {}


def test_an_event_that_came_late_is_backdated_data(churn: Model) -> None:
    log_everybody()
    load(session("u03", LATER - 40 * DAY, known_at=LATER - 39 * DAY))
    run_dbt(LATER, STAGING)
    compare_served(churn, LATER)
    expected = (1, "backdated data", [["u03"]])
    assert differing() == {"session_count": expected, "avg_session_duration_minutes": expected}


def test_late_data_are_no_excuse_for_the_rows_of_others(churn: Model) -> None:
    log_everybody()
    change("u08", session_count=-1)
    load(session("u03", LATER - 40 * DAY, known_at=LATER - 39 * DAY))
    run_dbt(LATER, STAGING)
    compare_served(churn, LATER)
    assert differing()["session_count"] == (2, "backdated data and changed logic", [["u03"], ["u08"]])
    assert differing()["avg_session_duration_minutes"] == (1, "backdated data", [["u03"]])


def test_a_withdrawal_that_came_late_is_backdated_data(churn: Model) -> None:
    log_everybody()
    ((last, ended),) = rows(
        "select event_id, ingested_at from raw.session_events"
        f" where user_id = 'u06' and ingested_at < '{LATER}' order by started_at desc limit 1"
    )
    load(Event(event_id=last, ingested_at=ended + MINUTE, is_deleted=True))
    run_dbt(LATER, STAGING)
    compare_served(churn, LATER)
    assert {(cause, *keys) for _, cause, keys in ((n, c, map(tuple, k)) for n, c, k in differing().values())} == {
        ("backdated data", ("u06",))
    }


def test_what_was_honestly_unknown_changes_nothing(churn: Model) -> None:
    log_everybody()
    load(session("u03", LATER - 5 * DAY, known_at=LATER + HOUR))
    run_dbt(LATER, STAGING)
    compare_served(churn, LATER)
    assert differing() == {}


@pytest.mark.parametrize(
    ("written_after", "cause"), [(timedelta(0), "backdated data"), (timedelta(hours=1), "changed logic")]
)
def test_a_row_that_was_never_published_could_see_what_was_there_when_it_was_written(
    churn: Model, written_after: timedelta, cause: str
) -> None:
    """Computed on demand at an instant of its own, from 20 minutes after LATER."""
    at = LATER + 20 * MINUTE
    ((features,),) = rows(f"select to_jsonb(f) from features.user_session_features_as_of(array['u03'], '{at}') as f")
    ((now,),) = rows("select now()")
    load(session("u03", LATER - 40 * DAY, known_at=LATER - 39 * DAY))
    log_request("u03", at, features, kind="online", logged_at=at, written_at=now + written_after)
    run_dbt(LATER, STAGING)
    compare_served(churn, LATER + HOUR)
    assert differing(LATER + HOUR)["session_count"] == (1, cause, [["u03"]])


def test_what_a_rollback_publishes_again_could_see_no_more_than_the_first_time(churn: Model, view: FeatureView) -> None:
    log_everybody(EARLIER)
    execute("update serving.publications set events_loaded_through = null")
    load(session("u03", EARLIER - 40 * DAY, known_at=EARLIER - 39 * DAY))
    run_dbt(LATER, STAGING)
    roll_back([view], EARLIER)
    compare_served(churn, EARLIER)
    assert differing(EARLIER)["session_count"] == (1, "backdated data", [["u03"]])


def test_requests_of_the_hour_are_compared_and_no_others(churn: Model) -> None:
    for logged_at, kind in [
        (LATER - HOUR, "online"),  # the hour before
        (LATER - HOUR + MINUTE, "online"),
        (LATER, "online"),
        (LATER + MINUTE, "online"),  # the next
    ]:
        log_request("u01", EARLIER, {}, kind=kind, logged_at=logged_at)
    log_request("u01", EARLIER, {}, kind="batch", logged_at=LATER)  # of another snapshot
    log_request("u01", LATER, {}, model_name="another")
    assert compare_served(churn, LATER)["rows_compared"] == 2


def test_each_request_is_compared_at_its_own_instant(churn: Model, view: FeatureView) -> None:
    instants = [LATER - 3 * HOUR, LATER - 2 * HOUR, LATER - HOUR]
    fill(view, *instants)
    for as_of in [*instants, EARLIER]:
        log_request("u02", as_of, seen(as_of)["u02"], kind="online", logged_at=LATER - MINUTE)
    assert len({json.dumps(seen(as_of)["u02"]) for as_of in [EARLIER, LATER]}) == 2
    facts = compare_served(churn, LATER)
    assert (facts["rows_compared"], facts["mismatches"]) == (4, {})


def test_requests_of_one_entity_are_several_rows_and_one_example(churn: Model) -> None:
    for user in ("u01", "u02"):
        for _ in range(7):
            log_request(user, LATER, seen(LATER)[user] | {"session_count": -1})
    compare_served(churn, LATER)
    assert differing() == {"session_count": (14, "changed logic", [["u01"], ["u02"]])}


def test_somebody_unknown_is_compared_with_what_the_definition_gives_of_nobody(churn: Model) -> None:
    nobody = dict(zip(FEATURES, (0, 0.0, 999, 0, 0), strict=True))
    log_request("nobody", LATER, nobody)
    facts = compare_served(churn, LATER)
    assert (facts["rows_compared"], facts["mismatches"]) == (1, {})


def test_another_definition_is_skipped(churn: Model) -> None:
    log_everybody()
    execute("update monitoring.inference_log set feature_version = 'old', features = '{}' where entity_id <= 'u04'")
    facts = compare_served(churn, LATER)
    assert (facts["rows_compared"], facts["skipped"], facts["mismatches"]) == (8, {"new definition": 4}, {})


def test_requests_of_before_a_new_definition_are_all_skipped(churn: Model, tmp_path: Path) -> None:
    log_everybody()
    run_dbt(LATER, STAGING, "user_session_features", project=with_another_definition(tmp_path))
    facts = compare_served(churn, LATER)
    assert (facts["rows_compared"], facts["skipped"]) == (0, {"new definition": 12})
    assert found() == {}


def test_without_a_row_nothing_is_written_and_the_log_says_so(churn: Model, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    facts = compare_served(churn, LATER)
    assert (facts["rows_compared"], facts["skipped"]) == (0, {})
    assert found() == {}
    assert "churn at 2013-07-02 00:00Z: no logged row could be compared, so nothing is recorded." in caplog.messages


def test_what_was_never_published_is_recorded_under_no_publication(churn: Model) -> None:
    log_request("u01", EARLIER, {}, kind="online", logged_at=EARLIER - 3 * HOUR)
    assert compare_served(churn, EARLIER - 3 * HOUR)["publication_id"] == 0
    assert set(found(EARLIER - 3 * HOUR)) == set(FEATURES)


def test_the_publication_is_the_last_of_that_time(churn: Model) -> None:
    log_request("u01", EARLIER, {}, kind="online", logged_at=LATER - HOUR)
    first, last = (row["publication_id"] for row in ledger())
    assert compare_served(churn, LATER - HOUR)["publication_id"] == first
    log_everybody()
    assert compare_served(churn, LATER)["publication_id"] == last


def test_a_view_that_was_never_built_is_refused(churn: Model) -> None:
    execute("delete from features.feature_versions")
    with pytest.raises(SkewlessError, match="dbt has not built user_session_features yet"):
        compare_served(churn, LATER)


def test_comparing_again_replaces_what_was_found(churn: Model) -> None:
    log_everybody()
    change("u03", session_count=-1)
    first = compare_served(churn, LATER)
    before = audits()
    assert compare_served(churn, LATER) == first
    assert [row | {"audited_at": None} for row in audits()] == [row | {"audited_at": None} for row in before]
    change("u03", session_count=seen(LATER)["u03"]["session_count"])
    compare_served(with_pii(churn, "sessions_last_7_days"), LATER)
    assert found() == {name: (0, None, []) for name in FEATURES if name != "sessions_last_7_days"}


def test_an_hour_has_one_audit_also_when_a_rollback_came_between(churn: Model, view: FeatureView) -> None:
    log_everybody()
    change("u03", session_count=-1)
    compare_served(churn, LATER)
    change("u03", session_count=seen(LATER)["u03"]["session_count"])
    roll_back([view], EARLIER)
    assert compare_served(churn, LATER)["publication_id"] == ledger()[-1]["publication_id"]
    assert len([row for row in audits() if row["source"] == "inference_log"]) == len(FEATURES)
    assert differing() == {}


def test_of_many_requests_the_same_few_are_compared_each_time(
    churn: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(served_parity, "LARGEST_SAMPLE", 5)
    monkeypatch.setattr("features.steps.compare_served.LARGEST_SAMPLE", 5)
    log_everybody()
    execute("update monitoring.inference_log set features = '{}'")
    caplog.set_level(logging.INFO)
    facts = compare_served(churn, LATER)
    assert (facts["rows_compared"], facts["skipped"]) == (5, {"beyond the sample": 7})
    assert set(facts["mismatches"].values()) == {5}
    assert "At most 5 rows of an hour are compared, chosen by their request_id." in caplog.messages
    first = found()
    by_hash = rows("select entity_id from monitoring.inference_log order by hashtextextended(request_id, 0) limit 5")
    assert [keys for _, _, keys in first.values()] == [[[user] for user in sorted(u for (u,) in by_hash)]] * 5
    compare_served(churn, LATER)
    assert found() == first


def oracle(view: FeatureView, as_of: datetime) -> dict[str, set[str]]:
    """By feature the requests in which it differs, one row at a time and in Python."""
    wrong: dict[str, set[str]] = {feature: set() for feature in FEATURES}
    requests = rows(
        "select request_id, entity_id, as_of, features from monitoring.inference_log"
        f" where logged_at > timestamptz '{as_of}' - interval '1 hour' and logged_at <= '{as_of}'"
    )
    for request_id, entity, at, features in requests:
        ((*again,),) = rows(
            f"select {', '.join(FEATURES)} from features.{view.name}_as_of(array['{entity}'], timestamptz '{at}')"
        )
        for feature, value in zip(FEATURES, again, strict=True):
            logged = features.get(feature, "absent")
            if isinstance(logged, bool) or not isinstance(logged, int | float) or logged != value:
                wrong[feature].add(request_id)
    return wrong


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_wrong_is_found_as_the_oracle_finds_it(churn: Model, view: FeatureView, seed: int) -> None:
    chance = random.Random(seed)
    instants = [LATER - 90 * MINUTE, LATER - 17 * MINUTE, LATER]
    fill(view, *instants)
    for as_of in (EARLIER, *instants):
        for user, features in seen(as_of).items():
            log_request(user, as_of, corrupted(features, chance), kind="online", logged_at=LATER - MINUTE)
    expected = oracle(view, LATER)
    assert sum(map(len, expected.values())) > 20
    facts = compare_served(churn, LATER)
    assert facts["rows_compared"] == 48
    assert facts["mismatches"] == {name: len(requests) for name, requests in expected.items() if requests}
    for name, (_, _, keys) in differing().items():
        whose = rows(
            f"select entity_id from monitoring.inference_log where request_id = any(array{list(expected[name])})"
        )
        assert keys == [[user] for user in sorted({user for (user,) in whose})[:5]]


def corrupted(features: Mapping[str, Any], chance: random.Random) -> dict[str, Any]:
    """A row of which some cells are lost, no number, or a little off."""
    wrong: dict[str, Callable[[Any], object]] = {
        "null": lambda value: None,
        "text": lambda value: chance.choice(["NaN", "Infinity", "?", ""]),
        "off": lambda value: value + chance.choice([-1, 1]),
        "close": lambda value: math.nextafter(value, math.inf),
        "same": float,
    }
    changed = dict(features)
    for name in features:
        if chance.random() < 0.3:
            kind = chance.choice([*wrong, "lost"])
            if kind == "lost":
                del changed[name]
            else:
                changed[name] = wrong[kind](changed[name])
    return changed


# Below, views that tests make by hand: types that the sample lacks, and keys of several columns.

MADE = """
create table features.made ({keys}, as_of timestamptz, x double precision, n bigint, at timestamptz, words text[],
    label text, feature_version text);
create table staging.made_events ({keys}, ingested_at timestamptz, loaded_at timestamptz, superseded_at timestamptz,
    superseded_loaded_at timestamptz);
create function features.made_as_of_each({arrays}, as_of timestamptz[]) returns setof features.made
language sql stable as $$
    select {names}, as_of, x, n, at, words, label, null
    from unnest({places}) as wanted ({names}, as_of)
    left join features.made_values using ({names})
$$;
"""
VALUES = (
    "create table features.made_values ({keys}, x double precision, n bigint, at timestamptz, words text[], label text)"
)


def made(churn: Model, keys: Mapping[str, str], values: Sequence[Sequence[Any]]) -> Model:
    """A model on a view whose function reads a table of values.

    Args:
        keys: types by name.
        values: rows of the keys, x, n, at, words and label.
    """
    names = ", ".join(f'"{name}"' for name in keys)
    parts = {
        "keys": ", ".join(f'"{name}" {declared}' for name, declared in keys.items()),
        "arrays": ", ".join(f'"{name}s" {declared}[]' for name, declared in keys.items()),
        "places": ", ".join(f"${place}" for place in range(1, len(keys) + 2)),
        "names": names,
    }
    execute(VALUES.format(**parts))
    execute(MADE.format(**parts))
    for row in values:
        execute(f"insert into features.made_values values ({', '.join(['%s'] * len(row))})", *row)
    execute("insert into features.feature_versions values ('made', 'v1', '')")
    types = {"x": "double precision", "n": "bigint", "at": "timestamptz", "words": "text[]", "label": "text"}
    view = churn.feature_view
    features = tuple(
        view.features[0].model_copy(update={"name": name, "data_type": declared}) for name, declared in types.items()
    )
    made = view.model_copy(
        update={
            "name": "made",
            "entity": tuple(keys),
            "entity_types": tuple(keys.values()),
            "features": features,
            "events": ("staging", "made_events"),
        }
    )
    return churn.model_copy(update={"name": "made", "entity": tuple(keys), "feature_view": made})


def log_made(entity: str, features: Mapping[str, Any] | str) -> None:
    log_request(entity, LATER, features, model_name="made", feature_version="v1")


AWKWARD = [
    (float("nan"), 1, EARLIER + timedelta(microseconds=500_000), ["a", 'b"'], "plain"),
    (float("inf"), 2**62, EARLIER, [], 'quo"te'),
    (-0.0, None, None, None, None),
    (5e-324, -1, EARLIER, ["null", "a,b"], "null"),
    (0.1 + 0.2, 0, EARLIER, ["ä"], "NaN"),
]


def test_awkward_values_are_equal_to_themselves(churn: Model) -> None:
    model = made(churn, {"id": "bigint"}, [(number, *values) for number, values in enumerate(AWKWARD)])
    for number, (x, n, at, words, label) in enumerate(AWKWARD):
        logged: dict[str, Any] = {"n": n, "at": at and at.isoformat(), "words": words, "label": label}
        logged["x"] = x if math.isfinite(x) else {"nan": "NaN", "inf": "Infinity"}[str(x)]
        log_made(str(number), logged)
    facts = compare_served(model, LATER)
    assert (facts["rows_compared"], facts["mismatches"]) == (len(AWKWARD), {})


def test_nan_is_neither_null_nor_a_number(churn: Model) -> None:
    model = made(
        churn, {"id": "bigint"}, [(1, float("nan"), *[None] * 4), (2, None, *[None] * 4), (3, 0.0, *[None] * 4)]
    )
    empty = dict.fromkeys(("n", "at", "words", "label"))
    for entity, x in (("1", None), ("1", 0), ("2", "NaN"), ("3", "NaN"), ("3", None), ("1", "NaN"), ("2", None)):
        log_made(entity, empty | {"x": x})
    assert compare_served(model, LATER)["mismatches"] == {"x": 5}


def test_a_key_has_the_type_of_its_column_and_what_is_no_key_is_skipped(churn: Model) -> None:
    model = made(churn, {"id": "bigint"}, [(7, 1.0, 1, None, None, None)])
    equal = '{"x": 1, "n": 1, "at": null, "words": null, "label": null}'
    for entity in ("7", "007", "seven", "", "7.5"):
        log_made(entity, equal)
    facts = compare_served(model, LATER)
    assert facts["skipped"] == {"entity_id is no key of the view": 3}
    assert (facts["rows_compared"], facts["mismatches"]) == (2, {})


PAIRS = [("a", 1), ("a,b", 2), ('a", "b', 1), ("", 1), ("ü\\", -3), ("null", 0)]


def test_keys_of_several_columns_are_json_arrays(churn: Model) -> None:
    """Column names as in the log itself are no trouble."""
    values = [(*pair, float(number), number, None, None, None) for number, pair in enumerate(PAIRS)]
    model = made(churn, {"request_id": "text", "features": "integer"}, values)
    for number, pair in enumerate(PAIRS):
        equal = {"x": number, "n": number, "at": None, "words": None, "label": None}
        log_made(json.dumps(pair, ensure_ascii=False), equal)
        log_made(json.dumps(pair), equal | {"n": -1})
    for no_key in ("a", '["a"]', '["a", 1, 2]', '["a", null]', '{"0": "a", "1": 1}', '["a", "one"]', "null", '"a"'):
        log_made(no_key, {})
    facts = compare_served(model, LATER)
    assert facts["skipped"] == {"entity_id is no key of the view": 8}
    assert (facts["rows_compared"], facts["mismatches"]) == (12, {"n": 6})
    ((examples,),) = rows(
        "select example_keys from monitoring.parity_audits where model_name = 'made' and feature = 'n'"
    )
    assert examples == [list(pair) for pair in sorted(PAIRS)[:5]]


def test_late_data_of_a_key_of_several_columns_are_of_all_of_them(churn: Model) -> None:
    model = made(churn, {"id": "text", "kind": "text"}, [("a", "x", 1.0, *[None] * 4), ("a", "y", 1.0, *[None] * 4)])
    execute(
        "insert into staging.made_events (id, kind, ingested_at, loaded_at) values ('a', 'x', %s, now() + '1 day')",
        LATER - DAY,
    )
    for kind in ("x", "y"):
        log_made(json.dumps(["a", kind]), '{"x": 2, "n": null, "at": null, "words": null, "label": null}')
    compare_served(model, LATER)
    ((mismatches, cause, examples),) = rows(
        "select mismatches, cause, example_keys from monitoring.parity_audits"
        " where model_name = 'made' and mismatches > 0"
    )
    assert (mismatches, cause, examples) == (2, "backdated data and changed logic", [["a", "x"], ["a", "y"]])
