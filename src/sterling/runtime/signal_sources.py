"""Which sources this machine is asked: one list, from the settings.

The environment says which display a person sits at; it sets nothing else.
"""

from __future__ import annotations

import os
from pathlib import Path

from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.signal_file import ActivityFileSource
from sterling.runtime.signal_host import HostSource
from sterling.runtime.signal_power import PowerSource
from sterling.runtime.signal_tty import TerminalSource
from sterling.runtime.signal_x11 import X11Source
from sterling.runtime.signals import Source

__all__ = ["default_sources", "person_sources"]


def default_sources(settings: GovernorSettings, *, root_pid: int | None = None) -> list[Source]:
    """Every source of this machine; `root_pid` is the top of our own process tree (this process)."""
    sources: list[Source] = [HostSource(root_pid), *person_sources()]
    if settings.activity_file:
        path = Path(settings.activity_file).expanduser()
        sources.append(ActivityFileSource(path, stale_ms=settings.stale_ms))
    return sources


def person_sources() -> list[Source]:
    """The sources that tell of this machine's person and power, which an activity file carries on."""
    return [PowerSource(), TerminalSource(os.environ), X11Source(os.environ)]
