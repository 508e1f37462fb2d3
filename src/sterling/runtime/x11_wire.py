"""A few requests of the X11 protocol over a display's own socket.

Xlib ends the whole process when its server goes away, and its error hooks belong
to everybody in the process; a supervisor can afford neither. The dozen requests
that a probe needs are simple enough to send as they are. Every failure is an
`OSError`: refused, cut, late, or an answer that does not fit.

Source: X Window System Protocol, X Consortium Standard, version 11 release 6.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

__all__ = ["Connection", "X11Error", "X11Refused", "connect", "display_number", "list_displays"]

_TIMEOUT_S = 0.5
_REPLY_BYTES_MAX = 1024 * 1024
_LOCAL_FAMILY = 256
_WILD_FAMILY = 65_535
_COOKIE = b"MIT-MAGIC-COOKIE-1"

_GET_GEOMETRY = 14
_INTERN_ATOM = 16
_GET_PROPERTY = 20
_TRANSLATE = 40
_GET_INPUT_FOCUS = 43
_QUERY_EXTENSION = 98


class X11Error(OSError):
    """The display went away or answered with something else."""


class X11Refused(X11Error):
    """The display refused one request, mostly because a window is gone; the connection is sound."""


class Connection:
    """An open connection to one display. `root` is the root window of its first screen."""

    def __init__(self, stream: socket.socket, setup: bytes) -> None:
        self._stream = stream
        self._atoms: dict[bytes, int] = {}
        self._sequence = 0
        (vendor_length,) = struct.unpack_from("<H", setup, 16)
        formats = setup[21]
        screen = 32 + (vendor_length + 3) // 4 * 4 + 8 * formats
        (self.root,) = struct.unpack_from("<I", setup, screen)
        self.width, self.height = struct.unpack_from("<HH", setup, screen + 20)

    def close(self) -> None:
        self._stream.close()

    def extension(self, name: bytes) -> int | None:
        """The request code of an extension, None if the display lacks it."""
        body = struct.pack("<HH", len(name), 0) + _padded(name)
        reply = self.ask(_QUERY_EXTENSION, 0, body)
        return reply[9] if reply[8] else None

    def atom(self, name: bytes) -> int:
        """The number of a name; 0 if nobody on this display uses it yet."""
        if name not in self._atoms:
            body = struct.pack("<HH", len(name), 0) + _padded(name)
            (found,) = struct.unpack_from("<I", self.ask(_INTERN_ATOM, 1, body), 8)
            if not found:
                return 0
            self._atoms[name] = found
        return self._atoms[name]

    def numbers(self, window: int, name: bytes) -> list[int]:
        """A property of 32 bit numbers; empty if the window lacks it."""
        atom = self.atom(name)
        if not atom:
            return []
        body = struct.pack("<IIIII", window, atom, 0, 0, 256)
        reply = self.ask(_GET_PROPERTY, 0, body)
        (count,) = struct.unpack_from("<I", reply, 16)
        if reply[1] != 32:
            return []
        return list(struct.unpack_from(f"<{count}I", reply, 32))

    def geometry(self, window: int) -> tuple[int, int, int, int]:
        """(x, y, width, height) on the root window."""
        reply = self.ask(_GET_GEOMETRY, 0, struct.pack("<I", window))
        width, height = struct.unpack_from("<HH", reply, 16)
        reply = self.ask(_TRANSLATE, 0, struct.pack("<IIhh", window, self.root, 0, 0))
        x, y = struct.unpack_from("<hh", reply, 12)
        return x, y, width, height

    def focus(self) -> int:
        """The window that keys go to; 0 or 1 if it is none in particular."""
        (found,) = struct.unpack_from("<I", self.ask(_GET_INPUT_FOCUS, 0, b""), 8)
        return int(found)

    def ask(self, code: int, detail: int, body: bytes) -> bytes:
        """Send a request and give its whole reply. Events in between are dropped."""
        self.tell(code, detail, body)
        while True:
            head = _exactly(self._stream, 32)
            kind = head[0]
            if kind == 0:
                raise X11Refused(f"expected a reply, found X error {head[1]}")
            if kind != 1:
                continue
            extra = struct.unpack_from("<I", head, 4)[0] * 4
            if extra > _REPLY_BYTES_MAX:
                raise X11Error(f"expected at most {_REPLY_BYTES_MAX} bytes, found {extra}")
            rest = _exactly(self._stream, extra)
            if struct.unpack_from("<H", head, 2)[0] == self._sequence:
                return head + rest

    def tell(self, code: int, detail: int, body: bytes) -> None:
        """Send a request that has no reply."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        length = (4 + len(body) + 3) // 4
        request = struct.pack("<BBH", code, detail, length) + body
        self._stream.sendall(request.ljust(length * 4, b"\0"))


def display_number(display: str) -> int | None:
    """The number in `:0` or `:0.1`; None for a display on another machine."""
    host, _, rest = display.rpartition(":")
    number = rest.partition(".")[0]
    if host not in ("", "unix") or not number.isascii() or not number.isdigit():
        return None
    return int(number)


def list_displays(folder: Path) -> list[int]:
    """The displays whose sockets lie in this folder."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return sorted(int(name[1:]) for name in names if name[:1] == "X" and name[1:].isdigit())


def connect(number: int, *, folder: Path, authority: Path) -> Connection:
    """Open a display of this machine. Errors: OSError."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.settimeout(_TIMEOUT_S)
        stream.connect(str(folder / f"X{number}"))
        name, secret = _credentials(authority, number)
        stream.sendall(
            struct.pack("<BxHHHHxx", ord("l"), 11, 0, len(name), len(secret))
            + _padded(name)
            + _padded(secret)
        )
        head = _exactly(stream, 8)
        setup = _exactly(stream, struct.unpack_from("<H", head, 6)[0] * 4)
        if head[0] != 1:
            raise X11Error("expected to be let in, found a refusal")
        return Connection(stream, setup)
    except (struct.error, IndexError) as problem:
        stream.close()
        raise X11Error("expected an X display, found something else") from problem
    except OSError:
        stream.close()
        raise


def _credentials(authority: Path, number: int) -> tuple[bytes, bytes]:
    """The cookie for this display; empty where there is none."""
    try:
        data = authority.read_bytes()
    except OSError:
        return b"", b""
    offset = 0
    while offset + 2 <= len(data):
        (family,) = struct.unpack_from(">H", data, offset)
        offset += 2
        fields: list[bytes] = []
        for _ in range(4):
            (length,) = struct.unpack_from(">H", data, offset)
            fields.append(data[offset + 2 : offset + 2 + length])
            offset += 2 + length
        _, shown, name, secret = fields
        if family in (_LOCAL_FAMILY, _WILD_FAMILY) and shown in (b"", b"%d" % number) and name == _COOKIE:
            return name, secret
    return b"", b""


def _exactly(stream: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = stream.recv(count - len(data))
        if not piece:
            raise X11Error(f"expected {count} bytes, found {len(data)}")
        data += piece
    return bytes(data)


def _padded(data: bytes) -> bytes:
    return data.ljust((len(data) + 3) // 4 * 4, b"\0")
