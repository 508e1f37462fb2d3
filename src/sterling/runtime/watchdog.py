"""The watchdog: what the times of progress say about a service, and which of it is worth an entry.

Pure. Times come from one clock that only goes forward. A service that should not
work now is never called stalled, and one whose errors repeat is in error whatever
its progress says. Being stalled or in error is told at once and then at most once
a minute; that it ended is always told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "CRASHES_MAX",
    "CRASH_WINDOW_US",
    "FAILURES_MAX",
    "STALL_US",
    "TELL_AGAIN_US",
    "Progress",
    "Started",
    "Told",
    "WatchState",
    "crashes_of_late",
    "delay_after_failures_us",
    "watch",
    "worth_telling",
]

FAILURES_MAX = 5
STALL_US = 300_000_000
TELL_AGAIN_US = 60_000_000
CRASHES_MAX = 3
CRASH_WINDOW_US = 600_000_000
_DELAY_US_MIN = 500_000
_DELAY_US_MAX = 30_000_000


class WatchState(StrEnum):
    """What is true of a watched service."""

    DISABLED = "disabled"
    PAUSED = "paused"
    PENDING = "pending"
    OK = "ok"
    STALLED = "stalled"
    ERROR = "error"


_TROUBLE = (WatchState.STALLED, WatchState.ERROR)


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known: when it began, when it last moved on (None: never), and its errors in a row."""

    started_us: int
    progress_us: int | None = None
    failures: int = 0
    is_enabled: bool = True
    is_paused: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """The state that was last written, and when trouble was last written."""

    state: WatchState = WatchState.OK
    trouble_us: int | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """One start of a service: when, and whether its end was written too."""

    at_us: int
    has_ended: bool


def watch(progress: Progress, now_us: int, *, stall_us: int = STALL_US) -> WatchState:
    """The state now. Without any progress yet, the time counts from the start."""
    if not progress.is_enabled:
        return WatchState.DISABLED
    if progress.failures >= FAILURES_MAX:
        return WatchState.ERROR
    if progress.is_paused:
        return WatchState.PAUSED
    last_us = progress.started_us if progress.progress_us is None else progress.progress_us
    if now_us - last_us >= stall_us:
        return WatchState.STALLED
    return WatchState.PENDING if progress.progress_us is None else WatchState.OK


def worth_telling(told: Told, state: WatchState, now_us: int) -> Told | None:
    """What to remember once this state is written, or None when nothing is to be written."""
    if state in _TROUBLE:
        if told.trouble_us is not None and now_us - told.trouble_us < TELL_AGAIN_US:
            return None
        return Told(state, now_us)
    if told.state in _TROUBLE:
        return Told(state, told.trouble_us)
    return None


def delay_after_failures_us(failures: int) -> int:
    """How long to wait after so many errors in a row: 0.5 s, doubled each time, 30 s at most."""
    assert failures > 0, "there is nothing to wait for without an error"
    return min(_DELAY_US_MAX, _DELAY_US_MIN << min(failures - 1, 32))


def crashes_of_late(starts: Sequence[Started], now_us: int) -> int:
    """How many of these starts fell into the last ten minutes and never came to a written end."""
    return sum(1 for one in starts if not one.has_ended and now_us - one.at_us < CRASH_WINDOW_US)
