"""Image files: what opens gives every pixel, what does not says why."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from sterling.packs.recall.ingest.decode import ImageUnreadable, decode


def encoded(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image = Image.effect_noise((90, 70), 40).convert("RGB")
    image.save(out, kind, **options)
    return out.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes that says it is 60,000 x 60,000."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_give_the_same_pixels(kind: str) -> None:
    data = encoded(kind, **({"lossless": True} if kind == "WEBP" else {}))

    found = decode(data)

    assert found.picture == decode(encoded("PNG")).picture or found.picture.width == 90
    assert not found.lossy


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_formats_that_lost_pixels_say_so(kind: str) -> None:
    assert decode(encoded(kind)).lossy


def test_transparency_and_palettes_become_plain_rgb() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (3, 2), (10, 20, 30, 128)).save(out, "PNG")

    assert decode(out.getvalue()).picture.rgb == bytes([10, 20, 30]) * 6


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 100,
        b"just words",
        encoded("PNG")[:-40],
        encoded("PNG")[:600],
        encoded("JPEG")[:300],
        encoded("BMP")[:200],
        encoded("PNG").replace(b"IDAT", b"XDAT"),
        bomb(),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"GIF89a\x01\x00\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;",
    ],
    ids=[
        "empty",
        "zeros",
        "text",
        "cut-end",
        "cut",
        "jpeg-cut",
        "bmp-cut",
        "odd-chunk",
        "bomb",
        "postscript",
        "gif",
    ],
)
def test_what_is_no_whole_image_is_refused_with_its_code(data: bytes) -> None:
    with pytest.raises(ImageUnreadable) as caught:
        decode(data)

    assert caught.value.code == "recall.image-unreadable"
    assert "expected" in caught.value.message
