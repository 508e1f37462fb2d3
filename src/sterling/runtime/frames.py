"""Frames between a supervisor and a worker: four bytes of length, then JSON.

A frame holds at most 1 MiB; larger things travel as files or blobs. What is
oversized, torn or not JSON is refused, and the caller ends the worker. Reading
never trusts a length before it was checked, so a hostile peer costs at most one
frame of memory.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

__all__ = [
    "FRAME_BYTES_MAX",
    "ORDER_BYTES_MAX",
    "FrameBuffer",
    "FrameInvalid",
    "FrameTooLarge",
    "frame_bytes",
    "read_frame",
    "send_frame",
]

FRAME_BYTES_MAX = 1024 * 1024
ORDER_BYTES_MAX = 32 * 1024  # One packet that starts a task, its walls among it.
_LENGTH = struct.Struct(">I")
_PIECE_BYTES = 64 * 1024

Json = Any


class FrameInvalid(Exception):
    """Bytes that are not a frame. Only supervisors see it; they turn it into `worker.protocol`."""


class FrameTooLarge(FrameInvalid):
    """A frame over the limit."""


def frame_bytes(document: Json) -> bytes:
    """One frame.

    Raises:
        FrameTooLarge: over 1 MiB.
        TypeError, ValueError: the document is not JSON (NaN included).
    """
    body = json.dumps(document, allow_nan=False, separators=(",", ":")).encode("utf-8")
    if len(body) > FRAME_BYTES_MAX:
        raise FrameTooLarge(f"expected at most {FRAME_BYTES_MAX} bytes, found {len(body)}")
    return _LENGTH.pack(len(body)) + body


def send_frame(peer: socket.socket, document: Json) -> None:
    """Write one frame to a blocking socket. Errors: as `frame_bytes`, OSError."""
    peer.sendall(frame_bytes(document))


def read_frame(peer: socket.socket) -> Json | None:
    """Read one frame from a blocking socket; None at the end of the stream.

    Raises:
        FrameInvalid: torn, oversized or not JSON.
    """
    buffer = FrameBuffer()
    while True:
        piece = peer.recv(min(_PIECE_BYTES, buffer.wanted))
        if not piece:
            if buffer.pending:
                raise FrameInvalid("expected a whole frame, found the end of the stream")
            return None
        for document in buffer.feed(piece):
            return document


class FrameBuffer:
    """Collects bytes and gives the frames they make."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    @property
    def pending(self) -> int:
        """Bytes held that make no whole frame yet."""
        return len(self._bytes)

    @property
    def wanted(self) -> int:
        """How many more bytes finish the frame that began, as far as that is known."""
        if len(self._bytes) < _LENGTH.size:
            return _LENGTH.size - len(self._bytes)
        return _LENGTH.size + self._length() - len(self._bytes)

    def feed(self, piece: bytes) -> list[Json]:
        """Add bytes; returns every frame that is now whole.

        Raises:
            FrameInvalid: oversized, or not a JSON object. The buffer is of no use afterwards.
        """
        self._bytes += piece
        frames: list[Json] = []
        while len(self._bytes) >= _LENGTH.size:
            end = _LENGTH.size + self._length()
            if len(self._bytes) < end:
                break
            frames.append(_parse(bytes(self._bytes[_LENGTH.size : end])))
            del self._bytes[:end]
        return frames

    def _length(self) -> int:
        length: int = _LENGTH.unpack_from(self._bytes)[0]
        if length > FRAME_BYTES_MAX:
            raise FrameTooLarge(f"expected at most {FRAME_BYTES_MAX} bytes, found a frame of {length}")
        return length


def _parse(body: bytes) -> Json:
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_constant)
    except (ValueError, RecursionError) as problem:
        raise FrameInvalid(f"expected JSON, found {problem}") from problem
    if not isinstance(document, dict):
        raise FrameInvalid(f"expected a JSON object, found {type(document).__name__}")
    return document


def _constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")
