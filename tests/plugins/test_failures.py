"""When there is nothing to show, the page says why and what to do; it is never a bare 500."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from features import settings
from tests.plugins import airflow_server
from tests.plugins.addresses import address, pages
from tests.plugins.airflow_server import ApiServer


@pytest.fixture(scope="module")
def own_manifest(manifest: Path) -> Path:
    """A copy that a test may take away."""
    path = settings.RUN_DIR / "health" / "own.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(manifest, path))


@pytest.fixture(scope="module")
def lonely(airflow_metadata: None, own_manifest: Path) -> Iterator[ApiServer]:
    """An api-server whose warehouse is not there."""
    with airflow_server.api_server("lonely-api-server", "skewless_is_not_here", own_manifest) as running:
        yield running


@pytest.mark.parametrize("name", pages())
def test_a_warehouse_that_is_away_is_a_page(lonely: ApiServer, name: str) -> None:
    answer = lonely.session("viewer").get(lonely.page(address(name)), headers={"Accept": "text/html"}, timeout=60)
    assert answer.status_code == 503
    assert "This cannot be read right now" in answer.text
    assert "skewless_is_not_here" in answer.text
    assert "make warehouse" in answer.text
    assert "Traceback" not in answer.text


def test_it_is_json_for_machines(lonely: ApiServer) -> None:
    answer = lonely.session("viewer").get(lonely.page("overview.json"), timeout=60)
    assert answer.status_code == 503
    assert answer.json()["error"] == "This cannot be read right now"
    assert "make warehouse" in answer.json()["detail"]


def test_a_mistake_in_the_yaml_is_a_page(lonely: ApiServer, own_manifest: Path) -> None:
    session = lonely.session("viewer")
    kept = own_manifest.read_bytes()
    try:
        own_manifest.unlink()
        answer = session.get(
            lonely.page("run?dag_id=churn_drift&run_id=x"), headers={"Accept": "text/html"}, timeout=60
        )
    finally:
        own_manifest.write_bytes(kept)
    assert answer.status_code == 503
    assert "make manifest" in answer.text


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("model?model=nobody", 404, "No model &#39;nobody&#39; is declared"),
        ("parity?view=nothing", 404, "There is no feature view &#39;nothing&#39;"),
        ("feature?name=nothing", 404, "has no feature"),
        ("model?version=99", 404, "99"),
        ("overview?at=yesterday", 422, "is not an instant such as"),
        ("overview.csv?table=nothing", 404, "it has incidents, feature_views, models"),
        ("overview.csv", 422, "table"),
        ("run?dag_id=somebody_elses&run_id=x", 404, "is no Dag of Skewless"),
        ("nowhere", 404, "There is no such page"),
    ],
)
def test_an_address_that_leads_nowhere_says_where_there_is_something(
    api_server: ApiServer, path: str, status: int, says: str
) -> None:
    answer = api_server.session("viewer").get(api_server.page(path), headers={"Accept": "text/html"}, timeout=60)
    assert (answer.status_code, says in answer.text) == (status, True), answer.text


def test_who_has_not_signed_in_is_shown_where(api_server: ApiServer) -> None:
    answer = api_server.session(None).get(api_server.page("overview"), headers={"Accept": "text/html"}, timeout=60)
    assert answer.status_code == 401
    assert "Sign in to Airflow first" in answer.text
    assert 'href="../auth/login' in answer.text
