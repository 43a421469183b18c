"""A person who has logged in with a browser, looks at pages, and notes all that goes wrong in them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.plugins.airflow_server import ApiServer, password
from tests.times import phase

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

THEMES = ("light", "dark")
WIDTHS = (360, 1280, 2560)
HEIGHT = 900
# What a page may ask for without leaving its place.
LOCAL_SCHEMES = frozenset({"data", "blob", "about"})


@dataclass
class Sight:
    """An open page and what has gone wrong in it so far.

    Attributes:
        errors: of the console, of scripts, and violations of the content security policy.
        foreign: addresses outside of the server's origin that it asked for.
        dialogs: what scripts wanted to tell or ask.
    """

    page: "Page"
    server: ApiServer
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def open(self, path: str) -> int:
        """Goes to a page of the plugin; gives the HTTP status."""
        answer = self.page.goto(self.server.page(path), wait_until="networkidle")
        assert answer is not None
        return int(answer.status)

    def excess_width(self) -> int:
        """By how many pixels the document is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def violations(self) -> list[str]:
        """What axe-core finds wrong, a line each."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{rule['id']} ({rule['impact']}) at {' '.join(map(str, node['target']))}: {node['failureSummary']}"
            for rule in found
            for node in rule["nodes"]
        ]


@dataclass
class Looker:
    """Somebody who has logged in, and opens pages in one window after the other."""

    browser: "Browser"
    server: ApiServer
    state: Any

    @classmethod
    def logged_in(cls, browser: "Browser", server: ApiServer, user: str, secret: str | None = None) -> "Looker":
        """Logs in by Airflow's form.

        Args:
            secret: the user's password; that of the servers of these tests, when it is not said.
        """
        context = browser.new_context(viewport={"width": 1280, "height": HEIGHT})
        try:
            page = context.new_page()
            page.goto(server.url, wait_until="networkidle")
            page.locator("input[name=username]").fill(user)
            page.locator("input[name=password]").fill(secret or password(user))
            page.locator("button[type=submit]").click()
            page.wait_for_url(lambda url: "/login" not in url)
            return cls(browser, server, context.storage_state())
        finally:
            context.close()

    @contextmanager
    def look(self, *, theme: str = "light", width: int = 1280, scripts: bool = True, **options: Any) -> Iterator[Sight]:
        """A window of its own, closed afterwards.

        Args:
            theme: what the system prefers, and what is chosen in Airflow.
            scripts: whether pages may run any.
            options: of Playwright's contexts, such as timezone_id, locale, forced_colors.
        """
        context = self.browser.new_context(
            storage_state=self.state,
            color_scheme=theme,
            viewport={"width": width, "height": HEIGHT},
            java_script_enabled=scripts,
            **options,
        )
        try:
            context.add_init_script(f"localStorage.setItem('theme', '{theme}')")
            with phase("browser"):
                yield watched(context, self.server)
        finally:
            context.close()


def watched(context: "BrowserContext", server: ApiServer) -> Sight:
    """A new page of a context, of which everything is noted."""
    sight = Sight(context.new_page(), server)

    def note_request(request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme not in LOCAL_SCHEMES and not request.url.startswith(f"{server.url}/"):
            sight.foreign.append(request.url)

    def note_dialog(dialog: Any) -> None:
        sight.dialogs.append(dialog.message)
        dialog.dismiss()

    context.on("request", note_request)
    sight.page.on("dialog", note_dialog)
    sight.page.on("pageerror", lambda error: sight.errors.append(str(error)))
    sight.page.on(
        "console",
        lambda said: sight.errors.append(f"{said.text} ({said.location['url']})") if said.type == "error" else None,
    )
    return sight


def every_look() -> Sequence[tuple[str, int]]:
    """Themes by widths."""
    return [(theme, width) for theme in THEMES for width in WIDTHS]
