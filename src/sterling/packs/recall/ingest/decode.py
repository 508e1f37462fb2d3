"""Image files into plain pixels, or a reason why not.

Refused: what is no image, an image cut short, and images of more than 100
megapixels, which are measured before any pixel is unpacked. Colour profiles and
transparency are dropped; the original file is kept as a blob by the caller.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.packs.recall.pixels.tiles import Picture

__all__ = ["IMAGE_ENDINGS", "PIXELS_MAX", "Decoded", "ImageUnreadable", "decode"]

IMAGE_ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
PIXELS_MAX = 100_000_000
_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")


class ImageUnreadable(SterlingError):
    """A file is not a whole image that can be opened."""

    code = "recall.image-unreadable"
    hint = "Give a whole PNG, WebP, JPEG, BMP or TIFF file: `sterling ingest PATH`."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Decoded:
    """Pixels, and whether the file they came from had already lost some (`lossy`)."""

    picture: Picture
    format: str
    lossy: bool


def decode(data: bytes) -> Decoded:
    """The pixels of an image file.

    Errors: ImageUnreadable, saying what was found instead.
    """
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ImageUnreadable("expected an image, found an empty file")
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            warnings.simplefilter("ignore")  # Our own limit below is stricter than the library's warning.
            width, height = opened.size
            if width * height > PIXELS_MAX:
                raise ImageUnreadable(f"expected at most {PIXELS_MAX} pixels, found {width} x {height}")
            opened.load()
            image = opened.convert("RGB")
            kind = str(opened.format)
    except UnidentifiedImageError as problem:
        raise ImageUnreadable(f"expected an image, found {len(data)} bytes of something else") from problem
    except Image.DecompressionBombError as problem:
        raise ImageUnreadable(f"expected at most {PIXELS_MAX} pixels, found more") from problem
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as problem:
        raise ImageUnreadable(f"expected a whole image, found: {str(problem)[:200]}") from problem
    lossy = kind == "JPEG" or (kind == "WEBP" and b"VP8L" not in data[:64])
    return Decoded(Picture(width, height, image.tobytes()), kind, lossy)
