"""What a store counts, for Prometheus."""

from prometheus_client import Counter

ROWS = Counter(
    "skewless_store_rows",
    "Entities that were read, by where their features came from; `nowhere` are those without a row.",
    ["view", "served_from"],
)
STALE = Counter("skewless_store_stale_rows", "Rows that were stale when they were read.", ["view"])
FALLBACKS = Counter(
    "skewless_store_fallbacks",
    "Reads that PostgreSQL answered instead of Redis: it was down, empty, behind, or did not know an entity.",
    ["view", "reason"],
)
