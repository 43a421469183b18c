"""A long history of two dozen features, an api-server that shows it, and a browser that looks at it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from features import settings, warehouse
from features.contract import Contract, read_contract
from tests.databases import filled
from tests.plugins import airflow_server
from tests.plugins.airflow_server import ApiServer
from tests.plugins.browser_user import Looker
from tests.plugins.hostile import fill_hostile
from tests.plugins.manifests import manifest_with
from tests.plugins.synthetic_history import fill

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FEATURES, DAYS = 24, 90

# As Airflow does with the plugins' folder, from which `feature_health` is imported.
sys.path.append(str(settings.PLUGINS_FOLDER))


@pytest.fixture(scope="package")
def health_manifest(manifest: Path) -> Path:
    """The project's manifest with two dozen features in its main view."""
    return manifest_with(FEATURES, manifest, settings.RUN_DIR / "health" / "manifest.json")


@pytest.fixture(scope="package")
def health_contract(health_manifest: Path) -> Contract:
    """What that manifest declares."""
    return read_contract(health_manifest)


@pytest.fixture(scope="package")
def health_database(server: None, health_contract: Contract) -> Iterator[str]:
    """A warehouse with ninety days of two dozen features; gives its name. Read it; do not change it."""
    with filled("skewless_health", lambda connection: fill(connection, health_contract, days=DAYS)) as name:
        yield name


@pytest.fixture(scope="package")
def hostile_manifest(manifest: Path) -> Path:
    """A manifest whose names and texts want to do harm, and which declares a model `hostile`."""
    return manifest_with(8, manifest, settings.RUN_DIR / "health" / "hostile.json", hostile=True)


@pytest.fixture(scope="package")
def hostile_database(server: None, hostile_manifest: Path) -> Iterator[str]:
    """A small warehouse in which every text wants to do harm; gives its name."""
    contract = read_contract(hostile_manifest)

    def fill_it(connection: warehouse.Connection) -> None:
        fill(connection, contract, days=5)
        fill_hostile(connection, contract.model("hostile"))

    with filled("skewless_hostile", fill_it) as name:
        yield name


@pytest.fixture(scope="package")
def airflow_metadata(server: None) -> None:
    """Airflow's own tables."""
    airflow_server.prepare()


@pytest.fixture(scope="package")
def api_server(airflow_metadata: None, health_database: str, health_manifest: Path) -> Iterator[ApiServer]:
    """Airflow's api-server with our plugin on that history; its users are admin and viewer."""
    with airflow_server.api_server("health-api-server", health_database, health_manifest) as running:
        yield running


@pytest.fixture(scope="package")
def hostile_server(airflow_metadata: None, hostile_database: str, hostile_manifest: Path) -> Iterator[ApiServer]:
    """The same on the hostile warehouse."""
    with airflow_server.api_server("hostile-api-server", hostile_database, hostile_manifest) as running:
        yield running


@pytest.fixture(scope="package")
def admin_token(api_server: ApiServer) -> str:
    """A bearer token of an administrator."""
    return api_server.token("admin")


@pytest.fixture(scope="package")
def viewer_token(api_server: ApiServer) -> str:
    """A bearer token of somebody who may only look."""
    return api_server.token("viewer")


@pytest.fixture(scope="module")
def looker(browser: "Browser", api_server: ApiServer) -> Looker:
    """Opens pages as a viewer who has logged in; says all that went wrong in them."""
    return Looker.logged_in(browser, api_server, "viewer")


@pytest.fixture(scope="module")
def hostile_looker(browser: "Browser", hostile_server: ApiServer) -> Looker:
    """The same of the hostile warehouse."""
    return Looker.logged_in(browser, hostile_server, "viewer")
