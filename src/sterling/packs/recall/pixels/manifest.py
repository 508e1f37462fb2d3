"""Manifests: which tile of a frame lies where.

A *key* manifest places every tile. A *delta* names a key manifest and places
only the tiles that differ from it, so reading a frame opens at most two
manifests. Both are canonical JSON in one zstd frame:

    {"v": 1, "width", "height", "tile", "bundles": [address, ...],
     "base": null or the address of a key manifest,
     "tiles": [[tile hash, bundle number, offset], ...],
     "grid": [[tile number, place in `tiles`], ...]}

A tile that occurs many times in a frame stands once in `tiles`. The bytes of a
tile follow from its place in the grid, so no length is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import zstandard

from sterling.kernel.canonical import Json, canonical_bytes, parse_canonical
from sterling.kernel.errors import EXIT_BROKEN, SterlingError
from sterling.kernel.hashing import is_address
from sterling.packs.recall.pixels.tiles import TILE, Grid

__all__ = ["Layout", "ManifestInvalid", "Place", "encode_delta", "encode_key", "load_layout", "placed_in"]

_PLAIN_BYTES_MAX = 64 * 1024 * 1024
_LEVEL = 9


class ManifestInvalid(SterlingError):
    """A stored manifest does not describe a whole frame."""

    code = "recall.manifest-invalid"
    hint = "Run `sterling verify --blobs` and restore what it names."
    exit = EXIT_BROKEN


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tile's bytes are: its hash, the bundle that holds it, the offset in plain bytes."""

    hash: bytes
    bundle: str
    offset: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A whole frame: its size and the place of every tile, in order."""

    width: int
    height: int
    places: tuple[Place, ...]
    base: str = ""  # The key manifest that a delta stands on; empty for a key manifest.

    @property
    def bundles(self) -> list[str]:
        """The bundles that hold this frame's tiles, sorted."""
        return sorted({place.bundle for place in self.places})


def encode_key(layout: Layout) -> bytes:
    """The stored form of a manifest that places every tile."""
    return _encode(layout, base="", numbers=dict(enumerate(layout.places)))


def encode_delta(layout: Layout, key: Layout, key_address: str) -> bytes:
    """The stored form of a manifest that places only what differs from the key manifest."""
    assert (layout.width, layout.height) == (key.width, key.height), "a delta keeps the size"
    pairs = zip(layout.places, key.places, strict=True)
    numbers = {number: new for number, (new, old) in enumerate(pairs) if new.hash != old.hash}
    return _encode(layout, base=key_address, numbers=numbers)


def placed_in(data: bytes) -> dict[bytes, tuple[Place, int, int]]:
    """Every tile that this manifest itself places: hash -> place, width, height.

    Errors: ManifestInvalid.
    """
    document = _decode(data)
    grid = Grid(document["width"], document["height"])
    return {place.hash: (place, *grid.size_of(number)) for number, place in _numbers(document, grid).items()}


def load_layout(address: str, fetch: Callable[[str], bytes]) -> Layout:
    """Read a manifest, and the key manifest under it, into one whole layout.

    `fetch` gives the checked bytes at an address.
    Errors: ManifestInvalid, and whatever `fetch` raises.
    """
    document = _decode(fetch(address))
    grid = Grid(document["width"], document["height"])
    numbers = _numbers(document, grid)
    base = document["base"]
    if base is not None:
        key = _decode(fetch(base))
        if key["base"] is not None or (key["width"], key["height"]) != (grid.width, grid.height):
            raise ManifestInvalid(f"expected a key manifest of the same size at {base}, found another")
        numbers = _numbers(key, grid) | numbers
    if len(numbers) != grid.count:
        raise ManifestInvalid(f"expected {grid.count} tiles in {address}, found {len(numbers)}")
    places = tuple(numbers[number] for number in range(grid.count))
    return Layout(grid.width, grid.height, places, base or "")


def _encode(layout: Layout, *, base: str, numbers: Mapping[int, Place]) -> bytes:
    bundles = sorted({place.bundle for place in numbers.values()})
    bundle_numbers = {bundle: number for number, bundle in enumerate(bundles)}
    tiles: list[list[Json]] = []
    positions: dict[bytes, int] = {}
    grid: list[list[int]] = []
    for number in sorted(numbers):
        place = numbers[number]
        if place.hash not in positions:
            positions[place.hash] = len(tiles)
            tiles.append([place.hash.hex(), bundle_numbers[place.bundle], place.offset])
        grid.append([number, positions[place.hash]])
    document: dict[str, Json] = {
        "v": 1,
        "width": layout.width,
        "height": layout.height,
        "tile": TILE,
        "bundles": bundles,
        "base": base or None,
        "tiles": tiles,
        "grid": grid,
    }
    return zstandard.ZstdCompressor(level=_LEVEL).compress(canonical_bytes(document))


def _decode(data: bytes) -> dict[str, Json]:
    try:
        size = zstandard.get_frame_parameters(data).content_size
        if not 0 < size <= _PLAIN_BYTES_MAX:
            raise ManifestInvalid(f"expected 1 to {_PLAIN_BYTES_MAX} plain bytes, found {size}")
        plain = zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError as problem:
        raise ManifestInvalid(f"expected a compressed manifest, found {problem}") from problem
    document = parse_canonical(plain, limit=_PLAIN_BYTES_MAX)
    if not _is_manifest(document):
        raise ManifestInvalid("expected a manifest of version 1, found another document")
    assert isinstance(document, dict)
    return document


def _is_manifest(document: Json) -> bool:
    if not isinstance(document, dict) or document.get("v") != 1 or document.get("tile") != TILE:
        return False
    sizes = [document.get("width"), document.get("height")]
    if not all(isinstance(size, int) and 0 < size <= 1_000_000 for size in sizes):
        return False
    bundles, base = document.get("bundles"), document.get("base")
    if not isinstance(bundles, list) or not all(is_address(item) for item in bundles):
        return False
    lists = isinstance(document.get("tiles"), list) and isinstance(document.get("grid"), list)
    return lists and (base is None or is_address(base))


def _numbers(document: dict[str, Json], grid: Grid) -> dict[int, Place]:
    try:
        bundles = document["bundles"]
        places = []
        for digest, bundle, offset in document["tiles"]:
            if min(bundle, offset) < 0:
                raise ManifestInvalid(f"expected a place of 0 or more, found {bundle}, {offset}")
            places.append(Place(bytes.fromhex(digest), bundles[bundle], offset))
        numbers = {}
        for number, position in document["grid"]:
            if not 0 <= number < grid.count or position < 0:
                raise ManifestInvalid(f"expected a tile below {grid.count}, found {number} at {position}")
            numbers[number] = places[position]
    except (TypeError, ValueError, IndexError) as problem:
        raise ManifestInvalid(f"expected places of tiles, found {problem}") from problem
    return numbers
