"""Bundles: the unknown tiles of one look, compressed together.

A bundle is one zstd frame over the plain bytes of its tiles, neighbours kept
adjacent. It says nothing about itself: manifests say which tile lies at which
offset, and every tile is checked against its hash when it is read.
"""

from __future__ import annotations

from collections.abc import Sequence

import zstandard

from sterling.kernel.errors import EXIT_BROKEN, SterlingError

__all__ = ["BUNDLE_BYTES_MAX", "BundleUnreadable", "pack", "unpack"]

BUNDLE_BYTES_MAX = 1 << 30  # Plain bytes; 100 megapixels of RGB are 300 MB.
_LEVEL = 3


class BundleUnreadable(SterlingError):
    """The stored tiles of a frame cannot be taken apart."""

    code = "recall.bundle-unreadable"
    hint = "Run `sterling verify --blobs` and restore what it names."
    exit = EXIT_BROKEN


def pack(tiles: Sequence[bytes]) -> bytes:
    """One compressed blob of these tiles in this order."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(b"".join(tiles))


def unpack(data: bytes) -> bytes:
    """The plain bytes of a bundle.

    Errors: BundleUnreadable for bytes that are no bundle or grow beyond the limit.
    """
    try:
        parameters = zstandard.get_frame_parameters(data)
        if not 0 < parameters.content_size <= BUNDLE_BYTES_MAX:
            raise BundleUnreadable(
                f"expected 1 to {BUNDLE_BYTES_MAX} plain bytes, found {parameters.content_size}"
            )
        return zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError as problem:
        raise BundleUnreadable(f"expected compressed tiles, found {problem}") from problem
