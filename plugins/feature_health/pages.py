"""The routes: each page as HTML, its twin as JSON, its tables as CSV."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pydantic_core
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ValidationError

from feature_health.links import Links
from feature_health.reader import Misread, Reader
from feature_health.rendering import render
from feature_health.tables import Table
from features import settings
from features.contract import Contract, read_contract
from features.errors import SkewlessError
from features.health.reading import CannotRead, read
from features.warehouse import Connection


class Asked(BaseModel):
    """What the address of every page may say."""

    at: str | None = None


class AskedOfModel(Asked):
    """Of which model; the first that dbt declares when it is not said."""

    model: str | None = None


class AskedOfView(Asked):
    """Of which feature view; `usual_view` when it is not said."""

    view: str | None = None


def usual_view(declared: Contract) -> str:
    """The feature view that is meant when none is named: the first that a model uses."""
    used = (model.feature_view.name for model in declared.models.values())
    return next(used, next(iter(declared.feature_views), ""))


@dataclass(frozen=True)
class Shown:
    """A document prepared for its template.

    Attributes:
        title: of the page.
        tables: in the order of the page; each is a CSV, too.
        values: what else the template reads.
    """

    title: str
    tables: tuple[Table, ...]
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        name: its address and its template.
        asked: what the address may say.
        document: reads what the page says; a dataclass of plain values, which is the JSON.
        shown: prepares that for the template.
    """

    name: str
    asked: type[Asked]
    document: Callable[[Connection, Contract, Any, Reader], Any]
    shown: Callable[[Any, Reader, Links], Shown]


@dataclass(frozen=True)
class Place:
    """An entry of the navigation."""

    page: str
    heading: str


NAVIGATION = (
    Place("overview", "Overview"),
    Place("features", "Features"),
    Place("retraining", "Retraining"),
    Place("parity", "Parity"),
    Place("model", "Model"),
    Place("score", "ML Test Score"),
)


def routes_of(page: Page) -> APIRouter:
    """The three routes of a page."""
    router = APIRouter()

    @router.get(f"/{page.name}", name=page.name)
    def html(request: Request) -> HTMLResponse:
        reader, asked = Reader.of(request), _asked(page, request)
        shown = page.shown(_document(page, asked, reader), reader, Links(reader))
        return HTMLResponse(render(f"{page.name}.html", reader, values_of(page, shown, asked)))

    @router.get(f"/{page.name}.json", name=f"{page.name}.json")
    def as_json(request: Request) -> Response:
        reader = Reader.of(request)
        document = {"at": reader.at, page.name: _document(page, _asked(page, request), reader)}
        return Response(pydantic_core.to_json(document, inf_nan_mode="null", indent=1), media_type="application/json")

    @router.get(f"/{page.name}.csv", name=f"{page.name}.csv")
    def as_csv(request: Request, table: str) -> Response:
        reader = Reader.of(request)
        shown = page.shown(_document(page, _asked(page, request), reader), reader, Links(reader))
        found = next((one for one in shown.tables if one.name == table), None)
        if found is None:
            names = ", ".join(one.name for one in shown.tables)
            raise HTTPException(404, f"The page {page.name} has no table {table!r}; it has {names}.")
        headers = {"Content-Disposition": f'attachment; filename="{page.name}-{found.name}.csv"'}
        return Response(found.csv(), media_type="text/csv; charset=utf-8", headers=headers)

    return router


def _asked(page: Page, request: Request) -> Asked:
    try:
        return page.asked.model_validate(dict(request.query_params))
    except ValidationError as error:
        first = error.errors()[0]
        raise Misread(f"{first['loc'][-1]}: {first['msg']}.") from error


def _document(page: Page, asked: Asked, reader: Reader) -> Any:
    with read() as connection:
        return page.document(connection, contract(), asked, reader)


def contract() -> Contract:
    """What dbt declares.

    Raises:
        CannotRead: when there is no manifest, or a mistake in it, which no other address would mend.
    """
    try:
        return read_contract(settings.MANIFEST)
    except SkewlessError as error:
        raise CannotRead(str(error)) from error


def values_of(page: Page, shown: Shown, asked: Asked) -> dict[str, Any]:
    """What the template of a page sees."""
    used = {
        key: definition
        for table in shown.tables
        for column in table.columns
        for key, definition in column.definitions.items()
    }
    return {
        "page": page.name,
        "navigation": NAVIGATION,
        "asked": asked.model_dump(exclude={"at"}, exclude_none=True),
        "title": shown.title,
        "tables": {table.name: table for table in shown.tables},
        "used_definitions": sorted(used.values(), key=lambda one: one.heading.lower()),
        **shown.values,
    }
