"""Crops: the cited pixels in their surroundings, none of them painted over."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sterling.packs.recall.pixels.draw import CropUnwritable, draw_boxes, surroundings, write_boxes
from sterling.packs.recall.pixels.tiles import Picture

PICTURE = Picture(900, 500, bytes(range(250)) * (900 * 500 * 3 // 250))


@given(st.integers(1, 2000), st.integers(1, 1500), st.data())
def test_the_surroundings_hold_the_box_and_lie_in_the_picture(
    width: int, height: int, data: st.DataObject
) -> None:
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))

    found = surroundings([(left, top, right, bottom)], width, height)

    assert 0 <= found[0] <= left and right <= found[2] <= width
    assert 0 <= found[1] <= top and bottom <= found[3] <= height
    assert found[2] - found[0] >= min(width, 480) and found[3] - found[1] >= min(height, 200)


def test_every_cited_pixel_stays_as_it_was() -> None:
    box = (300, 200, 380, 214)
    part = surroundings([box], 900, 500)

    with Image.open(io.BytesIO(draw_boxes(PICTURE, [box]))) as image:
        inside = image.crop(
            (box[0] - part[0], box[1] - part[1], box[2] - part[0], box[3] - part[1])
        ).tobytes()

    whole = Image.frombytes("RGB", (900, 500), PICTURE.rgb)
    assert inside == whole.crop(box).tobytes()


@pytest.mark.parametrize("name", ["missing/crop.png", ".", "a\u0301" * 300])
def test_a_file_that_cannot_be_written_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(CropUnwritable):
        write_boxes(tmp_path / name, PICTURE, [(0, 0, 5, 5)])
