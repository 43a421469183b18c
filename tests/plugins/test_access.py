"""Who may see what: nobody without a login, everybody with one; and nobody may change anything."""

import re
from collections.abc import Iterator
from functools import cache

import pytest
import requests

from tests.plugins.addresses import address, pages, routes
from tests.plugins.airflow_server import USERS, ApiServer

CHANGING = ("POST", "PUT", "PATCH", "DELETE")
KINDS = frozenset({"text/html", "text/css", "text/csv", "application/json"})


@pytest.fixture(scope="module")
def sessions(api_server: ApiServer) -> Iterator[dict[tuple[str, bool], requests.Session]]:
    """By user, and whether the cookie of the UI is used instead of a bearer token."""
    every = {
        (user, by_cookie): api_server.session(user, by_cookie=by_cookie)
        for user in USERS
        for by_cookie in (False, True)
    }
    yield every
    for session in every.values():
        session.close()


@cache
def directives(policy: str) -> dict[str, frozenset[str]]:
    """A content security policy, by directive."""
    parts = [part.split() for part in policy.split(";") if part.strip()]
    return {name: frozenset(sources) for name, *sources in parts}


def test_there_are_routes_and_pages() -> None:
    assert {"overview", "overview.json", "overview.csv", "assets/{name}"} <= set(routes())
    assert "overview" in pages()


@pytest.mark.parametrize("route", routes())
def test_nobody_sees_anything_without_a_login(api_server: ApiServer, route: str) -> None:
    answer = requests.get(api_server.page(address(route)), allow_redirects=False, timeout=30)
    assert answer.status_code == 401
    assert "churn" not in answer.text.replace("churn_", "")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", *CHANGING])
@pytest.mark.parametrize("path", ["", "overview", "nothing", "assets/style.css", "assets/../app.py", "overview/"])
def test_without_a_login_every_method_and_address_gives_nothing(api_server: ApiServer, method: str, path: str) -> None:
    answer = requests.request(method, api_server.page(path), allow_redirects=False, timeout=30)
    assert answer.status_code in {401, 404, 405, 307}
    if answer.status_code == 307:  # to the same address without the slash, or with it
        assert requests.request(method, api_server.page(path), timeout=30).status_code in {401, 404, 405}


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer nonsense", "Basic dmlld2VyOnZpZXdlcg=="])
def test_a_wrong_token_is_no_login(api_server: ApiServer, token: str) -> None:
    answer = requests.get(api_server.page("overview"), headers={"Authorization": token}, timeout=30)
    assert answer.status_code in {401, 403}


@pytest.mark.parametrize("by_cookie", [False, True], ids=["by token", "by cookie"])
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("route", routes())
def test_everybody_who_is_logged_in_may_look(
    api_server: ApiServer, sessions: dict[tuple[str, bool], requests.Session], route: str, user: str, by_cookie: bool
) -> None:
    answer = sessions[user, by_cookie].get(api_server.page(address(route)), timeout=60)
    # There is no table `none`; that there are others is another test's to say.
    assert answer.status_code == (404 if route.endswith(".csv") else 200), answer.text[:500]


@pytest.mark.parametrize("method", CHANGING)
@pytest.mark.parametrize("route", routes())
def test_nothing_can_be_changed(
    api_server: ApiServer, sessions: dict[tuple[str, bool], requests.Session], route: str, method: str
) -> None:
    answer = sessions["admin", False].request(method, api_server.page(address(route)), timeout=30)
    assert answer.status_code == 405


@pytest.mark.parametrize("path", ["docs", "redoc", "openapi.json", "docs/oauth2-redirect"])
def test_the_description_of_the_interface_is_not_there(
    api_server: ApiServer, sessions: dict[tuple[str, bool], requests.Session], path: str
) -> None:
    assert requests.get(api_server.page(path), timeout=30).status_code in {401, 404}
    assert sessions["admin", False].get(api_server.page(path), timeout=30).status_code == 404


@pytest.mark.parametrize(
    "path", ["../app.py", "..%2fapp.py", "%2e%2e%2fapp.py", "....//app.py", "/etc/passwd", "style.css%00"]
)
def test_only_assets_are_assets(
    api_server: ApiServer, sessions: dict[tuple[str, bool], requests.Session], path: str
) -> None:
    prepared = requests.Request("GET", api_server.url).prepare()
    prepared.url = api_server.page(f"assets/{path}")  # as it is: no client tidies it up
    prepared.headers.update({name: str(value) for name, value in sessions["admin", False].headers.items()})
    assert sessions["admin", False].send(prepared, timeout=30).status_code in {404, 405}


@pytest.mark.parametrize("logged_in", [True, False])
@pytest.mark.parametrize("route", [*routes(), "nothing"])
def test_every_answer_is_protected(
    api_server: ApiServer, sessions: dict[tuple[str, bool], requests.Session], route: str, logged_in: bool
) -> None:
    session = sessions["viewer", False] if logged_in else requests.Session()
    answer = session.get(api_server.page(address(route)), allow_redirects=False, timeout=60)
    policy = directives(answer.headers["Content-Security-Policy"])
    assert policy["default-src"] == {"'none'"}
    assert policy["frame-ancestors"] == {"'self'"}
    assert policy["base-uri"] == {"'none'"}
    assert policy["script-src"] == policy["style-src"] == {"'self'"}
    # Nothing inline, nothing from elsewhere.
    assert frozenset().union(*policy.values()) <= {"'none'", "'self'"}
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] in {"no-referrer", "same-origin"}
    cached = answer.headers["Cache-Control"]
    assert "private" in cached
    assert "no-store" in cached or (route.startswith("assets/") and logged_in)
    if answer.status_code != 307:
        assert answer.headers["Content-Type"].split(";")[0] in KINDS


@pytest.mark.parametrize("name", pages())
def test_nothing_in_a_page_is_inline(
    api_server: ApiServer, sessions: dict[tuple[str, bool], requests.Session], name: str
) -> None:
    text = sessions["viewer", False].get(api_server.page(address(name)), timeout=60).text
    assert not re.search(r"<style\b", text)
    assert not re.search(r"<script\b(?![^>]*\bsrc=)", text)
    assert not re.search(r"<[^>]*\s(style|on[a-z]+)\s*=", text)
    # A link may lead elsewhere; nothing is loaded from there.
    assert not re.search(r"<a\b[^>]*href=\"(?!https?://)[a-z]+:", text)
    assert not re.search(r"(src|action)=\"([a-z]+:)?//|<link\b[^>]*href=\"([a-z]+:)?//", text)


@pytest.mark.parametrize("name", pages())
def test_every_table_of_a_page_can_be_had(
    api_server: ApiServer, sessions: dict[tuple[str, bool], requests.Session], name: str
) -> None:
    session = sessions["viewer", False]
    text = session.get(api_server.page(address(name)), timeout=60).text
    links = {link.replace("&amp;", "&") for link in re.findall(r'href="([a-z_]+\.csv\?[^"]*)"', text)}
    assert links
    for link in links:
        answer = session.get(api_server.page(link), timeout=60)
        assert answer.status_code == 200, link
        assert answer.headers["Content-Type"].startswith("text/csv")
        assert "attachment" in answer.headers["Content-Disposition"]


def test_airflow_has_read_the_plugin(api_server: ApiServer, admin_token: str) -> None:
    session = api_server.session("admin")
    errors = session.get(f"{api_server.url}/api/v2/plugins/importErrors", timeout=30).json()
    assert errors["import_errors"] == []
    plugins = session.get(f"{api_server.url}/api/v2/plugins", params={"limit": 100}, timeout=30).json()["plugins"]
    ours = next(plugin for plugin in plugins if plugin["name"] == "feature_health")
    views = {view["destination"]: view for view in ours["external_views"]}
    assert set(views) == {"nav", "dag_run", "task_instance"}
    # Relative, so that it also works where Airflow is served under a path.
    assert all(not re.match(r"[a-z]+:|/", view["href"]) for view in views.values())
    assert len({view["url_route"] for view in views.values()}) == 3
