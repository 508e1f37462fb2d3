"""Stage 1: a frame is whole when everything that reading and citing need is there.

The marker is written after looking, not from memory: the manifest is resolved,
every blob hashed again, every tile compared with its hash. A frame that fails
gets a marker that says so; reading considers neither it nor a frame without one.
"""

from __future__ import annotations

from dataclasses import dataclass

from sterling.kernel.batch import Batch
from sterling.kernel.canonical import Json
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home
from sterling.kernel.records import Source
from sterling.packs.recall.pixels.read import rebuild
from sterling.packs.recall.search.index import RecallIndex

__all__ = ["Marked", "mark_frames"]

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Marked:
    """Frames marked now: whole ones, and those that are not, by record id."""

    complete: int
    incomplete: tuple[str, ...]


def mark_frames(home: Home, index: RecallIndex, run: str, step: str) -> Marked:
    """Mark every frame that has no marker yet. The index must be caught up."""
    rows = index.connection.execute(
        "SELECT record FROM frames WHERE record NOT IN (SELECT frame FROM stage1) ORDER BY entry"
    ).fetchall()
    frames = [str(row[0]) for row in rows]
    complete, incomplete = 0, []
    for start in range(0, len(frames), _BATCH):
        batch = Batch(run=run, step=step)
        for frame in frames[start : start + _BATCH]:
            checks = _checks(home, index, frame)
            document = {"frame": frame, "checks": checks}
            home.records.put(batch, "recall.stage1", document, [Source("frame", record=frame)])
            if any(check["state"] == "failed" for check in checks):
                incomplete.append(frame)
            else:
                complete += 1
        home.ledger.commit(batch)
    return Marked(complete, tuple(incomplete))


def _checks(home: Home, index: RecallIndex, frame: str) -> list[dict[str, Json]]:
    document = home.records.get(frame).document
    blobs = _check("blobs", *_look_at_blobs(home, document))
    try:
        rebuild(document["manifest"], document["frame_hash"], home.blobs.get)
        manifest = _check("manifest", "ok", "")
    except SterlingError as problem:
        manifest = _check("manifest", "failed", f"{problem.code}: {problem.message}")
    linked = index.connection.execute(
        "SELECT context FROM ticks WHERE frame = ? ORDER BY entry LIMIT 1", (frame,)
    ).fetchone()
    if linked is None:
        context = _check("context", "failed", "No tick shows this frame.")
    elif linked[0]:
        context = _check("context", "ok", "")
    else:
        context = _check("context", "none", "The source says nothing about what stood around it.")
    because = "Files that somebody else made carry no input activity."
    return [blobs, manifest, context, _check("input", "none", because), _check("exclusion", "ok", "")]


def _look_at_blobs(home: Home, document: dict[str, Json]) -> tuple[str, str]:
    for address in [document["manifest"], *document["bundles"]]:
        found = home.blobs.quick_check(address)
        if found != "ok":
            return "failed", f"Blob {address} is {found}."
    return "ok", ""


def _check(name: str, state: str, because: str) -> dict[str, Json]:
    return {"check": name, "state": state, "because": because[:500]}
