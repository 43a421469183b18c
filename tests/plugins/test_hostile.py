"""Whatever the warehouse holds is shown as text, and a page that cannot show it says so without falling over."""

import csv
import io
import json
import re
from typing import Any

import pytest

from tests.plugins.addresses import address, pages
from tests.plugins.airflow_server import ApiServer
from tests.plugins.browser_user import Looker
from tests.plugins.manifests import HOSTILE

pytestmark = pytest.mark.pages

OF_HOSTILE = {"model": "hostile", "view": "hostile_features"}
# What a spreadsheet takes for a formula.
FORMULA = re.compile(r"^[=+\-@\t\r]")
NUMBER = re.compile(r"^[+-]?[\d.,]+(e[+-]?\d+)?$", re.IGNORECASE)
MADE_OF_TEXT = """() => [...document.querySelectorAll('main script, main img, main iframe, main style, main link')]
    .concat([...document.querySelectorAll('*')].filter(node => [...node.attributes].some(one => /^on/i.test(one.name))))
    .map(node => node.outerHTML.slice(0, 200))"""


def addresses() -> list[str]:
    """Every page of the hostile model, and the page of each of its features."""
    every = [address(name, **parameters_of(name)) for name in pages() if name != "feature"]
    if "feature" in pages():
        every += [address("feature", model="hostile", name=text) for text in HOSTILE]
    return every


def parameters_of(name: str) -> dict[str, str]:
    """What names the hostile model or view, on a page that has one."""
    from tests.plugins.queries import pages_by_name

    fields = pages_by_name()[name].asked.model_fields
    return {key: value for key, value in OF_HOSTILE.items() if key in fields}


@pytest.mark.parametrize("path", addresses(), ids=lambda path: path[:40])
def test_nothing_of_it_is_executed(hostile_looker: Looker, path: str) -> None:
    with hostile_looker.look(width=360) as sight:
        assert sight.open(path) in {200, 404, 414, 431}
        assert sight.dialogs == []
        assert sight.errors == []
        assert sight.foreign == []
        assert sight.page.title() != "owned"
        assert sight.page.evaluate(MADE_OF_TEXT) == []
        assert sight.page.evaluate("[...document.links].every(link => /^https?:$/.test(link.protocol))")
        assert sight.excess_width() == 0


@pytest.mark.parametrize("name", [name for name in pages() if name != "feature"])
def test_json_is_json(hostile_server: ApiServer, name: str) -> None:
    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    answer = hostile_server.session("viewer").get(
        hostile_server.page(address(f"{name}.json", **parameters_of(name))), timeout=60
    )
    assert answer.status_code == 200
    json.loads(answer.text, parse_constant=refuse)


@pytest.mark.parametrize("name", [name for name in pages() if name != "feature"])
def test_a_spreadsheet_finds_no_formula(hostile_server: ApiServer, name: str) -> None:
    session = hostile_server.session("viewer")
    text = session.get(hostile_server.page(address(name, **parameters_of(name))), timeout=60).text
    links = {link.replace("&amp;", "&") for link in re.findall(r'href="([a-z_]+\.csv\?[^"]*)"', text)}
    assert links
    for link in links:
        for row in csv.reader(io.StringIO(session.get(hostile_server.page(link), timeout=60).text)):
            assert [cell for cell in row if FORMULA.match(cell) and not NUMBER.match(cell)] == []


@pytest.mark.parametrize("key", ["model", "view", "name", "version", "at", "table", "window", "baseline", "segment"])
def test_an_address_is_text_too(hostile_server: ApiServer, key: str) -> None:
    session = hostile_server.session("viewer")
    session.headers["Accept"] = "text/html"
    for name in pages():
        for text in HOSTILE:
            parameters = {"at": "2026-06-30T12:00:00Z", "name": "event_type_count", key: text}
            answer = session.get(hostile_server.page(name), params=parameters, timeout=60)
            assert answer.status_code in {200, 404, 422}, (name, text[:100])
            # As it is only where it is harmless.
            assert "<" not in text or text not in answer.text, (name, text)
