"""Civil time in a zone becomes half-open windows of microseconds UTC.

A civil day has 23, 24 or 25 hours. A local time that the clocks skip moves
forward; one that they repeat is taken from its first to its last occurrence.
Pure: the zone rules are data.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from sterling.packs.recall.moments import civil, zone_of

__all__ = ["MINUTE_US", "Window", "around", "between", "day", "days", "local", "month", "rolling"]

MINUTE_US = 60_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Window:
    """From the first moment to just before the last; None leaves an end open."""

    from_us: int | None
    to_us: int | None

    def holds(self, at_us: int) -> bool:
        """Whether a moment lies in the window."""
        return (self.from_us is None or at_us >= self.from_us) and (self.to_us is None or at_us < self.to_us)

    def meet(self, other: Window) -> Window:
        """The part that both windows share; it may be empty."""
        starts = [start for start in (self.from_us, other.from_us) if start is not None]
        ends = [end for end in (self.to_us, other.to_us) if end is not None]
        return Window(max(starts) if starts else None, min(ends) if ends else None)

    @property
    def is_empty(self) -> bool:
        return self.from_us is not None and self.to_us is not None and self.from_us >= self.to_us


def local(now_us: int, zone: str) -> datetime:
    """Now as civil time."""
    return civil(now_us, zone)


def between(start: datetime, end: datetime, zone: str) -> Window:
    """The window between two civil times without a zone of their own."""
    return Window(_utc_us(start, zone, fold=0), _utc_us(end, zone, fold=1))


def day(which: date, zone: str) -> Window:
    """One civil day."""
    return days(which, which + timedelta(days=1), zone)


def days(first: date, last: date, zone: str) -> Window:
    """From the start of the first day to the start of the last."""
    start, end = datetime.combine(first, time()), datetime.combine(last, time())
    return Window(_utc_us(start, zone, fold=0), _utc_us(end, zone, fold=0))


def month(year: int, number: int, zone: str) -> Window:
    """One civil month."""
    after = date(year + number // 12, number % 12 + 1, 1)
    return days(date(year, number, 1), after, zone)


def rolling(now_us: int, length_us: int) -> Window:
    """The time that ends now, this moment included."""
    return Window(now_us - length_us, now_us + 1)


def around(at_us: int, slack_us: int) -> Window:
    """As long before a moment as after it."""
    return Window(at_us - slack_us, at_us + slack_us)


def _utc_us(naive: datetime, zone: str, *, fold: int) -> int:
    since = naive.replace(tzinfo=zone_of(zone), fold=fold).astimezone(UTC) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
