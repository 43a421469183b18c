"""Every route of the plugin with an address that uses it; the application is asked, so that none is forgotten."""

import re
from urllib.parse import urlencode

from starlette.routing import BaseRoute, Mount, Route

from tests.plugins.episodes import END

AT = END.isoformat().replace("+00:00", "Z")
# What pages cannot do without.
NEEDED = {
    "feature": {"model": "churn", "name": "session_count"},
    "run": {"dag_id": "churn_drift", "run_id": "none"},
    "task": {"dag_id": "churn_drift", "run_id": "none", "task_id": "watch"},
}
# They lead to other pages.
REDIRECTS = frozenset({"", "run", "task"})


def routes() -> list[str]:
    """The paths of all routes, as they are declared."""
    from feature_health.app import app

    return sorted({_path(route).strip("/") for route in app.routes})


def _path(route: BaseRoute) -> str:
    assert isinstance(route, Route | Mount)
    return route.path


def pages() -> list[str]:
    """The names of the pages."""
    return [path for path in routes() if re.fullmatch(r"[a-z_]+", path) and path not in REDIRECTS]


def address(route: str, *, at: str | None = AT, **parameters: str) -> str:
    """An address of a route, at the end of the history unless it says otherwise."""
    if route == "assets/{name}":
        return "assets/style.css"
    name, _, ending = route.partition(".")
    said = (
        NEEDED.get(name, {}) | parameters | ({"at": at} if at else {}) | ({"table": "none"} if ending == "csv" else {})
    )
    query = urlencode(said)
    return f"{route}?{query}" if query else route
