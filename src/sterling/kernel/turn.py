"""The turn to write, passed among processes, and the queue of those who wait for it.

One process at a time has the turn: it holds `flock` on `run/writer.lock`, which
the operating system frees on any death. Who cannot have the turn at once leaves
its batches as a file in `run/queue/` and waits; whoever has the turn writes
everything that lies there in its own transaction, answers over a datagram
socket, and wakes the oldest of those who came too late. Nobody is the server,
so nobody's death needs an election (ADR 3).

A waiter whose wake-up was lost finds out by itself: it asks for the turn every
20 ms. What became of its batches it then reads from the log, by submission id.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.locks import close_kept, keep_from_children

__all__ = ["Request", "Turn", "Waiting"]

_LOOK_S = 0.02
_DATAGRAM_BYTES_MAX = 1024 * 1024
_WAKE = b"turn"
_TORN_S = 60
_SOCKET = re.compile(r"s[0-9]+\.[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Request:
    """What one waiting process left: the name of its file, its bytes, and whom to answer."""

    name: str
    data: bytes

    @property
    def socket(self) -> str:
        return self.name.split("-")[1]


class Turn:
    """One process's part in passing the turn. Not thread-safe: its user has a lock of its own."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._queue = run / "queue"
        self._lock: int | None = None
        self._folder: int | None = None
        self._socket: socket.socket | None = None
        self._sender: socket.socket | None = None
        self._socket_name = ""
        self._pid = os.getpid()

    def try_take(self) -> bool:
        """Take the turn if nobody has it."""
        self._open()
        assert self._lock is not None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def give(self) -> None:
        """Let the next one have it, and wake whoever has waited longest."""
        assert self._lock is not None
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        for name in self._names():
            if self._send(name.split("-")[1], _WAKE):
                return

    def requests(self) -> Iterator[Request]:
        """Claim and read what others left, oldest first; only for who has the turn."""
        for name in self._names():
            try:
                data = self._queue.joinpath(name).read_bytes()
                os.unlink(name, dir_fd=self._folder)
            except FileNotFoundError:
                continue  # Its owner stopped waiting in between.
            yield Request(name, data)

    def answer(self, request: Request, data: bytes) -> None:
        """Tell who left a request what became of it; one who is gone hears nothing."""
        self._send(request.socket, data)

    def ask(self, data: bytes) -> Waiting:
        """Leave batches for whoever has the turn."""
        self._open()
        self._listen()
        assert self._socket is not None
        while select.select([self._socket], [], [], 0)[0]:
            self._socket.recv(_DATAGRAM_BYTES_MAX)  # Answers to what was asked before and given up.
        name = f"{time.monotonic_ns():020d}-{self._socket_name}-{secrets.token_hex(4)}"
        with open(f".{name}", "xb", opener=self._opener) as file:
            file.write(data)
        os.rename(f".{name}", name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        return Waiting(self, name)

    def close(self) -> None:
        """Give up the lock's file and the socket."""
        if self._lock is None:
            return
        if self._socket is not None and self._pid == os.getpid():
            self._withdraw(self._socket_name)
        for each in (self._socket, self._sender):
            if each is not None:
                each.close()
        close_kept(self._lock)
        if self._folder is not None:
            os.close(self._folder)
        self._lock, self._socket, self._sender, self._folder = None, None, None, None

    def _open(self) -> None:
        """Open the lock's file; a forked child must not share its parent's lock."""
        if self._pid != os.getpid():
            self.close()
            self._pid = os.getpid()
        if self._lock is None:
            self._queue.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._lock = keep_from_children(os.open(self._run / "writer.lock", flags, 0o600))
            self._folder = os.open(self._queue, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _listen(self) -> None:
        if self._socket is None:
            self._sweep()
            self._socket_name = f"s{os.getpid()}.{secrets.token_hex(4)}"
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            self._socket.bind(self._address(self._socket_name))

    def _send(self, name: str, data: bytes) -> bool:
        """Whether somebody is there to hear it."""
        if self._sender is None:
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._sender.setblocking(False)
        try:
            self._sender.sendto(data, self._address(name))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # Its queue is full or the answer too long: it looks for itself soon.
        return True

    def _sweep(self) -> None:
        """Take away what dead processes left: their sockets, and requests that never became whole."""
        for name in self._list():
            is_dead = _SOCKET.fullmatch(name) is not None and not self._send(name, _WAKE)
            is_torn = name[:1] == "." and time.time() - self._age_of(name) > _TORN_S
            if is_dead or is_torn:
                self._withdraw(name)

    def _age_of(self, name: str) -> float:
        try:
            return os.stat(name, dir_fd=self._folder).st_mtime
        except FileNotFoundError:
            return time.time()

    def _address(self, name: str) -> str:
        """A path short enough for a socket, however long the home's own path is."""
        return f"/proc/self/fd/{self._folder}/{name}"

    def _names(self) -> list[str]:
        return sorted(name for name in self._list() if name[0].isdigit())

    def _list(self) -> list[str]:
        assert self._folder is not None  # Without a folder `listdir` would look at the current one.
        return os.listdir(self._folder)

    def _opener(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CLOEXEC, 0o600, dir_fd=self._folder)

    def _hear(self, timeout_s: float) -> bytes | None:
        assert self._socket is not None
        if not select.select([self._socket], [], [], timeout_s)[0]:
            return None
        return self._socket.recv(_DATAGRAM_BYTES_MAX)

    def _withdraw(self, name: str) -> bool:
        try:
            os.unlink(name, dir_fd=self._folder)
        except FileNotFoundError:
            return False
        return True


@dataclass(slots=True)
class Waiting:
    """Batches that lie in the queue."""

    turn: Turn
    name: str

    def wait(self) -> bytes | None:
        """Wait a little: an answer, or None when it is time to ask for the turn."""
        heard = self.turn._hear(_LOOK_S)
        return None if heard is None or heard == _WAKE else heard

    def withdraw(self) -> bool:
        """Take the batches back; False when somebody has claimed them already."""
        return self.turn._withdraw(self.name)
