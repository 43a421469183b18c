"""Numbers and times as a reader sees them: Airflow's way of writing times, the reader's way of writing numbers."""

import math
from datetime import datetime, timedelta

from babel import numbers
from typing_extensions import TypeIs

from feature_health.reader import Reader

NOTHING = "\u2013"


class Formats:
    """What templates and charts call to write a value; None and NaN are a dash."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def count(self, value: float | None) -> str:
        """A whole number with its groups: 3,456."""
        return numbers.format_decimal(value, "#,##0", locale=self._reader.locale) if _is_known(value) else NOTHING

    def number(self, value: float | None, digits: int = 4) -> str:
        """Four significant digits: 0.8182, 1,234, 0.0001."""
        if not _is_known(value):
            return NOTHING
        if math.isinf(value):
            return "∞" if value > 0 else "-∞"
        places = 0 if value == 0 else max(0, digits - 1 - math.floor(math.log10(abs(value))))
        if places > 8 or abs(value) >= 1e12:
            return numbers.format_scientific(value, f"0.{'#' * (digits - 1)}E0", locale=self._reader.locale)
        return numbers.format_decimal(round(value, places), f"#,##0.{'#' * places}", locale=self._reader.locale)

    def metric(self, value: float | None) -> str:
        """Three places, so that numbers of a column line up: 0.818."""
        return numbers.format_decimal(value, "0.000", locale=self._reader.locale) if _is_known(value) else NOTHING

    def share(self, value: float | None) -> str:
        """Per cent with one place; what is there is never 0 %."""
        if not _is_known(value):
            return NOTHING
        if 0 < abs(value) <= 0.0005:
            return f"<{numbers.format_percent(0.001, '0.0%', locale=self._reader.locale)}"
        return numbers.format_percent(value, "0.0%", locale=self._reader.locale)

    def time(self, value: datetime | None) -> str:
        """2013-07-02 00:00, in the reader's zone, with seconds where there are any."""
        if value is None:
            return NOTHING
        local = value.astimezone(self._reader.zone)
        return f"{local:%Y-%m-%d %H:%M:%S}" if local.second else f"{local:%Y-%m-%d %H:%M}"

    def iso(self, value: datetime | None) -> str:
        """For machines."""
        return value.isoformat() if value else ""

    def age(self, value: datetime | None) -> str:
        """How long ago by the clock: 3 h 20 min ago, in 2 d 4 h."""
        if value is None:
            return NOTHING
        gone = self._reader.at - value
        text = self.duration(abs(gone))
        return f"{text} ago" if gone >= timedelta() else f"in {text}"

    def duration(self, value: timedelta | None) -> str:
        """Two units: 35 s, 3 h 20 min, 12 d 4 h, 3 y 40 d."""
        if value is None:
            return NOTHING
        seconds = round(value.total_seconds())
        units = (("y", 365 * 86400), ("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
        parts: list[tuple[int, str]] = []
        for name, size in units:
            if seconds >= size or (name == "s" and not parts):
                parts.append((seconds // size, name))
                seconds %= size
            elif parts:
                parts.append((0, name))
        return " ".join(f"{self.count(n)} {name}" for n, name in parts[:2] if n or len(parts) == 1)

    def days(self, value: float | None) -> str:
        """Days with one place."""
        if not _is_known(value):
            return NOTHING
        return f"{numbers.format_decimal(value, '#,##0.#', locale=self._reader.locale)} d"

    def interval(self, low: float | None, high: float | None) -> str:
        """Two bounds of a metric."""
        return f"{self.metric(low)} to {self.metric(high)}" if _is_known(low) and _is_known(high) else NOTHING

    def estimate(self, value: float | None, low: float | None, high: float | None) -> str:
        """A metric with its interval: 0.824 (0.816 to 0.833)."""
        bounds = self.interval(low, high)
        return self.metric(value) if bounds == NOTHING else f"{self.metric(value)} ({bounds})"


def _is_known(value: float | None) -> TypeIs[float]:
    """A number; what is not one is narrowed to None, although it may be NaN: both are written as a dash."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))
