"""The embedded servers: PostgreSQL is the warehouse, Redis answers online reads."""

from features.local import postgres, redis


def start() -> list[str]:
    """Starts those that are wanted and do not run yet. Returns the names of those that this call started."""
    return [name for name, start_one in (("PostgreSQL", postgres.start), ("Redis", redis.start)) if start_one()]


def stop(names: list[str] | None = None) -> list[str]:
    """Stops them, or only those named. Returns the names of those that were running."""
    stops = {"PostgreSQL": postgres.stop, "Redis": redis.stop}
    return [name for name, stop_one in stops.items() if (names is None or name in names) and stop_one()]
