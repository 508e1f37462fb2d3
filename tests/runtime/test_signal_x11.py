"""X11 readings from a real virtual display, and from servers that are not what they seem."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sterling.kernel.clock import SystemClock
from sterling.runtime.signal_x11 import X11Source
from sterling.runtime.signals import Reading, Signal, State
from sterling.runtime.x11_wire import Connection, connect, display_number, list_displays
from sterling.testing.clock import FakeClock

SOCKETS = Path("/tmp/.X11-unix")
_CREATE_WINDOW, _MAP_WINDOW, _DESTROY_WINDOW, _SET_FOCUS = 1, 8, 4, 42
_CHANGE_PROPERTY, _INTERN_ATOM = 18, 16
_ATOM, _WINDOW, _CARDINAL = 4, 33, 6


@pytest.fixture(scope="module")
def display() -> Iterator[int]:
    """A virtual display of 800 x 600 that chooses its own number."""
    if shutil.which("Xvfb") is None:
        pytest.skip("needs Xvfb")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "800x600x24", "-nolisten", "tcp", "-noreset"],
        pass_fds=(writing,),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as answer:
            yield int(answer.readline())
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def person(display: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Person]:
    bases: list[int] = []
    plain = Connection.__init__

    def noting(self: Connection, stream: socket.socket, setup: bytes) -> None:
        plain(self, stream, setup)
        bases.append(struct.unpack_from("<I", setup, 4)[0])

    # The product makes no windows, so it does not keep the ids that the greeting allows.
    monkeypatch.setattr(Connection, "__init__", noting)
    made = _Person(connect(display, folder=SOCKETS, authority=Path("/none")), bases[0])
    yield made
    made.wire.close()


@pytest.fixture
def source(display: int) -> Iterator[X11Source]:
    made = X11Source({"DISPLAY": f":{display}", "HOME": "/none"})
    yield made
    made.close()


class _Person:
    """Somebody with windows and a mouse on the display."""

    def __init__(self, wire: Connection, base: int) -> None:
        self.wire = wire
        self._next = base

    def atom(self, name: bytes) -> int:
        body = struct.pack("<HH", len(name), 0) + name
        return int(struct.unpack_from("<I", self.wire.ask(_INTERN_ATOM, 0, body), 8)[0])

    def window(self, x: int, y: int, width: int, height: int) -> int:
        self._next += 1
        identity = self._next
        body = struct.pack("<IIhhHHHHII", identity, self.wire.root, x, y, width, height, 0, 1, 0, 0)
        self.wire.tell(_CREATE_WINDOW, 0, body)
        self.wire.tell(_MAP_WINDOW, 0, struct.pack("<I", identity))
        self.say(self.wire.root, b"_NET_ACTIVE_WINDOW", _WINDOW, [identity])
        return identity

    def say(self, window: int, name: bytes, kind: int, values: list[int]) -> None:
        body = struct.pack("<IIIBxxxI", window, self.atom(name), kind, 32, len(values))
        self.wire.tell(_CHANGE_PROPERTY, 0, body + struct.pack(f"<{len(values)}I", *values))
        self.settle()

    def close(self, window: int) -> None:
        self.wire.tell(_DESTROY_WINDOW, 0, struct.pack("<I", window))
        self.settle()

    def move_mouse(self) -> None:
        code = self.wire.extension(b"XTEST")
        assert code is not None
        event = struct.pack("<BBxxII8xhh7xB", 6, 0, 0, self.wire.root, 40, 40, 0)
        self.wire.tell(code, 2, event)
        self.settle()

    def settle(self) -> None:
        """Ask something, so that all requests before it have been carried out."""
        self.wire.focus()


def _look(source: X11Source) -> dict[Signal, Reading]:
    return {reading.signal: reading for reading in source.read(SystemClock())}


def test_moving_the_mouse_drops_idle_time_below_300_ms(source: X11Source, person: _Person) -> None:
    person.move_mouse()

    idle = _look(source)[Signal.IDLE_MS]

    assert idle.state is State.FRESH
    assert isinstance(idle.value, int) and idle.value < 300


def test_a_window_that_says_full_screen_counts_at_the_next_look(source: X11Source, person: _Person) -> None:
    window = person.window(10, 10, 200, 100)
    before = _look(source)[Signal.FULLSCREEN].value
    person.say(window, b"_NET_WM_STATE", _ATOM, [person.atom(b"_NET_WM_STATE_FULLSCREEN")])
    during = _look(source)[Signal.FULLSCREEN].value
    person.close(window)
    after = _look(source)[Signal.FULLSCREEN].value

    assert (before, during, after) == (False, True, False)


def test_a_window_without_decoration_that_covers_the_monitor_counts(
    source: X11Source, person: _Person
) -> None:
    window = person.window(0, 0, 800, 600)
    bare = _look(source)[Signal.FULLSCREEN].value
    person.say(window, b"_NET_FRAME_EXTENTS", _CARDINAL, [1, 1, 20, 1])
    decorated = _look(source)[Signal.FULLSCREEN].value
    person.close(window)

    assert (bare, decorated) == (True, False)


@pytest.mark.parametrize("size", [(799, 600), (800, 599)])
def test_a_window_that_leaves_a_strip_free_does_not_count(
    source: X11Source, person: _Person, size: tuple[int, int]
) -> None:
    window = person.window(0, 0, *size)
    value = _look(source)[Signal.FULLSCREEN].value
    person.close(window)

    assert value is False


@pytest.mark.parametrize("kind", [b"_NET_WM_WINDOW_TYPE_DESKTOP", b"_NET_WM_WINDOW_TYPE_DOCK"])
def test_the_desktop_itself_does_not_count(source: X11Source, person: _Person, kind: bytes) -> None:
    window = person.window(0, 0, 800, 600)
    person.say(window, b"_NET_WM_WINDOW_TYPE", _ATOM, [person.atom(kind)])
    value = _look(source)[Signal.FULLSCREEN].value
    person.close(window)

    assert value is False


def test_an_active_window_that_is_gone_is_no_full_screen_and_no_crash(
    source: X11Source, person: _Person
) -> None:
    person.say(person.wire.root, b"_NET_ACTIVE_WINDOW", _WINDOW, [0x7FFFFF])

    readings = _look(source)

    assert readings[Signal.FULLSCREEN].value is False
    assert _look(source)[Signal.IDLE_MS].state is State.FRESH


def test_under_wayland_only_a_full_screen_window_is_believed(display: int, person: _Person) -> None:
    source = X11Source({"DISPLAY": f":{display}", "WAYLAND_DISPLAY": "wayland-0"})
    quiet = _look(source)
    window = person.window(0, 0, 800, 600)
    filled = _look(source)
    person.close(window)
    source.close()

    assert {reading.state for reading in quiet.values()} == {State.MISSING}
    assert quiet[Signal.FULLSCREEN].code == "signal.no-fullscreen-source"
    assert filled[Signal.FULLSCREEN].value is True
    assert filled[Signal.IDLE_MS].state is State.MISSING


# Displays that are not there or not what they seem


@pytest.mark.parametrize("shown", ["", ":99", "far:0", "nonsense", ":", ":x", "::1"])
def test_no_display_of_this_machine_is_missing(tmp_path: Path, shown: str) -> None:
    source = X11Source({"DISPLAY": shown}, folder=tmp_path)

    assert {reading.state for reading in source.read(FakeClock())} == {State.MISSING}


def test_two_displays_and_no_name_is_missing(tmp_path: Path) -> None:
    (tmp_path / "X0").touch()
    (tmp_path / "X1").touch()

    assert list_displays(tmp_path) == [0, 1]
    source = X11Source({}, folder=tmp_path)
    assert source.read(FakeClock())[0].source == "x11"


@pytest.mark.parametrize(("shown", "number"), [(":0", 0), (":1.0", 1), ("unix:2", 2), ("host:0", None)])
def test_the_number_of_a_display(shown: str, number: int | None) -> None:
    assert display_number(shown) == number


def _greeting(root: int = 5) -> bytes:
    screen = struct.pack("<IIIIIHH", root, 0, 0, 0, 0, 800, 600) + bytes(16)
    body = struct.pack("<IIIIHHBBBBBBBBxxxx", 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0) + screen
    return struct.pack("<BxHHH", 1, 11, 0, len(body) // 4) + body


ANSWERS: dict[str, bytes] = {
    "nothing": b"",
    "a refusal": struct.pack("<BBHHH", 0, 4, 11, 0, 1) + b"none",
    "half a greeting": _greeting()[:30],
    "a short greeting": struct.pack("<BxHHH", 1, 11, 0, 1) + b"xxxx",
    "noise": bytes(range(256)) * 4,
    "a greeting, then nothing": _greeting(),
    "a greeting, then an error": _greeting() + bytes(32),
    "a greeting, then a huge reply": _greeting() + struct.pack("<BxHI24x", 1, 1, 1 << 30),
    "a greeting, then half a reply": _greeting() + b"\1" + bytes(10),
}


@contextlib.contextmanager
def _server(folder: Path, answer: bytes) -> Iterator[None]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(folder / "X7"))
    listener.listen(1)

    def serve() -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            with client:
                client.recv(65_536)
                client.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.close()
        thread.join(5)


@pytest.mark.parametrize("name", list(ANSWERS))
def test_a_server_that_is_not_a_display_is_missing(tmp_path: Path, name: str) -> None:
    source = X11Source({"DISPLAY": ":7", "HOME": str(tmp_path)}, folder=tmp_path)

    with _server(tmp_path, ANSWERS[name]):
        readings = source.read(FakeClock())

    assert {reading.state for reading in readings} == {State.MISSING}


def test_a_display_that_failed_is_asked_again_after_five_seconds(display: int, tmp_path: Path) -> None:
    clock = FakeClock()
    source = X11Source({"DISPLAY": f":{display}"}, folder=tmp_path)
    first = source.read(clock)[0].state
    (tmp_path / f"X{display}").symlink_to(SOCKETS / f"X{display}")
    clock.advance(4_999_999)
    early = source.read(clock)[0].state
    clock.advance(1)
    late = source.read(clock)[0].state
    source.close()

    assert (first, early, late) == (State.MISSING, State.MISSING, State.FRESH)


@pytest.mark.parametrize("data", [b"", b"\1", b"\1\0\0\4", b"\1\0\0\1h\0\1" + b"0" * 3, b"\xff" * 40])
def test_a_torn_authority_file_gives_no_cookie_and_no_crash(
    display: int, tmp_path: Path, data: bytes
) -> None:
    authority = tmp_path / "authority"
    authority.write_bytes(data)
    source = X11Source({"DISPLAY": f":{display}", "XAUTHORITY": str(authority)})

    states = {reading.state for reading in source.read(SystemClock())}
    source.close()

    assert states <= {State.FRESH, State.MISSING}
