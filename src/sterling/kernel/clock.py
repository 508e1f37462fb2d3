"""Time as a port: what the wall says, how long the machine has been up, which boot this is.

Deciders get numbers, never a clock. Entry order is the index; time is only a
fact inside an entry.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Microseconds, and the name of this boot."""

    def wall_us(self) -> int: ...

    def boot_us(self) -> int: ...

    def boot_id(self) -> str: ...


class SystemClock:
    """The machine's own clocks. `boot_us` counts sleep too."""

    def wall_us(self) -> int:
        return time.time_ns() // 1000

    def boot_us(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000

    def boot_id(self) -> str:
        return _boot_id()


@functools.cache
def _boot_id() -> str:
    """Read once: a process does not outlive its boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
