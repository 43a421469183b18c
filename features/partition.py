"""The partition key of a Dag run *is* as_of: an hour in UTC, written 2013-07-01T00:00:00."""

from datetime import UTC, datetime

from features.errors import SkewlessError


def parse_as_of(key: str | None) -> datetime:
    """The instant a partition key names.

    >>> parse_as_of("2013-07-01T00:00:00")
    datetime.datetime(2013, 7, 1, 0, 0, tzinfo=datetime.timezone.utc)
    >>> parse_as_of("2013-07-01T02:00:00+02:00") == parse_as_of("2013-07-01T00:00:00")
    True

    Raises:
        SkewlessError: when the run has no key, or one that is no instant on the hour.
    """
    if not key:
        raise SkewlessError(
            "This run has no partition key, so there is no as_of to compute. Trigger materialize_features with a "
            "partition key such as 2013-07-01T00:00:00; the other Dags follow from it."
        )
    try:
        as_of = datetime.fromisoformat(key)
        as_of = as_of.replace(tzinfo=UTC) if as_of.tzinfo is None else as_of.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter: in UTC it would be before the year 1 or after 9999
        raise SkewlessError(f"Partition key {key!r} is not an instant such as 2013-07-01T00:00:00 (UTC).") from None
    if (as_of.minute, as_of.second, as_of.microsecond) != (0, 0, 0):
        raise SkewlessError(f"Partition key {key!r} is not on the hour; features are published hourly.")
    return as_of


def format_key(as_of: datetime) -> str:
    """The partition key of an instant.

    >>> format_key(parse_as_of("2013-07-01T02:00:00+02:00"))
    '2013-07-01T00:00:00'
    """
    return as_of.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
