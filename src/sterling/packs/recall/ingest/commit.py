"""Looks into records, once each: the order that survives a kill at any moment.

Blobs become durable first; then one batch holds the item, the tick and, where
they are new, the frame and the context. The batch demands that the item is not
there yet, so the same offer is never taken twice, by whoever and however often.
A frame that was committed without its stage-1 marker is completed by the next
ingest; nothing reads a frame without one.
"""

from __future__ import annotations

import socket
import stat
from dataclasses import dataclass, field
from pathlib import Path

from sterling.kernel.batch import Batch, RecordAbsent
from sterling.kernel.canonical import Json, canonical_bytes
from sterling.kernel.hashing import address_of
from sterling.kernel.home import Home
from sterling.kernel.records import Source
from sterling.packs.recall.ingest.decode import Decoded, ImageUnreadable, decode
from sterling.packs.recall.ingest.items import Item, Offer
from sterling.packs.recall.pixels.store import FrameStore, Looked
from sterling.packs.recall.reasons import Reason
from sterling.packs.recall.search.index import RecallIndex

__all__ = ["NO_RULES_HASH", "Refusal", "Taken", "Taker"]

NO_RULES_HASH = address_of(
    canonical_bytes([])
)  # Files that somebody else made pass no exclusion rules of ours.
_FILE_BYTES_MAX = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Refusal:
    """An offer that could not be taken, and why."""

    item: str
    code: str
    message: str


@dataclass(slots=True)
class Taken:
    """What one ingest did, counted."""

    accepted: int = 0
    repeated: int = 0
    ticks: int = 0
    frames: int = 0
    same: int = 0
    known: int = 0
    tiles: int = 0
    pixel_bytes: int = 0
    refused: list[Refusal] = field(default_factory=list)


@dataclass(slots=True)
class _Stream:
    """The end of a stream: the next number and the frame shown last."""

    next_n: int
    frame: str


class Taker:
    """Takes the items of one offer into a home."""

    def __init__(self, home: Home, index: RecallIndex, offer: Offer, run: str, step: str) -> None:
        self.taken = Taken()
        self._home, self._index, self._offer = home, index, offer
        self._run, self._step = run, step
        self._store = FrameStore(self._put_pixels, index.tile_place)
        self._streams: dict[str, _Stream] = {}
        self._frames: dict[str, str] = {}
        self._failed: set[str] | None = None  # Items refused before this run; read when first needed.
        self.session = self._open_session()

    def take(self, item: Item) -> None:
        """Take one item: a tick if it is new, a refusal if it cannot be looked at.

        Errors: whatever the disk or the ledger refuses; nothing of the item is then recorded.
        """
        if item.file is None:
            self._refuse(item, Reason.NO_PIXELS, "expected an image, found a line of text alone")
            return
        if item.refusal:
            self._refuse(item, Reason.SIDECAR_INVALID, item.refusal)
            return
        loaded = self._load(item, item.file)
        if loaded is None:
            return
        address, data = loaded
        stream = f"{self.session}/{item.monitor}"
        batch = Batch(run=self._run, step=self._step)
        ref = self._home.records.put(batch, "recall.item", self._item_document(item, stream, address))
        if self._home.records.has(ref.id):
            self._count_repeated(item, ref.id)
            return
        batch.require(RecordAbsent(ref.id))
        try:
            decoded = decode(data)
        except ImageUnreadable as problem:
            self._commit_failed(batch, item, stream, ref.id, address, problem)
            return
        self._commit_look(batch, item, stream, ref.id, decoded, data)

    # Inside

    def _open_session(self) -> str:
        document = {
            "source": self._offer.source,
            "name": self._offer.name,
            "machine": socket.gethostname() if self._offer.source == "images" else "",
            "zone": self._offer.zone,
            "rules_hash": NO_RULES_HASH,
        }
        batch = Batch(run=self._run, step=self._step)
        ref = self._home.records.put(batch, "recall.session", document)
        if not self._home.records.has(ref.id):
            self._home.ledger.commit(batch)
        return ref.id

    def _load(self, item: Item, file: Path) -> tuple[str, bytes] | None:
        """The file's address and bytes; None when it was refused."""
        try:
            about = file.stat()
            if not stat.S_ISREG(about.st_mode):
                message = "expected a readable file, found a pipe, socket or device"
                self._refuse(item, Reason.IMAGE_UNREADABLE, message)
                return None
            if about.st_size > _FILE_BYTES_MAX:
                message = f"expected at most {_FILE_BYTES_MAX} bytes, found {about.st_size}"
                self._refuse(item, Reason.IMAGE_UNREADABLE, message)
                return None
            data = file.read_bytes()
        except OSError as problem:
            self._refuse(
                item, Reason.IMAGE_UNREADABLE, f"expected a readable file, found: {problem.strerror}"
            )
            return None
        return address_of(data), data

    def _item_document(self, item: Item, stream: str, address: str) -> dict[str, Json]:
        return {
            "session": self.session,
            "stream": stream,
            "name": item.name,
            "file": address,
            "stated_us": item.at_us,
        }

    def _commit_failed(
        self, batch: Batch, item: Item, stream: str, item_id: str, address: str, problem: ImageUnreadable
    ) -> None:
        """An unreadable file is an event too: its bytes are kept and the tick says why it has no frame."""
        assert item.file is not None
        kept = self._home.blobs.put_file(item.file)
        if kept != address:
            self._refuse(item, Reason.IMAGE_UNREADABLE, "expected a file at rest, found it changing")
            return
        tick = self._tick(item, stream, item_id, outcome="failed", code=str(problem.code)) | {"blob": kept}
        self._home.records.put(
            batch, "recall.tick", tick, [Source("item", record=item_id), Source("original", blob=kept)]
        )
        self._home.ledger.commit(batch)
        self._stream(stream).next_n += 1
        self.taken.ticks += 1
        self._refuse(item, Reason.IMAGE_UNREADABLE, problem.message)

    def _commit_look(
        self, batch: Batch, item: Item, stream: str, item_id: str, decoded: Decoded, data: bytes
    ) -> None:
        looked = self._store.look(stream, decoded.picture)
        sources = [Source("item", record=item_id)]
        frame = self._frames.get(looked.frame_hash) or self._index.frame_of(looked.frame_hash)
        outcome = "known"
        if not frame:
            frame, outcome = self._put_frame(batch, stream, looked, decoded), "new"
        elif frame == self._stream(stream).frame:
            outcome = "same"
        sources.append(Source("frame", record=frame))
        context: str | None = None
        if item.context:
            words = {name: item.context.get(name, "") for name in ("app", "title", "url")}
            context = self._home.records.put(batch, "recall.context", words).id
            sources.append(Source("context", record=context))
        tick = self._tick(item, stream, item_id, outcome=outcome, frame=frame, context=context)
        if decoded.lossy:
            tick["blob"] = self._home.blobs.put(data)
            sources.append(Source("original", blob=tick["blob"]))
        self._home.records.put(batch, "recall.tick", tick, sources)
        self._home.ledger.commit(batch)
        self._frames[looked.frame_hash] = frame
        self._store.remember(stream, looked)
        self._stream(stream).next_n += 1
        self._stream(stream).frame = frame
        self._count(outcome)

    def _put_frame(self, batch: Batch, stream: str, looked: Looked, decoded: Decoded) -> str:
        stored = self._store.store(stream, looked)
        self.taken.tiles += stored.new_tiles
        document = {
            "frame_hash": looked.frame_hash,
            "width": looked.picture.width,
            "height": looked.picture.height,
            "manifest": stored.manifest,
            "bundles": list(stored.bundles),
            "new_tiles": stored.new_tiles,
            "format": decoded.format,
            "lossy": decoded.lossy,
        }
        sources = [Source("manifest", blob=stored.manifest)]
        sources += [Source("bundle", blob=bundle) for bundle in stored.bundles]
        return self._home.records.put(batch, "recall.frame", document, sources).id

    def _put_pixels(self, data: bytes) -> str:
        self.taken.pixel_bytes += len(data)
        return self._home.blobs.put(data)

    def _tick(
        self,
        item: Item,
        stream: str,
        item_id: str,
        *,
        outcome: str,
        frame: str | None = None,
        context: str | None = None,
        code: str | None = None,
    ) -> dict[str, Json]:
        return {
            "session": self.session,
            "stream": stream,
            "n": self._stream(stream).next_n,
            "at_us": item.file_us if item.at_us is None else item.at_us,
            "time_from": "file" if item.at_us is None else "stated",
            "late_us": 0,
            "outcome": outcome,
            "frame": frame,
            "context": context,
            "item": item_id,
            "code": code,
            "rules_hash": NO_RULES_HASH,
        }

    def _stream(self, stream: str) -> _Stream:
        if stream not in self._streams:
            row = self._index.connection.execute(
                "SELECT n, frame FROM ticks WHERE stream = ? ORDER BY n DESC LIMIT 1", (stream,)
            ).fetchone()
            self._streams[stream] = _Stream(0, "") if row is None else _Stream(int(row[0]) + 1, str(row[1]))
        return self._streams[stream]

    def _count(self, outcome: str) -> None:
        self.taken.accepted += 1
        self.taken.ticks += 1
        self.taken.frames += outcome == "new"
        self.taken.same += outcome == "same"
        self.taken.known += outcome == "known"

    def _count_repeated(self, item: Item, item_id: str) -> None:
        """An item that is here already: nothing new, or the same refusal as the first time."""
        if self._failed is None:
            rows = self._index.connection.execute("SELECT item FROM ticks WHERE outcome = 'failed'")
            self._failed = {str(row[0]) for row in rows}
        if item_id in self._failed:
            message = "expected a whole image, found the bytes that were refused before"
            self._refuse(item, Reason.IMAGE_UNREADABLE, message)
        else:
            self.taken.repeated += 1

    def _refuse(self, item: Item, code: Reason, message: str) -> None:
        self.taken.refused.append(Refusal(item.name, str(code), message))
