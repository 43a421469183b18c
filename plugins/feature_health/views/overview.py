"""The overview as tables."""

from feature_health.links import Links
from feature_health.pages import Asked, Page, Shown
from feature_health.reader import Reader
from feature_health.tables import Column, Table
from features.contract import Contract
from features.health.overview import ModelHealth, Overview, ViewHealth, overview
from features.warehouse import Connection


def _document(connection: Connection, contract: Contract, asked: Asked, reader: Reader) -> Overview:
    return overview(connection, contract, reader.at)


def _shown(document: Overview, reader: Reader, links: Links) -> Shown:
    is_behind = document.newest_as_of is not None and all(
        view.freshness != "fresh" for view in document.feature_views if view.as_of
    )
    return Shown(
        title="Overview",
        tables=(_incidents(document, links), _views(document, links), _models(document, links)),
        values={"overview": document, "newest": document.newest_as_of if is_behind else None},
    )


def _views(document: Overview, links: Links) -> Table:
    def feature(view: ViewHealth) -> str | None:
        if view.worst_model is None or view.worst_feature is None:
            return None
        return links.feature(view.worst_model, view.worst_feature)

    return Table(
        name="feature_views",
        caption="Feature views",
        columns=(
            Column(
                "feature_view",
                link=lambda view: links.to("parity", view=view.feature_view),
                also=Column("entity"),
            ),
            Column("freshness", "status"),
            Column("as_of", "time"),
            Column("as_of_age", "age", value=lambda view: view.as_of),
            Column("expires_at", "age"),
            Column("rows", "count"),
            Column("tests", "outcome", value=lambda view: (view.tests_failed, view.tests_run)),
            Column("parity", "outcome", value=_cells, words=("differ", "equal")),
            Column("worst_drift", "status", also=Column("worst_feature", link=feature)),
            Column("owner", value=lambda view: _name(view.owner), note=lambda view: view.owner),
        ),
        rows=document.feature_views,
        empty="dbt declares no feature view: a model under models/features whose config.meta names an entity.",
    )


def _cells(view: ViewHealth) -> tuple[int | None, int | None]:
    return view.cells_differing, view.cells_compared


def _models(document: Overview, links: Links) -> Table:
    def now(model: ModelHealth) -> tuple[float | None, float | None, float | None]:
        return model.now, model.now_low, model.now_high

    return Table(
        name="models",
        caption="Models",
        columns=(
            Column("model", link=lambda model: links.to("model", model=model.model)),
            Column("champion", link=lambda model: _version(links, model)),
            Column("age", "status", also=Column("age_days", "days")),
            Column("max_age_days", "days"),
            Column(
                "outcome",
                "status",
                link=lambda model: links.to("retraining", model=model.model),
                also=Column("trigger"),
            ),
            Column("decided_as_of", "time"),
            Column("holdout", "metric", also=Column("metric")),
            Column("now", "estimate", value=now),
            Column("labels", "count"),
            Column("incidents", "count"),
            Column("owner", value=lambda model: _name(model.owner), note=lambda model: model.owner),
        ),
        rows=document.models,
        empty="dbt declares no model: an exposure of type ml with a config.meta (models/exposures.yml).",
    )


def _name(owner: str) -> str:
    """An owner without the address, which is said on hover."""
    return owner.partition(" <")[0]


def _version(links: Links, model: ModelHealth) -> str | None:
    return links.to("model", model=model.model, version=model.champion) if model.champion else None


def _incidents(document: Overview, links: Links) -> Table:
    return Table(
        name="incidents",
        caption="Open incidents",
        columns=(
            Column("incident_id", "count"),
            Column("severity", "status"),
            Column("cause"),
            Column("summary", "long"),
            Column("incident_features", "list", value=lambda incident: incident.features),
            Column("model", link=lambda incident: links.to("features", model=incident.model)),
            Column("upstream"),
            Column("blocks_retraining"),
            Column("opened_at", "time", also=Column("last_alarm_at", "time")),
            Column("owner", value=lambda incident: _name(incident.owner), note=lambda incident: incident.owner),
        ),
        rows=document.incidents,
        empty="None is open.",
    )


PAGE = Page("overview", Asked, _document, _shown)
