"""Requests and readers for tests that need no server."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from babel import Locale
from fastapi import Request

if TYPE_CHECKING:
    from feature_health.reader import Reader

NOON = datetime(2026, 6, 30, 12, tzinfo=UTC)


def request(query: str = "", headers: dict[str, str] | None = None, path: str = "/overview") -> Request:
    """A GET as the application receives it."""
    given = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    return Request({"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": given})


def reader(at: datetime = NOON, zone: str = "UTC", language: str = "en", *, is_now: bool = True) -> "Reader":
    """Somebody who reads by a given clock."""
    from zoneinfo import ZoneInfo

    from feature_health.reader import Reader

    return Reader(at, is_now, ZoneInfo(zone), zone, Locale.parse(language))
