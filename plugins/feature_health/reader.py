"""Who reads a page: by which clock, in which time zone and language."""

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from urllib.parse import unquote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel import Locale, UnknownLocaleError
from fastapi import Request
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

from features.errors import SkewlessError

# Set by the script from what is chosen in Airflow; without a script the pages are in UTC.
ZONE_COOKIE = "feature_health_zone"
LANGUAGE_COOKIE = "feature_health_language"


class Misread(SkewlessError):
    """An address says something that no page understands."""


@dataclass(frozen=True)
class Reader:
    """What numbers and times look like to the person who asked.

    Attributes:
        at: the clock, up to which ages are counted.
        is_now: whether that is the real one.
    """

    at: datetime
    is_now: bool
    zone: tzinfo
    zone_name: str
    locale: Locale

    @classmethod
    def of(cls, request: Request) -> "Reader":
        """From the address, the cookies and the browser's languages."""
        chosen = request.query_params.get("at")
        zone, name = _zone(_cookie(request, ZONE_COOKIE))
        return cls(
            at=_instant(chosen, zone) if chosen else datetime.now(UTC),
            is_now=not chosen,
            zone=zone,
            zone_name=name,
            locale=_locale(request),
        )

    @classmethod
    def by_default(cls) -> "Reader":
        """Now, in UTC, in English; for whom nothing else can be understood."""
        return cls(at=datetime.now(UTC), is_now=True, zone=UTC, zone_name="UTC", locale=Locale("en"))


def _instant(text: str, zone: tzinfo) -> datetime:
    """An instant of the address; without an offset it is in the reader's zone, as the form sends it."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Misread(f"at: {text!r} is not an instant such as 2013-12-24T01:00:00Z.") from None


def _cookie(request: Request, name: str) -> str:
    """As the script wrote it, which encodes what a cookie cannot hold."""
    return unquote(request.cookies.get(name, ""))


def _zone(name: str) -> tuple[tzinfo, str]:
    try:
        return (ZoneInfo(name), name) if name else (UTC, "UTC")
    except (ZoneInfoNotFoundError, ValueError):  # the latter: a name that is a path
        return UTC, "UTC"


def _locale(request: Request) -> Locale:
    """Airflow's language, else the browser's; English, which the pages are in, where neither is known."""
    accepted = parse_accept_header(request.headers.get("accept-language", ""), LanguageAccept)
    for name in (_cookie(request, LANGUAGE_COOKIE), *accepted.values()):
        try:
            if name:
                return Locale.parse(name, sep="-")
        except (UnknownLocaleError, ValueError):
            continue
    return Locale("en")
