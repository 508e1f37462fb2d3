"""Tiles and the frame hash: every pixel counts, and nothing else does."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterling.packs.recall.pixels.tiles import (
    TILE,
    Grid,
    Picture,
    changed_tiles,
    cut,
    frame_hash,
    join,
    tile_hash,
)

SIZES = st.tuples(st.integers(1, 2 * TILE + 3), st.integers(1, 2 * TILE + 3))


def plain(width: int, height: int, byte: int = 7) -> Picture:
    return Picture(width, height, bytes([byte]) * (width * height * 3))


def hash_of(picture: Picture) -> str:
    grid = Grid(picture.width, picture.height)
    tiles = cut(picture)
    return frame_hash(
        picture.width, picture.height, [tile_hash(data, *grid.size_of(n)) for n, data in enumerate(tiles)]
    )


def edited(picture: Picture, place: int, byte: int) -> Picture:
    data = bytearray(picture.rgb)
    data[place] = byte
    return replace(picture, rgb=bytes(data))


@given(SIZES, st.integers(0, 2**32))
def test_joining_the_tiles_gives_the_picture_again(size: tuple[int, int], seed: int) -> None:
    width, height = size
    picture = Picture(width, height, random.Random(seed).randbytes(width * height * 3))

    assert join(cut(picture), width, height) == picture


@given(SIZES, st.data())
def test_any_changed_byte_changes_the_frame_hash_and_names_its_tile(
    size: tuple[int, int], data: st.DataObject
) -> None:
    before = plain(*size)
    place = data.draw(st.integers(0, len(before.rgb) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != 7))
    after = edited(before, place, byte)

    row, column = divmod(place // 3, size[0])
    expected = (row // TILE) * Grid(*size).columns + column // TILE

    assert hash_of(after) != hash_of(before)
    assert changed_tiles(before, after) == [expected]


@given(st.lists(st.tuples(st.integers(0, 3 * 90 * 70 - 1), st.integers(0, 255)), max_size=6))
def test_frame_hashes_are_equal_exactly_when_all_pixels_are(edits: list[tuple[int, int]]) -> None:
    before = after = plain(90, 70)
    for place, byte in edits:
        after = edited(after, place, byte)

    assert (hash_of(before) == hash_of(after)) == (before == after)
    assert bool(changed_tiles(before, after)) == (before != after)


def test_the_same_bytes_in_another_shape_are_another_frame() -> None:
    assert hash_of(plain(64, 32)) != hash_of(plain(32, 64))


def test_the_same_bytes_as_a_tile_of_another_shape_are_another_tile() -> None:
    assert tile_hash(b"\x05" * 24, 4, 2) != tile_hash(b"\x05" * 24, 2, 4)


def test_moving_a_tile_changes_the_frame_hash() -> None:
    left = Picture(2, 1, b"\x01\x01\x01\x02\x02\x02")
    right = Picture(2, 1, b"\x02\x02\x02\x01\x01\x01")

    assert hash_of(left) != hash_of(right)


def test_the_lower_right_tile_has_the_size_that_is_left() -> None:
    grid = Grid(TILE + 5, 2 * TILE + 9)

    assert (grid.columns, grid.rows, grid.count) == (2, 3, 6)
    assert grid.size_of(5) == (5, 9)
    assert sum(grid.bytes_of(n) for n in range(6)) == (TILE + 5) * (2 * TILE + 9) * 3


@pytest.mark.parametrize("rgb", [b"", b"\x00" * 11, b"\x00" * 13])
def test_bytes_that_do_not_fit_the_size_are_no_picture(rgb: bytes) -> None:
    with pytest.raises(AssertionError):
        Picture(2, 2, rgb)
