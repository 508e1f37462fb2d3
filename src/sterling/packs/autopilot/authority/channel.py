"""The channel between agents and the authority: a Unix socket with length-prefixed JSON.

The socket lies at `run/authority` of the home with mode 0600, and the peer must be
of the same user. An ask carries the secret of the session it comes from; without
a known one it is refused. Frames are bounded before they are read. Paths longer
than a socket address allows are reached through an open folder.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sterling.kernel.errors import SterlingError
from sterling.packs.autopilot.artifacts.kinds import ARTIFACT_BYTES_MAX
from sterling.packs.autopilot.authority.asks import Answer, Ask, answer_error, parse_ask
from sterling.packs.autopilot.errors import AuthorityGone, RequestInvalid

__all__ = ["SOCKET_NAME", "Channel", "ask_authority"]

SOCKET_NAME = "authority"
FRAME_BYTES_MAX = ARTIFACT_BYTES_MAX * 2 + 64 * 1024
_LENGTH = struct.Struct(">I")
_CREDENTIALS = struct.Struct("3i")
_CLIENT_WAIT_S = 3600.0

Answering = Callable[[Ask], Answer]


class Channel:
    """Listens in a thread of its own until `close`; asks are answered in the order they come."""

    def __init__(self, folder: Path, answering: Answering) -> None:
        self._folder, self._answering = folder, answering
        self._closing = threading.Event()
        self._defect: Exception | None = None
        self._socket = _listen(folder)
        self._thread = threading.Thread(target=self._serve, name="authority", daemon=True)
        self._thread.start()

    @property
    def path(self) -> Path:
        return self._folder / SOCKET_NAME

    def close(self, *, wait_s: float = 10.0) -> None:
        """Stop listening. A defect in the thread is raised here, so it never goes unseen."""
        self._closing.set()
        self._socket.shutdown(socket.SHUT_RDWR)  # Wakes the thread that waits for a peer.
        self._thread.join(wait_s)
        self._socket.close()
        if self._defect is not None:
            raise self._defect

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        with peer:
            if not _same_user(peer):
                return
            try:
                while (data := _receive(peer)) is not None:
                    _send(peer, self._answer(data).as_json())
            except (OSError, _FrameBroken):
                return
            except Exception as defect:  # noqa: BLE001 - kept, and raised again by `close`
                self._defect = defect

    def _answer(self, data: bytes) -> Answer:
        try:
            try:
                document = json.loads(data)
            except (ValueError, RecursionError) as problem:
                raise RequestInvalid(f"expected JSON, found {problem}") from problem
            return self._answering(parse_ask(document))
        except SterlingError as problem:
            return answer_error(None, problem)


def ask_authority(path: Path, document: dict[str, Any], *, wait_s: float = _CLIENT_WAIT_S) -> dict[str, Any]:
    """Ask once and return the answer. An ask without id gets a random one.

    Raises:
        AuthorityGone: nobody listens, or the authority went away before it answered.
    """
    ask = {"id": secrets.token_hex(8), **document}
    try:
        with _reach(path) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(wait_s)
            peer.connect(address)
            _send(peer, ask)
            data = _receive(peer)
    except (OSError, _FrameBroken) as problem:
        raise AuthorityGone(f"expected an authority at {path}, found: {problem}") from problem
    if data is None:
        raise AuthorityGone(f"expected an answer from {path}, found the end of the connection")
    answer: dict[str, Any] = json.loads(data)
    return answer


class _FrameBroken(Exception):
    """The peer sent what is no frame, or too much."""


def _listen(folder: Path) -> socket.socket:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = folder / f".{SOCKET_NAME}-{secrets.token_hex(4)}"
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with _reach(fresh) as address:
            listening.bind(address)
    finally:
        os.umask(before)
    listening.listen(8)
    # The caller holds the role `authority`, so a socket that lies here already is of a dead process.
    fresh.replace(folder / SOCKET_NAME)
    return listening


@contextmanager
def _reach(path: Path) -> Iterator[str]:
    """An address of the socket that is short enough, whatever the folder's path is."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def _same_user(peer: socket.socket) -> bool:
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1]) == os.getuid()


def _send(peer: socket.socket, document: dict[str, Any]) -> None:
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    peer.sendall(_LENGTH.pack(len(body)) + body)


def _receive(peer: socket.socket) -> bytes | None:
    head = _read(peer, _LENGTH.size)
    if head is None:
        return None
    size = int(_LENGTH.unpack(head)[0])
    if size > FRAME_BYTES_MAX:
        raise _FrameBroken(f"expected at most {FRAME_BYTES_MAX} bytes, found {size}")
    body = _read(peer, size)
    if body is None:
        raise _FrameBroken("expected a whole frame, found the end")
    return body


def _read(peer: socket.socket, size: int) -> bytes | None:
    pieces = bytearray()
    while len(pieces) < size:
        piece = peer.recv(min(65536, size - len(pieces)))
        if not piece:
            if pieces:
                raise _FrameBroken("expected a whole frame, found the end")
            return None
        pieces += piece
    return bytes(pieces)
