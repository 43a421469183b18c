"""Watching: one report per feature, whatever is found, written once however often it is asked for."""

from datetime import UTC, datetime
from typing import Any

import pytest

from features import warehouse
from features.contract import Model
from features.errors import SkewlessError
from features.steps.watch import NO_CHAMPION, watch_feature

AS_OF = datetime(2013, 7, 2, tzinfo=UTC)
TRAINED = datetime(2013, 5, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _relations_of_dbt(empty_warehouse: str) -> None:
    """Tables in place of dbt's, so that each test writes the very distribution that it is about."""
    with warehouse.connect() as connection:
        connection.execute("""
            create table features.user_session_features (
                user_id text not null,
                as_of timestamptz not null,
                session_count bigint,
                avg_session_duration_minutes double precision,
                days_since_last_session bigint,
                sessions_last_7_days bigint,
                sessions_last_30_days bigint,
                feature_version text not null
            )
        """)
        connection.execute("""
            create table training.churn_training_set (
                like features.user_session_features,
                label_at timestamptz not null,
                matured_at timestamptz not null,
                churned boolean not null
            )
        """)
        connection.execute(
            "insert into features.feature_versions (feature_view, feature_version, definition)"
            " values ('user_session_features', 'v1', 'select')"
        )


def serve(session_counts: str, count: int = 400, days_since: int = 1, version: str = "v1") -> None:
    """Rows at AS_OF; `session_counts` is SQL of i = 1, 2, ..., count."""
    with warehouse.connect() as connection:
        connection.execute(
            "insert into features.user_session_features (user_id, as_of, session_count, days_since_last_session,"
            f" feature_version) select 'u' || i, %s, {session_counts}, %s, %s from generate_series(1, %s) as i",
            [AS_OF, days_since, version, count],
        )


def train(number: str = "1") -> None:
    """A champion that was trained on session counts 1, 2, ..., 400."""
    with warehouse.connect() as connection:
        connection.execute(
            "insert into training.churn_training_set (user_id, as_of, session_count, feature_version, label_at,"
            " matured_at, churned) select 'u' || i, %(at)s, i, 'v1', %(at)s, %(at)s, false"
            " from generate_series(1, 400) as i",
            {"at": TRAINED},
        )
        connection.execute(
            "insert into monitoring.model_baselines (model_name, model_version, training_set, feature_version,"
            " first_label_at, last_label_at, row_count) values ('churn', %s, 'training.churn_training_set', 'v1', %s,"
            " %s, 400)",
            [number, TRAINED, TRAINED],
        )


def reports() -> list[dict[str, Any]]:
    with warehouse.connect() as connection:
        return connection.execute("select * from monitoring.drift_reports order by feature, model_version").fetchall()


def test_a_feature_as_it_was_is_ok(churn: Model) -> None:
    train()
    serve("i")
    assert watch_feature(churn, "session_count", "1", AS_OF) == {
        "feature": "session_count",
        "status": "ok",
        "detail": "KS distance 0.000, floors 0.04 and 0.1.",
    }
    (row,) = reports()
    assert (row["model_name"], row["model_version"], row["feature"]) == ("churn", "1", "session_count")
    assert (row["status"], row["drift_detected"], row["n"]) == ("ok", False, 400)
    assert row["training_mean"] == row["serving_mean"] == 200.5
    assert (row["ks_statistic"], row["ks_p_value"], row["effect_floor"]) == (0.0, 1.0, 0.04)
    assert row["baseline_id"] is not None


def test_watching_again_replaces_the_report(churn: Model) -> None:
    train()
    serve("i")
    watch_feature(churn, "session_count", "1", AS_OF)
    (before,) = reports()
    with warehouse.connect() as connection:
        connection.execute("update features.user_session_features set session_count = session_count + 200")
    watch_feature(churn, "session_count", "1", AS_OF)
    (after,) = reports()
    assert (before["status"], after["status"]) == ("ok", "critical")
    assert after["drift_detected"]
    assert after["ks_statistic"] == pytest.approx(0.5)
    assert after["reported_at"] > before["reported_at"]


def test_each_champion_has_a_report_of_its_own(churn: Model) -> None:
    train("1")
    serve("i")
    watch_feature(churn, "session_count", "1", AS_OF)
    watch_feature(churn, "session_count", None, AS_OF)
    assert [row["model_version"] for row in reports()] == ["1", NO_CHAMPION]


def test_without_a_champion_there_is_a_report_that_says_so(churn: Model) -> None:
    serve("i")
    facts = watch_feature(churn, "session_count", None, AS_OF)
    assert (facts["status"], facts["detail"]) == ("baseline_missing", "There is no champion to compare with.")
    (row,) = reports()
    assert (row["model_version"], row["n"], row["baseline_id"]) == ("none", 400, None)


def test_a_champion_without_a_baseline_is_a_status_too(churn: Model) -> None:
    serve("i")
    facts = watch_feature(churn, "session_count", "1", AS_OF)
    assert (facts["status"], facts["detail"]) == ("baseline_missing", "The champion has no baseline.")


def test_a_feature_that_stopped_arriving_is_missing(churn: Model) -> None:
    train()
    serve("null")
    facts = watch_feature(churn, "session_count", "1", AS_OF)
    assert (facts["status"], facts["detail"]) == ("missing_feature", "None of 400 served rows has a value.")


def test_values_that_are_missing_here_and_there_hide_nothing(churn: Model) -> None:
    train()
    serve("case when mod(i, 4) > 0 then i + 1000 end")
    assert watch_feature(churn, "session_count", "1", AS_OF)["status"] == "critical"
    assert reports()[0]["n"] == 400


def test_without_rows_there_is_not_enough_data(churn: Model) -> None:
    train()
    assert watch_feature(churn, "session_count", "1", AS_OF)["status"] == "insufficient_data"
    assert reports()[0]["n"] == 0


def test_only_the_population_the_model_is_for_is_compared(churn: Model) -> None:
    train()
    serve("i")
    serve("i + 5000", days_since=60)
    watch_feature(churn, "session_count", "1", AS_OF)
    (row,) = reports()
    assert (row["status"], row["n"]) == ("ok", 400)


def test_a_population_may_use_a_pattern(churn: Model) -> None:
    serve("i", count=19)
    watch_feature(churn.model_copy(update={"population": "user_id like 'u1%'"}), "session_count", None, AS_OF)
    assert reports()[0]["n"] == 11


def test_rows_of_an_earlier_definition_are_not_compared(churn: Model) -> None:
    train()
    serve("i")
    serve("i + 5000", version="v0")
    watch_feature(churn, "session_count", "1", AS_OF)
    assert reports()[0]["n"] == 400


def test_before_the_view_was_built_nobody_can_look(churn: Model) -> None:
    with warehouse.connect() as connection:
        connection.execute("delete from features.feature_versions")
    with pytest.raises(SkewlessError, match="dbt has not built user_session_features yet"):
        watch_feature(churn, "session_count", "1", AS_OF)
    assert reports() == []
