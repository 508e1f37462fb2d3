"""Moments between the outside and the record: ISO 8601 text, zones, text for people.

Inside, a moment is an `int` of microseconds UTC. Outside, it is text with an
offset, or text without one together with an IANA zone. Nothing here reads a clock.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from sterling.kernel.errors import EXIT_USAGE, SterlingError

__all__ = ["MomentInvalid", "ZoneUnknown", "civil", "is_zone", "moment_text", "moment_us", "zone_of"]

_EARLIEST_US = 0
_LATEST_US = 253_370_764_800_000_000  # The year 9999.


class MomentInvalid(SterlingError):
    """A text is not a moment in ISO 8601."""

    code = "recall.moment-invalid"
    hint = "Write a moment as 2026-03-02T14:05:00+01:00. See `sterling ask --help`."
    exit = EXIT_USAGE


class ZoneUnknown(SterlingError):
    """A name is not a time zone."""

    code = "recall.zone-unknown"
    hint = "Name an IANA zone such as Europe/Berlin. See `sterling ask --help`."
    exit = EXIT_USAGE


@lru_cache(maxsize=64)
def zone_of(name: str) -> ZoneInfo:
    """The zone of an IANA name. Errors: ZoneUnknown."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError) as problem:  # ZoneInfoNotFoundError is a KeyError on some versions.
        raise ZoneUnknown(f"expected an IANA time zone, found {name!r}", zone=name) from problem
    except KeyError as problem:
        raise ZoneUnknown(f"expected an IANA time zone, found {name!r}", zone=name) from problem


def is_zone(name: str) -> bool:
    """Whether this names an IANA time zone."""
    try:
        zone_of(name)
    except ZoneUnknown:
        return False
    return True


def moment_us(text: str, zone: str) -> int:
    """The moment that an ISO 8601 text names; text without an offset is civil time in `zone`.

    Errors: MomentInvalid, ZoneUnknown.
    """
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as problem:
        raise MomentInvalid(
            f"expected a moment in ISO 8601, found {text[:80]!r}", text=text[:80]
        ) from problem
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=zone_of(zone))
    try:
        whole = parsed.astimezone(UTC)
    except OverflowError as problem:
        raise MomentInvalid(f"expected a moment after 1970, found {text[:80]!r}", text=text[:80]) from problem
    since = whole - datetime(1970, 1, 1, tzinfo=UTC)
    found = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    if not _EARLIEST_US <= found < _LATEST_US:
        raise MomentInvalid(f"expected a moment after 1970, found {text[:80]!r}", text=text[:80])
    return found


def civil(at_us: int, zone: str) -> datetime:
    """A moment as civil time in a zone."""
    seconds, rest = divmod(at_us, 1_000_000)
    return datetime.fromtimestamp(seconds, tz=zone_of(zone)).replace(microsecond=rest)


def moment_text(at_us: int, zone: str) -> str:
    """A moment for people and programs: ISO 8601 with offset, to the second."""
    return civil(at_us, zone).isoformat(timespec="seconds")
