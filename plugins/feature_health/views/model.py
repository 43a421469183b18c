"""A model as tables and charts."""

from collections.abc import Iterable, Sequence
from urllib.parse import quote

from feature_health.charts import Figure, names_up, numbers_across, numbers_up, times_across
from feature_health.formats import Formats
from feature_health.links import Links
from feature_health.pages import AskedOfModel, Page, Shown
from feature_health.reader import Reader
from feature_health.tables import Column, Table
from feature_health.views.feature_charts import histogram, short
from features import settings
from features.contract import Contract
from features.health.features import chosen_model
from features.health.model import Chosen, Cohort, Estimate, Importance, ModelPage, Version, model_page
from features.warehouse import Connection

# The most important ones; all of them are in the table.
MOST_FEATURES = 12
ROOM_FOR_NAMES = 215


class AskedOfVersion(AskedOfModel):
    """Which version is shown in full."""

    version: str | None = None


def _document(connection: Connection, contract: Contract, asked: AskedOfVersion, reader: Reader) -> ModelPage:
    model = chosen_model(contract, asked.model)
    return model_page(connection, model, tuple(contract.models), asked.version)


def _shown(document: ModelPage, reader: Reader, links: Links) -> Shown:
    formats = Formats(reader)
    chosen = document.chosen
    tables = [_versions(document, links), _cohorts(document)]
    figures = [_performance(document, formats, reader)] if document.cohorts else []
    of_version: list[Figure] = []
    if chosen:
        tables += _tables(document, chosen, links)
        of_version = list(_figures(document, chosen, formats))
    tables.append(_reigns(document))
    return Shown(
        title=f"Model {document.model}",
        tables=tuple(tables),
        values={
            "document": document,
            "figures": figures,
            "of_version": of_version,
            "mlflow": _mlflow(document),
        },
    )


def _mlflow(document: ModelPage) -> str | None:
    """The shown version in MLflow's own pages."""
    root = settings.mlflow_ui()
    if root is None or document.chosen is None:
        return None
    name, version = quote(document.model, safe=""), quote(document.chosen.version.version, safe="")
    return f"{root}/#/models/{name}/versions/{version}"


def _triple(value: Estimate) -> tuple[float | None, float | None, float | None]:
    return value.estimate, value.low, value.high


def _versions(document: ModelPage, links: Links) -> Table:
    def link(version: Version) -> str:
        return links.to("model", model=document.model, version=version.version)

    return Table(
        name="versions",
        caption="Versions",
        columns=(
            Column("version", link=link),
            Column("state", "status"),
            Column("trained_as_of", "time"),
            Column("holdout_metric", "estimate", value=lambda version: _triple(version.metric)),
            Column("train_rows", "count"),
            Column("holdout_rows", "count"),
            Column("extract_id", "code"),
            Column("feature_version", "code"),
            Column("gate_reason", "long", value=lambda version: version.reason),
        ),
        rows=document.versions,
        empty=f"None was trained yet: {document.model}_training runs when {document.model}_retraining decides so.",
    )


def _cohorts(document: ModelPage) -> Table:
    return Table(
        name="cohorts",
        caption="How good its predictions were, day by day",
        columns=(
            Column("cohort", "time"),
            Column("version"),
            Column("scope"),
            Column("predictions", "count"),
            Column("expected", "estimate", value=lambda cohort: _triple(cohort.expected)),
            Column("labels", "count"),
            Column("turned_out", "estimate", value=lambda cohort: _triple(cohort.turned_out)),
            Column("calibration_error", "metric"),
        ),
        rows=tuple(reversed(document.cohorts)),
        empty=f"Nothing was measured yet: {document.model}_inference does, once {document.model}_scoring has run.",
    )


def _tables(document: ModelPage, chosen: Chosen, links: Links) -> list[Table]:
    number = chosen.version.version
    judging = f"Training and gate of version {number} left none."
    return [
        Table(
            name="checks",
            caption=f"What the gate checked of version {number}",
            columns=(
                Column("check", value=lambda check: check.check.replace("_", " ")),
                Column("check_result", "status", value=lambda check: "passed" if check.passed else "failed"),
                Column("check_evidence", value=lambda check: check.evidence),
            ),
            rows=sorted(chosen.checks, key=lambda check: check.passed),
            empty=judging,
        ),
        Table(
            name="metrics",
            caption="Metrics on the holdout",
            columns=(
                Column("measured_name", value=lambda one: one.name.replace("_", " ")),
                Column("measured", "estimate", value=lambda one: _triple(one.value)),
            ),
            rows=(*chosen.metrics, *chosen.simple),
            empty=judging,
        ),
        Table(
            name="calibration",
            caption="Calibration",
            columns=(Column("mean_score", "metric"), Column("share_true", "metric"), _rows("bin_rows")),
            rows=chosen.calibration,
            empty=judging,
        ),
        Table(
            name="importance",
            caption="What it rests on",
            columns=(
                Column(
                    "importance_feature",
                    value=lambda one: one.feature,
                    link=lambda one: links.feature(document.model, one.feature),
                ),
                Column("importance_drop", "number", value=lambda one: one.drop),
                Column("importance_deviation", "number", value=lambda one: one.deviation),
            ),
            rows=chosen.importance,
            empty=judging,
        ),
        Table(
            name="slices",
            caption="Slices",
            columns=(
                Column("slice", value=lambda one: one.name),
                _rows("slice_rows"),
                Column("measured", "estimate", value=lambda one: _triple(one.value)),
            ),
            rows=chosen.slices,
            empty="The YAML names no segments (monitoring.segments of the exposure).",
        ),
    ]


def _rows(key: str) -> Column:
    return Column(key, "count", value=lambda one: one.rows)


def _reigns(document: ModelPage) -> Table:
    return Table(
        name="champions",
        caption="Who was champion since when",
        columns=(
            Column("since", "time"),
            Column("version"),
            Column("reign_kind", value=lambda reign: reign.kind),
            Column("replaced_version"),
            Column("because", "long"),
        ),
        rows=document.reigns,
        empty="Nobody yet: no version has passed the gate.",
    )


def _figures(document: ModelPage, chosen: Chosen, formats: Formats) -> Iterable[Figure]:
    if chosen.calibration:
        yield _calibration(chosen, formats)
    if chosen.scores and chosen.scores_as_of:
        key = [("before bar", "its holdout"), ("now bar", f"scored until {formats.time(chosen.scores_as_of)}")]
        yield histogram(chosen.scores, "What it says", key, "score", formats)
    if known := [one for one in chosen.importance if one.drop is not None and one.deviation is not None]:
        yield _importance(document.metric, known[:MOST_FEATURES], formats)
    if chosen.slices or chosen.simple:
        yield _parts(document, chosen, formats)


def _calibration(chosen: Chosen, formats: Formats) -> Figure:
    bins = chosen.calibration
    highest = max(max(one.mean_score, one.share_true) for one in bins)
    figure = Figure(
        title="Is it as sure as it should be?",
        subtitle="Tenths of the holdout: what the model said, and the share it was true of",
        x=numbers_across(0, highest, formats.number),
        y=numbers_up([highest], formats.number),
        x_label="mean score",
        y_label="share that turned out true",
        key=[("now bar", "a tenth of the holdout"), ("before bar", "perfectly calibrated")],
    )
    end = min(figure.x.high, figure.y.high)
    figure.line([(0.0, 0.0), (end, end)], "before")
    for one in bins:
        said = f"Said {formats.metric(one.mean_score)}, turned out {formats.metric(one.share_true)}"
        figure.dot(one.mean_score, one.share_true, "now", f"{said}, {formats.count(one.rows)} rows", radius=5)
    return figure


def _importance(metric: str, shown: Sequence[Importance], formats: Formats) -> Figure:
    drops = [(one.feature, one.drop or 0.0, one.deviation or 0.0) for one in shown]
    ends = [drop + sign * deviation for _, drop, deviation in drops for sign in (-1, 1)]
    figure = Figure(
        title="What it rests on",
        subtitle=f"By how much {metric} drops when a feature's values change places, with its deviation",
        x=numbers_across(min(0.0, *ends), max(ends), formats.number, 5, left=ROOM_FOR_NAMES),
        y=names_up([short(name) for name, _, _ in drops]),
        x_label=f"drop of {metric}",
    )
    for place, (name, drop, deviation) in enumerate(drops):
        height = float(len(drops) - place)
        title = f"{name}: {formats.number(drop)} ± {formats.number(deviation)}"
        figure.across(drop, height, 130 / (len(drops) + 1), "now bar", title)
        figure.lying_whisker(height, drop - deviation, drop + deviation, "now")
    return figure


def _parts(document: ModelPage, chosen: Chosen, formats: Formats) -> Figure:
    """The whole, its slices and the simple models on one scale."""
    whole = chosen.version.metric
    rows = [("whole holdout", whole, "now")]
    rows += [(one.name.replace("_", " "), one.value, "now") for one in chosen.slices if one.value.estimate is not None]
    rows += [(one.name.replace("_", " "), one.value, "before") for one in chosen.simple]
    ends = [end for _, value, _ in rows for end in _triple(value) if end is not None] or [0.0, 1.0]
    room = 0.04 * (max(ends) - min(ends))
    figure = Figure(
        title="On slices, and beside simple models",
        subtitle=f"{document.metric} on the same holdout, with confidence intervals",
        x=numbers_across(min(ends) - room, max(ends) + room, formats.metric, 4, left=ROOM_FOR_NAMES),
        y=names_up([short(name) for name, _, _ in rows]),
        x_label=document.metric,
        key=[("now bar", f"version {chosen.version.version}"), ("before bar", "simple models")],
    )
    for place, (name, value, colour) in enumerate(rows):
        height = float(len(rows) - place)
        if value.low is not None and value.high is not None:
            figure.lying_whisker(height, value.low, value.high, colour)
        if value.estimate is not None:
            figure.dot(value.estimate, height, colour, f"{name}: {formats.estimate(*_triple(value))}", radius=5)
    return figure


def _performance(document: ModelPage, formats: Formats, reader: Reader) -> Figure:
    cohorts = [cohort for cohort in document.cohorts if cohort.scope == "batch"] or list(document.cohorts)
    values = [end for one in cohorts for each in (one.expected, one.turned_out) for end in _triple(each)]
    figure = Figure(
        title="As expected, and as it turned out",
        subtitle=f"{document.metric} of the predictions of a day: estimated at once, measured when labels have matured",
        x=times_across(cohorts[0].cohort, cohorts[-1].cohort, reader),
        y=numbers_up(values, formats.metric, zero=False),
        x_label=f"as_of of the predictions ({reader.zone_name})",
        y_label=document.metric,
        key=[("before bar", "expected before labels"), ("now bar", "turned out, with its interval")],
    )
    figure.band([(one.cohort, one.expected.low, one.expected.high) for one in cohorts], "before")
    figure.line([(one.cohort, one.expected.estimate) for one in cohorts], "before")
    for one in cohorts:
        _realised(figure, one, formats)
    return figure


def _realised(figure: Figure, cohort: Cohort, formats: Formats) -> None:
    if cohort.expected.estimate is not None:
        expected = f"{formats.time(cohort.cohort)}, version {cohort.version}: expected"
        title = f"{expected} {formats.estimate(*_triple(cohort.expected))}"
        figure.dot(cohort.cohort, cohort.expected.estimate, "before", title, radius=2.5)
    value = cohort.turned_out
    if value.estimate is None:
        return
    if value.low is not None and value.high is not None:
        figure.whisker(cohort.cohort, value.low, value.high, "now")
    said = f"{formats.time(cohort.cohort)}, version {cohort.version}: {formats.estimate(*_triple(value))}"
    figure.dot(cohort.cohort, value.estimate, "now", f"{said} on {formats.count(cohort.labels)} labels")


PAGE = Page("model", AskedOfVersion, _document, _shown)
