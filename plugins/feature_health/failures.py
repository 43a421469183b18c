"""What is said when there is no page: a sentence and the next step, in the form that was asked for."""

from collections.abc import Mapping

from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from feature_health.reader import Misread, Reader
from feature_health.rendering import render
from features.errors import SkewlessError
from features.health.reading import CannotRead
from features.warehouse import WarehouseUnavailable

HEADLINES = {
    401: "Sign in to Airflow first",
    403: "You may not see this",
    404: "There is no such page",
    405: "Nothing can be changed here",
    422: "This address says something that no page understands",
    500: "This page has a mistake",
    503: "This cannot be read right now",
}


def status_of(error: SkewlessError) -> int:
    """The HTTP status of what went wrong."""
    match error:
        case WarehouseUnavailable() | CannotRead():
            return 503
        case Misread():
            return 422
    return 404


def answer(request: Request, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """The failure as a page, or as JSON for whoever asked for that."""
    if request.url.path.endswith(".json") or "text/html" not in request.headers.get("accept", "text/html"):
        return JSONResponse({"error": HEADLINES.get(status, "Refused"), "detail": message}, status, headers)
    try:
        reader = Reader.of(request)
    except Misread:
        reader = Reader.by_default()
    values = {"headline": HEADLINES.get(status, "Refused"), "message": message, "status": status}
    return HTMLResponse(render("failure.html", reader, values), status, headers)
