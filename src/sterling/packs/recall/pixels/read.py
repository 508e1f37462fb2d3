"""Pictures back out of the store, every pixel checked.

Each tile is hashed again and the frame hash recomputed; a picture that is not
exactly the one that was recorded is never returned.
"""

from __future__ import annotations

from collections.abc import Callable

from sterling.kernel.errors import EXIT_BROKEN, SterlingError
from sterling.packs.recall.pixels.bundle import unpack
from sterling.packs.recall.pixels.manifest import Layout, load_layout
from sterling.packs.recall.pixels.tiles import Grid, Picture, frame_hash, join, tile_hash

__all__ = ["Box", "FrameAltered", "crop", "rebuild"]

Box = tuple[int, int, int, int]  # Left, top, right, bottom in pixels; right and bottom lie outside.


class FrameAltered(SterlingError):
    """The pixels in the store are not the ones that were recorded."""

    code = "recall.frame-altered"
    hint = "Run `sterling verify --blobs` and restore what it names."
    exit = EXIT_BROKEN


def rebuild(manifest: str, expected: str, fetch: Callable[[str], bytes]) -> Picture:
    """The picture of a frame, from its manifest's address and its frame hash.

    `fetch` gives the checked bytes at an address.
    Errors: FrameAltered, ManifestInvalid, BundleUnreadable, and whatever `fetch` raises.
    """
    layout = load_layout(manifest, fetch)
    tiles = _tiles(layout, fetch)
    found = frame_hash(layout.width, layout.height, [place.hash for place in layout.places])
    if found != expected:
        raise FrameAltered(f"expected frame {expected}, found {found}", expected=expected, found=found)
    return join(tiles, layout.width, layout.height)


def crop(picture: Picture, box: Box) -> Picture:
    """The part of a picture inside a box, which must lie in it."""
    left, top, right, bottom = box
    assert 0 <= left < right <= picture.width and 0 <= top < bottom <= picture.height, f"box {box}"
    stride = picture.width * 3
    lines = [picture.rgb[y * stride + left * 3 : y * stride + right * 3] for y in range(top, bottom)]
    return Picture(right - left, bottom - top, b"".join(lines))


def _tiles(layout: Layout, fetch: Callable[[str], bytes]) -> list[bytes]:
    grid = Grid(layout.width, layout.height)
    bundles = {address: unpack(fetch(address)) for address in layout.bundles}
    known: dict[tuple[bytes, int], bytes] = {}
    tiles = []
    for number, place in enumerate(layout.places):
        width, height = grid.size_of(number)
        data = known.get((place.hash, width))
        if data is None:
            data = bundles[place.bundle][place.offset : place.offset + grid.bytes_of(number)]
            if tile_hash(data, width, height) != place.hash:
                raise FrameAltered(
                    f"tile {number}: expected {place.hash.hex()}, found other bytes", tile=number
                )
            known[place.hash, width] = data
        tiles.append(data)
    return tiles
