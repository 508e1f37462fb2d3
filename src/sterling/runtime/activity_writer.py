"""The reference writer of the activity file: this machine's own signals, told to another.

What this machine cannot read is written as active, so that a writer without
sources never lets another machine start heavy work.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.clock import Clock, SystemClock
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.signal_file import Activity, write_activity
from sterling.runtime.signal_sources import person_sources
from sterling.runtime.signals import Signal, Signals, State, sample

__all__ = ["Told", "write_once", "write_repeatedly"]


@dataclass(frozen=True, slots=True)
class Told:
    """What a person says instead of the sources; None leaves it to them."""

    idle_ms: int | None = None
    active: bool | None = None
    fullscreen: bool | None = None
    machine: str | None = None


def write_repeatedly(
    path: Path, told: Told, *, every_ms: int, count: int, clock: Clock | None = None
) -> Activity:
    """Write `count` times (0: until interrupted), `every_ms` apart; gives the last version.

    Errors: ActivityRefused, ActivityUnwritable.
    """
    sources = person_sources()
    steady = clock or SystemClock()
    written = 0
    while True:
        last = write_once(path, told, sample(sources, steady), steady)
        written += 1
        if count and written >= count:
            return last
        time.sleep(every_ms / 1000)


def write_once(path: Path, told: Told, signals: Signals, clock: Clock) -> Activity:
    """Write one version: what is told, else what the signals say."""
    idle_ms = signals.idle_ms if told.idle_ms is None else told.idle_ms
    active = signals.active
    if told.idle_ms is not None:
        active = told.idle_ms < GovernorSettings().active_ms
    if told.active is not None:
        active = told.active
    screen = signals.reading(Signal.FULLSCREEN)
    known = screen is not None and screen.state is State.FRESH
    fullscreen = signals.fullscreen if known else None
    charge = signals.reading(Signal.CHARGE_BP)
    has_charge = charge is not None and charge.state is not State.MISSING
    return write_activity(
        path,
        idle_ms=idle_ms,
        active=active,
        wall_us=clock.wall_us(),
        machine=told.machine or socket.gethostname() or "unnamed",
        fullscreen=fullscreen if told.fullscreen is None else told.fullscreen,
        power="battery" if signals.on_battery else "mains",
        charge_bp=signals.charge_bp if has_charge else None,
    )
