"""Instants in addresses, as pages ask for them: `as_of=2013-11-05T00:00:00Z`."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer

# Far enough from what a datetime can hold for every time zone and every window of a page.
EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def key_of(instant: datetime) -> str:
    """An instant as addresses and anchors say it.

    >>> key_of(datetime(2013, 11, 5, tzinfo=UTC))
    '2013-11-05T00:00:00Z'
    """
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _in_utc(value: datetime) -> datetime:
    # A partition key of Airflow has no offset and is in UTC.
    given = value if value.tzinfo else value.replace(tzinfo=UTC)
    if not EARLIEST < given < LATEST:
        raise ValueError(f"it is not between {EARLIEST.year} and {LATEST.year}")
    return given.astimezone(UTC)


Instant = Annotated[datetime, AfterValidator(_in_utc), PlainSerializer(key_of)]
