"""What a page asks the warehouse: each query, and what PostgreSQL does for it."""

import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from features import settings, warehouse
from features.contract import Contract
from features.health.reading import read
from tests.plugins.addresses import NEEDED
from tests.plugins.requests import reader

if TYPE_CHECKING:
    from feature_health.pages import Page

# Of a history of months; of the others a look at all rows costs nothing.
LARGE = frozenset({"drift_reports", "sketches", "parity_audits", "drift_self_tests"})


@dataclass(frozen=True)
class Asked:
    """A query with its parameters."""

    query: sql.Composable | str
    parameters: Any

    @property
    def text(self) -> str:
        """For messages."""
        return " ".join(str(self.query).split())[:300]

    def plan(self, connection: warehouse.Connection, options: str = "") -> dict[str, Any]:
        """PostgreSQL's plan of it.

        Args:
            options: of `explain` beside the format, each followed by a comma.
        """
        query = sql.SQL(self.query) if isinstance(self.query, str) else self.query
        explained = sql.SQL(f"explain ({options} format json) ") + query
        row = connection.execute(explained, self.parameters).fetchone()
        assert row is not None
        return dict(row["QUERY PLAN"][0]["Plan"])


def pages_by_name() -> dict[str, "Page"]:
    """Every page that has a module under feature_health.views."""
    from feature_health import views

    modules = (import_module(f"{views.__name__}.{found.name}") for found in pkgutil.iter_modules(views.__path__))
    pages = [module.PAGE for module in modules if hasattr(module, "PAGE")]
    return {page.name: page for page in pages}


def queries_of(name: str, contract: Contract, database: str, **parameters: str) -> list[Asked]:
    """What a page asks a database when it is opened at the end of the history."""
    page = pages_by_name()[name]
    asked = page.asked.model_validate(NEEDED.get(name, {}) | parameters)
    with _connected_to(database), noted() as queries, read() as connection:
        page.document(connection, contract, asked, reader(is_now=False))
    return queries


@contextmanager
def _connected_to(database: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "WAREHOUSE_DATABASE", database)
        yield


@contextmanager
def noted() -> Iterator[list[Asked]]:
    """Lists what is asked while its block runs, in order."""
    queries: list[Asked] = []
    execute = psycopg.Cursor.execute

    def noting(cursor: Any, query: Any, parameters: Any = None, **options: Any) -> Any:
        queries.append(Asked(query, parameters))
        return execute(cursor, query, parameters, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", noting)
        yield queries


def steps_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan and all that is under it."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from steps_of(below)


def pages_touched(plan: dict[str, Any]) -> int:
    """Of 8 kB, in memory or not; of a plan with buffers."""
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
