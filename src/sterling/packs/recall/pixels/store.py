"""Pictures into the store: equal tiles once, equal frames once, in a home's whole history.

`FrameStore` remembers the last picture of each stream, so that only changed
tiles are hashed again. It writes bundles and manifests as durable blobs and
returns what a frame record needs; the record itself is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sterling.packs.recall.pixels.bundle import pack
from sterling.packs.recall.pixels.manifest import Layout, Place, encode_delta, encode_key
from sterling.packs.recall.pixels.tiles import Grid, Picture, changed_tiles, cut, frame_hash, tile_hash

__all__ = ["FrameStore", "Looked", "Stored"]

_KEY_EVERY = 64
_Put = Callable[[bytes], str]
_Find = Callable[[bytes], Place | None]


@dataclass(frozen=True, slots=True)
class Looked:
    """A picture after hashing: its frame hash, and whether it equals the stream's last one."""

    picture: Picture
    frame_hash: str
    hashes: tuple[bytes, ...]
    same: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a new frame's pixels went."""

    manifest: str
    bundles: tuple[str, ...]
    new_tiles: int


@dataclass(slots=True)
class _Stream:
    last: Looked | None = None
    key: Layout | None = None
    key_address: str = ""
    deltas: int = 0


@dataclass(slots=True)
class FrameStore:
    """The pixel side of ingest and capture. `find` looks a tile up in the whole history."""

    put: _Put
    find: _Find
    _streams: dict[str, _Stream] = field(default_factory=dict)
    _fresh: dict[bytes, Place] = field(default_factory=dict)

    def look(self, stream: str, picture: Picture) -> Looked:
        """Hash a picture, hashing only tiles that differ from the stream's last picture."""
        state = self._streams.setdefault(stream, _Stream())
        last = state.last
        if last is not None and (last.picture.width, last.picture.height) == (picture.width, picture.height):
            changed = changed_tiles(last.picture, picture)
            if not changed:
                return Looked(picture, last.frame_hash, last.hashes, same=True)
            hashes = list(last.hashes)
        else:
            grid = Grid(picture.width, picture.height)
            changed = list(range(grid.count))
            hashes = [b""] * grid.count
        grid = Grid(picture.width, picture.height)
        for number, data in zip(changed, cut(picture, changed), strict=True):
            hashes[number] = tile_hash(data, *grid.size_of(number))
        digest = frame_hash(picture.width, picture.height, hashes)
        return Looked(picture, digest, tuple(hashes), same=False)

    def remember(self, stream: str, looked: Looked) -> None:
        """Compare the stream's next picture with this one."""
        self._streams.setdefault(stream, _Stream()).last = looked

    def store(self, stream: str, looked: Looked) -> Stored:
        """Write the tiles that history lacks, and the manifest; all blobs are durable on return."""
        state = self._streams.setdefault(stream, _Stream())
        places, fresh = self._place(looked)
        layout = Layout(looked.picture.width, looked.picture.height, places)
        key = state.key
        if key is None or state.deltas >= _KEY_EVERY - 1 or _mostly_new(layout, key):
            address = self.put(encode_key(layout))
            state.key, state.key_address, state.deltas = layout, address, 0
        else:
            address = self.put(encode_delta(layout, key, state.key_address))
            state.deltas += 1
        return Stored(address, tuple(layout.bundles), fresh)

    def _place(self, looked: Looked) -> tuple[tuple[Place, ...], int]:
        grid = Grid(looked.picture.width, looked.picture.height)
        known: dict[bytes, Place] = {}
        wanted: dict[bytes, int] = {}
        for number, digest in enumerate(looked.hashes):
            if digest in known or digest in wanted:
                continue
            place = self._fresh.get(digest) or self.find(digest)
            if place is None:
                wanted[digest] = number
            else:
                known[digest] = place
        if wanted:
            bundle = self.put(pack(cut(looked.picture, list(wanted.values()))))
            offset = 0
            for digest, number in wanted.items():
                self._fresh[digest] = known[digest] = Place(digest, bundle, offset)
                offset += grid.bytes_of(number)
        return tuple(known[digest] for digest in looked.hashes), len(wanted)


def _mostly_new(layout: Layout, key: Layout) -> bool:
    if (layout.width, layout.height) != (key.width, key.height):
        return True
    pairs = zip(layout.places, key.places, strict=True)
    return sum(new.hash != old.hash for new, old in pairs) * 2 > len(layout.places)
