"""What recall's plugins are given in their worker: pixels, rebuilt and checked there.

The inputs name blobs, not bytes; the worker reads them itself and recomputes the
frame hash, so a plugin never sees a picture that was not recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sterling.kernel.blobs import open_blobs
from sterling.kernel.canonical import Json
from sterling.packs.recall.pixels.read import rebuild

__all__ = ["provide"]


def provide(inputs: Mapping[str, Json], names: tuple[str, ...]) -> dict[str, object]:
    """The keyword arguments that a plugin's `run` names."""
    given = {name: _GIVERS[name](inputs) if name in _GIVERS else inputs[name] for name in names}
    return given


def _picture(inputs: Mapping[str, Json]) -> object:
    blobs = open_blobs(Path(inputs["blobs"]))
    return rebuild(str(inputs["manifest"]), str(inputs["frame_hash"]), blobs.get)


_GIVERS: dict[str, Callable[[Mapping[str, Json]], object]] = {"picture": _picture}
