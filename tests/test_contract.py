"""What dbt's YAML may declare, and that a mistake in it is refused naming the file and the key."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from features.contract import (
    DriftSettings,
    Retention,
    RetrainingSettings,
    Severity,
    TrainingSettings,
    read_contract,
)
from features.errors import SkewlessError

VIEW = "model.skewless.user_session_features"
LABELS = "model.skewless.churn_labels"
CHURN = "exposure.skewless.churn"
Edit = Callable[[Callable[[dict[str, Any]], object]], Path]


@pytest.fixture
def edited(manifest: Path, tmp_path: Path) -> Edit:
    """Writes a copy of the manifest after a change to it."""

    def edit(change: Callable[[dict[str, Any]], object]) -> Path:
        parsed = json.loads(manifest.read_text())
        change(parsed)
        copy = tmp_path / "manifest.json"
        copy.write_text(json.dumps(parsed))
        return copy

    return edit


def exposure_meta(parsed: dict[str, Any]) -> dict[str, Any]:
    return parsed["exposures"][CHURN]["config"]["meta"]


def column_config(parsed: dict[str, Any], column: str = "session_count") -> dict[str, Any]:
    return parsed["nodes"][VIEW]["columns"][column]["config"]


def refused(path: Path) -> str:
    with pytest.raises(SkewlessError) as error:
        read_contract(path)
    return str(error.value)


def test_the_project_declares_the_churn_model(manifest: Path) -> None:
    churn = read_contract(manifest).model("churn")
    assert churn.entity == ("user_id",)
    assert churn.label == "churned"
    assert churn.labels == "churn_labels"
    assert churn.training_set == ("training", "churn_training_set")
    assert churn.population == "days_since_last_session < 60"
    assert churn.label_horizon == timedelta(days=14)
    assert churn.owner == "Growth machine learning <growth-ml@example.com>"
    assert churn.feature_view.owner == "Feature store maintainers <features@example.com>"
    assert churn.training.estimator == "sklearn.ensemble.HistGradientBoostingClassifier"
    assert churn.retraining.drift_severity is Severity.CRITICAL
    assert churn.promotion.metric == "roc_auc"


def test_a_models_inputs_are_the_columns_marked_as_features_in_the_order_of_the_yaml(manifest: Path) -> None:
    assert read_contract(manifest).model("churn").feature_names == (
        "session_count",
        "avg_session_duration_minutes",
        "days_since_last_session",
        "sessions_last_7_days",
        "sessions_last_30_days",
    )


def test_a_feature_view_names_its_table_its_entity_and_who_reads_it(manifest: Path) -> None:
    view = read_contract(manifest).feature_view("user_session_features")
    assert view.relation == ("features", "user_session_features")
    assert (view.entity, view.lookback_days) == (("user_id",), 90)
    assert view.expires_after == "3 hours"
    assert view.events == ("staging", "stg_session_events")
    assert view.serving == ("serving", "user_features")
    assert view.training_sets == (("training", "churn_training_set"),)
    assert (view.audited_share, view.retention) == (1, Retention(every_hour_for_days=16, every_day_for_days=365))


def test_every_feature_view_is_declared(manifest: Path) -> None:
    views = read_contract(manifest).feature_views
    assert {name: view.entity for name, view in views.items()} == {
        "user_session_features": ("user_id",),
        "user_variety_features": ("user_id",),
        "event_type_features": ("event_type",),
    }
    assert views["event_type_features"].training_sets == ()


def test_an_unknown_feature_view_is_refused_naming_those_there_are(manifest: Path) -> None:
    with pytest.raises(SkewlessError, match=r"no feature view 'users'; dbt declares .*user_session_features"):
        read_contract(manifest).feature_view("users")


def test_an_entity_may_have_several_columns(edited: Edit) -> None:
    def compose(parsed: dict[str, Any]) -> None:
        parsed["nodes"][VIEW]["config"]["meta"]["entity"] = ["user_id", "as_of"]
        exposure_meta(parsed)["entity"] = ["user_id", "as_of"]

    assert read_contract(edited(compose)).model("churn").entity == ("user_id", "as_of")


VIEW_MISTAKES = {
    "no entity": (lambda node: node["config"]["meta"].update(entity=[]), "config.meta.entity"),
    "an entity without a column": (
        lambda node: node["config"]["meta"].update(entity="account_id"),
        "user_session_features.account_id: a column of the entity needs an entry with a data_type",
    ),
    "no lookback": (lambda node: node["config"]["meta"].pop("lookback_days"), "config.meta.lookback_days"),
    "no expiry": (lambda node: node["config"]["meta"].pop("expires_after"), "config.meta.expires_after"),
    "an empty lookback": (lambda node: node["config"]["meta"].update(lookback_days=0), "config.meta.lookback_days"),
    "nothing audited": (lambda node: node["config"]["meta"].update(audited_share=0), "config.meta.audited_share"),
    "more than all audited": (lambda node: node["config"]["meta"].update(audited_share=2), "config.meta.audited_share"),
    "an unknown retention": (
        lambda node: node["config"]["meta"].update(retention={"days": 3}),
        "config.meta.retention.days",
    ),
    "snapshots that go before their labels mature": (
        lambda node: node["config"]["meta"].update(retention={"every_hour_for_days": 15}),
        "its labels mature after 15 days, and user_session_features keeps every snapshot for 15",
    ),
    "no events": (lambda node: node["depends_on"].update(nodes=[]), "it reads 0 staging models"),
    "another entity than the model's": (
        lambda node: node["config"]["meta"].update(entity="feature_version"),
        "config.meta.entity: the entity of user_session_features is feature_version",
    ),
}


@pytest.mark.parametrize(("change", "named"), VIEW_MISTAKES.values(), ids=VIEW_MISTAKES)
def test_a_mistake_in_a_feature_view_is_refused(
    edited: Edit, change: Callable[[dict[str, Any]], object], named: str
) -> None:
    assert named in refused(edited(lambda parsed: change(parsed["nodes"][VIEW])))


def test_two_serving_models_of_one_view_are_refused(edited: Edit) -> None:
    def serve_twice(parsed: dict[str, Any]) -> None:
        parsed["nodes"]["model.skewless.churn_predictions"]["depends_on"]["nodes"].append(VIEW)

    assert "churn_predictions, user_features serve it" in refused(edited(serve_twice))


def test_features_carry_their_description_type_and_default_drift_floors(manifest: Path) -> None:
    first, second, *_ = read_contract(manifest).feature_views["user_session_features"].features
    assert first.description == "Sessions in the 90 days before as_of."
    assert (first.data_type, second.data_type) == ("bigint", "double precision")
    assert first.drift == DriftSettings(warning_floor=0.04, critical_floor=0.10)


def test_an_unknown_model_is_refused_naming_those_there_are(manifest: Path) -> None:
    with pytest.raises(SkewlessError, match="No model 'chrun' is declared; dbt's exposures declare churn"):
        read_contract(manifest).model("chrun")


def test_without_exposures_there_are_no_models_and_a_request_says_so(edited: Edit) -> None:
    contract = read_contract(edited(lambda parsed: parsed["exposures"].clear()))
    assert contract.models == {}
    with pytest.raises(SkewlessError, match="declare none"):
        contract.model("churn")


def test_exposures_of_other_types_are_not_models(edited: Edit) -> None:
    assert not read_contract(edited(lambda parsed: parsed["exposures"][CHURN].update(type="dashboard"))).models


def test_a_manifest_that_is_not_whole_names_the_command_that_writes_it(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text('{"nodes": {')
    assert "`make manifest`" in refused(manifest)


def test_a_missing_manifest_names_the_command_that_writes_it(tmp_path: Path) -> None:
    message = refused(tmp_path / "manifest.json")
    assert str(tmp_path / "manifest.json") in message
    assert "`make manifest`" in message


def test_a_changed_manifest_is_read_again(edited: Edit) -> None:
    assert read_contract(edited(lambda _: None)).models
    assert not read_contract(edited(lambda parsed: parsed["exposures"].clear())).models


UNKNOWN_KEYS = {
    "in an exposure's meta": (
        lambda parsed: exposure_meta(parsed).update(owners="me"),
        ["models/exposures.yml: churn", "config.meta.owners"],
    ),
    "in its training settings": (
        lambda parsed: exposure_meta(parsed)["training"].update(estimater="x"),
        ["models/exposures.yml: churn", "config.meta.training.estimater"],
    ),
    "in its retraining settings": (
        lambda parsed: exposure_meta(parsed)["retraining"].update(max_age=3),
        ["models/exposures.yml: churn", "config.meta.retraining.max_age"],
    ),
    "in its promotion settings": (
        lambda parsed: exposure_meta(parsed)["promotion"].update(minimun=0.6),
        ["models/exposures.yml: churn", "config.meta.promotion.minimun"],
    ),
    "in a feature view's meta": (
        lambda parsed: parsed["nodes"][VIEW]["config"]["meta"].update(expires="1 hour"),
        ["models/features/user_session_features.yml: user_session_features", "config.meta.expires"],
    ),
    "in a column's meta": (
        lambda parsed: column_config(parsed)["meta"].update(featrue=True),
        ["models/features/user_session_features.yml: user_session_features.session_count", "config.meta.featrue"],
    ),
    "in a column's valid values": (
        lambda parsed: column_config(parsed)["meta"].update(valid={"at_least": 0}),
        [
            "models/features/user_session_features.yml: user_session_features.session_count",
            "config.meta.valid.at_least",
        ],
    ),
    "in a model's monitoring": (
        lambda parsed: exposure_meta(parsed).update(monitoring={"false_alarms": 1}),
        ["models/exposures.yml: churn", "config.meta.monitoring.false_alarms"],
    ),
    "in whom to tell": (
        lambda parsed: exposure_meta(parsed).update(monitoring={"notify": {"pager": "x"}}),
        ["models/exposures.yml: churn", "config.meta.monitoring.notify.pager"],
    ),
    "in a column's drift settings": (
        lambda parsed: column_config(parsed)["meta"].update(drift={"floor": 0.1}),
        ["models/features/user_session_features.yml: user_session_features.session_count", "config.meta.drift.floor"],
    ),
    "in a label model's meta": (
        lambda parsed: parsed["nodes"][LABELS]["config"]["meta"].update(horizon=14),
        ["models/features/churn_labels.yml: churn_labels", "config.meta.horizon"],
    ),
}


@pytest.mark.parametrize(("change", "named"), UNKNOWN_KEYS.values(), ids=UNKNOWN_KEYS)
def test_an_unknown_key_is_refused_naming_file_and_key(
    edited: Edit, change: Callable[[dict[str, Any]], object], named: list[str]
) -> None:
    message = refused(edited(change))
    for part in named:
        assert part in message


BAD_VALUES = {
    "no such feature view": (lambda meta: meta.update(feature_view="user_featurs"), ["feature_view", "'user_featurs'"]),
    "no such label model": (lambda meta: meta.update(labels="churn_label"), ["config.meta.labels", "'churn_label'"]),
    "no such training set": (lambda meta: meta.update(training_set="nowhere"), ["config.meta.training_set", "nowhere"]),
    "a label model that is no label model": (lambda meta: meta.update(labels="user_features"), ["user_features.yml"]),
    "no label": (lambda meta: meta.pop("label"), ["config.meta.label", "required"]),
    "a recency that is no feature": (
        lambda meta: meta["training"].update(recency_feature="days_since"),
        ["config.meta.training.recency_feature", "'days_since' is no feature"],
    ),
    "a search of nothing": (lambda meta: meta["training"].update(search={"parameters": {}}), ["search.parameters"]),
    "a parameter without values": (
        lambda meta: meta["training"].update(search={"parameters": {"max_iter": []}}),
        ["search.parameters.max_iter"],
    ),
    "a search of one": (
        lambda meta: meta["training"].update(search={"parameters": {"max_iter": [1]}, "candidates": 1}),
        ["search.candidates"],
    ),
    "an unknown calibration": (lambda meta: meta["training"].update(calibration="platt"), ["training.calibration"]),
    "a training for nothing": (
        lambda meta: meta["retraining"].update(costs={"training": 0, "loss_per_day": 1}),
        ["retraining.costs.training"],
    ),
    "half of the costs": (
        lambda meta: meta["retraining"].update(costs={"training": 1}),
        ["retraining.costs.loss_per_day", "required"],
    ),
    "an approval that nobody has time for": (
        lambda meta: meta["retraining"].update(approval={"timeout_hours": 0}),
        ["retraining.approval.timeout_hours"],
    ),
    "no confidence": (lambda meta: meta["retraining"].update(confidence=0.5), ["retraining.confidence"]),
    "no holdout": (lambda meta: meta["training"].update(holdout_label_times=0), ["training.holdout_label_times"]),
    "no drop": (lambda meta: meta["retraining"].update(performance_drop=0), ["retraining.performance_drop"]),
    "age in words": (lambda meta: meta["retraining"].update(max_model_age="old"), ["retraining.max_model_age"]),
    "no age": (lambda meta: meta["retraining"].update(max_model_age=0), ["retraining.max_model_age"]),
    "an unknown metric": (lambda meta: meta["promotion"].update(metric="auc"), ["promotion.metric", "roc_auc"]),
    "a metric to minimise": (lambda meta: meta["promotion"].update(metric="log_loss"), ["promotion.metric"]),
    "a negative tolerance": (lambda meta: meta["promotion"].update(tolerance=-0.1), ["promotion.tolerance"]),
}


@pytest.mark.parametrize(("change", "named"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_a_value_that_makes_no_sense_is_refused_naming_the_key(
    edited: Edit, change: Callable[[dict[str, Any]], object], named: list[str]
) -> None:
    message = refused(edited(lambda parsed: change(exposure_meta(parsed))))
    assert ".yml: " in message
    for part in named:
        assert part in message


@pytest.mark.parametrize(
    ("drift", "named"),
    [
        ({"warning_floor": 1.5}, "config.meta.drift.warning_floor"),
        ({"critical_floor": -0.1}, "config.meta.drift.critical_floor"),
        # Would be critical before it is a warning.
        ({"warning_floor": 0.2}, "warning_floor 0.2 is above critical_floor 0.1"),
    ],
)
def test_drift_floors_are_distances_in_order(edited: Edit, drift: dict[str, float], named: str) -> None:
    message = refused(edited(lambda parsed: column_config(parsed)["meta"].update(drift=drift)))
    assert "user_session_features.session_count" in message
    assert named in message


def test_drift_floors_of_a_column_are_its_own(edited: Edit) -> None:
    floors = {"warning_floor": 0.2, "critical_floor": 0.3}
    contract = read_contract(edited(lambda parsed: column_config(parsed)["meta"].update(drift=floors)))
    first, second, *_ = contract.feature_views["user_session_features"].features
    assert first.drift == DriftSettings(warning_floor=0.2, critical_floor=0.3)
    assert second.drift == DriftSettings()


def test_a_feature_view_without_features_is_refused(edited: Edit) -> None:
    def unmark(parsed: dict[str, Any]) -> None:
        for column in parsed["nodes"][VIEW]["columns"].values():
            column["config"]["meta"] = {}

    assert "user_session_features.yml: user_session_features: no column says" in refused(edited(unmark))


def test_a_feature_without_a_type_is_refused(edited: Edit) -> None:
    message = refused(edited(lambda parsed: parsed["nodes"][VIEW]["columns"]["session_count"].update(data_type=None)))
    assert "user_session_features.session_count: a feature needs a data_type" in message


def test_a_feature_view_declared_in_sql_alone_is_refused_naming_that_file(edited: Edit) -> None:
    message = refused(edited(lambda parsed: parsed["nodes"][VIEW].update(patch_path=None, columns={})))
    assert "models/features/user_session_features.sql: user_session_features" in message


def test_an_owner_without_a_name_goes_by_their_address(edited: Edit) -> None:
    path = edited(lambda parsed: parsed["exposures"][CHURN].update(owner={"email": "a@example.com", "name": None}))
    assert read_contract(path).model("churn").owner == "a@example.com"


def test_an_age_is_a_number_of_days_or_derived(edited: Edit) -> None:
    def set_to(age: object) -> Path:
        return edited(lambda parsed: exposure_meta(parsed)["retraining"].update(max_model_age=age))

    assert read_contract(set_to("auto")).model("churn").retraining.max_model_age == "auto"
    assert read_contract(set_to(45)).model("churn").retraining.max_model_age == 45


def test_the_default_estimator_is_a_sensible_one_for_tables(edited: Edit) -> None:
    path = edited(lambda parsed: exposure_meta(parsed).pop("training"))
    assert read_contract(path).model("churn").training == TrainingSettings()
    assert TrainingSettings().estimator == "sklearn.ensemble.HistGradientBoostingClassifier"


def test_what_is_not_declared_has_a_default(edited: Edit) -> None:
    def minimal(parsed: dict[str, Any]) -> None:
        for key in ("population", "retraining", "promotion"):
            exposure_meta(parsed).pop(key)

    churn = read_contract(edited(minimal)).model("churn")
    assert churn.population == "true"
    assert churn.retraining == RetrainingSettings()
    assert (churn.promotion.metric, churn.promotion.minimum, churn.promotion.tolerance) == ("roc_auc", 0.5, 0.0)


@pytest.mark.parametrize(
    ("word", "severity"),
    [("warning", Severity.WARNING), ("critical", Severity.CRITICAL), ("Critical", Severity.CRITICAL)],
)
def test_severities_are_written_as_words(edited: Edit, word: str, severity: Severity) -> None:
    path = edited(lambda parsed: exposure_meta(parsed)["retraining"].update(drift_severity=word))
    assert read_contract(path).model("churn").retraining.drift_severity is severity


@pytest.mark.parametrize("word", ["severe", "none", "", 2, None])
def test_other_severities_are_refused_with_the_words_there_are(edited: Edit, word: object) -> None:
    message = refused(edited(lambda parsed: exposure_meta(parsed)["retraining"].update(drift_severity=word)))
    assert f"config.meta.retraining.drift_severity: {word!r} is neither warning nor critical" in message


def test_severities_are_ordered() -> None:
    assert Severity.NONE < Severity.WARNING < Severity.CRITICAL


@pytest.mark.parametrize("off", [False, "off", {"watch": False}])
def test_a_column_may_be_left_unwatched(edited: Edit, off: object) -> None:
    contract = read_contract(edited(lambda parsed: column_config(parsed)["meta"].update(drift=off)))
    first, second = contract.feature_views["user_session_features"].features[:2]
    assert (first.drift.watch, second.drift.watch) == (False, True)


@pytest.mark.parametrize(
    ("monitoring", "named"),
    [
        ({"false_alarms_per_week": 0}, "config.meta.monitoring.false_alarms_per_week"),
        ({"windows_hours": [1, 200]}, "config.meta.monitoring.windows_hours"),
        ({"windows_hours": [6, 6]}, "a window is listed twice"),
        ({"windows_hours": []}, "config.meta.monitoring.windows_hours"),
        ({"segments": {"all": "true"}}, "`all` is the whole population"),
        ({"segments": {"Two words": "true"}}, "config.meta.monitoring.segments"),
        ({"keep_sketches_days": 28}, "config.meta.monitoring.keep_sketches_days"),
        ({"notify": {"email": {"connection": "post", "to": []}}}, "config.meta.monitoring.notify.email.to"),
        ({"prediction": {"direction": "left"}}, "config.meta.monitoring.prediction.direction"),
    ],
)
def test_monitoring_that_makes_no_sense_is_refused(edited: Edit, monitoring: dict[str, object], named: str) -> None:
    message = refused(edited(lambda parsed: exposure_meta(parsed).update(monitoring=monitoring)))
    assert "models/exposures.yml: churn" in message
    assert named in message
