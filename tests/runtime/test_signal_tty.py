"""Login terminals: the least idle time that fits, and silence beside a graphical session."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from sterling.runtime.signal_tty import TerminalSource, is_graphical
from sterling.runtime.signals import Reading, Signal, State
from sterling.testing.clock import FakeClock

UTMP = struct.Struct("<hhi32s4s32s256shhiii4i20s")


def _record(kind: int, line: str) -> bytes:
    return UTMP.pack(kind, 0, 1, line.encode(), b"", b"user", b"", 0, 0, 0, 0, 0, 0, 0, 0, 0, b"")


def _login(root: Path, *lines: str, kind: int = 7) -> None:
    (root / "run").mkdir(exist_ok=True)
    (root / "run" / "utmp").write_bytes(b"".join(_record(kind, line) for line in lines))


def _terminal(root: Path, line: str, clock: FakeClock, ago_s: float) -> None:
    path = root / "dev" / line
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    at_ns = clock.wall_us() * 1000 - int(ago_s * 1e9)
    os.utime(path, ns=(at_ns, at_ns))


def _session(root: Path, name: str, text: str) -> None:
    folder = root / "run" / "systemd" / "sessions"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def _read(root: Path, clock: FakeClock, **environment: str) -> dict[Signal, Reading]:
    source = TerminalSource(environment, root=root)
    return {reading.signal: reading for reading in source.read(clock)}


def test_the_youngest_login_terminal_counts(tmp_path: Path) -> None:
    clock = FakeClock()
    _login(tmp_path, "pts/0", "tty2")
    _terminal(tmp_path, "pts/0", clock, 600)
    _terminal(tmp_path, "tty2", clock, 120)

    reading = _read(tmp_path, clock)[Signal.IDLE_MS]

    assert reading.state is State.FRESH and isinstance(reading.value, int)
    assert 112_000 <= reading.value <= 120_000


@pytest.mark.parametrize("ago_s", [0, 1, 7.9, 8])
def test_a_key_within_the_kernels_step_of_eight_seconds_may_be_now(tmp_path: Path, ago_s: float) -> None:
    clock = FakeClock(wall_us=1_700_000_000_000_000 + 7_999_999)
    _login(tmp_path, "tty1")
    _terminal(tmp_path, "tty1", clock, ago_s)

    value = _read(tmp_path, clock)[Signal.IDLE_MS].value

    assert isinstance(value, int) and value <= ago_s * 1000


def test_a_clock_that_was_set_back_never_makes_idle(tmp_path: Path) -> None:
    clock = FakeClock()
    _login(tmp_path, "tty1")
    _terminal(tmp_path, "tty1", clock, -86_400)

    assert _read(tmp_path, clock)[Signal.IDLE_MS].value == 0


def test_terminals_nobody_logged_in_on_do_not_count(tmp_path: Path) -> None:
    clock = FakeClock()
    _login(tmp_path, "pts/5", kind=8)
    _terminal(tmp_path, "pts/5", clock, 1)

    assert _read(tmp_path, clock)[Signal.IDLE_MS].state is State.MISSING


def test_sessions_of_the_login_service_count_without_utmp(tmp_path: Path) -> None:
    clock = FakeClock()
    _session(tmp_path, "1", "TYPE=tty\nTTY=pts/3\nSTATE=active\n")
    _session(tmp_path, "2", "TYPE=tty\nTTY=pts/4\nSTATE=closing\n")
    _terminal(tmp_path, "pts/3", clock, 100)
    _terminal(tmp_path, "pts/4", clock, 1)

    value = _read(tmp_path, clock)[Signal.IDLE_MS].value

    assert isinstance(value, int) and value >= 92_000


@pytest.mark.parametrize("size", [1, 383, 385])
def test_a_torn_utmp_is_unreadable(tmp_path: Path, size: int) -> None:
    _login(tmp_path, "pts/0")
    data = (tmp_path / "run" / "utmp").read_bytes() * 2
    (tmp_path / "run" / "utmp").write_bytes(data[:size])

    assert _read(tmp_path, FakeClock())[Signal.IDLE_MS].state is State.UNREADABLE


@pytest.mark.parametrize("line", ["../etc/passwd", "/etc/passwd", ":0", "", "."])
def test_a_line_that_leads_elsewhere_is_not_followed(tmp_path: Path, line: str) -> None:
    _login(tmp_path, line)

    assert _read(tmp_path, FakeClock())[Signal.IDLE_MS].state is State.MISSING


def test_without_a_graphical_session_nothing_is_full_screen(tmp_path: Path) -> None:
    screen = _read(tmp_path, FakeClock())[Signal.FULLSCREEN]

    assert (screen.value, screen.state) == (False, State.FRESH)


@pytest.mark.parametrize(("ago_s", "active"), [(0, True), (60, False)])
def test_beside_a_desktop_a_terminal_can_say_active_and_no_more(
    tmp_path: Path, ago_s: int, active: bool
) -> None:
    clock = FakeClock()
    _login(tmp_path, "pts/0")
    _terminal(tmp_path, "pts/0", clock, ago_s)

    readings = _read(tmp_path, clock, WAYLAND_DISPLAY="wayland-0")

    assert Signal.IDLE_MS not in readings
    assert readings[Signal.ACTIVE].value is active
    assert readings[Signal.FULLSCREEN].code == "signal.no-fullscreen-source"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("run/systemd/sessions/3", "TYPE=wayland\nSTATE=active\n"),
        ("tmp/.X11-unix/X0", ""),
        ("run/user/1000/wayland-0", ""),
        ("proc/version", "Linux version 5.15 (Microsoft@Microsoft.com)"),
    ],
)
def test_every_trace_of_a_desktop_counts(tmp_path: Path, path: str, text: str) -> None:
    assert not is_graphical(tmp_path, {})
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(text)

    assert is_graphical(tmp_path, {})
