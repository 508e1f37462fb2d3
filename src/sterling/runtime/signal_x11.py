"""X11: how long ago a person touched keyboard or mouse, and whether a window fills the screen.

Idle time comes from the screen-saver extension. A window counts as full-screen
when it says so (`_NET_WM_STATE_FULLSCREEN`), or when it covers a whole monitor and
has no decoration; desktops and panels do not count.

Under Wayland an X display sees only the programs that still use X. There a
full-screen window is believed, its absence is not, and idle time is not given.
No display, or one that does not let us in, is `missing`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from sterling.runtime.reasons import Reason
from sterling.runtime.signals import Reading, Signal, State, SteadyClock, missing
from sterling.runtime.x11_wire import Connection, X11Refused, connect, display_number, list_displays

__all__ = ["X11Source"]

_RETRY_US = 5_000_000
_QUERY_INFO = 1
_RANDR_VERSION = 0
_RANDR_MONITORS = 42
_NOT_APPLICATIONS = (b"_NET_WM_WINDOW_TYPE_DESKTOP", b"_NET_WM_WINDOW_TYPE_DOCK")
_MOTIF_DECORATIONS = 2


class X11Source:
    """Reads one display: `DISPLAY`, else the only one whose socket is there."""

    def __init__(self, environment: Mapping[str, str], *, folder: Path = Path("/tmp/.X11-unix")) -> None:
        self._environment = environment
        self._folder = folder
        self._connection: Connection | None = None
        self._saver: int | None = None
        self._nested = False
        self._retry_us = 0

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def read(self, clock: SteadyClock) -> Sequence[Reading]:
        now_us = clock.boot_us()
        number = self._number()
        source = "x11" if number is None else f"x11 :{number}"
        if number is None or (self._connection is None and now_us < self._retry_us):
            return self._nothing(source, now_us)
        try:
            if self._connection is None:
                self._open(number)
            return self._look(source, now_us)
        except (OSError, struct.error, IndexError):
            self.close()
            self._retry_us = now_us + _RETRY_US
            return self._nothing(source, now_us)

    def _number(self) -> int | None:
        display = self._environment.get("DISPLAY", "")
        if display:
            return display_number(display)
        found = list_displays(self._folder)
        return found[0] if len(found) == 1 else None

    def _open(self, number: int) -> None:
        home = Path(self._environment.get("HOME", "/"))
        authority = Path(self._environment.get("XAUTHORITY") or home / ".Xauthority")
        self._connection = connect(number, folder=self._folder, authority=authority)
        self._saver = self._connection.extension(b"MIT-SCREEN-SAVER")
        wayland = (
            self._environment.get("WAYLAND_DISPLAY") or self._environment.get("XDG_SESSION_TYPE") == "wayland"
        )
        self._nested = bool(wayland) or self._connection.extension(b"XWAYLAND") is not None

    def _look(self, source: str, now_us: int) -> Sequence[Reading]:
        filled = self._is_filled()
        if self._nested and not filled:
            return self._nothing(source, now_us)
        screen = Reading(Signal.FULLSCREEN, filled, source, now_us)
        if self._nested or self._saver is None:
            return (missing(Signal.IDLE_MS, source, now_us), screen)
        return (Reading(Signal.IDLE_MS, self._idle_ms(self._saver), source, now_us), screen)

    def _nothing(self, source: str, now_us: int) -> Sequence[Reading]:
        return (
            missing(Signal.IDLE_MS, source, now_us),
            Reading(
                Signal.FULLSCREEN, None, source, now_us, State.MISSING, Reason.SIGNAL_NO_FULLSCREEN_SOURCE
            ),
        )

    def _idle_ms(self, saver: int) -> int:
        display = self._display()
        reply = display.ask(saver, _QUERY_INFO, struct.pack("<I", display.root))
        idle_ms: int = struct.unpack_from("<I", reply, 16)[0]
        return idle_ms

    def _is_filled(self) -> bool:
        """Whether the window that the person uses fills a monitor."""
        display = self._display()
        active = display.numbers(display.root, b"_NET_ACTIVE_WINDOW")
        window = active[0] if active and active[0] else display.focus()
        if window in (0, 1, display.root):
            return False
        try:
            if display.atom(b"_NET_WM_STATE_FULLSCREEN") in display.numbers(window, b"_NET_WM_STATE"):
                return True
            kinds = display.numbers(window, b"_NET_WM_WINDOW_TYPE")
            if any(display.atom(kind) in kinds for kind in _NOT_APPLICATIONS):
                return False
            return not self._is_decorated(window) and self._covers_monitor(window)
        except X11Refused:
            return False  # The window closed while we looked; the next look sees what is there.

    def _is_decorated(self, window: int) -> bool:
        display = self._display()
        frame = display.numbers(window, b"_NET_FRAME_EXTENTS")
        hints = display.numbers(window, b"_MOTIF_WM_HINTS")
        if any(frame):
            return True
        return len(hints) > 2 and bool(hints[0] & _MOTIF_DECORATIONS) and hints[2] != 0

    def _covers_monitor(self, window: int) -> bool:
        x, y, width, height = self._display().geometry(window)
        return any(
            x <= left and y <= top and x + width >= left + wide and y + height >= top + high
            for left, top, wide, high in self._monitors()
        )

    def _monitors(self) -> list[tuple[int, int, int, int]]:
        """(left, top, width, height) of each monitor; the whole screen where nobody can tell."""
        display = self._display()
        whole = [(0, 0, display.width, display.height)]
        code = display.extension(b"RANDR")
        if code is None:
            return whole
        version = struct.unpack_from("<II", display.ask(code, _RANDR_VERSION, struct.pack("<II", 1, 5)), 8)
        if version < (1, 5):
            return whole
        reply = display.ask(code, _RANDR_MONITORS, struct.pack("<IBxxx", display.root, 1))
        count = struct.unpack_from("<I", reply, 12)[0]
        found: list[tuple[int, int, int, int]] = []
        offset = 32
        for _ in range(count):
            outputs, left, top, wide, high = struct.unpack_from("<HhhHH", reply, offset + 6)
            found.append((left, top, wide, high))
            offset += 24 + 4 * outputs
        return found or whole

    def _display(self) -> Connection:
        assert self._connection is not None, "a look needs a connection"
        return self._connection
