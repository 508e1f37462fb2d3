"""Stored forms: how the bytes of a blob may lie on the disk.

An address is always that of the plain bytes. A codec turns plain pieces into
stored ones and back, a piece at a time; its suffix stands in the file's name.
Nothing here trusts what it decodes: the caller hashes the result. A form is
added here together with its first user; a reader that does not know a suffix
says so instead of guessing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, Protocol, cast

__all__ = ["CODECS", "PIECE_BYTES", "PLAIN", "ZSTD", "Codec", "FormBroken"]

PIECE_BYTES = 1024 * 1024
_LEVEL = 9  # Written once at idle and read seldom; about 50 MB/s.


class FormBroken(Exception):
    """Stored bytes that their codec did not write."""


class Codec(Protocol):
    """One lossless way to store bytes."""

    @property
    def suffix(self) -> str: ...

    def encode(self, pieces: Iterable[bytes]) -> Iterator[bytes]: ...

    def decode(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Errors: FormBroken."""
        ...


class _Plain:
    suffix = ""

    def encode(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        return iter(pieces)

    decode = encode


class _Zstd:
    suffix = ".zst"

    def encode(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        import zstandard

        chunker = zstandard.ZstdCompressor(level=_LEVEL).chunker(chunk_size=PIECE_BYTES)
        for piece in pieces:
            yield from chunker.compress(piece)
        yield from chunker.finish()  # type: ignore[no-untyped-call]

    def decode(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        import zstandard

        limited = zstandard.ZstdDecompressor(max_window_size=8 * PIECE_BYTES)
        try:
            with limited.stream_reader(cast(BinaryIO, _Source(pieces))) as reader:
                while piece := reader.read(PIECE_BYTES):
                    yield piece
        except zstandard.ZstdError as problem:
            raise FormBroken(f"it is no zstd frame: {problem}") from problem


class _Source:
    """Pieces behind the `read` that a decoder asks; it may give less, or more, than was asked."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)

    def read(self, _size_bytes: int = -1) -> bytes:
        return next(self._pieces, b"")


PLAIN: Codec = _Plain()
ZSTD: Codec = _Zstd()
CODECS = {codec.suffix: codec for codec in (PLAIN, ZSTD)}
