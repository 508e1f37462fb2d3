"""A picture file that shows cited boxes in their surroundings, made from rebuilt pixels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.packs.recall.pixels.read import Box, crop
from sterling.packs.recall.pixels.tiles import Picture

__all__ = ["CropUnwritable", "draw_boxes", "surroundings", "write_boxes"]

_MARGIN = 48
_LEAST_WIDTH, _LEAST_HEIGHT = 480, 200
_INK = (214, 40, 40)


class CropUnwritable(SterlingError):
    """The file for the cited pixels cannot be written."""

    code = "recall.crop-unwritable"
    hint = "Name a file in a folder that exists and that you may write: `sterling ask QUESTION --crop FILE`."
    exit = EXIT_USAGE


def write_boxes(path: Path, picture: Picture, boxes: Sequence[Box]) -> None:
    """Write what `draw_boxes` gives to a file. Errors: CropUnwritable."""
    data = draw_boxes(picture, boxes)
    try:
        path.write_bytes(data)
    except OSError as problem:
        raise CropUnwritable(
            f"expected to write {path}, found: {problem.strerror}", path=str(path)
        ) from problem


def draw_boxes(picture: Picture, boxes: Sequence[Box]) -> bytes:
    """A PNG of the part of a picture around the boxes, each of them outlined.

    The outline lies outside its box, so no cited pixel is painted over.
    """
    from PIL import Image, ImageDraw

    part = surroundings(boxes, picture.width, picture.height)
    cut = crop(picture, part)
    image = Image.frombytes("RGB", (cut.width, cut.height), cut.rgb)
    pen = ImageDraw.Draw(image)
    for left, top, right, bottom in boxes:
        place = (left - part[0] - 3, top - part[1] - 3, right - part[0] + 2, bottom - part[1] + 2)
        pen.rectangle(place, outline=_INK, width=2)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def surroundings(boxes: Sequence[Box], width: int, height: int) -> Box:
    """The boxes with a margin, at least a readable size, inside the picture."""
    left, right = _stretch(min(box[0] for box in boxes), max(box[2] for box in boxes), _LEAST_WIDTH, width)
    top, bottom = _stretch(min(box[1] for box in boxes), max(box[3] for box in boxes), _LEAST_HEIGHT, height)
    return left, top, right, bottom


def _stretch(start: int, end: int, least: int, limit: int) -> tuple[int, int]:
    """A stretch with a margin around it, moved inside the limit rather than cut where that is possible."""
    length = min(limit, max(least, end - start + 2 * _MARGIN))
    first = max(0, min(limit - length, (start + end - length) // 2))
    return first, first + length
