"""Pictures cut into tiles, and the hash that covers every pixel.

A picture is RGB, eight bits a channel, rows from the top. It is cut into tiles
of 64 x 64; those at the right and lower edge are smaller. A tile's hash covers
its size and bytes, the frame hash covers width, height, tile size and all tile
hashes in order, so two pictures share a frame hash only if every pixel agrees.

Nothing here opens a file or knows an image format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sterling.kernel.hashing import tagged_hash, u64

__all__ = ["TILE", "Grid", "Picture", "changed_tiles", "cut", "frame_hash", "join", "tile_hash"]

TILE = 64
_CHANNELS = 3
_TILE_TAG = b"sterling/tile/1"
_FRAME_TAG = b"sterling/frame/1"


@dataclass(frozen=True, slots=True)
class Picture:
    """Plain pixels: `rgb` holds width x height x 3 bytes, row by row."""

    width: int
    height: int
    rgb: bytes

    def __post_init__(self) -> None:
        assert self.width > 0 and self.height > 0, "a picture has at least one pixel"
        assert len(self.rgb) == self.width * self.height * _CHANNELS, "bytes do not fit the size"


@dataclass(frozen=True, slots=True)
class Grid:
    """How a picture of this size is cut. Tiles are numbered row by row."""

    width: int
    height: int
    tile: int = TILE

    @property
    def columns(self) -> int:
        return -(-self.width // self.tile)

    @property
    def rows(self) -> int:
        return -(-self.height // self.tile)

    @property
    def count(self) -> int:
        return self.columns * self.rows

    def size_of(self, number: int) -> tuple[int, int]:
        """Width and height of one tile."""
        row, column = divmod(number, self.columns)
        width = min(self.tile, self.width - column * self.tile)
        return width, min(self.tile, self.height - row * self.tile)

    def bytes_of(self, number: int) -> int:
        """Plain bytes of one tile."""
        width, height = self.size_of(number)
        return width * height * _CHANNELS


def cut(picture: Picture, numbers: Sequence[int] | None = None) -> list[bytes]:
    """The bytes of the named tiles (all of them by default), in the order named."""
    grid = Grid(picture.width, picture.height)
    wanted = range(grid.count) if numbers is None else numbers
    stride = picture.width * _CHANNELS
    view = memoryview(picture.rgb)
    bands: dict[int, list[memoryview]] = {}
    tiles = []
    for number in wanted:
        row, column = divmod(number, grid.columns)
        width, height = grid.size_of(number)
        if row not in bands:
            top = row * grid.tile
            bands[row] = [view[y * stride : (y + 1) * stride] for y in range(top, top + height)]
        left = column * grid.tile * _CHANNELS
        right = left + width * _CHANNELS
        tiles.append(b"".join([line[left:right] for line in bands[row]]))
    return tiles


def join(tiles: Sequence[bytes], width: int, height: int) -> Picture:
    """The picture that these tiles, all of them in order, came from."""
    grid = Grid(width, height)
    assert len(tiles) == grid.count, f"expected {grid.count} tiles, found {len(tiles)}"
    lines = []
    for row in range(grid.rows):
        first = row * grid.columns
        band = tiles[first : first + grid.columns]
        strides = [grid.size_of(first + column)[0] * _CHANNELS for column in range(grid.columns)]
        for y in range(grid.size_of(first)[1]):
            lines += [data[y * step : (y + 1) * step] for data, step in zip(band, strides, strict=True)]
    return Picture(width, height, b"".join(lines))


def changed_tiles(before: Picture, after: Picture) -> list[int]:
    """The numbers of the tiles that differ, compared byte by byte; both pictures have one size."""
    assert (before.width, before.height) == (after.width, after.height), "sizes differ"
    grid = Grid(after.width, after.height)
    band_bytes = after.width * _CHANNELS * grid.tile
    found: list[int] = []
    for row in range(grid.rows):
        start, end = row * band_bytes, (row + 1) * band_bytes
        if before.rgb[start:end] == after.rgb[start:end]:
            continue
        numbers = range(row * grid.columns, (row + 1) * grid.columns)
        pairs = zip(numbers, cut(before, numbers), cut(after, numbers), strict=True)
        found += [number for number, old, new in pairs if old != new]
    return found


def tile_hash(data: bytes, width: int, height: int) -> bytes:
    """The hash of one tile: its size and its bytes."""
    return tagged_hash(_TILE_TAG, u64(width), u64(height), data)


def frame_hash(width: int, height: int, hashes: Sequence[bytes], tile: int = TILE) -> str:
    """The hash of a whole picture from the hashes of all its tiles, as 64 hex digits."""
    return tagged_hash(_FRAME_TAG, u64(width), u64(height), u64(tile), *hashes).hex()
