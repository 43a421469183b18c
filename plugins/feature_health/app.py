"""The web application: who may see the pages, what a browser may do with them, and what is said when they fail."""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from feature_health import failures, pages, places
from feature_health.views import feature, features, model, overview, parity, retraining, score
from features.errors import SkewlessError

log = logging.getLogger(__name__)

ASSETS = {"style.css": "text/css", "page.js": "text/javascript"}
FOLDER = Path(__file__).parent / "assets"

HEADERS = {
    # Nothing inline, nothing from elsewhere, shown by Airflow only. What a page needs is in itself and in two files.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'none'; "
        "form-action 'self'; frame-ancestors 'self'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "private, no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}

# Airflow does not protect the applications of plugins. Here, so that no route can be forgotten.
app = FastAPI(
    title="Feature health",
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
    dependencies=[Depends(requires_access_view(AccessView.PLUGINS))],
)
for page in (overview.PAGE, features.PAGE, feature.PAGE, model.PAGE, parity.PAGE, retraining.PAGE, score.PAGE):
    app.include_router(pages.routes_of(page))
app.include_router(places.router)


@app.middleware("http")
async def add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """The same protection for every answer, refusals included."""
    response = await call_next(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


@app.get("/")
def front(request: Request) -> RedirectResponse:
    """The overview, with the clock it was asked for."""
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"overview{query}", 307)


@app.get("/assets/{name}")
def asset(name: str) -> FileResponse:
    """The style sheet and the script; their address changes with their content, so that they can be kept."""
    if name not in ASSETS:
        raise HTTPException(404, f"There is no asset {name}.")
    return FileResponse(
        FOLDER / name, media_type=ASSETS[name], headers={"Cache-Control": "private, max-age=31536000, immutable"}
    )


@app.exception_handler(StarletteHTTPException)
async def refuse(request: Request, error: StarletteHTTPException) -> Response:
    """Not signed in, not allowed, not there."""
    return failures.answer(request, error.status_code, str(error.detail), error.headers)


@app.exception_handler(RequestValidationError)
async def misread(request: Request, error: RequestValidationError) -> Response:
    """An address that says something no page understands."""
    first = error.errors()[0]
    return failures.answer(request, 422, f"{first['loc'][-1]}: {first['msg']}.")


@app.exception_handler(SkewlessError)
async def explain(request: Request, error: SkewlessError) -> Response:
    """Whatever the warehouse or the contract says about itself."""
    return failures.answer(request, failures.status_of(error), str(error))


@app.exception_handler(Exception)
async def fail(request: Request, error: Exception) -> Response:
    """A mistake of ours: logged with its trace, told without."""
    log.error("%s failed", request.url.path, exc_info=error)
    return failures.answer(request, 500, "This page has a mistake; the log of Airflow's api-server has its trace.")
