"""Login terminals: how long ago somebody typed into one, by its access time.

The kernel moves a terminal's access time in steps of eight seconds, so the last
key may be younger than it says by that much; the reading takes the least idle
time that fits. Only terminals somebody logged in on count, not those that
programs open for each other.

Beside a graphical session an untouched terminal proves nothing, so there it can
say `active` and no more. Without a graphical session nothing can be full-screen.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from sterling.runtime.reasons import Reason
from sterling.runtime.signals import Reading, Signal, State, SteadyClock, missing

__all__ = ["TerminalSource", "is_graphical"]

_UTMP = struct.Struct("<hhi32s4s32s256shhiii4i20s")
_USER_PROCESS = 7
_ATIME_STEP_S = 8
_UTMP_BYTES_MAX = 4 * 1024 * 1024
_TYPING_MS = 3_000


class TerminalSource:
    """Reads the access times of the terminals that `utmp` and the session folder name."""

    def __init__(self, environment: Mapping[str, str], *, root: Path = Path("/")) -> None:
        self._root = root
        self._environment = environment

    def read(self, clock: SteadyClock) -> Sequence[Reading]:
        now_us = clock.boot_us()
        source = "login terminals"
        graphical = is_graphical(self._root, self._environment)
        screen = (
            missing(Signal.FULLSCREEN, source, now_us, Reason.SIGNAL_NO_FULLSCREEN_SOURCE)
            if graphical
            else Reading(Signal.FULLSCREEN, False, "no graphical session", now_us)
        )
        try:
            idle_ms = self._idle_ms(clock.wall_us())
        except (OSError, ValueError):
            broken = Reading(Signal.IDLE_MS, None, source, now_us, State.UNREADABLE, Reason.SIGNAL_UNREADABLE)
            return (broken, screen)
        if idle_ms is None:
            return (missing(Signal.IDLE_MS, source, now_us), screen)
        if graphical:
            return (Reading(Signal.ACTIVE, idle_ms < _TYPING_MS, source, now_us), screen)
        return (Reading(Signal.IDLE_MS, idle_ms, source, now_us), screen)

    def _idle_ms(self, wall_us: int) -> int | None:
        """The least time since a key on any login terminal, None without one."""
        youngest: int | None = None
        for line in sorted(self._lines()):
            try:
                status = os.stat(self._root / "dev" / line)
            except FileNotFoundError:
                continue  # The login outlived its terminal.
            last_s = (int(status.st_atime) // _ATIME_STEP_S + 1) * _ATIME_STEP_S
            idle = max(0, wall_us - last_s * 1_000_000) // 1000
            youngest = idle if youngest is None else min(youngest, idle)
        return youngest

    def _lines(self) -> set[str]:
        lines = _utmp_lines(self._root / "run" / "utmp")
        for session in _sessions(self._root):
            lines.add(session.get("TTY", ""))
        return {line for line in lines if _is_terminal_name(line)}


def is_graphical(root: Path, environment: Mapping[str, str]) -> bool:
    """Whether somebody may sit at a graphical desktop of this machine, or of the host around it."""
    if environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"):
        return True
    if any(session.get("TYPE") in ("x11", "wayland", "mir") for session in _sessions(root)):
        return True
    if any((root / "tmp" / ".X11-unix").glob("X*")) or any((root / "run" / "user").glob("*/wayland-*")):
        return True
    try:
        # A guest of Windows cannot see the desktop around it.
        return "microsoft" in (root / "proc" / "version").read_text("utf-8", "replace").lower()
    except OSError:
        return False


def _sessions(root: Path) -> list[dict[str, str]]:
    """The open sessions that the login service describes."""
    found: list[dict[str, str]] = []
    folder = root / "run" / "systemd" / "sessions"
    try:
        names = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return []
    for path in names:
        try:
            text = path.read_text("utf-8", "replace")
        except OSError:
            continue  # The session closed while we looked.
        rows = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        if rows.get("STATE") != "closing":
            found.append(rows)
    return found


def _utmp_lines(path: Path) -> set[str]:
    """The terminals of logged-in users; empty where the file does not exist."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return set()
    if len(data) > _UTMP_BYTES_MAX or len(data) % _UTMP.size:
        raise ValueError(f"expected whole records of {_UTMP.size} bytes, found {len(data)} bytes")
    lines: set[str] = set()
    for record in _UTMP.iter_unpack(data):
        if record[0] == _USER_PROCESS:
            lines.add(record[3].split(b"\0", 1)[0].decode("utf-8", "replace"))
    return lines


def _is_terminal_name(line: str) -> bool:
    """A name below /dev, and nothing that leads elsewhere."""
    return bool(line) and not line.startswith((":", "/", ".")) and ".." not in line
