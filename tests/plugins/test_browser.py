"""The pages in a real browser, as a viewer sees them: inside Airflow and by themselves."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.addresses import address, pages
from tests.plugins.browser_user import THEMES, Looker, every_look

pytestmark = pytest.mark.pages


@pytest.fixture(scope="module", params=every_look(), ids=lambda look: f"{look[0]} {look[1]}px")
def look(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A theme and a width."""
    theme, width = request.param
    return {"theme": theme, "width": width}


def test_it_is_found_in_the_menu_of_airflow(looker: Looker, screenshots: Callable[[Any, str], Path]) -> None:
    with looker.look() as sight:
        page = sight.page
        page.goto(looker.server.url, wait_until="networkidle")
        page.get_by_role("button", name="Browse").click()
        page.get_by_role("menuitem", name="Feature health").click()
        page.wait_for_url(re.compile(r"/plugin/feature-health"))
        frame = page.frame_locator("iframe")
        frame.get_by_role("heading", level=1).wait_for()
        assert "Feature health" in frame.locator("body").inner_text()
        screenshots(page, "in_airflow")
        # From page to page inside the frame, with Airflow around it.
        frame.get_by_role("navigation").get_by_role("link", name="Overview").first.click()
        frame.get_by_role("heading", level=1).wait_for()
        assert "/plugin/feature-health" in page.url
        assert [error for error in sight.errors if "feature-health" in error] == []
        assert sight.foreign == []


@pytest.mark.parametrize("theme", THEMES)
def test_it_wears_the_theme_of_airflow(looker: Looker, screenshots: Callable[[Any, str], Path], theme: str) -> None:
    with looker.look(theme=theme) as sight:
        sight.page.goto(f"{looker.server.url}/plugin/feature-health", wait_until="networkidle")
        frame = sight.page.frame_locator("iframe")
        frame.get_by_role("heading", level=1).wait_for()
        screenshots(sight.page, f"in_airflow_{theme}")
        assert is_dark(frame.locator("body")) == (theme == "dark")


def test_the_theme_that_is_chosen_in_airflow_wins_over_that_of_the_system(looker: Looker) -> None:
    with looker.look(theme="light") as sight:
        sight.page.add_init_script("localStorage.setItem('theme', 'dark')")
        assert sight.open(address("overview")) == 200
        assert is_dark(sight.page.locator("body"))


def test_times_and_numbers_are_written_as_in_airflow(looker: Looker) -> None:
    with looker.look() as sight:
        page = sight.page
        page.goto(looker.server.url, wait_until="networkidle")
        page.get_by_text("+00:00").click()
        page.get_by_text("UTC (Coordinated Universal Time)").click(force=True)
        page.keyboard.type("Berlin")
        page.get_by_text("Europe/Berlin").click()
        page.wait_for_function("localStorage.getItem('timezone') === '\"Europe/Berlin\"'")
        page.evaluate("localStorage.setItem('i18nextLng', 'de')")
        page.goto(f"{looker.server.url}/plugin/feature-health", wait_until="networkidle")
        frame = page.frame_locator("iframe")
        frame.locator("html[data-zone='Europe/Berlin'][data-language='de']").wait_for(state="attached")
        # 12:00 UTC in June; and 3,850 rows in German.
        assert frame.locator("td[data-label='As of']").first.inner_text() == "2026-06-30 14:00"
        assert frame.locator("td[data-label='Rows']").first.inner_text() == "3.850"


def test_mlflow_opens_in_a_window_of_its_own(looker: Looker) -> None:
    with looker.look() as sight:
        page = sight.page
        page.goto(f"{looker.server.url}/plugin/feature-health", wait_until="networkidle")
        frame = page.frame_locator("iframe")
        frame.get_by_role("navigation").get_by_role("link", name="Model").click()
        link = frame.locator("a[data-elsewhere]")
        link.wait_for()
        address = link.get_attribute("href")
        assert address is not None
        with page.expect_popup():
            link.click()
        assert "/plugin/feature-health" in page.url  # Airflow is still there
        assert sight.foreign == [address.split("#")[0]]


def test_a_zone_that_the_server_does_not_know_is_not_asked_for_forever(looker: Looker) -> None:
    with looker.look() as sight:
        sight.page.add_init_script("localStorage.setItem('timezone', '\"Nowhere/Atlantis\"')")
        loads: list[str] = []
        sight.page.on("load", lambda _: loads.append(sight.page.url))
        sight.open(address("overview"))
        sight.page.wait_for_timeout(2000)
        assert len(loads) <= 2
        assert sight.page.locator("html").get_attribute("data-zone") == "UTC"


def is_dark(body: Any) -> bool:
    """Whether the page's background is nearer to black than to white."""
    colour = body.evaluate(
        "node => [node, document.documentElement].map(one => getComputedStyle(one).backgroundColor)"
        ".find(one => one !== 'rgba(0, 0, 0, 0)') || 'rgb(255, 255, 255)'"
    )
    channels = [float(channel) for channel in re.findall(r"[\d.]+", colour)[:3]]
    return sum(channels) / len(channels) < (128 if colour.startswith("rgb") else 0.5)


@pytest.mark.parametrize("name", pages())
def test_a_page_is_accessible_and_quiet(
    looker: Looker, screenshots: Callable[[Any, str], Path], look: dict[str, Any], name: str
) -> None:
    with looker.look(**look) as sight:
        assert sight.open(address(name)) == 200
        screenshots(sight.page, f"{name}_{look['theme']}_{look['width']}")
        assert sight.violations() == []
        assert sight.excess_width() == 0
        assert sight.errors == []
        assert sight.foreign == []
        assert sight.dialogs == []


@pytest.mark.parametrize("name", pages())
def test_a_page_says_the_same_without_scripts(looker: Looker, name: str) -> None:
    said = {}
    for scripts in (True, False):
        with looker.look(scripts=scripts, timezone_id="UTC", locale="en-GB") as sight:
            assert sight.open(address(name)) == 200
            said[scripts] = sight.page.locator("main").inner_text()
    missing = set(said[True].splitlines()) - set(said[False].splitlines())
    assert missing == set()


@pytest.mark.parametrize("name", pages())
def test_a_page_can_be_used_by_keyboard(looker: Looker, name: str) -> None:
    with looker.look(width=360) as sight:
        sight.open(address(name))
        keyboard, wanted = sight.page.keyboard, set(sight.page.evaluate(FIRST_CONTROLS))
        for _ in range(150):  # a field of a date has several stops
            keyboard.press("Tab")
            wanted.discard(sight.page.evaluate(FOCUSED))
            # What has the focus can be seen to have it.
            assert sight.page.evaluate(NOT_OUTLINED) is None
            if not wanted:
                break
        assert wanted == set()


FOCUSED = "[...document.querySelectorAll('*')].indexOf(document.activeElement)"
FIRST_CONTROLS = """() => {
    const every = [...document.querySelectorAll('*')];
    const controls = document.querySelectorAll('a[href], button, summary, input, select');
    return [...controls].filter(node => node.checkVisibility()).slice(0, 30).map(node => every.indexOf(node));
}"""
# Of a field of a date the browser marks the part that has the focus.
NOT_OUTLINED = """() => {
    const node = document.activeElement, style = getComputedStyle(node);
    const isShown = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0 || style.boxShadow !== 'none';
    return isShown || node === document.body || node.type === 'datetime-local' ? null : node.outerHTML.slice(0, 200);
}"""


@pytest.mark.parametrize("name", pages())
def test_a_page_can_be_read_twice_as_large(looker: Looker, name: str) -> None:
    # WCAG 2.2, 1.4.10: 320 CSS pixels, which is 1280 at four times the size.
    with looker.look(width=320) as sight:
        sight.open(address(name))
        assert sight.excess_width() == 0


@pytest.mark.parametrize("name", [*pages(), "nothing", "overview?at=yesterday"])
def test_links_lead_somewhere(looker: Looker, name: str) -> None:
    with looker.look() as sight:
        sight.open(name if "?" in name else address(name))
        links = sight.page.evaluate("[...document.querySelectorAll('main a[href]')].map(link => link.href)")
    session = looker.server.session("viewer", by_cookie=True)
    for link in sorted({link.split("#")[0] for link in links})[:60]:
        assert link.startswith(("http://", "https://")), link
        if link.startswith(looker.server.page("")):
            assert session.get(link, timeout=60).status_code == 200, link
